"""What a batch of tokens, one a row, needs between torch's matrix products.

The idea   with 8 or 64 rows the dense products are cuBLAS's (`F.linear`). Between them stand small
           steps, each of which would be several launches in plain PyTorch: adding to the residual
           stream and norming it, and RoPE with the write into the cache.
gpt-oss    the norm multiplies by its scale in fp32 and rounds once, at the end; the residual
           stream `x` is fp32.

Letters: B rows, H hidden, N query heads, K KV heads, D head_dim, C places in a cache.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from torch import Tensor

from labhelpers.kernels.linear_decode import normed, store_head
from labhelpers.kernels.triton_or_not import (
    jit,
    let_next_start,
    overlap,
    tl,
    triton,
    wait_for_previous,
)


@jit
def _add_norm(x, added, norm, out, eps, H, ADD: tl.constexpr, WIDTH: tl.constexpr,
              PDL: tl.constexpr):  # fmt: skip
    """One row: x += added, out = norm(x)."""
    let_next_start(PDL)
    row = tl.program_id(0) * H
    column = tl.arange(0, WIDTH)
    ok = column < H
    scale = tl.load(norm + column, mask=ok, other=0)
    wait_for_previous(PDL)
    hidden = tl.load(x + row + column, mask=ok, other=0)
    if ADD:
        hidden += tl.load(added + row + column, mask=ok, other=0).to(tl.float32)
        tl.store(x + row + column, hidden, mask=ok)
    scaled, over_rms = normed(hidden, scale, eps, H)
    tl.store(out + row + column, (scaled * over_rms).to(out.dtype.element_ty), mask=ok)


@jit
def _turn(qkv, cos, sin, position, q, keys, values, C, N: tl.constexpr, K: tl.constexpr,
          D: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """One head of one row of qkv [B, (N + 2 K) D]."""
    let_next_start(PDL)
    head, row = tl.program_id(0), tl.program_id(1)
    pair = tl.arange(0, D // 2)
    wait_for_previous(PDL)
    source = qkv + (row * (N + 2 * K) + head) * D + pair
    first, second = tl.load(source).to(tl.float32), tl.load(source + D // 2).to(tl.float32)
    own = row.to(tl.int64) * K * C * D  # where this row's part of the caches begins
    store_head(first, second, head, pair, tl.load(position + row), cos, sin, q + row * N * D,
               keys + own, values + own, C, N, K, D)  # fmt: skip


def add_norm(x: Tensor, added: Tensor | None, norm: Tensor, eps: float, out: Tensor) -> Tensor:
    """x fp32 [B, H] += added [B, H], in place; out [B, H] = norm(x), which is returned."""
    rows, hidden = x.shape
    _add_norm[(rows,)](x, x if added is None else added, norm, out, eps, hidden,
                       ADD=added is not None, WIDTH=triton.next_power_of_2(hidden), num_warps=8,
                       **overlap(x))  # fmt: skip
    return out


def turn(
    qkv: Tensor, rope: tuple[Tensor, Tensor], position: Tensor, q: Tensor, keys: Tensor,
    values: Tensor,
) -> None:  # fmt: skip
    """RoPE on qkv [B, (N + 2 K) D] at position [B]: q [B, N, D], k and v into [B, K, C, D]."""
    (rows, heads, dim), kv_heads, capacity = q.shape, keys.shape[1], keys.shape[2]
    _turn[(heads + 2 * kv_heads, rows)](qkv, *rope, position, q, keys, values, capacity, N=heads,
                                        K=kv_heads, D=dim, num_warps=1, **overlap(q))  # fmt: skip
