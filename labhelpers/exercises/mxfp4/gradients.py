"""Exercise on training through rounding: the straight-through estimator.

Source of the idea: Bengio, Leonard and Courville 2013. The package's own is
`labhelpers.mxfp4.fake_quantize_ste`; a test holds the solution equal to it.
Limits: judged by values and by one gradient, with `fake_quantize` as it is (blocks along the last
dimension, scales by round_up).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.words import Words
from labhelpers.mxfp4 import fake_quantize


def _weight(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor]:
    return (numbers(*shape, seed=seed, scale=0.3).to(dtype).requires_grad_(),)


def _apart() -> tuple[Tensor]:
    """Weights of which the three rules for scales make three different tensors."""
    return (numbers(4, 64, seed=7, scale=0.45).requires_grad_(),)


def _with_gradient(result: Any, weight: Tensor) -> Any:
    """The values, and what comes back to the weight from a gradient that is not all ones."""
    if not isinstance(result, Tensor):
        return result if result is None else (result, None)
    if result.requires_grad and result.shape == weight.shape:
        result.backward(numbers(*weight.shape, seed=9).to(result.dtype))
    return result.detach(), weight.grad


def _compiled(function: Callable[..., Any]) -> str:
    """A word to whoever wrote an autograd.Function: this chapter's story is about one."""
    (weight,) = _weight(1, 32, seed=4)
    result = function(weight)
    steps, seen = [result.grad_fn], set()
    while steps:
        step = steps.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if isinstance(step, torch.autograd.function.BackwardCFunction):
            return (
                "One thing to know: an `autograd.Function` is right here, in eager mode, but under "
                "torch.compile of torch 2.11 ours gave a gradient of 0. Brackets and `detach` did "
                "not."
            )
        steps += [before for before, _ in step.next_functions]
    return ""


@exercise(
    "2.6",
    minutes=10,
    difficulty=2,
    cases=[
        Case("weights of float32", lambda: _weight(3, 64, seed=1)),
        Case("weights of bf16", lambda: _weight(2, 32, seed=2, dtype=torch.bfloat16)),
        Case("largest weights of 7 steps under another rule", _apart),
    ],
    outputs=("values", "gradient"),
    tolerance=0.0,
    observe=_with_gradient,
    words=Words(aside=_compiled),
    hints=(
        "`fake_quantize` gives the right values and a gradient of zero. `weight.detach()` is the "
        "same numbers as a constant, without a gradient. What has the value 0 and the gradient 1?",
        "The weight less itself as a constant: exactly 0 in value, and its slope is 1. Add that to "
        "the rounded weights, which are to be a constant too.",
        "The zero is `weight - weight.detach()`. Put it in brackets, so that it is computed first "
        "and is exactly 0; added one by one, the two would round twice more. The rounded weights "
        "come from `weight.detach()`.",
    ),
)
def straight_through(weight: Tensor) -> Tensor:
    """`fake_quantize(weight)` whose gradient passes straight through. Same shape and dtype.

    Whatever gradient reaches the result reaches the weight unchanged, as if nothing were rounded.
    """
    return fake_quantize(weight.detach()) + (weight - weight.detach())


_FLAT = (
    "The values are right, but the gradient is zero: rounding is a staircase, flat nearly "
    "everywhere. The rounding must be a constant (`.detach()`), and the weight be added around it."
)


@straight_through.mistake(_FLAT)
def _plain(weight: Tensor) -> Tensor:
    return fake_quantize(weight)


_CUT = (
    "The values are right, but no gradient comes back at all: everything was detached, and the "
    "result does not know the weight any more."
)


@straight_through.mistake(_CUT)
def _detached(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach())


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


@straight_through.mistake(
    "The gradient has the wrong sign: training would walk uphill. The weight that is subtracted is "
    "the constant one."
)
def _negated(weight: Tensor) -> Tensor:
    return fake_quantize(weight.detach()) + (weight.detach() - weight)


@straight_through.mistake(
    "The gradient has the wrong sign: training would walk uphill. The weight that is subtracted is "
    "the constant one."
)
def _minus_weight(weight: Tensor) -> Tensor:
    return (fake_quantize(weight.detach()) + weight.detach()) - weight


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
