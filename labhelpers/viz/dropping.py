"""What a conversation costs: which messages a rule keeps, and how long the reasoning gets.

gpt-oss's choice that this shows: reasoning of finished turns is dropped, so a prompt is not the
last prompt with something added, and a cache of keys and values fits only up to the first message
that is gone.

Limits: up to about 16 messages; a number for each message, not for each token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median

from labhelpers.harmony import Message
from labhelpers.viz import look
from labhelpers.viz.components import CHANNELS, ROLES


def short_name(message: Message) -> str:
    """One word for a message: user, analysis, call, result, final ..."""
    if message.role == "tool":
        return "result"
    if message.role != "assistant":
        return message.role
    if message.recipient:
        return "call"
    return "preamble" if message.channel == "commentary" else message.channel or "assistant"


def drop_rules(
    messages: Sequence[Message],
    kept: Mapping[str, Collection[int]],
    title: str = "Who drops what",
) -> look.Picture:
    """A row for each rule: filled boxes are in the next prompt, hatched ones with ✗ are gone.

    kept: for each rule the indices of the messages that it keeps.
    """
    from matplotlib.patches import Rectangle

    names = [short_name(m) for m in messages]
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.3 + 0.42 * len(kept)))
        for row, rule in enumerate(kept):
            for place, message in enumerate(messages):
                key = message.channel if message.role == "assistant" else None
                hue = (CHANNELS[key] if key in CHANNELS else ROLES[message.role]).hue
                here = place in kept[rule]
                axes.add_patch(Rectangle(
                    (place + 0.05, row + 0.14), 0.9, 0.72, edgecolor=look.tone(hue, "line"),
                    facecolor=look.tone(hue, "fill") if here else look.neutral("paper"),
                    hatch=None if here else "////", linestyle="-" if here else "--",
                ))  # fmt: skip
                if not here:
                    axes.text(
                        place + 0.5, row + 0.5, "✗", ha="center", va="center", size=12,
                        bbox={"facecolor": look.neutral("paper"), "edgecolor": "none", "pad": 1},
                    )  # fmt: skip
        axes.set(xlim=(0, len(messages)), ylim=(len(kept), 0), xlabel="messages, in order")
        axes.set_xticks([p + 0.5 for p in range(len(names))], names, rotation=45, ha="right")
        axes.set_yticks([r + 0.5 for r in range(len(kept))], list(kept))
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title)
    lines = []
    for rule, indices in kept.items():
        gone = [f"{names[i]} ({i})" for i in range(len(messages)) if i not in indices]
        lines.append(f"{rule}: drops {', '.join(gone) if gone else 'nothing'}.")
    return look.Picture(fig, "\n".join(lines), {rule: sorted(k) for rule, k in kept.items()})


def effort_lengths(
    lengths: Mapping[str, Sequence[int]], title: str = "More effort, more tokens of reasoning"
) -> look.Picture:
    """A row for each effort: a circle for each question, a bar at the median."""
    efforts = list(lengths)
    with look.style():
        fig, axes = look.figure(height=1.0 + 0.45 * len(efforts))
        for row, effort in enumerate(efforts):
            values = sorted(lengths[effort])
            middle = median(values)
            axes.barh(row, middle, height=0.5, color=look.tone("violet", "fill"),
                      edgecolor=look.tone("violet", "ink"))  # fmt: skip
            spread = [row + 0.16 * ((i % 3) - 1) for i in range(len(values))]
            axes.plot(values, spread, "o", markersize=4, color=look.tone("violet", "ink"))
            axes.text(max(values) + 2, row, f"median {middle:g}", va="center", size=9)
        axes.set_yticks(range(len(efforts)), efforts)
        axes.invert_yaxis()
        axes.set(xlabel="tokens of reasoning", ylabel="effort")
        axes.set_xlim(0, 1.22 * max(max(v) for v in lengths.values()))
        look.grid(axes, "x")
        axes.set_title(title)
    words = ", ".join(f"{e} {median(v):g} ({min(v)} to {max(v)})" for e, v in lengths.items())
    count = len(next(iter(lengths.values())))
    return look.Picture(fig, f"Median tokens of reasoning over {count} words: {words}.", lengths)
