"""The lean decode path: one sequence, one token at a time, on the CPU, in float32.

A small model spends its time neither on arithmetic nor on ideas but on reading weights and on
starting operations. So this module changes the bookkeeping and nothing else:

- q, k and v are one matrix, and only the chosen experts' matrices are touched;
- weights that float16 holds exactly (those of a bfloat16 or MXFP4 checkpoint) are read as
  float16 by FBGEMM, torch's matrix library for x86, half the bytes for the same products in
  float32; otherwise, or on another processor, they stay float32;
- cache and scratch tensors are allocated once, and the window is a ring;
- a head's sink is an empty key at slot 0: its score, 0, plus a bias that holds the sink's
  logit, and its value, 0, do just what a sink does, so attention is a plain softmax;
- RoPE is one complex product: channels are reordered so that the two of a pair are neighbours
  (queries and keys alike, which no dot product can tell).

`tests/test_fast.py` holds it equal to the plain path; `benchmarks/decode.py` gives the speed.
Letters: H hidden, K KV heads, G query heads a KV head, D head_dim, I intermediate.

Limits: a second copy of the weights (models up to 2 GB in float32); no hooks, no training.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labhelpers.model.attention import Attention
from labhelpers.model.cache import KVCache
from labhelpers.model.moe import MLP, Experts, Router
from labhelpers.model.norm import RMSNorm
from labhelpers.model.transformer import DecoderLayer, GptOss, GptOssModel

MOST_BYTES = 2 * 2**30
_KNOWN = (
    GptOss, GptOssModel, DecoderLayer, Attention, MLP, Router, Experts, RMSNorm,
    torch.nn.Linear, torch.nn.Embedding, torch.nn.ModuleList,
)  # fmt: skip


def unsuited(model: GptOss) -> str:
    """Why this model must take the plain path; empty if it need not."""
    if model.device.type != "cpu" or any(p.dtype != torch.float32 for p in model.parameters()):
        return "it is for float32 on the CPU"
    if sum(p.numel() for p in model.parameters()) * 4 > MOST_BYTES:
        return "its second copy of the weights would be too large"
    for name, module in model.named_modules():
        # A replaced or watched part (packed experts, a chapter's hook) must really be called.
        if type(module) not in _KNOWN or "forward" in vars(module):
            return f"{name} is a {type(module).__name__} of another make"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{name or 'the model'} has a hook"
    return ""


def suits(model: GptOss) -> bool:
    """Whether `generate` may use this path."""
    return not unsuited(model)


def start(model: GptOss, cache: KVCache) -> Callable[[Tensor], Tensor]:
    """A step that continues `cache`: new ids [1, 1] -> logits [1, V].

    The cache itself is left behind as it is.
    """
    return FastDecoder(_weights(model), cache).step


def matrix(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """x [1, in] -> x @ weight.T + bias [1, out], for weight [out, in], read as cheaply as exact.

    float16 has 11 significant bits to bfloat16's 8, but a shorter range: weights that it
    cannot hold to within 2^-25, its smallest step halved, stay in float32.
    """
    weight = weight.detach().float()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float().clone()
    if ((weight.half().float() - weight).abs() <= 2**-25).all():  # an overflow gives inf
        with warnings.catch_warnings():
            # torch says that these two will go one day. The float32 branch will still be here.
            warnings.filterwarnings("ignore", message=".*deprecated.*")
            try:
                packed = torch.fbgemm_pack_gemm_matrix_fp16(weight.contiguous())
                product = torch.fbgemm_linear_fp16_weight
                product(weight.new_zeros(1, weight.shape[1]), packed, bias)
                return lambda x: product(x, packed, bias)
            except (RuntimeError, AttributeError):  # not on x86, or a torch without it
                pass
    columns = weight.t().contiguous()  # [in, out]: read in memory order
    return lambda x: torch.addmm(bias, x, columns)


class FastWeights:
    """A model's weights, rearranged for FastDecoder."""

    def __init__(self, model: GptOss) -> None:
        self.config = model.config
        self.rope = model.model.rope
        self.embedding = model.model.embed_tokens.weight.detach()  # [V, H]
        self.norm = model.model.norm.weight.detach()
        self.head = matrix(model.lm_head.weight)
        # Half-split to neighbours: channels 0, D/2, 1, D/2 + 1, ...
        self.pairs = torch.arange(self.config.head_dim).view(2, -1).t().flatten()  # [D]
        self.layers = [LayerWeights(layer, self.pairs) for layer in model.model.layers]


