"""The bank of wordings: load it, and check an author's folder against the rules.

The format is described in `wordings/README.md`. Nothing here knows how a wording becomes a
conversation (that is `training/skills/`), only whether it can.
"""

from __future__ import annotations

import ast
import json
import re
import string
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "wordings"
POOLS = set(
    "person first_name city country company place title product food animal colour language "
    "currency email phone date day weekday month time code order_id file folder url username "
    "version street note word topic unit".split()
)
STYLES = ["short", "plain", "chatty", "context", "misspelt", "order", "option", "indirect"]
BEHAVIOURS = ["capitals", "lowercase", "one_word", "french", "korean", "start_with", "end_with"]
TURNS = {
    "count_other_letter": {"letter"},
    "count_other_word": {"word"},
    "course_120b": set(),
    "course_20b": set(),
    "math_add": {"b"},
    "math_subtract": {"b"},
    "math_multiply": {"b"},
    "math_divide": {"b"},
}
RESERVED = {"python", "browser", "search", "open", "find"}


def slots_of(text: str) -> list[str]:
    """The slot names of a text, in order of appearance."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def table(name: str) -> dict[str, Any]:
    """facts, attributes or small_talk, as a dict."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def held_out_author() -> str:
    """The author who is never trained on, but whose failures were read between rounds."""
    return (FOLDER / "held_out.txt").read_text().split()[0]


def second_author() -> str:
    """Another author never trained on, looked at once, when all was done."""
    return (FOLDER / "held_out.txt").read_text().split()[1]


def training_authors() -> list[str]:
    """All others."""
    return [a for a in authors() if a not in (held_out_author(), second_author())]


def authors() -> list[str]:
    """Names of the authors' folders, sorted. An author need not have written every file."""
    return sorted(p.name for p in FOLDER.iterdir() if any(p.glob("*.jsonl")))


@cache
def load(author: str) -> dict[str, list[dict[str, Any]]]:
    """All files of one author, by name without the ending."""
    bank = {}
    for path in sorted((FOLDER / author).glob("*.jsonl")):
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path.name} line {number}: not JSON ({error})") from error
        bank[path.stem] = rows
    return bank


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9{}]+", " ", text.lower()).strip()


@cache
def _texts(*who: str) -> frozenset[str]:
    """Everything that these authors wrote, bare."""
    rows = [r for author in who for rs in load(author).values() for r in rs]
    texts = [r.get("text") or r.get("question") for r in rows]
    texts += [c["text"] for r in rows for c in [*r.get("requests", []), *r.get("followups", [])]]
    return frozenset(_bare(t) for t in texts if t)


@cache
def load_for_training(author: str) -> dict[str, list[dict[str, Any]]]:
    """An author's rows less those that the held-out author wrote in the very same words."""
    if author not in training_authors():
        raise ValueError(f"{author} is held out: never trained on")
    return _without(load(author), _texts(held_out_author()))


@cache
def load_for_evaluation(author: str) -> dict[str, list[dict[str, Any]]]:
    """A held-out author's rows; the second's less those that somebody else wrote in the same words.

    For the first author training gives way, for the second, who came later, the evaluation does.
    """
    if author in training_authors():
        raise ValueError(f"{author} is trained on")
    if author == held_out_author():
        return load(author)
    return _without(load(author), _texts(*training_authors()))


