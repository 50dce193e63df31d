"""Attention of one new token a row over its cache, with sinks, the keys split among programs.

The idea   a token's 8 query heads of a KV head read the same keys, so one program takes all 8, and
           a context of thousands of keys is cut into splits, so that 8 KV heads fill a GPU. Each
           split keeps its own maximum, sum and weighted values. The last program of a KV head to
           finish (it counts, in GPU memory) puts the splits together: no second kernel. Which one
           is last varies, what it adds up and in which order does not: same bits every run.
gpt-oss    a sink is one more logit of each head, which takes its share of the softmax and brings no
           value: it enters once, where the splits meet. Sliding layers keep 128 keys in a ring,
           full ones all of them; the position is in the keys (RoPE), so their order is free, and
           `min(position + 1, places)` of the first places are real. No mask by distance is needed.
Choices    How many splits is fixed by the cache's size, since a CUDA graph cannot change its grid;
           how many keys each takes is worked out from the position, which lies in GPU memory.
           Tensor cores want 16 rows: half of them stay empty, which costs nothing, because
           reading the keys is what takes the time. Probabilities are rounded to bf16 for the second
           product, as in the model; sums are fp32.
Measured   on an H100 at 4K: 6 us in a sliding layer, 12 in a full one, of which reading the keys
           is 2.8. Asking for the first block before `wait_for_previous` saved nothing that stands
           out of the noise: it is steps that wait for each other, not loading, that take the time.
Limits     D must be a power of two, 16 or more. A full cache is not noticed here: `decoder` does.
           Caches of more than LONG places want
           137 KB of shared memory in a multiprocessor (A100, H100).

Letters: B rows, N query heads, K KV heads, G = N / K, D head_dim, C places in the cache.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import torch
from torch import Tensor

from labhelpers.kernels.triton_or_not import (
    INTERPRETED,
    jit,
    let_next_start,
    overlap,
    tl,
    triton,
    wait_for_previous,
)

PROGRAMS = 256  # about two a multiprocessor
LONG = 8192  # places


@jit
def _meet(sums, tops, totals, sinks, out, place, kv_head, G: tl.constexpr, D: tl.constexpr,
          HEADS: tl.constexpr, SPLITS: tl.constexpr):  # fmt: skip
    """Put the splits of a KV head together. Their results come from L2 (".cg"), not from L1."""
    split, g, d = tl.arange(0, SPLITS)[:, None], tl.arange(0, HEADS), tl.arange(0, D)
    real = g < G
    at = (place * SPLITS + split) * G + g[None, :]  # [SPLITS, HEADS]
    top = tl.load(tops + at, mask=real[None, :], other=0, cache_modifier=".cg")
    total = tl.load(totals + at, mask=real[None, :], other=0, cache_modifier=".cg")
    part = tl.load(sums + at[:, :, None] * D + d[None, None, :], mask=real[None, :, None], other=0,
                   cache_modifier=".cg")  # [SPLITS, HEADS, D]  # fmt: skip
    sink = tl.load(sinks + kv_head * G + g, mask=real, other=0).to(tl.float32)
    best = tl.maximum(tl.max(top, 0), sink)
    fade = tl.exp(top - best[None, :])  # 0 for a split without keys
    total = tl.sum(total * fade, 0) + tl.exp(sink - best)  # the sink brings no value
    mixed = tl.sum(part * fade[:, :, None], 0) / total[:, None]  # [HEADS, D]
    tl.store(out + (place * G + g)[:, None] * D + d[None, :], mixed.to(out.dtype.element_ty),
             mask=real[:, None])  # fmt: skip


@jit
def _add(query, k, v, there, scale, top, total, mixed, DOT: tl.constexpr):
    """Take in a block of keys and values [BLOCK, D]: running maximum, sum and mixed values."""
    score = tl.dot(query.to(DOT), tl.trans(k.to(DOT)), input_precision="ieee") * scale
    score = tl.where(there[None, :], score, float("-inf"))  # [ROWS, BLOCK]
    # A split without keys keeps -inf; -inf - -inf would be NaN.
    new_top = tl.maximum(top, tl.max(score, 1))
    safe = tl.where(new_top == float("-inf"), 0.0, new_top)
    p = tl.exp(score - safe[:, None])
    fade = tl.exp(top - safe)  # 0 the first time: top is -inf
    mixed = tl.dot(p.to(DOT), v.to(DOT), mixed * fade[:, None], input_precision="ieee")
    return new_top, total * fade + tl.sum(p, 1), mixed


@jit
def _attend(q, keys, values, sinks, position, sums, tops, totals, finished, out, scale, C,
            K: tl.constexpr, G: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
            HEADS: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, DOT: tl.constexpr,
            PDL: tl.constexpr):  # fmt: skip
    """One split of one KV head of one row; the last split to finish writes the result."""
    let_next_start(PDL)
    split, kv_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    place = row * K + kv_head
    g, d = tl.arange(0, ROWS), tl.arange(0, D)
    real = g < G
    keys += place.to(tl.int64) * C * D
    values += place.to(tl.int64) * C * D
    # Nobody writes the position during a step. From L2: L1 may have that of the last one.
    now = tl.load(position + row, cache_modifier=".cg")
    length = tl.minimum(now + 1, C)
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(begin + share, length)
    # The first block is on its way before q is there. Of all keys only the newest is younger
    # than this step: it is put in afterwards.
    s = begin + tl.arange(0, BLOCK)
    there = s < end
    at = s[:, None] * D + d[None, :]
    k = tl.load(keys + at, mask=there[:, None], other=0, cache_modifier=".cg")
    v = tl.load(values + at, mask=there[:, None], other=0, cache_modifier=".cg")
    wait_for_previous(PDL)
    query = tl.load(q + (place * G + g)[:, None] * D + d[None, :], mask=real[:, None], other=0)
    newest = now % C
    new_k = tl.load(keys + newest * D + d, cache_modifier=".cg")
    new_v = tl.load(values + newest * D + d, cache_modifier=".cg")
    k = tl.where((s == newest)[:, None], new_k[None, :], k)
    v = tl.where((s == newest)[:, None], new_v[None, :], v)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, D], tl.float32)
    top, total, mixed = _add(query, k, v, there, scale, top, total, mixed, DOT)
    for start in range(begin + BLOCK, end, BLOCK):
        s = start + tl.arange(0, BLOCK)
        there = s < end
        k = tl.load(keys + s[:, None] * D + d[None, :], mask=there[:, None], other=0)
        v = tl.load(values + s[:, None] * D + d[None, :], mask=there[:, None], other=0)
        top, total, mixed = _add(query, k, v, there, scale, top, total, mixed, DOT)

    if SPLITS > 1:
        at = (place * SPLITS + split) * G + g  # [ROWS]
        tl.store(sums + at[:, None] * D + d[None, :], mixed, mask=real[:, None])
        tl.store(tops + at, top, mask=real)
        tl.store(totals + at, total, mask=real)
        tl.debug_barrier()  # all of this program's stores come before it counts itself
        if tl.atomic_add(finished + place, 1, sem="acq_rel") != SPLITS - 1:
            return
        tl.store(finished + place, 0)  # for the next launch
        _meet(sums, tops, totals, sinks, out, place, kv_head, G, D, HEADS, SPLITS)
    else:
        sink = tl.load(sinks + kv_head * G + g, mask=real, other=0).to(tl.float32)
        best = tl.maximum(top, sink)
        fade = tl.exp(top - best)
        total = total * fade + tl.exp(sink - best)  # the sink takes its share and brings nothing
        mixed = mixed * (fade / total)[:, None]
        tl.store(out + (place * G + g)[:, None] * D + d[None, :], mixed.to(out.dtype.element_ty),
                 mask=real[:, None])  # fmt: skip


class Attention:
    """Attention for one cache shape; owns the scratch tensors that the splits meet in."""

    def __init__(self, cache: Tensor, groups: int, splits: int | None = None) -> None:
        """cache [B, K, C, D] (its shape and device count); groups: query heads a KV head."""
        batch, kv_heads, capacity, dim = cache.shape
        self.groups, self.heads = groups, triton.next_power_of_2(groups)
        self.block = min(128, max(16, triton.next_power_of_2(capacity)))
        # Measured on an H100: in a long cache fewer splits, whose loads are issued further ahead.
        most, self.stages = (16, 5) if capacity > LONG else (32, 3)
        if splits is None:
            fit = 1 if capacity <= self.block else PROGRAMS // (batch * kv_heads)
            splits = 1 << (max(1, min(fit, most)).bit_length() - 1)  # a power of two
        self.splits = splits
        parts, device = batch * kv_heads * splits * groups, cache.device
        self.sums = torch.empty(parts, dim, device=device)
        self.tops, self.totals = torch.empty(2, parts, device=device)
        self.finished = torch.zeros(batch * kv_heads, dtype=torch.int32, device=device)

    def __call__(
        self, q: Tensor, keys: Tensor, values: Tensor, sinks: Tensor, position: Tensor, out: Tensor
    ) -> None:
        """out [B, N, D] from q [B, N, D] and the caches [B, K, C, D] up to position int [B].

        sinks [N]. The caches must already hold the tokens at `position`.
        """
        batch, kv_heads, capacity, dim = keys.shape
        early = overlap(q)
        _attend[(self.splits, kv_heads, batch)](
            q, keys, values, sinks, position, self.sums, self.tops, self.totals, self.finished,
            out, dim**-0.5, capacity, K=kv_heads, G=self.groups, D=dim, ROWS=max(16, self.heads),
            HEADS=self.heads, BLOCK=self.block, SPLITS=self.splits,
            DOT=tl.float32 if INTERPRETED else tl.bfloat16,  # see triton_or_not
            num_warps=4, num_stages=self.stages, **early,
        )  # fmt: skip
