"""Rotary positions made visible: how far each pair of channels has turned at each position.

The fast pairs turn by a radian a token and tell neighbours apart; the slow ones have hardly
moved after a thousand tokens and tell near from far. Together they work like the hands of a
clock that has 32 of them.

Source: `labhelpers.model.rope` for the angles of a config. Letters: T positions, D/2 pairs.
Limits: angles only; what a head makes of them is attention's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labhelpers.config import GptOssConfig
from labhelpers.viz import look
from labhelpers.viz.heatmap import draw_heatmap

if TYPE_CHECKING:
    from torch import Tensor


def angles_of(config: GptOssConfig, positions: Sequence[int]) -> Tensor:
    """Angles in radians, [T, D/2], YaRN's slowing included where the config has it."""
    import torch

    from labhelpers.model.rope import inverse_frequencies

    return torch.tensor(list(positions)).float()[:, None] * inverse_frequencies(config)


def rope_angles(
    angles: Tensor | GptOssConfig,
    positions: Sequence[int] = range(64),
    title: str | None = None,
) -> look.Picture:
    """Heat map of cos(angle): positions to the right, pairs downwards.

    angles: [T, D/2] in radians, one row for each of `positions`, or a config to take them from.
    Raises ValueError if there are more or fewer rows than positions.
    """
    positions = list(positions)
    table = angles_of(angles, positions) if isinstance(angles, GptOssConfig) else angles
    if len(table) != len(positions):
        raise ValueError(f"{len(table)} rows of angles for {len(positions)} positions")
    with look.style():
        fig, axes = look.figure(height=2.9)
        draw_heatmap(
            axes,
            table.cos().T.tolist(),
            "cos(angle)",
            top=1.0,
            signed=True,
            words=[[""] * len(positions)] * table.shape[1],
        )
        axes.grid(False, which="both")
        step = max(1, len(positions) // 8)
        axes.set_xticks(range(0, len(positions), step), [str(p) for p in positions[::step]])
        pairs = range(0, table.shape[1], max(1, table.shape[1] // 8))
        axes.set_yticks(pairs, [str(p) for p in pairs])
        axes.set(xlabel="position", ylabel="pair")
        axes.set_title(title or "The first pairs turn fast, the last ones hardly at all")
    speed = (table[-1] - table[0]) / (positions[-1] - positions[0] or 1)  # radians a token
    periods = [2 * math.pi / s for s in (speed[0].item(), speed[-1].item())]
    text = (
        f"Pair 0 turns once in {_tokens(periods[0])} tokens, "
        f"pair {table.shape[1] - 1} once in {_tokens(periods[1])}."
    )
    return look.Picture(fig, text, table)


def _tokens(count: float) -> str:
    """6.3, or 2,850,000: three digits, since the last ones depend on the processor."""
    if count < 100:
        return f"{count:.1f}"
    digits = 10 ** (len(str(int(count))) - 3)
    return f"{round(count / digits) * digits:,}"


def rope_dials(
    angles: Tensor, positions: Sequence[int] | None = None, title: str | None = None
) -> look.Picture:
    """A dial for each pair and position with its hand at the angle: for toys that fit on paper.

    angles [T, D/2] in radians; at most 10 positions and 6 pairs are drawn.
    """
    rows = min(angles.shape[1], 6)
    shown = angles[:10, :rows]
    positions = list(positions)[: len(shown)] if positions is not None else list(range(len(shown)))
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.2 + 0.55 * rows))
        from matplotlib.patches import Circle

        for t, row in enumerate(shown.tolist()):
            for pair, angle in enumerate(row):
                axes.add_patch(Circle((t, pair), 0.4, fill=False, color=look.tone("slate")))
                # y runs downwards here, so minus: the hand turns counter-clockwise, as in maths.
                tip = (t + 0.38 * math.cos(angle), pair - 0.38 * math.sin(angle))
                axes.plot((t, tip[0]), (pair, tip[1]), color=look.tone("blue", "ink"))
                axes.plot(*tip, "o", color=look.tone("blue", "ink"), markersize=4)
        axes.set_aspect("equal")
        axes.set(
            xlim=(-0.6, len(shown) - 0.4), ylim=(rows - 0.4, -0.6), xlabel="position", ylabel="pair"
        )
        axes.set_xticks(range(len(shown)), [str(p) for p in positions])
        axes.set_yticks(range(rows))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(title or "Pairs are clock hands, each slower than the last", pad=6)
    last = shown[-1].tolist()
    text = f"At position {positions[-1]}: " + ", ".join(
        f"pair {pair} at {angle:.2f} rad" for pair, angle in enumerate(last)
    )
    return look.Picture(fig, f"{text}.", shown)
