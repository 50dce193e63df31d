"""The four bits of one number, as boxes to tick and as a place on the number line.

    viz.bits_of_one_number()      # a widget: four boxes to tick
    viz.one_number(0b0111)        # the same picture, still
    viz.number_line((126, 127))   # all values, for two scales

The idea   a weight of gpt-oss's experts is a float of four bits (E2M1): sign S, exponent E E,
           mantissa M. Sixteen codes, fifteen values, since 0 has two signs.
Source     `labhelpers.mxfp4.grid`; letters and colours are the palette's for MXFP4.
Limits     one number; what 32 of them share is in `labhelpers.viz.mxfp4`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labhelpers.viz import look
from labhelpers.viz.components import in_notebook
from labhelpers.viz.stream import is_static
from labhelpers.viz.widgets import Explorer, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERS = "SEEM"
_PARTS = {"S": "sign", "E": "exponent", "M": "mantissa", "X": "scale"}
FIRST = 0b0111  # 6, the largest


def e2m1_values() -> tuple[float, ...]:
    """The sixteen values by code."""
    from labhelpers.mxfp4.grid import FP4_VALUES

    return FP4_VALUES


def line_values() -> list[float]:
    """The fifteen values in order, -6 to 6."""
    return sorted(set(e2m1_values()))


def number(value: float) -> str:
    """A value as people write it: 1.5, -3, and -0 with its sign."""
    return f"{value:g}"


def formula(code: int) -> str:
    """How a code's bits become its value: "(1 + 1/2) × 2^(3 - 1) = 6"."""
    sign, exponent, mantissa = code >> 3, code >> 1 & 3, code & 1
    minus = "-" if sign else ""
    if exponent == 0:
        term = f"{mantissa}/2 × 2^0"
    else:
        term = f"(1 + {mantissa}/2) × 2^({exponent} - 1)"
    return f"{minus}{term} = {number(e2m1_values()[code])}"


def draw_bit(axes: Axes, x: float, y: float, bit: int, letter: str, size: float = 0.84) -> None:
    """One box with a bit, its letter below; letter is one of S, E, M, X."""
    from matplotlib.patches import Rectangle

    kind = look.concept("mxfp4", _PARTS[letter])
    dark = "text" in kind
    axes.add_patch(Rectangle(
        (x - size / 2, y - size / 2), size, size, facecolor=look.tone(kind["hue"], kind["tone"]),
        edgecolor=look.tone(kind["hue"], "ink"), linewidth=1.8 if bit else 0.8,
    ))  # fmt: skip
    colour = look.neutral("paper") if dark else look.neutral("text")
    axes.text(x, y, str(bit), ha="center", va="center", size=15, color=colour,
              weight="bold" if bit else "normal", family=look.MONO)  # fmt: skip
    axes.text(x, y - size * 0.8, letter, ha="center", va="center", size=9)


def one_number(code: int = FIRST, title: str | None = None) -> look.Picture:
    """The four bits of a code 0..15, their formula, and where the value lies among the fifteen.

    Raises ValueError for another code.
    """
    if not 0 <= code < 16:
        raise ValueError(f"a code has four bits, 0 to 15; got {code}")
    value = e2m1_values()[code]
    with look.style():
        fig, axes = look.figure(height=2.5)
        for place, letter in enumerate(LETTERS):
            draw_bit(axes, -6 + 0.95 * place, 2.0, code >> (3 - place) & 1, letter, 0.86)
        axes.text(-1.6, 2.0, formula(code), size=14, va="center")
        _dots(axes, 0.0, 1.0)
        axes.plot([value], [0], "o", markersize=13, color=look.tone("blue"), zorder=4)
        ink = look.tone("blue", "ink")
        axes.annotate(number(value), (value, 0), (0, 11), textcoords="offset points", ha="center",
                      size=11, weight="bold", color=ink)  # fmt: skip
        axes.set(xlim=(-6.9, 6.9), ylim=(-0.55, 2.65), yticks=[], xlabel="value, at scale 1")
        axes.set_xticks(range(-6, 7))
        axes.spines["left"].set_visible(False)
        axes.set_title(title or "Four bits say one of fifteen values")
    text = f"The bits {code:04b} (sign, exponent, exponent, mantissa) say {formula(code)}."
    return look.Picture(fig, text, {"code": code, "value": value})


def _dots(axes: Axes, y: float, scale: float) -> list[float]:
    """The fifteen values times a scale, as circles on a line."""
    values = [v * scale for v in line_values()]
    axes.plot([values[0], values[-1]], [y, y], color=look.neutral("grid"), linewidth=1.2, zorder=1)
    axes.plot(values, [y] * len(values), "o", markersize=7, zorder=2,
              markerfacecolor=look.tone("slate", "fill"),
              markeredgecolor=look.tone("slate", "ink"))  # fmt: skip
    return values


