"""Has the reader touched a stub? A body of a docstring and `...` is "not attempted".

Judged by what the function does when run, so comments and docstrings never count. `pass` and
`raise NotImplementedError` are stubs too.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from types import CodeType
from typing import Any


def is_untouched(function: Callable[..., Any]) -> bool:
    """True if the body is a docstring and `...` (or pass, or raise NotImplementedError)."""
    code = getattr(function, "__code__", None)
    return code is not None and _instructions(code) in _STUBS


def _instructions(code: CodeType) -> list[tuple[str, Any]]:
    """What the function does, step by step; a docstring is no step."""
    return [(i.opname, i.argval) for i in dis.get_instructions(code)]


def _stub(body: str) -> list[tuple[str, Any]]:
    scope: dict[str, Any] = {}
    exec(f"def stub(a):\n    {body}", scope)
    return _instructions(scope["stub"].__code__)


# Compiled here and now: the steps differ between Python versions.
_STUBS = [_stub(b) for b in ("...", "raise NotImplementedError", "raise NotImplementedError()")]
