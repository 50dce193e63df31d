"""What stands in the developer message: functions by the authors, and invented ones."""

from __future__ import annotations

import copy
import json
import random
import re
from functools import cache
from typing import Any

from labhelpers.harmony import ToolDescription
from training.cases import Maker

VERBS = """get set add make find list show send book start stop create delete update check save load open_file
close count track rate plan order cancel move copy rename share print scan lock unlock record play mix sort
merge split measure convert compare draw paint water feed clean pack ship refund assign approve reject invite
schedule estimate fetch report log mark tag pin mute archive restore reserve rent buy sell pay transfer train
test deploy restart backup render encode resize crop""".split()
NOUNS = """alarm album animal answer apartment asset audit badge basket battery bed bill boat booking bottle
box brand bridge budget cable camera card cart chapter chart claim class clip cluster coach coin colour
comment contact course court coupon crate crew cup customer cycle deck deposit desk device dish door draft
drone event expense farm fence field filter fine flag flight folder form frame game garden gate gift goal
grade guest guide hall harvest heater hike hotel hour image invoice item job key lamp lane layer lease
lens lesson letter level lift limit list loan locker machine map market mask match meal meeting member menu
message meter mission model module motor movie museum note offer oven package page panel parcel part pass
patient payment permit photo pipe plant player pool port post prize profile project pump queue quiz quote
race radio rating recipe record rent repair report request review ride ring road robot role roof room route
rule sale sample scene score screen seat sensor server session shelf shift ship shop signal site slide
snapshot song spray stage stamp station stock storage story stream student survey switch table tank target
task tax team tent ticket timer tool tour toy track trade trail train tree trip truck tutor unit user
valve vault vehicle venue video visit volume voucher wallet ward watch wheel window wire zone""".split()
# name, JSON type, slot, phrases (the last may leave the name out)
PARAMETERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("name", "string", {"kind": "person"}, ["named {x}", "with the name {x}", "for {x}", "called {x}"]),
    ("title", "string", {"kind": "title"}, ["titled '{x}'", "with the title '{x}'", "called '{x}'"]),
    ("city", "string", {"kind": "city"}, ["in {x}", "for the city {x}", "at {x}", "near {x}"]),
    ("location", "string", {"kind": "city"}, ["in {x}", "at {x}", "located in {x}"]),
    ("country", "string", {"kind": "country"}, ["in {x}", "from {x}", "for {x}"]),
    ("code", "string", {"kind": "code"}, ["with code {x}", "{x}", "under the code {x}", "number {x}"]),
    ("id", "string", {"kind": "order_id"}, ["with id {x}", "{x}", "number {x}", "with the id {x}"]),
    ("email", "string", {"kind": "email"}, ["to {x}", "for {x}", "with the address {x}"]),
    ("phone", "string", {"kind": "phone"}, ["with phone {x}", "calling {x}", "at {x}"]),
    ("date", "string", {"kind": "date"}, ["on {x}", "for {x}", "dated {x}"]),
    ("day", "string", {"kind": "weekday"}, ["on {x}", "for {x}", "this {x}"]),
    ("time", "string", {"kind": "time"}, ["at {x}", "for {x}", "from {x}"]),
    ("file", "string", {"kind": "file"}, ["in {x}", "from {x}", "with the file {x}", "{x}"]),
    ("url", "string", {"kind": "url"}, ["at {x}", "from {x}", "under {x}"]),
    ("user", "string", {"kind": "username"}, ["for user {x}", "by {x}", "of {x}"]),
    ("colour", "string", {"kind": "colour"}, ["in {x}", "coloured {x}", "with colour {x}"]),
    ("language", "string", {"kind": "language"}, ["in {x}", "into {x}", "with language {x}"]),
    ("currency", "string", {"kind": "currency"}, ["in {x}", "with currency {x}"]),
    ("product", "string", {"kind": "product"}, ["for the {x}", "of the {x}", "with product {x}"]),
    ("food", "string", {"kind": "food"}, ["with {x}", "of {x}", "containing {x}"]),
    ("animal", "string", {"kind": "animal"}, ["for the {x}", "of a {x}", "with a {x}"]),
    ("company", "string", {"kind": "company"}, ["for {x}", "by {x}", "from {x}"]),
    ("note", "string", {"kind": "note"}, ["with the note '{x}'", "saying \"{x}\"", "noting '{x}'"]),
    ("version", "string", {"kind": "version"}, ["version {x}", "at version {x}", "with version {x}"]),
    ("place", "string", {"kind": "place"}, ["at {x}", "near {x}", "for {x}"]),
    ("count", "integer", {"kind": "int", "min": 2, "max": 60}, ["{x} times", "with count {x}", "for {x} of them"]),
    ("minutes", "integer", {"kind": "int", "min": 2, "max": 90}, ["for {x} minutes", "lasting {x} minutes", "in {x} minutes"]),
    ("days", "integer", {"kind": "int", "min": 2, "max": 30}, ["for {x} days", "over {x} days", "in {x} days"]),
    ("guests", "integer", {"kind": "int", "min": 2, "max": 40}, ["for {x} guests", "with {x} guests"]),
    ("level", "integer", {"kind": "int", "min": 1, "max": 10}, ["at level {x}", "with level {x}", "on level {x}"]),
    ("year", "integer", {"kind": "int", "min": 1950, "max": 2030}, ["from {x}", "in {x}", "of the year {x}"]),
    ("amount", "number", {"kind": "decimal", "min": 1, "max": 900, "places": 2}, ["of {x}", "for {x}", "with amount {x}"]),
    ("weight", "number", {"kind": "decimal", "min": 0.2, "max": 90, "places": 1}, ["weighing {x} kg", "of {x} kg", "with weight {x}"]),
    ("price", "number", {"kind": "decimal", "min": 1, "max": 500, "places": 2}, ["at a price of {x}", "for {x}", "priced {x}"]),
    ("distance", "number", {"kind": "decimal", "min": 1, "max": 80, "places": 1}, ["over {x} km", "within {x} km", "for {x} km"]),
    ("urgent", "boolean", {"kind": "bool"}, ["urgent", "as urgent"]),
    ("public", "boolean", {"kind": "bool"}, ["public", "as public"]),
]  # fmt: skip
ENUMS = {
    "size": ["small", "medium", "large"], "priority": ["low", "normal", "high"], "mode": ["eco", "fast", "silent"],
    "unit": ["celsius", "fahrenheit"], "format": ["pdf", "csv", "html"], "quality": ["draft", "standard", "best"],
    "direction": ["north", "south", "east", "west"], "plan": ["basic", "plus", "premium"],
    "shape": ["round", "square", "oval"], "speed": ["slow", "steady", "quick"],
}  # fmt: skip
LITTLE = [
    "for me",
    "now",
    "right away",
    "if you can",
    "today",
    "once more",
    "when you have a moment",
]


