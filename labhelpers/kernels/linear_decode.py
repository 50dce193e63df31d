"""The dense products of one token: q, k and v with RoPE, o_proj with the residual, the head.

The idea   with one token a matrix is read once and each weight used once: all that counts is that
           enough bytes are on their way at all times. So there is no loop over the inputs. A
           program owns a few rows and asks for all of them at once, into registers; 8 rows of
           2,880 in bf16 are 46 KB, two such programs on each multiprocessor 92 KB, where about
           25 KB hide the latency of an H100's memory. Weights depend on no other kernel, so they
           are asked for before `wait_for_previous`: while the kernel before still runs. Each kernel
           says `let_next_start` at once, since the next too touches only weights before it waits.
Norm       every program norms the token for itself, in the same pass: sum(w * x * g) and
           sum(x * x) need not wait for each other, and the root mean square divides at the end.
           That is one kernel less, and no rounding between norm and product (the model in bf16
           has one; its float32 does not either).
RoPE       rows i and i + D/2 of a head are turned together, so one program owns both. Keys and
           values go straight to the cache, at the position that lies in GPU memory: a CUDA graph
           of this kernel is right for every position.
gpt-oss    biases on q, k, v and o, none on the head; head_dim 64, so q is wider (4096) than the
           hidden state (2880). The residual stream `x` is fp32 (see `decoder`).

Letters: H hidden, N query heads, K KV heads, D head_dim, V vocabulary, C places in a cache.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import torch
from torch import Tensor

from labhelpers.kernels.triton_or_not import (
    jit,
    let_next_start,
    overlap,
    tl,
    triton,
    wait_for_previous,
)


@jit
def load_rows(matrix, rows, row_ok, column, inputs):
    """The weights [rows, inputs] of some rows, as they are; zeros outside."""
    place = rows.to(tl.int64)[:, None] * inputs + column[None, :]
    # Read once, so first out of the cache: activations shall stay in it.
    return tl.load(matrix + place, mask=row_ok[:, None] & (column < inputs)[None, :], other=0,
                   eviction_policy="evict_first")  # fmt: skip


@jit
def normed(x, norm, eps, H):
    """A token x fp32 and the norm's scale, both with zeros from H on: (x * scale, 1 / rms)."""
    return x * norm.to(tl.float32), tl.rsqrt(tl.sum(x * x, 0) / H + eps)


