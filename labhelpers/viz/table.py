"""A small table with two forms: HTML for the page, aligned text for everything else.

    table(["", "nano", "20b"], [["layers", 8, 24], ["experts", 8, 32]])

Whole numbers get thousands separators, other numbers two decimals, so that what is stored is the
same on every machine. Limits: text and numbers; a table is not a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labhelpers.viz.components import Component, escape


class Table(Component):
    """`head` and `rows` as they will be written; `left`: words, so no column goes right."""

    def __init__(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], left: bool = False
    ) -> None:
        self.head, self.rows, self.left = list(head), [list(row) for row in rows], left

    def _side(self, column: int) -> str:
        return "right" if column and not self.left else "left"

    def html(self) -> str:
        cell = "padding:2px 12px 2px 0;text-align:"
        head = "".join(
            f'<th style="{cell}{self._side(i)}">{escape(h)}</th>' for i, h in enumerate(self.head)
        )
        rows = "".join(
            "<tr>" + "".join(
                f'<td style="{cell}{self._side(i)}">{escape(v)}</td>' for i, v in enumerate(row)
            ) + "</tr>" for row in self.rows
        )  # fmt: skip
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def plain(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        return "\n".join(
            "  ".join(
                v.ljust(w) if self._side(i) == "left" else v.rjust(w)
                for i, (v, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: bool = False) -> Table:
    """A table; the first column is left-aligned, the others right-aligned (left too: `left`).

    Raises ValueError if a row has not as many cells as the head.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"the head has {len(head)} cells, a row has {len(row)}: {row}")
    return Table(list(head), [[_text(v) for v in row] for row in rows], left)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        text = f"{value:.2f}"
        return text[1:] if text.startswith("-") and not text.strip("-0.") else text  # no -0.00
    return str(value)
