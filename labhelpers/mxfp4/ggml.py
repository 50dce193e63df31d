"""The same numbers in llama.cpp's order: blocks of 17 bytes, nibbles paired j with j + 16.

The idea   a GGUF file keeps a block together: its scale byte, then 16 bytes whose low nibbles are
           the first half of the 32 codes and whose high nibbles are the second half. Codes and
           scale mean the same as in a Hugging Face checkpoint, so nothing is rounded: bytes move.
               Hugging Face  scales [G]   byte j = code 2j      | code 2j + 1 << 4
               GGML          17 bytes     byte j = code j       | code j + 16 << 4
gpt-oss    published in the first order; llama.cpp's converter makes the second from it. Read by
           the wrong order, a file gives plausible weights in the wrong places, without an error.
Sources    ggml `block_mxfp4` (ggml-common.h) and `dequantize_row_mxfp4` (ggml-quants.c).
Limits     scale byte 255 is NaN by the OCP paper and here, but 2**128 to ggml: a block that has it
           is refused rather than carried over. ggml's quantiser never writes a negative zero.
"""

import torch
from torch import Tensor

from labhelpers.mxfp4.format import check_packed, pack, unpack
from labhelpers.mxfp4.grid import BLOCK

GGML_BYTES = 1 + BLOCK // 2  # of a block


def to_ggml(blocks: Tensor, scales: Tensor) -> Tensor:
    """Turn blocks uint8 [..., G, 16] and scales uint8 [..., G] into rows uint8 [..., 17 G].

    Raises ValueError for wrong dtypes or shapes, and for a NaN scale (255).
    """
    check_packed(blocks, scales)
    _check_scales(scales)
    halves = unpack(blocks).unflatten(-1, (-1, 2, BLOCK // 2))  # [..., G, 2, 16]
    nibbles = halves[..., 0, :] | halves[..., 1, :] << 4  # [..., G, 16]
    return torch.cat((scales.unsqueeze(-1), nibbles), -1).flatten(-2)


def from_ggml(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Turn rows uint8 [..., 17 G] into blocks uint8 [..., G, 16] and scales uint8 [..., G].

    Raises ValueError if rows are not uint8 or not made of 17-byte blocks, and for a NaN scale.
    """
    if rows.dtype != torch.uint8 or rows.ndim == 0:
        raise ValueError(f"rows must be uint8 [..., 17 G], got {rows.dtype} {list(rows.shape)}")
    if rows.shape[-1] % GGML_BYTES:
        raise ValueError(
            f"rows have {rows.shape[-1]} bytes, but a GGML block of MXFP4 takes {GGML_BYTES}: if "
            "they come from a Hugging Face checkpoint (blocks of 16, scales apart), they are in "
            "its own order already"
        )
    parts = rows.unflatten(-1, (-1, GGML_BYTES))  # [..., G, 17]
    scales, nibbles = parts[..., 0].contiguous(), parts[..., 1:]
    _check_scales(scales)
    codes = torch.cat((nibbles & 0x0F, nibbles >> 4), -1)  # [..., G, 32]
    return pack(codes.flatten(-2)), scales


def _check_scales(scales: Tensor) -> None:
    if (scales == 255).any():
        where = torch.nonzero(scales == 255)[0].tolist()
        raise ValueError(
            f"scale 255 (NaN) at {where} (the first one): the weights are damaged, or the bytes "
            "are in another order"
        )
