"""Sums through the python tool: translate the request into one expression, print it, report it."""

from __future__ import annotations

import ast
import operator
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from labhelpers.harmony import Message
from training.cases import NO_TOOL, Case, Maker, think
from training.skills import offers, reading, stories

FRAMES = ["What is {x}?", "Compute {x}.", "{x}", "Calculate {x} please.", "How much is {x}?", "{x} = ?", "I need {x}.", "Work out {x} for me.", "Evaluate {x}", "Can you tell me what {x} is?", "Give me the value of {x}."]  # fmt: skip
WORDS = {
    "+": ["{a} plus {b}", "{a} + {b}", "the sum of {a} and {b}", "{a} and {b} added together", "{a} increased by {b}", "{b} more than {a}"],
    "-": ["{a} minus {b}", "{a} - {b}", "{a} less {b}", "{a} take away {b}", "the difference between {a} and {b}", "{b} subtracted from {a}", "{a} reduced by {b}"],
    "*": ["{a} times {b}", "{a} * {b}", "{a} x {b}", "the product of {a} and {b}", "{a} multiplied by {b}"],
    "//": ["{a} // {b}", "{a} divided by {b}, whole part only", "the integer quotient of {a} and {b}", "how often {b} fits into {a}"],
    "%": ["{a} % {b}", "{a} mod {b}", "{a} modulo {b}", "the remainder of {a} divided by {b}", "the remainder of {a} / {b}", "what is left over when {a} is divided by {b}"],
    "**": ["{a} ** {b}", "{a} to the power of {b}", "{a} ^ {b}", "{a} raised to the power {b}"],
}  # fmt: skip


WORD = re.compile(r"(?<![{\w'])[A-Za-z]{3,}(?![}\w'])")
# A noun stands behind its number or behind an article.
NOUN = re.compile(
    r"(?:\{\w+\}|\b(?:the|an?|my|our|his|her|their|each|every)) ([a-z]{3,})(?![}\w'])"
)
# Words at such a place that decide a sum, or fix a constant.
KEEP = frozenset(
    """
sum total rest remainder difference product quotient result answer square squared cube cubed double
half halves third thirds quarter quarters fifth tenth twice triple average mean number numbers
amount price cost costs discount percent percentage share shares perimeter area volume same first
second smallest largest biggest other others whole each every per pair pairs dozen dozens score
couple hundred thousand million more less fewer extra spare times minus plus over and from off left
short away apiece altogether minute minutes hour hours day days week weeks month months year years
seconds fortnight quartet trio gram grams kilo kilos kilograms metre metres centimetre centimetres
millimetre kilometre kilometres mile miles inch inches foot feet yard yards litre litres millilitres
pint pints pound pounds pence penny euro euros dollar dollars cent cents percentage point points tip
tax rise raise increase decrease reduction discounted profit loss gain remaining left-over leftover
multiplied divided added subtracted taken split power root single only old new last next one ones
are were have has can will for with that this than then into out who how what when where but not
modulo mod pluss rectangle rectangular triangular squar decimal evenly completely exactly fully lent
dropped failed wilted unread unfinished fell flew broke carried passed stepped skipped saved borrowed
burst sprouted raised increased further equal combined identical five six four thirty fifty twelve
gone sold lost eaten broken missing used given returned cancelled rotten bad ripe joined left came
""".split()
)


def evaluate(code: str) -> str:
    """What `print(code)` prints."""
    return str(eval(code, {"__builtins__": {}, "round": round}))  # noqa: S307


OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


def printed(code: str) -> str | None:
    """What `print(expression)` prints, None for anything but arithmetic: a model wrote it."""

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                a, b = value(left), value(right)
                if isinstance(op, ast.Pow) and (abs(a) > 10_000 or abs(b) > 20):
                    raise ValueError("too large")
                return OPERATORS[type(op)](a, b)
            case ast.Call(func=ast.Name(id="round"), args=[x, places], keywords=[]):
                return round(value(x), value(places))
        raise ValueError(f"no arithmetic: {ast.dump(node)}")

    try:
        match ast.parse(code, mode="eval").body:
            case ast.Call(func=ast.Name(id="print"), args=[expression], keywords=[]):
                return str(value(expression))
    except (SyntaxError, ValueError, TypeError, ArithmeticError, KeyError):
        pass
    return None


def number(m: Maker, low: float, high: float, *places: int) -> Any:
    if not places:
        return m.rng.randint(int(low), int(high))
    return round(m.rng.uniform(low, high), places[0])


