"""The shares of the skills in training, and the cases of an evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.cases import Case, Maker, without_reasoning
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
    (29, functions.make),
    (14, counting.make),
    (12, arithmetic.make),
    (7, browser.make),
    (11, course.make),
    (4, talk.make),
    (5, talk.make_beyond),
    (6, functions.make_none_fits),
    (1, arithmetic.make_without),
    (10, instructions.make),
    (10, turns.make),
    (8, drills.make),
]  # fmt: skip


def draw(m: Maker) -> Case:
    """One case of the mixture. Some servers drop the reasoning before a call: so does a tenth."""
    case = m.rng.choices([f for _, f in SHARES], [w for w, _ in SHARES])[0](m)
    if m.chance(0.1) and any(message.role == "tool" for message in case.turn):
        return without_reasoning(case)
    return case


def maker(seed: int) -> Maker:
    """A maker for training with its own generator."""
    return Maker(random.Random(seed))
