"""Exercise on training through rounding: the straight-through estimator.

Source of the idea: Bengio, Leonard and Courville 2013. The package's own is
`labhelpers.mxfp4.fake_quantize_ste`; a test holds the solution equal to it.
Wrong versions: `gradients_slips`.
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
    """The values, what comes back to the weight from a gradient that is not all ones, and a word.

    The word is "" but where the gradient is zero: "cancels" if slopes of the weight itself were
    added to nothing, for a card can then say which `detach` is missing.
    """
    if not isinstance(result, Tensor):
        return result if result is None else (result, None, "")
    word = ""
    if result.requires_grad and result.shape == weight.shape:
        by_sums = _reaches_by_sums(result)  # asked first: backward takes the graph apart
        result.backward(numbers(*weight.shape, seed=9).to(result.dtype))
        if by_sums and weight.grad is not None and not weight.grad.any():
            word = "cancels"
        elif type(result.grad_fn).__name__ in _SUMS and not (
            weight.grad is None or weight.grad.any()
        ):
            word = "constants"
    return result.detach(), weight.grad, word


_SUMS = ("AddBackward0", "SubBackward0", "RsubBackward1", "NegBackward0")


def _reaches_by_sums(result: Tensor) -> bool:
    """Does the result depend on a parameter by sums and differences alone?"""
    steps = [result.grad_fn]
    while steps:
        step = steps.pop()
        name = type(step).__name__
        if name == "AccumulateGrad":
            return True
        if name in _SUMS and step is not None:
            steps += [before for before, _ in step.next_functions]
    return False


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
    outputs=("values", "gradient", "word"),
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
