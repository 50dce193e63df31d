"""Norm, router and the choice of experts, and the token laid out for the experts: one kernel.

The idea   the router is a small matrix (32 or 128 rows), so one program an expert. Each norms the
           token for itself, takes one logit and writes its part of `planes`, the order in which
           the experts' kernels want the token (`bits.plane_place`). The last program to finish
           sees all logits and chooses.
gpt-oss    the top k logits first, then the softmax over those alone (`labhelpers.model.moe`).
           Of equal logits the lower id wins. Logits are fp32: the model in bf16 rounds them, so
           that two experts which nearly tie may come out the other way round there.
Limits     one token.

Letters: H hidden, E experts, k experts a token.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import torch
from torch import Tensor

from labhelpers.kernels.bits import plane_place, plane_scale
from labhelpers.kernels.decode import Planes
from labhelpers.kernels.linear_decode import normed
from labhelpers.kernels.triton_or_not import (
    jit,
    let_next_start,
    overlap,
    tl,
    triton,
    wait_for_previous,
)


@jit
def _route(x, norm, weight, bias, logits, ids, weights, pairs, unscale, finished, eps, H,
           E: tl.constexpr, TOP_K: tl.constexpr, SLOTS: tl.constexpr, EXPERTS: tl.constexpr,
           WIDTH: tl.constexpr, PART: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """One expert's logit and H / E values of the planes; the last program chooses TOP_K."""
    let_next_start(PDL)
    expert = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    w = tl.load(weight + expert * H + column, mask=column < H, other=0).to(tl.float32)
    scale = tl.load(norm + column, mask=column < H, other=0)
    b = tl.load(bias + expert).to(tl.float32)
    wait_for_previous(PDL)
    hidden = tl.load(x + column, mask=column < H, other=0)
    scaled, over_rms = normed(hidden, scale, eps, H)
    logit = tl.sum(w * scaled, 0) * over_rms + b

    multiply, unscale_by = plane_scale(tl.max(tl.abs(scaled), 0) * over_rms)
    part = expert * PART + tl.arange(0, PART)
    mine = tl.load(x + part, mask=part < H, other=0)
    mine = mine * tl.load(norm + part, mask=part < H, other=0).to(tl.float32) * over_rms
    tl.store(pairs + plane_place(part, H), (mine * multiply).to(tl.float16), mask=part < H)
    if expert == 0:
        tl.store(unscale, unscale_by)

    tl.store(logits + expert, logit)
    tl.debug_barrier()  # the stores come before the count
    if tl.atomic_add(finished, 1, sem="acq_rel") != E - 1:
        return
    tl.store(finished, 0)  # for the next launch
    index = tl.arange(0, EXPERTS)
    left = tl.load(logits + index, mask=index < E, other=float("-inf"), cache_modifier=".cg")
    slot = tl.arange(0, SLOTS)
    top_logits = tl.full([SLOTS], float("-inf"), tl.float32)
    top_ids = tl.zeros([SLOTS], tl.int32)
    for k in tl.static_range(TOP_K):
        top, at = tl.max(left, 0, return_indices=True, return_indices_tie_break_left=True)
        if E < EXPERTS:  # with a NaN, `at` may be a place past the end
            at = tl.minimum(at, E - 1)
        top_logits = tl.where(slot == k, top, top_logits)
        top_ids = tl.where(slot == k, at, top_ids)
        left = tl.where(index == at, float("-inf"), left)
    share = tl.exp(top_logits - tl.max(top_logits, 0))
    tl.store(ids + slot, top_ids, mask=slot < TOP_K)
    tl.store(weights + slot, share / tl.sum(share, 0), mask=slot < TOP_K)


class Router:
    """Routes one token at a time; owns what it fills: ids, weights and planes."""

    def __init__(self, hidden: int, experts: int, top_k: int, device: torch.device) -> None:
        self.experts = experts
        self.ids = torch.zeros(1, top_k, dtype=torch.int32, device=device)
        self.weights = torch.zeros(1, top_k, device=device)
        self.logits = torch.zeros(experts, device=device)
        pairs = torch.zeros(1, 4, hidden // 8, 2, dtype=torch.float16, device=device)
        self.planes = Planes(pairs, torch.ones(1, device=device))
        self.finished = torch.zeros(1, dtype=torch.int32, device=device)

    def __call__(self, x: Tensor, norm: Tensor, eps: float, weight: Tensor, bias: Tensor) -> None:
        """Norm x fp32 [1, H], fill planes, and choose by weight [E, H] and bias [E]."""
        hidden, top_k = x.shape[1], self.ids.shape[1]
        _route[(self.experts,)](
            x, norm, weight, bias, self.logits, self.ids, self.weights, *self.planes,
            self.finished, eps, hidden, E=self.experts, TOP_K=top_k,
            SLOTS=triton.next_power_of_2(top_k), EXPERTS=triton.next_power_of_2(self.experts),
            WIDTH=triton.next_power_of_2(hidden),
            PART=triton.next_power_of_2(triton.cdiv(hidden, self.experts)),
            num_warps=4, **overlap(x),
        )  # fmt: skip
