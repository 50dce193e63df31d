"""Sentences of one exercise's own, beside those that `judge` makes for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """What one exercise says beyond the judge's words. Each gives a sentence, or "".

    point(got, expected, *arguments): more about a difference (the input it comes from, say).
    strict(result, expected): what is wrong with a result whose numbers are right (its type, say).
    aside(function): a remark on a function that is right.
    """

    point: Callable[..., str] | None = None
    strict: Callable[[Any, Any], str] | None = None
    aside: Callable[[Callable[..., Any]], str] | None = None
