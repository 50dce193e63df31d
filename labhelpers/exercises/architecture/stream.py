"""Exercises on the stream of hidden states: RMSNorm, and the block that adds to the stream.

Source of the solutions: transformers' GptOssRMSNorm and GptOssDecoderLayer; tests hold them
equal to `labhelpers.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers

Part = Callable[[Tensor], Tensor]


@exercise(
    "1.1",
    minutes=10,
    difficulty=1,
    cases=[
        Case("3 tokens of width 8", lambda: (numbers(3, 8), numbers(8, seed=1), 1e-5)),
        Case(
            "numbers so small that eps counts",
            lambda: (numbers(2, 6, scale=0.05), numbers(6, seed=2), 0.01),
        ),
        Case(
            "bfloat16 numbers",
            lambda: (numbers(3, 8, seed=3).bfloat16(), numbers(8, seed=4).bfloat16(), 1e-5),
        ),
    ],
    axes=("token",),
    hints=(
        "Root, mean, square, read from right to left: square every channel, take the mean over a "
        "token's channels, add eps, take the root. Divide by it, then scale each channel.",
        "Begin with `x32 = x.float()` and `x32.square().mean(-1, keepdim=True)`; "
        "`torch.rsqrt` is 1 / root. Multiply by the weight before the one cast, `.to(x.dtype)`.",
    ),
)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., H] over its root mean square, times weight [H]; statistics in float32."""
    x32 = x.float()
    x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    return (weight * x32).to(x.dtype)


def _mean_square(x: Tensor) -> Tensor:
    return x.float().square().mean(-1, keepdim=True)