def words_of(name: str) -> frozenset[str]:
    """get_currentWeather -> {current, weather}; the verb does not count."""
    parts = re.findall(r"[a-z]+|[A-Z][a-z]*", name)
    return frozenset(
        p.lower().rstrip("s") for p in parts if p.lower() not in VERBS_SET and len(p) > 2
    )


VERBS_SET = frozenset(VERBS) | {
    "new",
    "current",
    "the",
    "for",
    "and",
    "lookup",
    "search",
    "query",
    "calculate",
    "compute",
}


@cache
def _description(raw: str) -> ToolDescription:
    row = json.loads(raw)
    return ToolDescription(row["name"], row["description"], row["parameters"])


def description(row: dict[str, Any]) -> ToolDescription:
    """The ToolDescription of a bank row (or of an invented function)."""
    keep = {k: row.get(k, "") for k in ("name", "description", "parameters")}
    return _description(json.dumps(keep))


def invent_name(m: Maker) -> str:
    """A function's name that training (or evaluation) alone has."""
    from training.values import held_out

    rng = m.rng
    while True:
        verb, noun = rng.choice(VERBS), rng.choice(NOUNS)
        if rng.random() < 0.25:
            noun = m.v.pseudo()
        extra = rng.choice(NOUNS)
        name = rng.choice([f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}_{noun}_{extra}", f"{noun}_{verb}",
                           f"{verb}{noun.capitalize()}", f"{verb}{extra.capitalize()}{noun.capitalize()}", f"{verb}{noun}", noun])  # fmt: skip
        if held_out(name) == (m.split == "test"):
            return name


