"""Exercises in copying and spelling: no skill of its own, but what the skills stand on."""

from __future__ import annotations

import json

from labhelpers.harmony import Message
from training.cases import Case, Maker, think
from training.values import pieces


def make(m: Maker) -> Case:
    rng, v = m.rng, m.v
    effort = m.effort()
    form = rng.randrange(5)
    if form == 0:
        word = rng.choice(pieces()) if rng.random() < 0.3 else v.word()
        asked = rng.choice(
            ["Spell {x}.", "spell '{x}'", "Please spell the word {x}.", "How is {x} spelt?"]
        )
        answer = " ".join(word)
    elif form == 1:
        word = " ".join(v.word() for _ in range(rng.randint(1, 5)))
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
            v.word() if rng.random() < 0.7 else rng.choice(pieces())
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
