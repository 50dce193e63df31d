"""Letter counting: spell the word, count while spelling, answer."""

from __future__ import annotations

import re

from labhelpers.harmony import Message
from training.cases import Case, Maker, sentence, think
from training.skills import offers
from training.values import held_out, pieces


def pick_word(m: Maker) -> str:
    """A word: English, a name, glued pieces, or one with doubled letters."""
    rng, v = m.rng, m.v
    form = rng.random()
    if form < 0.55:
        word = v.word()
    elif form < 0.65:
        word = v.name(["Anna", "Hannah", "Mississippi", "Tennessee", "Alabama", "Savannah"], 0.8)
    elif form < 0.85:
        word = v.pseudo(3)
    elif form < 0.89:  # a piece twice: redredge
        base, piece = v.word(), v.rng.choice(pieces())
        word = (piece + piece + base)[:12] if rng.random() < 0.5 else (base + piece + piece)[-12:]
        if held_out(word) != (v.split == "test"):
            return pick_word(m)
    else:  # doubled letters, the hardest to spell
        base = v.word()
        i = rng.randrange(len(base))
        word = base[:i] + base[i] + base[i:]
    form = rng.random()
    return (
        word[:14].upper() if form < 0.03 else word[:14].capitalize() if form < 0.08 else word[:14]
    )


def pick_letter(m: Maker, word: str) -> str:
    """Mostly a letter of the word, often a repeated one."""
    low = word.lower()
    repeated = [c for c in sorted(set(low)) if low.count(c) > 1]
    form = m.rng.random()
    if form < 0.45 and repeated:
        return m.rng.choice(repeated)
    return (
        m.rng.choice(sorted(set(low))) if form < 0.85 else m.rng.choice("abcdefghiklmnoprstuwxyz")
    )


QUOTES = ("'{word}'", '"{word}"', "“{word}”", "`{word}`")


def question(m: Maker, word: str, letter: str) -> str:
    """A counting question; in training the word's quotes and case vary beyond the wording."""
    text = m.dress(m.rng.choice(m.rows("counting"))["text"])
    if not m.plain and m.chance(0.3):
        if m.chance(0.8):
            text = re.sub(r"(['\"“‘`])\{word\}(['\"”’`])", m.rng.choice(QUOTES), text)
        elif " {word}" in text:
            text = text.replace(" {word}", " " + m.rng.choice(QUOTES))
    if not m.plain and m.chance(0.06):
        letter = letter.upper()
    return m.fill(text, {"word": word, "letter": letter})


def spell(word: str, letter: str) -> str:
    """s, t, r 1, a, ...: the count grows along the word."""
    out, n = [], 0
    for c in word.lower():
        if c == letter.lower():
            n += 1
            out.append(f"{c} {n}")
        else:
            out.append(c)
    return ", ".join(out)


def spell_short(word: str, letter: str) -> str:
    """s t r1 a w b e r2 r3 y: as `spell`, without the commas."""
    return spell(word, letter).replace(",", "").replace(f"{letter.lower()} ", letter.lower())


def spell_long(word: str, letter: str) -> str:
    out, n = [], 0
    for c in word.lower():
        n += c == letter.lower()
        out.append(f"{c}: yes, {n}." if c == letter.lower() else f"{c}: no, {n}.")
    return " ".join(out)


def reasoning(effort: str, word: str, letter: str, prefix: str = "") -> tuple[Message, int]:
    """The analysis of an effort, and the count."""
    n = word.lower().count(letter.lower())
    letter = letter.lower()
    message = think(
        effort,
        f"{prefix}{spell_short(word, letter)}: {n}",
        f"{prefix}Word: {word}. Letter: {letter}. {spell(word, letter)}. So {n}.",
        f"{prefix}The word is {word}. I look for the letter {letter} and spell the word. "
        f"{spell_long(word, letter)} The letter {letter} occurs {n} times.",
    )
    return message, n


def make(m: Maker) -> Case:
    effort = m.effort()
    word = pick_word(m)
    letter = pick_letter(m, word)
    text = question(m, word, letter)
    thought, n = reasoning(effort, word, letter)
    opening = m.opening(effort, **offers.some(m, 0.3))
    messages = (
        *opening,
        Message.user(text),
        thought,
        Message.final(sentence(n, letter.lower(), word)),
    )
    return Case("counting", messages, note=word)
