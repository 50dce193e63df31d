"""How two texts or two lists are told apart in a line: the first place where they differ.

Blanks matter in a chat format, so they are written: ␣ at the ends of a text, ⏎ for a newline.
Limits: the first difference only; what comes after it often follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

_MOST = 60  # characters of a text, in a message


def quoted(value: Any) -> str:
    """A value as code for a card: texts with their blanks visible, anything else as Python has it.

    Backquotes would end the code, so they become plain quotes.
    """
    if not isinstance(value, str):
        return f"`{repr(value)[: 2 * _MOST].replace('`', chr(39))}`"
    if not value:
        return "an empty text"
    inner = value.strip(" ")
    start, end = len(value) - len(value.lstrip(" ")), len(value) - len(value.rstrip(" "))
    shown = "␣" * len(value) if not inner else "␣" * start + inner + "␣" * end
    return f"`{shown.replace(chr(10), '⏎').replace('`', chr(39))}`"


def text_difference(got: Any, expected: str) -> str:
    """The first line that differs, or "" if there is none."""
    if not isinstance(got, str):
        return f"Expected a text, got `{type(got).__name__}`."
    if got == expected:
        return ""
    if "\n" not in expected + got:
        return _pair(expected, got)
    wanted, given = expected.split("\n"), got.split("\n")
    for number, (a, b) in enumerate(zip(wanted, given, strict=False), start=1):
        if a != b:
            return f"Line {number}: {_lower(_pair(a, b))}"
    line = min(len(wanted), len(given)) + 1
    if len(wanted) > len(given):
        return f"Line {line} is missing: {quoted(wanted[line - 1])}."
    return f"Line {line} is one too many: {quoted(given[line - 1])}."


def ids_difference(got: list[int], expected: list[int], show: Callable[[list[int]], str]) -> str:
    """Two lists of tokens: their texts, or the first place if only the tokens differ."""
    if got == expected:
        return ""
    wanted, given = show(expected), show(got)
    if wanted != given:
        return _pair(wanted, given)
    at = next(i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b)
    return (
        f"The text is right, {quoted(wanted[:_MOST])}, but token {at} is {got[at]} "
        f"({quoted(show([got[at]]))}) instead of {expected[at]} ({quoted(show([expected[at]]))})."
    )


def items_difference(got: Any, expected: list[Any]) -> str:
    """Another length, or the first item of a list that differs; "" if there is none."""
    if not isinstance(got, list):
        return f"Expected a list, got `{type(got).__name__}`.{as_list(got)}"
    if len(got) != len(expected):
        return f"Expected {len(expected)} items, got {len(got)}."
    for at, (a, b) in enumerate(zip(expected, got, strict=False)):
        if type(a) is not type(b) or a != b:
            return f"Item {at}: expected {quoted(a)}, got {quoted(b)}."
    return ""


def as_list(got: Any) -> str:
    """How to make a list of what came instead of one, or ""."""
    if isinstance(got, GeneratorType):
        return " A function with `yield` returns one: collect in a list and return that."
    return " `list(...)` makes one of it." if isinstance(got, tuple | set | range) else ""


def _pair(expected: str, got: str) -> str:
    """Both texts; of long ones the part around the first difference."""
    if max(len(expected), len(got)) <= _MOST:
        return f"Expected {quoted(expected)}, got {quoted(got)}."
    same = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    start = max(0, same - _MOST // 3)
    parts = [text[start : start + _MOST] for text in (expected, got)]
    where = f"From character {start}: expected" if start else "Expected"
    return f"{where} {_cut(parts[0])}, got {_cut(parts[1])}."


def _cut(text: str) -> str:
    shown = quoted(text)
    return f"{shown[:-1]}…`" if len(text) == _MOST else shown


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
