"""Exercise on KV heads that several query heads share.

Source of the solution: transformers' `repeat_kv`; a test holds it equal to `labhelpers.model`.
"""

from __future__ import annotations

from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers


@exercise(
    "1.4",
    minutes=5,
    difficulty=1,
    cases=[
        Case("3 KV heads for 6 query heads", lambda: (numbers(3, 5, 4), 2)),
        Case("2 KV heads for 8 query heads", lambda: (numbers(2, 3, 6, seed=1), 4)),
    ],
    axes=("head", "token"),
    hints=(
        "Write down who reads whom for 6 query heads and 3 KV heads: 0 0 1 1 2 2. The copies of a "
        "head stand side by side.",
        "One call does it: `repeat_interleave` with `dim=0` (`repeat` would give 0 1 2 0 1 2).",
    ),
)
def repeat_kv(kv: Tensor, groups: int) -> Tensor:
    """kv [K, T, D] -> [K * groups, T, D], so that query head h finds its KV head at h."""
    return kv.repeat_interleave(groups, dim=0)


@repeat_kv.mistake(
    "Query head h got KV head h % K (0 1 2 0 1 2): it reads KV head h // groups (0 0 1 1 2 2)."
)
def _tiled(kv: Tensor, groups: int) -> Tensor:
    return kv.repeat(groups, 1, 1)


@repeat_kv.mistake("The tokens were repeated (dim 1): the heads are dim 0.")
def _tokens(kv: Tensor, groups: int) -> Tensor:
    return kv.repeat_interleave(groups, dim=1)


@repeat_kv.mistake("The channels were repeated (dim 2): the heads are dim 0.")
def _channels(kv: Tensor, groups: int) -> Tensor:
    return kv.repeat_interleave(groups, dim=2)


@repeat_kv.mistake("The groups stay a dimension of their own: merge it with the heads.")
def _unmerged(kv: Tensor, groups: int) -> Tensor:
    return kv[:, None].expand(-1, groups, -1, -1)


@repeat_kv.mistake("Each head is repeated K times: it is repeated once for each of its queries.")
def _k_times(kv: Tensor, groups: int) -> Tensor:
    return kv.repeat_interleave(len(kv), dim=0)


@repeat_kv.mistake("All query heads got KV head 0: that is multi-query attention.")
def _one_head(kv: Tensor, groups: int) -> Tensor:
    return kv[:1].repeat(len(kv) * groups, 1, 1)
