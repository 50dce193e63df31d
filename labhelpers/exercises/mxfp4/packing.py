"""Exercise on bytes: two codes in each, in the order in which Hugging Face stores them.

Source of the solution: transformers' `convert_moe_packed_tensors` reads the low nibble first; a
test holds it equal to `labhelpers.mxfp4.pack`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.words import Words


def _codes(factor: int, start: int) -> tuple[Tensor]:
    return (((factor * torch.arange(32) + start) % 16).to(torch.uint8),)


def _how_many(got: Any, expected: Tensor, codes: Tensor) -> str:
    if isinstance(got, Tensor) and got.numel() == codes.numel():
        return "Two codes share a byte, so 32 of them are 16 bytes."
    return ""


@exercise(
    "2.4",
    minutes=5,
    difficulty=1,
    cases=[
        Case("codes 0, 1, 2, ...", lambda: _codes(1, 0)),
        Case("mixed codes", lambda: (_codes(7, 3)[0] ^ _codes(1, 5)[0] >> 2,)),
        Case("the same code everywhere", lambda: _codes(0, 9)),
    ],
    words=Words(point=_how_many),
    hints=(
        "A byte has eight bits, and a code four. So one code goes in as it is, the other is moved "
        "up by four bits, and both are laid over each other. Which is which?",
        "Slices with a step take every other code, from the first on or from the second on: two "
        "rows of 16. Shift the odd ones by 4 and join the rows with `|`.",
        "`codes[::2]` are the even ones, `codes[1::2]` the odd ones. Mind the order in Python: "
        "`<<` comes before `|`, but after `+`; with a `+`, use parentheses.",
    ),
)
def pack_block(codes: Tensor) -> Tensor:
    """Bytes uint8 [16] of 32 codes uint8 [32]: byte j holds code 2j low, code 2j + 1 high."""
    return codes[::2] | codes[1::2] << 4


@pack_block.mistake(
    "The nibbles are exchanged: the even code is the low one, the odd one is shifted."
)
def _exchanged(codes: Tensor) -> Tensor:
    return codes[::2] << 4 | codes[1::2]


_GGML = (
    "Byte j got codes j and j + 16. That is the order of GGML (llama.cpp); here neighbours share "
    "a byte, 2j and 2j + 1."
)


@pack_block.mistake(_GGML)
def _halves(codes: Tensor) -> Tensor:
    return codes[:16] | codes[16:] << 4


@pack_block.mistake(_GGML)
def _halves_exchanged(codes: Tensor) -> Tensor:
    return codes[:16] << 4 | codes[16:]


_ORDER = (
    "`<<` comes after `+` in Python: the sum was shifted, or shifted by. Use parentheses, or `|` "
    "instead of `+`."
)


@pack_block.mistake(_ORDER)
def _sum_shifted(codes: Tensor) -> Tensor:
    return codes[::2] + codes[1::2] << 4


@pack_block.mistake(_ORDER)
def _shifted_by_sum(codes: Tensor) -> Tensor:
    return codes[1::2] << 4 + codes[::2]


@pack_block.mistake("Nothing was shifted: both codes lie in the low nibble, over each other.")
def _no_shift(codes: Tensor) -> Tensor:
    return codes[::2] | codes[1::2]


@pack_block.mistake("Nothing was shifted: both codes lie in the low nibble, over each other.")
def _added(codes: Tensor) -> Tensor:
    return codes[::2] + codes[1::2]


@pack_block.mistake("A nibble has four bits: shift by 4 (or multiply by 16).")
def _by_three(codes: Tensor) -> Tensor:
    return codes[::2] | codes[1::2] << 3


@pack_block.mistake("A nibble has four bits: shift by 4 (or multiply by 16).")
def _by_eight(codes: Tensor) -> Tensor:
    return codes[::2] + codes[1::2] * 8


@pack_block.mistake("A nibble has four bits: shift by 4 (or multiply by 16).")
def _by_fifteen(codes: Tensor) -> Tensor:
    return codes[::2] + codes[1::2] * 15


@pack_block.mistake("A nibble has four bits: shift by 4 (or multiply by 16).")
def _by_ten(codes: Tensor) -> Tensor:
    return codes[::2] + codes[1::2] * 10


@pack_block.mistake("The odd codes were lost: they are the high nibbles.")
def _even_only(codes: Tensor) -> Tensor:
    return codes[::2].clone()


@pack_block.mistake("The even codes were lost: they are the low nibbles.")
def _odd_only(codes: Tensor) -> Tensor:
    return codes[1::2] << 4


@pack_block.mistake(
    "`&` keeps only bits that both have, and these have none in common: join them with `|`."
)
def _and(codes: Tensor) -> Tensor:
    return codes[::2] & codes[1::2] << 4


@pack_block.mistake("A code was paired with the one before: byte j holds codes 2j and 2j + 1.")
def _one_off(codes: Tensor) -> Tensor:
    return pack_block.function(codes.roll(1))


@pack_block.mistake("The codes lie side by side, still one a byte: two of them become one byte.")
def _pairs(codes: Tensor) -> Tensor:
    return torch.stack((codes[::2], codes[1::2]), -1)


@pack_block.mistake("The codes lie side by side, still one a byte: two of them become one byte.")
def _unpacked(codes: Tensor) -> Tensor:
    return codes.clone()


@pack_block.mistake("The codes lie side by side, still one a byte: two of them become one byte.")
def _shifted_in_a_row(codes: Tensor) -> Tensor:
    return torch.stack((codes[::2], codes[1::2] << 4), -1).flatten()


@pack_block.mistake("The codes lie side by side, still one a byte: two of them become one byte.")
def _shifted_pairs(codes: Tensor) -> Tensor:
    return torch.stack((codes[::2], codes[1::2] << 4), -1)


def _typed(dtype: torch.dtype) -> None:
    def wrong(codes: Tensor) -> Tensor:
        return pack_block.function(codes).to(dtype)

    wrong.__name__ = f"_typed_{len(pack_block.mistakes)}"
    pack_block.mistake(
        "The numbers are right, but not bytes: stay with uint8, or add `.to(torch.uint8)`."
    )(wrong)


for _dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.float32):
    _typed(_dtype)