@jit
def store_head(first, second, head, pair, position, cos, sin, q, keys, values, C,
               N: tl.constexpr, K: tl.constexpr, D: tl.constexpr):  # fmt: skip
    """Turn pairs of channels of one of the N + 2 K heads and store them where they belong."""
    c = tl.load(cos + position * (D // 2) + pair)
    s = tl.load(sin + position * (D // 2) + pair)
    is_value = head >= N + K
    c, s = tl.where(is_value, 1.0, c), tl.where(is_value, 0.0, s)  # values are not turned
    turned_first, turned_second = first * c - second * s, second * c + first * s
    place = (position % C) * D + pair  # a window's cache is a ring: C = 128 there
    if head < N:
        out = q + head * D + pair
    elif head < N + K:
        out = keys + (head - N).to(tl.int64) * C * D + place
    else:
        out = values + (head - N - K).to(tl.int64) * C * D + place
    tl.store(out, turned_first.to(q.dtype.element_ty))
    tl.store(out + D // 2, turned_second.to(q.dtype.element_ty))


@jit
def _qkv(x, norm, weight, bias, cos, sin, position, q, keys, values, eps, H, C, N: tl.constexpr,
         K: tl.constexpr, D: tl.constexpr, PAIRS: tl.constexpr, WIDTH: tl.constexpr,
         PDL: tl.constexpr):  # fmt: skip
    """PAIRS pairs of channels of one head."""
    let_next_start(PDL)
    head = tl.program_id(0) // (D // 2 // PAIRS)
    first_pair = tl.program_id(0) % (D // 2 // PAIRS) * PAIRS
    row = tl.arange(0, 2 * PAIRS)  # channels p, p + D/2, p + 1, p + 1 + D/2, ...
    rows = head * D + first_pair + row // 2 + row % 2 * (D // 2)
    column = tl.arange(0, WIDTH)
    w = load_rows(weight, rows, rows >= 0, column, H)
    scale = tl.load(norm + column, mask=column < H, other=0)
    b = tl.load(bias + rows).to(tl.float32)
    now = tl.load(position, cache_modifier=".cg")  # from L2: L1 may have that of the last step
    wait_for_previous(PDL)
    hidden = tl.load(x + column, mask=column < H, other=0)
    scaled, over_rms = normed(hidden, scale, eps, H)
    value = tl.sum(w.to(tl.float32) * scaled[None, :], 1) * over_rms + b
    first, second = tl.split(value.reshape(PAIRS, 2))
    pair = first_pair + tl.arange(0, PAIRS)
    store_head(first, second, head, pair, now, cos, sin, q, keys, values, C, N, K, D)


@jit
def _o_proj(attended, weight, bias, x, inputs, H, ROWS: tl.constexpr, WIDTH: tl.constexpr,
            PDL: tl.constexpr):  # fmt: skip
    """x += attended @ weight.T + bias, ROWS of them. Nobody else touches these rows of x."""
    let_next_start(PDL)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    w = load_rows(weight, rows, rows < H, column, inputs)
    b = tl.load(bias + rows, mask=rows < H, other=0).to(tl.float32)
    wait_for_previous(PDL)
    a = tl.load(attended + column, mask=column < inputs, other=0).to(tl.float32)
    value = tl.sum(w.to(tl.float32) * a[None, :], 1) + b
    value += tl.load(x + rows, mask=rows < H, other=0)
    tl.store(x + rows, value, mask=rows < H)


@jit
def _head(x, norm, weight, logits, best, best_id, eps, H, V, ROWS: tl.constexpr,
          WIDTH: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """Final norm and ROWS logits; the largest of them and its id, for `_choose`."""
    let_next_start(PDL)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    w = load_rows(weight, rows, rows < V, column, H)
    scale = tl.load(norm + column, mask=column < H, other=0)
    wait_for_previous(PDL)
    hidden = tl.load(x + column, mask=column < H, other=0)
    scaled, over_rms = normed(hidden, scale, eps, H)
    value = tl.sum(w.to(tl.float32) * scaled[None, :], 1) * over_rms
    tl.store(logits + rows, value, mask=rows < V)
    value = tl.where(rows < V, value, float("-inf"))
    top, at = tl.max(value, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(best + tl.program_id(0), top)
    # A NaN is above nothing and below nothing, so with one `at` may be a place past the end.
    tl.store(best_id + tl.program_id(0), tl.minimum(tl.program_id(0) * ROWS + at, V - 1))


@jit
def _choose(best, best_id, token, position, programs, SIZE: tl.constexpr, PDL: tl.constexpr):
    """The largest logit's id (the lowest of equals) is the next token; one position further."""
    let_next_start(PDL)
    wait_for_previous(PDL)
    index = tl.arange(0, SIZE)
    value = tl.load(best + index, mask=index < programs, other=float("-inf"))
    _, at = tl.max(value, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(token, tl.load(best_id + tl.minimum(at, programs - 1)))  # past the end: see _head
    tl.store(position, tl.load(position) + 1)


@jit
def _embed(token, table, x, H, WIDTH: tl.constexpr, PDL: tl.constexpr):
    """x [B, H] fp32 = the embedding of each row's token."""
    # In this order, unlike elsewhere: no kernel of a step starts before the last step's are
    # complete, so all may read `position` early.
    wait_for_previous(PDL)
    let_next_start(PDL)
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    place = tl.load(token + row).to(tl.int64) * H + column
    value = tl.load(table + place, mask=column < H, other=0)
    tl.store(x + row * H + column, value.to(tl.float32), mask=column < H)


def qkv(
    x: Tensor, norm: Tensor, eps: float, weight: Tensor, bias: Tensor, rope: tuple[Tensor, Tensor],
    position: Tensor, q: Tensor, keys: Tensor, values: Tensor, pairs: int = 4, warps: int = 8,
) -> None:  # fmt: skip
    """Norm x fp32 [1, H], make q [1, N, D] and add k and v to the caches [1, K, C, D].

    weight [(N + 2 K) D, H] and its bias; rope cos and sin fp32 [positions, D/2]; position int
    [1] on the GPU; q, keys and values of one dtype. `pairs` must be a power of 2 that divides D/2.
    """
    (_, heads, dim), kv_heads, capacity = q.shape, keys.shape[1], keys.shape[2]
    hidden, early = x.shape[1], overlap(x)
    grid = ((heads + 2 * kv_heads) * (dim // 2 // pairs),)
    _qkv[grid](x, norm, weight, bias, *rope, position, q, keys, values, eps, hidden, capacity,
               N=heads, K=kv_heads, D=dim, PAIRS=pairs, WIDTH=triton.next_power_of_2(hidden),
               num_warps=warps, **early)  # fmt: skip


def o_proj(
    attended: Tensor, weight: Tensor, bias: Tensor, x: Tensor, rows: int = 8, warps: int = 8
) -> None:
    """x fp32 [1, H] += attended [1, N * D] @ weight [H, N * D].T + bias, in place."""
    (hidden, inputs), early = weight.shape, overlap(x)
    _o_proj[(triton.cdiv(hidden, rows),)](
        attended, weight, bias, x, inputs, hidden, ROWS=rows,
        WIDTH=triton.next_power_of_2(inputs), num_warps=warps, **early,
    )  # fmt: skip


class Head:
    """Final norm, logits and the greedy choice for one token; owns its scratch tensors."""

    def __init__(self, weight: Tensor, rows: int = 8, warps: int = 8) -> None:
        self.weight, self.rows, self.warps = weight, rows, warps
        self.programs = triton.cdiv(len(weight), rows)
        self.logits = torch.empty(1, len(weight), device=weight.device)
        self.best = torch.empty(self.programs, device=weight.device)
        self.best_id = torch.empty(self.programs, dtype=torch.int32, device=weight.device)

    def __call__(self, x: Tensor, norm: Tensor, eps: float) -> None:
        """Fill `logits` fp32 [1, V] from x fp32 [1, H]."""
        (vocabulary, hidden), early = self.weight.shape, overlap(x)
        _head[(self.programs,)](
            x, norm, self.weight, self.logits, self.best, self.best_id, eps, hidden, vocabulary,
            ROWS=self.rows, WIDTH=triton.next_power_of_2(hidden), num_warps=self.warps,
            **early,
        )  # fmt: skip

    def choose(self, token: Tensor, position: Tensor) -> None:
        """token [1] = argmax; position [1] += 1."""
        _choose[(1,)](self.best, self.best_id, token, position, self.programs,
                      SIZE=triton.next_power_of_2(self.programs), num_warps=16,
                      **overlap(token))  # fmt: skip


def embed(token: Tensor, table: Tensor, x: Tensor) -> None:
    """x fp32 [B, H] = table [V, H] at token [B]."""
    early = overlap(x)
    _embed[(len(x),)](token, table, x, x.shape[1], WIDTH=triton.next_power_of_2(x.shape[1]),
                      num_warps=4, **early)  # fmt: skip
