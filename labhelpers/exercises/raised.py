"""What a function gives: a value, or an error that can be told and compared.

A wrong version may be one that raises (a forgotten `keepdim` makes shapes that do not fit). Two
errors are alike if their types and the numbers in their messages are: "size 8" against "size 3"
in dimension 1 says which shapes met, whichever of the two stood first. Without numbers, the text
decides.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labhelpers.exercises.judge import same


@dataclass(frozen=True)
class Raised:
    """An error in the place of a result."""

    error: Exception

    def _text(self) -> str:
        # Which of many indices out of bounds is met first depends on torch's threads.
        return re.sub(r"\bindex -?\d+ is out", "an index is out", str(self.error))

    def _shape(self) -> tuple[type, list[str]]:
        text = self._text()
        return type(self.error), sorted(re.findall(r"\d+", text)) or [text]

    def like(self, other: Any) -> bool:
        """Is the other an error of the same type, with the same numbers (or text, if none)?"""
        return isinstance(other, Raised) and self._shape() == other._shape()

    def told(self, function: Callable[..., Any], given: str = "") -> list[str]:
        """The error and the reader's line, without anything that changes between runs.

        given: the name of the input.
        """
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", self._text().strip().split("\n")[0])
        text, name = text[:160].replace("`", "'"), type(self.error).__name__
        lines = [f"`{name}: {text}`" if text else f"`{name}`"]
        code = getattr(function, "__code__", None)
        frames = traceback.extract_tb(self.error.__traceback__)
        own = [f for f in frames if code is not None and f.filename == code.co_filename]
        if own:
            where = f"in your line {own[-1].lineno}"
            where += f", on the input with {given}" if given else ""
            source = (own[-1].line or "").strip().replace("`", "'")
            lines.append(f"{where}: `{source}`" if source else where)
        return lines


@contextmanager
def named(function: Callable[..., Any]) -> Iterator[None]:
    """While this lasts, a function that calls itself by its name finds itself.

    Under a decorator that judges it, its name is not bound yet, or still bound to what an
    earlier run of the cell left there: the course's version, perhaps.
    """
    inner = inspect.unwrap(function)
    scope, name = getattr(inner, "__globals__", None), getattr(inner, "__name__", "")
    if scope is None or not name.isidentifier():  # a built-in, a lambda
        yield
        return
    bound = name in scope
    before = scope.get(name)
    scope[name] = function
    try:
        yield
    finally:
        if bound:
            scope[name] = before
        else:
            del scope[name]


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What the function returns, or Raised."""
    try:
        with named(function):
            return function(*arguments)
    except Exception as error:
        return Raised(error)


def alike(got: Any, made: Any, tolerance: float) -> bool:
    """Are two outcomes the same: two results within the tolerance, or two errors alike?"""
    if isinstance(got, Raised) or isinstance(made, Raised):
        return isinstance(got, Raised) and got.like(made)
    return same(got, made, tolerance)
