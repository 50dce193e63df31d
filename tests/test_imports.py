"""What an import costs, and in which direction modules may import one another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import labhelpers

PACKAGE = Path(labhelpers.__file__).parent
HEAVY = ("torch", "transformers", "numpy", "matplotlib", "ipywidgets", "openai_harmony")

# Rank of each top-level module: one may import its own rank and lower ones. A module that is
# not listed counts as the highest, so nothing below may import it until it has a rank.
RANKS = {
    "config": 0, "config_keys": 0, "o200k": 0, "accounting": 1, "tokenizer": 1, "harmony": 1,
    "reference": 1,
    "mxfp4": 2, "model": 2, "activations": 3, "ablation": 3, "kernels": 3, "checkpoint": 3,
    "loading": 4, "machine": 4, "recovery": 4, "parallel": 4, "conformance": 4,
    "exercises": 5, "viz": 5, "tools": 5, "chat": 6, "doctor": 6, "real_thing": 6,
}  # fmt: skip
HIGHEST = 9


def imported(file: Path) -> set[str]:
    """Top-level names under labhelpers that a file imports (labhelpers.X -> X)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A relative import ("from ..model import x") starts at this file's package.
            package = ("labhelpers", *file.relative_to(PACKAGE).parent.parts)
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *([node.module] if node.module else [])))
            if module == "labhelpers":
                found |= {f"labhelpers.{a.name}" for a in node.names}
            else:
                found.add(module)
    return {n.split(".")[1] for n in found if n.startswith("labhelpers.")}


def test_import_labhelpers_is_light() -> None:
    code = (
        "import sys, labhelpers, labhelpers.config, labhelpers.accounting\n"
        "labhelpers.__version__, labhelpers.GptOssConfig, labhelpers.preset('gpt-oss-20b')\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_lazy_names() -> None:
    assert labhelpers.GptOssConfig.__module__ == "labhelpers.config"
    assert {"load", "GptOss", "__version__"} <= set(dir(labhelpers))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = labhelpers.lode


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


@pytest.mark.parametrize("file", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(file) - {own}:
        assert RANKS.get(other, HIGHEST) <= RANKS.get(own, HIGHEST), (
            f"{own} must not import {other}: see RANKS"
        )
    if own == "harmony":
        assert not imported(file) & {"model", "viz", "mxfp4", "checkpoint"}
