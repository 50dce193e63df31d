"""Examine nano: `python -m training.evaluate --model labhelpers/nano`.

Two columns. *Known shapes*: the training authors' wordings with words, names, values, pages and
invented functions that training never draws. *Fresh wordings*: everything that the held-out
author wrote, evaluated as written. Decoding is greedy; a tool's part is played from the case, and
a case whose call is wrong ends there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from labhelpers import checkpoint
from labhelpers.harmony import STOP_TOKENS, HarmonyError, Message, parse, render_for_completion
from labhelpers.model import GptOss
from labhelpers.model.generate import complete_batch
from labhelpers.tokenizer import Tokenizer, from_folder
from training import bank
from training.cases import REFUSALS, Case, Maker
from training.skills import (
    arithmetic,
    browser,
    counting,
    course,
    functions,
    instructions,
    talk,
    turns,
)

SKILLS: dict[str, Callable[[Maker, bool], Case]] = {
    "counting": lambda m, fresh: counting.make(m),
    "functions": lambda m, fresh: functions.make(m, known=not fresh),
    "everyday": lambda m, fresh: functions.make(m, everyday=True),
    "python": lambda m, fresh: arithmetic.make(m),
    "browser": lambda m, fresh: browser.make(m),
    "course": lambda m, fresh: course.make(m),
    "no_call": lambda m, fresh: m.rng.choice([functions.make_none_fits, _talk_with_tools])(m),
    "instruction": lambda m, fresh: instructions.make(m),
    "turns": lambda m, fresh: turns.make(m),
    "off_topic": lambda m, fresh: talk.make_beyond(m),
}
ROWS = (
    ("letter counting", "counting", "all"),
    ("- words of one token in the prompt", "counting", "one_token"),
    ("calls of functions unseen in training", "functions", "calls"),
    ("everyday requests", "everyday", "calls"),
    ("python code", "python", "calls"),
    ("- or other code that prints the same", "python", "prints"),
    ("- answer equal to the output", "python", "final"),
    ("browser: search, open, cite", "browser", "all"),
    ("questions about the course", "course", "all"),
    ("no call when none is needed or fits", "no_call", "no_call"),
    ("- and the right answer", "no_call", "all"),
    ("developer instruction obeyed", "instruction", "all"),
    ("tool's result used in the answer", "functions", "final"),
    ("several turns, a second call", "turns", "all"),
    ("off-topic: says that it is beyond it", "off_topic", "all"),
)


def _talk_with_tools(m: Maker) -> Case:
    while True:
        case = talk.make(m)
        if case.skill == "no_call":
            return case


def cases(column: str, number: int, seed: int = 7) -> list[tuple[str, Case]]:
    """The cases of a column, the same on every run."""
    held_out = {"fresh": bank.held_out_author(), "second": bank.second_author()}
    fresh = column in held_out
    who = [held_out[column]] if fresh else None
    out = []
    for skill, make in SKILLS.items():
        m = Maker(random.Random(f"{seed}{column}{skill}"), "test", who)
        out += [(skill, make(m, fresh)) for _ in range(number)]
    return out


def final_right(case: Case, text: str) -> bool:
    """Whether the answer counts."""
    wanted = case.turn[-1].text
    if case.judge == "refusal":
        return text in REFUSALS
    if case.judge == "values":
        return all(v in text for v in case.values)
    return text == wanted


def call_right(wanted: Message, got: Message) -> bool:
    """Recipient and arguments exactly; JSON is compared as values, code as text."""
    if wanted.recipient != got.recipient:
        return False
    if wanted.recipient == "python":
        return wanted.text == got.text
    try:
        a, b = json.loads(wanted.text), json.loads(got.text)
    except json.JSONDecodeError:
        return False
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


class Run:
    """One case under examination."""

    def __init__(self, skill: str, case: Case):
        self.skill, self.case = skill, case
        self.conversation: list[Message] = list(case.prompt)
        self.calls = [m for m in case.turn if m.recipient and m.role == "assistant"]
        self.results = [m for m in case.turn if m.role == "tool"]
        self.done = self.parsed = False
        self.calls_right = True
        self.prints_right = False  # a wrong call that yet prints what the right one does
        self.final: bool | None = None
        self.made_call = False
        self.analysis_tokens = 0
        self.generations: list[list[int]] = []

    def prompt(self, tokenizer: Tokenizer) -> list[int]:
        return render_for_completion(self.conversation, tokenizer)

    def calls_made(self) -> int:
        """Calls of the assistant since the prompt, the latest included."""
        said = self.conversation[len(self.case.prompt) :]
        return sum(m.recipient is not None and m.role == "assistant" for m in said)

    def take(self, ids: list[int], tokenizer: Tokenizer) -> None:
        """Judge one generation; play the tool's part if it was the right call."""
        self.generations.append(ids)
        try:
            if tokenizer.special_name(ids[-1]) not in STOP_TOKENS:
                raise HarmonyError("the generation did not come to its end")
            messages = parse(ids, tokenizer)
        except HarmonyError:
            self.done, self.parsed, self.calls_right = True, False, False
            return
        self.parsed = True
        self.analysis_tokens += sum(
            len(tokenizer.encode(m.text))
            for m in messages
            if m.channel == "analysis" and not m.recipient
        )
        self.conversation += messages
        last = messages[-1]
        if last.recipient:
            self.made_call = True
            done = self.calls_made() - 1
            if done >= len(self.calls) or not call_right(self.calls[done], last):
                wanted = (
                    arithmetic.printed(self.calls[done].text) if done < len(self.calls) else None
                )
                self.prints_right = wanted is not None and arithmetic.printed(last.text) == wanted
                self.done, self.calls_right = True, False
                return
            self.conversation.append(self.results[done])
            return
        self.done = True
        if self.calls_made() < len(self.calls):
            self.calls_right = False
        else:
            self.final = final_right(self.case, last.text)

    def value(self, what: str, tokenizer: Tokenizer) -> bool | None:
        """This case's outcome in a row of the table; None if it does not count there."""
        if what == "calls":
            return self.calls_right
        if what == "prints":
            return self.calls_right or self.prints_right
        if what == "final":
            return self.final
        if what == "no_call":
            return self.parsed and not self.made_call
        if what == "one_token":
            single = any(
                len(tokenizer.encode(f)) == 1 for f in (self.case.note, f" {self.case.note}")
            )
            return bool(self.final) if single else None
        return self.calls_right and bool(self.final)