class LayerWeights:
    """One block's."""

    def __init__(self, layer: Any, pairs: Tensor) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.window: int | None = attention.window
        self.sinks = attention.sinks.detach()
        self.norm1 = layer.input_layernorm.weight.detach()
        self.norm2 = layer.post_attention_layernorm.weight.detach()
        rows = []  # of q, k, v: [out, in + 1], the bias as a last column
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            bias = projection.bias
            bias = projection.weight.new_zeros(len(projection.weight)) if bias is None else bias
            rows.append(torch.cat((projection.weight, bias[:, None]), dim=1).detach())
        for i in (0, 1):  # reorder each head's channels in q and k
            rows[i] = rows[i].unflatten(0, (-1, len(pairs)))[:, pairs].flatten(0, 1)
        qkv = torch.cat(rows)  # [(K * G + 2 K) * D, H + 1]
        self.qkv = matrix(qkv[:, :-1], qkv[:, -1])
        self.out = matrix(attention.o_proj.weight, attention.o_proj.bias)
        self.router, self.router_bias = mlp.router.weight.detach(), mlp.router.bias.detach()
        experts = mlp.experts
        self.gate_up, self.down = [], []
        for e in range(len(experts.gate_up_proj)):
            weight, bias = experts.gate_up_proj[e].t(), experts.gate_up_proj_bias[e]  # [2I, H]
            # Gates first, then ups; the + 1 of (up + 1) goes into the bias.
            bias = torch.cat((bias[::2], bias[1::2] + 1))
            self.gate_up.append(matrix(torch.cat((weight[::2], weight[1::2])), bias))
            self.down.append(matrix(experts.down_proj[e].t(), experts.down_proj_bias[e]))


class Ring:
    """One layer's keys and values, slot 0 being the sink; position p lies in slot 1 + p % size."""

    def __init__(self, layer: LayerWeights, cache: Any, pairs: Tensor) -> None:
        keys, values = cache.keys[0], cache.values[0]  # [K, S, D]
        real = cache.positions[0] >= 0
        positions = cache.positions[0, real]
        self.window, self.heads, self.dim = layer.window, keys.shape[0], keys.shape[2]
        groups = len(layer.sinks) // self.heads
        self.size = layer.window or max(256, 2 * len(positions))
        self.kv = keys.new_zeros(2, self.heads, 1 + self.size, self.dim)
        self.kv[0][:, 1 + positions % self.size] = keys[:, real][..., pairs]
        self.kv[1][:, 1 + positions % self.size] = values[:, real]
        self.sinks = layer.sinks.view(self.heads, groups, 1)
        self.views()

    def views(self) -> None:
        """Views of the whole buffers, made once."""
        self.k, self.v = self.kv[0].transpose(1, 2), self.kv[1]  # [K, D, 1+size], [K, 1+size, D]
        self.bias = self.kv.new_zeros(self.heads, self.sinks.shape[1], 1 + self.size)
        self.bias[..., :1] = self.sinks  # [K, G, 1 + size]

    def write(self, position: int, new: Tensor) -> int:
        """Store new [2, K, D]; return how many slots, sink included, are now in use."""
        if position >= self.size and self.window is None:  # a full layer grows
            self.kv = torch.cat((self.kv, torch.zeros_like(self.kv[:, :, 1:])), dim=2)
            self.size *= 2
            self.views()
        self.kv.select(2, 1 + position % self.size).copy_(new)
        return 2 + min(position, self.size - 1)

    def attend(self, q: Tensor, used: int) -> Tensor:
        """Attention of q [K, G, D] over the used slots: [K, G, D]."""
        k, v, bias = self.k, self.v, self.bias
        if used <= self.size:
            k, v, bias = k.narrow(2, 0, used), v.narrow(1, 0, used), bias.narrow(2, 0, used)
        scores = torch.baddbmm(bias, q, k, alpha=self.dim**-0.5)  # [K, G, used]
        return scores.softmax(-1).bmm(v)


