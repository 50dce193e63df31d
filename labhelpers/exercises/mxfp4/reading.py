"""Exercise on the limit of a GPU: bytes a step has to read, and how many rows share them.

Source of the solution: E experts, k of them a row, drawn evenly: a given one is missed by a row
with probability 1 - k/E, and by B rows with that to the power of B. A test holds it equal to
`labhelpers.accounting.bytes_per_token`, and to the limits that were recorded on a GPU.
Limits: weights alone, without keys and values; a router does not choose evenly, or independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.words import Words


def _small(got: Any, expected: float, *arguments: Any) -> str:
    """What two decimals do not show."""
    number = isinstance(got, float) and 0 < abs(got) < 1
    return f"With all its digits yours is {got:.4g}." if number else ""


@exercise(
    "2.9",
    minutes=15,
    difficulty=2,
    cases=[
        Case("one row of gpt-oss-20b", lambda: (3e12, 2_437_387_008, 317_675_520, 32, 4, 1)),
        Case("6 rows of gpt-oss-20b", lambda: (3e12, 2_437_387_008, 317_675_520, 32, 4, 6)),
        Case("64 rows of gpt-oss-120b", lambda: (3e12, 3_096_854_784, 476_513_280, 128, 4, 64)),
        Case("3 rows, 2 of 8 experts each", lambda: (1e7, 4_000_000, 1_000_000, 8, 2, 3)),
    ],
    tolerance=1e-4,
    words=Words(point=_small),
    hints=(
        "How many *different* experts do the rows meet? Not `top_k * rows`: some meet the same "
        "ones. Ask it of a single expert: how likely is it that one row leaves it out, and that "
        "all rows do?",
        "A row leaves a given expert out with probability `1 - top_k / experts`; all rows do with "
        "that to the power of `rows`. What is left of 1 is the probability that it is read. "
        "Times `experts`, that is how many are read on the average; it need not be whole.",
        "With `met` experts a step reads `shared + met * expert` bytes, once for all rows. "
        "Bandwidth over bytes are steps a second, and a step writes `rows` tokens.",
    ),
)
def tokens_a_second(
    bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int
) -> float:
    """Tokens a second at most, of all rows together, if reading is the only thing that takes time.

    A step writes a token for each of `rows` sequences. It reads `shared` bytes, which all use,
    once, and `expert` bytes for each expert that at least one row chose: those of one expert in
    all layers together (each layer chooses anew, on the average as many). Each row chooses top_k
    of `experts`, all equally likely, whatever the others choose. bandwidth: bytes a second.
    """
    left_out = (1 - top_k / experts) ** rows
    met = experts * (1 - left_out)
    return rows * bandwidth / (shared + met * expert)


Met = Callable[[int, int, int], float]  # of experts, top_k, rows


def _met(experts: int, top_k: int, rows: int) -> float:
    return experts * (1 - (1 - top_k / experts) ** rows)


def _slip(
    message: str, met: Met = _met, unit: float = 1, each_row: bool = False,
    shared_used: bool = True, rows_of: Callable[[int], int] = lambda rows: rows,
) -> None:  # fmt: skip
    """A wrong version. met: experts read; rows_of: tokens of a step; unit: of the result."""

    def wrong(
        bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int
    ) -> Any:
        common = shared * (rows if each_row else 1) if shared_used else 0
        need = common + met(experts, top_k, rows) * expert
        return rows_of(rows) * bandwidth / need * unit

    wrong.__name__ = f"_tokens_{len(tokens_a_second.mistakes)}"
    tokens_a_second.mistake(message)(wrong)


def _own(experts: int, top_k: int, rows: int) -> float:
    return top_k * rows


_OWN = (
    "Every row was given experts of its own, `top_k * rows`: where two rows choose the same one "
    "it is read once."
)
_slip(_OWN, _own)
_slip(_OWN, lambda e, k, rows: min(e, k * rows))
_slip(
    "All rows were given the same experts, top_k of them: each row chooses for itself.",
    lambda e, k, rows: k,
)
_slip("All experts were read: only those are that a row chose.", lambda e, k, rows: e)
_slip(
    "These are the experts that nobody chose: the ones met are the rest of `experts`.",
    lambda e, k, rows: e * (1 - k / e) ** rows,
)
_slip(
    "A row was drawn as top_k single choices, `(1 - 1 / experts) ** (top_k * rows)`: its experts "
    "are different ones, so a row leaves one out with probability `1 - top_k / experts`.",
    lambda e, k, rows: e * (1 - (1 - 1 / e) ** (k * rows)),
)
_slip(
    "The probability of one choice is top_k / experts, not 1 / experts: a row chooses top_k.",
    lambda e, k, rows: e * (1 - (1 - 1 / e) ** rows),
)
_WHOLE_NUMBER = (
    "The number of experts met was made a whole number: it is an average, and need not be one."
)
_slip(_WHOLE_NUMBER, lambda e, k, rows: round(_met(e, k, rows)))
_slip(_WHOLE_NUMBER, lambda e, k, rows: int(_met(e, k, rows)))
_slip(_WHOLE_NUMBER, lambda e, k, rows: math.ceil(_met(e, k, rows)))
_ONE_ROW = "These are the tokens of one row: a step writes one for each of `rows`."
_slip(_ONE_ROW, rows_of=lambda rows: 1)
_slip(_ONE_ROW + " And it reads an expert once, however many chose it.", _own,
      rows_of=lambda rows: 1)  # fmt: skip
_slip("The shared bytes were read for each row: once does for all of them.", each_row=True)
_slip(
    "Everything was read for each row: the shared bytes, and an expert that several chose, are "
    "read once.",
    _own,
    each_row=True,
)
_slip("The shared bytes are missing: attention, head and the rest are read too.",
      shared_used=False)  # fmt: skip
_slip(
    "No expert's bytes are read here. With `top_k // experts`? `//` makes 0 of it: divide by `/`.",
    lambda e, k, rows: 0,
)
_slip(
    "The probability that *one* expert is read is not yet how many are: times `experts`.",
    lambda e, k, rows: _met(e, k, rows) / e,
)
_slip(
    "The probability that an expert is read was taken `top_k` times: each of `experts` may be.",
    lambda e, k, rows: k * _met(e, k, rows) / e,
)
_slip(
    "All `rows` leave an expert out: the power is `rows`, not one less.",
    lambda e, k, rows: _met(e, k, rows - 1),
)
_FIXED = (
    "The 20b's 32 experts, or the 28 that a row leaves out, stand in the code: use `experts` and "
    "`top_k`."
)
_slip(_FIXED, lambda e, k, rows: _met(32, 4, rows))
_slip(_FIXED, lambda e, k, rows: e * (1 - (28 / 32) ** rows))
_slip(_FIXED, lambda e, k, rows: 32 * (1 - (1 - k / e) ** rows))
_slip(
    "`expert` was divided: it is the bytes of *one* expert already.",
    lambda e, k, rows: _met(e, k, rows) / k,
)
_GIGABYTES = (
    "Either bandwidth or bytes were made gigabytes, the other not: both are in bytes already."
)
_slip(_GIGABYTES, unit=1e9)
_slip(_GIGABYTES, unit=1e-9)
_BITS = "Bandwidth and bytes are both in bytes: there is no 8 in it."
_slip(_BITS, unit=8)
_slip(_BITS, unit=1 / 8)


@tokens_a_second.mistake(
    "That is the time of a token, in seconds. Asked are tokens a second: the other way up."
)
def _seconds(
    bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int
) -> float:
    return 1 / tokens_a_second.function(bandwidth, shared, expert, experts, top_k, rows)


@tokens_a_second.mistake(
    "That is the time of a step, in seconds. Asked are tokens a second, `rows` of them a step."
)
def _step(bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int) -> float:
    return rows / tokens_a_second.function(bandwidth, shared, expert, experts, top_k, rows)


@tokens_a_second.mistake("The result was rounded: asked is a float with all its decimals.")
def _rounded(
    bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int
) -> float:
    return round(tokens_a_second.function(bandwidth, shared, expert, experts, top_k, rows)) + 0.0


@tokens_a_second.mistake("The decimals are cut off: asked is a float, so divide by `/`.")
def _whole(bandwidth: float, shared: int, expert: int, experts: int, top_k: int, rows: int) -> int:
    return int(tokens_a_second.function(bandwidth, shared, expert, experts, top_k, rows))
