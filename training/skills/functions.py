"""Function calls: choose the function, copy the values, report the result."""

from __future__ import annotations

import json
from typing import Any

from labhelpers.harmony import Message
from training.cases import NO_TOOL, NONE_FITS, Case, Maker, think
from training.skills.offers import description, distractors, invent, rename, words_of


def bind(args: dict[str, Any], values: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Arguments with slots filled; "=name" takes the first call's value."""

    def one(value: Any) -> Any:
        if isinstance(value, list):
            return [one(v) for v in value]
        if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
            return values[value[1:-1]]
        if isinstance(value, str) and value.startswith("="):
            return before[value[1:]]
        return value

    return {k: one(v) for k, v in args.items()}


def draw(m: Maker, slots: dict[str, Any]) -> dict[str, Any]:
    values = {name: m.v.draw(slot) for name, slot in slots.items()}
    return values if len({str(v) for v in values.values()}) == len(values) else draw(m, slots)


def typed(row: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Strings stay strings, also where a pool gave digits."""
    properties = row["parameters"].get("properties", {})
    return {k: str(v) if properties[k].get("type") == "string" else v for k, v in args.items()}


def choose(
    effort: str, names: list[str], row: dict[str, Any], args: dict[str, Any], prefix: str = ""
) -> Message:
    """The reasoning before a call, forwards: functions in order, then values in order.

    At every effort the functions are judged one by one, and at less than high only up to the one
    that fits. Naming it at once, nano took the nearest of those offered where none fitted.
    """
    name = row["name"]
    said = "; ".join(f"{k}: {_plain(v)}" for k, v in args.items()) or "no arguments"
    scan = "".join(f"{n}: no. " for n in names[: names.index(name)]) + f"{name}: yes."
    marks = " ".join(f"{n}: {'yes' if n == name else 'no'}." for n in names)
    properties = row["parameters"].get("properties", {})
    full = " ".join(f"{k}: {_plain(args[k]) if k in args else 'not given'}." for k in properties)
    return think(
        effort,
        f"{prefix}{scan}",
        f"{prefix}{scan} {said}.",
        f"{prefix}I look at the functions. {marks} I use {name}. Its parameters in order: {full or 'none.'} "
        f"Now I call {name}.",
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def result_of(m: Maker, row: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """What a tool prints, nano's answer to it, and the values that the answer must hold."""
    rng = m.rng
    if m.chance(0.12):
        error = rng.choice(m.rows("tool_errors"))
        text = m.fill(error["text"], draw(m, error.get("slots", {})))
        return text, f"The call failed: {text}", (text,)
    if "results" in row and not m.chance(0.1):
        spec = rng.choice(row["results"])
        values = draw(m, spec["slots"])
        value = spec["value"]
    else:
        value, values = invent_result(m), {}
    if isinstance(value, str):
        text = m.fill(value, values)
        if rng.random() < 0.3:
            return json.dumps(text, ensure_ascii=False), text, (text,)
        return text, text, (text,)

    def one(v: Any) -> Any:
        if isinstance(v, str) and v.startswith("{") and v.endswith("}") and v[1:-1] in values:
            return values[v[1:-1]]
        return m.fill(v, values) if isinstance(v, str) else v

    filled = {k: one(v) for k, v in value.items()}
    text = json.dumps(filled, ensure_ascii=False)
    said = {k: "yes" if v is True else "no" if v is False else _plain(v) for k, v in filled.items()}
    answer = "Result: " + ", ".join(f"{k}: {v}" for k, v in said.items())
    return text, answer + ("" if answer[-1] in ".!?" else "."), tuple(said.values())


def invent_result(m: Maker) -> Any:
    """A random flat object or sentence, with decimals and codes."""
    v, rng = m.v, m.rng
    pools: list[Any] = [
        v._code, v._order_id, v._person, v._city, v._time, v._date, v._place, v._email, v._phone, v._version, v.word,
        lambda: rng.randint(0, 9999), lambda: round(rng.uniform(-40, 999), rng.randint(1, 3)), lambda: rng.random() < 0.5,
    ]  # fmt: skip
    if rng.random() < 0.25:
        return rng.choice(
            ["Done: {}", "{} is ready", "OK {}", "{}", "Saved as {}", "Your number is {}."]
        ).format(rng.choice(pools[:11])())
    from training.skills.offers import NOUNS

    keys = rng.sample(NOUNS, rng.randint(1, 4))
    keys = [k + rng.choice(["", "", "_id", "_name", "_total", "Count"]) for k in keys]
    return {k: rng.choice(pools)() for k in keys}


def finish(
    m: Maker, effort: str, row: dict[str, Any], args: dict[str, Any]
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Call, result and answer, and the values the answer must hold."""
    name = f"functions.{row['name']}"
    text, answer, values = result_of(m, row)
    call = Message.call(name, json.dumps(args, ensure_ascii=False))
    messages: tuple[Message, ...] = (call, Message.tool(name, text))
    if effort == "high":
        messages += (Message.analysis(f"The result came back: {text} I report it."),)
    return (*messages, Message.final(answer)), values


def pick(m: Maker, everyday: bool = False) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """A function, a request and its arguments."""
    synthetic = (m.chance(0.35) if not m.plain else False) and not everyday
    if synthetic:
        row = invent(m)
        values = draw(m, row["slots"])
        return row, m.fill(row["text"], values), typed(row, bind(row["args"], values, {}))
    row = rename(m, m.rng.choice(m.rows("functions")))
    call = m.rng.choice(row["requests"][:2] if everyday else row["requests"])
    values = draw(m, row["slots"])
    return row, m.fill(m.dress(call["text"]), values), typed(row, bind(call["args"], values, {}))


def offer(m: Maker, row: dict[str, Any], most: int = 4) -> list[dict[str, Any]]:
    """The function among others, in random order."""
    count = m.rng.choices([0, 1, 2, 3], [34, 26, 22, 18])[0]
    rows = [row, *distractors(m, min(count, most - 1), [row["name"]])]
    m.rng.shuffle(rows)
    return rows


def make(m: Maker, everyday: bool = False, known: bool = False) -> Case:
    """A request that one of the functions serves. `known`: an invented function."""
    effort = m.effort()
    if known:
        row = invent(m)
        values = draw(m, row["slots"])
        text, args = m.fill(row["text"], values), typed(row, bind(row["args"], values, {}))
    else:
        row, text, args = pick(m, everyday)
    rows = offer(m, row, 2 if everyday else 4)
    opening = m.opening(effort, functions=[description(r) for r in rows],
                        builtin=("python",) if m.chance(0.1) else ())  # fmt: skip
    thought = choose(effort, [r["name"] for r in rows], row, args)
    rest, needed = finish(m, effort, row, args)
    skill = "everyday" if everyday else "functions"
    return Case(skill, (*opening, Message.user(text), thought, *rest), "values", needed)


def make_none_fits(m: Maker) -> Case:
    """A request for a function that is not among those offered, or with no tool at all."""
    effort = m.effort()
    unfit = m.rows("unfit")
    if m.chance(0.45):
        row = m.rng.choice(unfit)
        text, avoid = m.fill(m.dress(row["text"]), draw(m, row.get("slots", {}))), [row["text"]]
    else:
        row, text, _ = pick(m)
        avoid = [row["name"], row.get("description", "")]
    bare = m.chance(0.35)
    rows = [] if bare else [
        r for r in distractors(m, m.rng.randint(1, 4), avoid) if not _near(r, text)
    ]  # fmt: skip
    answer = NONE_FITS if rows else NO_TOOL
    marks = " ".join(f"{r['name']}: no." for r in rows)
    thought = think(
        effort,
        f"{marks} No tool." if rows else "No tool.",
        f"{marks} No function fits." if rows else "This needs a tool. I have no tool.",
        f"I look at the functions. {marks} None of them does what the user wants. I must not invent one, so I say so."
        if rows else
        "The user wants an action. It needs a tool. I look for functions, and there are none. I must not invent one, so I say so.",
    )  # fmt: skip
    opening = m.opening(effort, functions=[description(r) for r in rows])
    return Case(
        "no_call", (*opening, Message.user(text), thought, Message.final(answer)), "refusal"
    )


def _near(row: dict[str, Any], text: str) -> bool:
    low = text.lower()
    return any(w in low for w in words_of(row["name"]) if len(w) > 3)
