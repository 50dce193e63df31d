"""The wrong versions of exercise 2.1, by name: formulas with slips, other formats, other types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.mxfp4.decoding import decode_e2m1

Small = Callable[[Tensor, Tensor], Tensor]


def _value(
    sign: Tensor, e: Tensor, m: Tensor, bias: float = 1, hidden: float = 1, unit: float = 2,
    small: Small | None = None, apart: bool = False,
) -> Tensor:  # fmt: skip
    """The formula with slips. small(m, normal): where e is 0; apart: 1 + m/2 * 2**(e - 1)."""
    power = 2 ** (e - bias)
    normal = hidden + m / unit * power if apart else (hidden + m / unit) * power
    at_zero = m / unit * 2 ** (1 - bias) if small is None else small(m, normal)
    return torch.where(sign == 1, -1, 1) * torch.where(e == 0, at_zero, normal)


def _fields(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return codes >> 3, (codes >> 1 & 3).float(), (codes & 1).float()


def _slip(message: str, **slips: Any) -> None:
    """A wrong version by options of `_value`."""

    def wrong(codes: Tensor) -> Tensor:
        return _value(*_fields(codes), **slips)

    wrong.__name__ = f"_decode_{len(decode_e2m1.mistakes)}"
    decode_e2m1.mistake(message)(wrong)


def _table(message: str, values: tuple[float, ...]) -> None:
    """A wrong version by its sixteen values."""

    def wrong(codes: Tensor) -> Tensor:
        return torch.tensor(values)[codes.long()]

    wrong.__name__ = f"_decode_{len(decode_e2m1.mistakes)}"
    decode_e2m1.mistake(message)(wrong)


_slip(
    "Codes with exponent 0 got the formula of all others: there the leading 1 is missing and the "
    "value is m/2, so that zero can be said.",
    small=lambda m, normal: normal,
)
for _small in (
    lambda m, normal: m / 4,
    lambda m, normal: m,
    lambda m, normal: 1 + m / 2,
):
    _slip(
        "Only the codes with exponent 0 are wrong (the first two of each sign): their value is "
        "m/2, that is 0 and 0.5.",
        small=_small,
    )
_slip(
    "Codes with exponent 0 became infinite: their formula is another, m/2. (In bytes 0 - 1 is 255, "
    "and 2.0 ** 255 is infinite in float32: make floats of the fields first.)",
    small=lambda m, normal: torch.full_like(m, torch.inf),
)
_slip(
    "Code 1 became 0: with exponent 0 the mantissa still counts, as 0.5; such a number is called "
    "subnormal. (In bytes 0 - 1 is 255, and 2 ** 255 is 0 there.)",
    small=lambda m, normal: 0 * m,
)
_slip(
    "The leading 1 is missing: where the exponent is not 0, the value is (1 + m/2) * 2**(e - 1).",
    hidden=0,
    small=lambda m, normal: normal,
)
_slip(
    "The leading 1 is missing: where the exponent is not 0, the value is (1 + m/2) * 2**(e - 1).",
    hidden=0,
)
for _bias, _half in ((0, False), (0, True), (2, False), (2, True), (3, True)):
    _slip(
        "The exponent's bias is 1: take one from e, no more and no less.",
        bias=_bias,
        small=(lambda m, normal: m / 2) if _half else None,
    )
_slip(
    "Parentheses are missing: 2**(e - 1) multiplies all of 1 + m/2, not the mantissa alone.",
    small=lambda m, normal: m / 2,
    apart=True,
)
for _unhalved in (None, lambda m, normal: m / 2):
    _slip(
        "The mantissa bit counts a half: 1 + m/2, not 1 + m (6 is 1.5 * 2**2).",
        unit=1,
        small=_unhalved,
    )


@decode_e2m1.mistake("The sign bit is ignored: codes 8 to 15 are the negatives of 0 to 7.")
def _no_sign(codes: Tensor) -> Tensor:
    return decode_e2m1.function(codes & 7)


_WRAPS = (
    "The sign was computed in bytes, where 1 - 2 is 255: make another type of it first, "
    "`sign.float()` say."
)


@decode_e2m1.mistake(_WRAPS)
def _sign_wraps(codes: Tensor) -> Tensor:
    return (1 - 2 * (codes >> 3)) * decode_e2m1.function(codes & 7)


@decode_e2m1.mistake(_WRAPS)
def _power_wraps(codes: Tensor) -> Tensor:
    return (-1) ** (codes >> 3) * decode_e2m1.function(codes & 7)


@decode_e2m1.mistake("The sign is the other way round: bit 3 is 1 for negative numbers.")
def _sign_flipped(codes: Tensor) -> Tensor:
    return -decode_e2m1.function(codes)


@decode_e2m1.mistake(
    "These are the values with one bit of exponent and two of mantissa. It is the other way round: "
    "E2M1."
)
def _e1m2(codes: Tensor) -> Tensor:
    magnitude = (codes & 7).float() / 2
    return torch.where(codes > 7, -magnitude, magnitude)


@decode_e2m1.mistake(
    "The fields are in another order: from the top they are sign, exponent (two bits), mantissa."
)
def _mantissa_above(codes: Tensor) -> Tensor:
    return _value(codes >> 3, (codes & 3).float(), (codes >> 2 & 1).float())


@decode_e2m1.mistake(
    "The fields are in another order: from the top they are sign, exponent (two bits), mantissa."
)
def _sign_below(codes: Tensor) -> Tensor:
    return _value(codes & 1, (codes >> 2).float(), (codes >> 1 & 1).float())


@decode_e2m1.mistake(
    "The fields are in another order: from the top they are sign, exponent (two bits), mantissa."
)
def _reversed(codes: Tensor) -> Tensor:
    exponent = (codes >> 1 & 1) * 2 + (codes >> 2 & 1)
    return _value(codes & 1, exponent.float(), (codes >> 3).float())


@decode_e2m1.mistake("The exponent has two bits: mask with 3 after the shift, not with 1.")
def _one_bit(codes: Tensor) -> Tensor:
    return _value(codes >> 3, (codes >> 1 & 1).float(), (codes & 1).float())


@decode_e2m1.mistake(
    "The sign bit got into the exponent: of `codes >> 1` only the lowest two bits are wanted, "
    "`& 3`."
)
def _unmasked(codes: Tensor) -> Tensor:
    return _value(codes >> 3, (codes >> 1).float(), (codes & 1).float())


_IEEE = (
    "Exponent 3 is an ordinary exponent: E2M1 has no infinity and no NaN, as the larger formats "
    "have; codes 6 and 7 are 4 and 6."
)
_inf, _nan = float("inf"), float("nan")
_table(_IEEE, (0, 0.5, 1, 1.5, 2, 3, _inf, _nan, -0.0, -0.5, -1, -1.5, -2, -3, -_inf, _nan))
_table(_IEEE, (0, 0.5, 1, 1.5, 2, 3, _inf, _inf, -0.0, -0.5, -1, -1.5, -2, -3, -_inf, -_inf))
_table(_IEEE, (0, 0.5, 1, 1.5, 2, 3, 4, _nan, -0.0, -0.5, -1, -1.5, -2, -3, -4, _nan))


def _int4(message: str, change: Callable[[Tensor], Tensor]) -> None:
    """A wrong version in every type in which whole numbers may come."""
    for dtype in (torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):

        def wrong(codes: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            return change(codes.long()).to(dtype)

        wrong.__name__ = f"_decode_{len(decode_e2m1.mistakes)}"
        decode_e2m1.mistake(message)(wrong)


_int4(
    "These are four bits in two's complement (int4), -8 to 7: here bit 3 is a sign of its own, and "
    "the other three are exponent and mantissa of a float.",
    lambda codes: torch.where(codes > 7, codes - 16, codes),
)
_int4(
    "The three lower bits were read as a whole number, 0 to 7: they are two bits of exponent and "
    "one of mantissa.",
    lambda codes: torch.where(codes > 7, 8 - codes, codes),
)
_int4("These are the codes themselves: asked is what number each of them stands for.", lambda c: c)
_table(
    "The negatives run backwards, as in two's complement: here bit 3 is only a sign, so code 8 is "
    "-0.0 and code 15 is -6.",
    (0, 0.5, 1, 1.5, 2, 3, 4, 6, -6, -4, -3, -2, -1.5, -1, -0.5, -0.0),
)
_table(
    "The negatives run backwards, as in two's complement: here bit 3 is only a sign, so code 8 is "
    "-0.0 and code 15 is -6.",
    (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -6, -4, -3, -2, -1.5, -1, -0.5),
)
_table(
    "The gap from 4 is 2: after 4 comes 6. There is no 5 and no 8.",
    (0, 0.5, 1, 1.5, 2, 3, 4, 5, -0.0, -0.5, -1, -1.5, -2, -3, -4, -5),
)
_table(
    "The gap from 4 is 2: after 4 comes 6. There is no 5 and no 8.",
    (0, 0.5, 1, 1.5, 2, 3, 4, 8, -0.0, -0.5, -1, -1.5, -2, -3, -4, -8),
)


def _whole(dtype: torch.dtype) -> None:
    def wrong(codes: Tensor) -> Tensor:
        return decode_e2m1.function(codes).long().to(dtype)

    wrong.__name__ = f"_whole_{len(decode_e2m1.mistakes)}"
    decode_e2m1.mistake(
        "The result is of a type for whole numbers, and the halves are lost: compute in float32."
    )(wrong)


for _dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32):
    _whole(_dtype)


@decode_e2m1.mistake("The values are right, but in one long row: keep the shape of the codes.")
def _flat(codes: Tensor) -> Tensor:
    return decode_e2m1.function(codes).flatten()


@decode_e2m1.mistake(
    "`if` looks at a single number, and here are many: `torch.where(condition, a, b)` chooses for "
    "each of them."
)
def _if(codes: Tensor) -> Tensor:
    return codes / 2 if codes >> 1 & 3 == 0 else codes


@decode_e2m1.mistake(
    "The loop takes the first dimension apart, and the codes may have several: compute with whole "
    "tensors, or loop over `codes.flatten()` and restore the shape with `.reshape(codes.shape)`."
)
def _loop(codes: Tensor) -> Tensor:
    values = decode_e2m1.function(torch.arange(16)).tolist()
    return torch.tensor([values[int(code)] for code in codes])


@decode_e2m1.mistake(
    "An index of uint8 is a mask to torch, kept from older days: use `codes.long()` (or `.int()`)."
)
def _as_mask(codes: Tensor) -> Tensor:
    return decode_e2m1.function(torch.arange(16))[codes]
