"""MXFP4 experts for a whole prompt: tokens sorted by expert, each weight unpacked once a tile.

The idea   many tokens share an expert, so its weights should be read once for all of them. Sort
           the (token, slot) pairs by expert, cut each expert's run into tiles of ROWS, and let
           one program multiply COLUMNS rows of the expert's matrix by one tile on tensor cores,
           unpacking MXFP4 to bf16 on the way from memory to the multiplier.
gpt-oss    1,024 tokens of gpt-oss-20b are 128 a expert. Both matrices go through one kernel; only
           what happens to its sum differs (clamped SwiGLU after gate_up). Routing weights come
           last, in `_combine`.
Choices    Weights are the left factor: out.T = W x.T. On Hopper the left factor of a tensor core
           may lie in registers, where unpacking leaves it; as the right one it would have to go
           through shared memory. 2.5 instructions a weight, two weights at a time.
           A thread unpacks nibbles j and j + 4 of a word side by side, so that is the order in
           which a row's inputs meet the multiplier. A sum does not care, if x has the same order:
           `shuffled` puts hidden into it, and gate_up writes inner in it.
           How many tiles an expert needs is data, which the host must not wait for. The grid has
           the most that T tokens can need, T k // ROWS + E, and what is left over returns at
           once; `_plan` fills the table of tiles. A CUDA graph can hold it all.
           A token's k results are written apart and summed in a fixed order: no atomics, the same
           bits on every run.
Fallback   `experts_plain` runs where `why_not` gives a reason.
Limits     ids out of range are not noticed; inner values and a token's k results pass through
           bf16, as in transformers; blocks with scales beyond 2**-61 and 2**65 are not exact; at
           most 65,535 tiles, what a grid's second axis holds (a million tokens of gpt-oss).

Letters: T tokens, k experts a token, S = T k, H hidden, I intermediate, E experts, G = in / 32.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labhelpers.kernels.bits import (
    clamped_swiglu,
    fp4_pair_bf16,
    halves_bf16,
    pair_scaled_bf16,
)
from labhelpers.kernels.packed import Packed, check_experts, experts_plain
from labhelpers.kernels.triton_or_not import EMULATE, INTERPRETED, jit, runs, tl, triton


class Tuning(NamedTuple):
    """Tile of a program, tokens x outputs x inputs, and how it is run."""

    rows: int = 64  # tokens
    columns: int = 128  # outputs; a multiple of 64
    depth: int = 128  # inputs a step; a multiple of 32
    warps: int = 4
    stages: int = 3  # loads are issued this many steps ahead, less one


class Plan(NamedTuple):
    """Which pairs, of which expert, each tile multiplies."""

    order: Tensor  # [S] int32: pairs (token * k + slot) sorted by expert
    tile_expert: Tensor  # [tiles] int32; E for a tile that is not needed
    tile_start: Tensor  # [tiles] int32: its first place in `order`
    expert_end: Tensor  # [E] int32: one past an expert's last place in `order`


@jit
def _plan(ids, order, tile_expert, tile_start, expert_end, S, tiles, EXPERTS: tl.constexpr,
          ROWS: tl.constexpr, BINS: tl.constexpr, CHUNK: tl.constexpr,
          TILES: tl.constexpr):  # fmt: skip
    """One expert. All programs count all ids: that is quicker than to wait for each other."""
    me = tl.program_id(0)
    bins = tl.arange(0, BINS)
    counts = tl.zeros([BINS], tl.int32)
    for first in range(0, S, CHUNK):
        pair = first + tl.arange(0, CHUNK)
        counts += tl.histogram(tl.load(ids + pair, mask=pair < S, other=EXPERTS).to(tl.int32), BINS)
    counts = tl.where(bins < EXPERTS, counts, 0)  # bin EXPERTS holds what is past the end
    needed = (counts + ROWS - 1) // ROWS
    start = tl.sum(tl.where(bins < me, counts, 0), 0)
    tile = tl.sum(tl.where(bins < me, needed, 0), 0)
    end = start + tl.sum(tl.where(bins == me, counts, 0), 0)
    tl.store(expert_end + me, end)
    index = tl.arange(0, TILES)
    mine = index < (end - start + ROWS - 1) // ROWS
    tl.store(tile_expert + tile + index, me, mask=mine)
    tl.store(tile_start + tile + index, start + index * ROWS, mask=mine)
    if me == 0:
        tl.store(tile_expert + index, EXPERTS, mask=(index >= tl.sum(needed, 0)) & (index < tiles))
    for first in range(0, S, CHUNK):
        pair = first + tl.arange(0, CHUNK)
        hit = (tl.load(ids + pair, mask=pair < S, other=EXPERTS) == me).to(tl.int32)
        tl.store(order + start + tl.cumsum(hit, 0) - 1, pair, mask=hit == 1)
        start += tl.sum(hit, 0)


def plan(expert_ids: Tensor, experts: int, rows: int) -> Plan:
    """Sort the pairs of expert_ids [T, k] and cut each expert's run into tiles of `rows`."""
    pairs = expert_ids.numel()
    tiles = pairs // rows + min(experts, pairs)  # the most that may be needed
    empty = torch.empty(pairs + 2 * tiles + experts, dtype=torch.int32, device=expert_ids.device)
    result = Plan(*empty.split([pairs, tiles, tiles, experts]))
    _plan[(experts,)](expert_ids.contiguous(), *result, pairs, tiles, EXPERTS=experts, ROWS=rows,
                      BINS=triton.next_power_of_2(experts + 1),
                      CHUNK=min(4096, triton.next_power_of_2(pairs)),
                      TILES=triton.next_power_of_2(tiles), num_warps=8)  # fmt: skip
    return result


