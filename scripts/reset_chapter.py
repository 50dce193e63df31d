"""Bring back the course's version of a chapter and keep the reader's: `make reset CH=1`.

The reader's notebook moves to notebooks/mine/, under the first free number. The course's comes
from git: the newest commit whose copy has the digest in notebooks/digests.json, so it is found
even after the reader has committed their own answers.
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from scripts import chapters

MINE = chapters.FOLDER / "mine"


def course_version(path: Path) -> bytes | None:
    """The chapter as published, from git's history; None where git or the commit is missing."""
    wanted = chapters.published().get(path.name)
    name = path.relative_to(chapters.ROOT).as_posix()
    for commit in _git("log", "--format=%H", "--", name).decode().split():
        text = _git("show", f"{commit}:{name}")
        if not text:
            continue
        found = chapters.digest(nbformat.read(io.StringIO(text.decode("utf-8")), as_version=4))
        if wanted is None or found == wanted:
            return text
    return None


def keep(path: Path) -> Path:
    """Copy the reader's chapter to the first free name in notebooks/mine."""
    MINE.mkdir(exist_ok=True)
    number = 1
    while (copy := MINE / f"{path.stem}-{number}.ipynb").exists():
        number += 1
    return Path(shutil.copy2(path, copy))


def reset(path: Path) -> str:
    """Restore a chapter; the sentence says what happened."""
    if not chapters.changes(path) and path.name in chapters.published():
        return f"{path.name} is the course's version already."
    text = course_version(path)
    if text is None:
        raise SystemExit(
            f"The course's {path.name} is not in git's history here (no git, or a download as "
            "ZIP): fetch that file again from the address in pyproject.toml, [project.urls]."
        )
    copy = keep(path)
    path.write_bytes(text)
    return f"{path.name} is the course's version again; yours is {copy.relative_to(chapters.ROOT)}."


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=chapters.ROOT, capture_output=True)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise SystemExit("Which chapter? make reset CH=1")
    print(reset(chapters.find(sys.argv[1])))
