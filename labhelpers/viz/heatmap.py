"""Heat maps as this course draws them: zero is paper, more is darker, never a rainbow.

Up to about 100 cells carry their number, in black or white by the cell's own brightness. The
drawing functions of the other modules share `draw_heatmap`.

Limits: one scale a picture. Compare two maps by giving both the same `top`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labhelpers.viz import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

ANNOTATED = 110  # cells


def draw_heatmap(
    axes: Axes,
    values: Sequence[Sequence[float]],
    unit: str,
    top: float | None = None,
    signed: bool = False,
    words: Sequence[Sequence[str]] | None = None,
    decimals: int = 0,
    bar: bool = True,
    size: float = 9,
) -> AxesImage:
    """Rows of numbers as cells, with a colour bar that names the unit.

    top: the value of the darkest colour (default: the largest). signed: symmetric about 0.
    words: what to write into the cells instead of the numbers.
    """
    import numpy as np

    table = np.asarray(values, dtype=float)  # [rows, columns]
    limit = float(top if top is not None else np.nanmax(np.abs(table))) or 1.0
    colours = look.colormap("signed" if signed else "load")
    image = axes.imshow(
        table, cmap=colours, vmin=-limit if signed else 0.0, vmax=limit, aspect="auto"
    )
    if max(table.shape) <= 100:  # finer cells would be all lines
        _hairlines(axes, *table.shape)
    if words is not None or table.size <= ANNOTATED:
        for (row, column), value in np.ndenumerate(table):
            word = words[row][column] if words is not None else f"{value:.{decimals}f}"
            if np.isnan(value) or not word:
                continue
            ink = look.text_on(colours(image.norm(value)))
            axes.text(column, row, word, ha="center", va="center", color=ink, size=size)
    if bar:
        scale = axes.figure.colorbar(image, ax=axes, label=unit, pad=0.02, aspect=24)
        scale.outline.set_visible(False)
    return image


def _hairlines(axes: Axes, rows: int, columns: int) -> None:
    axes.set_xticks([c - 0.5 for c in range(1, columns)], minor=True)
    axes.set_yticks([r - 0.5 for r in range(1, rows)], minor=True)
    width = 0.8 if columns <= 40 else 0.3
    axes.grid(True, which="minor", color=look.neutral("grid"), linewidth=width)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(look.neutral("grid"))


def ticks(axes: Axes, axis: str, count: int, most: int = 16) -> None:
    """Whole-number ticks on "x" or "y", thinned out to at most `most`."""
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if count <= s * most)
    places = list(range(0, count, step))
    (axes.set_xticks if axis == "x" else axes.set_yticks)(places, [str(p) for p in places])


def token_ticks(axes: Axes, pieces: Sequence[str], top: bool = False) -> None:
    """Token texts along the x axis, upright if there are many or long ones."""
    upright = len(pieces) > 14 or max(map(len, pieces), default=0) > 7
    axes.set_xticks(
        range(len(pieces)), [p if len(p) <= 13 else p[:12] + "…" for p in pieces],
        family=look.MONO, size=8 if len(pieces) > 30 else 9, rotation=90 if upright else 0,
    )  # fmt: skip
    if top:
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", length=0)
