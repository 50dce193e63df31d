"""What this machine can run: `python -m labhelpers.doctor`, and a chapter's set-up cell.

The idea   one line for each thing the course touches, OK or FAIL, and every FAIL with its cure.
           What the chapters need comes first; "optional" is what only the cells "on the real
           thing" use. The exit code counts the FAILs that are not optional.
gpt-oss    the checkpoint's experts are 4.25 bits each. They stay so only where Triton kernels
           run (a GPU of capability 7.5 or newer); elsewhere they become bf16, three times the
           bytes. Which of the two a machine gets decides whether gpt-oss-20b fits.
Sources    facts: `labhelpers.machine`. Version ranges: this package's own metadata. Bytes and the
           packed path's conditions: `labhelpers.mxfp4.paths`, from transformers'
           `quantizer_mxfp4.py`.
Limits     weights plus a tenth, no long contexts; one GPU. It never touches the network.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import NamedTuple

from labhelpers.accounting import weight_bytes
from labhelpers.config import preset
from labhelpers.machine import (
    Gpu,
    cores,
    facts,
    find_gpu,
    free_memory,
    this_machine,
    total_memory,
    version,
)

__all__ = ["Finding", "Gpu", "examine", "find_gpu", "main", "setup", "this_machine"]

DISTRIBUTION = "gpt-oss-from-the-inside"
COLAB = "open the chapter in Colab (README), where a GPU can be had."


class Finding(NamedTuple):
    """One line of the report; `cure` is a sentence for the reader if `ok` is False."""

    ok: bool
    what: str
    text: str
    cure: str = ""
    optional: bool = False

    def __str__(self) -> str:
        label = f"{self.what} (optional)" if self.optional and not self.ok else self.what
        end = "" if self.ok or not self.cure else f" Cure: {self.cure}"
        return f"{'OK' if self.ok else 'FAIL':<5} {label}: {self.text}{end}"


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they are worth reading."""
    yield python_version()
    yield from packages()
    if None in map(version, ("torch", "psutil", "huggingface_hub")):
        return  # all that follows asks these
    yield nano()
    yield from widgets()
    yield cores_and_memory()
    gpu = find_gpu()
    yield describe_gpu(gpu)
    yield packed_path(gpu)
    for name in ("gpt-oss-20b", "gpt-oss-120b"):
        yield real_model(name, gpu, free_memory())
    yield disk()
    yield hub_token()
    yield compiler()


def python_version() -> Finding:
    """Is this Python new enough, and which one is it?"""
    text = f"{platform.python_version()} in {sys.prefix}"
    return Finding(sys.version_info >= (3, 11), "Python", text, "make lab PYTHON=python3.13")


def packages() -> Iterator[Finding]:
    """One finding for each package that labhelpers requires, judged by its own ranges."""
    from packaging.requirements import Requirement

    install = 'in the course\'s folder: pip install -c constraints.txt -e ".[lab]"'
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(False, "labhelpers", "found, but not installed.", install)
        return
    for line in wanted:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        found = version(need.name)
        if found is None:
            yield Finding(False, need.name, "not installed.", install)
        elif not need.specifier.contains(found, prereleases=True):
            yield Finding(False, need.name, f"{found}; the course needs {need.specifier}.", install)
        else:
            yield Finding(True, need.name, found)
    if version("transformers"):
        yield kernels_pair(install)


def kernels_pair(cure: str) -> Finding:
    """Each transformers accepts a narrow range of `kernels`; outside it, packed MXFP4 is off."""
    from transformers.utils import is_kernels_available

    pair = f"transformers {version('transformers')} and kernels {version('kernels')}"
    if is_kernels_available():
        return Finding(True, "kernels accepted", f"{pair} fit together")
    return Finding(False, "kernels accepted", f"{pair} do not fit together.", cure, optional=True)


def nano() -> Finding:
    """Are gpt-oss-nano's files here?"""
    folder = Path(str(resources.files("labhelpers"))) / "nano"
    files = ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        text = f"{', '.join(missing)} missing in {folder}."
        return Finding(False, "gpt-oss-nano", text, "git checkout labhelpers/nano, or make nano")
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    return Finding(True, "gpt-oss-nano", f"{megabytes:.1f} MB of weights")


def widgets() -> Iterator[Finding]:
    """JupyterLab, and whether it shows the widgets that Python sends."""
    lab, python_side = version("jupyterlab"), version("ipywidgets") or ""
    if lab is None:
        yield Finding(False, "JupyterLab", "not in this environment.", "make lab", optional=True)
        return
    yield Finding(True, "JupyterLab", lab)
    browser_side = version("jupyterlab_widgets") or "none"
    ok = {"7": "1", "8": "3"}.get(python_side[:1]) == browser_side[:1]  # one protocol's versions
    text = f"ipywidgets {python_side} with jupyterlab_widgets {browser_side}"
    cure = "pip install -U ipywidgets jupyterlab_widgets, then reload the page"
    yield Finding(ok, "widgets", text if ok else text + " do not fit.", cure)


