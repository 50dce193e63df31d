"""Exercise on the bits of one number: what sixteen codes of E2M1 mean.

Source of the solution: OCP Microscaling Formats (MX) 1.0, section 5.3.3; a test holds it equal to
`labhelpers.mxfp4.FP4_VALUES`.
Judged in two steps: the values in any float type, so that a slip is named whatever the type; then
what the docstring also asks for, float32 and the sign of code 8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.words import Words


def _as_float32(result: Any, codes: Tensor) -> Any:
    floating = isinstance(result, Tensor) and result.is_floating_point()
    return result.float() if floating else result


def _to_the_bit(got: Tensor, expected: Tensor) -> str:
    """What is wrong though the numbers are equal: the type, or the sign of code 8."""
    if got.dtype != expected.dtype:
        name = str(got.dtype).removeprefix("torch.")
        return (
            f"the values are right, but expected dtype `float32`, got `{name}`: put `.float()` at "
            "the end. A scale of 2**-127 comes next, too small for fp16; float64 is twice as big."
        )
    if not torch.equal(torch.signbit(got), torch.signbit(expected)):
        return (
            "code 8 is -0.0, and its sign was lost. Equal as numbers, but not in bits: when the "
            "values are made codes again, 8 has become 0. (In Python `-0` is an int: `-0.0`.)"
        )
    return ""


def _codes(*shape: int) -> tuple[Tensor]:
    count = torch.Size(shape).numel()
    return (((7 * torch.arange(count) + 3) % 16).to(torch.uint8).reshape(shape),)


@exercise(
    "2.1",
    minutes=10,
    difficulty=1,
    cases=[
        Case("all sixteen codes", lambda: (torch.arange(16, dtype=torch.uint8),)),
        Case("codes of shape [2, 3, 4]", lambda: _codes(2, 3, 4)),
    ],
    axes=("part", "row"),
    observe=_as_float32,
    words=Words(strict=_to_the_bit),
    hints=(
        "Take the four bits apart first: a shift `>>` moves a field down, and `&` keeps its lowest "
        "bits. That gives three small whole numbers a code: sign, exponent, mantissa. Then "
        "compute. The bytes are unsigned: what is 0 - 1 in them?",
        "Make floats of exponent and mantissa before anything is subtracted. Compute both formulas "
        "for all codes, and let `torch.where(exponent == 0, ..., ...)` choose between them. The "
        "sign comes last.",
        "`sign = codes >> 3`, `exponent = (codes >> 1 & 3).float()`, `mantissa = (codes & "
        "1).float()`. Two `torch.where` are left: one between m/2 and the formula with the leading "
        "1, one between the magnitude and its negative.",
    ),
)
def decode_e2m1(codes: Tensor) -> Tensor:
    """Values [...] of four-bit codes [...] (uint8, 0 to 15): float32.

    Bits from the top: sign, two of exponent, one of mantissa. With exponent e and mantissa m:
    (1 + m/2) * 2**(e - 1); if e is 0, m/2. There is no infinity and no NaN; code 8 is -0.0.
    """
    sign, exponent = codes >> 3, (codes >> 1 & 3).float()
    mantissa = (codes & 1).float()
    normal = (1 + mantissa / 2) * 2 ** (exponent - 1)
    magnitude = torch.where(exponent == 0, mantissa / 2, normal)
    return torch.where(sign == 1, -magnitude, magnitude)