def _without(
    bank: dict[str, list[dict[str, Any]]], texts: frozenset[str]
) -> dict[str, list[dict[str, Any]]]:
    """The rows whose words are not among `texts`."""

    def fresh(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        said = [(row, row.get("text") or row.get("question") or "") for row in rows]
        return [row for row, text in said if _bare(text) not in texts]

    out = {name: fresh(rows) for name, rows in bank.items() if name != "functions"}
    functions = [
        {**row, "requests": fresh(row["requests"]), "followups": fresh(row["followups"])}
        for row in bank.get("functions", [])
    ]
    out["functions"] = [f for f in functions if len(f["requests"]) > 2 and f["followups"]]
    return out


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_slot(name: str, slot: Any) -> None:
    _check(isinstance(slot, dict) and "kind" in slot, f"slot {name}: needs a kind")
    kind = slot["kind"]
    if kind == "list":
        _check(len(slot["values"]) >= 8, f"slot {name}: a list needs 8 values or more")
        _check(len(set(map(str, slot["values"]))) == len(slot["values"]), f"slot {name}: repeats")
    elif kind in ("int", "decimal"):
        _check(slot["min"] < slot["max"], f"slot {name}: min must be below max")
    else:
        _check(kind in POOLS, f"slot {name}: unknown kind {kind!r}")


def _check_text(text: str, slots: dict[str, Any], once: bool = True) -> None:
    names = slots_of(text)
    _check(text == text.strip() and text != "", f"stray blanks: {text!r}")
    _check("<|" not in text, f"no marks in a wording: {text!r}")
    for name in names:
        _check(name in slots, f"slot {{{name}}} is not described: {text!r}")
    if once:
        _check(len(set(names)) == len(names), f"a slot stands twice: {text!r}")


def _fits(value: Any, schema: dict[str, Any], slots: dict[str, Any], where: str) -> None:
    kind = schema.get("type")
    if isinstance(value, str) and re.fullmatch(r"\{\w+\}", value):
        slot = slots[value[1:-1]]["kind"]
        sample = slots[value[1:-1]].get("values", [""])[0]
        number = slot in ("int", "decimal") or (slot == "list" and not isinstance(sample, str))
        _check((kind in ("integer", "number")) == number, f"{where}: slot {value} is no {kind}")
        return
    if isinstance(value, str) and value.startswith("="):
        return
    python = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}
    _check(kind in python, f"{where}: type {kind!r} is not allowed")
    _check(isinstance(value, python[kind]), f"{where}: {value!r} is no {kind}")
    _check(kind == "boolean" or not isinstance(value, bool), f"{where}: {value!r} is no {kind}")
    if "enum" in schema:
        _check(value in schema["enum"], f"{where}: {value!r} is not in the enum")


def _check_function(row: dict[str, Any]) -> None:
    name, slots = row["name"], row["slots"]
    _check(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None, f"bad name {name!r}")
    _check(name not in RESERVED, f"{name}: reserved")
    parameters = row["parameters"]
    _check(parameters.get("type") == "object", f"{name}: parameters must be an object")
    properties, required = parameters.get("properties", {}), parameters.get("required", [])
    _check(len(properties) <= 5, f"{name}: more than 5 parameters")
    _check(set(required) <= set(properties), f"{name}: required names an unknown parameter")
    for slot_name, slot in slots.items():
        _check_slot(f"{name}.{slot_name}", slot)
    _check([r["style"] for r in row["requests"]] == STYLES, f"{name}: styles must be {STYLES}")
    _check(len(row["followups"]) == 2, f"{name}: two followups")
    _check(len(row["results"]) == 2, f"{name}: two results")
    calls = row["requests"] + row["followups"]
    for i, call in enumerate(calls):
        where = f"{name} {call.get('style', 'followup')}"
        _check_text(call["text"], slots)
        for key, value in call["args"].items():
            _check(key in properties, f"{where}: unknown parameter {key}")
            if isinstance(value, str) and value.startswith("="):
                _check(i >= 8, f"{where}: '=' only in followups")
                _check(
                    all(value[1:] in r["args"] for r in row["requests"]),
                    f"{where}: {value} must be an argument of all eight requests",
                )
                continue
            for item in value if isinstance(value, list) else [value]:
                schema = properties[key]
                if isinstance(value, list):
                    schema = schema.get("items", {"type": "string"})
                _fits(item, schema, slots, f"{where}.{key}")
                if isinstance(item, str) and re.fullmatch(r"\{\w+\}", item):
                    _check(item[1:-1] in slots_of(call["text"]), f"{where}: {item} is not said")
            if isinstance(value, list):
                _check(properties[key].get("type") == "array", f"{where}.{key}: not an array")
        _check(set(required) <= set(call["args"]), f"{where}: a required argument is missing")
        order = [k for k in properties if k in call["args"]]
        _check(list(call["args"]) == order, f"{where}: arguments in the order of the schema")
        used = {m for v in call["args"].values() for m in re.findall(r"\{(\w+)\}", json.dumps(v))}
        unused = set(slots_of(call["text"])) - used
        _check(not unused, f"{where}: {unused} is said but not in the call")
    for result in row["results"]:
        text = json.dumps(result["value"], ensure_ascii=False)
        for slot_name, slot in result["slots"].items():
            _check_slot(f"{name} result {slot_name}", slot)
        for slot_name in re.findall(r"\{(\w+)\}", text):
            _check(slot_name in result["slots"], f"{name}: result slot {slot_name} not described")
        if isinstance(result["value"], dict):
            _check(1 <= len(result["value"]) <= 4, f"{name}: a result has 1 to 4 fields")
            _check(
                all(isinstance(v, (str, int, float, bool)) for v in result["value"].values()),
                f"{name}: a result is flat",
            )