def invent(m: Maker) -> dict[str, Any]:
    """An invented function with one request's recipe: text and args with slots, as in the bank."""
    rng = m.rng
    name = invent_name(m)
    spoken = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()
    count = rng.choices([0, 1, 2, 3, 4], [8, 32, 32, 20, 8])[0]
    chosen = rng.sample(PARAMETERS, count)
    kinds = [p[2]["kind"] for p in chosen]
    if len(set(kinds)) < len(kinds):  # two values of one kind could be swapped
        return invent(m)
    properties: dict[str, Any] = {}
    required, phrases, args, slots = [], [], {}, {}
    for pname, ptype, slot, ways in chosen:
        label = pname
        if rng.random() < 0.25:
            label = rng.choice(
                [f"{rng.choice(NOUNS)}_{pname}", f"{pname}_value", f"target_{pname}", m.v.pseudo()]
            )
        schema: dict[str, Any] = {"type": ptype}
        if label != pname or rng.random() < 0.4:
            schema["description"] = rng.choice(
                [
                    f"The {pname}",
                    f"{pname.capitalize()} of the {rng.choice(NOUNS)}",
                    f"{pname.capitalize()}",
                ]
            )
        optional = rng.random() < 0.3
        properties[label] = schema
        if not optional:
            required.append(label)
        if optional and rng.random() < 0.5:
            continue
        key = f"s{len(slots)}"
        if ptype == "boolean":
            args[label] = True
            phrases.append(
                rng.choice([f"with {label} on", f"with {label} true", f"and make it {pname}"])
            )
            continue
        slots[key] = slot
        args[label] = f"{{{key}}}"
        way = rng.choice([*ways, f"with {label} {{x}}", f"{label} {{x}}", f"{label} = {{x}}"])
        phrases.append(way.replace("{x}", f"{{{key}}}"))
    if rng.random() < 0.22:
        label, options = rng.choice(list(ENUMS.items()))
        if label not in properties:
            properties[label] = {"type": "string", "enum": options}
            if rng.random() < 0.75:
                value = rng.choice(options)
                args[label] = value
                phrases.append(
                    rng.choice(
                        [
                            f"{label} {value}",
                            f"with {label} {value}",
                            f"in {value} {label}",
                            f"({value})",
                        ]
                    )
                )
                if rng.random() < 0.6:
                    required.append(label)
    order = phrases[:]
    if rng.random() < 0.4:
        rng.shuffle(order)
    described = rng.random() < 0.7
    text = _request(rng, spoken, order)
    return {
        "name": name,
        "description": rng.choice([f"{spoken.capitalize()}.", spoken.capitalize(), f"Use this to {spoken}."]) if described else "",
        "parameters": {"type": "object", "properties": properties, "required": required},
        "slots": slots, "text": text, "args": {k: args[k] for k in properties if k in args},
    }  # fmt: skip


def _request(rng: random.Random, spoken: str, phrases: list[str]) -> str:
    joined = " ".join(phrases)
    if len(phrases) > 1 and rng.random() < 0.4:
        joined = ", ".join(phrases[:-1]) + rng.choice([" and ", ", "]) + phrases[-1]
    a = rng.choice(["", "", "the ", "a "])
    verb, _, noun = spoken.partition(" ")
    core = (
        f"{verb} {a}{noun}"
        if noun
        else rng.choice([f"use {spoken}", f"run {spoken}", f"do the {spoken}"])
    )
    little = rng.choice(LITTLE)
    # A little word never follows a bare value: one could not see where the value ends.
    form = rng.randrange(9)
    text = [
        f"{core} {joined}", f"please {core} {joined}", f"can you {core} {joined}?", f"I want to {core} {joined}.",
        f"{core} {little}, {joined}", f"{joined}: {core}", f"I need you to {core} {joined}",
        f"could you {core} {little}? {joined}", f"{spoken}, {joined}",
    ][form].strip(" ,:")  # fmt: skip
    text = re.sub(r"\s+", " ", text).replace(" ?", "?").replace(" .", ".")
    return text[0].upper() + text[1:] if rng.random() < 0.7 else text


def distractors(m: Maker, count: int, avoid: list[str]) -> list[dict[str, Any]]:
    """Functions that share no noun with `avoid` or with one another."""
    taken = [words_of(a) for a in avoid]
    out: list[dict[str, Any]] = []
    for _ in range(60):
        if len(out) == count:
            break
        row = m.rng.choice(m.rows("functions")) if m.chance(0.75) else invent(m)
        mine = words_of(row["name"])
        if any(mine & t or not mine for t in taken):
            continue
        taken.append(mine)
        out.append(row)
    return out


def rename(m: Maker, row: dict[str, Any]) -> dict[str, Any]:
    """A bank function whose described parameters carry other names: the description decides."""
    if m.plain or not m.chance(0.25):
        return row
    row = copy.deepcopy(row)
    properties = row["parameters"].get("properties", {})
    new: dict[str, str] = {}
    for label, schema in properties.items():
        change = schema.get("description") and "enum" not in schema and m.chance(0.5)
        new[label] = (
            m.rng.choice(
                [f"{label}_{m.v.pseudo(1)}", m.v.pseudo(2), f"the_{label}", f"{label}Value"]
            )
            if change
            else label
        )
    if len(set(new.values())) < len(new):
        return row
    row["parameters"]["properties"] = {new[k]: v for k, v in properties.items()}
    row["parameters"]["required"] = [new[k] for k in row["parameters"].get("required", [])]
    for call in [*row["requests"], *row["followups"]]:
        call["args"] = {
            new[k]: f"={new[v[1:]]}" if isinstance(v, str) and v.startswith("=") else v
            for k, v in call["args"].items()
        }
    return row


def some(m: Maker, share: float, builtin: tuple[str, ...] = ()) -> dict[str, Any]:
    """Keyword arguments of `Maker.opening`: some functions in a `share` of cases."""
    functions: list[ToolDescription] = []
    if m.chance(share):
        rows = distractors(m, m.rng.choices([1, 2, 3], [50, 35, 15])[0], [])
        functions = [description(r) for r in rows]
    if not builtin and m.chance(0.12):
        builtin = ("python",)
    return {"functions": functions, "builtin": builtin}
