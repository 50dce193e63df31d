"""Draw the README's picture from a run of nano: `python -m scripts.readme_picture`.

The question, nano's reasoning and its answer as nano's own tokens, and below each token the
experts of one layer that worked on it, by weight: the layer in which they share the work most
evenly. Nothing is made up: the answer is generated, then one forward pass over the whole
conversation tells what the routers chose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import labhelpers
from labhelpers import viz
from labhelpers.counting import IDENTITY
from labhelpers.harmony import Message, render_for_completion
from labhelpers.tokenizer import Tokenizer
from labhelpers.viz import look
from labhelpers.viz.conversation import piece
from labhelpers.viz.routing import Routings

OUT = Path(__file__).parents[1] / "docs" / "nano.png"
QUESTION = "How many rs are in the word 'strawberry'?"
EFFORT = "low"  # spells the word without comment, which fits into a row
HUES = {"user": "blue", "analysis": "violet", "final": "teal"}

WIDTH, LEFT, RIGHT, GAP = 7.6, 0.62, 0.2, 0.28  # inches
STEP, DOT = 0.235, 0.175  # from row to row; a dot's diameter


class Span(NamedTuple):
    """Neighbouring tokens of one message. `at` are their places in the sequence."""

    name: str
    at: list[int]
    starts_late: bool = False  # tokens in front of it are left out
    ends_early: bool = False  # tokens behind it are left out


def run() -> tuple[Routings, Tokenizer, list[Span]]:
    """nano's answer and its routing. Raises SystemExit if the answer is wrong."""
    model, tokenizer = labhelpers.load("nano", device="cpu")
    messages = [
        Message.system(model_identity=IDENTITY, reasoning_effort=EFFORT),
        Message.user(QUESTION),
    ]
    ids = render_for_completion(messages, tokenizer)
    ids += list(model.generate(ids))
    spans = [span for span in texts(ids, tokenizer) if span.name in HUES]
    answer = tokenizer.decode([ids[i] for i in spans[-1].at])
    if [s.name for s in spans] != list(HUES) or answer != "There are 3 rs in strawberry.":
        raise SystemExit(f"no picture: nano answered {answer!r} at {EFFORT} effort")
    # The row is short: of the question its last six tokens, of the answer its first five.
    user, analysis, final = spans
    shown = [
        Span("user", user.at[-6:], starts_late=True),
        analysis,
        Span("final", final.at[:5], ends_early=True),
    ]
    return viz.record_routing(model, ids), tokenizer, shown


def texts(ids: list[int], tokenizer: Tokenizer) -> list[Span]:
    """The text of every message as a span named after its channel, or else its role."""
    spans: list[Span] = []
    header: list[int] = []
    inside = False
    for place, token in enumerate(ids):
        special = tokenizer.special_name(token)
        if special == "<|start|>":
            header, inside = [], False
        elif special == "<|message|>":
            name = tokenizer.decode(header).split("<|channel|>")[-1].removeprefix("assistant")
            spans.append(Span(name, []))
            inside = True
        elif special in ("<|end|>", "<|return|>", "<|call|>"):
            inside = False
        elif inside:
            spans[-1].at.append(place)
        else:
            header.append(token)
    return spans


