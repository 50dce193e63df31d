"""Triton kernels for MXFP4 experts on a GPU, each beside the plain PyTorch that it replaces.

    dequantize      blocks and scales -> bf16
    decode          a token's experts, for 1 to 8 tokens: matrix-vector, bound by reading weights
    grouped         all tokens of a prompt, sorted by expert: matrix-matrix, bound by arithmetic

All read the checkpoint's own layout, without repacking: blocks [E, out, G, 16], scales
[E, out, G]. Where a kernel cannot run (`why_not` says why) the same call computes the same in
PyTorch, and warns. `import labhelpers` does not import this; importing this imports Triton.
"""

from labhelpers.kernels.decode import experts_decode
from labhelpers.kernels.dequantize import dequantize
from labhelpers.kernels.grouped import experts_grouped
from labhelpers.kernels.packed import Packed, experts_plain
from labhelpers.kernels.triton_or_not import why_not

__all__ = ["Packed", "dequantize", "experts_decode", "experts_grouped", "experts_plain", "why_not"]
