"""Second turns: the same again with another value, the other model, and on with the result."""

from __future__ import annotations

from typing import Any

from labhelpers.harmony import Message
from training.cases import Case, Maker, sentence
from training.skills import arithmetic, counting, course, functions, offers, talk
from training.skills.functions import bind, choose, description, draw, finish, offer, typed

Turn = tuple[Message, ...]


def _count(m: Maker, effort: str) -> tuple[Turn, Turn]:
    word = counting.pick_word(m)
    letter = counting.pick_letter(m, word)
    text = counting.question(m, word, letter)
    n = word.lower().count(letter)
    first = (Message.user(text), Message.final(sentence(n, letter, word)))
    if m.chance(0.5):
        letter = counting.pick_letter(m, word)
        kind, values = "count_other_letter", {"letter": letter}
    else:
        word = counting.pick_word(m)
        kind, values = "count_other_word", {"word": word}
    text = m.fill(m.dress(m.rng.choice(m.keyed("second_turns", "kind", kind))["text"]), values)
    thought, n = counting.reasoning(effort, word, letter)
    return first, (Message.user(text), thought, Message.final(sentence(n, letter, word)))


def _course(m: Maker, effort: str) -> tuple[Turn, Turn]:
    pairs = [k.split(".")[1] for k in course.facts() if k.startswith("20b.")]
    what, other = m.rng.choice(pairs), m.rng.choice(["20b", "120b"])
    before = "120b" if other == "20b" else "20b"
    if not m.keyed("course", "fact", f"{before}.{what}"):
        return _course(m, effort)
    key, text = course.question(m, f"{before}.{what}")
    first = (Message.user(text), Message.final(course.facts()[key]["answer"]))
    text = m.dress(m.rng.choice(m.keyed("second_turns", "kind", f"course_{other}"))["text"])
    key = f"{other}.{what}"
    return first, (
        Message.user(text),
        course.thought(effort, key),
        Message.final(course.facts()[key]["answer"]),
    )


def _math(m: Maker, effort: str) -> tuple[Turn, Turn]:
    while True:
        text, code = arithmetic.problem(m)
        result = arithmetic.evaluate(code)
        if not result.startswith("-") and float(result) > 1 and len(result) < 9:
            break
    first: Turn = (Message.user(text), *arithmetic.steps(effort, text, code))
    kind, op = m.rng.choice([("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/")])
    b = m.rng.randint(2, 99)
    text = m.fill(
        m.dress(m.rng.choice(m.keyed("second_turns", "kind", f"math_{kind}"))["text"]), {"b": b}
    )
    code = f"round({result} {op} {b}, 2)" if op == "/" or "." in result else f"{result} {op} {b}"
    return first, (Message.user(text), *arithmetic.steps(effort, text, code, result))


def _again(m: Maker, effort: str) -> tuple[Turn, Turn, list[dict[str, Any]]]:
    row = functions.rename(m, m.rng.choice(m.rows("functions")))
    follow = m.rng.choice(row["followups"])
    # An option of the first call that the second does not name would leave its value undecided.
    same = [r for r in row["requests"] if set(r["args"]) <= set(follow["args"])]
    request = m.rng.choice(same or row["requests"])
    values = draw(m, row["slots"])
    args = typed(row, bind(request["args"], values, {}))
    done, _ = finish(m, "low", row, args)
    first = (Message.user(m.fill(m.dress(request["text"]), values)), *done)
    values = draw(m, row["slots"])
    rows = offer(m, row)
    again = typed(row, bind(follow["args"], values, args))
    rest, _ = finish(m, effort, row, again)
    thought = choose(effort, [r["name"] for r in rows], row, again)
    return first, (Message.user(m.fill(m.dress(follow["text"]), values)), thought, *rest), rows


def make(m: Maker) -> Case:
    """A conversation of two or three turns; the last refers to the one before."""
    effort = m.effort()
    kind = m.rng.choices(["count", "course", "math", "again", "other"], [18, 12, 18, 27, 25])[0]
    extra: dict[str, Any] = {"functions": [], "builtin": ()}
    if kind == "count":
        first, second = _count(m, effort)
        extra = offers.some(m, 0.2)
    elif kind == "course":
        first, second = _course(m, effort)
        extra = offers.some(m, 0.2)
    elif kind == "math":
        first, second = _math(m, effort)
        extra = {"builtin": ("python",)}
    elif kind == "again":
        first, second, rows = _again(m, effort)
        extra = {"functions": [description(r) for r in rows]}
    else:
        return _unrelated(m, effort)
    before = _chat(m) if m.chance(0.25) else ()
    return Case("turns", (*m.opening(effort, **extra), *before, *first, *second), note=kind)


def _chat(m: Maker) -> Turn:
    key, text = talk.small(m)
    return (Message.user(text), Message.final(talk.intents()[key]["en"]))


def _unrelated(m: Maker, effort: str) -> Case:
    """A second turn that has nothing to do with the first: history must not confuse."""
    makers = [
        counting.make,
        course.make,
        talk.make,
        talk.make_beyond,
        functions.make,
        arithmetic.make,
    ]
    case = m.rng.choice(makers)(m)
    earlier: Turn = ()
    for _ in range(m.rng.choice([1, 1, 2])):
        kind = m.rng.random()
        if kind < 0.5:  # a count above all: what follows looks like its next word
            earlier += _count(m, "low")[0]
        elif kind < 0.75:
            key, text = course.question(m)
            earlier += (Message.user(text), Message.final(course.facts()[key]["answer"]))
        else:
            earlier += _chat(m)
    start = 1 if case.messages[1].role != "developer" else 2
    messages = (*case.messages[:start], *earlier, *case.messages[start:])
    return Case("turns", messages, case.judge, case.values, "other")
