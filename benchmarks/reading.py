"""A kernel that only reads: what a GPU's memory can deliver, in one long read or in a short one.

Beside torch's reductions (`kernels.limits`) it says how much of a kernel's distance from the limit
is the memory's own: a read of 35 MB, as one expert layer asks for, has hardly begun when it ends.
`python -m benchmarks.kernels` prints both; the shares there are of torch's figure.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
from torch import Tensor

from labhelpers.kernels.triton_or_not import jit, tl

WORDS = 4  # int32, read in one instruction of 16 bytes
# Threads of a program and the reads that each has under way: the best differs with the size.
SHAPES = [(threads, steps) for threads in (128, 256, 512) for steps in (2, 4, 8, 16)]


@jit
def _read(source, found, STEPS: tl.constexpr, LANES: tl.constexpr):
    """Read STEPS * LANES numbers a program; one number is written, so that nothing is left out."""
    program = tl.program_id(0)
    lanes = program.to(tl.int64) * STEPS * LANES + tl.arange(0, LANES)
    total = tl.zeros([LANES], tl.int32)
    for step in tl.static_range(STEPS):
        total ^= tl.load(source + lanes + step * LANES)
    tl.store(found + program, tl.sum(total, axis=0))


def read(source: Tensor, threads: int, steps: int) -> int:
    """Read `source` [N] int32 from its begin, up to less than one program's part; bytes read."""
    lanes = threads * WORDS
    programs = source.numel() // (steps * lanes)
    found = torch.empty(programs, dtype=torch.int32, device=source.device)
    _read[(programs,)](source, found, steps, lanes, num_warps=threads // 32)
    return programs * steps * lanes * source.element_size()
