"""Dequantise on a CPU at a good part of the speed at which memory can be written.

The idea   `format.dequantize` asks a table of 256 byte pairs; here two bytes at once ask a table of
           65,536 entries of four bf16 values each (512 KiB). The work goes on in chunks small
           enough that a core's cache still holds them for the next step, so that memory is
           read once (0.53 bytes a weight) and written once (2 bytes in bf16). transformers makes
           passes over the whole tensor instead, with index tensors of 4 bytes a byte.
           For transformers' own order, [in, out], see `transposed`.
gpt-oss    gate_up_proj of one layer of the 20b is [32, 5760, 90, 16]: 265 MB that become 1.06 GB.
Sources    none: measured step by step. `benchmarks/dequantize.py` measures it again.
Limits     a CPU, bf16 or fp32. Everything is exact: the bits are those of `format.dequantize`.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from labhelpers.mxfp4 import pages
from labhelpers.mxfp4.format import FP4_VALUES, check_packed
from labhelpers.mxfp4.grid import BIAS, BLOCK

CHUNK = 16384  # blocks at a time: 1 MiB of bf16 and half of that of indices
Job = tuple[slice, ...]


def dequantize_fast(
    blocks: Tensor,
    scales: Tensor,
    dtype: torch.dtype = torch.bfloat16,
    out: Tensor | None = None,
    threads: int | None = None,
) -> Tensor:
    """`format.dequantize`, bit for bit: uint8 [..., G, 16] and [..., G] to [..., 32 G] of dtype.

    out, contiguous and of the result's shape and dtype, is filled and returned; new memory costs
    about as much as the arithmetic. threads: torch.get_num_threads() unless told. Raises
    ValueError for what does not fit, another dtype, or tensors that are not on the CPU.
    """
    shape = (*scales.shape[:-1], scales.shape[-1] * BLOCK) if scales.ndim else ()
    out = prepare(blocks, scales, dtype, shape, out)
    words = as_words(blocks, torch.uint16).view(-1, 8)  # [n, 8], two bytes each
    flat_scales, rows = scales.reshape(-1), out.view(-1, BLOCK)  # [n], [n, 32]
    quads = _quads()
    powers = power_table(0, dtype)

    def worker() -> Callable[[Job], None]:
        count = min(CHUNK, len(words))
        index = torch.empty(count * 8, dtype=torch.int32)
        tile = torch.empty(count, BLOCK, dtype=torch.bfloat16) if dtype != torch.bfloat16 else None

        def unpack(job: Job) -> None:
            values = rows[job]  # [n, 32]
            target = values if tile is None else tile[: len(values)]
            ids = index[: len(values) * 8]
            ids.copy_(words[job].view(-1))
            torch.index_select(quads, 0, ids, out=target.view(-1).view(torch.int64))
            if tile is not None:
                values.copy_(target)  # exact; the wider product is the faster one
            values *= powers.index_select(0, flat_scales[job].int()).view(-1, 1)

        return unpack

    share_out([(slice(i, i + CHUNK),) for i in range(0, len(words), CHUNK)], worker, threads)
    return out


def prepare(
    blocks: Tensor, scales: Tensor, dtype: torch.dtype, shape: tuple[int, ...], out: Tensor | None
) -> Tensor:
    """Check everything, and return out, made new if it is None. Raises ValueError."""
    check_packed(blocks, scales)
    if dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"dtype must be torch.bfloat16 or torch.float32, got {dtype}")
    if blocks.device.type != "cpu" or scales.device.type != "cpu":
        raise ValueError(
            f"blocks are on {blocks.device} and scales on {scales.device}, but this is for the "
            "CPU: use labhelpers.mxfp4.dequantize"
        )
    if out is None:
        return pages.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.is_contiguous() or out.is_meta:
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)} (contiguous: {out.is_contiguous()}), expected "
            f"a contiguous {dtype} {list(shape)}"
        )
    if out.storage_offset() % 4:
        raise ValueError("out must begin at a multiple of four elements of its storage")
    return out


def as_words(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """Read blocks [..., 16] as [..., 8] of a two-byte dtype; copied only where they lie askew."""
    if not blocks.is_contiguous() or blocks.storage_offset() % 2:
        blocks = blocks.clone(memory_format=torch.contiguous_format)
    return blocks.view(dtype)


def share_out(
    jobs: list[Job], worker: Callable[[], Callable[[Job], None]], threads: int | None = None
) -> None:
    """Run all jobs, each by a worker, which owns its buffers and takes the next job when free.

    Were every step shared out among torch's threads instead, they would wait for each other
    several times a chunk, and on a busy machine each wait may take a time slice. (index_select
    of a table with one column uses a single thread anyway.)
    """
    before = torch.get_num_threads()
    threads = min(threads or before, len(jobs))
    queue = deque(jobs)

    def work() -> None:
        run = worker()
        while True:
            try:
                job = queue.popleft()  # atomic
            except IndexError:
                return
            run(job)

    # One thread of torch's in each of ours; the setting of a thread is its own, but that of
    # threads yet to come is common to all, so it is put back.
    try:
        if threads <= 1:
            torch.set_num_threads(1)
            return work()
        with ThreadPoolExecutor(threads, "mxfp4", torch.set_num_threads, (1,)) as pool:
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _quads() -> Tensor:
    """Two bytes -> their four values in bf16, seen as one int64: [65536]."""
    pair = torch.arange(2**16).to(torch.uint16).view(torch.uint8).view(-1, 2)  # as they lie
    codes = torch.stack((pair & 0x0F, pair >> 4), -1).flatten(1)  # [65536, 4], low nibble first
    return torch.tensor(FP4_VALUES, dtype=torch.bfloat16)[codes.int()].view(torch.int64).view(-1)


@lru_cache(maxsize=4)
def power_table(lift: int, dtype: torch.dtype) -> Tensor:
    """Scale byte -> 2**(byte - 127 + lift) of dtype [256]; NaN for byte 255."""
    powers = torch.ldexp(torch.ones(256, dtype=torch.float64), torch.arange(256) - BIAS + lift)
    powers[255] = torch.nan
    return powers.to(dtype)
