"""The grid of E2M1: sixteen values, and how a number is rounded to the nearest of them.

The idea   the four bits of a weight are a tiny float: a sign, two exponent bits, one mantissa bit.
           Their gaps grow with the magnitude: 0.5 up to 2, then 1 up to 4, then 2 up to 6.
gpt-oss    its experts are made of these values times a power of two for each 32 of them.
Sources    OCP Microscaling Formats (MX) 1.0, section 5.3.3 (E2M1) and 5.4.1 (E8M0, the scale).
Limits     ties go to the even code, as IEEE has it (triton_kernels rounds them away from 0).
"""

import torch
from torch import Tensor

BLOCK = 32  # weights that share a scale
BIAS = 127  # of the scale byte: 127 means 2**0
MAX_SCALE = 252  # the largest scale byte whose 6 * scale is finite in fp32 and bf16
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FP4_VALUES = (*_MAGNITUDES, *(-value for value in _MAGNITUDES))  # by code; the sign is bit 3


def round_to_grid(blocks: Tensor, scale_bytes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round magnitudes to the grid: how many steps, the code they count from, the step.

    blocks is fp32 [..., G, 32], scale_bytes int32 [..., G, 1]; the three results are fp32
    [..., G, 32]. Below 2 the step is 0.5 and codes count from 0, below 4 it is 1 (from 2), above
    it is 2 (from 4). torch.round takes ties to the even count, which is the even code too. What
    lies above 6 is not clipped yet: it shows as a code above 7 and a magnitude above 6.
    """
    inverse = ((2 * BIAS - scale_bytes) << 23).view(torch.float32)  # 2**(127 - byte), exact
    scaled = blocks.abs() * inverse
    low, middle = scaled < 2, scaled < 4
    step = torch.where(low, 0.5, torch.where(middle, 1.0, 2.0))
    per_step = torch.where(low, 2.0, torch.where(middle, 1.0, 0.5))  # a division may be inexact
    offset = torch.where(low, 0.0, torch.where(middle, 2.0, 4.0))
    return torch.round(scaled * per_step), offset, step
