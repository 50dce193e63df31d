"""A packed matrix for every expert, and the experts' sum in plain PyTorch.

The idea   `Packed` is three tensors as the checkpoint has them. `experts_plain` is what the
           kernels of `decode` and `grouped` must compute, and their fallback: it runs where
           `why_not` gives a reason, unpacking one expert at a time.
Sources    transformers' GptOssExperts; `labhelpers.model.moe.Experts` is the same, unpacked.
Limits     `experts_plain` looks at the ids (a GPU waits for that), so no CUDA graph can hold it.

Letters: T tokens, k experts a token, H hidden, I intermediate, E experts, G = in / 32.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labhelpers.model.moe import swiglu
from labhelpers.mxfp4.format import BLOCK, dequantize


class Packed(NamedTuple):
    """E matrices (out, in) in MXFP4, with a bias each."""

    blocks: Tensor  # [E, out, G, 16] uint8
    scales: Tensor  # [E, out, G] uint8
    bias: Tensor  # [E, out] bf16 or fp32

    @classmethod
    def of(cls, experts: Any, name: str) -> "Packed":
        """Of a module with the checkpoint's names: `name` is "gate_up" or "down"."""
        return cls(*(getattr(experts, f"{name}_proj_{part}") for part in cls._fields))

    @property
    def inputs(self) -> int:
        return BLOCK * self.scales.shape[2]

    @property
    def outputs(self) -> int:
        return self.scales.shape[1]

    def check(self, name: str) -> None:
        """Raise ValueError unless the three belong together and lie as the kernels read them."""
        blocks, scales, bias = self
        if blocks.dtype != torch.uint8 or scales.dtype != torch.uint8:
            raise ValueError(f"{name}: blocks and scales must be uint8, got {blocks.dtype}, "
                             f"{scales.dtype}")  # fmt: skip
        if (
            scales.ndim != 3
            or blocks.shape != (*scales.shape, BLOCK // 2)
            or (bias.shape != scales.shape[:2])
        ):
            raise ValueError(
                f"{name}: blocks {list(blocks.shape)}, scales {list(scales.shape)} and bias "
                f"{list(bias.shape)} do not belong together: expected [E, out, G, 16], "
                "[E, out, G] and [E, out]"
            )
        if not all(t.is_contiguous() for t in self) or blocks.data_ptr() % 16:
            raise ValueError(
                f"{name}: kernels read 16 bytes at a time, so tensors must be contiguous and "
                "blocks start at a multiple of 16 bytes: copy them, as with .contiguous().clone()"
            )


def check_experts(
    hidden: Tensor, expert_ids: Tensor, weights: Tensor, gate_up: Packed, down: Packed
) -> None:
    """Raise ValueError unless shapes, dtypes and devices fit. Does not look at the ids."""
    gate_up.check("gate_up")
    down.check("down")
    if hidden.ndim != 2 or hidden.shape[1] != gate_up.inputs or hidden.dtype != torch.bfloat16:
        raise ValueError(
            f"hidden is {list(hidden.shape)} {hidden.dtype}: expected [T, {gate_up.inputs}] in "
            "bfloat16 (the dtype of gpt-oss)"
        )
    if expert_ids.ndim != 2 or len(expert_ids) != len(hidden) or weights.shape != expert_ids.shape:
        raise ValueError(
            f"expert_ids {list(expert_ids.shape)} and weights {list(weights.shape)} must both be "
            f"[{len(hidden)}, k]"
        )
    if expert_ids.dtype not in (torch.int32, torch.int64) or not expert_ids.shape[1]:
        raise ValueError(
            f"expert_ids {list(expert_ids.shape)} {expert_ids.dtype}: expected int32 or int64, "
            "and at least one expert a token"
        )
    if (
        gate_up.outputs != 2 * down.inputs
        or down.outputs != gate_up.inputs
        or (len(gate_up.scales) != len(down.scales))
    ):
        raise ValueError(
            f"gate_up [E, 2I, H] is {[len(gate_up.scales), gate_up.outputs, gate_up.inputs]} but "
            f"down [E, H, I] is {[len(down.scales), down.outputs, down.inputs]}"
        )
    devices = {t.device for t in (hidden, expert_ids, weights, *gate_up, *down)}
    if len(devices) > 1:
        raise ValueError(f"all tensors must be on one device, got {sorted(map(str, devices))}")


def check_limit(alpha: float, limit: float) -> None:
    """Raise ValueError unless `limit` bounds SwiGLU, as `decode` needs to keep `inner` in fp16.

    gate * sigmoid(alpha * gate) is at most the gate, so `limit`, and at least -0.279 / alpha.
    """
    if not (alpha > 0 and 0.279 / alpha <= limit < math.inf):
        raise ValueError(
            f"alpha {alpha}, limit {limit}: the kernels need alpha above 0 and a finite limit of "
            "at least 0.279 / alpha (gpt-oss has 1.702 and 7)"
        )


def experts_plain(
    hidden: Tensor,
    expert_ids: Tensor,
    weights: Tensor,
    gate_up: Packed,
    down: Packed,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> Tensor:
    """Sum of the chosen experts' outputs, each times its weight, unpacking one at a time.

    hidden [T, H] of any float dtype, in which everything is computed; expert_ids and weights
    [T, k]; returns [T, H] of hidden's dtype. In float64 this is the reference of the tests.
    """
    dtype = hidden.dtype
    out = torch.zeros_like(hidden)
    for expert in expert_ids.unique().tolist():
        token, slot = torch.where(expert_ids == expert)  # [t] each: who chose it, and where
        first, second = (
            dequantize(part.blocks[expert], part.scales[expert], dtype) for part in (gate_up, down)
        )  # [2I, H] and [H, I]
        inner = hidden[token] @ first.T + gate_up.bias[expert].to(dtype)  # [t, 2I]
        result = swiglu(inner, alpha, limit) @ second.T + down.bias[expert].to(dtype)  # [t, H]
        out.index_add_(0, token, result * weights[token, slot, None].to(dtype))
    return out
