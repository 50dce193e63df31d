"""Exercise on memory: how many gigabytes a model's weights take.

Source of the solution: (32 * 4 + 8) / 32 = 4.25 bits a weight for MXFP4; a test holds it equal to
`labhelpers.accounting.weight_bytes` for both models.
Limits: weights alone; the KV cache and what a framework adds come on top.
"""

from __future__ import annotations

from typing import Any

from labhelpers.exercises.core import Case, exercise


@exercise(
    "2.5",
    minutes=10,
    difficulty=1,
    cases=[
        Case("gpt-oss-20b", lambda: (20_914_757_184, 19_110_297_600, 4, 32)),
        Case("gpt-oss-120b", lambda: (116_829_156_672, 114_661_785_600, 4, 32)),
        Case("6 bits in blocks of 16", lambda: (9_000_000_000, 8_000_000_000, 6, 16)),
    ],
    tolerance=1e-4,
    hints=(
        "Count bits, in two sorts of parameters: those in blocks, and the rest. `total` is both "
        "together. What does a weight in a block take on the average, its part of the scale "
        "included?",
        "A weight in a block takes its own bits and one part in `block` of the scale's eight: 4.25 "
        "for MXFP4. One of the rest takes 16. Add, then make bytes of bits and gigabytes of bytes.",
        "Bits: `in_blocks` times `(code_bits + 8 / block)`, and 16 times what is left of `total` "
        "without them. Eight bits are a byte, 10**9 bytes a gigabyte; divide with `/`, not `//`.",
    ),
)
def weight_gigabytes(total: int, in_blocks: int, code_bits: int, block: int) -> float:
    """Gigabytes (10**9 bytes) of a model with `total` parameters, as a float.

    `in_blocks` of these parameters (`total` includes them) lie in blocks: they have code_bits
    each, and every `block` of them share a scale of one byte. The others are bf16.
    """
    bits = in_blocks * (code_bits + 8 / block) + (total - in_blocks) * 16
    return bits / 8 / 1e9


def _slip(
    message: str, scale: float = 8, others: float = 16, all_in_blocks: bool = False,
    twice: bool = False, none_others: bool = False, bits: float | None = None,
    per_weight: bool = False, width: int | None = None, unit: float = 8e9, blocks: bool = False,
) -> None:  # fmt: skip
    """A wrong version. scale, others: bits; unit: of the result, in bits; blocks: are counted."""

    def wrong(total: int, in_blocks: int, code_bits: int, block: int) -> Any:
        in_blocks *= block if blocks else 1
        rest = 0 if none_others else total if twice else total - in_blocks
        counted = total if all_in_blocks else in_blocks
        each = code_bits if bits is None else bits
        shared = scale if per_weight else scale / (width or block)
        amount = counted * (each + shared) + (0 if all_in_blocks else rest * others)
        return amount / unit

    wrong.__name__ = f"_size_{len(weight_gigabytes.mistakes)}"
    weight_gigabytes.mistake(message)(wrong)


_slip(
    "The scales are missing: one byte for every `block` weights. (`8 // block` is 0, `8 / block` "
    "is not.)",
    scale=0,
)
_slip("Everything was taken for blocks: the others are bf16, 16 bits each.", all_in_blocks=True)
_slip(
    "Everything was taken for blocks, and the scales are forgotten: the others are bf16.",
    all_in_blocks=True,
    scale=0,
)
_slip(
    "Weights in blocks were counted twice: `total` includes them, the others are the rest.",
    twice=True,
)
_slip("The others are missing: `total - in_blocks` parameters are bf16.", none_others=True)
_slip("bf16 has 16 bits, two bytes: the others were taken for float32.", others=32)
_slip("bf16 has 16 bits, two bytes: the others were taken for one byte.", others=8)
_slip("bf16 has 16 bits, two bytes: the others were counted as two bits.", others=2)
_BLOCKS = "`in_blocks` was taken for a number of blocks: it counts parameters, those in blocks."
_slip(_BLOCKS, blocks=True)
_slip(_BLOCKS, blocks=True, twice=True)
_slip("The scale was counted as eight bytes: it is one byte, eight bits.", scale=64)
_slip("The scale was taken for float32: it is one byte.", scale=32)
_slip("The scale was taken for bf16: it is one byte.", scale=16)
_slip("A scale is a byte, eight bits: one bit was counted.", scale=1)
_slip("Each weight got a scale of its own: a block shares one.", per_weight=True)
_slip("The 4.25 bits of MXFP4 are written into the code: use code_bits and block.", bits=4.25,
      scale=0)  # fmt: skip
_slip("Blocks of 32 are written into the code: use `block`.", width=32)
_slip("Codes of 4 bits are written into the code: use code_bits.", bits=4)
_slip("That is the size in bf16 throughout: what lies in blocks has fewer bits.", bits=16, scale=0)
_slip("These are GiB, 2**30 bytes: asked are gigabytes of 10**9.", unit=8 * 2**30)
_slip(
    "These are GiB, 2**30 bytes, and the scales are missing: asked are gigabytes of 10**9, with "
    "a byte for every `block` weights.",
    unit=8 * 2**30,
    scale=0,
)
_slip("These are gigabits: eight bits are a byte.", unit=1e9)
_slip("These are bytes: a gigabyte has 10**9.", unit=8)
_slip("These are bits: eight are a byte, and 10**9 bytes a gigabyte.", unit=1)
_slip("These are megabytes: a gigabyte has 10**9 bytes.", unit=8e6)
_slip("These are MiB: asked are gigabytes of 10**9 bytes.", unit=8 * 2**20)


_DECIMALS = "The decimals are cut off: asked is a float, so divide by `/` and do not round."


@weight_gigabytes.mistake(_DECIMALS)
def _whole(total: int, in_blocks: int, code_bits: int, block: int) -> int:
    return int(weight_gigabytes.function(total, in_blocks, code_bits, block))


@weight_gigabytes.mistake(_DECIMALS)
def _rounded(total: int, in_blocks: int, code_bits: int, block: int) -> int:
    return round(weight_gigabytes.function(total, in_blocks, code_bits, block))
