"""The chosen experts of a few tokens, straight from MXFP4: what a decode step spends its time on.

The idea   one token reads 4 of an expert layer's 32 experts, 53 MB in 4.25 bits a weight, and uses
           each weight once. The floor is those bytes over the GPU's read bandwidth. So weights
           are unpacked in registers, and three kernels do the whole layer:
             _to_planes  activations as the others read them (a model's norm kernel can do it)
             _gate_up    two rows (gate, up) of an expert -> clamped SwiGLU -> a value of `inner`
             _down       one row of every chosen expert -> bias, routing weights, sum -> an output
gpt-oss    gate and up rows alternate, so the pair that SwiGLU needs is read by one program.
Choices    A thread reads 16 bytes, one block of 32 weights; a warp 32 blocks of a row side by
           side: 512 bytes in one instruction, and 32 scale bytes beside them.
           An H100 can issue about 5 instructions a weight in the time that its memory delivers
           one, 2.6 of those that shift and mask. So weights are unpacked and multiplied two at a
           time, as fp16 pairs: 3.8 instructions a weight in all, where fp32 took 5.4.
           fp16 holds a weight exactly, an activation with 3 bits more than bf16; 32 products are
           summed in it, then fp32 goes on. For that a token's activations are scaled by a power
           of two that puts its largest one just below fp16's limit.
           A program of `_gate_up` is one warp; in `_down` each slot has a warp.
           No split of the input dimension, no atomics: the same bits on every run.
           Tokens that share an expert read it twice, but at the same time (slots are the fastest
           axis of the grid), so the second comes from L2. Beyond 8 tokens use `grouped`.
Overlap    a kernel starts while the one before it ends (`triton_or_not.overlap`). `_down` has its
           weights on their way before it waits for `inner`. A CUDA graph can hold it all.
Fallback   `experts_plain` runs where `why_not` gives a reason.
Limits     ids out of range are not noticed; an activation under 2**-15 of its token's largest
           loses bits (fp16's subnormals), and `inner`, scaled by a bound that `limit` gives, has
           about 1e-6 as its smallest step.

Letters: T tokens, k experts a token, H hidden, I intermediate, E experts, G = in / 32.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment"

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from labhelpers.kernels.bits import (
    clamped_swiglu,
    fp4_pair,
    halves,
    pair_fma,
    pair_sum,
    plane_place,
    plane_scale,
    power_of_two,
)
from labhelpers.kernels.packed import Packed, check_experts, check_limit, experts_plain
from labhelpers.kernels.triton_or_not import (
    jit,
    let_next_start,
    overlap,
    runs,
    tl,
    triton,
    wait_for_previous,
)

MOST_TOKENS = 8
GROUPS = 32  # blocks of a row that a warp reads at a time, one a thread


class Tuning(NamedTuple):
    """Rows that a warp handles: more share activations, fewer leave room for more warps."""

    gate_up_rows: int = 4
    down_rows: int = 4
    gate_up_registers: int | None = None  # at most, a thread; None: as ptxas likes
    down_registers: int | None = None
    overlap: bool = True


def tuning_for(tokens: int) -> Tuning:
    """What was fastest on an H100."""
    # With 80 registers all programs of one token's _down run at once, in place of two rounds.
    return Tuning(down_registers=80) if tokens == 1 else Tuning()


class Planes(NamedTuple):
    """Activations [T, K] as pairs of fp16: pairs[t, p, w, h] = x[t, 8w + p + 4h] * 2**14 / unscale.

    `labhelpers.kernels.bits` has what a kernel needs to write them: plane_place and plane_scale.
    """

    pairs: Tensor  # [T, 4, K / 8, 2] fp16
    unscale: Tensor  # [T] fp32, powers of two


@jit
def _to_planes(x, pairs, unscale, K, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """One token."""
    wait_for_previous(PDL)
    let_next_start(PDL)
    token = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    value = tl.load(x + token * K + i, mask=i < K, other=0).to(tl.float32)
    multiply, back = plane_scale(tl.max(tl.abs(value)))
    tl.store(pairs + token * K + plane_place(i, K), (value * multiply).to(tl.float16), mask=i < K)
    tl.store(unscale + token, back)


@jit
def _fetch(blocks, scales, start, G: tl.constexpr, GROUPS: tl.constexpr):
    """All of some rows, on its way to registers: a tuple of words and one of scales.

    start [SLOTS, ROWS, 1] is each row's first block. An element of the tuples is GROUPS blocks of
    each row, one a thread: int32 [SLOTS, ROWS, 4 GROUPS] and uint8 [SLOTS, ROWS, GROUPS].
    start comes from a G that Triton does not know (`stride`): knowing it even, it would give a
    thread two scales, and then have to move one.
    """
    words = ()
    powers = ()
    for first in tl.static_range(0, G, GROUPS):
        word = 4 * first + tl.arange(0, 4 * GROUPS)[None, None, :]
        group = first + tl.arange(0, GROUPS)[None, None, :]
        # Weights are read once: they go first from the cache, so that activations stay.
        words += (tl.load(blocks + 4 * start + word, mask=word < 4 * G, other=0,
                          eviction_policy="evict_first"),)  # fmt: skip
        powers += (tl.load(scales + start + group, mask=group < G, other=127),)
    return words, powers


@jit
def _dot(words, powers, pairs, G: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr,
         GROUPS: tl.constexpr):  # fmt: skip
    """What `_fetch` fetched times activations: fp32 [SLOTS, ROWS]. pairs [SLOTS, 1, 1], int32."""
    sums = tl.zeros([SLOTS, ROWS, GROUPS], tl.float32)
    for step in tl.static_range(len(words)):
        word = 4 * GROUPS * step + tl.arange(0, 4 * GROUPS)[None, None, :]
        total = tl.zeros_like(words[step])  # pairs of fp16 zeros
        for pair in tl.static_range(4):
            x = tl.load(pairs + pair * (4 * G) + word, mask=word < 4 * G, other=0)
            total = pair_fma(fp4_pair(words[step], pair), x, total)
        # A block is 4 words of one thread, so this sum moves nothing between threads.
        low, high = halves(pair_sum(total.reshape(SLOTS, ROWS, GROUPS, 4)))
        sums += (low + high) * power_of_two(powers[step])
    return tl.sum(sums, 2)


@jit
def _gate_up(pairs, unscale, ids, blocks, scales, bias, inner, alpha, limit, inner_scale,
             stride, G: tl.constexpr, N: tl.constexpr, TOP_K: tl.constexpr, ROWS: tl.constexpr,
             GROUPS: tl.constexpr, EARLY: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """ROWS rows, ROWS / 2 values of inner, for one slot (a token's chosen expert)."""
    if not EARLY:
        wait_for_previous(PDL)
    slot = tl.program_id(0)
    # 64 bits: 128 experts are past 2**31 weights. ".cg": not an earlier layer's ids from L1.
    expert = tl.load(ids + slot, cache_modifier=".cg").to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    line = expert * N + tl.minimum(row, N - 1)
    words, powers = _fetch(blocks, scales, (line * stride)[None, :, None], G, GROUPS)
    # After the loads: ptxas, which likes to put them off, keeps them before this.
    if EARLY:
        wait_for_previous(PDL)
    let_next_start(PDL)
    token = slot // TOP_K
    value = _dot(words, powers, pairs + token * (16 * G), G, 1, ROWS, GROUPS).reshape(ROWS)
    value = value * tl.load(unscale + token) + tl.load(bias + line).to(tl.float32)
    value = clamped_swiglu(value.reshape(ROWS // 2, 2), alpha, limit)  # even rows, odd rows
    column = tl.program_id(1) * (ROWS // 2) + tl.arange(0, ROWS // 2)
    place = slot * (N // 2) + plane_place(column, N // 2)
    tl.store(inner + place, (value * inner_scale).to(tl.float16), mask=column < N // 2)


@jit
def _down(pairs, ids, weights, blocks, scales, bias, residual, out, inner_unscale, stride,
          G: tl.constexpr, N: tl.constexpr, TOP_K: tl.constexpr, SLOTS: tl.constexpr,
          ROWS: tl.constexpr, GROUPS: tl.constexpr, RESIDUAL: tl.constexpr,
          PDL: tl.constexpr):  # fmt: skip
    """ROWS outputs of one token: the weighted sum over its TOP_K experts (padded to SLOTS)."""
    token = tl.program_id(0)
    slot = tl.arange(0, SLOTS)
    choice = token * TOP_K + tl.minimum(slot, TOP_K - 1)
    # _gate_up has waited for whoever wrote the ids.
    expert = tl.load(ids + choice, cache_modifier=".cg").to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    line = expert[:, None] * N + tl.minimum(row, N - 1)[None, :]  # [SLOTS, ROWS]
    words, powers = _fetch(blocks, scales, (line * stride)[:, :, None], G, GROUPS)
    wait_for_previous(PDL)
    let_next_start(PDL)
    pairs += choice[:, None, None] * (16 * G)
    value = _dot(words, powers, pairs, G, SLOTS, ROWS, GROUPS) * inner_unscale
    value += tl.load(bias + line).to(tl.float32)
    weight = tl.load(weights + choice).to(tl.float32)
    # The order of this sum is fixed: the same bits on every run.
    value = tl.sum(tl.where((slot < TOP_K)[:, None], value * weight[:, None], 0), 0)
    if RESIDUAL:
        value += tl.load(residual + token * N + row, mask=row < N, other=0).to(tl.float32)
    tl.store(out + token * N + row, value.to(out.dtype.element_ty), mask=row < N)


def to_planes(x: Tensor, tuning: Tuning | None = None) -> Planes:
    """Lay x [T, K] out as the kernels read it."""
    (tokens, k), tuning = x.shape, tuning or tuning_for(len(x))
    pairs = torch.empty(tokens, 4, k // 8, 2, dtype=torch.float16, device=x.device)
    unscale = torch.empty(tokens, dtype=torch.float32, device=x.device)
    _to_planes[(tokens,)](x.contiguous(), pairs, unscale, k, BLOCK=triton.next_power_of_2(k),
                          num_warps=8, **overlap(x, tuning.overlap))  # fmt: skip
    return Planes(pairs, unscale)


def inner_power(limit: float) -> int:
    """n so that `inner`, at most (limit + 1) * limit, stays within fp16 when multiplied by 2**n."""
    return math.floor(math.log2(65504 / ((limit + 1) * limit)))


def experts_decode(
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
    """Sum of the chosen experts' outputs, each times its weight, for 1 to 8 tokens.

    hidden bf16 [T, H]; expert_ids int [T, k]; weights [T, k]; gate_up [E, 2I, H] and down
    [E, H, I] packed; limit as `check_limit` wants it; tuning None: `tuning_for`. Returns
    [T, H] of `dtype`. Between the kernels, activations are fp16 pairs (`Planes`). Raises
    ValueError for shapes, dtypes or devices that do not fit, and for more than 8 tokens.
    """
    check_experts(hidden, expert_ids, weights, gate_up, down)
    if len(hidden) > MOST_TOKENS:
        raise ValueError(
            f"experts_decode is for 1 to {MOST_TOKENS} tokens, got {len(hidden)}: each token reads "
            "its own experts. Use experts_grouped."
        )
    check_limit(alpha, limit)
    if not runs(hidden, "experts_decode") or len(hidden) == 0:
        return experts_plain(hidden, expert_ids, weights, gate_up, down, alpha, limit).to(dtype)
    ids, weights = expert_ids.contiguous(), weights.contiguous()
    planes = to_planes(hidden, tuning)
    inner = launch_gate_up(planes, ids, gate_up, alpha, limit, tuning, ids_early=True)
    return launch_down(inner, ids, weights, down, limit, dtype, tuning)


def launch_gate_up(
    planes: Planes,
    ids: Tensor,
    gate_up: Packed,
    alpha: float,
    limit: float,
    tuning: Tuning | None = None,
    inner: Tensor | None = None,
    ids_early: bool = False,
) -> Tensor:
    """The first matrix: planes of [T, H], ids [T, k] -> inner, fp16 pairs [T * k, 4, I / 8, 2].

    ids must be contiguous; inner may be given. Its scale is `inner_power`, the same for all.
    ids_early promises that the kernel just before this one did not write the ids (and has waited
    for whoever did): weights are then on their way while it runs.
    """
    (blocks, scales, bias), tuning = gate_up, tuning or tuning_for(len(ids))
    n, groups = gate_up.outputs, scales.shape[2]
    if inner is None:
        inner = planes.pairs.new_empty(ids.numel(), 4, n // 16, 2)
    grid = (ids.numel(), triton.cdiv(n, tuning.gate_up_rows))
    _gate_up[grid](planes.pairs.view(torch.int32), planes.unscale, ids, blocks.view(torch.int32),
                   scales, bias, inner, alpha, limit, 2.0 ** inner_power(limit), groups, groups, n,
                   TOP_K=ids.shape[1], ROWS=tuning.gate_up_rows, GROUPS=GROUPS, EARLY=ids_early,
                   num_warps=1, maxnreg=tuning.gate_up_registers,
                   **overlap(ids, tuning.overlap))  # fmt: skip
    return inner


def launch_down(
    inner: Tensor,
    ids: Tensor,
    weights: Tensor,
    down: Packed,
    limit: float,
    dtype: torch.dtype,
    tuning: Tuning | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The second: inner of launch_gate_up, ids and weights [T, k] -> [T, H] of `dtype`.

    residual [T, H] is added in fp32 before rounding. out may be given, and be `residual` itself.
    """
    (blocks, scales, bias), tuning = down, tuning or tuning_for(len(ids))
    n, groups, top_k = down.outputs, scales.shape[2], ids.shape[1]
    slots = triton.next_power_of_2(top_k)
    if out is None:
        out = torch.empty(len(ids), n, dtype=dtype, device=ids.device)
    grid = (len(ids), triton.cdiv(n, tuning.down_rows))
    _down[grid](inner.view(torch.int32), ids, weights, blocks.view(torch.int32), scales, bias,
                out if residual is None else residual, out, 2.0 ** (14 - inner_power(limit)),
                groups, groups, n, TOP_K=top_k, SLOTS=slots, ROWS=tuning.down_rows, GROUPS=GROUPS,
                RESIDUAL=residual is not None, num_warps=min(slots, 8),
                maxnreg=tuning.down_registers, **overlap(ids, tuning.overlap))  # fmt: skip
    return out
