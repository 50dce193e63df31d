"""Exercise on debugging: packed weights are wrong, and the numbers say in which way.

Source of the cases: `damages`, beside this file. The solution undoes each damage in turn and looks
whether the weights are right then; whoever tells them by their symptoms is right too.
Wrong versions: `diagnosing_slips`.
Limits: the damages are pure. In a real file two may meet, which here is "other".
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.mxfp4.damages import NAMES, damage, symptoms
from labhelpers.exercises.words import Words
from labhelpers.mxfp4 import dequantize, fake_quantize, quantize

SIZE = 96
Arguments = tuple[Tensor, Tensor, Tensor]


@cache  # a case hands out copies
def _weight(seed: int, scale: float = 0.1) -> Tensor:
    """[96, 96], of which neighbouring blocks and rows differ in size, as real ones do."""
    sizes = 2.0 ** (numbers(SIZE, SIZE // 32, seed=seed + 40, scale=1.2).round())  # 1/4 .. 4
    return numbers(SIZE, SIZE, seed=seed, scale=scale) * sizes.repeat_interleave(32, -1)


@cache
def _damaged(name: str, seed: int, scale: float = 0.1) -> Arguments:
    weight = _weight(seed, scale)
    return *damage(name, weight), weight


@cache
def _one_clipped() -> Arguments:
    """Floor's scale in one block of 288: by its error the whole looks as good as the right one."""
    weight = _weight(11)
    blocks, scales = quantize(weight)
    clipped, finer = quantize(weight, "floor")
    row, group = (finer != scales).nonzero()[-1].tolist()
    blocks[row, group], scales[row, group] = clipped[row, group], finer[row, group]
    return blocks, scales, weight


@cache
def _zero_block() -> Arguments:
    """Nothing wrong: a block of zeros may have any scale, and a zero either sign."""
    weight = _weight(12).clone()
    weight[5, 32:64] = 0.0
    blocks, scales = quantize(weight)
    scales[5, 1], blocks[5, 1] = 127, 0x88
    return blocks, scales, weight


@cache
def _two_at_once() -> Arguments:
    blocks, scales, weight = _damaged("nibbles", 13)
    return blocks, scales.roll(1, -1), weight


def _seen(got: Any, expected: str, blocks: Tensor, scales: Tensor, reference: Tensor) -> str:
    """The symptoms, for whoever gave one of the names."""
    if not isinstance(got, str) or got not in (*NAMES, "other"):
        return ""
    if expected == "fine" and all(map(torch.equal, (blocks, scales), quantize(reference))):
        return (
            "Here all is as it should be. Did you compare with the reference itself? It is not "
            "rounded: use `fake_quantize(reference)`."
        )
    found = symptoms(blocks, scales, reference)
    return (
        f"Here {100 * found.same:.3g}% of the weights are what they should be, "
        f"{100 * found.in_block:.3g}% of the blocks hold the right values in some order, and the "
        f"largest magnitude is {found.largest:.2g} times the reference's. Such shares differ from "
        "weights to weights: undo each damage instead, or do it again, and compare."
    )


# The names of the cases must not give away the answers.
@exercise(
    "2.8",
    minutes=30,
    difficulty=3,
    cases=[
        Case("weights a", lambda: _damaged("fine", 1)),
        Case("weights b", lambda: _damaged("nibbles", 2)),
        Case("weights c", lambda: _damaged("ggml", 3)),
        Case("weights d", lambda: _damaged("scales", 4)),
        Case("weights e", lambda: _damaged("bias", 5)),
        Case("weights f", lambda: _damaged("floor", 6)),
        Case("weights g", lambda: _damaged("transposed", 7)),
        Case("weights h", lambda: _damaged("rows", 8)),
        Case("weights i (larger ones)", lambda: _damaged("bias", 9, scale=40.0)),
        Case("weights j", _one_clipped),
        Case("weights k (with a block of zeros)", _zero_block),
        Case("weights l", _two_at_once),
    ],
    words=Words(point=_seen),
    hints=(
        "What would the weights be if nothing had gone wrong? Not the reference itself, which is "
        "not rounded: `fake_quantize(reference)`. Unpack what you got with `dequantize(blocks, "
        "scales, torch.float32)` and compare the two; equal means fine.",
        "For each damage write down how to undo it, and look whether undoing it gives the right "
        "weights, all of them. The floor rule cannot be undone, but done again: "
        "`fake_quantize` takes a rule. What none of the repairs explains is `other`.",
        "Nibbles: `blocks << 4 | blocks >> 4`. GGML: take all low nibbles, then all high ones, and "
        "pack neighbours. Scales: `roll` the other way. Bias: add 127 to the bytes, which wrap "
        "around. Rows: the first half goes to the even rows. Transposed: round the transposed "
        "reference, its blocks ran along the other dimension.",
    ),
)
def diagnose(blocks: Tensor, scales: Tensor, reference: Tensor) -> str:
    """What went wrong while `reference` [96, 96] (fp32, rows out, not rounded) was packed? A name.

    "fine"; "nibbles": exchanged in each byte; "ggml": code j with j + 16; "scales": each block
    has that of the block before it in its row, the first that of the last; "bias": the bare
    exponent as a byte, without the 127 (-4 is 252); "floor": that rule, in at least one block;
    "transposed": packed as [in, out]; "rows": gate rows, then up rows, where they should
    alternate; else "other", such as two of these at once. blocks uint8 [96, 3, 16], scales
    uint8 [96, 3].
    """
    right = fake_quantize(reference)
    codes = torch.cat((blocks & 15, blocks >> 4), -1)  # GGML's order: low ones first
    order = torch.arange(len(blocks)).view(2, -1).T.flatten()  # 0, 48, 1, 49, ...
    repaired = {
        "fine": (blocks, scales),
        "nibbles": (blocks << 4 | blocks >> 4, scales),
        "ggml": (codes[..., ::2] | codes[..., 1::2] << 4, scales),
        "scales": (blocks, scales.roll(-1, -1)),
        "bias": (blocks, scales + 127),
        "rows": (blocks[order], scales[order]),
    }
    for name, pair in repaired.items():
        if torch.equal(dequantize(*pair, torch.float32), right):
            return name
    got = dequantize(blocks, scales, torch.float32)
    if torch.equal(got, fake_quantize(reference.T)):
        return "transposed"
    floor = fake_quantize(reference, "floor")
    alike = (got == right) | (got == floor)  # in one block or in all of them
    return "floor" if alike.all() else "other"
