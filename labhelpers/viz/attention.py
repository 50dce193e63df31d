"""One query's attention as bars: what goes to the sink, what to each key, what is out of reach.

gpt-oss's choice that this shows: a head's weights need not sum to 1 over the tokens, since the
sink takes a share and gives nothing for it; and on half of the layers a query sees only a window
of the newest keys.

Letters: S keys. Limits: one head and one query at a time; chapter 3 draws whole maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labhelpers.viz import look
from labhelpers.viz.heatmap import token_ticks

if TYPE_CHECKING:
    from torch import Tensor


def attention_row(
    weights: Tensor | Sequence[float],
    pieces: Sequence[str],
    query: int,
    window: int | None = None,
    title: str | None = None,
    newest: int = 24,
) -> look.Picture:
    """Bars for one query: weights [S] over the keys; what they lack to 1 is the sink's share.

    pieces: the S tokens as text. query: which of them asks. window: how many keys back the query
    may look, itself included (None: all). Of a longer text the `newest` keys (at most 48) get a
    bar each, and all before them share one. Raises ValueError if these do not fit together.
    """
    values = [float(w) for w in weights]
    if len(values) != len(pieces) or not 0 <= query < len(values) or not 1 <= newest <= 48:
        raise ValueError(
            f"{len(values)} weights, {len(pieces)} tokens, query {query}, newest {newest}"
        )
    from matplotlib.ticker import MaxNLocator

    sink = max(0.0, 1.0 - sum(values))
    best = max(range(query + 1), key=lambda k: values[k])
    text = (
        f"The sink takes {sink:.2f}; of the tokens, {pieces[best]} (position {best}) gets most, "
        f"{values[best]:.2f}."
    )
    if (cut := len(values) - newest) > 0:
        earlier = sum(values[:cut])
        text += f" The {cut} tokens before the last {newest} get {earlier:.2f} together."
        values, pieces = [earlier, *values[cut:]], [f"{cut} earlier", *pieces[cut:]]
        query, window = query - cut + 1, window if window is None else min(window, newest)
    first = 0 if window is None else max(0, query - window + 1)
    kind = look.concept("attention", "full" if window is None else "sliding_window")
    with look.style():
        fig, axes = look.figure(height=3.2)
        top = 1.18 * max(*values, sink)
        if window is not None:
            axes.axvspan(
                first - 0.5, query + 0.5, color=look.tone("blue", "fill"), zorder=0, linewidth=0
            )
        axes.bar(
            -2,
            sink,
            0.8,
            color=look.tone("rose", "fill"),
            hatch="///",
            edgecolor=look.tone("rose", "ink"),
        )
        axes.text(-2, sink, f"{sink:.2f}", ha="center", va="bottom", size=9)
        axes.axvline(-1, color=look.neutral("muted"), linestyle="--", linewidth=1)
        seen = range(first, query + 1)
        axes.bar(
            seen,
            values[first : query + 1],
            0.8,
            color=look.tone("blue", "ink" if window is None else str(kind["tone"])),
        )
        hidden = [k for k in range(len(values)) if k not in seen]
        axes.plot(hidden, [0.015 * top] * len(hidden), "x", color=look.tone("slate"), markersize=4)
        labelled = [k for k in sorted(seen, key=lambda k: -values[k])[:3] if values[k] >= 0.05]
        for key in labelled:
            axes.text(key, values[key], f"{values[key]:.2f}", ha="center", va="bottom", size=9)
        token_ticks(axes, pieces)
        axes.text(-2, -0.02 * top, "sink", ha="center", va="top", size=9)
        axes.set(
            ylabel="attention", ylim=(0, top), xlim=(-2.7, max(len(pieces) - 0.4, query + 2.6))
        )
        most = min(top, 1.0)  # shares end at 1
        axes.set_yticks([t for t in MaxNLocator(5).tick_values(0, most) if t <= most])
        look.grid(axes, "y")
        # The mark points at its bar from the right, where later keys are empty.
        foot = values[query] + (0.1 if query in labelled else 0.02) * top  # above a number
        colour = look.tone("blue", "ink")
        axes.annotate(
            "query", (query, min(foot, 0.8 * top)),
            xytext=(query + 0.5, min(foot + 0.14 * top, 0.95 * top)),
            ha="left", va="center", size=9, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 1},
        )  # fmt: skip
        axes.set_title(title or "Where one head looks")
    return look.Picture(fig, text, [sink, *values])
