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
    """gate -> gate * sigmoid(alpha * gate) * (up + 1), clamped, beside plain SiLU.

    Left the whole curve with its limit, right the part around 0, where the steepness shows.
    """
    import numpy as np

    gate = np.linspace(-6, 11, 400)
    cut = np.minimum(gate, limit)
    ours = cut / (1 + np.exp(-alpha * cut)) * (np.clip(up, -limit, limit) + 1)
    silu = gate / (1 + np.exp(-gate))
    with look.style():
        fig, (axes, near) = look.figure(height=2.8, columns=2)
        for panel in (axes, near):
            panel.plot(gate, silu, color=look.tone("slate"), linewidth=5, alpha=0.5)
            panel.plot(gate, ours, color=look.tone("teal"), linewidth=2)
            panel.set(xlabel="gate")
            look.grid(panel, "y")
        axes.axvline(limit, color=look.neutral("muted"), linestyle="--", linewidth=1)
        axes.text(limit + 0.2, -0.6, f"limit {limit:g}", size=9, color=look.neutral("muted"))
        ink = look.tone("teal", "ink")
        axes.text(10.9, silu[-1] + 0.4, "SiLU", ha="right", va="bottom", size=9)
        axes.text(10.9, ours[-1] - 0.3, "gpt-oss", ha="right", va="top", size=9, color=ink)
        axes.set(ylabel=f"result for up = {up:g}", xlim=(-6, 11.2), ylim=(None, 12.4))
        axes.set_title(title or "Positive gates pass, up to a limit")
        close = np.abs(gate) <= 3
        low_end = min(float(ours[close].min()), float(silu[close].min()))
        near.set(xlim=(-3, 3), ylim=(low_end - 0.1, 1.0))
        near.set_title("Near 0: the steeper sigmoid")
    low, top = float(ours.min()), float(ours.max())
    text = (
        f"For up = {up:g} the lowest result is {low:.2f} (SiLU's: {silu.min():.2f}), the "
        f"highest {top:.2f}: a gate beyond the limit changes nothing more."
    )
    return look.Picture(fig, text, (gate, ours, silu))
