"""Mixture of experts: a router sends each token to a few of many small feed-forward nets.

gpt-oss's choices:
- the router picks the top_k logits first and takes the softmax over those alone, so a token's
  weights sum to 1;
- experts are SwiGLU with three turns of their own: gate and up lie interleaved (even columns
  gate, odd columns up), both are clamped at 7 (the gate from above only), and up gets + 1;
- biases on router, gate_up and down.

Source: model card, "Mixture-of-Experts"; transformers' GptOssTopKRouter and GptOssExperts.
Letters: T tokens, H hidden, I intermediate, E experts, k experts a token.

Limits: written to be read, one expert after the other. `labhelpers.mxfp4` keeps the same
experts at 4.25 bits.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labhelpers.config import GptOssConfig


class Routing(NamedTuple):
    """Which experts see a token, and how much each of them counts."""

    expert_ids: Tensor  # [T, k] int64, highest logit first
    weights: Tensor  # [T, k] dtype of the logits, each row sums to 1
    router_logits: Tensor  # [T, E] before the choice (training balances experts with them)


def route(hidden: Tensor, weight: Tensor, bias: Tensor, top_k: int) -> Routing:
    """Choose experts for hidden [T, H], given weight [E, H] and bias [E].

    Raises ValueError if top_k is not in 1..E.
    """
    if not 1 <= top_k <= len(weight):
        raise ValueError(f"top_k={top_k}, but this layer has {len(weight)} experts")
    return choose(F.linear(hidden, weight, bias), top_k)


def choose(logits: Tensor, top_k: int) -> Routing:
    """The top_k experts of each row of logits [T, E], and the weights of what they will say."""
    top_logits, expert_ids = logits.topk(top_k, dim=-1)  # [T, k], twice
    # After the choice, not before: an expert left out must not dilute the others.
    return Routing(expert_ids, top_logits.softmax(dim=-1), logits)


def swiglu(gate_up: Tensor, alpha: float = 1.702, limit: float = 7.0) -> Tensor:
    """gpt-oss's clamped SwiGLU: [..., 2I] with gate and up interleaved -> [..., I]."""
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    # alpha sits inside the sigmoid only; up + 1 lets an idle up pass the gate through.
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


class Router(nn.Module):
    """A linear map to one logit an expert, and the choice of the top k."""

    def __init__(self, config: GptOssConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_local_experts, config.hidden_size))
        self.bias = nn.Parameter(torch.empty(config.num_local_experts))

    def forward(self, hidden: Tensor) -> Routing:
        """Route hidden [T, H]."""
        return route(hidden, self.weight, self.bias, self.top_k)


class Experts(nn.Module):
    """All experts of a layer in four tensors, the last two dimensions being (in, out)."""

    def __init__(self, config: GptOssConfig) -> None:
        super().__init__()
        experts, hidden = config.num_local_experts, config.hidden_size
        inner = config.intermediate_size
        self.alpha, self.limit = config.swiglu_alpha, config.swiglu_limit
        self.gate_up_proj = nn.Parameter(torch.empty(experts, hidden, 2 * inner))  # [E, H, 2I]
        self.gate_up_proj_bias = nn.Parameter(torch.empty(experts, 2 * inner))  # [E, 2I]
        self.down_proj = nn.Parameter(torch.empty(experts, inner, hidden))  # [E, I, H]
        self.down_proj_bias = nn.Parameter(torch.empty(experts, hidden))  # [E, H]

    def forward(self, hidden: Tensor, expert_ids: Tensor, weights: Tensor) -> Tensor:
        """Sum of the chosen experts' outputs, each times its weight: [T, H].

        hidden [T, H]; expert_ids and weights [T, k].
        """
        out = torch.zeros_like(hidden)
        for expert in expert_ids.unique().tolist():  # only experts that somebody chose
            token, slot = torch.where(expert_ids == expert)  # [t] each: who chose it, and where
            result = self.expert(expert, hidden[token])  # [t, H]
            weighted = result * weights[token, slot, None]
            out.index_add_(0, token, weighted.to(out.dtype))
        return out

    def expert(self, index: int, hidden: Tensor) -> Tensor:
        """One expert on hidden [t, H] -> [t, H]."""
        gate_up = hidden @ self.gate_up_proj[index] + self.gate_up_proj_bias[index]  # [t, 2I]
        inner = swiglu(gate_up, self.alpha, self.limit)  # [t, I]
        return inner @ self.down_proj[index] + self.down_proj_bias[index]


class MLP(nn.Module):
    """Router and experts: what stands in a block where a dense model has one feed-forward."""

    def __init__(self, config: GptOssConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]; every token is routed by itself."""
        tokens = hidden.flatten(0, 1)  # [B * T, H]
        routing = self.router(tokens)
        return self.experts(tokens, routing.expert_ids, routing.weights).view_as(hidden)
