"""nano's architecture, arranged for fast training on one GPU.

The same function as `labhelpers.model.GptOss` (a test holds the two equal), in another shape:
whole conversations are packed into rows, attention stays within a conversation (FlexAttention
document masks), sinks are applied after the fact as `out * sigmoid(lse - sink)`, and every expert
is computed for every token as two large products, unchosen experts weighted by zero. Experts are
stored as the checkpoint packs them, `[E, out, in]`, and rounded to MXFP4 in every forward pass.

Letters: B rows, S positions, T = B*S tokens, H hidden, E experts, I expert width, D head_dim.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import (
    BlockMask,
    create_block_mask,
    create_mask,
    flex_attention,
)

from labhelpers.config import GptOssConfig
from labhelpers.model.rope import RotaryEmbedding, apply_rope
from labhelpers.mxfp4.format import fake_quantize_ste

SPREAD = 0.01  # weight of the logits' variance beside the balance loss
Mask = BlockMask | Tensor  # what FlexAttention wants, or booleans [B, 1, S, S] on the CPU


def rope_tables(config: GptOssConfig, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin [1, S, D/2] in float32, from the package's own YaRN code."""
    return RotaryEmbedding(config)(torch.arange(length)[None], torch.float32)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """flex_attention's result and log-sum-exp, for the CPU; mask [B, 1, S, S] is True to keep."""
    ratio = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(ratio, 1), v.repeat_interleave(ratio, 1)
    scores = (q @ k.mT).float() * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask, -1e30)
    return scores.softmax(-1).to(v.dtype) @ v, scores.logsumexp(-1)


class Norm(nn.Module):
    """RMSNorm in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with sinks, over packed conversations."""

    def __init__(self, config: GptOssConfig):
        super().__init__()
        h, d = config.hidden_size, config.head_dim
        self.heads, self.kv_heads, self.dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            d,
        )
        self.q_proj = nn.Linear(h, self.heads * d)
        self.k_proj = nn.Linear(h, self.kv_heads * d)
        self.v_proj = nn.Linear(h, self.kv_heads * d)
        self.o_proj = nn.Linear(self.heads * d, h)
        self.sinks = nn.Parameter(torch.zeros(self.heads))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        b, s, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(b, s, heads, self.dim).transpose(1, 2)  # [B, heads, S, D]

        q = apply_rope(split(self.q_proj(x), self.heads), cos, sin)
        k = apply_rope(split(self.k_proj(x), self.kv_heads), cos, sin)
        v = split(self.v_proj(x), self.kv_heads)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if isinstance(mask, Tensor):
            out, lse = plain_attention(q, k, v, mask)
        else:
            out, lse = flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_lse=True)
        # exp(lse) is the softmax's sum without the sink: this factor puts the sink into it.
        out = out * torch.sigmoid(lse - self.sinks[:, None]).unsqueeze(-1).to(out.dtype)
        return self.o_proj(out.transpose(1, 2).reshape(b, s, -1))