@rms_norm.mistake("The mean was subtracted: that is LayerNorm. RMSNorm leaves the mean in.")
def _centred(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm.function(x.float() - x.float().mean(-1, keepdim=True), weight, eps).to(x.dtype)


@rms_norm.mistake("The root is missing: it divides by the mean square, not by its square root.")
def _no_root(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return (weight * x.float() / (_mean_square(x) + eps)).to(x.dtype)


@rms_norm.mistake("eps stands outside the root: it is added to the mean square, under the root.")
def _eps_outside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return (weight * x.float() / (_mean_square(x).sqrt() + eps)).to(x.dtype)


@rms_norm.mistake("eps is missing: a token of zeros would become a division by zero.")
def _no_eps(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm.function(x, weight, 0.0)


@rms_norm.mistake(
    "It was cast to bfloat16 before the scale, as Llama does: gpt-oss scales in float32 and "
    "rounds once, at the end."
)
def _cast_early(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x.float() * torch.rsqrt(_mean_square(x) + eps)).to(x.dtype)


@rms_norm.mistake("The result stayed float32: cast it back to the dtype of x.")
def _no_cast(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x.float() * torch.rsqrt(_mean_square(x) + eps))


@rms_norm.mistake("The mean runs over the tokens (dim 0): each token is normalised by itself.")
def _over_tokens(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (weight * x32 * torch.rsqrt(x32.square().mean(0, keepdim=True) + eps)).to(x.dtype)


@rms_norm.mistake(
    "One mean was taken over all tokens (`mean()` without a dim): each token has a size of its own."
)
def _over_all(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (weight * x32 * torch.rsqrt(x32.square().mean() + eps)).to(x.dtype)


@rms_norm.mistake("It divides by the root of the sum of squares, not of their mean.")
def _sum(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (weight * x32 * torch.rsqrt(x32.square().sum(-1, keepdim=True) + eps)).to(x.dtype)


@rms_norm.mistake("The weight is missing: every channel has a scale of its own.")
def _no_weight(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm.function(x, torch.ones_like(weight), eps)


@rms_norm.mistake("The scale is 1 + weight, as in Gemma: gpt-oss's is the weight itself.")
def _weight_plus_one(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm.function(x, weight.float() + 1, eps)


_IN_BFLOAT16 = (
    "It was computed in bfloat16, which keeps two or three digits: begin with `x.float()`, and "
    "cast once, at the end."
)


@rms_norm.mistake(_IN_BFLOAT16)
def _narrow_root(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps))


@rms_norm.mistake(_IN_BFLOAT16)
def _narrow_division(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps))


@rms_norm.mistake(_IN_BFLOAT16)
def _narrow_weight_first(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@rms_norm.mistake(_IN_BFLOAT16)
def _narrow_weight_first_division(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


@rms_norm.mistake("The mean lost its dimension: `keepdim=True` keeps it, so that it fits to x.")
def _no_keepdim(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (weight * x32 * torch.rsqrt(x32.square().mean(-1) + eps)).to(x.dtype)


# -- the block --------------------------------------------------------------------------------


def _parts(width: int) -> tuple[Part, Part, Part, Part]:
    """Two norms, an attention that looks back and an mlp: small, and all different."""
    mix = numbers(width, width, seed=5)
    return (
        lambda x: 0.5 * x,
        lambda x: torch.tanh(x.cumsum(0)),
        lambda x: x - 0.3,
        lambda x: torch.sin(x @ mix),
    )


def _block_case(tokens: int, width: int) -> tuple[Any, ...]:
    norm_1, attention, norm_2, mlp = _parts(width)
    return numbers(tokens, width), norm_1, attention, norm_2, mlp


@exercise(
    "1.8",
    minutes=5,
    difficulty=1,
    cases=[
        Case("4 tokens of width 6", lambda: _block_case(4, 6)),
        Case("1 token of width 3", lambda: _block_case(1, 3)),
    ],
    axes=("token",),
    hints=(
        "Attention and experts each read a normalised copy of the stream, and what they say is "
        "added to the stream itself, which is never normalised.",
        "Two lines of one shape: `x = x + attention(norm_1(x))`, then the same with the other norm "
        "and the mlp. (`x += ...` would change the caller's tensor.)",
    ),
)
def block(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    """One layer of gpt-oss on the stream x [T, H] -> [T, H]."""
    x = x + attention(norm_1(x))
    return x + mlp(norm_2(x))


@block.mistake("Nothing is added back after attention: the stream x itself must go on.")
def _no_first_sum(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = attention(norm_1(x))
    return x + mlp(norm_2(x))


@block.mistake(
    "What attention says reaches the mlp but never the stream: add it to x, and let the mlp read "
    "that sum, normalised."
)
def _attention_lost(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return x + mlp(norm_2(attention(norm_1(x))))


@block.mistake("Nothing is added back after the mlp: its output replaced the stream.")
def _no_second_sum(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = x + attention(norm_1(x))
    return mlp(norm_2(x))


@block.mistake("The norms stand after the sums (post-norm): gpt-oss normalises what a part reads.")
def _post_norm(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = norm_1(x + attention(x))
    return norm_2(x + mlp(x))


@block.mistake("The normalised copy was added back: add to the stream as it came in.")
def _normed_stream(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = norm_1(x)
    x = x + attention(x)
    x = norm_2(x)
    return x + mlp(x)


@block.mistake("The mlp reads the stream from before attention: the two come one after the other.")
def _parallel(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return x + attention(norm_1(x)) + mlp(norm_2(x))


@block.mistake("One norm serves both parts: the mlp has its own, norm_2.")
def _one_norm(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return block.function(x, norm_1, attention, norm_1, mlp)


@block.mistake("The mlp comes first: in gpt-oss attention does, then the mlp.")
def _mlp_first(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return block.function(x, norm_2, mlp, norm_1, attention)


@block.mistake("No norm is used: each part reads a normalised copy of the stream.")
def _no_norms(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = x + attention(x)
    return x + mlp(x)


@block.mistake(
    "Nothing is added back at all: each part must add what it says to the stream, or all that "
    "came before is lost."
)
def _no_sums(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return mlp(norm_2(attention(norm_1(x))))


@block.mistake("The norms stand on what the parts say: they belong to what the parts read.")
def _norm_after(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    x = x + norm_1(attention(x))
    return x + norm_2(mlp(x))


@block.mistake("The result was normalised once more: the stream itself never is.")
def _norm_result(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return norm_2(block.function(x, norm_1, attention, norm_2, mlp))


@block.mistake("The norms are exchanged: norm_1 goes before attention, norm_2 before the mlp.")
def _swapped_norms(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    return block.function(x, norm_2, attention, norm_1, mlp)


@block.mistake("The second sum starts at the old x: what attention added is lost.")
def _old_stream(x: Tensor, norm_1: Part, attention: Part, norm_2: Part, mlp: Part) -> Tensor:
    after = x + attention(norm_1(x))
    return x + mlp(norm_2(after))
