"""Which power of two should 32 weights share? Three rules, and what each gives up.

The idea   with m the largest magnitude of a block, a scale that is too small clips m to 6 steps,
           and one that is too large wastes codes: all weights are rounded twice as coarsely.
  "floor"     2**(floor(log2 m) - 2), the OCP paper's, also llama.cpp's: m lies between 4 and 8
              steps, and what falls between 6 and 8 is clipped to 6.
  "round_up"  the smallest power of two with m <= 6 * scale, as triton_kernels and hence
              transformers' own quantiser have it: never clips, but m just above 6 of the smaller
              steps costs all 32 weights the finer ones.
  "search"    whichever of floor's scale, the next and the previous one has the least squared
              error. No other can be better: see `_search`.
gpt-oss    nobody has said by which rule the released weights were made; nano's rule is round_up.
Sources    OCP Microscaling Formats (MX) 1.0, section 6.3; triton_kernels
           `numerics_details/mxfp.py`; ggml `quantize_row_mxfp4_ref`.
Limits     the error of the weights is what "search" makes small, not that of the layer's output.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from labhelpers.mxfp4.grid import BIAS, MAX_SCALE, round_to_grid

Rule = Literal["round_up", "floor", "search"]
RULES: tuple[Rule, ...] = get_args(Rule)


def choose_scales(blocks: Tensor, rule: Rule) -> Tensor:
    """Choose the scale byte [..., G, 1] (int32, 0..252) of each block [..., G, 32] fp32.

    Raises ValueError for a rule that is not one of RULES.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {list(RULES)}, got {rule!r}")
    largest = blocks.abs().amax(-1, keepdim=True)
    bits = largest.view(torch.int32)
    # An fp32's bits above 23 are floor(log2) + 127; 6 is 1.5 * 2**2, so whatever exceeds half
    # of the mantissa is carried into the exponent by this addition.
    if rule == "round_up":
        bits = bits + 0x3FFFFF
    scale_bytes = ((bits >> 23) - 2).clamp(0, MAX_SCALE)
    return _search(blocks, scale_bytes) if rule == "search" else scale_bytes


def _search(blocks: Tensor, floor: Tensor) -> Tensor:
    """Try floor's scale byte, the next and the previous; keep the first with the least error.

    Two up is never better than one up: m is then below 2 steps, where the grid is a part of the
    finer one. Two down is never better than floor: m, above 16 of those steps, loses at least
    100 - 16 by being clipped to 6, more than 31 others with an error below 1 could win back.
    """
    best_bytes = floor
    least = _squared_error(blocks, floor, floor)
    for move in (1, -1):
        scale_bytes = (floor + move).clamp(0, MAX_SCALE)
        error = _squared_error(blocks, scale_bytes, floor)
        best_bytes = torch.where(error < least, scale_bytes, best_bytes)
        least = torch.minimum(error, least)
    return best_bytes


def _squared_error(blocks: Tensor, scale_bytes: Tensor, unit: Tensor) -> Tensor:
    """Error [..., G, 1] of a scale, counted in steps of another, `unit`: no square overflows."""
    steps, _, step = round_to_grid(blocks, scale_bytes)
    ratio = ((BIAS + scale_bytes - unit) << 23).view(torch.float32)  # 0.5, 1 or 2
    scaled = blocks.abs() * ((2 * BIAS - unit) << 23).view(torch.float32)
    return ((steps * step).clamp_max(6.0) * ratio - scaled).square().sum(-1, keepdim=True)
