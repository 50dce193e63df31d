"""Exercise on a block's scale: the smallest power of two that clips nothing.

Source of the solution: triton_kernels' rule, which transformers and nano follow; a test holds it
equal to `labhelpers.mxfp4.scales.choose_scales` with "round_up".
Limits: blocks with weights up to 1.5 * 2**127, above which 6 * scale is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.words import Words


def _block(largest: float, seed: int = 0) -> tuple[Tensor]:
    """32 weights, one of them by far the largest: the others reach two fifths of it."""
    block = numbers(32, seed=seed, scale=abs(largest) / 5)
    block[9] = largest
    return (block,)


def _next_to_six_steps() -> tuple[Tensor]:
    """The first float32 above 6 * 2**-20: in float32 its log2(m / 6) is -20, without a rest."""
    border = torch.tensor(6 * 2.0**-20)
    return _block(torch.nextafter(border, torch.tensor(torch.inf)).item(), seed=7)


def _an_int(got: Any, expected: int) -> str:
    if type(got) is int:
        return ""
    kind = f"tensor of {got.dtype}" if isinstance(got, Tensor) else type(got).__name__
    return (
        f"the number is right, but it is a `{kind}`: `int(...)` makes an int of it. (In a tensor "
        "of uint8, 119 - 127 would be 248, and the scale 2 ** 248.)"
    ).replace("torch.", "")


def _more(got: Any, expected: int, block: Tensor) -> str:
    """Where a byte that is too small leaves the largest weight; or that all are zero."""
    if type(got) is not int or not 0 <= got <= 254:
        return ""
    largest = float(block.abs().max())
    if not largest:
        return "All 32 weights are zero here: the smallest byte there is will do."
    steps = largest / 2.0 ** (got - 127)
    if not 6 < steps < 1e6:
        return ""
    shown = f"{steps:.4g}" if float(f"{steps:.4g}") > 6 else f"{steps:.9g}"
    return f"With your byte the largest weight, {largest:.9g}, is {shown} steps."


@exercise(
    "2.2",
    minutes=10,
    difficulty=2,
    cases=[
        Case("a largest weight of 1.05", lambda: _block(1.05)),
        Case("a largest weight of exactly 6 steps", lambda: _block(0.75, seed=1)),
        Case("a largest weight just above 6 steps", lambda: _block(0.7505, seed=2)),
        Case("a largest magnitude that is negative", lambda: _block(-5.0, seed=3)),
        Case("a largest weight of 8", lambda: _block(8.0, seed=4)),
        Case("a largest weight of 240", lambda: _block(240.0, seed=6)),
        Case("a largest weight of 1e-40", lambda: _block(1e-40, seed=5)),
        Case("a largest weight one float32 above 6 steps", _next_to_six_steps),
        Case("a largest weight of 6 steps of 2**62", lambda: _block(6 * 2.0**62, seed=8)),
        Case("zeros", lambda: (torch.zeros(32),)),
    ],
    words=Words(point=_more, strict=_an_int),
    hints=(
        "Start from the definition: bytes 0, 1, 2, ... stand for ever larger scales, each twice "
        "the one before. The first with which no weight is above 6 steps is the answer.",
        "Two ways. A loop: take the largest magnitude, begin at byte 0, and go on while it is "
        "above six scales; zeros need no special case then. Or a formula: the logarithm of "
        "`largest / 6` to base 2, rounded up, plus 127, at least 0; zeros have no logarithm.",
        "The largest magnitude is `block.abs().max()`; make a Python float of it, for in float32 "
        "the logarithm loses what lies just above 6 steps. The scale of a byte is "
        "`2.0 ** (byte - 127)`; the condition of the `while` compares that number with 6 of these.",
    ),
)
def choose_scale(block: Tensor) -> int:
    """Scale byte of 32 weights [32] (float32), an int: the smallest one that clips nothing.

    With m the largest magnitude: the smallest byte with m <= 6 * 2**(byte - 127), and never
    below 0; so 0 for a block of zeros.
    """
    largest = float(block.abs().max())
    byte = 0
    while largest > 6 * 2.0 ** (byte - 127):
        byte += 1
    return byte


def _slip(
    message: str,
    exponent: Callable[[float], float],
    largest: Callable[[Tensor], Tensor] = lambda block: block.abs().max(),
    zero: int = 0,
    least: float = 0,
    bias: int = 127,
) -> None:
    """A wrong version. exponent: of a largest weight; zero: what a block of zeros gets."""

    def wrong(block: Tensor) -> int:
        m = float(largest(block))
        return int(max(least, exponent(m) + bias)) if m > 0 else zero

    wrong.__name__ = f"_scale_{len(choose_scale.mistakes)}"
    choose_scale.mistake(message)(wrong)


def _round_up(m: float) -> int:
    return math.ceil(math.log2(m / 6))


_FLOOR = (
    "That is the rule `floor`, the one in OCP's specification: floor(log2(m)) - 2. It clips a "
    "largest weight between 6 and 8 steps to 6. Asked is `round_up`: divide by 6, then round up."
)
_slip(
    _FLOOR,
    lambda m: math.floor(math.log2(m)) - 2,
)


@choose_scale.mistake(_FLOOR)
def _floor_of_zero(block: Tensor) -> int:
    return max(0, math.floor(math.log2(float(block.abs().max()))) - 2 + 127)


@choose_scale.mistake(_FLOOR)
def _floor_of_torch(block: Tensor) -> int:
    return max(0, int(torch.floor(torch.log2(block.abs().max()))) - 2 + 127)


_FLOAT32 = (
    "The logarithm was taken in float32: just above 6 * 2**k it is rounded to k itself, and "
    "rounding up cannot mend that. Take it of a Python float, `math.log2(m.item() / 6)`."
)


@choose_scale.mistake(_FLOAT32)
def _log_in_float32(block: Tensor) -> int:
    largest = block.abs().max()
    return max(0, int(torch.ceil(torch.log2(largest / 6))) + 127) if largest > 0 else 0


@choose_scale.mistake(_FLOAT32)
def _log_in_float32_clamped(block: Tensor) -> Tensor:
    return (torch.ceil(torch.log2(block.abs().max() / 6)) + 127).clamp(0, 254)


_LOGS = (
    "The difference (or quotient) of two logarithms is off by its last bit: for exactly 6 * 2**62 "
    "it is a hair above 62, and rounding up makes 63 of it. Divide first, and take the logarithm "
    "to base 2 of the quotient: `math.log2(m / 6)` is exact there."
)
_slip(_LOGS, lambda m: math.ceil(math.log2(m) - math.log2(6)))
_slip(_LOGS, lambda m: math.ceil(math.log(m / 6, 2)))
_slip(
    "The exponent was rounded down, so the largest weight is clipped: round up.",
    lambda m: math.floor(math.log2(m / 6)),
)
_slip(
    "The exponent was rounded to the nearest, so some blocks are clipped: round up.",
    lambda m: round(math.log2(m / 6)),
)
_slip(
    "The exponent was cut to a whole number, and `int` cuts towards 0: for weights above 6 steps "
    "round up, `math.ceil`.",
    lambda m: int(math.log2(m / 6)),
)
_slip(
    "The signs were kept while looking for the largest: a block's largest magnitude may be "
    "negative.",
    _round_up,
    largest=torch.max,
)
_slip(
    "The signs were kept while looking for the largest: a block's largest magnitude may be "
    "negative.",
    _round_up,
    largest=lambda block: block.max().abs(),
)
_slip("The mean magnitude was taken: the largest decides.", _round_up, lambda b: b.abs().mean())
_slip("The smallest magnitude was taken: the largest decides.", _round_up, lambda b: b.abs().min())
_slip(
    "This is the exponent: the byte is 127 more, so that small scales need no sign.",
    _round_up,
    least=-math.inf,
    bias=0,
)
_slip(
    "This is the exponent: the byte is 127 more, so that small scales need no sign.",
    _round_up,
    least=-math.inf,
    bias=0,
    zero=-127,
)
_slip("The bias is 127: 2**0 is byte 127.", _round_up, bias=128)
_slip("The bias is 127: 2**0 is byte 127.", _round_up, bias=126)
_slip(
    "The 127 was subtracted: the byte is the exponent and 127.",
    _round_up,
    least=-math.inf,
    bias=-127,
)
for _top in (1, 2, 4, 7, 8):
    _slip(
        "The largest value of E2M1 is 6: the largest weight may be 6 steps of the scale, no "
        f"more and no less, and here it was {_top}.",
        lambda m, top=_top: math.ceil(math.log2(m / top)),  # type: ignore[misc]
    )
_slip(
    "A largest weight of exactly 6 steps got the next scale: 6 can be said, so `<=`, not `<`.",
    lambda m: math.floor(math.log2(m / 6)) + 1,
)
_slip("A block of zeros gets byte 0, the smallest.", _round_up, zero=127)
_slip("A block of zeros gets byte 0, the smallest.", _round_up, zero=1)
_slip("A block of zeros gets byte 0, the smallest.", _round_up, zero=254)
_slip("Byte 0 is the smallest: bytes are not negative, so tiny weights get 0.", _round_up,
      least=-math.inf)  # fmt: skip
_slip("The smallest byte is 0, not 1: 2**-127 is a scale too.", _round_up, zero=1, least=1)


@choose_scale.mistake("This is the scale itself. Asked is its byte: the exponent and 127.")
def _scale_itself(block: Tensor) -> float:
    return 2.0 ** (choose_scale.function(block) - 127)


@choose_scale.mistake("This is the largest magnitude. Asked is the byte of the scale.")
def _largest(block: Tensor) -> float:
    return float(block.abs().max())


_NO_LOG = (
    "This block is all zeros, and 0 has no logarithm: look for that first. Its byte is 0, the "
    "smallest, since any scale times 0 is 0."
)


def _log(least: float) -> Callable[[Tensor], float]:
    def _log_of_zero(block: Tensor) -> float:
        return max(least, math.ceil(math.log2(float(block.abs().max()) / 6)) + 127)

    return _log_of_zero


choose_scale.mistake(_NO_LOG)(_log(0))
choose_scale.mistake(_NO_LOG)(_log(-math.inf))


@choose_scale.mistake(_NO_LOG)
def _minus_infinity(block: Tensor) -> int:
    return max(0, int(torch.ceil(torch.log2(block.abs().max() / 6))) + 127)


@choose_scale.mistake(_NO_LOG)
def _item_of_minus_infinity(block: Tensor) -> int:
    return max(0, math.ceil(torch.log2(block.abs().max() / 6)) + 127)