def number_line(
    scales: Sequence[int] = (127,), mark: float | None = None, title: str | None = None
) -> look.Picture:
    """The fifteen values for one or several scale bytes, a row each; `mark`: a weight to round.

    Its nearest value in each row is filled (a tie goes to the even code). Raises ValueError for a
    scale byte off 0..254, or more than 6 of them.
    """
    if not 1 <= len(scales) <= 6 or not all(0 <= s <= 254 for s in scales):
        raise ValueError(f"give 1 to 6 scale bytes, each 0 to 254; got {list(scales)}")
    rows = {byte: [v * 2.0 ** (byte - 127) for v in line_values()] for byte in scales}
    top = max(values[-1] for values in rows.values())
    nearest = {} if mark is None else {byte: _nearest(mark, byte) for byte in scales}
    with look.style():
        fig, axes = look.figure(height=min(4.0, max(1.6, 1.25 + 0.42 * len(scales))))
        for row, byte in enumerate(scales):
            _dots(axes, row, 2.0 ** (byte - 127))
            if mark is not None:
                axes.plot([nearest[byte]], [row], "o", markersize=11, color=look.tone("blue"),
                          zorder=4)  # fmt: skip
                axes.annotate(number(nearest[byte]), (nearest[byte], row), (0, 8), size=9,
                              textcoords="offset points", ha="center", weight="bold",
                              color=look.tone("blue", "ink"), zorder=5)  # fmt: skip
        if mark is not None:
            axes.axvline(mark, color=look.neutral("muted"), linestyle="--", linewidth=1, zorder=1)
            axes.annotate(f"weight {number(mark)}", (mark, 1), xycoords=("data", "axes fraction"),
                          xytext=(3, -1), textcoords="offset points", va="top", size=9,
                          bbox={"facecolor": look.neutral("paper"), "edgecolor": "none",
                                "pad": 0.5})  # fmt: skip
        axes.set_yticks(range(len(scales)), [f"scale {power(b)} (byte {b})" for b in scales])
        extra = 0.9 if mark is not None else 0.5
        axes.set(xlabel="value", xlim=(-1.08 * top, 1.08 * top), ylim=(len(scales) - 0.5, -extra))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        default = "Fifteen values, closer together near 0"
        if len(scales) > 1:
            default = "A larger scale reaches further, and leaves wider gaps"
        axes.set_title(title or default)
    parts = []
    for byte, values in rows.items():
        said = f"scale {power(byte)}: up to {number(values[-1])}, finest step "
        said += number(values[8] - values[7])
        if mark is not None:
            said += f", {number(mark)} becomes {number(nearest[byte])}"
        parts.append(said)
    return look.Picture(fig, "; ".join(parts) + ".", {"rows": rows, "nearest": nearest})


def _nearest(value: float, byte: int) -> float:
    """The value that the package rounds to at this scale."""
    import torch

    from labhelpers.mxfp4.grid import round_to_grid

    given = torch.full((1, 32), float(value))
    steps, _, step = round_to_grid(given, torch.tensor([[byte]], dtype=torch.int32))
    magnitude = (steps * step).clamp_max(6.0)[0, 0].item() * 2.0 ** (byte - 127)
    return -magnitude if value < 0 else magnitude


def power(byte: int) -> str:
    """A scale as people read it: 1/4, 1, 2, and 2^-20 where a fraction would be long."""
    exponent = byte - 127
    if -6 <= exponent < 0:
        return f"1/{2**-exponent}"
    return str(2**exponent) if 0 <= exponent <= 6 else f"2^{exponent}"


class BitsExplorer(Explorer):
    """An Explorer that is shown once: live where it can be used, else as its first picture.

    So a page that was made without a reader (LABHELPERS_STATIC=1, GitHub, exported HTML) holds the
    picture in the widget's own place, and a reader who runs the cell does not see it twice.
    """

    def _ipython_display_(self) -> None:
        if not is_static() and in_notebook():
            show(self.box, self.what, below="")
            return
        print(look.wrapped(f"Interactive: {self.what}. Run this cell to use it."))
        values = {name: control.value for name, control in self.controls.items()}
        picture = self.draw(**values)
        if in_notebook():
            picture._ipython_display_()
        else:
            print(look.wrapped(picture.text))


def bits_of_one_number(code: int = FIRST, title: str | None = None) -> BitsExplorer:
    """Tick four bits, see the value; where nothing can be ticked, `one_number(code)` stands.

    A bit is a checkbox, since that is the one switch of core ipywidgets, in 7.7 as in 8, whose
    state a screen reader is told (a ToggleButton has no aria-pressed). Tab reaches it, Space
    ticks it, and its name stays the same. An Image has no alternative text in either version: the
    sentence above it says all that it shows.
    """
    import ipywidgets as w

    names = ("sign", "exponent2", "exponent1", "mantissa")
    labels = ("S, sign", "E, worth 2", "E, worth 1", "M, mantissa")
    bits = {
        name: w.Checkbox(value=bool(code >> (3 - place) & 1), description=label, indent=False)
        for place, (name, label) in enumerate(zip(names, labels, strict=True))
    }

    def draw(**values: bool) -> look.Picture:
        now = 0
        for name in names:
            now = now << 1 | values[name]
        return one_number(now, title)

    explorer = BitsExplorer(draw, bits, "tick the four bits of a number (ticked: 1), see its value")
    for bit in bits.values():  # side by side, as the bits are read
        bit.layout.width, bit.layout.max_width = "23%", "170px"
    row = w.HBox(list(bits.values()), layout=w.Layout(max_width="760px"))
    explorer.box.children = (row, *explorer.box.children[len(bits) :])
    return explorer
