"""Exercise on rounding: the code of each of 32 weights, given their scale.

Source of the solution: rounding as IEEE has it (ties to the even code); a test holds it equal to
`labhelpers.mxfp4.quantize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.words import Words

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_MIDDLES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def _ties() -> Tensor:
    """Every number half-way between two values, then some beside them; both signs."""
    beside = (0.1, 0.3, 0.7, 1.1, 1.6, 2.4, 3.6, 4.9, 5.2)
    return torch.tensor([v for m in (*_MIDDLES, *beside) for v in (m, -m)])


def _which_weight(got: Any, expected: Tensor, block: Tensor, scale_byte: int) -> str:
    """The first weight whose code is wrong, with both codes' values; or what the type tells."""
    if not isinstance(got, Tensor) or got.is_meta or got.shape != expected.shape:
        return ""
    if got.is_floating_point() and not bool(((got >= 0) & (got == got.trunc())).all()):
        return "Asked are codes, whole numbers from 0 to 15, not the values they stand for."
    if got.dtype != expected.dtype:
        return "" if got.is_complex() else "`.to(torch.uint8)` makes bytes of whole numbers."
    at = int((got != expected).nonzero()[0])
    weight = float(block[at])
    steps = weight / 2.0 ** (scale_byte - 127)
    wanted, given = int(expected[at]), int(got[at])
    what = _said(given) if given < 16 else "no code: the largest is 15"
    size = "" if steps == weight else f", {steps:.4g} steps"
    right = f"code {wanted} is {_said(wanted)}"
    return f"Weight {at} is {weight:.4g}{size}: {right}, {given} is {what}."


def _said(code: int) -> str:
    return f"{'-' * (code > 7)}{_MAGNITUDES[code & 7]:g}"


@exercise(
    "2.3",
    minutes=15,
    difficulty=3,
    cases=[
        Case("numbers half-way, a step of 1", lambda: (_ties(), 127)),
        Case("weights of 0.02", lambda: (numbers(32, seed=1, scale=0.01), 119)),
        Case("a scale that clips", lambda: (numbers(32, seed=2, scale=5.5), 127)),
        Case("a scale that is too large", lambda: (numbers(32, seed=3), 128)),
    ],
    words=Words(point=_which_weight),
    hints=(
        "Count in steps: divide by the scale, and take the magnitude. Between two neighbouring "
        "values of E2M1 lies a number half-way, and whoever has passed it belongs to the next "
        "code. What is special is what lies exactly on one, and the sign.",
        "The seven numbers half-way are 0.25, 0.75, 1.25, 1.75, 2.5, 3.5 and 5. The code is how "
        "many of them were passed; above 5 it stays 7. A tie with an even code below it stays; "
        "with an odd one below it, it goes up. The sign goes into bit 3.",
        "Compare `steps[:, None]` with the seven: a table [32, 7] of `>`. In columns 1, 3 and 5 "
        "(0.75, 1.75, 3.5) the code below is odd, so there it is `>=`. The sum of a row is its "
        "code; add 8 where the sign is set, and make uint8 of it.",
    ),
)
def quantize_block(block: Tensor, scale_byte: int) -> Tensor:
    """Codes uint8 [32] of a block [32] (float32): the nearest of the values of E2M1.

    In steps of 2**(scale_byte - 127). Half-way: the even code. Above 6: 6. Bit 3 is the sign; a
    negative weight keeps it even where it rounds to zero (code 8). A weight of -0.0 may get 0 or 8.
    """
    middles = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    steps = (block / 2.0 ** (scale_byte - 127)).abs()[:, None]  # [32, 1]
    passed = steps > middles  # [32, 7]
    passed[:, 1::2] = steps >= middles[1::2]  # from an odd code a tie goes up, to the even one
    return (passed.sum(-1) + 8 * torch.signbit(block)).to(torch.uint8)


Magnitude = Callable[[Tensor], Tensor]  # of steps, at least 0, to codes 0 to 7 (or beyond)


def _slip(
    message: str,
    magnitude: Magnitude,
    scale: Callable[[Tensor, int], Tensor] = lambda block, byte: block / 2.0 ** (byte - 127),
) -> None:
    """A wrong version by its magnitudes, or by its steps."""

    def wrong(block: Tensor, scale_byte: int) -> Tensor:
        steps = scale(block, scale_byte)
        return (magnitude(steps.abs()) + 8 * torch.signbit(block)).to(torch.uint8)

    wrong.__name__ = f"_round_{len(quantize_block.mistakes)}"
    quantize_block.mistake(message)(wrong)


