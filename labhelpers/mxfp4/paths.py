"""Which path will a checkpoint take on a machine: packed, or unpacked to bf16, and does it fit?

    paths.choose("gpt-oss-20b", doctor.this_machine()).why

The idea   transformers decides it while loading, from four facts (kind of device, capability,
           Triton, `kernels`) and one argument (`use_kernels`). Memory is not among them: a model
           that becomes bf16 is three times as large, and it is then that loading fails. So look
           first: `obstacle` has transformers' rules, `choose` adds the bytes.
gpt-oss    experts at 4.25 bits: 13.8 GB (20b) and 65.2 GB (120b); as bf16 41.8 GB and 233.7 GB.
Sources    transformers 5.22.2, `quantizer_mxfp4.py`: validate_environment for the order of the
           questions, _process_model_before_weight_loading for use_kernels. Bytes:
           `labhelpers.accounting`. Which hardware has what: `hardware`.
Limits     one device; weights and a tenth (buffers, activations) and the KV cache of one sequence.
           Intel's GPUs are left out. AMD's pass transformers' questions; whether the kernel that
           is then fetched from the Hub has a build for them was not tried here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from packaging.version import Version

from labhelpers.accounting import MXFP4_BITS, kv_cache_bytes, weight_bytes
from labhelpers.config import preset

PACKED_CAPABILITY = (7, 5)  # the oldest NVIDIA GPU for which transformers keeps MXFP4 packed
TRITON = "3.4.0"  # on a GPU
TRITON_CPU = "3.5.0"
KERNELS_RANGE = ("0.17.2", "0.18.0")  # transformers 5.22.2: from, and below
HEADROOM = 1.1  # activations and buffers, as a share of the weights
BITS = {"packed": MXFP4_BITS, "bf16": 16}

Kind = Literal["cuda", "rocm", "mps", "cpu"]
Form = Literal["packed", "bf16"]


class Machine(NamedTuple):
    """What the decision depends on. Memory in bytes; versions None where not installed."""

    kind: Kind
    capability: tuple[int, int] = (0, 0)
    gpu_free: int = 0
    memory_free: int = 0  # the CPU's
    triton: str | None = None
    kernels: str | None = None
    kernels_range: tuple[str, str] = KERNELS_RANGE


class Obstacle(NamedTuple):
    """What keeps experts from staying packed: "needs a GPU of ...", and what to do about it."""

    needs: str
    cure: str


class Need(NamedTuple):
    """Bytes of a model: weights, KV cache, and both together with the headroom."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return int(HEADROOM * self.weights) + self.cache


class Decision(NamedTuple):
    """The form in which experts arrive, where they fit ("" for nowhere), and why."""

    form: Form
    place: Literal["GPU", "memory", ""]
    need: Need
    why: str

    @property
    def fits(self) -> bool:
        return bool(self.place)


def obstacle(machine: Machine, use_kernels: bool = False) -> Obstacle | None:
    """What makes transformers unpack MXFP4 on this machine, or None if it stays packed.

    Asked in transformers' order; each answer costs the reader one warning and three times the
    bytes. use_kernels: as given to `from_pretrained`; on a GPU it asks for bf16 kernels, on a
    CPU it is what the packed path wants.
    """
    gpu = machine.kind in ("cuda", "rocm")
    if machine.kind == "mps":
        return Obstacle("needs an NVIDIA GPU", "llama.cpp keeps it packed on a Mac.")
    if machine.kind == "cpu" and not use_kernels:
        return Obstacle(
            "needs an NVIDIA or AMD GPU, or on a CPU use_kernels=True",
            "on a CPU: use_kernels=True, or labhelpers' load_packed.",
        )
    if machine.kind == "cuda" and machine.capability < PACKED_CAPABILITY:
        return Obstacle("needs a GPU of capability 7.5 or newer", "a T4 or newer.")
    wanted = TRITON if gpu else TRITON_CPU
    if machine.triton is None:
        return Obstacle("needs Triton", "pip install triton (Linux).")
    if Version(machine.triton) < Version(wanted):
        return Obstacle(f"needs Triton {wanted}, found {machine.triton}", "pip install -U triton.")
    low, high = machine.kernels_range
    command = f"pip install kernels=={low}"
    if machine.kernels is None:
        return Obstacle("needs the package `kernels`", command)
    if not Version(low) <= Version(machine.kernels) < Version(high):
        found = f"needs `kernels` {low} or later, below {high}; found {machine.kernels}"
        return Obstacle(found, command)
    if gpu and use_kernels:
        return Obstacle("needs use_kernels=False", "leave use_kernels out.")
    return None


def need(name: str, form: Form, context: int = 8192, batch: int = 1) -> Need:
    """Bytes that gpt-oss-20b or gpt-oss-120b takes in a form, with a cache of `context` tokens.

    Raises ValueError for an unknown model or form, or a negative context.
    """
    if form not in BITS:
        raise ValueError(f'form is "packed" or "bf16", not {form!r}')
    config = preset(name)
    weights = sum(weight_bytes(config, expert_bits=BITS[form]).values())
    return Need(weights, sum(kv_cache_bytes(config, context, batch).values()))


def choose(
    name: str,
    machine: Machine,
    context: int = 8192,
    use_kernels: bool = False,
    dequantize: bool = False,
) -> Decision:
    """The form in which a checkpoint arrives on a machine, where it fits, and why.

    name: "gpt-oss-20b" or "gpt-oss-120b". dequantize: what Mxfp4Config(dequantize=True) asks for.
    Pure: the same facts give the same answer on every machine. Raises ValueError as `need` does.
    """
    trouble = obstacle(machine, use_kernels)
    form: Form = "bf16" if trouble or dequantize else "packed"
    asked = "Mxfp4Config(dequantize=True) asks for it"
    reason = f"packed {trouble.needs}" if trouble else asked if dequantize else ""
    wanted = need(name, form, context)
    place: Literal["GPU", "memory", ""] = ""
    if machine.kind == "cpu":
        place = "memory" if machine.memory_free >= wanted.total else ""
    elif machine.gpu_free >= wanted.total:
        place = "GPU"
    else:  # a second try, unpacked and beside the GPU, which the reader has to ask for
        unpacked = need(name, "bf16", context)
        if machine.kind != "mps" and machine.memory_free >= unpacked.total:
            form, place, wanted = "bf16", "memory", unpacked
            reason = reason or "packed needs more GPU memory"
    verb = "stays packed" if form == "packed" else f"becomes bf16 ({reason})"
    where = {"GPU": "on the GPU", "memory": "in the CPU's memory", "": "but does not fit"}[place]
    if place == "memory" and machine.kind != "cpu":
        where = f"and would fit, by a device_map, only {where}"
    free = machine.memory_free if place == "memory" or machine.kind == "cpu" else machine.gpu_free
    why = f"{name} {verb}, {where}: {gb(wanted.total)} needed, {gb(free)} free."
    return Decision(form, place, wanted, why)


def kernels_range() -> tuple[str, str]:
    """The versions of `kernels` that the installed transformers accepts: from, and below."""
    try:
        from transformers.utils.import_utils import KERNELS_MAX_VERSION, KERNELS_MIN_VERSION
    except ImportError:  # another transformers, which keeps them elsewhere
        return KERNELS_RANGE
    return KERNELS_MIN_VERSION, KERNELS_MAX_VERSION


def gb(count: float) -> str:
    """Bytes as "13.8 GB" (billions)."""
    return f"{count / 1e9:.1f} GB"
