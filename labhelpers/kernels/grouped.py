"""MXFP4 experts for a whole prompt: tokens sorted by expert, each weight unpacked once a tile.

The idea   many tokens share an expert, so its weights should be read once for all of them. Sort
           the (token, slot) pairs by expert, cut each expert's run into tiles of ROWS, and let
           one program multiply one tile by COLUMNS rows of the expert's matrix on tensor cores,
           unpacking MXFP4 to bf16 on the way from memory to the multiplier.
gpt-oss    1,024 tokens of gpt-oss-20b are 128 a expert: one tile an expert, so nothing is unpacked
           twice. Both matrices go through one kernel; only what happens to its sum differs
           (clamped SwiGLU after gate_up, the routing weight after down).
Choices    How many tiles an expert needs is data, which the host must not wait for. The grid has
           the most that T tokens can need, T k // ROWS + E, and what is left over returns at
           once; the table of tiles is made by torch on the GPU. A CUDA graph can hold it all.
           The plain grid, not a persistent one: programs are long (some 50 microseconds), so
           starting them costs nothing, and the reader has one loop less to understand.
           A token's k results are written apart in fp32 and summed in a fixed order: no atomics,
           the same bits on every run.
           Unpacking costs 7 instructions a weight here, so below about 64 tokens an expert it is
           this, not the tensor cores, that takes the time.
Fallback   `experts_plain` runs where `why_not` gives a reason.
Limits     ids out of range are not noticed; inner values pass through bf16, as in transformers.

Letters: T tokens, k experts a token, S = T k, H hidden, I intermediate, E experts, G = in / 32.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labhelpers.kernels.bits import clamped_swiglu, fp4_tiny, power_of_two
from labhelpers.kernels.packed import Packed, check_experts, experts_plain
from labhelpers.kernels.triton_or_not import INTERPRETED, jit, runs, tl, triton


class Tuning(NamedTuple):
    """Tile of a program, tokens x outputs x inputs, and how it is run."""

    rows: int = 128  # tokens
    columns: int = 128  # outputs
    depth: int = 64  # inputs a step; a multiple of 32
    warps: int = 8
    stages: int = 3  # loads are issued this many steps ahead, less one


class Plan(NamedTuple):
    """Which pairs, of which expert, each tile multiplies."""

    order: Tensor  # [S] int64: pairs (token * k + slot) sorted by expert
    tile_expert: Tensor  # [tiles] int64; E for a tile that is not needed
    tile_start: Tensor  # [tiles] int64: its first place in `order`
    expert_end: Tensor  # [E] int64: one past an expert's last place in `order`


def plan(expert_ids: Tensor, experts: int, rows: int) -> Plan:
    """Sort the pairs of expert_ids [T, k] and cut each expert's run into tiles of `rows`."""
    flat = expert_ids.flatten().long()
    order = flat.argsort(stable=True)
    counts = torch.zeros(experts, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))  # bincount would make the host wait
    expert_end = counts.cumsum(0)
    tiles_end = ((counts + rows - 1) // rows).cumsum(0)  # [E]
    most = len(flat) // rows + min(experts, len(flat))
    tile = torch.arange(most, device=flat.device)
    tile_expert = torch.searchsorted(tiles_end, tile, right=True)  # E past the last tile
    safe = tile_expert.clamp_max(experts - 1)
    before = tiles_end[safe] - (counts[safe] + rows - 1) // rows  # tiles of earlier experts
    tile_start = expert_end[safe] - counts[safe] + (tile - before) * rows
    return Plan(order, tile_expert, tile_start, expert_end)


@jit
def _grouped(x, order, tile_expert, tile_start, expert_end, weights, blocks, scales, bias, out,
             alpha, limit, G, N, EXPERTS: tl.constexpr, PAIRS_A_ROW: tl.constexpr,
             SWIGLU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
             DOT: tl.constexpr):  # fmt: skip
    """One tile: out[pair] = f(x[pair // PAIRS_A_ROW] @ matrix[expert].T + bias)."""
    tile = tl.program_id(1)
    expert = tl.load(tile_expert + tile)
    if expert >= EXPERTS:
        return
    place = tl.load(tile_start + tile) + tl.arange(0, ROWS)
    row_ok = place < tl.load(expert_end + expert)
    pair = tl.load(order + place, mask=row_ok, other=0)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    column_ok = columns < N
    x += (pair // PAIRS_A_ROW)[:, None] * (32 * G)
    start = (expert * N + columns)[:, None] * G  # first block of each matrix row

    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for group in range(0, G, DEPTH // 32):
        inputs = group * 32 + tl.arange(0, DEPTH)[None, :]
        word = group * 4 + tl.arange(0, DEPTH // 8)[None, :]
        block = group + tl.arange(0, DEPTH // 32)[None, :]
        left = tl.load(x + inputs, mask=row_ok[:, None] & (inputs < 32 * G), other=0)
        packed = tl.load(blocks + 4 * start + word, mask=column_ok[:, None] & (word < 4 * G),
                         other=0)  # fmt: skip
        scale = tl.load(scales + start + block, mask=column_ok[:, None] & (block < G), other=127)
        # Nibbles 0 to 7 of a word are 8 neighbours: three joins put them side by side.
        n04 = tl.join(fp4_tiny(packed << 28), fp4_tiny(packed << 12))
        n15 = tl.join(fp4_tiny(packed << 24), fp4_tiny(packed << 8))
        n26 = tl.join(fp4_tiny(packed << 20), fp4_tiny(packed << 4))
        n37 = tl.join(fp4_tiny(packed << 16), fp4_tiny(packed))
        tiny = tl.join(tl.join(n04, n26), tl.join(n15, n37)).reshape(COLUMNS, DEPTH // 32, 32)
        # 2**126 and the scale one after the other, so that no scale makes a product inexact.
        right = (tiny * 2.0**126 * power_of_two(scale)[:, :, None]).reshape(COLUMNS, DEPTH)
        total = tl.dot(left.to(DOT), tl.trans(right.to(DOT)), total, input_precision="ieee")

    total += tl.load(bias + expert * N + columns, mask=column_ok, other=0).to(tl.float32)[None, :]
    if SWIGLU:
        pairs = total.reshape(ROWS, COLUMNS // 2, 2)  # even rows of the matrix, odd
        value = clamped_swiglu(pairs, alpha, limit)
        column = tl.program_id(0) * (COLUMNS // 2) + tl.arange(0, COLUMNS // 2)
        width = N // 2
    else:
        weight = tl.load(weights + pair, mask=row_ok, other=0).to(tl.float32)
        value = total * weight[:, None]
        column = columns
        width = N
    mask = row_ok[:, None] & (column < width)[None, :]
    tl.store(out + pair[:, None] * width + column[None, :], value.to(out.dtype.element_ty), mask)


def experts_grouped(
    hidden: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    gate_up: Packed,
    down: Packed,
    alpha: float = 1.702,
    limit: float = 7.0,
    dtype: torch.dtype = torch.bfloat16,
    tuning: Tuning = Tuning(),  # noqa: B008 (immutable)
) -> Tensor:
    """Sum of the chosen experts' outputs, each times its weight, for any number of tokens.

    hidden bf16 [T, H]; expert_ids int [T, k]; weights [T, k]; gate_up [E, 2I, H] and down
    [E, H, I] packed. Returns [T, H] of `dtype`. Raises ValueError for shapes, dtypes or devices
    that do not fit.
    """
    check_experts(hidden, expert_ids, weights, gate_up, down)
    if not runs(hidden, "experts_grouped") or len(hidden) == 0:
        return experts_plain(hidden, expert_ids, weights, gate_up, down, alpha, limit).to(dtype)
    hidden, weights = hidden.contiguous(), weights.contiguous()
    tiles = plan(expert_ids, len(gate_up.scales), tuning.rows)
    pairs, top_k = expert_ids.numel(), expert_ids.shape[1]
    inner = hidden.new_empty(pairs, down.inputs)  # [S, I] in the order of pairs, not of experts
    inner = inner.float() if INTERPRETED else inner
    launch(hidden, tiles, weights, gate_up, inner, top_k, True, alpha, limit, tuning)
    parts = torch.empty(pairs, down.outputs, dtype=torch.float32, device=hidden.device)
    launch(inner, tiles, weights, down, parts, 1, False, alpha, limit, tuning)
    return parts.unflatten(0, (-1, top_k)).sum(1).to(dtype)


def launch(
    x: Tensor, tiles: Plan, weights: Tensor, matrix: Packed, out: Tensor, pairs_a_row: int,
    swiglu: bool, alpha: float, limit: float, tuning: Tuning,
) -> None:  # fmt: skip
    """The kernel alone: fills out [S, I] (swiglu) or [S, H] from x [S / pairs_a_row, in]."""
    blocks, scales, bias = matrix
    grid = (triton.cdiv(matrix.outputs, tuning.columns), len(tiles.tile_expert))
    _grouped[grid](
        x, *tiles, weights, blocks.view(torch.int32), scales, bias, out, alpha, limit,
        scales.shape[2], matrix.outputs, EXPERTS=len(scales), PAIRS_A_ROW=pairs_a_row,
        SWIGLU=swiglu, ROWS=tuning.rows, COLUMNS=tuning.columns, DEPTH=tuning.depth,
        DOT=tl.float32 if INTERPRETED else tl.bfloat16,  # see triton_or_not
        num_warps=tuning.warps, num_stages=tuning.stages,
    )  # fmt: skip