@jit
def _unpack(word, scale, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """int32 [COLUMNS, DEPTH / 8], uint8 [COLUMNS, DEPTH / 32] -> bf16 [COLUMNS, DEPTH], shuffled.

    Times 2**-64: that keeps the block's power of two, times the 2**126 that fp4_pair_bf16 lacks,
    within bf16.
    """
    field = tl.minimum(scale.to(tl.int32) + 62, 254) << 7  # exponent of 2**(scale - 127 + 126 - 64)
    field = tl.where(scale == 255, 0x7FC0, field)
    field = (field | (field << 16))[:, :, None]
    power = tl.broadcast_to(field, (COLUMNS, DEPTH // 32, 4)).reshape(COLUMNS, DEPTH // 8)
    low0, high0 = halves_bf16(pair_scaled_bf16(fp4_pair_bf16(word, 0), power))
    low1, high1 = halves_bf16(pair_scaled_bf16(fp4_pair_bf16(word, 1), power))
    low2, high2 = halves_bf16(pair_scaled_bf16(fp4_pair_bf16(word, 2), power))
    low3, high3 = halves_bf16(pair_scaled_bf16(fp4_pair_bf16(word, 3), power))
    first = tl.join(tl.join(low0, high0), tl.join(low1, high1))
    second = tl.join(tl.join(low2, high2), tl.join(low3, high3))
    # Now [column, word, half, pair % 2, pair // 2]. In a block: pair, word, half. A tensor core's
    # thread has two neighbours (half) of each 8 (pair), and which two is the word.
    value = tl.join(first, second).reshape(COLUMNS, DEPTH // 32, 4, 2, 2, 2)
    return value.permute(0, 1, 5, 4, 2, 3).reshape(COLUMNS, DEPTH)


@jit
def _done(total):
    """The same, and nothing after it starts before the tensor cores are done.

    They read `left` from registers while the program goes on, and in Triton 3.6's machine code
    the next step unpacked into those registers without a wait, which gave NaN on an H100 with
    tiles of 128 tokens. Using the sum makes the program wait; ptxas removes the move. What the
    wait costs: benchmarks/README.md.
    """
    if EMULATE:
        return total
    else:
        return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=f,f", [total], dtype=tl.float32,
                                         is_pure=True, pack=1)  # fmt: skip


@jit
def _grouped(x, order, tile_expert, tile_start, expert_end, blocks, scales, bias, out, alpha,
             limit, experts, stride, G: tl.constexpr, N: tl.constexpr, PAIRS_A_ROW: tl.constexpr,
             SWIGLU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
             DEPTH: tl.constexpr):  # fmt: skip
    """One tile: out[pair] = f(matrix[expert] @ x[pair // PAIRS_A_ROW] + bias); stride is G."""
    tile = tl.program_id(1)
    expert = tl.load(tile_expert + tile)
    if expert >= experts:
        return
    place = tl.load(tile_start + tile) + tl.arange(0, ROWS)
    row_ok = place < tl.load(expert_end + expert)
    pair = tl.load(order + place, mask=row_ok, other=0)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    line = expert.to(tl.int64) * N + tl.minimum(column, N - 1)
    start = (line * stride)[:, None]  # first block of each matrix row
    x += (pair // PAIRS_A_ROW).to(tl.int64)[:, None] * (32 * G)
    total = tl.zeros([COLUMNS, ROWS], tl.float32)
    for group in range(0, G, DEPTH // 32):
        word = group * 4 + tl.arange(0, DEPTH // 8)[None, :]
        block = group + tl.arange(0, DEPTH // 32)[None, :]
        inputs = group * 32 + tl.arange(0, DEPTH)[None, :]
        packed = tl.load(blocks + 4 * start + word, mask=word < 4 * G, other=0)
        scale = tl.load(scales + start + block, mask=block < G, other=127)
        right = tl.load(x + inputs, mask=inputs < 32 * G, other=0)
        left = _unpack(packed, scale, COLUMNS, DEPTH)
        total = _done(tl.dot(left, tl.trans(right), total, input_precision="ieee"))

    total = total * 2.0**64 + tl.load(bias + line).to(tl.float32)[:, None]
    if SWIGLU:
        gate_and_up = total.reshape(COLUMNS // 2, 2, ROWS).permute(0, 2, 1)  # even rows, odd rows
        value = clamped_swiglu(gate_and_up, alpha, limit)
        value = value.reshape(COLUMNS // 64, 4, 2, 4, ROWS).permute(0, 3, 1, 2, 4)  # see `shuffled`
        value = value.reshape(COLUMNS // 2, ROWS)
        at = tl.program_id(0) * (COLUMNS // 2) + tl.arange(0, COLUMNS // 2)
        width = N // 2
    else:
        value = total
        at = column
        width = N
    mask = row_ok[None, :] & (at < width)[:, None]
    out += pair.to(tl.int64)[None, :] * width + at[:, None]
    tl.store(out, value.to(out.dtype.element_ty), mask=mask)


@jit
def _combine(parts, weights, out, width, TOP_K: tl.constexpr, BLOCK: tl.constexpr):
    """out[token] = the weighted sum of its TOP_K parts, in fp32 and in their order."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for slot in tl.static_range(TOP_K):
        pair = token * TOP_K + slot
        part = tl.load(parts + pair * width + column, mask=column < width, other=0)
        total += part.to(tl.float32) * tl.load(weights + pair).to(tl.float32)
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=column < width)


def shuffled(x: Tensor) -> Tensor:
    """x [T, K] with each 32 inputs in the order in which unpacked weights meet them.

    Input 8 word + 4 half + pair moves to place 8 pair + 2 word + half.
    """
    return x.unflatten(1, (-1, 4, 2, 4)).permute(0, 1, 4, 2, 3).reshape(x.shape)


def tuning_for(pairs_an_expert: float) -> Tuning:
    """What was fast on an H100 for this many pairs, on average."""
    if pairs_an_expert < 12:
        return Tuning(rows=16, stages=4)
    if pairs_an_expert < 48:
        return Tuning(rows=32, stages=4)
    if pairs_an_expert < 200:
        return Tuning(rows=64, depth=64, stages=4)
    return Tuning(rows=128, depth=64, warps=8)


def experts_grouped(
    hidden: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    gate_up: Packed,
    down: Packed,
    alpha: float = 1.702,
    limit: float = 7.0,
    dtype: torch.dtype = torch.bfloat16,
    tuning: Tuning | None = None,
) -> Tensor:
    """Sum of the chosen experts' outputs, each times its weight, for any number of tokens.

    hidden bf16 [T, H]; expert_ids int [T, k]; weights [T, k]; gate_up [E, 2I, H] and down
    [E, H, I] packed; tuning None: `tuning_for`. Returns [T, H] of `dtype`. Raises ValueError for
    shapes, dtypes or devices that do not fit.
    """
    check_experts(hidden, expert_ids, weights, gate_up, down)
    if not runs(hidden, "experts_grouped") or len(hidden) == 0:
        return experts_plain(hidden, expert_ids, weights, gate_up, down, alpha, limit).to(dtype)
    experts, pairs, top_k = len(gate_up.scales), expert_ids.numel(), expert_ids.shape[1]
    tuning = tuning or tuning_for(pairs / experts)
    tiles = plan(expert_ids, experts, tuning.rows)
    between = torch.float32 if INTERPRETED else torch.bfloat16  # see triton_or_not
    x = shuffled(hidden.to(between))
    inner = x.new_empty(pairs, down.inputs)  # [S, I] in the order of pairs, not of experts
    launch(x, tiles, gate_up, inner, top_k, True, alpha, limit, tuning)
    parts = x.new_empty(pairs, down.outputs)
    launch(inner, tiles, down, parts, 1, False, alpha, limit, tuning)
    out = torch.empty(len(hidden), down.outputs, dtype=dtype, device=hidden.device)
    grid = (len(hidden), triton.cdiv(down.outputs, 1024))
    _combine[grid](parts, weights.contiguous(), out, down.outputs, TOP_K=top_k, BLOCK=1024,
                   num_warps=4)  # fmt: skip
    return out


def launch(
    x: Tensor, tiles: Plan, matrix: Packed, out: Tensor, pairs_a_row: int, swiglu: bool,
    alpha: float, limit: float, tuning: Tuning,
) -> None:  # fmt: skip
    """The kernel alone: fills out [S, I] (swiglu) or [S, H] from x [S / pairs_a_row, in]."""
    blocks, scales, bias = matrix
    grid = (triton.cdiv(matrix.outputs, tuning.columns), len(tiles.tile_expert))
    groups = scales.shape[2]
    _grouped[grid](
        x, *tiles, blocks.view(torch.int32), scales, bias, out, alpha, limit,
        len(scales), groups, G=groups, N=matrix.outputs, PAIRS_A_ROW=pairs_a_row, SWIGLU=swiglu,
        ROWS=tuning.rows, COLUMNS=tuning.columns, DEPTH=tuning.depth, num_warps=tuning.warps,
        num_stages=tuning.stages,
    )  # fmt: skip
