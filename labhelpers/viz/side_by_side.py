"""Several writings of the same thing beside each other, with a sign where they differ.

    viz.side_by_side({"ours": [...], "template": [...]}, ["user", "call"])

Each row holds what the writers make of one item; the first column is what the others are
compared with. ≠ marks a difference, "(nothing)" an item that was left out.

Limits: compares whole items, not letters; up to four columns read well.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from labhelpers.viz.components import Component, escape


class SideBySide(Component):
    """`rows` holds (name of the item, its writings); the columns are in `writers`."""

    def __init__(self, writers: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.writers, self.rows = list(writers), [(name, list(texts)) for name, texts in rows]

    @property
    def different(self) -> list[str]:
        """Names of the items in which somebody differs from the first column."""
        return [name for name, texts in self.rows if len(set(texts)) > 1]

    def _sign(self, text: str, first: str) -> str:
        return "" if text == first else "≠"

    def html(self) -> str:
        cell = (
            "text-align:left;vertical-align:top;padding:3px 10px 3px 0;"
            "white-space:normal;overflow-wrap:anywhere"
        )
        head = f'<th style="{cell};width:17%"></th>'
        head += "".join(f'<th style="{cell}">{escape(w)}</th>' for w in self.writers)
        body = []
        for name, texts in self.rows:
            cells = [f'<td style="{cell}">{escape(name)}</td>']
            for text in texts:
                sign = self._sign(text, texts[0])
                shown = _code(text) if text else "(nothing)"
                cells.append(f'<td style="{cell}">{f"<b>{sign}</b> " if sign else ""}{shown}</td>')
            body.append(f"<tr>{''.join(cells)}</tr>")
        style = "table-layout:fixed;width:100%;border-collapse:collapse"  # no column grows
        head, rows = f"<thead><tr>{head}</tr></thead>", f"<tbody>{''.join(body)}</tbody>"
        return f'<table style="{style}">{head}{rows}</table>'

    def plain(self) -> str:
        lines = [" | ".join(self.writers)]
        for name, texts in self.rows:
            lines.append(name)
            for text in texts:
                sign = self._sign(text, texts[0])
                shown = text or "(nothing)"
                lines.append("    " + (f"{sign} " if sign else "") + shown.replace("\n", "\n    "))
        return "\n".join(lines)


def side_by_side(columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> SideBySide:
    """Writings of the same items by several writers; an empty text means it was left out.

    Raises ValueError if a column has not one text for each name.
    """
    for writer, texts in columns.items():
        if len(texts) != len(names):
            raise ValueError(f"{writer} has {len(texts)} texts for {len(names)} items")
    rows = [(name, [texts[i] for texts in columns.values()]) for i, name in enumerate(names)]
    return SideBySide(list(columns), rows)


def _code(text: str) -> str:
    """Code that keeps its lines; headers have no spaces, so they may break around their marks."""
    style = (
        "background:transparent;color:inherit;padding:0;white-space:pre-wrap;overflow-wrap:anywhere"
    )
    shown = html.escape(text, quote=True)
    shown = shown.replace("&lt;|", "<wbr>&lt;|").replace("|&gt;", "|&gt;<wbr>")
    return f'<code style="{style}">{shown}</code>'
