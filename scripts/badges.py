"""Say everywhere where the repository lives: `make badges REPO=owner/name`.

Writes the address to its one place, [project.urls] in pyproject.toml, and stamps from there:
the set-up cell and the Colab badge of every chapter, and the Colab column of the README's
table. Running it again with another name replaces them; nothing else changes.
"""

import re
import sys
from pathlib import Path

from scripts import chapters, setup_cell

SOURCE = re.compile(r'^Source = "[^"]*"$', re.MULTILINE)
# The last column of a chapter's row in the README: [1](notebooks/01_x.ipynb) | ... | Colab |
ROW = re.compile(r"^(\|.*\]\((notebooks/\S+?\.ipynb)\).*\|)[^|\n]*\|$", re.MULTILINE)


def stamp_pyproject(text: str, url: str) -> str:
    changed, count = SOURCE.subn(f'Source = "{url}"', text)
    if count != 1:
        raise SystemExit("pyproject.toml: no line 'Source = \"...\"' under [project.urls]")
    return changed


def stamp_readme(text: str, repo: str) -> str:
    return ROW.sub(lambda row: f"{row[1]} {setup_cell.badge(repo, row[2])} |", text)


def stamp_chapter(path: Path, repo: str, url: str) -> None:
    """Set-up cell and badge; the outputs stay, since the cell says the same as before."""
    notebook = chapters.read(path)
    title = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    name = path.relative_to(chapters.ROOT).as_posix()
    title.source = setup_cell.stamp_title(title.source, repo, name)
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.source = setup_cell.stamp_code(code.source, url)
    chapters.write(notebook, path)


def main(repo: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SystemExit("Which repository? make badges REPO=owner/name")
    url = f"https://github.com/{repo}"
    for name, stamp in (
        ("pyproject.toml", lambda text: stamp_pyproject(text, url)),
        ("README.md", lambda text: stamp_readme(text, repo)),
    ):
        path = chapters.ROOT / name
        path.write_text(stamp(path.read_text(encoding="utf-8")), encoding="utf-8")
    # A chapter that holds a reader's answers keeps its old digest and stays known as changed.
    pristine = [path for path in chapters.chapters() if not chapters.changes(path)]
    for path in chapters.chapters():
        stamp_chapter(path, repo, url)
    if chapters.published():
        chapters.publish(pristine)
    print(f"Stamped {len(chapters.chapters())} chapters, README and pyproject.toml with {url}.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
