"""Switch heads, experts or sinks off and measure what the model can no longer do.

    effects = head_effects(model, prompt, text)      # [L, N, C]: one head at a time
    with heads_off(model, [(3, 5)]):                 # layer 3, head 5
        ...                                          # the model runs without it
    with head_off_by_row(model, 3, [0, 1, 2]):       # in a batch: row 0 without head 0 ...
        ...
    with expert_off(model, 2, 0):                    # layer 2, expert 0: the next best steps in
        ...
    with sinks_shut(model):                          # every head must spend all of its attention
        ...

A head is switched off by setting its output to zero before the output projection, so that it adds
nothing to the residual stream; an expert and a sink by a logit of minus infinity. What then gets
worse is what the part was needed for.

Source: the method is common ("zero ablation"; for example Michel et al. 2019, "Are Sixteen Heads
Really Better than One?"). Letters: L layers, N query heads, D head_dim, P prompt tokens, C tokens
of the text, H hidden, V vocabulary.

Limits: zero is not what a head says when it has nothing to say, and heads stand in for one
another: a small effect does not prove that a head is idle. `generate` notices what `heads_off`
does if it is called inside the `with` block, and takes the plain path there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labhelpers.model import GptOss
from labhelpers.model.cache import KVCache, LayerCache
from labhelpers.model.moe import Router, Routing, choose


@contextmanager
def heads_off(model: GptOss, heads: Iterable[tuple[int, int]]) -> Iterator[None]:
    """Run the model without these (layer, head) pairs inside a `with` block.

    Raises ValueError for a head that does not exist.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        _check_head(model, layer, head)
        by_layer.setdefault(layer, []).append(head)
    hooks = []
    for layer, silent in by_layer.items():
        keep = torch.ones(model.config.num_attention_heads, device=model.device)
        keep[silent] = 0.0
        hooks.append(_gate(model, layer, keep[None, None]))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def head_off_by_row(model: GptOss, layer: int, heads: Sequence[int]) -> Iterator[None]:
    """Run a batch inside a `with` block in which row b lacks head `heads[b]` of one layer.

    So that a whole row of heads is tried in one go: all batches must have len(heads) rows.
    Raises ValueError for a head that does not exist.
    """
    config = model.config
    if not 0 <= layer < config.num_hidden_layers:
        raise ValueError(f"this model has no layer {layer}")
    for head in heads:
        _check_head(model, layer, head)
    keep = torch.ones(len(heads), 1, config.num_attention_heads, device=model.device)  # [B, 1, N]
    keep[torch.arange(len(heads)), 0, torch.tensor(heads)] = 0.0
    hook = _gate(model, layer, keep)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def expert_off(model: GptOss, layer: int, expert: int) -> Iterator[None]:
    """Run the model inside a `with` block as if one expert of a layer could not be chosen.

    Each token that would have gone there goes to its next best expert. Raises ValueError for an
    expert that does not exist, or if no other could step in.
    """
    config = model.config
    if not (0 <= layer < config.num_hidden_layers and 0 <= expert < config.num_local_experts):
        raise ValueError(f"this model has no expert {expert} in a layer {layer}")
    if config.num_local_experts == config.num_experts_per_tok:
        raise ValueError("every token goes to all experts: there is no next best one")

    def choose_again(_router: Router, _given: Any, routing: Routing) -> Routing:
        logits = routing.router_logits.clone()  # [T, E]
        logits[:, expert] = -torch.inf
        again = choose(logits, routing.expert_ids.shape[-1])
        return again._replace(router_logits=routing.router_logits)

    moe: Any = model.model.layers[layer].mlp
    hook = moe.router.register_forward_hook(choose_again)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def sinks_shut(model: GptOss, heads: Iterable[tuple[int, int]] | None = None) -> Iterator[None]:
    """Shut the sinks of these (layer, head) pairs, or all of them, inside a `with` block.

    The heads must then spend their whole attention on tokens. Raises ValueError for a head that
    does not exist.
    """
    layers, count = model.config.num_hidden_layers, model.config.num_attention_heads
    shut = list(product(range(layers), range(count)) if heads is None else heads)
    for pair in shut:
        _check_head(model, *pair)
    parts: list[Any] = [layer.self_attn for layer in model.model.layers]
    before = [part.sinks.detach().clone() for part in parts]
    try:
        with torch.no_grad():
            for layer, head in shut:
                parts[layer].sinks[head] = -torch.inf
        yield
    finally:
        with torch.no_grad():
            for part, sinks in zip(parts, before, strict=True):
                part.sinks.copy_(sinks)


