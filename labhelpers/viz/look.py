"""The look of every picture: one palette, one figure style, one way to make a PNG.

The idea: a chapter never names a colour. It names a concept ("analysis", "sink", "wrong"), and
`palette.json` beside this file says which hue, tone and second mark (hatch, glyph, word) it has.

    from labhelpers.viz import look
    look.use()                  # once a notebook: matplotlib's settings, small sharp PNGs
    look.tone("teal", "line")   # a colour as a hex string

Choices: white paper, never transparent (a baked picture must read on a dark page too); 7.2 in
wide; 200 dpi in 256 colours, shown at half size: sharp on any screen, 10 to 25 KB. A picture
prints its key sentence below itself, because a PNG carries no text for a screen reader.

Source: matplotlib's rcParams; contrast by WCAG 2. Limits: 256 colours suit diagrams, not photos;
pictures with thousands of points grow past 60 KB, so aggregate first.
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches; 720 px on a page
DPI = 200
MONO = "DejaVu Sans Mono"


@lru_cache(maxsize=1)
def palette() -> dict[str, Any]:
    """The palette as a dictionary (see palette.json)."""
    file = resources.files("labhelpers.viz").joinpath("palette.json")
    return json.loads(file.read_text(encoding="utf-8"))


def tone(hue: str, which: str = "line") -> str:
    """A hue's "fill" (pale), "line" (bars, curves) or "ink" (words on white) as a hex string.

    Raises ValueError for an unknown name.
    """
    hues = palette()["hues"]
    if hue not in hues or which not in ("fill", "line", "ink"):
        raise ValueError(f"no {which!r} of {hue!r}; hues: {', '.join(hues)}; fill, line or ink")
    return str(hues[hue][which])


def concept(group: str, name: str) -> dict[str, Any]:
    """What the palette says about a concept, such as ("channel", "analysis").

    Raises ValueError for an unknown one.
    """
    try:
        return dict(palette()["concepts"][group][name])
    except KeyError:
        raise ValueError(f"the palette has no concept {group}/{name}") from None


def neutral(name: str) -> str:
    """One of the greys by name: "text", "muted", "grid", "paper" or "masked" as a hex string."""
    return str(palette()[name])


def colormap(name: str) -> LinearSegmentedColormap:
    """Map "load" (0 is paper, more is darker) or "signed" (symmetric about 0)."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(f"labhelpers_{name}", palette()["maps"][name])


def text_on(rgb: Any) -> str:
    """The one of "black" and "white" that reads on a background (r, g, b in 0..1) at 4.5:1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


# -- figures ----------------------------------------------------------------------------------


@contextmanager
def style() -> Iterator[None]:
    """The figure style for the length of a `with` block."""
    import matplotlib

    with matplotlib.rc_context(palette()["rcParams"]):
        yield


def figure(height: float = 2.8, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure 7.2 in wide and its axes (an array if columns > 1), outside pyplot's list.

    Outside, because the notebook would otherwise show it a second time. options go to
    `Figure.subplots`. Call it inside `style()`. Raises ValueError for a height off 1.6..4.
    """
    from matplotlib.figure import Figure

    if not 1.6 <= height <= 4:
        raise ValueError(f"a figure is 1.6 to 4 inches high, got {height}")
    fig = Figure(figsize=(WIDTH, height))
    return fig, fig.subplots(1, columns, **options)


def grid(axes: Axes, axis: str) -> None:
    """Grid lines along the measured axis only ("x" or "y")."""
    axes.grid(True, axis=axis)  # type: ignore[arg-type]


def png(fig: Figure) -> tuple[bytes, dict[str, int]]:
    """The figure as PNG bytes and the width and height at which to show it, in pixels."""
    from PIL import Image

    raw = io.BytesIO()
    with style():
        fig.savefig(raw, format="png", dpi=DPI, facecolor=neutral("paper"))
    image = Image.open(raw).convert("RGB")
    small = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, format="png", optimize=True)
    return out.getvalue(), {"width": image.width // 2, "height": image.height // 2}


def _png_for_notebook(fig: Figure) -> tuple[str, dict[str, int]]:
    data, size = png(fig)
    return base64.b64encode(data).decode("ascii"), size


def use() -> None:
    """Set the style for all figures of this session, and the PNG formatter in a notebook."""
    import matplotlib

    matplotlib.rcParams.update(palette()["rcParams"])
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    # The inline backend resets the formats at its first figure: let that happen before ours.
    plt.close(plt.figure())
    matplotlib.rcParams.update(palette()["rcParams"])
    shell.display_formatter.formatters["image/png"].for_type(Figure, _png_for_notebook)


def wrapped(text: str) -> str:
    """Lines of at most 88 characters: a notebook cell breaks longer ones inside words."""
    lines = (textwrap.fill(t, 88, subsequent_indent="  ") for t in text.split("\n"))
    return "\n".join(lines)


class Picture:
    """A finished figure and its key sentence; a notebook shows the one above the other.

    `figure` is matplotlib's. `text` says in words what the figure shows, and `data` holds the
    numbers that were drawn (tests look there).
    """

    def __init__(self, figure: Figure, text: str, data: Any = None) -> None:
        self.figure, self.text, self.data = figure, text, data

    def __repr__(self) -> str:
        return self.text

    def png(self) -> bytes:
        """The PNG's bytes."""
        return png(self.figure)[0]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data, size = _png_for_notebook(self.figure)
        title = next((a.get_title(loc="left") for a in self.figure.axes), "")
        bundle = {"image/png": data, "text/plain": f"Figure: {title}"}
        display(bundle, raw=True, metadata={"image/png": size})
        print(wrapped(self.text))
