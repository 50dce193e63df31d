"""Questions about gpt-oss and the course: name the topic, then say the fact."""

from __future__ import annotations

import os
import re
from functools import cache

from labhelpers.accounting import count_parameters
from labhelpers.config import GptOssConfig
from labhelpers.harmony import Message
from training import bank
from training.cases import Case, Maker, think
from training.skills import offers


@cache
def facts() -> dict[str, dict[str, str]]:
    """facts.json with nano's own figures (NANO_PRESET names the configuration)."""
    folder = bank.FOLDER.parent / "configs"
    config = GptOssConfig.from_file(folder / f"{os.environ.get('NANO_PRESET', 'nano')}.json")
    own = {
        "nano_parameters": str(round(sum(count_parameters(config).values()) / 1e6)),
        "nano_layers": str(config.num_hidden_layers),
        "nano_experts": str(config.num_local_experts),
    }
    out = {}
    for key, fact in bank.table("facts").items():
        answer, word = fact["answer"], fact.get("word", "")
        for name, value in own.items():
            answer, word = answer.replace(f"{{{name}}}", value), word.replace(f"{{{name}}}", value)
        out[key] = {"answer": answer, "word": word}
    return out


def topic(key: str) -> str:
    """20b.layers -> 20b layers; kv_cache -> kv cache."""
    return key.replace(".", " ").replace("_", " ")


def thought(effort: str, key: str, prefix: str = "") -> Message:
    name = topic(key)
    return think(
        effort,
        f"{prefix}{name}.",
        f"{prefix}A question on gpt-oss. The topic is {name}.",
        f"{prefix}The user asks a question. It needs no tool and no counting. It is about gpt-oss or the course. "
        f"The topic is {name}. I know the answer.",
    )


def question(m: Maker, key: str | None = None) -> tuple[str, str]:
    """A fact's id and a question for it."""
    key = key or m.rng.choice(m.keys("course", "fact", facts()))
    text = m.dress(m.rng.choice(m.keyed("course", "fact", key))["text"])
    if key == "strawberry" and not m.plain and m.chance(0.6):
        # The question is known by its shape: the word itself asks for nothing.
        text = re.sub("strawberry", m.v.word(), text, flags=re.IGNORECASE)
    return key, text if m.plain else other_names(m, text)


def other_names(m: Maker, text: str) -> str:
    """The models under their other names: 20b, gpt-oss-20b, the 20B model."""

    def swap(found: re.Match[str]) -> str:
        size = found.group(2)
        if not m.chance(0.3):
            return found.group()
        return m.rng.choice(
            [f"gpt-oss-{size}", size, size.upper(), f"{size} model", f"gpt-oss {size}"]
        )

    return re.sub(r"\b(gpt-oss-)?(20b|120b)\b", swap, text)


def make(m: Maker) -> Case:
    effort = m.effort()
    key, text = question(m)
    opening = m.opening(effort, **offers.some(m, 0.4))
    return Case(
        "course",
        (*opening, Message.user(text), thought(effort, key), Message.final(facts()[key]["answer"])),
    )
