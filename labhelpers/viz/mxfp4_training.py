"""Training for four bits: the staircase, its missing slope, and what fine-tuning wins back.

    viz.staircase()                                            # rounding, and the slope it lacks
    viz.recovery({"bf16": 0.98, "rounded": 0.31, "tuned": 0.95}, losses)

The idea   rounding is a staircase: its slope is 0 nearly everywhere, and a gradient dies on it.
           The straight-through estimator pretends that the slope is 1.
Source     `labhelpers.mxfp4.format` (fake_quantize, fake_quantize_ste).
Limits     one weight at a fixed scale; in training the scale of a block moves too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labhelpers.viz import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def staircase(limit: float = 7.0, title: str | None = None) -> look.Picture:
    """Left weight -> rounded weight at scale 1, right the two slopes, for weights up to `limit`.

    Raises ValueError for a limit off 1..20.
    """
    import torch

    from labhelpers.mxfp4.grid import round_to_grid

    if not 1 <= limit <= 20:
        raise ValueError(f"limit is between 1 and 20 (the largest value is 6), got {limit}")
    x = torch.linspace(-limit, limit, 32 * 50)
    steps, _, step = round_to_grid(x.view(-1, 32), torch.full((50, 1), 127, dtype=torch.int32))
    y = torch.copysign((steps * step).clamp_max(6.0).flatten(), x)
    inside = (x.abs() <= 6).float()
    with look.style():
        fig, (left, right) = look.figure(height=2.8, columns=2)
        left.plot(x, x, color=look.tone("slate"), linewidth=5, alpha=0.45)
        left.plot(x, y, color=look.tone("blue"), linewidth=1.8, drawstyle="steps-mid")
        left.set(xlabel="weight", ylabel="rounded weight")
        left.text(-0.95 * limit, 5.2, "staircase: what is used", size=9,
                  color=look.tone("blue", "ink"))  # fmt: skip
        left.text(0.98 * limit, -6.0, "straight line: what\nthe gradient sees", size=9, ha="right",
                  color=look.tone("slate", "ink"))  # fmt: skip
        left.set_title(title or "Rounding is a staircase")
        right.plot(x, torch.ones_like(x), color=look.tone("slate"), linewidth=5, alpha=0.45)
        right.plot(x, torch.zeros_like(x), color=look.tone("blue"), linewidth=1.8)
        right.text(0, 1.1, "straight-through: 1", ha="center", size=9,
                   color=look.tone("slate", "ink"))  # fmt: skip
        right.text(0, 0.1, "true slope: 0, save at the edges", ha="center", size=9,
                   color=look.tone("blue", "ink"))  # fmt: skip
        right.set(xlabel="weight", ylabel="slope", ylim=(-0.25, 1.45), yticks=[0, 1])
        right.set_title("Its slope teaches nothing")
        for axes in (left, right):
            look.grid(axes, "y")
    flat = float((y[1:] == y[:-1]).float().mean())
    text = (
        f"Between neighbouring points the rounded weight stands still in {100 * flat:.0f}% of the "
        "steps: the true slope is 0 there. Straight-through uses slope 1 everywhere."
    )
    return look.Picture(fig, text, {"weight": x, "rounded": y, "inside": inside})


def recovery(
    accuracy: Mapping[str, float],
    losses: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    count: int | None = None,
    text: str | None = None,
    title: str | None = None,
) -> look.Picture:
    """A bar a stage, in order: the share of right answers (0 to 1); beside them the losses.

    losses: one a step of the fine-tuning, or {name: losses} for up to three. count: questions
    asked. text: the sentence below, where exact numbers would differ from machine to machine.
    Raises ValueError for a share off 0..1, or more than three runs.
    """
    if not accuracy or not all(0 <= a <= 1 for a in accuracy.values()):
        raise ValueError(f"accuracy is a share between 0 and 1 a stage, got {dict(accuracy)}")
    runs = _runs(losses)
    with look.style():
        height = min(4.0, max(2.4, 1.0 + 0.5 * len(accuracy)))
        small = len(accuracy) > 5  # names of two lines would touch
        if runs:
            fig, (axes, curve) = look.figure(height, columns=2, width_ratios=(5, 4))
            _curves(curve, runs)
        else:
            fig, axes = look.figure(height)
        for row, value in enumerate(accuracy.values()):
            hue = "slate" if row == 0 else "teal" if row == len(accuracy) - 1 else "orange"
            axes.barh(
                row, 100 * value, 0.62, color=look.tone(hue, "fill"),
                edgecolor=look.tone(hue, "ink"), hatch="///" if hue == "orange" else "",
            )  # fmt: skip
            axes.text(100 * value + 2, row, f"{100 * value:.0f}%", va="center", weight="bold")
        names = [textwrap.fill(name, (22 if small else 17) if runs else 32) for name in accuracy]
        axes.set_yticks(range(len(accuracy)), names, size=7.5 if small else None, linespacing=0.95)
        axes.set(xlim=(0, 122), ylim=(len(accuracy) - 0.5, -0.5), xlabel="right answers, %")
        axes.set_xticks(range(0, 101, 25))
        axes.tick_params(axis="y", length=0)
        axes.set_title(title or "Rounding hurts, training repairs")
        look.grid(axes, "x")
    if text is None:
        asked = f" of {count} questions" if count else ""
        words = "; ".join(f"{name} {100 * v:.0f}%" for name, v in accuracy.items())
        text = f"Right answers{asked}: {words}."
        for name, run in runs.items():
            said = f" of {name}" if name else ""
            text += f" Loss{said} from {run[0]:.2f} to {run[-1]:.2f} in {len(run)} steps."
    return look.Picture(fig, text, {"accuracy": dict(accuracy), "losses": runs})


def _runs(
    losses: Sequence[float] | Mapping[str, Sequence[float]] | None,
) -> dict[str, list[float]]:
    """Losses by the name of their run; a single one has none. Raises ValueError for four."""
    named = losses if isinstance(losses, Mapping) else {"": losses or []}
    runs = {name: [float(v) for v in run] for name, run in named.items() if len(run)}
    if len(runs) > 3:
        raise ValueError(f"at most three runs can be told apart here, got {list(runs)}")
    return runs


def _curves(axes: Axes, runs: Mapping[str, Sequence[float]]) -> None:
    """Loss against step; the last run solid, those before it dashed and dotted.

    Names stand at the ends of the curves; of three, whose ends lie close together, in a legend.
    """
    from matplotlib.ticker import MaxNLocator

    top = max(max(run) for run in runs.values())
    for place, (name, run) in enumerate(runs.items()):
        last = place == len(runs) - 1
        hue = "teal" if last else ("orange", "violet")[place]
        axes.plot(range(1, len(run) + 1), run, linestyle="-" if last else ("--", ":")[place],
                  linewidth=1.8, color=look.tone(hue, "ink"), label=name)  # fmt: skip
        if len(runs) > 2:
            continue
        above = max(run[len(run) // 2 :])  # of what lies under the name
        axes.annotate(name, (len(run), above), (0, 5), textcoords="offset points", ha="right",
                      size=9, color=look.tone(hue, "ink"))  # fmt: skip
    if len(runs) > 2:
        axes.legend(loc="upper right", fontsize=8)
    axes.set(xlabel="step", ylabel="loss, nats", ylim=(-0.02 * top, 1.1 * top))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("The loss of the steps")
    look.grid(axes, "y")