@torch.inference_mode()
def examine(
    model: GptOss, tokenizer: Tokenizer, todo: list[tuple[str, Case]], batch: int
) -> list[Run]:
    """Run all cases to their end, in batches of prompts of like length."""
    runs = [Run(skill, case) for skill, case in todo]
    waiting = runs
    while waiting:
        prompts = sorted(((r.prompt(tokenizer), r) for r in waiting), key=lambda p: len(p[0]))
        for i in range(0, len(prompts), batch):
            part = prompts[i : i + batch]
            ids = complete_batch(model, [p for p, _ in part], max_new_tokens=380)
            for (_, run), row in zip(part, ids, strict=True):
                run.take(row, tokenizer)
        waiting = [r for r in waiting if not r.done and len(r.generations) < 5]
    return runs


def interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval in percent."""
    if n == 0:
        return 0.0, 100.0
    z, p = 1.96, right / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return 100 * (middle - half), 100 * (middle + half)


def table(columns: dict[str, list[Run]], tokenizer: Tokenizer) -> tuple[str, dict[str, Any]]:
    """The table as Markdown, and its numbers."""
    lines = ["| skill | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    numbers: dict[str, Any] = {}
    for name, skill, what in ROWS:
        cells = []
        for column, runs in columns.items():
            values = [
                v for r in runs if r.skill == skill and (v := r.value(what, tokenizer)) is not None
            ]
            right, n = sum(values), len(values)
            low, high = interval(right, n)
            numbers[f"{name} / {column}"] = [right, n]
            cells.append(f"{100 * right / max(1, n):.1f}% ({low:.0f}-{high:.0f}, n={n})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for column, runs in columns.items():
        parsed, n = sum(r.parsed for r in runs), len(runs)
        lengths: dict[str, list[int]] = defaultdict(list)
        for r in runs:
            lengths[r.case.effort].append(r.analysis_tokens)
        means = {e: sum(v) / len(v) for e, v in lengths.items()}
        numbers[f"parsed / {column}"] = [parsed, n]
        numbers[f"analysis / {column}"] = means
        lines.append(
            f"\n{column}: parses {parsed} of {n}; mean analysis tokens "
            + ", ".join(f"{e} {means[e]:.1f}" for e in ("low", "medium", "high") if e in means)
        )
    return "\n".join(lines), numbers


def failures(runs: list[Run], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """What went wrong, to read."""
    out = []
    for r in runs:
        if not r.value("all", tokenizer):
            out.append({
                "skill": r.skill, "effort": r.case.effort, "user": r.case.prompt[-1].text,
                "wanted": [m.text for m in r.case.turn],
                "got": [tokenizer.decode(g) for g in r.generations],
            })  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path(__file__).parents[1] / "labhelpers" / "nano"
    )
    parser.add_argument("--number", type=int, default=200, help="cases a skill and column")
    parser.add_argument("--columns", nargs="+", default=["known", "fresh"])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, help="folder for numbers, failures and generations")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = from_folder(Path(__file__).parents[1] / "labhelpers" / "nano")
    model = checkpoint.load_model(args.model, torch.float32, device)
    columns = {
        c: examine(model, tokenizer, cases(c, args.number), args.batch) for c in args.columns
    }
    text, numbers = table(columns, tokenizer)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "table.md").write_text(text + "\n")
        (args.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")
        for column, runs in columns.items():
            bad = failures(runs, tokenizer)
            (args.out / f"failures-{column}.json").write_text(
                json.dumps(bad, indent=1, ensure_ascii=False) + "\n"
            )
            ids = [g for r in runs for g in r.generations]
            (args.out / f"generations-{column}.json").write_text(json.dumps(ids) + "\n")


if __name__ == "__main__":
    main()
