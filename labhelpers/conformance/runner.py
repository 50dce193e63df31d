"""Run an implementation over all vectors, and say in a line what came of each.

Outcomes: `pass`; `fail`; `late` (a strict reader refused a broken stream, but at a later token
than the first at which it could); `other rule` (a renderer that drops past reasoning by another
rule than the vector's is not asked). A stream is checked up to three times: strict, lenient,
faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from .implementations import Implementation, Read, Refused
from .vectors import RenderVector, StreamVector, load_render, load_streams

CHECKS = ("render", "strict", "lenient", "faults")


class Outcome(NamedTuple):
    """One check of one vector."""

    check: str  # one of CHECKS
    vector: str
    outcome: str  # pass, fail, late, other rule
    detail: str = ""


def run(implementation: Implementation, name: str = "") -> list[Outcome]:
    """All checks of all vectors, or of those whose name holds `name`."""
    out = [_render(v, implementation) for v in load_render() if name in v.name]
    for vector in load_streams():
        if name in vector.name:
            out += _stream(vector, implementation)
    return out


def summary(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """How often each outcome came, check by check."""
    counts: dict[str, Counter[str]] = {check: Counter() for check in CHECKS}
    for outcome in outcomes:
        counts[outcome.check][outcome.outcome] += 1
    return {check: dict(sorted(found.items())) for check, found in counts.items() if found}


def _render(vector: RenderVector, implementation: Implementation) -> Outcome:
    if vector.rule not in ("any", *implementation.rules):
        return Outcome("render", vector.name, "other rule")
    try:
        ids = implementation.render(vector)
    except Exception as error:  # whatever it is, it goes into the report
        return Outcome("render", vector.name, "fail", f"raised {_words(error)}")
    if ids == vector.ids:
        return Outcome("render", vector.name, "pass")
    same = _first_difference(ids, vector.ids)
    got, wanted = ids[same : same + 5], vector.ids[same : same + 5]
    return Outcome("render", vector.name, "fail", f"token {same}: got {got}, expected {wanted}")


def _stream(vector: StreamVector, implementation: Implementation) -> list[Outcome]:
    strict, lenient = implementation.read_strict(vector), implementation.read_lenient(vector)
    out = [_strict(vector, strict)] if vector.strict else []
    out.append(_lenient(vector, lenient))
    if isinstance(lenient, Read) and lenient.faults is not None:
        same = lenient.faults == vector.faults
        detail = "" if same else f"got {lenient.faults}, expected {vector.faults}"
        out.append(Outcome("faults", vector.name, "pass" if same else "fail", detail))
    return out


def _strict(vector: StreamVector, got: Read | Refused) -> Outcome:
    def outcome(detail: str) -> Outcome:
        return Outcome("strict", vector.name, "fail" if detail else "pass", detail)

    if isinstance(got, Refused):
        if vector.refused_at is None:
            return outcome(f"refused at token {got.position}: {got.words}")
        if got.position > vector.refused_at:
            detail = f"refused at token {got.position}, not {vector.refused_at}: {got.words}"
            return Outcome("strict", vector.name, "late", detail)
        if got.position < vector.refused_at:
            return outcome(f"refused at token {got.position}, where all was well: {got.words}")
        return outcome("")
    if vector.refused_at is not None:
        return outcome(f"read it as {got.messages}, not refused at token {vector.refused_at}")
    if vector.deltas is not None and got.deltas not in (None, vector.deltas):
        return outcome(f"text came as {got.deltas}, expected {vector.deltas}")
    return outcome(_differs(vector, got))


def _lenient(vector: StreamVector, got: Read | Refused) -> Outcome:
    if isinstance(got, Refused):
        detail = f"raised at token {got.position}: {got.words}"
    else:
        detail = _differs(vector, got)
    return Outcome("lenient", vector.name, "fail" if detail else "pass", detail)


def _differs(vector: StreamVector, got: Read) -> str:
    """How the messages differ, or nothing."""
    if got.complete not in (None, vector.complete):
        return f"complete is {got.complete}"
    if len(got.messages) != len(vector.messages):
        return f"{len(got.messages)} messages, expected {len(vector.messages)}: {got.messages}"
    for i, (ours, wanted) in enumerate(zip(got.messages, vector.messages, strict=True)):
        for field in {**wanted, **ours}:
            if ours.get(field) != wanted.get(field):
                return (
                    f"message {i}: {field} is {ours.get(field)!r}, expected {wanted.get(field)!r}"
                )
    return ""


def _first_difference(a: list[int], b: list[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _words(error: Any) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
