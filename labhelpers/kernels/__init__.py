"""Triton kernels for gpt-oss on a GPU: MXFP4 experts, and a whole model that decodes with them.

    dequantize      blocks and scales -> bf16
    decode          a token's experts, for 1 to 8 tokens: matrix-vector, bound by reading weights
    grouped         all tokens of a prompt, sorted by expert: matrix-matrix, bound by arithmetic
    decoder         the whole model, a token at a time, as one CUDA graph; its other kernels are
                    in linear_decode, attention_decode, router_decode and batch_decode

All read the checkpoint's own layout, without repacking: blocks [E, out, G, 16], scales
[E, out, G]. Where a kernel cannot run (`why_not` says why) the same call computes the same in
PyTorch, and warns. Forward only: nothing here has a gradient. `import labhelpers` does not import
this; importing this imports Triton.
"""

from labhelpers.kernels.decode import experts_decode
from labhelpers.kernels.decoder import Decoder
from labhelpers.kernels.decoder_weights import DecoderWeights
from labhelpers.kernels.dequantize import dequantize
from labhelpers.kernels.grouped import experts_grouped
from labhelpers.kernels.packed import Packed, experts_plain
from labhelpers.kernels.triton_or_not import why_not

__all__ = [
    "Decoder",
    "DecoderWeights",
    "Packed",
    "dequantize",
    "experts_decode",
    "experts_grouped",
    "experts_plain",
    "why_not",
]
