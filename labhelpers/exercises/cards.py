"""What an exercise says: one chip with the outcome, then at most a few lines.

The plain text is the same on every run and every machine, since notebooks compare it.
"""

from __future__ import annotations

from collections.abc import Sequence

from labhelpers.viz.components import OUTCOMES, Component, bar, chip, code, inline, label

_PLAIN = str.maketrans("", "", "`")


class Card(Component):
    """The outcome of a check. Backquotes in a line mark code. `kind`: what was checked."""

    def __init__(
        self, outcome: str, title: str, lines: Sequence[str], kind: str = "exercise"
    ) -> None:
        self.outcome, self.title, self.lines, self.kind = outcome, title, list(lines), kind

    def html(self) -> str:
        mark = OUTCOMES[self.outcome]
        head = f"{chip(self.outcome, mark)} {self.kind} <b>{inline(self.title)}</b>"
        rows = "".join(f"<div>{inline(line)}</div>" for line in self.lines)
        return f'<div style="{bar(mark)}"><div>{head}</div>{rows}</div>'

    def plain(self) -> str:
        head = f"{label(self.outcome, OUTCOMES[self.outcome])}  {self.kind} {self.title}"
        return "\n".join([head, *(line.translate(_PLAIN) for line in self.lines)])


class Note(Component):
    """A hint, a price label, or a solution (then `source` is its code)."""

    def __init__(self, title: str, text: str = "", source: str = "") -> None:
        self.title, self.text, self.source = title, text, source

    def html(self) -> str:
        body = f"<div>{inline(self.text)}</div>" if self.text else ""
        if self.source:
            body += code(self.source + "\n")
        mark = OUTCOMES["not attempted"]._replace(bar="solid")
        return f'<div style="{bar(mark)}"><b>{inline(self.title)}</b>{body}</div>'

    def plain(self) -> str:
        parts = [self.title.translate(_PLAIN), self.text.translate(_PLAIN), self.source]
        return "\n".join(part for part in parts if part)