def _check_arithmetic(row: dict[str, Any]) -> None:
    slots = row["slots"]
    _check_text(row["text"], slots)
    names = {
        n.id
        for n in ast.walk(ast.parse(row["code"].replace("{", "").replace("}", ""), mode="eval"))
        if isinstance(n, ast.Name)
    } - {"round"}
    _check(names == set(slots) == set(slots_of(row["text"])), f"slots differ: {row}")
    for low, high, *places in slots.values():
        _check(low < high and len(places) <= 1, f"bad range: {row}")
    values = {k: (v[0] + v[1]) / 2 if len(v) == 3 else (v[0] + v[1]) // 2 for k, v in slots.items()}
    eval(row["code"].format(**values), {"__builtins__": {}, "round": round})  # noqa: S307


def check(author: str) -> Counter[str]:
    """Raise ValueError at the first line that breaks a rule; else the number of lines a file.

    An author who wrote only some of the files is judged by those.
    """
    bank = load(author)
    facts, intents, attributes = table("facts"), table("small_talk"), table("attributes")

    def each(name: str, at_least: int, judge: Any) -> None:
        if name not in bank:
            return
        rows = bank[name]
        for number, row in enumerate(rows, 1):
            try:
                judge(row)
            except (KeyError, TypeError, SyntaxError, NameError, ValueError) as error:
                raise ValueError(f"{author}/{name}.jsonl row {number}: {error!r}") from error
        text = [json.dumps(r, sort_keys=True) for r in rows]
        _check(len(set(text)) == len(text), f"{author}/{name}.jsonl: a line stands twice")
        _check(len(rows) >= at_least, f"{author}/{name}.jsonl: {len(rows)} rows of {at_least}")

    def per_key(name: str, key: str, keys: Any, at_least: int) -> None:
        if name not in bank:
            return
        counts = Counter(r[key] for r in bank[name])
        for k in keys:
            _check(counts[k] >= at_least, f"{author}/{name}: {k} has {counts[k]} of {at_least}")
        _check(set(counts) <= set(keys), f"{author}/{name}: unknown {set(counts) - set(keys)}")

    def slotted(row: dict[str, Any]) -> None:
        for name, slot in row.get("slots", {}).items():
            _check_slot(name, slot)
        _check_text(row["text"], row.get("slots", {}))

    def plain(wanted: Any) -> Any:
        def judge(row: dict[str, Any]) -> None:
            _check_text(row["text"], dict.fromkeys(wanted(row)))
            _check(set(slots_of(row["text"])) == set(wanted(row)), f"wants {wanted(row)}: {row}")

        return judge

    each("counting", 60, plain(lambda r: {"letter", "word"}))
    each("arithmetic", 60, _check_arithmetic)
    each("functions", 68, _check_function)
    names = [r["name"] for r in bank.get("functions", [])]
    _check(len(set(names)) == len(names), f"{author}: a function's name stands twice")
    each("course", 2 * len(facts), plain(lambda r: set()))
    per_key("course", "fact", facts, 2)
    each(
        "instructions",
        56,
        plain(lambda r: {"phrase"} if r["behaviour"].endswith("_with") else set()),
    )
    per_key("instructions", "behaviour", BEHAVIOURS, 8)
    each("off_topic", 90, slotted)
    each("unfit", 40, slotted)
    each("small_talk", 4 * len(intents), plain(lambda r: set()))
    per_key("small_talk", "intent", intents, 4)
    each("second_turns", 64, plain(lambda r: TURNS[r["kind"]]))
    per_key("second_turns", "kind", TURNS, 8)
    each("tool_errors", 14, slotted)

    def page(row: dict[str, Any]) -> None:
        _check_text(row["question"], {"entity": 1})
        _check("entity" in slots_of(row["question"]), f"no {{entity}}: {row}")
        _check_text(row["line"], {"entity": 1, "value": 1})
        _check("value" in slots_of(row["line"]), f"no {{value}}: {row}")

    each("browser", 4 * len(attributes), page)
    per_key("browser", "attribute", attributes, 4)
    return Counter({name: len(rows) for name, rows in bank.items()})


if __name__ == "__main__":
    for who in sys.argv[1:] or authors():
        print(who, dict(check(who)))