def _edit(message: str, change: Callable[[Tensor, Tensor, int], Any]) -> None:
    """A wrong version that changes the right codes; it also gets the block and the byte."""

    def wrong(block: Tensor, scale_byte: int) -> Any:
        return change(quantize_block.function(block, scale_byte), block, scale_byte)

    wrong.__name__ = f"_round_{len(quantize_block.mistakes)}"
    quantize_block.mistake(message)(wrong)


def _nearest(steps: Tensor) -> Tensor:
    return quantize_block.function(steps, 127)


def _count(steps: Tensor, limits: tuple[float, ...], from_limit: bool = True) -> Tensor:
    """How many of the limits are reached, or passed."""
    borders, column = torch.tensor(limits), steps[:, None]
    return (column >= borders if from_limit else column > borders).sum(-1)


def _three_zones(steps: Tensor) -> Tensor:
    """Rounding by the gap of each zone, without an end."""
    low, middle = (2 * steps).round(), steps.round() + 2
    high = (steps / 2).round() + 4
    return torch.where(steps < 2, low, torch.where(steps < 4, middle, high))


_slip(
    "Half-way numbers were rounded away from zero: they go to the even code (0.25 to 0, 0.75 to "
    "1). Always upwards, the mean magnitude grows.",
    lambda steps: _count(steps, _MIDDLES),
)
_slip(
    "Half-way numbers were rounded towards zero, as `argmin` does, which takes the first of two: "
    "they go to the even code.",
    lambda steps: _count(steps, _MIDDLES, from_limit=False),
)


@quantize_block.mistake(
    "`argmin` over all sixteen values takes the first of two that are equally near: half-way "
    "numbers belong to the even code, and a small negative weight to code 8."
)
def _first_of_sixteen(block: Tensor, scale_byte: int) -> Tensor:
    signed = torch.tensor([*_MAGNITUDES, *(-value for value in _MAGNITUDES)])
    steps = block / 2.0 ** (scale_byte - 127)
    return (steps[:, None] - signed).abs().argmin(-1).to(torch.uint8)


@quantize_block.mistake(
    "Half-way numbers went to the code nearer to the bottom of the table: they go to the even "
    "code, with either sign."
)
def _lower_tie(block: Tensor, scale_byte: int) -> Tensor:
    steps = block / 2.0 ** (scale_byte - 127)
    down = _count(steps.abs(), _MIDDLES, from_limit=False)
    up = _count(steps.abs(), _MIDDLES)
    return torch.where(block < 0, up + 8, down).to(torch.uint8)


_slip(
    "Half-way numbers went to the odd code: they go to the even one (bit 0 is 0).",
    lambda steps: torch.where(
        (down := _count(steps, _MIDDLES, from_limit=False)) % 2 == 0, _count(steps, _MIDDLES), down
    ),
)
_slip(
    "Half-way numbers went to the even value where there is one: they go to the even code (0.75 to "
    "1, which is code 2).",
    lambda steps: (
        (steps[:, None] - (values := torch.tensor(_MAGNITUDES))).abs() + 1e-6 * values.fmod(2)
    ).argmin(-1),
)
_slip(
    "The magnitudes were cut down to the next smaller value: take the nearest.",
    lambda steps: _count(steps, _MAGNITUDES[1:]),
)
_slip(
    "The magnitudes were raised to the next larger value: take the nearest.",
    lambda steps: _count(steps, _MAGNITUDES[:-1], from_limit=False),
)
_slip(
    "What lies above 6 got a code of more than three bits, which runs into the sign: 6 (code 7) "
    "is the end.",
    _three_zones,
)
_slip(
    "What lies above 6 wrapped around: 6 (code 7) is the end, clamp before you mask.",
    lambda steps: _three_zones(steps) % 8,
)
_slip(
    "The codes were taken for equal steps of 1: their values are 0, 0.5, 1, 1.5, 2, 3, 4, 6.",
    lambda steps: steps.round().clamp(max=7),
)
_slip(
    "The codes were taken for equal steps of 0.5: that holds up to 2, then the gaps are 1 and 2.",
    lambda steps: (2 * steps).round().clamp(max=7),
)
_slip(
    "The codes were taken for equal steps between 0 and 6: their values are 0, 0.5, 1, 1.5, 2, 3, "
    "4, 6.",
    lambda steps: (steps / 6 * 7).round().clamp(max=7),
)
_slip(
    "The 127 is missing: one step is 2**(scale_byte - 127), not 2**scale_byte.",
    _nearest,
    lambda block, byte: block / 2.0**byte,
)


