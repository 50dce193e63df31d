"""A number for every attention head, as a map of layers by heads.

    head_map(effects, "rise of the loss, nats")     # effects [L, N], from labhelpers.ablation

Source: `labhelpers.ablation` measures such numbers. Letters: L layers, N query heads.
Limits: up to about 100 heads carry their number; larger models are shades only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labhelpers.viz import look
from labhelpers.viz.heatmap import draw_heatmap, ticks

if TYPE_CHECKING:
    from torch import Tensor


def head_map(values: Tensor, unit: str, title: str | None = None) -> look.Picture:
    """Heat map of values [L, N], two-sided if some are negative; its sentence names the largest.

    Raises ValueError for another shape.
    """
    if values.dim() != 2:
        raise ValueError(f"head_map draws [layers, heads], got shape {list(values.shape)}")
    layers, heads = values.shape
    with look.style():
        fig, axes = look.figure(height=min(4.0, max(2.2, 1.1 + 0.3 * layers)))
        # Without a number below zero to speak of, half of a two-sided scale would stand empty.
        signed = float(values.min()) < -0.05 * float(values.abs().max())
        # Heads without an effect show no number: -0.0 would say less than nothing.
        words = [[f"{v:.1f}" if abs(v) >= 0.05 else "" for v in row] for row in values.tolist()]
        draw_heatmap(axes, values.tolist(), unit, signed=signed, words=words)
        axes.set(xlabel="head", ylabel="layer")
        ticks(axes, "x", heads)
        ticks(axes, "y", layers)
        axes.set_title(title or "What each head is needed for")
    order = values.flatten().argsort(descending=True, stable=True)[:3].tolist()
    named = ", ".join(
        f"head {i % heads} of layer {i // heads} ({values.flatten()[i].item():.1f})" for i in order
    )
    return look.Picture(fig, f"Largest: {named}.", values)
