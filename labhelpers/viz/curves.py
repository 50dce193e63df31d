"""Curves of functions: what goes in to the right, what comes out upwards.

gpt-oss's choice that this shows: the gate of its SwiGLU is a steeper SiLU (alpha 1.702) that is
cut at 7 from above, so no expert can answer with an arbitrarily large number.

Source: `labhelpers.model.moe.swiglu`. Limits: one input at a time; up is held at a fixed value.
"""

from __future__ import annotations

from labhelpers.viz import look


def swiglu_curve(
    alpha: float = 1.702, limit: float = 7.0, up: float = 0.0, title: str | None = None
) -> look.Picture:
    """gate -> gate * sigmoid(alpha * gate) * (up + 1), clamped, beside plain SiLU."""
    import numpy as np

    gate = np.linspace(-6, 11, 400)
    cut = np.minimum(gate, limit)
    ours = cut / (1 + np.exp(-alpha * cut)) * (np.clip(up, -limit, limit) + 1)
    silu = gate / (1 + np.exp(-gate))
    with look.style():
        fig, axes = look.figure(height=2.6)
        axes.plot(gate, silu, color=look.tone("slate"), linewidth=5, alpha=0.5)
        axes.plot(gate, ours, color=look.tone("teal"), linewidth=2)
        axes.axvline(limit, color=look.neutral("muted"), linestyle="--", linewidth=1)
        axes.text(limit + 0.1, -0.6, f"limit {limit:g}", size=9, color=look.neutral("muted"))
        axes.text(gate[-1] + 0.1, silu[-1], "SiLU", va="center", size=9)
        axes.text(
            gate[-1] + 0.1, ours[-1], "gpt-oss", va="center", size=9, color=look.tone("teal", "ink")
        )
        axes.set(xlabel="gate", ylabel=f"result for up = {up:g}", xlim=(-6, 12.5))
        look.grid(axes, "y")
        axes.set_title(title or "The gate lets through what is positive, up to a limit")
    low, top = float(ours.min()), float(ours.max())
    text = f"For up = {up:g} the result runs from {low:.2f} to {top:.2f}, whatever the gate is."
    return look.Picture(fig, text, (gate, ours, silu))
