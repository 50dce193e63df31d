"""Exercises on the mixture of experts: the router, the clamped SwiGLU, the weighted sum.

Source of the solutions: transformers' GptOssTopKRouter and GptOssExperts; tests hold them equal
to `labhelpers.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers

Pair = tuple[Tensor, Tensor]


def _router_case(tokens: int, width: int, experts: int, top_k: int) -> tuple[Any, ...]:
    weight = numbers(experts, width, seed=1)
    return numbers(tokens, width, scale=0.4), weight, numbers(experts, seed=2), top_k


@exercise(
    "1.5",
    minutes=15,
    difficulty=2,
    cases=[
        Case("7 experts, 3 a token", lambda: _router_case(6, 5, 7, 3)),
        Case("1 expert a token", lambda: _router_case(3, 4, 5, 1)),
    ],
    axes=("token",),
    outputs=("expert_ids", "weights"),
    hints=(
        "The router is one linear map: a logit for each expert. Choose by the logits; then only "
        "the chosen share out the weight among themselves, so that a token's weights sum to 1.",
        "`logits = hidden @ weight.T + bias`, then `values, ids = logits.topk(top_k, dim=-1)` "
        "(highest first), then a softmax over `values` alone.",
    ),
)
def route(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    """expert_ids and weights, both [T, k], for hidden [T, H], weight [E, H] and bias [E]."""
    logits = hidden @ weight.T + bias  # [T, E]
    top_logits, expert_ids = logits.topk(top_k, dim=-1)  # [T, k] each
    return expert_ids, top_logits.softmax(dim=-1)


@route.mistake(
    "The softmax came before top-k and was not normalised again: the experts left out still hold "
    "a share, so a token's weights sum to less than 1."
)
def _diluted(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).softmax(-1).topk(top_k, dim=-1)
    return ids, values


@route.mistake("The bias is missing: it belongs to the logits, before the choice.")
def _no_bias(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    return route.function(hidden, weight, torch.zeros_like(bias), top_k)


@route.mistake("The bias only weighs: it was added after the choice.")
def _late_bias(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T).topk(top_k, dim=-1)
    return ids, (values + bias[ids]).softmax(-1)


@route.mistake("The experts are right, but sorted by id: the highest logit comes first.")
def _by_id(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    ids, weights = route.function(hidden, weight, bias, top_k)
    ids, order = ids.sort(dim=-1)
    return ids, weights.gather(-1, order)


@route.mistake("The weights are the logits themselves: a softmax makes shares of them.")
def _raw_logits(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1)
    return ids, values


@route.mistake("The weights are a sigmoid of each logit, as in other models: gpt-oss's sum to 1.")
def _sigmoid(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1)
    return ids, values.sigmoid()


@route.mistake("It chose the smallest logits.")
def _smallest(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1, largest=False)
    return ids, values.softmax(-1)


@route.mistake("The softmax runs over the tokens (dim 0): each token shares out its own weight.")
def _over_tokens(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1)
    return ids, values.softmax(0)


@route.mistake("The two results are exchanged: expert_ids first, then weights.")
def _exchanged(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    ids, weights = route.function(hidden, weight, bias, top_k)
    return weights, ids


# -- the activation ---------------------------------------------------------------------------


@exercise(
    "1.6",
    minutes=15,
    difficulty=2,
    cases=[
        Case("4 tokens, I = 5", lambda: (numbers(4, 10, seed=2, scale=5), 1.702, 7.0)),
        Case("another alpha and limit", lambda: (numbers(3, 8, seed=1, scale=3), 0.6, 2.0)),
    ],
    axes=("token",),
    hints=(
        "Even columns are gate, odd columns are up. The gate is clamped from above only, up from "
        "both sides. Then: gate * sigmoid(alpha * gate), times (up + 1).",
        "`gate, up = gate_up[..., ::2], gate_up[..., 1::2]`, then `gate.clamp(max=limit)` and "
        "`up.clamp(-limit, limit)`; the last line is the formula of the first hint.",
    ),
)
def swiglu(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    """gpt-oss's activation: gate_up [..., 2I], interleaved, -> [..., I]."""
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def _combine(gate: Tensor, up: Tensor, alpha: float) -> Tensor:
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@swiglu.mistake("The + 1 is missing: gpt-oss multiplies by up + 1.")
def _no_one(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


@swiglu.mistake("gate and up were taken as halves: they are interleaved, even and odd columns.")
def _halves(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return _combine(gate.clamp(max=limit), up.clamp(-limit, limit), alpha)


@swiglu.mistake("gate and up are exchanged: even columns are gate, odd columns are up.")
def _exchanged_columns(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    up, gate = gate_up[..., ::2], gate_up[..., 1::2]
    return _combine(gate.clamp(max=limit), up.clamp(-limit, limit), alpha)


@swiglu.mistake("The gate was clamped from below too: only from above, the sigmoid does the rest.")
def _gate_both(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return _combine(gate.clamp(-limit, limit), up.clamp(-limit, limit), alpha)


@swiglu.mistake("The gate was not clamped: it is cut at limit from above.")
def _gate_free(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2], gate_up[..., 1::2].clamp(-limit, limit), alpha)


@swiglu.mistake("up was not clamped: it is cut to -limit .. limit.")
def _up_free(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2], alpha)


@swiglu.mistake("up was clamped from above only: that is the gate's rule, up is cut on both sides.")
def _up_above(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return _combine(gate.clamp(max=limit), up.clamp(max=limit), alpha)


@swiglu.mistake("alpha stands outside the sigmoid: it scales only what goes into it.")
def _alpha_outside(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return alpha * gate * torch.sigmoid(gate) * (up + 1)


@swiglu.mistake("alpha is missing: the sigmoid takes alpha * gate.")
def _no_alpha(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return swiglu.function(gate_up, 1.0, limit)


@swiglu.mistake("alpha and limit are written into the code: use the arguments.")
def _hard_coded(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return swiglu.function(gate_up, 1.702, 7.0)


# -- the weighted sum -------------------------------------------------------------------------

Expert = Callable[[int, Tensor], Tensor]


def _mix_case(tokens: int, width: int, experts: int, top_k: int) -> tuple[Any, ...]:
    matrices, biases = numbers(experts, width, width, seed=3), numbers(experts, width, seed=4)

    def expert(index: int, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden @ matrices[index]) + biases[index]

    routing = _router_case(tokens, width, experts, top_k)
    expert_ids, weights = route.function(*routing)
    return routing[0], expert_ids, weights, expert


@exercise(
    "1.7",
    minutes=15,
    difficulty=3,
    cases=[
        Case("6 tokens, 2 of 4 experts each", lambda: _mix_case(6, 5, 4, 2)),
        Case("3 of 7 experts each", lambda: _mix_case(4, 3, 7, 3)),
    ],
    axes=("token",),
    hints=(
        "For one token: ask each of its experts, multiply each answer by its weight, add. "
        "Two loops, over tokens and over k, are a fine first version.",
        "Faster, an expert at a time: `token, slot = torch.where(expert_ids == e)`, then "
        "`out[token] += weights[token, slot, None] * expert(e, hidden[token])`, for every e "
        "in `expert_ids.unique().tolist()`.",
    ),
)
def mix_experts(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    """Weighted sum of each token's experts: [T, H]. `expert(e, x)` runs expert e on x [t, H]."""
    out = torch.zeros_like(hidden)
    for e in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == e)  # who chose e, and at which place
        out[token] += weights[token, slot, None] * expert(e, hidden[token])
    return out


def _each(hidden: Tensor, expert_ids: Tensor, expert: Expert) -> Tensor:
    """Every answer on its own: [T, k, H]."""
    rows = [
        torch.stack([expert(int(e), x) for e in chosen])
        for x, chosen in zip(hidden, expert_ids, strict=True)
    ]
    return torch.stack(rows)


@mix_experts.mistake("The weights are missing: the answers were just added.")
def _unweighted(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _each(hidden, expert_ids, expert).sum(1)


@mix_experts.mistake("It takes the plain mean of the answers: each counts by its weight.")
def _mean(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _each(hidden, expert_ids, expert).mean(1)


@mix_experts.mistake("The weights go to the wrong experts: slot j's weight belongs to slot j's id.")
def _flipped(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return mix_experts.function(hidden, expert_ids, weights.flip(-1), expert)


@mix_experts.mistake("Only the first expert answers: all k of a token do.")
def _first_only(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return mix_experts.function(hidden, expert_ids[:, :1], weights[:, :1], expert)


@mix_experts.mistake("The last expert's answer overwrites the others: add it (+=).")
def _overwrites(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    out = torch.zeros_like(hidden)
    for e in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == e)
        out[token] = weights[token, slot, None] * expert(e, hidden[token])
    return out


@mix_experts.mistake("The weight multiplies the expert's input: it belongs to what comes out.")
def _weighs_input(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    out = torch.zeros_like(hidden)
    for e in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == e)
        out[token] += expert(e, weights[token, slot, None] * hidden[token])
    return out


@mix_experts.mistake("The slot was used as the expert's number: that stands in expert_ids.")
def _slot_as_id(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    slots = torch.arange(expert_ids.shape[1]).expand_as(expert_ids)
    return mix_experts.function(hidden, slots, weights, expert)


@mix_experts.mistake("All tokens go to the experts of token 0: each has its own.")
def _first_token(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    same = expert_ids[:1].expand_as(expert_ids)
    return mix_experts.function(hidden, same, weights, expert)


@mix_experts.mistake("The token itself was added: that sum is the block's work, not the experts'.")
def _residual(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return hidden + mix_experts.function(hidden, expert_ids, weights, expert)
