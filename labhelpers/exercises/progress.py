"""Which exercises are solved: a small JSON file in the reader's data folder, and its picture.

The file is replaced in one step (written beside, then renamed), so a crash leaves the old one.
A damaged file is not overwritten: it is kept under another name, and the next card says so.

Where: the folder LABHELPERS_HOME; else a temporary one under pytest; else the system's place
for user data (~/.local/share, ~/Library/Application Support, %LOCALAPPDATA%) / labhelpers.
Limits: two notebooks that finish an exercise in the same instant may lose one of the two.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labhelpers.exercises.core import Exercise
    from labhelpers.viz.look import Picture

FILE = "progress.json"
_COLUMNS = 3  # of the picture
_RANK = {"not attempted": 0, "raised": 1, "wrong": 2, "right": 3}


def data_folder() -> Path:
    """The folder for this reader's files (it may not exist yet)."""
    if home := os.environ.get("LABHELPERS_HOME"):
        return Path(home).expanduser()
    if "PYTEST_CURRENT_TEST" in os.environ:
        return _temporary_folder()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "labhelpers"


@lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    path = tempfile.mkdtemp(prefix="labhelpers-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


def read() -> tuple[dict[str, dict[str, Any]], str]:
    """What is recorded, by exercise, and a sentence if the file was damaged (else "")."""
    path = data_folder() / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = data["exercises"]
        if not all(e["outcome"] in _RANK and int(e["tries"]) >= 0 for e in entries.values()):
            raise ValueError("unknown outcome")
        return entries, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"The progress file cannot be read ({error.strerror})."
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, _keep_aside(path)


def _keep_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"progress.damaged-{number}.json")).exists():
        number += 1
    try:
        os.replace(path, aside)
    except OSError:
        return "The progress file is damaged, and it could not be moved aside."
    return f"The progress file was damaged: it is kept as {aside.name}, a new one begins."


def record(key: str, outcome: str | None = None, hints: int = 0, solution: bool = False) -> str:
    """Note an outcome (the best one stays), hints seen, or a solution looked at.

    Returns "", or a sentence to show if the file was damaged or cannot be written.
    """
    entries, note = read()
    entry = entries.setdefault(
        key, {"outcome": "not attempted", "tries": 0, "hints": 0, "solution": False}
    )
    if outcome is not None:
        entry["tries"] += 1
        entry["outcome"] = max(entry["outcome"], outcome, key=_RANK.__getitem__)
    entry["hints"] = max(entry.get("hints", 0), hints)
    entry["solution"] = bool(entry.get("solution", False) or solution)
    try:
        _write({"version": 1, "exercises": entries})
    except OSError as error:
        return f"Progress is not saved ({error.strerror}): set LABHELPERS_HOME to another folder."
    return note


def _write(data: dict[str, Any]) -> None:
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".progress-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, folder / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def draw(exercises: list[Exercise]) -> Picture:
    """A box an exercise, with the glyph and colour of its best outcome; the counts in words."""
    from matplotlib.patches import FancyBboxPatch

    from labhelpers.viz import look
    from labhelpers.viz.components import OUTCOMES

    entries, note = read()
    outcomes = [entries.get(e.key, {}).get("outcome", "not attempted") for e in exercises]
    rows = -(-len(exercises) // _COLUMNS)
    with look.style():
        fig, axes = look.figure(height=min(4.0, max(1.6, 0.7 + 0.42 * rows)))
        for place, (exercise, outcome) in enumerate(zip(exercises, outcomes, strict=True)):
            row, column = divmod(place, _COLUMNS)
            mark = OUTCOMES[outcome]
            axes.add_patch(FancyBboxPatch(
                (column + 0.03, row + 0.12), 0.94, 0.76, boxstyle="round,pad=0,rounding_size=0.05",
                facecolor=look.neutral("paper") if mark.hollow else look.tone(mark.hue, "fill"),
                edgecolor=look.tone(mark.hue, "line"),
                linestyle="--" if mark.bar == "dashed" else "-",
            ))  # fmt: skip
            axes.text(
                column + 0.1, row + 0.5, f"{mark.glyph} {exercise.title}", va="center", size=9
            )
        axes.set(xlim=(0, _COLUMNS), ylim=(rows, 0))
        axes.set_axis_off()
        axes.set_title(f"{outcomes.count('right')} of {len(exercises)} exercises are right")
    lines = [
        f"{OUTCOMES[o].glyph} {o:13}  {e.title}" for e, o in zip(exercises, outcomes, strict=True)
    ]
    return look.Picture(fig, "\n".join([*lines, *filter(None, [note])]), entries)
