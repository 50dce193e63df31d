"""The project's own files agree with one another, and the chapters keep their form."""

import base64
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import badges, chapters, reset_chapter, setup_cell, start

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NINE = set("jupyterlab ipywidgets torch transformers accelerate kernels nbval matplotlib".split())
NINE.add("huggingface-hub")
PAGE = "--LabApp.default_url=/lab/tree/README.md"


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed}


# Requirements ------------------------------------------------------------------------------


def test_environment_yml_equals_pyproject() -> None:
    wanted = list(PYPROJECT["project"]["dependencies"])
    for extra in ("lab", "test"):
        wanted += PYPROJECT["project"]["optional-dependencies"][extra]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[<>=]", line)[0] for line in conda] == ["python", "pip"]
    lines = [line for line in pip["pip"] if not line.startswith("-")]
    assert {line for line in pip["pip"] if line.startswith("-")} == {
        "-e .", "--constraint constraints.txt"
    }  # fmt: skip
    assert requirements(lines) == requirements(wanted)
    assert set(requirements(lines)) >= NINE


def pins(name: str) -> dict[str, list[Requirement]]:
    """Normalised package name -> its pins (one for each marker)."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-colab.txt"])
def test_constraints_lie_in_the_ranges(name: str) -> None:
    lines = list(PYPROJECT["project"]["dependencies"])
    extras = PYPROJECT["project"]["optional-dependencies"]
    for extra in ["test"] if "colab" in name else extras:
        lines += extras[extra]
    pinned = pins(name)
    for wanted, need in requirements(lines).items():
        (pin,) = pinned[wanted]
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert need.specifier.contains(exact.version), f"{pin} is outside {need}"


def test_constraints_name_everything_that_is_installed() -> None:
    """Walk the requirements of this environment: whatever they lead to is pinned."""
    (colab,) = pins("constraints-colab.txt")["transformers"]
    on_colab_list = colab.specifier.contains(metadata.version("transformers"))
    pinned = pins("constraints-colab.txt" if on_colab_list else "constraints.txt")
    optional = PYPROJECT["project"]["optional-dependencies"]
    queue = [Requirement(r) for r in PYPROJECT["project"]["dependencies"] + optional["test"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    missing = set()
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        key = (name, frozenset(need.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            children = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # another system's, or an extra that is not installed
        if name not in pinned:
            missing.add(name)
        for child in map(Requirement, children):
            extras = need.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in extras):
                queue.append(child)
    assert not missing, f"not in the constraints: {sorted(missing)}"


def test_no_requirement_moves_colabs_torch_or_numpy() -> None:
    needs = requirements(PYPROJECT["project"]["dependencies"])
    for name, version in (("torch", "2.11.0"), ("numpy", "2.1.3"), ("transformers", "5.15.0")):
        assert needs[name].specifier.contains(version)


# README and Makefile -----------------------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".github/workflows/ci.yml"])
def test_make_commands_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    used = set(re.findall(r"(?:`|^|run: )make ([a-z]+)", text, re.MULTILINE))
    assert used and used <= targets()


def test_readme_shows_two_commands_by_line_20() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert {"make lab", "make test"} <= set(lines[:20])
    words = " ".join(lines[1 : next(i for i, line in enumerate(lines) if line[:2] == "![")])
    assert len(words.split()) <= 45
    assert lines.index("py scripts\\start.py lab") < lines.index("py scripts\\start.py test")


def test_readme_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert "CONTRIBUTING.md" in links
    later = ("notebooks/", "docs/", "labhelpers/nano/README.md")  # made by other commands
    published = bool(chapters.published())
    for link in links:
        assert (ROOT / link).exists() or (not published and link.startswith(later)), link


def test_workflow_calls_only_the_projects_commands() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"]
            if "run" in step]  # fmt: skip
    assert len(runs) == len(workflow["jobs"])
    assert all(re.match(r"make [a-z]+|python scripts\\start\.py test", run) for run in runs)


def test_source_address_stands_in_one_place() -> None:
    address = PYPROJECT["project"]["urls"]["Source"]
    assert set(PYPROJECT["project"]["urls"]) == {"Source"}
    for file in [*ROOT.glob("labhelpers/**/*.py"), *ROOT.glob("scripts/*.py")]:
        assert address not in file.read_text(encoding="utf-8"), file


# scripts/start.py --------------------------------------------------------------------------


def test_start_installs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setenv("COURSE_VENV", str(tmp_path))
    monkeypatch.setenv("COURSE_INSTALLER", "pip")
    monkeypatch.setattr(start, "call", commands.append)
    for _ in range(2):
        start.main(["lab", "--no-browser"])
    venv, install, *opened = commands[:3] + commands[-1:]
    assert venv[1:3] == ["-m", "venv"] and install[-1].endswith("[lab]")
    assert opened[0][1:] == ["lab", PAGE, "--no-browser"] == opened[1][1:]
    # No second install, although the fake venv has no python and was made twice.
    assert sum("install" in command for command in commands) == 1
    settings = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_start_runs_nbval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setenv("COURSE_VENV", str(tmp_path))
    monkeypatch.setattr(start, "call", commands.append)
    start.main(["test", "-k", "model"])
    assert commands[-1][1:] == ["-m", "pytest", "--nbval", "-k", "model"]
    start.main(["test", "--nbval-lax"])
    assert commands[-1][1:] == ["-m", "pytest", "--nbval-lax"]


def test_start_refuses_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_INSTALLER", "pip")
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"needs Python 3.11 or newer"):
        start.check_machine()
    monkeypatch.undo()
    monkeypatch.setattr(start.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(start.platform, "machine", lambda: "x86_64")
    with pytest.raises(SystemExit, match="Colab"):
        start.check_machine()


# Notebooks: the tools ----------------------------------------------------------------------


def dirty_notebook() -> Any:
    outputs = [
        new_output("stream", name="stderr", text="UserWarning: ..."),
        new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m\n"),
        new_output("stream", name="stdout", text="10%\r50%\rdone\n"),
        new_output(
            "display_data",
            data={"text/plain": "Interactive.", chapters.WIDGET_VIEW: {"model_id": "1"}},
            metadata={"needs_background": "light"},
        ),
    ]
    cell = new_code_cell("import labhelpers\n\nlabhelpers.setup()\nx = 1", outputs=outputs)
    cell.metadata = {"execution": {"iopub.status.busy": "2026-11-24"}, "tags": ["a"]}
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), cell])
    notebook.metadata = {
        "widgets": {"state": {}},
        "language_info": {"name": "python", "version": "3.11.7"},
    }
    return notebook


def test_clean_leaves_what_the_author_wrote() -> None:
    notebook = chapters.clean(dirty_notebook())
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    cell = notebook.cells[1]
    assert cell.metadata == {"tags": ["a"]}
    stream, shown = cell.outputs
    assert (stream.name, stream.text) == ("stdout", "red\ndone\n")
    assert shown.data == {"text/plain": "Interactive."} and shown.metadata == {}
    assert chapters.clean(notebook) == notebook


def test_digest_sees_code_and_outputs_apart() -> None:
    course = chapters.digest(chapters.clean(dirty_notebook()))
    assert chapters.digest(dirty_notebook()) == course  # saving it anew changes nothing
    notebook = dirty_notebook()
    notebook.cells[1].outputs[1].text = "blue\n"
    assert chapters.digest(notebook)["code"] == course["code"]
    assert chapters.digest(notebook)["outputs"] != course["outputs"]
    notebook.cells[1].source += "\ny = 2"
    assert chapters.digest(notebook)["code"] != course["code"]


def test_setup_cell_is_stamped_and_restamped() -> None:
    plain = setup_cell.UNSTAMPED + "\nimport torch"
    once = setup_cell.stamp_code(plain, "https://github.com/a/b")
    assert "%pip install -q git+https://github.com/a/b\n" in once
    assert once.endswith("labhelpers.setup()\nimport torch")
    assert setup_cell.stamp_code(once, "https://github.com/c/d") == once.replace("a/b", "c/d")
    assert setup_cell.stamp_code(once, None) == plain
    with pytest.raises(ValueError, match="setup"):
        setup_cell.stamp_code("import labhelpers", None)
    title = setup_cell.stamp_title("# One\n\ntext", "a/b", "notebooks/01.ipynb")
    assert title.endswith("blob/main/notebooks/01.ipynb)") and title.startswith("# One\n\ntext\n\n")
    assert setup_cell.stamp_title(title, None, "") == "# One\n\ntext"


def test_badges_stamp_readme_and_pyproject() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stamped = badges.stamp_readme(readme, "a/b")
    rows = [line for line in stamped.splitlines() if "colab-badge" in line]
    assert rows and all("a/b/blob/main/notebooks/" in row for row in rows)
    assert badges.stamp_readme(stamped, "c/d").count("c/d/blob") == len(rows)
    text = badges.stamp_pyproject((ROOT / "pyproject.toml").read_text(), "https://github.com/a/b")
    assert tomllib.loads(text)["project"]["urls"] == {"Source": "https://github.com/a/b"}


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A little course in a git repository of its own, with one published chapter."""
    for name in ("conftest.py", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("scripts", "tests"):
        (tmp_path / folder).mkdir()
    for file in [*(ROOT / "scripts").glob("*.py"), ROOT / "tests/nbval_sanitize.cfg"]:
        (tmp_path / file.relative_to(ROOT)).write_bytes(file.read_bytes())
    folder = tmp_path / "notebooks"
    folder.mkdir()
    output = new_output("stream", name="stdout", text="2\n")
    cells = [new_code_cell("answer = ...", id="a"), new_code_cell("print(1 + 1)", id="b")]
    cells[1].outputs = [output]
    cells[0].execution_count, cells[1].execution_count = 1, 2
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "FOLDER", folder)
    monkeypatch.setattr(chapters, "DIGESTS", folder / "digests.json")
    monkeypatch.setattr(reset_chapter, "MINE", folder / "mine")
    path = folder / "01_toy.ipynb"
    chapters.write(chapters.clean(new_notebook(cells=cells)), path)
    chapters.publish([path])
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "course"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return path


