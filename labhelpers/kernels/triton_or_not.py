"""Whether Triton can run here, and if not, why: the question that every kernel asks first.

The idea   a kernel is a Python function that Triton compiles for the GPU at hand. Without Triton
           (it exists for Linux) or without a GPU the functions beside the kernels run instead.
           A silent fallback is how people lose an afternoon, so each is announced by a warning.
Interpreter   with TRITON_INTERPRET=1 in the environment before Triton is imported, kernels run on
           the CPU, one program after the other, in NumPy: slow, and enough for tests. Two things
           are wrong there: `tl.dot` of bf16 operands (garbage) and rounding to bf16 (it truncates).
           So what meets a tensor core is fp32 when INTERPRETED is set.
Limits     bf16 arithmetic wants capability 8.0 (Ampere); AMD GPUs are not refused, but untried.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.cuda import get_device_capability

triton: Any
tl: Any
try:
    triton, tl = import_module("triton"), import_module("triton.language")
except ImportError:  # the kernels stay plain functions that nobody calls
    triton = tl = None

INTERPRETED = triton is not None and bool(triton.knobs.runtime.interpret)
CAPABILITY = (8, 0)


def jit(function: Callable) -> Any:
    """`triton.jit`, or the function itself where Triton is absent."""
    return function if triton is None else triton.jit(function)


def why_not(tensor: Tensor) -> str | None:
    """Why Triton kernels cannot run on this tensor: a sentence, or None if they can."""
    if triton is None:
        return "Triton is not installed (pip install triton, on Linux)"
    if INTERPRETED:
        return None if tensor.device.type == "cpu" else "Triton's interpreter is on (CPU only)"
    if not tensor.is_cuda:
        return f"the tensors are on {tensor.device}, and Triton needs a CUDA GPU"
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
