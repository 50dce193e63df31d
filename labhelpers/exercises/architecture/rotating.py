"""Exercises on rotary positions: the angles, and the turning.

Source of the solutions: transformers' GptOssRotaryEmbedding without YaRN, and
`_apply_rotary_emb`; tests hold them equal to `labhelpers.model`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers


@exercise(
    "1.2",
    minutes=10,
    difficulty=2,
    cases=[
        Case("head_dim 8", lambda: (torch.tensor([0, 1, 2, 5, 40]), 8, 10_000.0)),
        Case("positions from 7 on", lambda: (torch.tensor([7, 8, 9]), 12, 150_000.0)),
    ],
    axes=("token",),
    hints=(
        "Two channels make a pair, so there are D / 2 speeds. Pair 0 turns by 1 radian a token, "
        "and each next pair is slower by the same factor.",
        "`pair = torch.arange(head_dim // 2)` and `speed = theta ** (-2 * pair / head_dim)`; then "
        "every position times every speed: `positions[:, None] * speed`.",
    ),
)
def rope_angles(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """Angles in radians, float32 [T, D/2]: how far each pair has turned at positions [T]."""
    pair = torch.arange(head_dim // 2)
    speed = theta ** (-2 * pair / head_dim)  # [D/2]
    return positions[:, None] * speed


@rope_angles.mistake("The exponent is i / D: it takes 2i / D, for i counts pairs of channels.")
def _half_exponent(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** (-torch.arange(head_dim // 2) / head_dim)


@rope_angles.mistake("The exponent is 4i / D: i / (D/2) is 2i / D already.")
def _double_exponent(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** (-4 * torch.arange(head_dim // 2) / head_dim)


@rope_angles.mistake("The minus is missing: later pairs must turn slower, not faster.")
def _growing(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** (2 * torch.arange(head_dim // 2) / head_dim)


@rope_angles.mistake("Positions are one too large: the first token stands at position 0.")
def _from_one(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(positions + 1, head_dim, theta)


@rope_angles.mistake("It counts from 0 instead of using the positions that were given.")
def _own_positions(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(torch.arange(len(positions)), head_dim, theta)


@rope_angles.mistake("Pairs are in reverse: pair 0 is the fastest.")
def _reversed(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(positions, head_dim, theta).flip(-1)


_PER_CHANNEL = "One angle a channel: two channels share an angle, so there are D / 2."


@rope_angles.mistake(_PER_CHANNEL)
def _per_channel(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** (-torch.arange(head_dim) / head_dim)


@rope_angles.mistake(_PER_CHANNEL)
def _per_channel_twice(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** (-2 * torch.arange(head_dim) / head_dim)


_EACH_TWICE = (
    "Every angle comes twice, once for each channel of a pair: here once is enough, D / 2."
)


@rope_angles.mistake(_EACH_TWICE)
def _halves_alike(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(positions, head_dim, theta).repeat(1, 2)


@rope_angles.mistake(_EACH_TWICE)
def _neighbours_alike(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(positions, head_dim, theta).repeat_interleave(2, dim=-1)


@rope_angles.mistake("The exponents run up to 1 (linspace): the last one is 1 - 2 / D.")
def _linspace(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions[:, None] * theta ** -torch.linspace(0, 1, head_dim // 2)


@rope_angles.mistake("The pairs are counted from 1: pair 0 turns by 1 radian a token.")
def _pairs_from_one(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    pair = torch.arange(1, head_dim // 2 + 1)
    return positions[:, None] * theta ** (-2 * pair / head_dim)


@rope_angles.mistake("This is the cosine of the angles: return the angles themselves.")
def _cosine(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return rope_angles.function(positions, head_dim, theta).cos()


@rope_angles.mistake("Every position meets every speed: make positions a column, [T, 1].")
def _no_column(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    return positions * theta ** (-2 * torch.arange(head_dim // 2) / head_dim)


# -- turning the pairs ------------------------------------------------------------------------


def _turn_case(tokens: int, heads: int, dim: int, length: float = 1.0) -> tuple[Any, ...]:
    angles = rope_angles.function(torch.arange(1, tokens + 1), dim, 50.0)
    return numbers(tokens, heads, dim, seed=tokens), length * angles.cos(), length * angles.sin()


@exercise(
    "1.3",
    minutes=15,
    difficulty=2,
    cases=[
        Case("5 tokens, 3 heads", lambda: _turn_case(5, 3, 8)),
        Case("cos and sin that YaRN made longer", lambda: _turn_case(2, 4, 6, 1.25)),
    ],
    axes=("token", "head"),
    hints=(
        "A pair (a, b) turned by an angle becomes (a cos - b sin, b cos + a sin). In gpt-oss the "
        "pairs lie far apart: channel i belongs to channel i + D/2.",
        "`first, second = x.chunk(2, dim=-1)` gives both halves, [T, N, D/2]. cos and sin are "
        "[T, D/2] and the same for all heads: `cos[:, None]`. Join with `torch.cat((.., ..), -1)`.",
    ),
)
def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs of x [T, N, D] by the angles whose cos and sin are [T, D/2]."""
    cos, sin = cos[:, None], sin[:, None]  # [T, 1, D/2]
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@apply_rope.mistake(
    "Neighbours were paired (0 with 1): gpt-oss pairs halves, channel i with channel i + D/2."
)
def _neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b, cos, sin = x[..., ::2], x[..., 1::2], cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