def draw(routings: Routings, tokenizer: Tokenizer, spans: list[Span]) -> Any:
    """The figure, in inches from its upper left corner."""
    from matplotlib.figure import Figure

    shown = [i for s in spans for i in s.at]
    layer = most_shared(routings, shown)
    table = routings.weight_table(layer)  # [E, T]
    experts, top = len(table), float(table[:, shown].max())
    height = 1.42 + STEP * experts
    words = {i: piece(routings.ids[i], tokenizer) for i in shown}
    widths = _widths(words, WIDTH - LEFT - RIGHT - GAP * (len(spans) - 1))
    with look.style():
        fig = Figure(figsize=(WIDTH, height))
        fig.set_layout_engine("none")
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        axes.axis("off")
        working = int((table[:, 0] > 0).sum())
        number = {1: "the expert", 2: "the two experts", 4: "the four experts"}[working]
        title = f"nano reads, thinks, answers; below each token {number} at work"
        axes.text(LEFT, 0.2, title, size=11, weight="bold", va="center")
        x = LEFT
        for span in spans:
            start = x
            for place in span.at:
                _token(axes, words[place], HUES[span.name], x, widths[place])
                _dots(axes, x + widths[place] / 2, table[:, place].tolist(), top)
                x += widths[place]
            _head(axes, span, start, x)
            x += GAP
        for expert in range(experts):
            axes.text(
                LEFT - 0.08, _row(expert), f"e{expert}", size=8, ha="right", va="center",
                color=look.neutral("muted"),
            )  # fmt: skip
        axes.text(
            0.2, _row((experts - 1) / 2), f"{experts} experts", size=9, rotation=90,
            ha="center", va="center",
        )  # fmt: skip
        axes.text(
            LEFT, height - 0.16, size=8, va="center", color=look.neutral("muted"),
            s=f"Layer {layer} of 0 to {len(routings.expert_ids) - 1}; every layer chooses anew. "
            "The darker an expert, the more it counts.",
        )  # fmt: skip
    return fig


def most_shared(routings: Routings, at: list[int]) -> int:
    """The layer in which the favourite experts of the tokens `at` have the least weight."""
    favourites = routings.weights[:, at].max(-1).values.mean(-1)  # [L]
    return int(favourites.argmin())


def _row(expert: float) -> float:
    return 1.24 + STEP * expert


def _widths(words: dict[int, str], room: float) -> dict[int, float]:
    """Cells in inches: long words take what they need, the others share the rest of the room."""
    # At 8 points a letter of DejaVu Sans Mono is 0.602 * 8 / 72 inches wide.
    needed = {i: 0.602 * 8 / 72 * len(word) + 0.09 for i, word in words.items()}
    long = {i: width for i, width in needed.items() if len(words[i]) > 2}
    rest = (room - sum(long.values())) / (len(words) - len(long))
    return {i: long.get(i, rest) for i in words}


def _head(axes: Any, span: Span, x: float, end: float) -> None:
    """The channel's name and its bar (analysis dotted), with dots where tokens are left out."""
    hue, muted = HUES[span.name], look.neutral("muted")
    axes.text(x, 0.5, span.name, size=10, weight="bold", color=look.tone(hue, "ink"), va="center")
    axes.plot(
        [x + 0.02, end - 0.02], [0.66, 0.66], color=look.tone(hue), linewidth=4,
        linestyle=(0, (1, 1)) if span.name == "analysis" else "-", solid_capstyle="butt",
        dash_capstyle="butt",
    )  # fmt: skip
    if span.starts_late:
        axes.text(x, 0.955, "…", size=9, ha="right", color=muted)
    if span.ends_early:
        axes.text(end, 0.955, "…", size=9, ha="left", color=muted)


def _token(axes: Any, word: str, hue: str, x: float, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(
        (x + 0.02, 0.78), width - 0.04, 0.27, boxstyle="round,pad=0,rounding_size=0.04",
        linewidth=0.8, facecolor=look.tone(hue, "fill"), edgecolor=look.tone(hue),
    ))  # fmt: skip
    # Baseline, not centre: ␣ hangs below the line and would shift its word.
    axes.text(
        x + width / 2, 0.955, word, size=9 if len(word) < 3 else 8, ha="center", va="baseline",
        family=look.MONO,
    )  # fmt: skip


def _dots(axes: Any, x: float, weights: list[float], top: float) -> None:
    """One column: all experts, those at work filled."""
    from matplotlib.patches import Circle

    shade = look.colormap("load")
    for expert, weight in enumerate(weights):
        axes.add_patch(Circle(
            (x, _row(expert)), DOT / 2, linewidth=0.8,
            facecolor=shade(weight / top) if weight else look.neutral("paper"),
            edgecolor=look.tone("blue", "ink") if weight else look.neutral("grid"),
        ))  # fmt: skip


def main() -> None:
    data, size = look.png(draw(*run()))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(data)
    print(f"{OUT.name}: {size['width']} x {size['height']} shown, {len(data) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
