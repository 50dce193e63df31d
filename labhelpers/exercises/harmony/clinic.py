"""The clinic: a broken transcript, and the reader says what is wrong with it.

    ex.clinic.causes()                       # the table of causes to choose from
    ex.clinic.transcript(1)                  # the first patient, token by token
    ex.clinic.diagnose(1, "budget-spent")    # the card: right, or why not
    ex.clinic.score()                        # who is diagnosed, who waits

An untouched cell passes `...` and says "not attempted". A wrong answer is told what one would
see if it were right, and where to look.

Source: the reports named on each card. Tokens are gpt-oss's own (o200k_harmony).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from labhelpers.exercises.cards import Card, Note
from labhelpers.exercises.harmony.patients import CAUSES, PATIENTS, Patient
from labhelpers.exercises.progress import read, record
from labhelpers.viz.components import show
from labhelpers.viz.table import Table

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer
    from labhelpers.viz.harmony import HarmonyStrip


def patient(number: int) -> Patient:
    """Patient 1 to 10. Raises ValueError for anything else."""
    if type(number) is not int:
        raise ValueError(f"patients have whole numbers, as in diagnose(2, ...), not {number!r}")
    if not 1 <= number <= len(PATIENTS):
        raise ValueError(f"there are patients 1 to {len(PATIENTS)}, not {number}")
    return PATIENTS[number - 1]


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """gpt-oss's own tokenizer."""
    from labhelpers.tokenizer import o200k_harmony

    return o200k_harmony()


def ids(number: int) -> list[int]:
    """The patient's tokens: marks as special tokens, texts as ordinary ones."""
    return _ids(patient(number).prompt + patient(number).text)


def stream(number: int) -> list[int]:
    """The same without the prompt, where one is shown: what the model wrote."""
    return _ids(patient(number).text)


def _ids(text: str) -> list[int]:
    out: list[int] = []
    for piece in re.split(r"(<\|\w+\|>)", text):
        if piece.startswith("<|"):
            out.append(tokenizer().special_id(piece))
        else:
            out += tokenizer().encode(piece)
    return out


def transcript(number: int) -> HarmonyStrip:
    """The patient's tokens with their ids; no titles, for those would say too much."""
    from labhelpers.viz.harmony import harmony_tokens

    role = None if patient(number).prompt else patient(number).role
    return harmony_tokens(ids(number), tokenizer(), role=role, ids_below=True, titles=False)


def causes() -> Table:
    """The causes to choose from; three of them are nobody's."""
    rows: Sequence[Sequence[str]] = [
        [f'"{slug}"', cause.text.replace("`", "")] for slug, cause in CAUSES.items()
    ]
    return Table(["cause", "what it means"], rows, left=True)


def judge(number: int, cause: Any) -> Card:
    """The card for an answer; nothing is shown or recorded."""
    who, title = patient(number), f"patient {number}"

    def card(outcome: str, *lines: str) -> Card:
        return Card(outcome, title, lines, kind="clinic:")

    if cause is ...:
        line = "Put the name of a cause in the place of the three dots, then run this cell again."
        return card("not attempted", line)
    if cause == who.cause:
        return card("right", who.told, f"Reported: {who.sources}.")
    if not isinstance(cause, str) or cause not in CAUSES:
        near = difflib.get_close_matches(str(cause), CAUSES, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else " `ex.clinic.causes()` lists them."
        return card("wrong", f"There is no cause `{str(cause)[:40]}`.{hint}")
    why = who.wrong.get(cause, f"If it were that, one would see {CAUSES[cause].sign}.")
    return card("wrong", why, who.look)


def diagnose(number: int, cause: Any) -> None:
    """Judge an answer and show the card."""
    card = judge(number, cause)
    if card.outcome != "not attempted":
        if note := record(f"harmony.clinic_{number}", card.outcome):
            card.lines.append(note)
    show(card)


def score() -> Note:
    """How many patients are diagnosed, by the reader's progress file, and who waits."""
    entries = read()[0]
    waiting = [
        str(n)
        for n in range(1, len(PATIENTS) + 1)
        if entries.get(f"harmony.clinic_{n}", {}).get("outcome") != "right"
    ]
    done = len(PATIENTS) - len(waiting)
    title = f"{done} of {len(PATIENTS)} patients are diagnosed"
    return Note(title, f"Waiting: {', '.join(waiting)}." if waiting else "Nobody waits.")
