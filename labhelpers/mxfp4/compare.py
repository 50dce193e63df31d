"""What else four bits can do: int4, NF4 and NVFP4 beside MXFP4, judged on the same weights.

The idea   all of these keep four bits a weight and a scale for a group of weights. They differ in
           where the sixteen values lie and in how fine the scale is.
  int4   evenly spaced, -7 .. 7 times an fp16 scale for each 32 weights: 4.5 bits.
  nf4    the quantiles of a normal distribution, times an fp32 scale for each 64: 4.5 bits (4.13
         once QLoRA has quantised the scales too, which is left out here).
  mxfp4  E2M1, times a power of two for each 32: 4.25 bits, by each of the three rules.
  nvfp4  E2M1 as in MXFP4, but a scale for each 16, and a finer one: E4M3, a float of eight bits.
         It reaches from 2**-9 to 448 only, so one fp32 for the tensor puts it in place: 4.5 bits.
  bf16   8 bits of precision, 16 bits a weight: the measure of "no loss".
gpt-oss    its experts are stored in MXFP4 and were trained for it, and so were nano's. Weights
           that lie on a format's grid lose nothing in it, so nano's experts say only what it
           costs to move them elsewhere; its attention was never quantised, and compares fairly.
Sources    Dettmers et al. 2023, QLoRA, appendix E (NF4); symmetric int4 as in llama.cpp's Q4_0,
           without its sixteenth value. NVFP4, which Blackwell's tensor cores read: NVIDIA 2025,
           "Pretraining Large Language Models with NVFP4", appendix on quantisation.
Limits     written to be read: results are unpacked weights, not packed codes. int4's fp16 scale
           is too narrow for weights far from 1 (below 1e-6, above 1e5).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from labhelpers.mxfp4.format import as_blocks, fake_quantize
from labhelpers.mxfp4.grid import BIAS, BLOCK, round_to_grid

NF4_BLOCK = 64
NVFP4_BLOCK = 16
E4M3_MAX = 448.0  # its bits for 480 mean NaN


def nf4_values() -> Tensor:
    """The sixteen values of NF4, ascending, fp32 [16]: quantiles of a normal, scaled to -1 .. 1.

    Zero must be one of them, so the two sides are cut differently: 8 values above 0 and 7 below.
    """
    offset = 0.9677083  # halfway between 1 - 1/30 and 1 - 1/32, the ends for 15 and 16 values
    above = torch.special.ndtri(torch.linspace(offset, 0.5, 9, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(offset, 0.5, 8, dtype=torch.float64)[:-1])
    values = torch.cat((above, below, torch.zeros(1, dtype=torch.float64))).sort().values
    return (values / values.max()).float()


def int4(weight: Tensor) -> Tensor:
    """Round weight [..., K] to seven even steps a side, scaled for each 32; fp32 [..., K]."""
    blocks = as_blocks(weight.float())  # [..., G, 32]
    scale = (blocks.abs().amax(-1, keepdim=True) / 7).half().float()  # stored as fp16
    steps = torch.where(scale > 0, blocks / scale, 0.0).round().clamp(-7, 7)
    return (steps * scale).flatten(-2)


def nf4(weight: Tensor) -> Tensor:
    """Round weight [..., K] to the nearest of NF4's values, scaled for each 64; fp32 [..., K]."""
    blocks = as_blocks(weight.float(), NF4_BLOCK)  # [..., G, 64]
    scale = blocks.abs().amax(-1, keepdim=True)
    unit = torch.where(scale > 0, blocks / scale, 0.0)
    values = nf4_values().to(weight.device)
    between = (values[1:] + values[:-1]) / 2  # beyond these the next value is nearer
    return (values[torch.bucketize(unit, between)] * scale).flatten(-2)


