"""Re-execute chapters, clean them and record their digests: what `make notebooks` does.

    python -m scripts.execute                 all chapters
    python -m scripts.execute 1 3             chapters 1 and 3
    python -m scripts.execute --clean-only    keep the outputs, strip what must not be stored

Each chapter runs from top to bottom in a fresh kernel, as nbval runs it: LABHELPERS_STATIC=1,
progress in a temporary folder, the Hub offline. A cell that fails stops the chapter, and the
file stays as it was.
"""

import argparse
import os
import tempfile
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from scripts import chapters

CELL_TIMEOUT = 120  # seconds, as in pyproject.toml


def execute(path: Path) -> None:
    """Run one chapter and write it, clean."""
    notebook = chapters.read(path)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    chapters.write(chapters.clean(notebook), path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Re-execute and clean chapters.")
    parser.add_argument("numbers", nargs="*", help="chapters, such as 1 or 03; all if none")
    parser.add_argument("--clean-only", action="store_true", help="do not run anything")
    options = parser.parse_args()
    paths = [chapters.find(number) for number in options.numbers] or chapters.chapters()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"LABHELPERS_STATIC": "1", "LABHELPERS_HOME": home, "HF_HUB_OFFLINE": "1"}
        for path in paths:
            print(path.name, flush=True)
            if options.clean_only:
                chapters.write(chapters.clean(chapters.read(path)), path)
                continue
            try:
                execute(path)
            except CellExecutionError as error:
                raise SystemExit(f"{path.name} stopped, and was left as it is:\n{error}") from None
    chapters.publish(paths)


if __name__ == "__main__":
    main()
