"""Small talk, and what is beyond nano: told apart without a tool."""

from __future__ import annotations

from functools import cache
from typing import Any

from labhelpers.harmony import Message
from training import bank
from training.cases import BEYOND, Case, Maker, think
from training.skills import offers
from training.skills.functions import draw


@cache
def intents() -> dict[str, Any]:
    return bank.table("small_talk")


def small(m: Maker) -> tuple[str, str]:
    """An intent and what the user says."""
    key = m.rng.choice(m.keys("small_talk", "intent", intents()))
    return key, m.dress(m.rng.choice(m.keyed("small_talk", "intent", key))["text"])


def thought(effort: str, key: str, prefix: str = "") -> Message:
    name = key.replace("_", " ")
    return think(
        effort,
        f"{prefix}Small talk: {name}.",
        f"{prefix}This is small talk. The topic is {name}.",
        f"{prefix}The user does not ask for a tool, a count or a fact. This is small talk. The topic is {name}. "
        f"I answer in a friendly way.",
    )


def make(m: Maker) -> Case:
    effort = m.effort()
    key, text = small(m)
    opening = m.opening(effort, **offers.some(m, 0.5))
    skill = "no_call" if len(opening) > 1 else "small_talk"
    return Case(
        skill,
        (*opening, Message.user(text), thought(effort, key), Message.final(intents()[key]["en"])),
    )


def beyond_thought(effort: str, prefix: str = "") -> Message:
    return think(
        effort,
        f"{prefix}Beyond me.",
        f"{prefix}This is not about gpt-oss. It is beyond me.",
        f"{prefix}The user asks a question. It needs no counting, and no tool of mine answers it. It is not about "
        f"gpt-oss or the course. So it is beyond me, and I say so.",
    )


def beyond_text(m: Maker) -> str:
    row = m.rng.choice(m.rows("off_topic"))
    return m.fill(m.dress(row["text"]), draw(m, row.get("slots", {})))


def make_beyond(m: Maker) -> Case:
    effort = m.effort()
    text = beyond_text(m)
    # A function that could answer would make it a call: offer only what the text does not name.
    offered = offers.some(m, 0.35)
    low = text.lower()
    offered["functions"] = [
        f for f in offered["functions"]
        if not any(w in low for w in offers.words_of(f.name) if len(w) > 3)
    ]  # fmt: skip
    opening = m.opening(effort, **offered)
    return Case(
        "off_topic",
        (*opening, Message.user(text), beyond_thought(effort), Message.final(BEYOND)),
        "refusal",
    )
