"""Wrong versions of exercise 2.6: where a `detach` may stand, and what comes back to the weight.

Sums that differ on paper alone are one version here: only values and gradients tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.mxfp4.gradients import straight_through
from labhelpers.mxfp4 import fake_quantize

_FLAT = (
    "The values are right, but the gradient is zero: rounding is a staircase, flat nearly "
    "everywhere. The rounding must be a constant (`.detach()`), and the weight be added around it."
)


@straight_through.mistake(_FLAT)
def _plain(weight: Tensor) -> Tensor:
    return fake_quantize(weight)


_CANCELS = (
    "The values are right, but the gradient is zero: the weight is added once and taken off once, "
    "and both have a slope, 1 - 1. One `detach` is missing. The weight that is taken off must be a "
    "constant: `weight + (rounded - weight).detach()`, or `(weight - weight.detach())`."
)


@straight_through.mistake(_CANCELS)
def _no_detach(weight: Tensor) -> Tensor:
    return weight + (fake_quantize(weight) - weight)


@straight_through.mistake(
    "The values are right, but the gradient is zero: `detach` stands on every `weight`, and what "
    "is left to differentiate is the rounding, which is flat. It is the other way round: detach "
    "the rounding, and leave the one `weight` that is added without."
)
def _weights_detached(weight: Tensor) -> Tensor:
    return weight.detach() + (fake_quantize(weight) - weight.detach())


_CUT = (
    "The values are right, but no gradient comes back at all: everything was detached, and the "
    "result does not know the weight any more. A `detach` around the whole sum is one too many: "
    "the weight that is added stands outside of it."
)


@straight_through.mistake(_CUT)
def _detached(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach())


@straight_through.mistake(_CUT)
def _all_detached(weight: Tensor) -> Tensor:
    return weight.detach() + (fake_quantize(weight) - weight).detach()


@straight_through.mistake(
    "The gradient is right, but the values are not rounded: `fake_quantize` has to be in it."
)
def _unrounded(weight: Tensor) -> Tensor:
    return weight.clone()


_RULE = (
    "The scales were chosen by another rule: `fake_quantize(weight)` alone, which is `round_up`, "
    "that of transformers and of nano."
)
for _name in ("floor", "search"):

    def _other_rule(weight: Tensor, rule: Any = _name) -> Tensor:
        return fake_quantize(weight.detach(), rule) + (weight - weight.detach())

    straight_through.mistake(_RULE)(_other_rule)


@straight_through.mistake(
    "The bracket is missing: (rounded + weight) - weight is rounded twice more on the way. The "
    "difference first, `(weight - weight.detach())`, is an exact 0."
)
def _no_bracket(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach()) + weight - weight.detach()


_UNDONE = (
    "Two things: (rounded + weight) - weight, without a bracket, is rounded twice more on the way, "
    "and the gradient is zero, since the weight that is taken off has a slope as well, 1 - 1. The "
    "bracket first, and a `detach` on what is taken off in it: `(weight - weight.detach())`."
)


@straight_through.mistake(_UNDONE)
def _no_bracket_no_detach(weight: Tensor) -> Tensor:
    return fake_quantize(weight).detach() + weight - weight


_NOTHING_LEFT = (
    "Two things: (rounded + weight) - weight, without a bracket, is rounded twice more on the way, "
    "and no gradient comes back, since everything was detached. The weight that is added keeps its "
    "slope."
)


@straight_through.mistake(_NOTHING_LEFT)
def _no_bracket_all_detached(weight: Tensor) -> Tensor:
    return (fake_quantize(weight) + weight - weight).detach()


@straight_through.mistake(
    "Two things: (rounded + weight) - weight, without a bracket, is rounded twice more on the way, "
    "and the gradient is zero, since `detach` stands on every `weight`: the one that is added "
    "keeps its slope."
)
def _no_bracket_weights_detached(weight: Tensor) -> Tensor:
    return fake_quantize(weight) + weight.detach() - weight.detach()


_SIGN = (
    "The gradient has the wrong sign: training would walk uphill. `detach` stands on the wrong one "
    "of the two: the weight that is subtracted is the constant one, the added one keeps its slope."
)


@straight_through.mistake(_SIGN)
def _negated(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach()) + (weight.detach() - weight)


@straight_through.mistake(_SIGN)
def _minus_weight(weight: Tensor) -> Tensor:
    return (fake_quantize(weight.detach()) + weight.detach()) - weight


@straight_through.mistake(_SIGN)
def _difference_keeps_its_slope(weight: Tensor) -> Tensor:
    return (fake_quantize(weight) - weight) + weight.detach()


@straight_through.mistake(
    "The weight was added and never taken off: the values are rounded plus unrounded."
)
def _sum(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach()) + weight


@straight_through.mistake("This is the rounding error: add the weight to it.")
def _error_only(weight: Tensor) -> Tensor:
    return (fake_quantize(weight) - weight).detach() + (weight - weight.detach())


@straight_through.mistake("This is the rounding error: add the weight to it.")
def _constant_error(weight: Tensor) -> Tensor:
    return (fake_quantize(weight) - weight).detach()


@straight_through.mistake("The rounding error was subtracted: add it, to land on the grid.")
def _mirrored(weight: Tensor) -> Tensor:
    return weight - (fake_quantize(weight) - weight).detach()


@straight_through.mistake("Twice the gradient comes back: the weight must be in it once.")
def _twice(weight: Tensor) -> Tensor:
    zero = weight - weight.detach()
    return fake_quantize(weight.detach()) + zero + zero


def _function(backward: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`fake_quantize` with a gradient of one's own: backward(weight, gradient)."""

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, weight: Tensor) -> Tensor:
            context.save_for_backward(weight)
            return fake_quantize(weight)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return backward(context.saved_tensors[0], gradient)

    return Rounded.apply


def _slip(message: str, backward: Callable[[Tensor, Tensor], Tensor]) -> None:
    def wrong(weight: Tensor) -> Tensor:
        return _function(backward)(weight)

    wrong.__name__ = f"_backward_{len(straight_through.mistakes)}"
    straight_through.mistake(message)(wrong)


_slip(
    "The gradient is 1 whatever arrives: pass on the gradient that comes from above.",
    lambda weight, gradient: torch.ones_like(gradient),
)
_slip(
    "The gradient itself was rounded: only the values are, the gradient passes as it is.",
    lambda weight, gradient: fake_quantize(gradient),
)
_slip(
    "The weight was handed back as its own gradient: hand back the one that comes from above.",
    lambda weight, gradient: weight,
)
_slip(
    "The gradient was multiplied by the weights: it passes as it is.",
    lambda weight, gradient: weight * gradient,
)
_slip(
    "The gradient was multiplied by the weights: it passes as it is.",
    lambda weight, gradient: fake_quantize(weight) * gradient,
)


@straight_through.mistake(
    "Weights of bf16 came back as float32: the shape and the dtype stay those of the weight."
)
def _wide(weight: Tensor) -> Tensor:
    return straight_through.function(weight.float())


@straight_through.mistake(
    "This rounds to whole numbers: the grid of MXFP4 is what `fake_quantize` knows."
)
def _whole_numbers(weight: Tensor) -> Tensor:
    return weight + (weight.round() - weight).detach()


@straight_through.mistake(
    "A parameter cannot be changed in place while it is being differentiated: make a new tensor."
)
def _in_place(weight: Tensor) -> Tensor:
    return weight.copy_(fake_quantize(weight))
