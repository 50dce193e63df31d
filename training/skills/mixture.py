"""The shares of the skills in training, and the cases of an evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.cases import Case, Maker
from training.skills import (
    arithmetic,
    browser,
    counting,
    course,
    drills,
    functions,
    instructions,
    talk,
    turns,
)

SHARES: list[tuple[float, Callable[[Maker], Case]]] = [
    (30, functions.make),
    (13, counting.make),
    (9, arithmetic.make),
    (5, browser.make),
    (11, course.make),
    (4, talk.make),
    (5, talk.make_beyond),
    (6, functions.make_none_fits),
    (1, arithmetic.make_without),
    (9, instructions.make),
    (10, turns.make),
    (4, drills.make),
]  # fmt: skip


def draw(m: Maker) -> Case:
    """One case of the mixture."""
    return m.rng.choices([f for _, f in SHARES], [w for w, _ in SHARES])[0](m)


def maker(seed: int) -> Maker:
    """A maker for training with its own generator."""
    return Maker(random.Random(seed))
