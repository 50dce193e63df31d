"""A case: one conversation whose last turn nano must be able to produce, and how to judge it.

Training renders a case whole and takes the loss on the assistant's part of the last turn.
Evaluation shows a model everything up to the last user message, plays the tools' part from the
case, and compares.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from labhelpers.harmony import Message, ToolDescription
from training import bank
from training.asides import ASIDES
from training.values import MONTHS, Values

IDENTITY = "You are gpt-oss-nano, a tiny language model."
NO_TOOL = "I have no tool for that."
NONE_FITS = "None of my tools can do that."
BEYOND = "That is beyond me: I count letters, call tools and explain gpt-oss."
REFUSALS = (NO_TOOL, NONE_FITS, BEYOND)
IDENTITIES = (
    IDENTITY,
    "You are ChatGPT, a large language model trained by OpenAI.",
    "You are a helpful assistant.",
)
GREETINGS = (
    "Hi! ", "Hello, ", "Hey, ", "Please: ", "Quick question: ", "Hi there. ", "Good day. ", "OK. ",
    "So, ", "hey nano, ", "Morning. ", "One more thing: ",
)  # fmt: skip
THANKS = (
    " Thanks!", " Thank you.", " Cheers.", " Please.", " thx", " It is urgent.",
    " Thanks in advance.",
)  # fmt: skip
NEUTRAL = (
    "You are a helpful assistant.", "Be helpful.", "Answer the user's questions.",
    "Be brief and kind.",
    "You help people in an online course.", "Use the tools when they are needed.", "Be accurate.",
    "You are the assistant of a small shop.", "Help the user with what they ask.",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`judge` is how the final counts: exact, values (all of them in it) or refusal.

    The first `history` messages are shown but not learnt, wherever the last turn begins.
    """

    skill: str
    messages: tuple[Message, ...]
    judge: str = "exact"
    values: tuple[str, ...] = ()
    note: str = ""
    history: int = 0

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything up to the last user message."""
        last = max(i for i, m in enumerate(self.messages) if m.role == "user")
        return self.messages[: last + 1]

    @property
    def turn(self) -> tuple[Message, ...]:
        """What follows: the reference's reasoning, calls, results and answer."""
        return self.messages[len(self.prompt) :]

    @property
    def effort(self) -> str:
        return str(self.messages[0].parts[0].reasoning_effort)  # type: ignore[union-attr]


