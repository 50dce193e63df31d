"""Dequantise into transformers' order, [in, out], without unpacking first and turning after.

The idea   turning a bf16 matrix costs several times what unpacking costs, so the packed words
           are turned instead, which are a quarter as many. A word of two bytes holds four codes;
           with the output index innermost a whole row of words is treated alike, by
           shifts and a mask that need no table. Bits s e e m of a code, put at bits 15 and
           11-9 of an fp16, read as that code's value times 2**-14 (subnormals included, since
           E2M1 has them in the same place); the fp32 product with 2**(scale - 113) is exact.
gpt-oss    transformers keeps gate_up_proj as [E, H, 2I] and down_proj as [E, I, H]; the packed
           tensors are [E, 2I, H/32, 16] and [E, H, I/32, 16].
Sources    transformers' `convert_moe_packed_tensors`, which ends in transpose and contiguous.
Limits     as `fast`. For a layer that only multiplies, `dequantize_fast(...).mT` is a free view.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labhelpers.mxfp4.fast import Job, as_words, power_table, prepare, share_out
from labhelpers.mxfp4.grid import BIAS, BLOCK

TILE_ROWS, TILE_GROUPS = 960, 30  # half a MiB of words, as much again shifted, one of fp32
LIFT = 14  # an fp16's smallest normal number is 2**-14, a code's is 1
MASK = 0x8E00 - 2**16  # sign bit, two exponent bits, one mantissa bit, as int16


def dequantize_transposed(
    blocks: Tensor,
    scales: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    out: Tensor | None = None,
    threads: int | None = None,
) -> Tensor:
    """uint8 [..., R, G, 16] and [..., R, G] to a contiguous [..., 32 G, R] of dtype.

    The values, and their order in memory, are those of `convert_moe_packed_tensors`. out and
    threads as in `dequantize_fast`. Raises ValueError, also if there is no R to turn.
    """
    if scales.ndim < 2:
        raise ValueError(f"scales {list(scales.shape)} have no rows to turn: expected [..., R, G]")
    *experts, rows, groups = scales.shape
    out = prepare(blocks, scales, dtype, (*experts, groups * BLOCK, rows), out)
    count = math.prod(experts)
    words = as_words(blocks, torch.int16).view(count, rows, groups, 8)
    scales = scales.reshape(count, rows, groups)
    results = out.view(count, groups, 8, 4, rows)  # word j of a block holds values 4j to 4j + 3
    # 2**(scale - 113) is beyond fp32 above scale 240, so there the lift takes a step of its own.
    high = scales.numel() > 0 and int(scales.max()) > 2 * BIAS - LIFT
    powers = power_table(0 if high else LIFT, torch.float32)

    def worker() -> Callable[[Job], None]:
        size = min(TILE_ROWS, rows) * min(TILE_GROUPS, groups) * 8
        turned, shifted = torch.empty(2, size, dtype=torch.int16)
        wide = torch.empty(size)

        def unpack(job: Job) -> None:
            expert, row, group = job
            tile = words[expert, row, group].squeeze(0)  # [r, g, 8]
            r, g = tile.shape[:2]
            shape = (g, 8, r)
            w, s, f = (b[: tile.numel()].view(shape) for b in (turned, shifted, wide))
            w.view(g * 8, r).copy_(tile.reshape(r, g * 8).T)
            power = powers.index_select(0, scales[expert, row, group].mT.flatten().int())
            for k in range(4):
                # Code k's sign goes to bit 15; the shift back fills with copies of it, and the
                # mask leaves one.
                torch.bitwise_left_shift(w, 12 - 4 * k, out=s)
                s.bitwise_right_shift_(3).bitwise_and_(MASK)
                f.copy_(s.view(torch.float16))
                if high:
                    f *= 2.0**LIFT
                f *= power.view(g, 1, r)
                results[expert, group, :, k, row].squeeze(0).copy_(f)

        return unpack

    share_out(_tiles(*words.shape[:3]), worker, threads)
    return out


def _tiles(experts: int, rows: int, groups: int) -> list[Job]:
    """(expert, rows, groups) of every tile."""
    return [
        (slice(e, e + 1), slice(r, r + TILE_ROWS), slice(g, g + TILE_GROUPS))
        for e in range(experts)
        for g in range(0, groups, TILE_GROUPS)
        for r in range(0, rows, TILE_ROWS)
    ]
