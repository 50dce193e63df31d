"""Inputs for the checks: fixed numbers that look random, the same in every version of torch."""

from __future__ import annotations

import torch
from torch import Tensor


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """float32 numbers between -2 and 2 times scale; another seed, other numbers."""
    count = 1
    for size in shape:
        count *= size
    places = torch.arange(count, dtype=torch.float64)
    # The phase grows with the square, so rows and columns are not multiples of each other.
    values = torch.sin(0.7 * places**2 + 1.3 * places + seed + 0.6)
    return (2 * scale * values).float().reshape(shape)