class FastDecoder:
    """The steps of one sequence, over scratch tensors that every step writes again."""

    def __init__(self, weights: FastWeights, cache: KVCache) -> None:
        config = weights.config
        if cache.lengths is None or len(cache.lengths) != 1:
            raise ValueError("the fast path continues the cache of one sequence, once prefilled")
        self.w, self.position = weights, int(cache.lengths[0])
        self.rings = [
            Ring(layer, held, weights.pairs)
            for layer, held in zip(weights.layers, cache.layers, strict=True)
        ]
        hidden, inner = config.hidden_size, config.intermediate_size
        top, dim = config.num_experts_per_tok, config.head_dim
        heads, kv = config.num_attention_heads, config.num_key_value_heads
        self.eps, self.top = config.rms_norm_eps, top
        self.x, self.h, self.zero = torch.zeros(3, hidden).unbind()  # residual, normalised, 0
        self.x_row, self.h_row = self.x[None], self.h[None]  # [1, H]
        self.qkv = torch.zeros(1, (heads + 2 * kv) * dim)
        turned = self.qkv[0, : (heads + kv) * dim]
        self.turned = torch.view_as_complex(turned.view(-1, dim // 2, 2))  # q and k: [N + K, D/2]
        self.q = self.qkv[0, : heads * dim].view(kv, -1, dim)  # [K, G, D]
        self.new_kv = self.qkv[0, heads * dim :].view(2, kv, dim)
        self.gate_up = torch.zeros(top, 2 * inner)
        self.gate, self.up = self.gate_up.split(inner, dim=1)  # [k, I] each
        self.act, self.zeros = torch.zeros(2, top, inner).unbind()
        self.act_rows = self.act.split(1)  # k times [1, I]
        self.alpha, self.limit = config.swiglu_alpha, config.swiglu_limit

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Logits [1, V] after one more id [1, 1]. Raises ValueError for an unknown id."""
        token = int(ids)
        if not 0 <= token < len(self.w.embedding):
            raise ValueError(f"id {token} is not in the vocabulary")
        self.x.copy_(self.w.embedding[token])
        cos, sin = self.w.rope(torch.tensor([[self.position]]), torch.float32)
        turn = torch.complex(cos, sin)[0]  # [1, D/2]
        for layer, ring in zip(self.w.layers, self.rings, strict=True):
            self._attention(layer, ring, turn)
            self._experts(layer)
        self.position += 1
        self._normalise(self.w.norm)
        return self.w.head(self.h_row)

    def _normalise(self, weight: Tensor) -> None:
        scale = (self.x.dot(self.x).item() / len(self.x) + self.eps) ** -0.5
        torch.addcmul(self.zero, self.x, weight, value=scale, out=self.h)

    def _attention(self, layer: LayerWeights, ring: Ring, turn: Tensor) -> None:
        self._normalise(layer.norm1)
        self.qkv.copy_(layer.qkv(self.h_row))
        self.turned.mul_(turn)  # RoPE, with YaRN's concentration in turn's length
        used = ring.write(self.position, self.new_kv)
        mixed = ring.attend(self.q, used)  # [K, G, D]
        self.x_row.add_(layer.out(mixed.view(1, -1)))

    def _experts(self, layer: LayerWeights) -> None:
        self._normalise(layer.norm2)
        logits = torch.addmv(layer.router_bias, layer.router, self.h)  # [E]
        top_logits, chosen = logits.topk(self.top)
        ids, weights = chosen.tolist(), top_logits.softmax(-1).tolist()
        torch.cat([layer.gate_up[i](self.h_row) for i in ids], out=self.gate_up)  # [k, 2I]
        # g sigmoid(alpha g) = silu(alpha g) / alpha, for all k experts in one go.
        torch.mul(self.gate.clamp_max_(self.limit), self.alpha, out=self.act)
        F.silu(self.act, inplace=True)
        self.up.clamp_(1 - self.limit, 1 + self.limit)  # it holds up + 1
        torch.addcmul(self.zeros, self.act, self.up, value=1 / self.alpha, out=self.act)
        for i, weight, row in zip(ids, weights, self.act_rows, strict=True):
            self.x_row.add_(layer.down[i](row), alpha=weight)


def _weights(model: GptOss) -> FastWeights:
    """The rearranged weights, kept on the model until one of its parameters changes."""
    stamp = [(p.data_ptr(), _version(p)) for p in model.parameters()]
    kept = vars(model).get("_fast_weights")
    if kept is None or kept[0] != stamp:
        with torch.inference_mode():
            kept = (stamp, FastWeights(model))
        vars(model)["_fast_weights"] = kept  # past nn.Module: not part of the state
    return kept[1]


def _version(parameter: Tensor) -> int:
    return -1 if parameter.is_inference() else parameter._version
