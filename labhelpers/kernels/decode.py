"""The chosen experts of a few tokens, straight from MXFP4: what a decode step spends its time on.

The idea   one token reads 4 of an expert layer's 32 experts, 53 MB in 4.25 bits a weight, and uses
           each weight once. The floor is those bytes over the GPU's read bandwidth; unpacking to
           bf16 first would write and read 7.5 times as many. So weights are unpacked in
           registers, and two kernels do the whole layer:
             _gate_up   two rows (gate, up) of one expert -> clamped SwiGLU -> one value of `inner`
             _down      one row of every chosen expert -> bias, routing weights, sum -> one output
gpt-oss    gate and up rows alternate, so the pair that SwiGLU needs is read by one program.
Choices    A thread reads 16 bytes, one block of 32 weights; a warp 32 blocks of a row side by
           side: 512 bytes in one instruction, and 32 scale bytes beside them. With 4 rows a warp
           has 2 KB on their way at a time; its 90 registers leave room for 20 warps on a
           multiprocessor, so 40 KB, where about 20 KB hide the latency of an H100's memory.
           Many warps, not fetching ahead: ptxas moves loads to where it likes them anyway.
           At that speed arithmetic is as scarce as bandwidth: an H100 can issue about 5
           instructions a weight in the time that its memory delivers one. `fp4_tiny` takes 3, the
           multiply-add 1; all in all it is 5.4 with 4 rows a program, 5.2 with 8 (counted in the
           machine code). So activations arrive prepared (`planes`): multiplied by 2**96, part of
           the way back from fp4_tiny's 2**-126, and in the order in which nibbles come out of
           words. A program's rows share what it reads of them.
           No barriers: in `_gate_up` a program is one warp, in `_down` each slot has a warp, and
           only the final sum of the slots crosses warps.
           No split of the input dimension and no atomics: a layer has enough rows to fill a GPU,
           and the same input gives the same bits on every run.
           Tokens that share an expert read it twice, but at the same time (tokens are the fastest
           axis of the grid), so the second read comes from L2. Beyond 8 tokens use `grouped`.
Graphs     no look at the data and no shape that depends on it: a CUDA graph can hold it all.
Fallback   `experts_plain` runs where `why_not` gives a reason.
Limits     ids out of range are not noticed; activations must stay below 2**31 in magnitude.

Letters: T tokens, k experts a token, H hidden, I intermediate, E experts, G = in / 32.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labhelpers.kernels.bits import clamped_swiglu, fp4_tiny, power_of_two
from labhelpers.kernels.packed import Packed, check_experts, experts_plain
from labhelpers.kernels.triton_or_not import jit, runs, tl, triton

MOST_TOKENS = 8
GROUPS = 32  # blocks of a row that a warp reads at a time, one a thread
PRESCALE = 2.0**96  # of planes; the kernels multiply by the other 2**30


class Tuning(NamedTuple):
    """Rows that a program handles; more rows share activations, fewer leave more warps resident."""

    gate_up_rows: int = 4
    down_rows: int = 4


@jit
def _dot(word, scale, planes, inside, words, SLOTS: tl.constexpr, ROWS: tl.constexpr,
         GROUPS: tl.constexpr):  # fmt: skip
    """Rows times activations, for 32 blocks of each row: fp32 [SLOTS, ROWS, GROUPS].

    word int32 [SLOTS, ROWS, 4 GROUPS]; scale uint8 [SLOTS, ROWS, GROUPS]; planes points to
    [SLOTS, 1, 4 GROUPS] of plane 0, `words` apart from the next.
    """
    # Value 8 w + j of a row is nibble j of word w. The first product apart: no zeros to write.
    total = fp4_tiny(word << 28) * tl.load(planes, mask=inside, other=0)
    for nibble in tl.static_range(1, 8):
        x = tl.load(planes + nibble * words, mask=inside, other=0)
        total += fp4_tiny(word << (28 - 4 * nibble)) * x  # one FFMA in fp32, 2**-30 too small
    # A block is 4 words of one thread. The scale comes once a block, in a second step: its
    # exponent and the 2**30 together might leave fp32's range.
    blocks = tl.sum(total.reshape(SLOTS, ROWS, GROUPS, 4), 3) * 2.0**30
    return blocks * power_of_two(scale)


@jit
def _gate_up(planes, ids, blocks, scales, bias, inner, alpha, limit, G, N, TOP_K: tl.constexpr,
             STEPS: tl.constexpr, ROWS: tl.constexpr, GROUPS: tl.constexpr):  # fmt: skip
    """ROWS rows, ROWS / 2 values of inner, for one slot (a token's chosen expert)."""
    slot = tl.program_id(0)
    expert = tl.load(ids + slot).to(tl.int64)  # 64 bits: 128 experts are past 2**31 weights
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row_ok = (rows < N)[None, :, None]
    start = (expert * N + rows)[None, :, None] * G  # first block of each row
    planes += slot // TOP_K * (32 * G)
    total = tl.zeros([1, ROWS, GROUPS], tl.float32)
    for step in tl.static_range(STEPS):
        group = step * GROUPS + tl.arange(0, GROUPS)[None, None, :]
        word = 4 * step * GROUPS + tl.arange(0, 4 * GROUPS)[None, None, :]
        # Weights are read once: they go first from the cache, so that activations stay.
        packed = tl.load(blocks + 4 * start + word, mask=row_ok & (word < 4 * G), other=0,
                         eviction_policy="evict_first")  # fmt: skip
        scale = tl.load(scales + start + group, mask=row_ok & (group < G), other=127)
        total += _dot(packed, scale, planes + word, word < 4 * G, 4 * G, 1, ROWS, GROUPS)
    value = tl.sum(total, 2).reshape(ROWS)
    value += tl.load(bias + expert * N + rows, mask=rows < N, other=0).to(tl.float32)
    value = clamped_swiglu(value.reshape(ROWS // 2, 2), alpha, limit)  # even rows, odd rows
    # Into planes, as _down wants to read: value i is nibble i % 8 of word i // 8.
    column = tl.program_id(1) * (ROWS // 2) + tl.arange(0, ROWS // 2)
    place = column % 8 * (N // 16) + column // 8
    tl.store(inner + slot * (N // 2) + place, value * 2.0**96, mask=column < N // 2)


@jit
def _down(planes, ids, weights, blocks, scales, bias, out, G, N, TOP_K: tl.constexpr,
          SLOTS: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr,
          GROUPS: tl.constexpr):  # fmt: skip
    """ROWS outputs of one token: the weighted sum over its TOP_K experts (padded to SLOTS)."""
    token = tl.program_id(0)
    slots = tl.arange(0, SLOTS)
    slot_ok = slots < TOP_K
    expert = tl.load(ids + token * TOP_K + slots, mask=slot_ok, other=0).to(tl.int64)
    weight = tl.load(weights + token * TOP_K + slots, mask=slot_ok, other=0).to(tl.float32)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    ok = slot_ok[:, None] & (rows < N)[None, :]
    line = expert[:, None] * N + rows[None, :]  # [SLOTS, ROWS]
    start = line[:, :, None] * G
    planes += (token * TOP_K + slots)[:, None, None] * (32 * G)
    total = tl.zeros([SLOTS, ROWS, GROUPS], tl.float32)
    for step in tl.static_range(STEPS):
        group = step * GROUPS + tl.arange(0, GROUPS)[None, None, :]
        word = 4 * step * GROUPS + tl.arange(0, 4 * GROUPS)[None, None, :]
        packed = tl.load(blocks + 4 * start + word, mask=ok[:, :, None] & (word < 4 * G), other=0,
                         eviction_policy="evict_first")  # fmt: skip
        scale = tl.load(scales + start + group, mask=ok[:, :, None] & (group < G), other=127)
        inside = slot_ok[:, None, None] & (word < 4 * G)
        total += _dot(packed, scale, planes + word, inside, 4 * G, SLOTS, ROWS, GROUPS)
    value = tl.sum(total, 2)  # [SLOTS, ROWS]
    value += tl.load(bias + line, mask=ok, other=0).to(tl.float32)
    # A padded slot has weight 0 and value 0. The order of this sum is fixed: same bits every run.
    value = tl.sum(value * weight[:, None], 0)
    tl.store(out + token * N + rows, value.to(out.dtype.element_ty), mask=rows < N)


def to_planes(x: Tensor) -> Tensor:
    """Lay x [T, K] out as the kernels read it: fp32 [T, 8, K / 8], times 2**96.

    Plane j holds the values that meet nibble j of a word. One small launch; a model's norm
    kernel may write this order itself and save it.
    """
    split = x.unflatten(1, (-1, 8)).transpose(1, 2)
    planes = torch.empty(split.shape, dtype=torch.float32, device=x.device)
    return torch.mul(split, PRESCALE, out=planes)  # exact: bf16 has fp32's exponents


def experts_decode(
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
    """Sum of the chosen experts' outputs, each times its weight, for 1 to 8 tokens.

    hidden bf16 [T, H]; expert_ids int [T, k]; weights [T, k]; gate_up [E, 2I, H] and down
    [E, H, I] packed. Returns [T, H] of `dtype`. What lies between is fp32. Raises ValueError for
    shapes, dtypes or devices that do not fit, and for more than 8 tokens.
    """
    check_experts(hidden, expert_ids, weights, gate_up, down)
    if len(hidden) > MOST_TOKENS:
        raise ValueError(
            f"experts_decode is for 1 to {MOST_TOKENS} tokens, got {len(hidden)}: each token reads "
            "its own experts. Use experts_grouped."
        )
    if not runs(hidden, "experts_decode") or len(hidden) == 0:
        return experts_plain(hidden, expert_ids, weights, gate_up, down, alpha, limit).to(dtype)
    planes = to_planes(hidden)
    ids, weights = expert_ids.contiguous(), weights.contiguous()
    inner = launch_gate_up(planes, ids, gate_up, alpha, limit, tuning.gate_up_rows)
    return launch_down(inner, ids, weights, down, dtype, tuning.down_rows)


def launch_gate_up(
    planes: Tensor, ids: Tensor, gate_up: Packed, alpha: float, limit: float, rows: int
) -> Tensor:
    """The first kernel alone: planes [T, 8, H / 8], ids [T, k] -> planes [T * k, 8, I / 8]."""
    blocks, scales, bias = gate_up
    n, groups, top_k = gate_up.outputs, scales.shape[2], ids.shape[1]
    inner = torch.empty(ids.numel(), 8, n // 16, dtype=torch.float32, device=ids.device)
    grid = (ids.numel(), triton.cdiv(n, rows))
    _gate_up[grid](planes, ids, blocks.view(torch.int32), scales, bias, inner, alpha, limit, groups,
                   n, TOP_K=top_k, STEPS=triton.cdiv(groups, GROUPS), ROWS=rows, GROUPS=GROUPS,
                   num_warps=1)  # fmt: skip
    return inner


def launch_down(
    inner: Tensor, ids: Tensor, weights: Tensor, down: Packed, dtype: torch.dtype, rows: int
) -> Tensor:
    """The second kernel alone: planes [T * k, 8, I / 8], ids and weights [T, k] -> [T, H]."""
    blocks, scales, bias = down
    n, groups, top_k = down.outputs, scales.shape[2], ids.shape[1]
    slots = triton.next_power_of_2(top_k)
    out = torch.empty(len(ids), n, dtype=dtype, device=ids.device)
    grid = (len(ids), triton.cdiv(n, rows))
    _down[grid](inner, ids, weights, blocks.view(torch.int32), scales, bias, out, groups, n,
                TOP_K=top_k, SLOTS=slots, STEPS=triton.cdiv(groups, GROUPS), ROWS=rows,
                GROUPS=GROUPS, num_warps=min(slots, 8))  # fmt: skip
    return out