@quantize_block.mistake("The 127 is missing: one step is 2**(scale_byte - 127), not 2**scale_byte.")
def _power_too_large(block: Tensor, scale_byte: int) -> Tensor:
    return _nearest(block / 2**scale_byte)


_slip(
    "The block was multiplied by the scale: divide, so that a weight of one step becomes 1.",
    _nearest,
    lambda block, byte: block * 2.0 ** (byte - 127),
)
_slip(
    "Two things: the block was multiplied by the scale (divide it), and half-way numbers were "
    "rounded towards zero, as `argmin` does (they go to the even code).",
    lambda steps: _count(steps, _MIDDLES, from_limit=False),
    lambda block, byte: block * 2.0 ** (byte - 127),
)
_slip("The scale was not used: divide the block by it first.", _nearest, lambda block, byte: block)


def _own_scale(block: Tensor, byte: int) -> Tensor:
    from labhelpers.exercises.mxfp4.scaling import choose_scale

    return block / 2.0 ** (choose_scale.function(block) - 127)


_slip("A scale was chosen anew: use the one that is given.", _nearest, _own_scale)
_slip(
    "The block was divided by its own largest weight: use the scale that is given.",
    _nearest,
    lambda block, byte: block / block.abs().max() * 6,
)
_edit("The sign is lost: bit 3 (8) is set for negative weights.", lambda c, b, s: c & 7)
_edit(
    "Negative weights that round to zero lost their sign: their code is 8. (The value is the same; "
    "a flipped sign then flips bit 3 everywhere.)",
    lambda c, b, s: torch.where(c == 8, 0, c).to(torch.uint8),
)
_edit(
    "Positive weights that round to zero got code 8: that is -0, and 0 is code 0.",
    lambda c, b, s: torch.where(c == 0, 8, c).to(torch.uint8),
)
_edit("The sign bit is the wrong way round: it is set for negative weights.", lambda c, b, s: c ^ 8)
_edit(
    "Negative codes are in two's complement: here bit 3 is a sign, and the other three are the "
    "same for both.",
    lambda c, b, s: torch.where(c > 7, (24 - c.int()) % 16, c).to(torch.uint8),
)
_edit(
    "The sign was made by a minus, and a byte has no negative numbers: set bit 3, + 8.",
    lambda c, b, s: torch.where(c > 7, -(c & 7), c),
)
for _zero in (16, 8):
    _edit(
        "The sign was made by 16 - k, which is two's complement: here it is bit 3 alone, k + 8.",
        lambda c, b, s, zero=_zero: torch.where(  # type: ignore[misc]
            c == 8, zero, torch.where(c > 8, 24 - c.int(), c.int())
        ).to(torch.uint8),
    )
_edit("The sign stands in bit 0: its place is bit 3.", lambda c, b, s: (c & 7) << 1 | c >> 3)
_edit("Bit 3 is the fourth bit: it is worth 8, not 16.", lambda c, b, s: (c & 7) + (c >> 3) * 16)
_edit("Bit 3 is the fourth bit: it is worth 8, not 4.", lambda c, b, s: (c & 7) | (c >> 3) * 4)


def _values(codes: Tensor) -> Tensor:
    magnitude = torch.tensor(_MAGNITUDES)[(codes & 7).long()]
    return torch.where(codes > 7, -magnitude, magnitude)


for _scaled in (False, True):
    _edit(
        "These are the rounded weights: asked are their codes, 0 to 15.",
        lambda c, b, s, scaled=_scaled: _values(c) * (2.0 ** (s - 127) if scaled else 1),  # type: ignore[misc]
    )
for _dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.float32):
    _edit(
        "The codes are right, but not bytes: add `.to(torch.uint8)`.",
        lambda c, b, s, dtype=_dtype: c.to(dtype),  # type: ignore[misc]
    )