def round_e4m3(values: Tensor) -> Tensor:
    """Round values >= 0, fp32, to E4M3: 1 + M/8 times a power of two from 2**-6 to 2**8; fp32.

    Ties go to the even code, below 2**-6 the steps stay 2**-9, above 448 it is 448. Equal to
    torch.float8_e4m3fn, whose conversion makes a NaN of what is far above 448.
    """
    exponent = torch.frexp(values.clamp(2.0**-6, E4M3_MAX)).exponent - 1  # floor(log2)
    step = torch.ldexp(torch.ones_like(values), exponent - 3)
    return ((values / step).round() * step).clamp_max(E4M3_MAX)


def nvfp4(weight: Tensor, size: int = NVFP4_BLOCK) -> Tensor:
    """Round weight [..., K] to E2M1 with an E4M3 scale for each `size`; fp32 [..., K].

    All of `weight` shares one fp32, chosen so that its largest block gets the largest scale. With
    size 32 it has MXFP4's 4.25 bits: what is gained then is owed to the finer scale alone.
    """
    blocks = as_blocks(weight.float(), size)  # [..., G, size]
    wanted = blocks.abs().amax(-1, keepdim=True) / 6  # the largest weight becomes 6 steps
    tensor_scale = wanted.max() / E4M3_MAX
    scale = round_e4m3(torch.where(tensor_scale > 0, wanted / tensor_scale, 0.0)) * tensor_scale
    unit = torch.where(scale > 0, blocks / scale, 0.0)  # a block far below the rest becomes 0
    steps, _, step = round_to_grid(unit, torch.full_like(scale, BIAS, dtype=torch.int32))
    return (torch.copysign((steps * step).clamp_max(6.0), blocks) * scale).flatten(-2)


class Scheme(NamedTuple):
    """A way to store weights: bits for each, and what becomes of them."""

    bits: float
    apply: Callable[[Tensor], Tensor]


SCHEMES = {
    "bf16": Scheme(16.0, lambda w: w.to(torch.bfloat16).float()),
    "int4": Scheme(4 + 16 / BLOCK, int4),
    "nf4": Scheme(4 + 32 / NF4_BLOCK, nf4),
    "nvfp4": Scheme(4 + 8 / NVFP4_BLOCK, nvfp4),  # and 32 bits a tensor
    "mxfp4 floor": Scheme(4 + 8 / BLOCK, lambda w: fake_quantize(w, "floor")),
    "mxfp4 round_up": Scheme(4 + 8 / BLOCK, lambda w: fake_quantize(w, "round_up")),
    "mxfp4 search": Scheme(4 + 8 / BLOCK, lambda w: fake_quantize(w, "search")),
}


class Errors(NamedTuple):
    """How far a scheme moves weights; relative to the root mean square of the weights."""

    scheme: str
    bits: float  # a weight
    rms: float  # root of the mean squared error
    worst: float  # the largest error of all
    exact: float  # share of the weights that came back unchanged


def error_table(weights: Iterable[Tensor], schemes: Iterable[str] = tuple(SCHEMES)) -> list[Errors]:
    """Errors of each scheme over all weights together, each [..., K] with K the input dimension.

    Raises ValueError for an unknown scheme, no weights, or a K that a scheme's block does not
    divide.
    """
    tensors = [weight.float() for weight in weights]
    if not tensors:
        raise ValueError("no weights to compare: pass at least one tensor")
    count = sum(w.numel() for w in tensors)
    size = (sum(w.double().square().sum().item() for w in tensors) / count) ** 0.5
    rows = []
    for name in schemes:
        if name not in SCHEMES:
            raise ValueError(f"unknown scheme {name!r}: choose from {list(SCHEMES)}")
        errors = [(SCHEMES[name].apply(w) - w).double().abs() for w in tensors]
        rms = (sum(e.square().sum().item() for e in errors) / count) ** 0.5
        worst = max(e.max().item() for e in errors)
        exact = sum(int((e == 0).sum()) for e in errors) / count
        unit = size or 1.0  # nothing but zeros
        rows.append(Errors(name, SCHEMES[name].bits, rms / unit, worst / unit, exact))
    return rows
