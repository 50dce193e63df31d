"""A model's weights as the decoder reads them: experts packed, q, k and v one matrix.

The idea   the experts are 19 of gpt-oss-20b's 21 billion weights, and they stay at 4.25 bits each.
           q, k and v are one product of one token, so their matrices lie one after the other.
Source     parameter names of transformers' GptOssForCausalLM, packed or not.
Limits     `of` copies what it stacks; a model of unpacked experts must hold values that MXFP4
           holds exactly, as those read from an MXFP4 checkpoint do.

Letters: H hidden, N query heads, K KV heads, D head_dim, I intermediate, E experts.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labhelpers.kernels.packed import Packed
from labhelpers.mxfp4.format import dequantize, quantize


class LayerWeights(NamedTuple):
    """One block's."""

    norm1: Tensor  # [H]
    qkv: Tensor  # [(N + 2 K) D, H]
    qkv_bias: Tensor  # [(N + 2 K) D]
    sinks: Tensor  # [N]
    o: Tensor  # [H, N D]
    o_bias: Tensor  # [H]
    norm2: Tensor  # [H]
    router: Tensor  # [E, H]
    router_bias: Tensor  # [E]
    gate_up: Packed  # [E, 2I, H]
    down: Packed  # [E, H, I]


class DecoderWeights(NamedTuple):
    """The whole model's."""

    embedding: Tensor  # [V, H]
    layers: list[LayerWeights]
    norm: Tensor  # [H]
    head: Tensor  # [V, H]

    @classmethod
    def of(cls, model: Any) -> "DecoderWeights":
        """Of a labhelpers.model.GptOss or a packed one. Raises ValueError (see Limits)."""
        inner = model.model
        return cls(
            inner.embed_tokens.weight.detach(),
            [_layer(layer) for layer in inner.layers],
            inner.norm.weight.detach(),
            model.lm_head.weight.detach(),
        )

    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(t.numel() * t.element_size() for t in _tensors(self))

    def bytes_a_token(self, top_k: int) -> dict[str, int]:
        """Bytes that one token must read, by part: top_k experts of each layer, all the rest."""
        one = self.layers[0]
        experts = sum(_size(t[0]) for part in (one.gate_up, one.down) for t in part) * top_k
        attention = sum(map(_size, (one.qkv, one.qkv_bias, one.o, one.o_bias)))
        router = sum(map(_size, (one.router, one.router_bias, one.norm1, one.norm2)))
        count = len(self.layers)
        return {
            "experts": count * experts,
            "attention": count * attention,
            "router and norms": count * router,
            "head": _size(self.head),
        }


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(part: Any) -> list[Tensor]:
    return [part] if isinstance(part, Tensor) else [t for p in part for t in _tensors(p)]


def _layer(layer: Any) -> LayerWeights:
    attention, router, experts = layer.self_attn, layer.mlp.router, layer.mlp.experts
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    qkv = torch.cat([p.weight.detach() for p in projections])
    return LayerWeights(
        layer.input_layernorm.weight.detach(),
        qkv,
        torch.cat([_bias(p) for p in projections]),
        attention.sinks.detach(),
        attention.o_proj.weight.detach().contiguous(),
        _bias(attention.o_proj),
        layer.post_attention_layernorm.weight.detach(),
        router.weight.detach().contiguous(),
        router.bias.detach(),
        _packed(experts, "gate_up"),
        _packed(experts, "down"),
    )


def _bias(linear: Any) -> Tensor:
    bias = linear.bias
    return linear.weight.detach().new_zeros(len(linear.weight)) if bias is None else bias.detach()


def _packed(experts: Any, name: str) -> Packed:
    if hasattr(experts, f"{name}_proj_blocks"):
        blocks, scales, bias = (t.detach().contiguous() for t in Packed.of(experts, name))
        # A tensor that lies in a mapped file may begin anywhere.
        packed = Packed(blocks.clone() if blocks.data_ptr() % 16 else blocks, scales, bias)
        packed.check(name)  # the decoder launches kernels that do not look
        return packed
    weight = getattr(experts, f"{name}_proj").detach().mT.contiguous()  # [E, out, in]
    blocks, scales = quantize(weight)
    if not torch.equal(dequantize(blocks, scales, torch.float32), weight.float()):
        raise ValueError(
            f"{name}_proj holds values that MXFP4 does not: the decoder would run another model. "
            "Quantize it first (labhelpers.mxfp4.format.fake_quantize)"
        )
    bias = getattr(experts, f"{name}_proj_bias").detach().contiguous()
    return Packed(blocks, scales, bias)
