"""MXFP4: 32 weights share one power-of-two scale, and each keeps four bits of its own.

The idea   weight = e2m1 * 2**(scale - 127). The four bits (E2M1: sign, two exponent bits, one
           mantissa bit) can say 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; the scale byte
           (E8M0) is a bare exponent. (32 * 4 + 8) / 32 = 4.25 bits a weight.
gpt-oss    only the experts' two matrices are stored like this (model card, "Quantization"),
           in blocks along the input dimension; byte j of a block holds value 2j in its low
           nibble and value 2j + 1 in its high one. (GGUF pairs j with j + 16: repack, don't copy.)
Sources    OCP Microscaling Formats (MX) 1.0, sections 5.2, 5.3 and 6.3; transformers'
           `convert_moe_packed_tensors`, with which `dequantize` agrees bit for bit.

How a block's scale is chosen is `scales`' business: three rules, "round_up" (nano's), "floor" and
"search". What E2M1 can say, and how a number is rounded to it, is `grid`'s.

Corners, each of them tested:
  zero block      scale byte 0 and codes 0.
  negative zero   kept (code 8), also where a small negative value rounds to zero, so that
                  quantize(-w) is quantize(w) with every sign bit flipped.
  ties            round to the even code, as IEEE does (triton_kernels rounds them away from 0).
  scale 255       NaN by the OCP paper: `dequantize` returns NaN for all 32 values, whatever
                  the codes; `quantize` never writes it. (A plain ldexp makes infinities of it.)
  scales 253-254  the largest codes overflow to infinity in fp32 and bf16. `quantize` stops at 252,
                  where 6 * scale is still finite, so it clips above 1.5 * 2**127.
  tiny values     the smallest scale, 2**-127, is used for all blocks below it; the products are
                  subnormal in bf16 and fp32, and still exact.
  NaN, infinity   `quantize` raises; `fake_quantize` answers NaN for that block (looking would
                  make a GPU wait at every training step).
"""

from functools import lru_cache

import torch
from torch import Tensor

from labhelpers.mxfp4.grid import BIAS, BLOCK, FP4_VALUES, MAX_SCALE, round_to_grid
from labhelpers.mxfp4.scales import RULES, Rule, choose_scales

__all__ = [
    "BIAS",
    "BLOCK",
    "FP4_VALUES",
    "MAX_SCALE",
    "RULES",
    "Rule",
    "dequantize",
    "fake_quantize",
    "fake_quantize_ste",
    "pack",
    "quantize",
    "unpack",
]


def quantize(weight: Tensor, rule: Rule = "round_up") -> tuple[Tensor, Tensor]:
    """Pack weight [..., K] into blocks uint8 [..., K/32, 16] and scales uint8 [..., K/32].

    Blocks run along the last dimension, which must be the input one: transpose transformers'
    experts, [E, in, out], first. Raises ValueError for a K that 32 does not divide, a dtype that
    is not floating, and NaN or infinity.
    """
    blocks = as_blocks(weight)  # [..., G, 32] fp32
    if not torch.isfinite(blocks).all():
        where = torch.nonzero(~torch.isfinite(blocks.flatten(-2)))[0].tolist()
        raise ValueError(
            f"weight has a NaN or an infinity at {where} (the first one); MXFP4 has no code for "
            "them. Find out where training or conversion went wrong before quantizing."
        )
    scale_bytes = choose_scales(blocks, rule)  # [..., G, 1] int32
    steps, offset, _ = round_to_grid(blocks, scale_bytes)
    codes = (steps + offset).clamp_max(7).to(torch.uint8)  # code of the magnitude
    codes |= torch.signbit(blocks).to(torch.uint8) << 3
    return pack(codes.flatten(-2)), scale_bytes.squeeze(-1).to(torch.uint8)


