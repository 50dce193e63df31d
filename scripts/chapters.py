"""The chapters as files: which there are, whether they are clean, and what the course's say.

`clean` makes a notebook the same whoever ran it: no widget state, times, colours, progress
bars, stderr or kernel version. `notebooks/digests.json` holds two short digests for each
chapter as the course publishes it, of its code and of its outputs. With them conftest.py can
tell a reader that a chapter holds their own answers, instead of failing cell by cell.
"""

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
DIGESTS = FOLDER / "digests.json"

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def chapters() -> list[Path]:
    """All notebooks of the course, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def find(number: str) -> Path:
    """The chapter with this number ("1", "01" or a part of its file name)."""
    wanted = f"{int(number):02d}_" if number.isdigit() else number
    matches = [path for path in chapters() if wanted in path.name]
    if len(matches) != 1:
        names = ", ".join(path.name for path in chapters()) or "none"
        raise SystemExit(f"{number!r} names {len(matches)} chapters; there are: {names}")
    return matches[0]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def write(notebook: Any, path: Path) -> None:
    """Write atomically: a chapter is never half a file."""
    draft = path.with_suffix(".ipynb.part")
    draft.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8", newline="\n")
    draft.replace(path)


# Cleaning ----------------------------------------------------------------------------------


def clean(notebook: Any) -> Any:
    """The notebook without anything that depends on who ran it, when and where."""
    notebook = copy.deepcopy(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.setdefault("id", f"cell-{number:03d}")
        cell.source = cell.source.rstrip()
        if cell.cell_type == "code":
            cell.outputs = _clean_outputs(cell.outputs)
    return notebook


def _clean_outputs(outputs: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            output.text = _plain(output.text)
            if kept and kept[-1].output_type == "stream":  # how it was cut depends on timing
                kept[-1].text += output.text
                continue
        elif output.output_type in ("display_data", "execute_result"):
            output.metadata = _size_only(output.metadata)
            output.data.pop(WIDGET_VIEW, None)  # without its state it shows an error
            for kind in [kind for kind in output.data if kind.startswith("text/")]:
                output.data[kind] = _plain(output.data[kind])
            if not output.data:
                continue
        kept.append(output)
    return kept


def _plain(text: str) -> str:
    """Without colours, and of a line that rewrote itself (a progress bar) only its last state."""
    text = COLOURS.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


def _size_only(metadata: Any) -> Any:
    kept = {kind: value for kind, value in metadata.items() if kind.startswith("image/")}
    return nbformat.from_dict(kept)


# Digests -----------------------------------------------------------------------------------


def digest(notebook: Any) -> dict[str, str]:
    """Short digests of what the code cells say and of what nbval compares of their outputs."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        "code": _hash([cell.source.rstrip() for cell in cells]),
        "outputs": _hash([_compared(cell.outputs) for cell in cells]),
    }


def _compared(outputs: list[Any]) -> list[Any]:
    """Texts of the outputs; pictures and widgets are not compared."""
    texts: list[Any] = []
    for output in _clean_outputs(copy.deepcopy(outputs)):
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.output_type == "error":
            texts.append([output.ename, output.evalue])
        else:
            texts.append([output.data[kind] for kind in sorted(output.data) if "text/" in kind])
    return texts


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def published() -> dict[str, dict[str, str]]:
    """File name -> digests, as the course was published; empty before the first time."""
    return json.loads(DIGESTS.read_text(encoding="utf-8")) if DIGESTS.exists() else {}


def publish(paths: list[Path]) -> None:
    """Record these chapters' digests; chapters that are gone are dropped."""
    known = {name: value for name, value in published().items() if (FOLDER / name).exists()}
    known.update({path.name: digest(read(path)) for path in paths})
    text = json.dumps(dict(sorted(known.items())), indent=1) + "\n"
    DIGESTS.write_text(text, encoding="utf-8", newline="\n")


def changes(path: Path) -> set[str]:
    """What of a chapter differs from the course's: a part of {"code", "outputs"}."""
    course = published().get(path.name)
    if course is None:
        return set()
    now = digest(read(path))
    return {part for part in course if course[part] != now[part]}