@torch.inference_mode()
def head_effects(model: GptOss, prompt: Sequence[int], text: Sequence[int]) -> Tensor:
    """How much dearer each token of `text` gets when a single head is off: [L, N, C] in nats.

    The prompt is read by the whole model; the head is off only while `text` is read, its first
    token's prediction included. An effect of 1 means that the right token became e times less
    likely. Raises ValueError if either is empty.
    """
    if not len(prompt) or not len(text):
        raise ValueError("head_effects needs a prompt and a text that follows it")
    device = model.device
    # The last prompt token goes with the text: its output predicts the text's first token.
    start = torch.tensor([[*prompt[:-1]]], device=device, dtype=torch.int64)  # [1, P - 1]
    ids = torch.tensor([[prompt[-1], *text[:-1]]], device=device)  # [1, C]
    targets = torch.tensor(list(text), device=device)  # [C]
    cache = model.new_cache()
    if start.shape[1]:
        model.model(start, cache=cache)
    positions = torch.arange(start.shape[1], start.shape[1] + len(text), device=device)[None]
    rope = model.model.rope(positions, model.dtype)
    hidden, inputs = model.model.embed_tokens(ids), []  # the stream before each layer
    for layer, kept in zip(model.model.layers, cache.layers, strict=True):
        inputs.append(hidden)
        hidden = layer(hidden, rope, positions, _copy(kept, 1))
    whole = _cost(model, hidden, targets)  # [1, C]
    effects = []
    for layer_index in range(len(inputs)):
        effects.append(
            _layer_cost(model, layer_index, inputs[layer_index], rope, positions, cache, targets)
            - whole
        )
    return torch.stack(effects).cpu()


@torch.inference_mode()
def costs(
    model: GptOss, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]
) -> Tensor:
    """-log p, in nats, of every token of each reply after its prompt: one row for all, [tokens].

    Raises ValueError if a prompt or a reply is empty.
    """
    if not all(map(len, (*prompts, *replies))):
        raise ValueError("costs needs prompts and a reply to each, none of them empty")
    found = []
    for start, reply in zip(prompts, replies, strict=True):
        ids = torch.tensor([[*start, *reply]], device=model.device)
        # The output at a token predicts the next one: the last is not asked for.
        logits = model(ids)[0, len(start) - 1 : -1].float()  # [C, V]
        found.append(F.cross_entropy(logits, ids[0, len(start) :], reduction="none"))
    return torch.cat(found).cpu()


def _layer_cost(
    model: GptOss,
    first: int,
    hidden: Tensor,
    rope: tuple[Tensor, Tensor],
    positions: Tensor,
    cache: KVCache,
    targets: Tensor,
) -> Tensor:
    """Cost of the targets with each head of layer `first` off, one head a row: [N, C]."""
    heads = model.config.num_attention_heads
    rows = hidden.expand(heads, -1, -1)  # [N, C, H]: what precedes the layer is the same for all
    where = positions.expand(heads, -1)
    turned = (rope[0].expand(heads, -1, -1), rope[1].expand(heads, -1, -1))
    hook = _gate(model, first, 1 - torch.eye(heads, device=model.device)[:, None])
    try:
        for index in range(first, len(model.model.layers)):
            kept = _copy(cache.layers[index], heads)
            rows = model.model.layers[index](rows, turned, where, kept)
    finally:
        hook.remove()
    return _cost(model, rows, targets)


def _cost(model: GptOss, hidden: Tensor, targets: Tensor) -> Tensor:
    """-log p of each target: [B, C] from hidden [B, C, H]."""
    logits = model.lm_head(model.model.norm(hidden)).float()  # [B, C, V]
    flat = F.cross_entropy(logits.flatten(0, 1), targets.repeat(len(hidden)), reduction="none")
    return flat.view(len(hidden), -1)


def _check_head(model: GptOss, layer: int, head: int) -> None:
    config = model.config
    if not (0 <= layer < config.num_hidden_layers and 0 <= head < config.num_attention_heads):
        raise ValueError(f"this model has no head {head} in a layer {layer}")


def _gate(model: GptOss, layer: int, keep: Tensor) -> Any:
    """Multiply what each head says by keep [B or 1, 1, N] before the output projection."""
    attention: Any = model.model.layers[layer].self_attn
    factor = keep.repeat_interleave(attention.head_dim, dim=-1)  # [B or 1, 1, N * D]
    return attention.o_proj.register_forward_pre_hook(
        lambda _module, given: (given[0] * factor.to(given[0].dtype),)
    )


def _copy(kept: LayerCache, rows: int) -> LayerCache:
    """A copy of a batch-1 cache for several rows; the original stays as it is."""
    copy = LayerCache(kept.window)
    if kept.keys is not None and kept.values is not None and kept.positions is not None:
        copy.keys = kept.keys.expand(rows, -1, -1, -1)
        copy.values = kept.values.expand(rows, -1, -1, -1)
        copy.positions = kept.positions.expand(rows, -1)
    return copy
