"""The set-up cell and the Colab badge of a chapter: their text, and how they are stamped.

The first code cell of every chapter imports labhelpers and calls `labhelpers.setup()`. As long
as nobody knows where the repository lives, a failing import shows the line that says how to
install. `make badges REPO=owner/name` (scripts/badges.py) stamps the cell that installs from
there, which is what Colab needs, and a badge under each chapter's title.

Colab: `%pip install` runs only if the import fails, and the ranges in pyproject.toml admit
Colab's own torch and numpy, so neither is moved.
"""

import re

LAST_LINE = "labhelpers.setup()"

UNSTAMPED = """\
import labhelpers  # not found? In the course's folder: pip install -e .  (README, "Start")

labhelpers.setup()"""

STAMPED = """\
try:
    import labhelpers
except ImportError:
    %pip install -q git+{url}
    import labhelpers
labhelpers.setup()"""

BADGE = re.compile(r"\n*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\s*$")


def cell_source(url: str | None) -> str:
    """The set-up cell, for a repository at this address or for none yet."""
    return UNSTAMPED if url is None else STAMPED.format(url=url)


def badge(repo: str, path: str) -> str:
    """Markdown for a button that opens a file of a GitHub repository ("owner/name") in Colab."""
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{repo}/blob/main/{path})"
    )


def stamp_code(source: str, url: str | None) -> str:
    """Replace the set-up lines at the top of a cell, keep what follows them.

    Raises ValueError if the cell does not call labhelpers.setup() on a line of its own.
    """
    lines = source.splitlines()
    if LAST_LINE not in lines:
        raise ValueError(f"no line {LAST_LINE!r} in the chapter's first code cell")
    rest = lines[lines.index(LAST_LINE) + 1 :]
    return "\n".join([cell_source(url), *rest])


def stamp_title(source: str, repo: str | None, path: str) -> str:
    """Put the badge at the end of the first Markdown cell, in place of an older one."""
    text = BADGE.sub("", source)
    return text if repo is None else f"{text}\n\n{badge(repo, path)}"
