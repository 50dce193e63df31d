"""Exercises on the experts: the clamped SwiGLU, and the weighted sum of their answers.

Source of the solutions: transformers' GptOssExperts; tests hold them equal to
`labhelpers.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.architecture.routing import route, router_case
from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers


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


@swiglu.mistake("The gate is multiplied by alpha as well: alpha goes into the sigmoid only.")
def _silu_of_alpha(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return torch.nn.functional.silu(alpha * gate) * (up + 1)


@swiglu.mistake("Nothing was clamped: the gate is cut at limit, up at -limit and limit.")
def _no_clamp(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2], gate_up[..., 1::2], alpha)


@swiglu.mistake("up was clamped after the + 1: clamp first, then add 1.")
def _clamp_late(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2]
    return gate * torch.sigmoid(alpha * gate) * (up + 1).clamp(-limit, limit)


# -- the weighted sum -------------------------------------------------------------------------

Expert = Callable[[int, Tensor], Tensor]


def _mix_case(tokens: int, width: int, experts: int, top_k: int) -> tuple[Any, ...]:
    matrices, biases = numbers(experts, width, width, seed=3), numbers(experts, width, seed=4)

    def expert(index: int, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden @ matrices[index]) + biases[index]

    routing = router_case(tokens, width, experts, top_k)
    expert_ids, weights = route.function(*routing)
    return routing[0], expert_ids, weights, expert


@exercise(
    "1.7",
    minutes=5,
    difficulty=1,
    cases=[
        Case("6 tokens, 2 of 4 experts each", lambda: _mix_case(6, 5, 4, 2)),
        Case("3 of 7 experts each", lambda: _mix_case(4, 3, 7, 3)),
    ],
    axes=("token",),
    hints=(
        "For one token: ask each of its experts, multiply each answer by its weight, add. Two "
        "loops, over tokens and over k, are a fine first version. How many experts there are you "
        "need not know: `expert_ids.unique()` are those that were chosen.",
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


def _only(experts: range, hidden: Tensor, ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    """The answers of some experts; what the others would say is left out."""
    out = torch.zeros_like(hidden)
    for e in experts:
        token, slot = torch.where(ids == e)
        out[token] += weights[token, slot, None] * expert(e, hidden[token])
    return out


@mix_experts.mistake(
    "Only experts 0 to 3 are asked, but there can be more than 4: loop over "
    "`expert_ids.unique().tolist()`."
)
def _four_experts(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _only(range(4), hidden, expert_ids, weights, expert)


@mix_experts.mistake(
    "Only experts 0 to k - 1 are asked: k is how many one token gets, not how many there are."
)
def _k_experts(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _only(range(expert_ids.shape[1]), hidden, expert_ids, weights, expert)


@mix_experts.mistake("The last expert is never asked: a range up to max() ends before it.")
def _last_missing(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _only(range(int(expert_ids.max())), hidden, expert_ids, weights, expert)


@mix_experts.mistake(
    "More experts are asked than there are: those that were chosen are `expert_ids.unique()`."
)
def _too_many(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    return _only(range(32), hidden, expert_ids, weights, expert)


@mix_experts.mistake("The weights need a column, `[:, None]`: one weight for a whole answer.")
def _no_weight_column(
    hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert
) -> Tensor:
    out = torch.zeros_like(hidden)
    for e in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == e)
        out[token] += weights[token, slot] * expert(e, hidden[token])
    return out
