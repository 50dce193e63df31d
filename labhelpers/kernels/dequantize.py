"""MXFP4 to bf16 on the GPU, at the speed of a copy.

The idea   17 bytes are read for every 64 written, and nothing is used twice: the floor is that
           traffic over the memory's copy bandwidth. So the kernel only has to keep the memory
           busy, with wide accesses and little arithmetic.
Choices    one int32, 8 weights, becomes 16 bytes of output: a thread's store is then as wide as a
           GPU can make it, and a warp's 512 bytes lie side by side. Pairs of bf16 are built as
           int32 (an fp32 cut in half is a bf16, and these numbers lose nothing by it), because a
           16-bit store a weight would be eight times the instructions.
Fallback   `labhelpers.mxfp4.dequantize`, bit for bit the same, runs where `why_not` gives a reason.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import torch
from torch import Tensor

from labhelpers.kernels.bits import fp4_tiny, power_of_two
from labhelpers.kernels.triton_or_not import jit, runs, tl, triton
from labhelpers.mxfp4 import format as mx

# Words a program, and its warps: 8 words a thread, all loaded before the first is used.
WORDS, WARPS = 1024, 4


@jit
def _dequantize(blocks, scales, out, words, WORDS: tl.constexpr):
    """blocks int32 [words], scales uint8 [words / 4] -> out int32 [words, 4]."""
    # 64 bits: one matrix of gpt-oss-120b's 128 experts has more than 2**30 pairs.
    index = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    inside = index < words
    word = tl.load(blocks + index, mask=inside, other=0, eviction_policy="evict_first")
    power = power_of_two(tl.load(scales + index // 4, mask=inside, other=127))[:, None]
    byte = tl.arange(0, 4)[None, :]  # a thread has all four, so these shifts are constants
    # 2**126 first: after it the numbers are 0.5 to 6, so no scale can make a product inexact.
    low = fp4_tiny(word[:, None] << (28 - 8 * byte)) * 2.0**126 * power
    high = fp4_tiny(word[:, None] << (24 - 8 * byte)) * 2.0**126 * power
    low_half = (low.to(tl.int32, bitcast=True) >> 16) & 0xFFFF
    pair = low_half | (high.to(tl.int32, bitcast=True) & -0x10000)
    tl.store(out + index[:, None] * 4 + byte, pair, mask=inside[:, None])


def dequantize(blocks: Tensor, scales: Tensor, words: int = WORDS, warps: int = WARPS) -> Tensor:
    """Unpack blocks uint8 [..., G, 16] and scales uint8 [..., G] to bf16 [..., 32 G].

    Exact, with every corner of `labhelpers.mxfp4.dequantize`. `words` (a power of two) and `warps`
    are for tuning. Raises ValueError for wrong dtypes or shapes.
    """
    mx.check_packed(blocks, scales)
    if not runs(blocks, "dequantize") or scales.numel() == 0:
        return mx.dequantize(blocks, scales)
    blocks, scales = blocks.contiguous(), scales.contiguous()
    if blocks.data_ptr() % 16:
        blocks = blocks.clone()
    *lead, groups = scales.shape
    out = torch.empty(*lead, groups * mx.BLOCK, dtype=torch.bfloat16, device=blocks.device)
    source, target = blocks.view(-1).view(torch.int32), out.view(-1).view(torch.int32)
    grid = (triton.cdiv(len(source), words),)
    _dequantize[grid](source, scales, target, len(source), WORDS=words, num_warps=warps)
    return out
