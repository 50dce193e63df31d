"""HTML components: one object, two forms, the same words in the same order.

`_repr_html_` is for the notebook, `__repr__` for a terminal, for GitHub, and for whoever reads
with a screen reader. The plain text is the content; styles are a bonus. So a component writes
inline styles only (JupyterLab drops style blocks and ids from untrusted notebooks, GitHub drops
the inline ones as well), uses tags that mean something, and inherits the page's text colour.
Colour comes as bars and chips; a chip carries its own background and its own text colour.

Limits: static. What changes under the reader's hands is a widget (`labhelpers.viz.widgets`).
"""

from __future__ import annotations

import html
from typing import NamedTuple

from labhelpers.viz import look

MAX_WIDTH = "max-width:740px"


class Component:
    """Base class: subclasses give `html()` and `plain()`."""

    def html(self) -> str:
        """HTML with inline styles only."""
        raise NotImplementedError

    def plain(self) -> str:
        """The same content as text, without a newline at the end."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return self.plain()


def show(item: Component) -> None:
    """Display in a notebook, print elsewhere."""
    if in_notebook():
        from IPython.display import display

        display(item)
    else:
        print(item.plain())


def in_notebook() -> bool:
    """True in a Jupyter kernel; False in a terminal, a test or a script."""
    import sys

    ipython = sys.modules.get("IPython")  # not imported: then surely no notebook
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class Mark(NamedTuple):
    """How a role, channel or outcome looks: colours of chip and bar."""

    hue: str
    bar: str  # CSS border style
    hollow: bool = False  # no background: for what is quiet (system, not attempted)
    glyph: str = ""


ROLES = {
    "system": Mark("slate", "solid", hollow=True),
    "developer": Mark("olive", "solid", hollow=True),
    "user": Mark("blue", "solid"),
    "assistant": Mark("teal", "solid"),
    "tool": Mark("orange", "solid"),
}
CHANNELS = {
    "analysis": Mark("violet", "dotted"),
    "commentary": Mark("orange", "double"),
    "final": Mark("teal", "solid"),
}
OUTCOMES = {
    "right": Mark("teal", "solid", glyph="✓"),
    "wrong": Mark("orange", "solid", glyph="✗"),
    "raised": Mark("rose", "solid", glyph="!"),
    "not attempted": Mark("slate", "dashed", hollow=True, glyph="○"),
}


def chip(text: str, mark: Mark) -> str:
    """A word in a small box, in the colours of its mark."""
    line = look.tone(mark.hue, "line")
    colours = (
        ""
        if mark.hollow
        else (f"background:{look.tone(mark.hue, 'fill')};color:{look.neutral('text')};")
    )
    border = "dashed" if mark.bar == "dashed" else "solid"
    label = f"{mark.glyph} {text}" if mark.glyph else text
    return (
        f'<b style="{colours}border:1px {border} {line};border-radius:3px;padding:1px 7px;'
        f'white-space:nowrap">{escape(label)}</b>'
    )


def label(text: str, mark: Mark) -> str:
    """The same word in plain text, with its glyph."""
    return f"{mark.glyph} {text}" if mark.glyph else text


def bar(mark: Mark) -> str:
    """Style of a block with a bar on its left: 5 px in the mark's colour and line style."""
    return (
        f"border-left:5px {mark.bar} {look.tone(mark.hue, 'line')};padding:1px 0 3px 12px;"
        f"margin:0 0 10px 0;{MAX_WIDTH};line-height:1.5"
    )


def escape(text: str) -> str:
    """Text as HTML text; a newline becomes a line break."""
    return html.escape(text, quote=True).replace("\n", "<br>")


def code(text: str) -> str:
    """Code in a line, or as a block if it has several (indentation then survives)."""
    escaped = html.escape(text, quote=True)
    if "\n" in text:
        return f'<pre style="margin:2px 0;white-space:pre-wrap"><code>{escaped}</code></pre>'
    return f"<code>{escaped}</code>"


def inline(text: str) -> str:
    """Prose in which `backquotes` mark code, as in Markdown."""
    pieces = text.split("`")
    return "".join(_short_code(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def _short_code(text: str) -> str:
    """Code that is not broken over two lines unless it must be (a row of numbers, a call)."""
    if len(text) > 60 or "\n" in text:
        return code(text)
    return f'<code style="white-space:nowrap">{html.escape(text, quote=True)}</code>'


def indent(text: str, by: int = 4) -> str:
    """Every line of text moved to the right."""
    return "\n".join(" " * by + line if line else "" for line in text.split("\n"))
