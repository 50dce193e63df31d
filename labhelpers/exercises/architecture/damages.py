"""A gpt-oss in which one part computes wrongly: it runs, and what it writes is nearly right.

    suspect = damaged(model, "window", layer=2)     # a copy; the model itself stays whole

The idea   nobody's first gpt-oss is right, and hardly any mistake raises an error. These are
           the ones that people make, each in the part where they make it.
Sources    a window off by one (mlx-lm 390, Megatron-Bridge 2656), sinks left out (transformers
           42736), YaRN ignored, RoPE in neighbours instead of halves (converted Llama weights),
           router weights taken as they are, gate and up exchanged (mlx-lm 679), Gemma's 1 + weight.
Limits     a copy is damaged, so a large model is held twice. `generate` has a fast path for
           whole models: ask a damaged one with `fast=False`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labhelpers.model import GptOss
from labhelpers.model.attention import sink_attention, visible
from labhelpers.model.moe import Routing
from labhelpers.model.rope import RotaryEmbedding


def _turn_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b, cos, sin = x[..., ::2], x[..., 1::2], cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def _attention_by_neighbours(self: Any, hidden: Tensor, rope: Any, at: Tensor, *_: Any) -> Tensor:
    """Attention without a cache, its pairs 0 with 1, 2 with 3 ..."""
    maps = (self.q_proj, self.k_proj, self.v_proj)
    q, k, v = (m(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for m in maps)
    q, k = _turn_neighbours(q, *rope), _turn_neighbours(k, *rope)
    out = sink_attention(q, k, v, self.sinks, visible(at, at, self.window))
    return self.o_proj(out.transpose(1, 2).flatten(2))


def _route_diluted(self: Any, hidden: Tensor) -> Routing:
    logits = F.linear(hidden, self.weight, self.bias)
    weights, ids = logits.softmax(-1).topk(self.top_k, dim=-1)
    return Routing(ids, weights, logits)


def _norm_in_bfloat16(self: Any, hidden: Tensor) -> Tensor:
    x = hidden.float()
    x = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)).bfloat16()
    return self.weight * x.to(hidden.dtype)


def _expert_without_one(self: Any, index: int, hidden: Tensor) -> Tensor:
    gate_up = hidden @ self.gate_up_proj[index] + self.gate_up_proj_bias[index]
    gate, up = gate_up[..., ::2].clamp(max=self.limit), gate_up[..., 1::2]
    inner = gate * torch.sigmoid(self.alpha * gate) * up.clamp(-self.limit, self.limit)
    return inner @ self.down_proj[index] + self.down_proj_bias[index]


def _add_to_normed(self: Any, hidden: Tensor, rope: Any, at: Tensor, cache: Any = None) -> Tensor:
    hidden = self.input_layernorm(hidden)  # the stream should go on as it was
    hidden = hidden + self.self_attn(hidden, rope, at, cache)
    return hidden + self.mlp(self.post_attention_layernorm(hidden))


def _linear_in_double(self: Any, x: Tensor) -> Tensor:
    bias = None if self.bias is None else self.bias.double()
    return F.linear(x.double(), self.weight.double(), bias).to(x.dtype)


def _exchange_gate_and_up(layer: Any) -> None:
    experts = layer.mlp.experts
    for parameter in (experts.gate_up_proj, experts.gate_up_proj_bias):
        parameter.copy_(parameter.unflatten(-1, (-1, 2)).flip(-1).flatten(-2))


def _forward(part: Any, function: Callable[..., Any], name: str = "forward") -> None:
    setattr(part, name, MethodType(function, part))


def _window(layer: Any) -> None:
    if layer.self_attn.window is not None:
        layer.self_attn.window += 1


# What is done to a layer. Where a layer has several norms it is the first, before attention.
_IN_A_LAYER: dict[str, Callable[[Any], Any]] = {
    "sinks": lambda layer: layer.self_attn.sinks.fill_(-torch.inf),
    "neighbours": lambda layer: _forward(layer.self_attn, _attention_by_neighbours),
    "window": _window,
    "key bias": lambda layer: layer.self_attn.k_proj.bias.zero_(),
    "diluted": lambda layer: _forward(layer.mlp.router, _route_diluted),
    "no clamp": lambda layer: setattr(layer.mlp.experts, "limit", torch.inf),
    "no + 1": lambda layer: _forward(layer.mlp.experts, _expert_without_one, "expert"),
    "gate and up": _exchange_gate_and_up,
    "no eps": lambda layer: setattr(layer.input_layernorm, "eps", 0.0),
    "1 + weight": lambda layer: layer.input_layernorm.weight.add_(1.0),
    "bfloat16": lambda layer: _forward(layer.input_layernorm, _norm_in_bfloat16),
    "normed stream": lambda layer: _forward(layer, _add_to_normed),
}


def _other_rope(model: GptOss, **changes: Any) -> None:
    model.model.rope = RotaryEmbedding(replace(model.config, **changes))


def _other_order(model: GptOss) -> None:
    for part in model.modules():
        if isinstance(part, torch.nn.Linear):
            _forward(part, _linear_in_double)


_IN_THE_WHOLE: dict[str, Callable[[GptOss], Any]] = {
    "other order": _other_order,  # no damage: the same sums, rounded elsewhere
    "theta": lambda model: _other_rope(model, rope_theta=10_000.0),
    "no yarn": lambda model: _other_rope(model, rope_scaling=None),
    "head": lambda model: model.lm_head.weight.mul_(0.5),
    "tied": lambda model: model.lm_head.weight.copy_(model.model.embed_tokens.weight),
}
NAMES = (*_IN_A_LAYER, *_IN_THE_WHOLE)


@torch.no_grad()
def damaged(model: GptOss, name: str, layer: int | None = None) -> GptOss:
    """A copy of the model with one of the damages in NAMES, in one layer or in all.

    Raises ValueError for another name, or for a layer where the damage has none.
    """
    if name not in NAMES:
        raise ValueError(f"unknown damage {name!r}: choose from {list(NAMES)}")
    suspect = copy.deepcopy(model)
    if name in _IN_THE_WHOLE:
        if layer is not None:
            raise ValueError(f"{name!r} is no damage of a layer: leave layer out")
        _IN_THE_WHOLE[name](suspect)
        return suspect
    layers = suspect.model.layers
    if layer is not None and not 0 <= layer < len(layers):
        raise ValueError(f"this model has layers 0 to {len(layers) - 1}, not {layer}")
    for part in layers if layer is None else [layers[layer]]:
        _IN_A_LAYER[name](part)
    return suspect
