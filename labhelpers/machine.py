"""What this machine has: its GPU, memory, cores and installed packages, as plain facts.

The idea   questions about a machine ("does gpt-oss-20b fit?", "do experts stay packed?") are easy
           to answer and to test once the facts are values. Here they are found; `mxfp4.paths`
           and `doctor` judge them, and tests hand them machines that are not there.
Limits     the first GPU only; memory as it is now, other programs included. torch is imported when
           a GPU or the memory is asked for.
"""

import os
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from labhelpers.mxfp4.paths import Machine


class Gpu(NamedTuple):
    """The accelerator that torch sees; `kind` is "cuda", "mps" or "" for none."""

    kind: str
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    total: int = 0  # bytes
    free: int = 0


def find_gpu() -> Gpu:
    """The accelerator that torch sees (the first one, if there are several)."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        capability = torch.cuda.get_device_capability()
        return Gpu("cuda", torch.cuda.get_device_name(), capability, total, free)
    if torch.backends.mps.is_available():
        return Gpu("mps", "Apple GPU", total=total_memory(), free=free_memory())
    return Gpu("")


def facts(gpu: Gpu, memory: int) -> "Machine":
    """The facts on which `labhelpers.mxfp4.paths` decides; `memory`: free bytes beside the GPU."""
    import torch

    from labhelpers.mxfp4.paths import Machine, kernels_range

    amd = gpu.kind == "cuda" and torch.version.hip  # AMD's GPUs answer to the name of CUDA
    kind: Any = "rocm" if amd else gpu.kind or "cpu"
    versions = (version("triton") or version("triton-windows"), version("kernels"))
    return Machine(kind, gpu.capability, gpu.free, memory, *versions, kernels_range())


def this_machine() -> "Machine":
    """The facts about the machine that runs this."""
    return facts(find_gpu(), free_memory())


def version(name: str) -> str | None:
    """An installed package's version, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that a program may still take, in a container's limits."""
    import torch

    from labhelpers.checkpoint.memory import free_bytes

    return free_bytes(torch.device("cpu"))


def total_memory() -> int:
    """Bytes of memory that the machine has."""
    return int(import_module("psutil").virtual_memory().total)
