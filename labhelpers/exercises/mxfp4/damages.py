"""Packed weights that went wrong in known ways, and the numbers by which one tells the ways apart.

    blocks, scales = damage("nibbles", weight)    # packed, with its nibbles exchanged
    symptoms(blocks, scales, weight)              # (error, same, in_block, anywhere, largest)

The idea   a damaged file loads, has every shape right, and writes nonsense. Numbers say where to
           look: are the right values there, but elsewhere? Within the block, or in other rows? Is
           all of it too large? Or is nothing wrong but the last little bit?
Sources    each was met in somebody's converter, or waits in a format's rules: order of nibbles
           (GGML against Hugging Face), gate and up halved or [in, out] taken for [out, in]
           (mlx-lm issue 679), the bias of E8M0 and the rule for scales (OCP MX 1.0, 5.4.1 and 6.3).
Limits     one damage at a time (exercise 2.8 has two at once, once), square matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from labhelpers.mxfp4 import dequantize, fake_quantize, quantize, unpack
from labhelpers.mxfp4.grid import BIAS, BLOCK

if TYPE_CHECKING:
    from labhelpers.viz.table import Table

Packed = tuple[Tensor, Tensor]  # blocks uint8 [R, G, 16], scales uint8 [R, G]


def _nibbles(weight: Tensor) -> Packed:
    blocks, scales = quantize(weight)
    return blocks << 4 | blocks >> 4, scales


def _ggml(weight: Tensor) -> Packed:
    blocks, scales = quantize(weight)
    codes = unpack(blocks).unflatten(-1, (-1, 2, BLOCK // 2))  # [R, G, 2, 16]
    return codes[..., 0, :] | codes[..., 1, :] << 4, scales


def _scales(weight: Tensor) -> Packed:
    blocks, scales = quantize(weight)
    return blocks, scales.roll(1, -1)


def _bias(weight: Tensor) -> Packed:
    blocks, scales = quantize(weight)
    return blocks, (scales.int() - BIAS).to(torch.uint8)  # -4 is stored as 252


def _rows(weight: Tensor) -> Packed:
    blocks, scales = quantize(weight)
    order = torch.arange(len(weight)).view(-1, 2).T.flatten()  # 0, 2, 4, ..., 1, 3, 5, ...
    return blocks[order], scales[order]


_MAKERS: dict[str, Callable[[Tensor], Packed]] = {
    "fine": quantize,
    "nibbles": _nibbles,
    "ggml": _ggml,
    "scales": _scales,
    "bias": _bias,
    "floor": lambda weight: quantize(weight, "floor"),
    "transposed": lambda weight: quantize(weight.T.contiguous()),
    "rows": _rows,
}
NAMES = tuple(_MAKERS)


class Symptoms(NamedTuple):
    """What can be measured of packed weights whose original is known."""

    error: float  # root mean square of (packed - original), over that of the original
    same: float  # share of weights that are what they should be
    in_block: float  # share of blocks that hold the right values, in any order
    anywhere: float  # share of weights left if all values, sorted, are laid beside the right ones
    largest: float  # largest magnitude, over the original's


def damage(name: str, weight: Tensor) -> Packed:
    """Pack weight, fp32 [N, N] with N a multiple of 32, with one of the damages in NAMES.

    "fine" is none. Raises ValueError for another name, or a weight that is not square.
    """
    if name not in _MAKERS:
        raise ValueError(f"unknown damage {name!r}: choose from {list(NAMES)}")
    if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        raise ValueError(
            f"weight has shape {list(weight.shape)}, but a transposed one must have the same "
            "shape: pass a square piece, weight[:96, :96]"
        )
    return _MAKERS[name](weight)


def symptoms(blocks: Tensor, scales: Tensor, reference: Tensor) -> Symptoms:
    """Measure blocks uint8 [R, G, 16] and scales uint8 [R, G] against reference fp32 [R, 32 G].

    Raises ValueError if the shapes do not belong together.
    """
    got, right = dequantize(blocks, scales, torch.float32), fake_quantize(reference)
    if got.shape != reference.shape:
        raise ValueError(f"unpacked {list(got.shape)}, reference {list(reference.shape)}")
    size = reference.double().square().mean().sqrt().item() or 1.0
    error = (got.double() - reference.double()).square().mean().sqrt().item() / size
    by_block = [t.unflatten(-1, (-1, BLOCK)).sort(-1).values for t in (got, right)]
    by_size = [t.flatten().sort().values for t in (got, right)]
    return Symptoms(
        error,
        (got == right).double().mean().item(),
        (by_block[0] == by_block[1]).all(-1).double().mean().item(),
        (by_size[0] == by_size[1]).double().mean().item(),
        got.abs().max().item() / (reference.abs().max().item() or 1.0),  # beyond fp32 with no bias
    )


def table(weight: Tensor, names: Sequence[str] = NAMES) -> Table:
    """The symptoms of each damage, a row each, for weight fp32 [N, N]."""
    from labhelpers.viz.table import table as draw

    rows = []
    for name in names:
        found = symptoms(*damage(name, weight), weight)
        shares = [f"{100 * share:.0f}%" for share in found[1:4]]
        rows.append([name, _times(found.error), *shares, _times(found.largest)])
    head = ["damage", "rms error", "same", "same in the block", "same anywhere", "largest"]
    return draw(head, rows)


def _times(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 1000 else f"{value:.0e}"