def dequantize(blocks: Tensor, scales: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Unpack blocks uint8 [..., G, 16] and scales uint8 [..., G] to [..., 32 G] of dtype.

    Exact: bf16 and fp32 hold the same numbers (fp64 too, below scale 253). One
    table look-up a byte gives both of its values. Raises ValueError for wrong dtypes or shapes.
    """
    check_packed(blocks, scales)
    if dtype not in (torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(
            f"cannot dequantize to {dtype}: its range is too small for 2**(scale - 127); ask for "
            "torch.bfloat16 or torch.float32"
        )
    pairs, powers = _tables(dtype, blocks.device)
    values = pairs.index_select(0, blocks.flatten().int()).view(dtype)  # low nibble first
    values = values.view(*scales.shape, BLOCK)  # [..., G, 32]
    values *= powers.index_select(0, scales.flatten().int()).view(*scales.shape, 1)
    return values.flatten(-2)


def fake_quantize(weight: Tensor, rule: Rule = "round_up", dim: int = -1) -> Tensor:
    """Give weight the values that it would have after quantize and dequantize.

    The blocks run along `dim` (-2 for transformers' experts, [E, in, out]); shape and dtype, bf16
    or fp32, stay. Arithmetic only, without tables or a look at the data, so that torch.compile
    makes one kernel of it. No gradient gets through the rounding: see `fake_quantize_ste`.
    Raises ValueError for other dtypes, or a dimension that 32 does not divide.
    """
    if weight.dtype not in (torch.float32, torch.bfloat16, torch.float64):
        raise ValueError(f"fake_quantize needs fp32 or bf16 weights, got {weight.dtype}")
    blocks = as_blocks(weight.movedim(dim, -1))
    scale_bytes = choose_scales(blocks, rule)
    steps, _, step = round_to_grid(blocks, scale_bytes)
    magnitude = (steps * step).clamp_max(6.0)
    # 2**(byte - 127) from its bits; byte 0 is the subnormal 2**-127.
    power = torch.where(scale_bytes == 0, 1 << 22, scale_bytes << 23).view(torch.float32)
    broken = ~torch.isfinite(blocks).all(-1, keepdim=True)
    power = torch.where(broken, torch.nan, power)
    values = torch.copysign(magnitude, blocks) * power
    return values.flatten(-2).movedim(-1, dim).to(weight.dtype)


def fake_quantize_ste(weight: Tensor, rule: Rule = "round_up", dim: int = -1) -> Tensor:
    """`fake_quantize` whose gradient is passed straight through, as if nothing were rounded.

    A staircase has slope 0 nearly everywhere and would teach nothing (straight-through
    estimator: Bengio, Leonard and Courville 2013). Written as q + (w - w), whose bracket is an
    exact 0 with a slope of 1, and not as an `autograd.Function`: under torch.compile of torch 2.11
    one gave a gradient of 0 without a word, and a nano learned nothing in its experts.
    """
    return fake_quantize(weight.detach(), rule, dim) + (weight - weight.detach())


def pack(codes: Tensor) -> Tensor:
    """Pack codes uint8 [..., K], each in 0..15, into blocks uint8 [..., K/32, 16].

    Raises ValueError if 32 does not divide K.
    """
    if codes.shape[-1] % BLOCK:
        raise ValueError(f"codes has {codes.shape[-1]} columns; a block takes {BLOCK}")
    pairs = codes.unflatten(-1, (-1, BLOCK // 2, 2))  # [..., G, 16, 2]
    return pairs[..., 0] | pairs[..., 1] << 4  # even value in the low nibble


def unpack(blocks: Tensor) -> Tensor:
    """Unpack blocks uint8 [..., G, 16] into codes uint8 [..., 32 G], each in 0..15."""
    return torch.stack((blocks & 0x0F, blocks >> 4), -1).flatten(-3)


def as_blocks(weight: Tensor, size: int = BLOCK) -> Tensor:
    """View weight [..., K] as fp32 [..., K/size, size]. Raises ValueError for other shapes."""
    if not weight.is_floating_point():
        raise ValueError(f"weight must be floating point, got {weight.dtype}")
    if weight.ndim == 0 or weight.shape[-1] % size or weight.shape[-1] == 0:
        raise ValueError(
            f"weight has shape {list(weight.shape)}, but its last dimension must be a multiple of "
            f"{size}: pad it with zeros, or transpose if the input dimension is another one"
        )
    return weight.unflatten(-1, (-1, size)).float()


def check_packed(blocks: Tensor, scales: Tensor) -> None:
    """Raise ValueError unless blocks uint8 [..., G, 16] and scales uint8 [..., G] fit together."""
    if blocks.dtype != torch.uint8 or scales.dtype != torch.uint8:
        raise ValueError(f"blocks and scales must be uint8, got {blocks.dtype}, {scales.dtype}")
    if blocks.ndim < 2 or blocks.shape[-1] != BLOCK // 2 or blocks.shape[:-1] != scales.shape:
        raise ValueError(
            f"blocks {list(blocks.shape)} and scales {list(scales.shape)} do not belong together: "
            "expected [..., G, 16] and [..., G]"
        )


@lru_cache(maxsize=8)
def _tables(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Byte -> its two values, seen as one number of twice the width; scale byte -> its power."""
    byte = torch.arange(256)
    fp4 = torch.tensor(FP4_VALUES, dtype=dtype)
    pairs = torch.stack((fp4[byte & 0x0F], fp4[byte >> 4]), -1)  # [256, 2]
    wide = {torch.bfloat16: torch.int32, torch.float32: torch.int64}.get(dtype, torch.complex128)
    powers = torch.ldexp(torch.ones(256, dtype=torch.float64), byte - BIAS)
    powers[255] = torch.nan
    return pairs.view(wide).squeeze(-1).to(device), powers.to(dtype).to(device)
