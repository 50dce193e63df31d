"""Make the course's own environment and start it: what `make lab` and `make test` do.

    python scripts/start.py lab                  install, then open JupyterLab on the README
    python scripts/start.py test [arguments]     install, then run pytest --nbval
    python scripts/start.py install EXTRA...     install only
    python scripts/start.py run EXTRA COMMAND    install, then run a command of the environment

Plain Python without any package, because Windows has no make; readable by old Pythons too, so
that they can say what is wrong. uv installs where it is present (seconds), venv and pip
otherwise (a minute). A later start installs nothing unless pyproject.toml or the constraints
changed.

Environment variables: COURSE_VENV (default .venv), COURSE_CONSTRAINTS (default
constraints.txt), COURSE_INSTALLER (uv or pip). pip's and uv's own variables work as ever.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
# JupyterLab: no dialog that asks about news, and the README as a page instead of its source.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview"},
    },
}


def venv_folder() -> Path:
    return Path(os.environ.get("COURSE_VENV") or ROOT / ".venv").resolve()


def constraints_file() -> Path:
    return ROOT / (os.environ.get("COURSE_CONSTRAINTS") or "constraints.txt")


def program(name: str) -> str:
    """Path of a command inside the environment."""
    windows = os.name == "nt"
    folder = venv_folder() / ("Scripts" if windows else "bin")
    return str(folder / (name + ".exe" if windows else name))


def uses_uv() -> bool:
    choice = os.environ.get("COURSE_INSTALLER", "")
    if choice not in ("", "uv", "pip"):
        sys.exit(f"COURSE_INSTALLER is 'uv' or 'pip', not {choice!r}")
    if choice == "uv" and not shutil.which("uv"):
        sys.exit("COURSE_INSTALLER=uv, but there is no uv: pip install uv, or leave it out")
    return choice != "pip" and shutil.which("uv") is not None


def check_machine() -> None:
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        sys.exit(
            "PyTorch is no longer built for Intel Macs: open the chapters in Colab (README).\n"
            "On an Apple chip this means that this Python runs under Rosetta: take an arm64 one."
        )
    if sys.version_info[:2] < OLDEST and not uses_uv():
        sys.exit(
            f"The course needs Python 3.11 or newer, and this is {platform.python_version()}.\n"
            "Either install one from https://www.python.org/downloads and run\n"
            "    make lab PYTHON=python3.13\n"
            "or install uv (pip install uv), which fetches a Python itself."
        )


def make_venv() -> None:
    folder = venv_folder()
    if Path(program("python")).exists():
        return
    if uses_uv():
        version = ">=3.11" if sys.version_info[:2] < OLDEST else sys.executable
        call(["uv", "venv", "--quiet", "--python", version, str(folder)])
        return
    try:
        call([sys.executable, "-m", "venv", str(folder)])
    except SystemExit:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(
            "This Python cannot make virtual environments. On Debian and Ubuntu:\n"
            "    sudo apt install python3-venv\nor install uv (pip install uv)."
        )


def stamp(extra: str) -> Path:
    """A file whose presence says: this extra is installed from these very requirements."""
    digest = hashlib.sha256()
    for file in (ROOT / "pyproject.toml", constraints_file()):
        digest.update(file.read_bytes())
    return venv_folder() / f"installed-{extra}-{digest.hexdigest()[:12]}"


def install(extras: "list[str]") -> None:
    """Bring the environment up to date for these extras of pyproject.toml."""
    check_machine()
    make_venv()
    if all(stamp(extra).exists() for extra in extras):
        return
    project = "{}[{}]".format(ROOT, ",".join(extras))
    limits = ["-c", str(constraints_file()), "-e", project]
    print(f"Installing into {venv_folder()} (once; a minute or two) ...", flush=True)
    if uses_uv():
        if "UV_FIND_LINKS" not in os.environ and os.environ.get("PIP_FIND_LINKS"):
            # uv reads commas where pip reads spaces, and does not read pip's variable.
            os.environ["UV_FIND_LINKS"] = ",".join(os.environ["PIP_FIND_LINKS"].split())
        call(["uv", "pip", "install", "--quiet", "--python", program("python"), *limits])
    else:  # pip is slower: let people see that it is alive
        quiet = [] if sys.stdout.isatty() else ["--quiet"]
        call([program("python"), "-m", "pip", "install", *quiet, *limits])
    write_lab_settings()
    for extra in extras:
        stamp(extra).touch()


def write_lab_settings() -> None:
    folder = venv_folder() / "share" / "jupyter" / "lab" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overrides.json").write_text(json.dumps(LAB_SETTINGS, indent=2), encoding="utf-8")


def call(command: "list[str]") -> None:
    """Run a command in the repository's root; leave with its exit code if it fails."""
    process = subprocess.Popen(command, cwd=ROOT)
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            pass  # the command got it too and decides: JupyterLab asks whether to stop
    if code:
        sys.exit(code)


def main(arguments: "list[str]") -> None:
    verb, rest = (arguments[0] if arguments else "help"), arguments[1:]
    if verb == "lab":
        install(["lab"])
        page = "--LabApp.default_url=/lab/tree/README.md"
        call([program("jupyter"), "lab", page, *rest])
    elif verb == "test":
        install(["test"])
        mode = [] if "--nbval-lax" in rest else ["--nbval"]
        call([program("python"), "-m", "pytest", *mode, *rest])
    elif verb == "install" and rest:
        install(rest)
    elif verb == "run" and len(rest) > 1:
        install(rest[0].split(","))
        call([program(rest[1]), *rest[2:]])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
