"""Exercise on what an expert computes between its two maps: the clamped SwiGLU.

Source of the solution: transformers' GptOssExperts; a test holds it equal to
`labhelpers.model`.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


@swiglu.mistake(
    "It reads `... * up + 1`: Python multiplies first, so the 1 is added to the product. Put "
    "`(up + 1)` in brackets."
)
def _one_outside(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up + 1


_AS_MINIMUM = (
    "The limit was taken for the lower end: `clamp`'s first argument is `min`, so `clamp(limit)` "
    "lifts everything up to it. From above it is `clamp(max=limit)`."
)


@swiglu.mistake(_AS_MINIMUM)
def _gate_from_below(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up[..., ::2].clamp(min=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return _combine(gate, up, alpha)


@swiglu.mistake(_AS_MINIMUM)
def _both_from_below(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2].clamp(limit), gate_up[..., 1::2].clamp(limit), alpha)


@swiglu.mistake(_AS_MINIMUM)
def _up_from_below(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(limit), alpha)


@swiglu.mistake(
    "up was clamped from below only, at -limit: it is cut on both sides, `up.clamp(-limit, limit)`."
)
def _up_below_only(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    return _combine(gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit), alpha)
