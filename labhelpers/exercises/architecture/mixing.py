"""Exercise on the experts' weighted sum: who is asked, and how much each answer counts.

Source of the solution: transformers' GptOssExperts; a test holds it equal to
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


_ON_THE_INPUT = (
    "It begins with `out = hidden`, which is no copy: the sum starts at the token itself, and the "
    "later experts read what earlier ones have added. Begin with `torch.zeros_like(hidden)`."
)


@mix_experts.mistake(_ON_THE_INPUT)
def _on_the_input(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    for e in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == e)
        hidden[token] += weights[token, slot, None] * expert(e, hidden[token])
    return hidden


@mix_experts.mistake(_ON_THE_INPUT)
def _on_the_input_by_token(
    hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert
) -> Tensor:
    for t, chosen in enumerate(expert_ids.tolist()):
        for slot, e in enumerate(chosen):
            hidden[t] += weights[t, slot] * expert(e, hidden[t])
    return hidden


_AS_COLUMN = (
    "The expert's number was used as a column of weights, which has one column for each of a "
    "token's k choices: the weight stands where the id stands, `weights[t, slot]`."
)


@mix_experts.mistake(_AS_COLUMN)
def _number_as_slot(hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert) -> Tensor:
    out = torch.zeros_like(hidden)
    for t, chosen in enumerate(expert_ids.tolist()):
        for e in chosen:
            out[t] += weights[t, e] * expert(e, hidden[t])
    return out


@mix_experts.mistake(_AS_COLUMN)
def _number_as_slot_twice(
    hidden: Tensor, expert_ids: Tensor, weights: Tensor, expert: Expert
) -> Tensor:
    out = torch.zeros_like(hidden)
    for t, chosen in enumerate(expert_ids.tolist()):
        for e in chosen:
            out[t] += weights[t][e] * expert(e, hidden[t])
    return out
