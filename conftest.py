"""What every test run shares: quiet surroundings, and how nbval treats the chapters.

Tests and the kernels that nbval starts see LABHELPERS_STATIC=1 (each output once, at the end),
a temporary LABHELPERS_HOME (a run never touches the reader's progress) and no Hub.

nbval compares a chapter's stored outputs with fresh ones, except stderr: library warnings
change. A chapter that holds a reader's own answers cannot be compared; it becomes one failure
that says so, instead of dozens of cells. With --nbval-lax it runs like any other.
"""

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="labhelpers-", ignore_cleanup_errors=True)
# Before anything imports huggingface_hub or labhelpers; kernels inherit them.
os.environ |= {"LABHELPERS_STATIC": "1", "LABHELPERS_HOME": _HOME.name, "HF_HUB_OFFLINE": "1"}
# Without a GPU the Triton kernels run in Triton's interpreter, which is chosen when it is imported.
if which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).parent
collect_ignore_glob = ["notebooks/mine/*", "*/.ipynb_checkpoints/*"]


def pytest_configure(config: pytest.Config) -> None:
    file = getattr(config.option, "nbval_sanitize_with", None)
    if file and not os.path.isabs(file):  # so that pytest may start in a subfolder
        config.option.nbval_sanitize_with = str(config.rootpath / file)


@pytest.fixture(scope="session", autouse=True)
def no_windows() -> None:
    """Figures are drawn in memory; chapters (not a fixture's business) use Jupyter's backend."""
    if find_spec("matplotlib"):
        import matplotlib

        matplotlib.use("agg")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests of small tensors: a second thread is only waited for, on a busy machine long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Chapters ----------------------------------------------------------------------------------

DIFFERS = """{name} differs from the course's (you have filled in exercises), so its outputs cannot
be compared. Bring back the course's version, which keeps a copy of yours:
    make reset CH={number}              (without make: python -m scripts.reset_chapter {number})
or run your own without comparing:
    pytest --nbval-lax {name}
Whoever writes the chapter: make notebooks CH={number} renews its outputs and digest."""


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "pytest.Collector | None":
    """Stand in for nbval where a chapter's code is not the course's."""
    if file_path.suffix != ".ipynb" or file_path.parent != ROOT / "notebooks":
        return None
    option = parent.config.option
    if not option.nbval or option.nbval_lax:
        return None
    from scripts import chapters

    if "code" not in chapters.changes(file_path):
        return None
    return ChangedChapter.from_parent(parent, path=file_path)


class ChangedChapter(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield Difference.from_parent(self, name="differs from the course's")


class Difference(pytest.Item):
    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.name} {self.name}"

    def runtest(self) -> None:
        name = self.path.relative_to(ROOT).as_posix()
        pytest.fail(DIFFERS.format(name=name, number=int(self.path.name[:2])), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop nbval's own items of a changed chapter; leave stderr out for the others."""
    changed = {item.path for item in items if isinstance(item, Difference)}
    if changed:
        items[:] = [i for i in items if i.path not in changed or isinstance(i, Difference)]
    for chapter in {item.parent for item in items}:
        if hasattr(chapter, "skip_compare"):
            chapter.skip_compare += ("stderr",)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """If a chapter failed whose outputs are the reader's own, say so."""
    failed = {Path(r.fspath).name for r in terminalreporter.stats.get("failed", []) if r.fspath}
    names = sorted(name for name in failed if name.endswith(".ipynb"))
    if not names:
        return
    from scripts import chapters

    for name in names:
        if chapters.changes(chapters.FOLDER / name) == {"outputs"}:
            terminalreporter.write_line(
                f"notebooks/{name} holds the outputs of your own run, not the course's: "
                f"make reset CH={int(name[:2])} brings those back (and keeps yours).",
                yellow=True,
            )