def fill_in(path: Path) -> None:
    path.write_text(path.read_text().replace("answer = ...", "answer = 42"))


def run_pytest(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, "notebooks"]
    return subprocess.run(command, cwd=path.parents[1], capture_output=True, text=True)


def test_a_filled_in_chapter_is_named(course: Path) -> None:
    passed = run_pytest(course, "--nbval")
    assert passed.returncode == 0 and "2 passed" in passed.stdout, passed.stdout
    fill_in(course)
    told = run_pytest(course, "--nbval")
    assert told.returncode == 1 and "1 failed" in told.stdout and "passed" not in told.stdout
    assert "01_toy.ipynb differs from the course's" in told.stdout
    assert "make reset CH=1" in told.stdout and "--nbval-lax" in told.stdout
    lax = run_pytest(course, "--nbval-lax")
    assert lax.returncode == 0 and "2 passed" in lax.stdout, lax.stdout


def test_stale_outputs_are_explained(course: Path) -> None:
    course.write_text(course.read_text().replace('"2\\n"', '"3\\n"'))
    told = run_pytest(course, "--nbval")
    assert told.returncode == 1
    assert "01_toy.ipynb holds the outputs of your own run" in told.stdout


def test_reset_keeps_the_readers_copy(course: Path) -> None:
    original = course.read_text()
    assert "already" in reset_chapter.reset(course)
    fill_in(course)
    mine = course.read_text()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "commit", "-qam", "mine"], cwd=course.parents[1], check=True)
    assert "01_toy-1.ipynb" in reset_chapter.reset(chapters.find("1"))
    assert course.read_text() == original
    assert (course.parent / "mine" / "01_toy-1.ipynb").read_text() == mine
    fill_in(course)
    reset_chapter.reset(course)
    assert (course.parent / "mine" / "01_toy-2.ipynb").exists()


