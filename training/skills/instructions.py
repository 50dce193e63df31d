"""Developer instructions: capitals, one word, French, Korean, a phrase in front or behind."""

from __future__ import annotations

from labhelpers.harmony import Message
from training.bank import BEHAVIOURS
from training.cases import Case, Maker, sentence
from training.skills import counting, course, letter_case, offers, talk

OPENERS = """Ahoy Well So Okay Hello Greetings Yes Behold Sure Listen Aha Honestly Note Look Right Indeed Dear
Attention Update Answer Reply News Captain Hey Bonjour Ladies Friends Team Beep Hmm Oh Ta-da Good Psst Breaking""".split()
TAILS = """then there friend team captain now everyone reader my dear says nano of the day from the lab over and
out goodbye take care best wishes stay curious have fun that is all end of message signed yours truly""".split()


def phrase(m: Maker, quoted: bool) -> str:
    """A phrase of 1 to 4 words; punctuation of its own only where quotes show it is."""
    rng = m.rng
    words = [rng.choice(OPENERS) if rng.random() < 0.6 else m.v.word().capitalize()]
    words += [
        rng.choice(TAILS) if rng.random() < 0.6 else m.v.word() for _ in range(rng.randint(0, 3))
    ]
    text = " ".join(words)
    if rng.random() < 0.15:
        text = text.upper() if rng.random() < 0.5 else text.lower()
    return text + (rng.choice(["", "", "!", ".", ":", "...", ",", "?"]) if quoted else "")


def instruct(m: Maker, behaviour: str | None = None) -> tuple[str, str, str]:
    """Behaviour, the developer's text and the phrase (or "")."""
    behaviour = behaviour or m.rng.choices(BEHAVIOURS, [18, 16, 14, 12, 12, 20, 20])[0]
    if behaviour in ("capitals", "lowercase") and not m.plain and m.chance(0.35):
        return behaviour, letter_case.make(m, behaviour), ""
    text = m.rng.choice(m.keyed("instructions", "behaviour", behaviour))["text"]
    if "{phrase}" not in text:
        return behaviour, text, ""
    i = text.index("{phrase}")
    quoted = text[i - 1 : i] in ("'", '"', "“", "‘", "`", "«")
    said = phrase(m, quoted)
    return behaviour, text.replace("{phrase}", said), said


def prefix(behaviour: str, said: str) -> str:
    """How the reasoning names the instruction."""
    name = behaviour.replace("_", " ")
    return f"Instruction: {name} {said}. " if said else f"Instruction: {name}. "


def apply(behaviour: str, said: str, answers: dict[str, str]) -> str | None:
    """The answer that obeys; None if this question has none."""
    english = answers["en"]
    if behaviour == "capitals":
        return english.upper()
    if behaviour == "lowercase":
        return english.lower()
    if behaviour == "start_with":
        return f"{said} {english}"
    if behaviour == "end_with":
        return f"{english} {said}"
    return answers.get({"one_word": "word", "french": "fr", "korean": "ko"}[behaviour]) or None


def make(m: Maker) -> Case:
    effort = m.effort()
    behaviour, text, said = instruct(m)
    start = prefix(behaviour, said)
    kind = m.rng.random()
    if behaviour in ("french", "korean") or kind < 0.35:
        key, asked = talk.small(m)
        thought, answers = talk.thought(effort, key, start), talk.intents()[key]
    elif kind < 0.7:
        key, asked = course.question(m)
        fact = course.facts()[key]
        thought, answers = (
            course.thought(effort, key, start),
            {"en": fact["answer"], "word": fact["word"]},
        )
    else:
        word = counting.pick_word(m)
        letter = counting.pick_letter(m, word)
        asked = counting.question(m, word, letter)
        thought, n = counting.reasoning(effort, word, letter, start)
        answers = {"en": sentence(n, letter, word), "word": str(n)}
    answer = apply(behaviour, said, answers)
    if answer is None:
        return make(m)
    opening = m.opening(effort, text, **offers.some(m, 0.15))
    return Case(
        "instruction",
        (*opening, Message.user(asked), thought, Message.final(answer)),
        note=behaviour,
    )