class Router(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.zeros(config.num_local_experts, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.num_local_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, H] -> weights [T, E], zero for unchosen experts, and what the router is fined.

        Two fines: for sending much to few experts, and for logits far apart, by which one expert
        would take nearly all the weight.
        """
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.weight, self.bias)
        top, ids = logits.topk(self.top_k, dim=-1)
        weights = torch.zeros_like(logits).scatter(1, ids, top.softmax(-1))
        load = (weights > 0).float().mean(0) / self.top_k  # share of the choices
        balance = len(self.bias) * (load.detach() * logits.softmax(-1).mean(0)).sum()
        return weights, balance + SPREAD * logits.var(-1).mean()


class Experts(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        e, h, i = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.limit, self.alpha = config.swiglu_limit, config.swiglu_alpha
        self.gate_up_proj = nn.Parameter(torch.zeros(e, 2 * i, h))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(e, 2 * i))
        self.down_proj = nn.Parameter(torch.zeros(e, h, i))
        self.down_proj_bias = nn.Parameter(torch.zeros(e, h))

    def forward(self, x: Tensor, weights: Tensor, quantized: bool) -> Tensor:
        gate_up, down = self.gate_up_proj, self.down_proj
        if quantized:
            gate_up, down = fake_quantize_ste(gate_up), fake_quantize_ste(down)
        e, _, h = gate_up.shape
        y = F.linear(x, gate_up.reshape(-1, h), self.gate_up_proj_bias.reshape(-1))
        y = y.view(len(x), e, -1)  # [T, E, 2I], gate and up interleaved
        gate, up = y[..., 0::2], y[..., 1::2]
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        act = (up + 1) * gate * torch.sigmoid(gate * self.alpha)  # [T, E, I]
        act = act * weights.unsqueeze(-1).to(act.dtype)
        out = act.reshape(len(x), -1) @ down.transpose(1, 2).reshape(-1, h).to(act.dtype)
        return out + weights.to(act.dtype) @ self.down_proj_bias.to(act.dtype)


class Mlp(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        self.router, self.experts = Router(config), Experts(config)


class Layer(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask, quantized: bool
    ) -> tuple[Tensor, Tensor]:
        x = x + self.self_attn(self.input_layernorm(x).to(x.dtype), cos, sin, mask)
        y = self.post_attention_layernorm(x).to(x.dtype).flatten(0, 1)  # [T, H]
        weights, balance = self.mlp.router(y)
        return x + self.mlp.experts(y, weights, quantized).view_as(x), balance


class Body(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class TrainingModel(nn.Module):
    """forward gives hidden states of the supervised positions and the balance loss."""

    def __init__(self, config: GptOssConfig, seed: int = 0):
        super().__init__()
        self.config, self.stream = config, torch.bfloat16  # dtype of the residual stream
        self.model = Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.reset(seed)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Normal weights of size 1/sqrt(fan in), residual outputs smaller by sqrt(2 layers)."""
        generator = torch.Generator().manual_seed(seed)
        shrink = 1 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, p in self.named_parameters():
            if p.ndim < 2 or name.endswith("_bias"):
                continue
            std = 0.02 if "embed_tokens" in name or "router" in name else p.shape[-1] ** -0.5
            if "o_proj" in name or "down_proj" in name:
                std *= shrink
            if "lm_head" in name:
                std *= 0.2
            p.copy_(torch.randn(p.shape, generator=generator) * std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()

    def forward(
        self,
        ids: Tensor,
        supervised: Tensor,
        cos: Tensor,
        sin: Tensor,
        sliding: Mask,
        full: Mask,
        quantized: bool = True,
    ) -> tuple[Tensor, Tensor]:
        x = self.model.embed_tokens(ids).to(self.stream)  # [B, S, H]
        balance = x.new_zeros((), dtype=torch.float32)
        for kind, layer in zip(self.config.layer_types, self.model.layers, strict=True):
            mask = sliding if kind == "sliding_attention" else full
            x, extra = layer(x, cos, sin, mask, quantized)
            balance = balance + extra
        chosen = x.flatten(0, 1)[supervised]  # [M, H]
        return self.model.norm(chosen), balance / len(self.model.layers)


def loss_of(model: TrainingModel, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of hidden [M, H] over positions of weight 1."""
    logits = model.lm_head(hidden.to(model.stream)).float()
    loss = F.cross_entropy(logits, targets, reduction="none")
    return (loss * weights).sum() / weights.sum()


def masks(documents: Tensor, window: int) -> tuple[Mask, Mask]:
    """Sliding and full masks for documents [B, S] (a number per conversation)."""
    b, s = documents.shape

    def full(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (documents[batch, q] == documents[batch, k])

    def sliding(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (q - k < window) & (documents[batch, q] == documents[batch, k])

    make: Any = create_block_mask if documents.is_cuda else create_mask
    device = str(documents.device)
    return make(sliding, b, None, s, s, device=device), make(full, b, None, s, s, device=device)