def cores_and_memory() -> Finding:
    """Enough for nano and JupyterLab?"""
    free = free_memory()
    text = f"{cores()} cores; {_gb(free)} of {_gb(total_memory())} memory free"
    return Finding(free > 1e9, "CPU", text, "close programs: nano and JupyterLab need 1 GB")


def describe_gpu(gpu: Gpu) -> Finding:
    """The GPU in words; optional, since nano runs without one."""
    if gpu.kind == "cuda":
        number = ".".join(map(str, gpu.capability))
        text = f"{gpu.name}, capability {number}, {_gb(gpu.free)} of {_gb(gpu.total)} free"
        return Finding(True, "GPU", text)
    if gpu.kind == "mps":
        return Finding(True, "GPU", f"{gpu.name}, shares {_gb(gpu.total)} with the CPU")
    if shutil.which("nvidia-smi"):
        text = "there is an NVIDIA driver, but this torch does not use it."
        cure = "a CUDA build of torch from https://pytorch.org/get-started/locally"
        return Finding(False, "GPU", text, cure, optional=True)
    text = "none found; nano and every exercise run on the CPU."
    return Finding(False, "GPU", text, f"for the real models {COLAB}", optional=True)


def packed_path(gpu: Gpu) -> Finding:
    """Do MXFP4 experts stay packed on this machine, or become bf16?"""
    from labhelpers.mxfp4.paths import obstacle

    found = facts(gpu, 0)
    trouble = obstacle(found)
    if trouble is None:
        return Finding(True, "packed MXFP4", f"Triton {found.triton} on {gpu.name}")
    cure = trouble.cure if found.kind in ("cuda", "rocm") else COLAB
    text = f"{trouble.needs}; here experts become bf16."
    return Finding(False, "packed MXFP4", text, cure, True)


def real_model(name: str, gpu: Gpu, memory: int) -> Finding:
    """The best way in which this machine can hold a real model, if there is one."""
    from labhelpers.mxfp4.paths import choose, need

    best = choose(name, facts(gpu, memory), context=0)
    if best.fits:
        return Finding(True, name, best.why.removeprefix(f"{name} ").rstrip("."))
    packed, unpacked = (_gb(need(name, f, context=0).total) for f in ("packed", "bf16"))
    text = f"does not fit: {packed} of GPU memory packed, {unpacked} as bf16."
    return Finding(False, name, text, f"read those cells' stored outputs, or {COLAB}", True)


def disk() -> Finding:
    """Room for a download of gpt-oss-20b where the Hub's cache lies."""
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free, need = shutil.disk_usage(place).free, sum(weight_bytes(preset("gpt-oss-20b")).values())
    text = f"{_gb(free)} free for downloads (gpt-oss-20b is {_gb(need)})"
    cure = "set HF_HOME to a folder on a larger disk."
    return Finding(free > need, "disk", text if free > need else text + ".", cure, optional=True)


def hub_token() -> Finding:
    """Downloads work without a token; with one they are not slowed down."""
    from huggingface_hub import get_token

    if get_token():
        return Finding(True, "Hub token", "found")
    text = "none; gpt-oss downloads without one, at a lower rate limit."
    return Finding(False, "Hub token", text, "run `hf auth login`.", optional=True)


def compiler() -> Finding:
    """torch.compile needs one on the CPU. No chapter so far does."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if found:
        return Finding(True, "C++ compiler", found)
    cures = {"Darwin": "xcode-select --install.", "Windows": "Visual Studio's Build Tools."}
    cure = cures.get(platform.system(), "sudo apt install g++ (or your system's equal).")
    text = "none; only torch.compile on a CPU asks for one, nano does not."
    return Finding(False, "C++ compiler", text, cure, optional=True)


def setup() -> None:
    """A chapter's set-up cell: set the figure style and say in a line what was found.

    With LABHELPERS_STATIC=1 (chapters executed by machine) the line is the same everywhere.
    """
    from labhelpers.viz import look

    look.use()
    found = nano()
    if not found.ok:
        print(f"labhelpers found: {found.text} Cure: {found.cure}")
    elif os.environ.get("LABHELPERS_STATIC", "") not in ("", "0"):
        print("labhelpers is ready: gpt-oss-nano runs on this CPU.")
    else:
        gpu = find_gpu()
        place = f"{gpu.name}, {_gb(gpu.free)} free" if gpu.kind else "no GPU"
        versions = f"torch {version('torch')}, transformers {version('transformers')}"
        memory = f"{cores()} cores, {_gb(free_memory())} of memory free"
        print(f"labhelpers is ready: {versions}; {memory}; {place}.")


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def main() -> int:
    """Print the report; return the number of FAILs that are not optional."""
    failures = 0
    for finding in examine():
        print(finding, flush=True)
        failures += not finding.ok and not finding.optional
    print(f"\n{failures} to mend." if failures else "\nThe course runs here.")
    return failures


if __name__ == "__main__":
    sys.exit(main())
