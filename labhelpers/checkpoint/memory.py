"""Will it fit? Bytes that a model needs against bytes that a device has, before anything is read.

The idea   parameters times bytes each. gpt-oss's experts are 4.25 bits on disk, so the memory
           after unpacking (16 or 32 bits) is 3 to 7 times what the download says, and running out
           of it half-way is the commonest trouble with these models.
Source     the operating system: psutil, the container's limit (cgroups), torch for a GPU.
Limits     weights only: the KV cache and activations come on top (see `labhelpers.accounting`).
"""

from pathlib import Path

import torch

from labhelpers.accounting import count_parameters
from labhelpers.checkpoint.errors import CheckpointError
from labhelpers.config import GptOssConfig


def needed_bytes(config: GptOssConfig, dtype: torch.dtype) -> int:
    """Bytes of all parameters in dtype, plus the one expert that is being unpacked."""
    one_expert = 2 * config.intermediate_size * config.hidden_size
    return (sum(count_parameters(config).values()) + one_expert) * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Bytes that a model on this device may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return min([psutil.virtual_memory().available, *_container_bytes()])


def check_memory(name: str, config: GptOssConfig, dtype: torch.dtype, device: torch.device) -> None:
    """Raise CheckpointError if the weights cannot fit, saying what would."""
    needed, free = needed_bytes(config, dtype), free_bytes(device)
    if needed <= free:
        return
    where = f"on {device}" if device.type == "cuda" else "in RAM"
    advice = "use a machine with more memory, or a smaller model (nano fits anywhere)"
    half = needed_bytes(config, torch.bfloat16)
    if dtype.itemsize > 2 and half <= free:
        advice = f"pass dtype=torch.bfloat16, which needs {gigabytes(half)}"
    raise CheckpointError(
        f"{name} needs {gigabytes(needed)} {where} in {dtype_name(dtype)}, and {gigabytes(free)} "
        f"are free: {advice}"
    )


def gigabytes(count: int) -> str:
    """Bytes in words: 1e9 bytes a GB, as disks and cards are sold."""
    return f"{count / 1e9:.1f} GB"


def dtype_name(dtype: torch.dtype) -> str:
    """torch.bfloat16 -> "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def _container_bytes() -> list[int]:
    """What a container's own limit leaves, if there is one (cgroup version 2)."""
    cgroup = Path("/sys/fs/cgroup")
    try:
        most, used = (int((cgroup / f"memory.{n}").read_text()) for n in ("max", "current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file, or "max": no limit
        return []
    return [most - used + int(stat.get("inactive_file", 0))]  # cached files give way
