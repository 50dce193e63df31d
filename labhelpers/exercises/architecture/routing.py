"""Exercise on the router: which experts see a token, and how much each of them counts.

Source of the solution: transformers' GptOssTopKRouter; a test holds it equal to
`labhelpers.model`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers

Pair = tuple[Tensor, Tensor]


def router_case(tokens: int, width: int, experts: int, top_k: int) -> tuple[Any, ...]:
    """hidden [tokens, width], a router's weight and bias, and top_k."""
    weight = numbers(experts, width, seed=1)
    return numbers(tokens, width, scale=0.4), weight, numbers(experts, seed=2), top_k


@exercise(
    "1.5",
    minutes=15,
    difficulty=2,
    cases=[
        Case("7 experts, 3 a token", lambda: router_case(6, 5, 7, 3)),
        Case("1 expert a token", lambda: router_case(3, 4, 5, 1)),
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


@route.mistake("The ids were sorted and the weights left where they were: they belong together.")
def _ids_sorted(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    ids, weights = route.function(hidden, weight, bias, top_k)
    return ids.sort(dim=-1).values, weights


@route.mistake("weight is [E, H], a row for each expert: multiply by its transpose, `weight.T`.")
def _not_transposed(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight + bias).topk(top_k, dim=-1)
    return ids, values.softmax(-1)


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


@route.mistake(
    "This is topk's own pair, logits and ids: return the ids first, then a softmax of the logits."
)
def _topk_pair(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1)
    return values, ids


@route.mistake("The logits were divided by their sum: a softmax takes their exponentials first.")
def _by_sum(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).topk(top_k, dim=-1)
    return ids, values / values.sum(-1, keepdim=True)


_TWICE = "The softmax was taken twice: one, over the chosen logits, is enough."


@route.mistake(_TWICE)
def _softmax_before_and_after(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    values, ids = (hidden @ weight.T + bias).softmax(-1).topk(top_k, dim=-1)
    return ids, values.softmax(-1)


@route.mistake(_TWICE)
def _softmax_of_softmax(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Pair:
    ids, weights = route.function(hidden, weight, bias, top_k)
    return ids, weights.softmax(-1)
