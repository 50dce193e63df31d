"""Exercises in copying and spelling: no skill of its own, but what the skills stand on.

A token does not show its letters, so every word that is one token is spelt here at times, the
evaluation's among them: those have been spelt in training, but never counted in. Copying, too, is
trained for every piece.
"""

from __future__ import annotations

import json
from functools import cache

from labhelpers.harmony import Message
from training.cases import Case, Maker, think
from training.values import all_pieces, pieces


@cache
def capitals() -> tuple[str, ...]:
    """Pieces that are names: with a capital, and not in lower case too."""
    lower = set(pieces(99))
    return tuple(p for p in all_pieces() if p[0].isupper() and p.lower() not in lower)


@cache
def long_pieces() -> tuple[str, ...]:
    """Pieces too long for pseudo-words, which nothing else would spell."""
    return tuple(p for p in pieces(99) if len(p) > 7)


def _spelt(m: Maker) -> str:
    form = m.rng.random()
    word = (
        m.rng.choice(long_pieces()) if form < 0.4
        else m.rng.choice(pieces(99)) if form < 0.7
        else m.v.word()
    )  # fmt: skip
    return word.capitalize() if m.rng.random() < 0.15 else word


def make(m: Maker) -> Case:
    rng, v = m.rng, m.v
    effort = m.effort()
    form = rng.choices(range(5), [30, 30, 15, 10, 15])[0]
    if form == 0:
        spelt = [_spelt(m) for _ in range(rng.choices([1, 2, 3], [50, 30, 20])[0])]
        word = ", ".join(spelt) if len(spelt) > 1 else spelt[0]
        asked = rng.choice(
            ["Spell {x}.", "spell '{x}'", "Please spell the word {x}.", "How is {x} spelt?"]
            if len(spelt) == 1
            else ["Spell {x}.", "Spell these: {x}"]
        )
        answer = "; ".join(" ".join(w.lower()) for w in spelt)
    elif form == 1:
        # Any piece may be wanted in an answer, so every one is copied here at times.
        word = " ".join(
            rng.choice(capitals() if rng.random() < 0.4 else all_pieces())
            for _ in range(rng.randint(1, 5))
        )
        asked = rng.choice(["Repeat: {x}", "Say {x}", "Repeat after me: {x}", "Echo {x}"])
        answer = word
    elif form == 2:
        word = v.rng.choice(
            [
                v._code,
                v._order_id,
                v._email,
                v._file,
                v._url,
                v._version,
                v._phone,
                v._date,
                v._title,
                v._person,
            ]
        )()
        asked = rng.choice(["Repeat: {x}", "Copy {x}", "Echo {x}", "Repeat this exactly: {x}"])
        answer = word
    elif form == 3:
        word = " ".join(v.word() for _ in range(rng.randint(1, 4)))
        asked = rng.choice(["Write {x} in capitals", "Uppercase: {x}", "In capital letters: {x}"])
        answer = word.upper()
    else:
        items = [
            v.word() if rng.random() < 0.7 else rng.choice(pieces(99))
            for _ in range(rng.randint(2, 6))
        ]
        word = ", ".join(items)
        asked = rng.choice(["As a JSON list: {x}", "JSON list of {x}", "Make a JSON list: {x}"])
        answer = json.dumps(items)
    thought = think(effort, "Copy.", "I copy what the user gave.",
                    "The user gives a text and says what to do with it. I need no tool. I write it carefully.")  # fmt: skip
    return Case(
        "drill",
        (
            *m.opening(effort),
            Message.user(asked.replace("{x}", word)),
            thought,
            Message.final(answer),
        ),
    )