def synthetic(m: Maker) -> tuple[str, str]:
    """A bare expression in words or signs, of two or three terms."""
    rng = m.rng
    op = rng.choice(list(WORDS))
    a, b = rng.randint(2, 9999), rng.randint(2, 999)
    if op == "**":
        a, b = rng.randint(2, 30), rng.randint(2, 6)
    if op in "+-*" and rng.random() < 0.2:
        a, b = round(rng.uniform(1, 99), 2), round(rng.uniform(1, 50), 1)
        code = f"round({a} {op} {b}, 2)"
    else:
        code = f"{a} {op} {b}"
    words = rng.choice(WORDS[op]).format(a=a, b=b)
    if rng.random() < 0.3 and op in "+-*" and not code.startswith("round"):
        c = rng.randint(2, 99)
        op2 = rng.choice("+-")
        words += (
            {"+": f" plus {c}", "-": f" minus {c}"}[op2] if rng.random() < 0.6 else f" {op2} {c}"
        )
        code += f" {op2} {c}"
        if not any(s in words for s in ("plus", "minus", "times", "+ ", "- ", "* ", "multiplied")):
            return synthetic(m)
        if op == "*" or words.startswith(("the", str(b))):
            words = f"{a} {op} {b} {op2} {c}"
    return rng.choice(FRAMES).replace("{x}", words), code


@cache
def scenery(authors: tuple[str, ...]) -> frozenset[str]:
    """Nouns of the bank's problems: what is counted, or has an article. The scene, not the sum."""
    maker = Maker(random.Random(0), who=authors)
    texts = [row["text"] for row in maker.rows("arithmetic")]
    counts = Counter(w for text in texts for w in {w.lower() for w in WORD.findall(text)})
    nouns = {w for text in texts for w in NOUN.findall(text)}
    keep = stories.deciding_words() | KEEP
    return frozenset(w for w in nouns if counts[w] <= 25 and w not in keep)


def other_scene(m: Maker, text: str) -> str:
    """Some nouns become others: what a story is about must not decide its sum."""
    scene = scenery(tuple(m.authors))
    new: dict[str, str] = {}
    for word in dict.fromkeys(w.lower() for w in WORD.findall(text)):
        if word in scene and m.chance(0.6):
            other = m.rng.choice(stories.THINGS) if m.chance(0.4) else m.v.word().lower() + "s"
            new[word] = other if word.endswith("s") else other.removesuffix("s")

    def swap(found: re.Match[str]) -> str:
        word = new.get(found.group().lower(), found.group())
        return word.capitalize() if found.group()[0].isupper() else word

    return WORD.sub(swap, text)


def problem(m: Maker) -> tuple[str, str]:
    """A request and its expression."""
    if not m.plain and m.chance(0.5):
        return synthetic(m) if m.chance(0.3) else stories.make(m)
    while True:
        row = m.rng.choice(m.rows("arithmetic"))
        values = {k: number(m, *r) for k, r in row["slots"].items()}
        try:
            code = row["code"].format(**values)
            if len(evaluate(code)) <= 14:
                text = row["text"]
                if not m.plain and m.chance(0.5):
                    text = other_scene(m, text)
                return m.fill(m.dress(text), values), code
        except ZeroDivisionError:
            continue


def steps(effort: str, text: str, code: str, before: str = "") -> tuple[Message, ...]:
    """Reasoning, call, result and answer; `before` is the result that the text goes on from."""
    result = evaluate(code)
    read = (f"Before: {before}. " if before else "") + reading.read(text, code)
    thought = think(
        effort,
        f"{read} Use python.".strip(),
        f"{read} This is {code}. I use python.".strip(),
        f"The user wants a number. I should not do it in my head. I read it number by number. {read} The expression is {code}. "
        f"I use the python tool and print {code}.",
    )
    return (
        thought,
        Message.call("python", f"print({code})"),
        Message.tool("python", result + "\n"),
        Message.final(f"The answer is {result}."),
    )


def make(m: Maker) -> Case:
    effort = m.effort()
    text, code = problem(m)
    opening = m.opening(effort, **offers.some(m, 0.3, ("python",)))
    return Case("python", (*opening, Message.user(text), *steps(effort, text, code)), note=code)


def make_without(m: Maker) -> Case:
    """No python tool: say so."""
    effort = m.effort()
    text, _ = problem(m)
    thought = think(effort, "No tool.", "This needs python. I have no python tool.",
                    "The user wants a number. I should not do it in my head. This needs the python tool, and I have no python tool. So I say so.")  # fmt: skip
    return Case(
        "no_call",
        (*m.opening(effort), Message.user(text), thought, Message.final(NO_TOOL)),
        "refusal",
    )