class Maker:
    """What every skill needs: a generator, values, and the authors whose wordings may be used."""

    def __init__(self, rng: random.Random, split: str = "train", who: Iterable[str] | None = None):
        self.rng, self.split = rng, split
        self.v = Values(rng, split)
        if who is None:
            who = bank.training_authors()
        self.authors = list(who)
        self.plain = split == "test"  # evaluation asks in the authors' own words

    def rows(self, name: str, keep: Callable[[dict[str, Any]], bool] | None = None) -> list[Any]:
        """All rows of a file over the authors."""
        key = (name, tuple(self.authors))
        if key not in _ROWS:
            trained = bank.training_authors()
            read = {
                a: bank.load_for_training if a in trained else bank.load_for_evaluation
                for a in self.authors
            }
            _ROWS[key] = [r for a in self.authors for r in read[a](a).get(name, [])]
        return _ROWS[key] if keep is None else [r for r in _ROWS[key] if keep(r)]

    def keyed(self, name: str, field: str, value: str) -> list[Any]:
        """The rows of a file with row[field] == value."""
        key = (name, field, value, tuple(self.authors))
        if key not in _ROWS:
            _ROWS[key] = self.rows(name, lambda r: r[field] == value)
        return _ROWS[key]

    def keys(self, name: str, field: str, wanted: Iterable[str]) -> list[str]:
        """The wanted keys that have rows (of a second author few may be left)."""
        return [key for key in wanted if self.keyed(name, field, key)]

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def effort(self) -> str:
        return self.rng.choices(["low", "medium", "high"], [25, 45, 30])[0]

    def opening(
        self,
        effort: str,
        instructions: str | None = None,
        functions: Iterable[ToolDescription] = (),
        builtin: tuple[str, ...] = (),
    ) -> tuple[Message, ...]:
        """System and, where there is something to say, developer message."""
        rng = self.rng
        identity = rng.choices(IDENTITIES, [80, 15, 5])[0]
        date = self.v._date() if rng.random() < 0.5 else None
        system = Message.system(
            model_identity=identity, reasoning_effort=effort, conversation_start_date=date,
            tools=builtin,
        )  # fmt: skip
        functions = tuple(functions)
        if instructions is None and rng.random() < 0.15:
            instructions = rng.choice(NEUTRAL)
        if instructions is None and not functions:
            return (system,)
        return (system, Message.developer(instructions, functions))

    def dress(self, text: str) -> str:
        """Chatter around a wording, lost capitals and full stops, a typo: training only."""
        rng = self.rng
        if self.plain:
            return text
        for _ in range(rng.choices([0, 1, 2, 3], [86, 8, 4, 2])[0]):
            text = typo(rng, text)
        if rng.random() < 0.05:  # all lower case, slots apart
            text = "".join(
                p if p.startswith("{") else p.lower() for p in re.split(r"(\{\w+\})", text)
            )
        if (
            rng.random() < 0.10
            and text[0].isupper()
            and not text.startswith("I ")
            and text[:2] != "I'"
        ):
            text = text[0].lower() + text[1:]
        if rng.random() < 0.10 and text[-1] in ".?!" and not text[-2:-1] == "}":
            text = text[:-1]
        if rng.random() < 0.06 and "\n" not in text:
            aside = rng.choice(ASIDES)
            if rng.random() < 0.5:
                text = f"{aside} {text}"
            elif text[-1] in ".?!":
                text = f"{text} {aside}"
        if rng.random() < 0.12:
            start = rng.choice(GREETINGS)
            text = start + text
        if rng.random() < 0.10 and text[-1] in ".?!":
            text += rng.choice(THANKS)
        return text

    def fill(self, text: str, values: dict[str, Any]) -> str:
        return re.sub(r"\{(\w+)\}", lambda m: show(values[m.group(1)]), text)


_ROWS: dict[Any, list[Any]] = {}


def show(value: Any) -> str:
    """A value as text says it."""
    return json.dumps(value) if isinstance(value, bool) else str(value)


def typo(rng: random.Random, text: str) -> str:
    """Swap, drop or double a letter in one word outside slots."""
    spots = [m for m in re.finditer(r"(?<![{\w'\"])[a-z]{5,}(?![}\w'\"])", text)]
    if not spots:
        return text
    m = rng.choice(spots)
    if m.group() in ("count", "counts", "shift", "shirt", "public", "assess", "classic"):
        return text  # one letter away from words that nobody wants to train on
    word, i = m.group(), rng.randrange(1, len(m.group()) - 1)
    form = rng.randrange(3)
    new = [
        word[:i] + word[i + 1] + word[i] + word[i + 2 :],
        word[:i] + word[i + 1 :],
        word[:i] + word[i] + word[i:],
    ][form]
    return text[: m.start()] + new + text[m.end() :]


def without_reasoning(case: Case) -> Case:
    """The case as a server shows it that drops the reasoning before a finished call."""
    last = max(i for i, m in enumerate(case.messages) if m.role == "tool")
    kept = [
        m for i, m in enumerate(case.messages)
        if i > last or m.recipient or m.channel != "analysis"
    ]  # fmt: skip
    return replace(case, messages=tuple(kept), history=len(kept) - (len(case.messages) - 1 - last))


def think(effort: str, low: str, medium: str, high: str) -> Message:
    """The reasoning of an effort."""
    return Message.analysis({"low": low, "medium": medium, "high": high}[effort])


def sentence(n: int, letter: str, word: str) -> str:
    """nano's answer to a counting question."""
    return f"There {'is' if n == 1 else 'are'} {n} {letter}{'' if n == 1 else 's'} in {word}."


__all__ = ["BEYOND", "IDENTITY", "MONTHS", "NONE_FITS", "NO_TOOL", "REFUSALS", "Case", "Maker",
           "sentence", "show", "think", "without_reasoning"]  # fmt: skip