# Notebooks: the form of the published chapters ---------------------------------------------

PUBLISHED = [path for path in chapters.chapters() if path.name in chapters.published()]
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home|Users|work|tmp|content)/\w|[A-Z]:\\\\?Users")


def test_every_chapter_is_published() -> None:
    if not chapters.published():
        pytest.skip("no chapter has gone through `make notebooks` yet")
    assert set(chapters.published()) == {path.name for path in chapters.chapters()}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
class TestChapter:
    """Skipped checks would hide a reader's file; these hold for the reader's version as well,
    except those that look at outputs."""

    def test_is_the_published_one(self, path: Path) -> None:
        if chapters.changes(path):
            pytest.skip("holds a reader's own work; `make reset` restores it")
        assert chapters.read(path) == chapters.clean(chapters.read(path)), "make notebooks"

    def test_sizes(self, path: Path) -> None:
        assert path.stat().st_size < 1_000_000
        for number, cell in enumerate(chapters.read(path).cells):
            for output in cell.get("outputs", []):
                png = output.get("data", {}).get("image/png", "")
                assert len(base64.b64decode(png)) < 60_000, f"cell {number}"

    def test_rhythm(self, path: Path) -> None:
        cells = chapters.read(path).cells
        kinds = [cell.cell_type for cell in cells]
        assert 40 <= len(cells) <= 140
        assert kinds.count("markdown") / len(kinds) >= 0.6
        run = re.search(r"ccc", "".join(kind[0] for kind in kinds))
        assert run is None, f"three code cells in a row from cell {run and run.start()}"
        lines = [len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code"]
        assert max(lines) <= 25 and sum(lines) / len(lines) < 12
        assert len({cell.id for cell in cells}) == len(cells)

    def test_begins_with_the_setup_cell(self, path: Path) -> None:
        first = next(c for c in chapters.read(path).cells if c.cell_type == "code")
        address = PYPROJECT["project"]["urls"]["Source"]
        known = {setup_cell.stamp_code(first.source, url) for url in (None, address)}
        assert first.source in known

    def test_says_nothing_about_the_machine(self, path: Path) -> None:
        notebook = chapters.read(path)
        assert not MACHINE_PATH.search(json.dumps(notebook))
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        assert not any(o.output_type == "error" for o in outputs)
        assert "tqdm" not in json.dumps(notebook) and "trust_remote_code=True" not in str(notebook)


def test_machine_paths_are_seen() -> None:
    assert MACHINE_PATH.search("File /root/x.py") and MACHINE_PATH.search("/home/ann/a")
    assert not MACHINE_PATH.search("https://example.org/home/page")


# Package -----------------------------------------------------------------------------------


def test_no_file_names_this_machine() -> None:
    """Neither the package nor the project's files carry a path of whoever wrote them."""
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.toml", "*.md", "*.yml", "*.txt", "Makefile", ".ci/run"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    for name in files:
        if name == "tests/test_project.py" or not (ROOT / name).exists():
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        found = re.search(r"(?<![\w./])/(?:root|work|opt/wheels)/", text)
        assert found is None, f"{name}: {found and found.group()}"


def test_ruff_and_mypy_are_configured() -> None:
    assert set(PYPROJECT["tool"]["ruff"]["lint"]["select"]) >= {"E", "F", "I", "UP", "B", "W"}
    assert PYPROJECT["tool"]["mypy"]["disallow_untyped_defs"] is True
    assert importlib.util.find_spec("labhelpers") is not None
