"""Exercise on speed: a byte is two values, so a table of 256 pairs unpacks it in one look-up.

Source of the solution: the table of `labhelpers.mxfp4.dequantize`; a test holds it equal to it.
Limits: judged by its numbers, so whoever splits the nibbles of every byte has it right as well; a
remark then says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.words import Words
from labhelpers.mxfp4 import FP4_VALUES


def _blocks(*shape: int) -> Tensor:
    return ((37 * torch.arange(torch.Size(shape).numel()) + 11) % 256).to(torch.uint8).view(shape)


class _LookUps(TorchFunctionMode):
    """Counts what is looked up in the 16 values themselves, in steps of many bytes at once."""

    def __init__(self, least: int) -> None:
        self.least, self.found = least, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)]
        if (
            len(tensors) > 1
            and isinstance(result, Tensor)
            and min(t.numel() for t in tensors) == 16
            and result.numel() >= self.least
            and getattr(func, "__name__", "") in _LOOKING_UP
        ):
            self.found += result.numel()
        return result


_LOOKING_UP = {"__getitem__", "index_select", "take", "gather", "embedding", "take_along_dim"}


def _without_table(function: Callable[..., Any]) -> str:
    """A word to whoever looked at each nibble: right, and not yet the trick."""
    blocks = _blocks(64, 16)
    with _LookUps(blocks.numel()) as seen:
        function(blocks, torch.tensor(FP4_VALUES))
    if seen.found < 2 * blocks.numel():
        return ""
    return (
        "The numbers are right, but each byte was looked up twice, nibble by nibble: with a table "
        "of all 256 pairs, once is enough. That is what makes it fast."
    )


@exercise(
    "2.7",
    minutes=10,
    difficulty=2,
    cases=[
        Case("every byte once", lambda: (_blocks(16, 16), torch.tensor(FP4_VALUES))),
        Case("values of bf16", lambda: (_blocks(2, 3, 16), numbers(16, seed=1).bfloat16())),
        Case("a single block", lambda: (_blocks(16) ^ 90, numbers(16, seed=2))),
    ],
    axes=("block",),
    words=Words(aside=_without_table),
    hints=(
        "There are only 256 different bytes. Unpack each of them once, into a table of 256 pairs; "
        "then a block is unpacked by looking each of its bytes up.",
        "All bytes there are: `torch.arange(256)`. Their low nibbles index `values`, then their "
        "high ones; stack the two results along the last dimension. Index the table by the bytes, "
        "and flatten the pairs into a row.",
        "Low nibbles are `byte & 15`, high ones `byte >> 4`, and `torch.stack((..., ...), -1)` "
        "makes [256, 2] of them. Index with `blocks.long()`, for torch takes uint8 for a mask; "
        "`.flatten(-2)` joins the last two dimensions.",
    ),
)
def unpack_by_table(blocks: Tensor, values: Tensor) -> Tensor:
    """Values [..., 32] of bytes uint8 [..., 16]; `values` [16] holds the value of each code.

    Build a table [256, 2] first, both values of each possible byte, low nibble first. Then one
    look-up a byte does it. The dtype is that of `values`.
    """
    byte = torch.arange(256)
    table = torch.stack((values[byte & 15], values[byte >> 4]), -1)  # [256, 2]
    return table[blocks.long()].flatten(-2)  # [..., 16, 2] -> [..., 32]


def _pairs(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, values).unflatten(-1, (16, 2))


@unpack_by_table.mistake("The pairs are exchanged: the low nibble, `byte & 15`, comes first.")
def _exchanged(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).flip(-1).flatten(-2)


_APART = (
    "All low nibbles came first, then all high ones, as in GGML: the two values of a byte are "
    "neighbours."
)


@unpack_by_table.mistake(_APART)
def _apart(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).transpose(-1, -2).flatten(-2)


@unpack_by_table.mistake(_APART)
def _apart_exchanged(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).flip(-1).transpose(-1, -2).flatten(-2)


@unpack_by_table.mistake(
    "The pairs are still pairs, [..., 16, 2]: `.flatten(-2)` makes a row of 32 of them."
)
def _unflattened(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).clone()


@unpack_by_table.mistake(
    "Low and high nibbles lie in two rows, [..., 2, 16]: stack them along the last dimension, then "
    "flatten."
)
def _two_rows(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).transpose(-1, -2).contiguous()


_TABLE = (
    "The table is [2, 256], two rows of 256: it must be [256, 2], a pair for each byte. "
    "`torch.stack(..., -1)` stacks along the last dimension."
)


def _lying(values: Tensor) -> Tensor:
    byte = torch.arange(256)
    return torch.stack((values[byte & 15], values[byte >> 4]))


@unpack_by_table.mistake(_TABLE)
def _lying_table(blocks: Tensor, values: Tensor) -> Tensor:
    return _lying(values)[blocks.long()].flatten(-2)


@unpack_by_table.mistake(_TABLE)
def _lying_columns(blocks: Tensor, values: Tensor) -> Tensor:
    return _lying(values)[:, blocks.long()]


_FLAT = "Too much was flattened: only the last two dimensions, [16, 2], become one."


@unpack_by_table.mistake(_FLAT)
def _flat(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, values).flatten()


@unpack_by_table.mistake(_FLAT)
def _flat_blocks(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values).flatten(-3)


@unpack_by_table.mistake(_FLAT)
def _flat_rows(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, values).view(-1, 32)


@unpack_by_table.mistake("Both values of a byte are its low nibble's: the second is `byte >> 4`.")
def _low_twice(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks & 15 | blocks << 4, values)


@unpack_by_table.mistake("Both values of a byte are its high nibble's: the first is `byte & 15`.")
def _high_twice(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks >> 4 | blocks & 240, values)


@unpack_by_table.mistake("Only the low nibbles came out: each byte gives two values.")
def _low_only(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values)[..., 0].clone()


@unpack_by_table.mistake("Only the high nibbles came out: each byte gives two values.")
def _high_only(blocks: Tensor, values: Tensor) -> Tensor:
    return _pairs(blocks, values)[..., 1].clone()


@unpack_by_table.mistake("The mask of a nibble is 15 (1111 in bits): with 7 the sign is lost.")
def _seven(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks & 119, values)


@unpack_by_table.mistake("The mask of a nibble is 15 (1111 in bits): with 7 the sign is lost.")
def _low_seven(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks & 247, values)


@unpack_by_table.mistake("The mask of a nibble is 15 (1111 in bits), not 16.")
def _sixteen(blocks: Tensor, values: Tensor) -> Tensor:
    byte = torch.arange(256)
    high = values[byte >> 4]
    table = torch.stack((values[(byte & 16).clamp(max=15)], high), -1)
    return table[blocks.long()].flatten(-2)


@unpack_by_table.mistake("These are the codes: `values` says what each of them is worth.")
def _codes(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, torch.arange(16).to(torch.uint8))


@unpack_by_table.mistake("These are the codes: `values` says what each of them is worth.")
def _long_codes(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, torch.arange(16))


@unpack_by_table.mistake("These are the codes: `values` says what each of them is worth.")
def _float_codes(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, torch.arange(16).to(values.dtype))


@unpack_by_table.mistake("The values of E2M1 are written into the code: use the argument.")
def _own_values(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, torch.tensor(FP4_VALUES, dtype=values.dtype))


@unpack_by_table.mistake("The values of E2M1 are written into the code: use the argument.")
def _own_float_values(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, torch.tensor(FP4_VALUES))


@unpack_by_table.mistake(
    "The result is always float32: the table has the dtype of `values` (`torch.zeros(256, 2)` "
    "makes float32 unless told)."
)
def _always_float(blocks: Tensor, values: Tensor) -> Tensor:
    return unpack_by_table.function(blocks, values.float())


@unpack_by_table.mistake("The table lacks byte 255: `range(255)` ends before it, take 256.")
def _short_table(blocks: Tensor, values: Tensor) -> Tensor:
    byte = torch.arange(255)
    table = torch.stack((values[byte & 15], values[byte >> 4]), -1)
    return table[blocks.long()].flatten(-2)


@unpack_by_table.mistake("The last row of the table is empty: `range(255)` ends before byte 255.")
def _empty_row(blocks: Tensor, values: Tensor) -> Tensor:
    return (_pairs(blocks, values) * (blocks != 255)[..., None]).flatten(-2)


@unpack_by_table.mistake(
    "An index of uint8 is a mask to torch, kept from older days: use `blocks.long()` (or `.int()`)."
)
def _as_mask(blocks: Tensor, values: Tensor) -> Tensor:
    byte = torch.arange(256)
    table = torch.stack((values[byte & 15], values[byte >> 4]), -1)
    return table[blocks].flatten(-2)


@unpack_by_table.mistake(
    "An index of uint8 is a mask to torch, kept from older days: use `blocks.long()` (or `.int()`)."
)
def _nibbles_as_mask(blocks: Tensor, values: Tensor) -> Tensor:
    return torch.stack((values[blocks & 15], values[blocks >> 4]), -1).flatten(-2)


@unpack_by_table.mistake(
    "An index of uint8 is a mask to torch, kept from older days: use `.long()` (or `.int()`) on it."
)
def _table_as_mask(blocks: Tensor, values: Tensor) -> Tensor:
    byte = torch.arange(256, dtype=torch.uint8)
    table = torch.stack((values[byte & 15], values[byte >> 4]), -1)
    return table[blocks.long()].flatten(-2)