@apply_rope.mistake("Pairs were read as neighbours but written as halves.")
def _read_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b, cos, sin = x[..., ::2], x[..., 1::2], cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@apply_rope.mistake(
    "Pairs were read as halves but written as neighbours (`stack`, then flattened): join the two "
    "halves with `torch.cat((.., ..), dim=-1)`."
)
def _written_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack(apply_rope.function(x, cos, sin).chunk(2, dim=-1), dim=-1).flatten(-2)


@apply_rope.mistake("It turns backwards: the sign of both sin terms is wrong.")
def _backwards(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope.function(x, cos, -sin)


@apply_rope.mistake("cos and sin are exchanged.")
def _exchanged(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope.function(x, sin, cos)


@apply_rope.mistake("The two halves of the result are exchanged.")
def _halves_swapped(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat(apply_rope.function(x, cos, sin).chunk(2, dim=-1)[::-1], dim=-1)


@apply_rope.mistake("Both halves have a minus: the second is b cos + a sin, else nothing turns.")
def _two_minus(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos - a * sin), dim=-1)


@apply_rope.mistake(
    "The minus is missing: the first half is a cos - b sin. (With rotate-half: `(-b, a)`.)"
)
def _no_minus(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos + b * sin, b * cos + a * sin), dim=-1)


@apply_rope.mistake("The first half was overwritten before the second used it.")
def _overwritten(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    a = a * cos - b * sin
    return torch.cat((a, b * cos + a * sin), dim=-1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    first, second = apply_rope.function(x, cos, sin).chunk(2, dim=-1)
    return first, second


_STACKED = (
    "`torch.stack` makes a new dimension: join the two halves along the last one, with "
    "`torch.cat((.., ..), dim=-1)`."
)


@apply_rope.mistake(_STACKED)
def _stacked_last(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack(_turned(x, cos, sin), dim=-1)


@apply_rope.mistake(_STACKED)
def _stacked_second_last(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack(_turned(x, cos, sin), dim=-2)


@apply_rope.mistake(_STACKED)
def _stacked_first(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.stack(_turned(x, cos, sin))


@apply_rope.mistake("`torch.cat` joined along the tokens, dim 0: the halves meet in the last, -1.")
def _cat_tokens(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat(_turned(x, cos, sin))


@apply_rope.mistake("cos and sin serve all heads: give them a dimension for that, `cos[:, None]`.")
def _no_head_axis(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
