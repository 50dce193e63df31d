"""Whether Triton can run here, and if not, why: the question that every kernel asks first.

The idea   a kernel is a Python function that Triton compiles for the GPU at hand. Without Triton
           (it exists for Linux) or without a GPU the functions beside the kernels run instead.
           A silent fallback is how people lose an afternoon, so each is announced by a warning.
Interpreter   with TRITON_INTERPRET=1 in the environment before Triton is imported, kernels run on
           the CPU, one program after the other, in NumPy: slow, and enough for tests. Two things
           are wrong there: `tl.dot` of bf16 operands (garbage) and rounding to bf16 (it truncates).
           So what meets a tensor core is fp32 when INTERPRETED is set.
Overlap    on Hopper and newer a kernel may start while the one before it still runs (programmatic
           dependent launch, PDL): `overlap` gives the launch option, `wait_for_previous` and
           `let_next_start` are its two instructions.
Limits     bf16 arithmetic wants capability 8.0 (Ampere). AMD GPUs are refused: the experts' kernels
           contain PTX, NVIDIA's instructions. Triton launches on torch's current GPU, so tensors
           on another one are refused too.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.cuda import get_device_capability

triton: Any
tl: Any
try:
    triton, tl = import_module("triton"), import_module("triton.language")
except ImportError:  # the kernels stay plain functions that nobody calls
    triton = tl = None

INTERPRETED = triton is not None and bool(triton.knobs.runtime.interpret)
# The same for use inside kernels, which see no other global variables.
EMULATE = INTERPRETED if tl is None else tl.constexpr(INTERPRETED)
CAPABILITY = (8, 0)
PDL_CAPABILITY = (9, 0)


def jit(function: Callable) -> Any:
    """`triton.jit`, or the function itself where Triton is absent."""
    return function if triton is None else triton.jit(function)


@jit
def wait_for_previous(PDL):  # type: ignore[no-untyped-def]
    """Stop until the kernel before this one in the stream is done and what it wrote is visible.

    With PDL every kernel calls this, in every program, before it touches what another kernel
    writes or reads: then "the kernel before is done" means that all before are. What no kernel of
    a step writes may be read earlier: weights, and keys that earlier steps left.
    """
    if PDL:
        tl.extra.cuda.gdc_wait()


@jit
def let_next_start(PDL):  # type: ignore[no-untyped-def]
    """When all programs have called this (or ended), programs of the next kernel may start.

    They fill the places that become free as this kernel runs out. Called after
    `wait_for_previous`, it promises the next kernel, even before that one waits, that all before
    this one are done. Called first, it promises nothing: then several kernels may be under way,
    and until it waits the next one may read only what none of them writes.
    """
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()


def overlap(tensor: Tensor, wanted: bool = True) -> dict[str, bool]:
    """Launch options of a kernel with a PDL parameter: on from Hopper, off before it."""
    able = wanted and tensor.is_cuda and get_device_capability(tensor.device) >= PDL_CAPABILITY
    return {"PDL": True, "launch_pdl": True} if able else {"PDL": False}


def why_not(tensor: Tensor) -> str | None:
    """Why Triton kernels cannot run on this tensor: a sentence, or None if they can."""
    if triton is None:
        return "Triton is not installed (pip install triton, on Linux)"
    if INTERPRETED:
        return None if tensor.device.type == "cpu" else "Triton's interpreter is on (CPU only)"
    if not tensor.is_cuda:
        return f"the tensors are on {tensor.device}, and Triton needs a CUDA GPU"
    if torch.version.hip:
        return "this is an AMD GPU, and the kernels contain instructions of NVIDIA's (PTX)"
    if tensor.device.index != (current := torch.cuda.current_device()):
        return (f"the tensors are on {tensor.device} and torch's current GPU is cuda:{current}: "
                "use torch.cuda.set_device")  # fmt: skip
    if (have := get_device_capability(tensor.device)) < CAPABILITY:
        return f"this GPU has capability {have[0]}.{have[1]}, and bf16 kernels need 8.0"
    return None


def runs(tensor: Tensor, kernel: str) -> bool:
    """True if Triton can run `kernel` on this tensor's device; else warn, and answer False."""
    reason = why_not(tensor)
    if reason:
        text = f"{kernel}: {reason}. Plain PyTorch runs instead: right, but much slower."
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return reason is None
