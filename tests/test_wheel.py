"""The wheel alone is enough: installed elsewhere, nano answers from an empty folder.

The fresh environment borrows the packages of the running one (torch is not downloaded again),
but takes labhelpers from the wheel.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NANO = ROOT / "labhelpers" / "nano"
CARRIED = ("labhelpers/viz/palette.json", "labhelpers/nano/tokenizer.json",
           "labhelpers/nano/chat_template.jinja", "labhelpers/conformance/vectors/render.json",
           "labhelpers/conformance/FORMAT.md")  # fmt: skip

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
ANSWER = """
import labhelpers, torch
from labhelpers.harmony import render_for_completion
from labhelpers.harmony.chat import conversation_from_chat

print(labhelpers.__file__)
model, tokenizer = labhelpers.load("nano")
question = "How many rs are in the word 'strawberry'?"
conversation = conversation_from_chat([{"role": "user", "content": question}])
ids = torch.tensor([render_for_completion(conversation, tokenizer)])
print(tokenizer.decode([int(i) for i in model.generate(ids, max_new_tokens=300)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build/ or egg-info of the checkout gets in or is left."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "labhelpers", source / "labhelpers", ignore=ignored)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=sys.platform != "win32")
    scheme = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    site = Path(scheme)
    with zipfile.ZipFile(wheel) as archive:  # a pure wheel is installed by unpacking it
        archive.extractall(site)
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    binaries = "Scripts" if sys.platform == "win32" else "bin"
    return folder / binaries / Path(sys.executable).name


def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(CARRIED) <= names
    data = [p for p in (ROOT / "labhelpers").rglob("*") if p.suffix in (".json", ".jinja")]
    modules = [p for p in (ROOT / "labhelpers").rglob("*.py")]
    for path in [*data, *modules, *NANO.glob("*")]:
        assert path.relative_to(ROOT).as_posix() in names
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"labhelpers"}
    assert not any("__pycache__" in name or name.endswith((".pt", ".bin")) for name in names)


def test_nano_answers_from_an_empty_folder(python: Path, tmp_path: Path) -> None:
    if not (NANO / "model.safetensors").exists():
        pytest.skip("nano's weights are not here yet (make nano)")
    done = subprocess.run(
        [str(python), "-c", ANSWER], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    where, answer = done.stdout.split("\n", 1)
    assert Path(where).is_relative_to(python.parents[1]), f"imported from {where}"
    assert "<|channel|>final" in answer and "3" in answer.rpartition("<|message|>")[2]
    assert not list(tmp_path.iterdir())


def test_an_installed_package_imports_without_torch(python: Path, tmp_path: Path) -> None:
    code = (
        "import sys, labhelpers; labhelpers.preset('nano')\n"
        "from importlib.metadata import version\n"
        "assert version('gpt-oss-from-the-inside') == labhelpers.__version__\n"
        "print(labhelpers.__file__, 'torch' in sys.modules)"
    )
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, loaded = done.stdout.split()
    assert loaded == "False" and Path(where).is_relative_to(python.parents[1])
