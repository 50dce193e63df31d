"""Has the reader touched a stub? A body of a docstring and `...` is "not attempted".

Judged by what the function does when run, so comments and docstrings never count. `pass` and
`raise NotImplementedError` are stubs too; so is a lone `return None`, which runs like `...`.
"""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any


def is_untouched(function: Callable[..., Any]) -> bool:
    """True if the body is a docstring and `...` (or pass, or raise NotImplementedError)."""
    code = getattr(function, "__code__", None)
    return code is not None and _instructions(code) in _STUBS


def told_nothing(function: Callable[..., Any]) -> str:
    """A sentence for a function that gave None: did it print, return None, or not return?"""
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    returns = _returns(function)
    if any(returns):
        return "It returned `None`, as a `return` in it says: return the result."
    if "print" in names and not returns:
        return (
            "It returned nothing (`None`): `print` shows a value, `return` hands it to whoever "
            "called."
        )
    return "It returned nothing (`None`): does the function end with `return`?"


def _returns(function: Callable[..., Any]) -> list[bool]:
    """For each `return` of the function: has it nothing, or None? [] if the source is unknown."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # from a string, built in, or a lambda in a call
        return []
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    return [v is None or (isinstance(v, ast.Constant) and v.value is None) for v in found]


def _instructions(code: CodeType) -> list[tuple[str, Any]]:
    """What the function does, step by step; a docstring is no step."""
    return [(i.opname, i.argval) for i in dis.get_instructions(code)]


def _stub(body: str) -> list[tuple[str, Any]]:
    scope: dict[str, Any] = {}
    exec(f"def stub(a):\n    {body}", scope)
    return _instructions(scope["stub"].__code__)


# Compiled here and now: the steps differ between Python versions.
_STUBS = [_stub(b) for b in ("...", "raise NotImplementedError", "raise NotImplementedError()")]
