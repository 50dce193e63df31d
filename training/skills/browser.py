"""The browser tool: search, open the right result, answer with a citation.

Pages look as the reference browser prints them: `[cursor] title (url)`, the range of lines,
numbered lines, links as 【id†title†site】.
"""

from __future__ import annotations

import json
import textwrap
from functools import cache
from typing import Any

from labhelpers.harmony import Message
from training import bank
from training.cases import Case, Maker, show, think
from training.values import THINGS


@cache
def attributes() -> dict[str, Any]:
    return bank.table("attributes")


def value(m: Maker, kind: str) -> str:
    rng = m.rng
    if kind == "year":
        return str(rng.randint(1650, 2020))
    if kind == "metres":
        return f"{rng.randint(8, 900)} metres"
    if kind == "count":
        return f"{rng.randint(2, 900)},{rng.randint(0, 999):03d}"
    if kind == "money":
        return f"{rng.randint(2, 60)}.{rng.choice(['00', '50', '20', '80'])} euros"
    return show(m.v.draw({"kind": kind}))


def entity(m: Maker) -> str:
    thing = m.rng.choice(THINGS)
    return m.rng.choice([f"{m.v.pseudo().capitalize()} {thing}", m.v.pseudo().capitalize(), m.v._place(),
                         f"{m.v.name(['Ash', 'Elm'], 0.9)} {thing}"])  # fmt: skip


def page(cursor: int, title: str, url: str, lines: list[str]) -> str:
    """One display of the browser."""
    wrapped = [w for line in lines for w in (textwrap.wrap(line, 80) or [""])]
    body = "\n".join(f"L{i}: {line}" for i, line in enumerate(wrapped))
    end = len(wrapped) - 1
    return f"[{cursor}] {title} ({url})\n**viewing lines [0 - {end}] of {end}**\n\n{body}"


def make(m: Maker) -> Case:
    effort, rng = m.effort(), m.rng
    key = rng.choice(list(attributes()))
    row = rng.choice(m.keyed("browser", "attribute", key))
    name = entity(m)
    asked = m.fill(m.dress(row["question"]), {"entity": name})
    # Search results: the entity among others that share a word with it.
    others: list[str] = []
    while len(others) < rng.randint(1, 3):
        other = entity(m)
        if rng.random() < 0.4:
            other = f"{name.split()[0]} {rng.choice(THINGS)}"
        if other not in (name, *others) and name not in other:
            others.append(other)
    titles = [name, *others]
    rng.shuffle(titles)
    site = f"{m.v.word()}.{rng.choice(['org', 'net', 'com'])}"
    results = page(0, "Search Results", f"web-search://{name.replace(' ', '+')}", [
        "# Search Results", "",
        *(f"* 【{i}†{t}†{site}】 {rng.choice(['A page about it.', 'History and facts.', 'All you need to know.', 'Notes and dates.'])}" for i, t in enumerate(titles)),
    ])  # fmt: skip
    hit = titles.index(name)
    # The page: sentences on several attributes, each on a line of its own.
    keys = [key, *rng.sample([k for k in attributes() if k != key], rng.randint(2, 5))]
    rng.shuffle(keys)
    lines, sentences = [f"# {name}", ""], {}
    for k in keys:
        while True:
            found = value(m, attributes()[k]["value"])
            text = m.fill(
                rng.choice(m.keyed("browser", "attribute", k))["line"],
                {"entity": name, "value": found},
            )
            if len(text) <= 80:
                break
        sentences[k] = text
        lines.append(text)
    number = lines.index(sentences[key])
    opened = page(1, name, f"https://{site}/{hit}", lines)
    answer = f"{sentences[key]}【1†L{number}】"
    spoken = key.replace("_", " ")
    candidates = " ".join(
        f"{i} {t}: {'yes' if i == hit else 'no'}." for i, t in enumerate(titles[: hit + 1])
    )
    # What each line is about, whatever was asked: every page teaches several facts' wordings.
    read = [k.replace("_", " ") for k in keys[: number - 1]]
    walk = " ".join(f"L{i}: {k}." for i, k in enumerate(read, 2))
    messages = (
        *m.opening(effort, builtin=("browser",) if rng.random() < 0.85 else ("browser", "python")),
        Message.user(asked),
        think(effort, f"Search {name}.", f"I search for {name}. I want: {spoken}.",
              f"The user wants a fact from the web. The fact is: {spoken}. The page is about {name}. I search for {name}."),
        Message.call("browser.search", json.dumps({"query": name}, ensure_ascii=False)),
        Message.tool("browser.search", results),
        think(effort, f"{hit} {name}.", f"{candidates} I open {hit}.",
              f"I look for {name} in the results. {candidates} So I open result {hit}."),
        Message.call("browser.open", json.dumps({"id": hit})),
        Message.tool("browser.open", opened),
        think(effort, f"{', '.join(read)}: L{number}.", f"I want: {spoken}. {walk} So L{number}.",
              f"I want: {spoken}. I read the lines in order. {walk} Line L{number} says it: {sentences[key]} I cite it."),
        Message.final(answer),
    )  # fmt: skip
    return Case("browser", messages)
