"""Conversations as batches: rendered, packed into rows, made by worker processes.

A row holds whole conversations one after another; `documents` numbers them, so that attention can
stay within each. The loss is taken at `supervised` positions, those whose next token the model
has to produce in a conversation's last turn (about a quarter of all).
"""

from __future__ import annotations

import multiprocessing as mp
import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labhelpers.harmony import assemble, render_segments
from labhelpers.tokenizer import Tokenizer
from training.cases import Case

SUPERVISED_SHARE = 0.36  # room for supervised positions; what does not fit goes unsupervised


def conversations(seed: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Endless ids and masks from one seed."""
    from labhelpers import tokenizer
    from training.skills import mixture

    nano, maker = tokenizer.nano(), mixture.maker(seed)
    while True:
        yield tokens_of(mixture.draw(maker), nano)


def tokens_of(case: Case, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Ids of a case, and which of them the model has to produce."""
    return assemble(
        (
            s._replace(generated=s.generated and s.message >= case.history)
            for s in render_segments(case.messages, for_training=True)
        ),
        tokenizer,
    )


def make_batch(seed: int, index: int, rows: int, length: int) -> dict[str, np.ndarray]:
    """Batch number `index`: the same whoever makes it."""
    ids = np.zeros((rows, length), dtype=np.uint16)
    documents = np.zeros((rows, length), dtype=np.int16)
    mask = np.zeros((rows, length), dtype=bool)
    filled, count = [0] * rows, [0] * rows
    open_rows, misses = list(range(rows)), 0
    source = conversations(seed * 1_000_003 + index)
    while open_rows and misses < 40:
        tokens, wanted = next(source)
        n = len(tokens)
        row = next((r for r in open_rows if filled[r] + n <= length), None)
        if row is None:
            misses += 1
            continue
        at = filled[row]
        count[row] += 1
        ids[row, at : at + n] = tokens
        documents[row, at : at + n] = count[row]
        # The position before a wanted token is the one that predicts it.
        mask[row, at : at + n - 1] = wanted[1:]
        filled[row] += n
        if length - filled[row] < 90:
            open_rows.remove(row)
    places = np.flatnonzero(mask)
    room = int(rows * length * SUPERVISED_SHARE) // 64 * 64
    places = places[:room]
    supervised = np.zeros(room, dtype=np.int32)
    targets = np.zeros(room, dtype=np.uint16)
    weights = np.zeros(room, dtype=np.float32)
    supervised[: len(places)] = places
    targets[: len(places)] = ids.reshape(-1)[places + 1]
    weights[: len(places)] = 1
    return {"ids": ids, "documents": documents, "supervised": supervised, "targets": targets,
            "weights": weights}  # fmt: skip


def _work(seed: int, rows: int, length: int, first: int, step: int, out: Any) -> None:
    index = first
    while True:
        out.put(make_batch(seed, index, rows, length))
        index += step


class Batches:
    """Iterator of batches as tensors; rank r of R gets the batches r, r + R, r + 2R, ...

    `first` counts this rank's batches. Its workers take turns, so the order never varies.
    """

    def __init__(
        self, seed: int, rows: int, length: int, workers: int, first: int = 0, rank: int = 0,
        world: int = 1,
    ):  # fmt: skip
        self.waited, self.next, self.processes = 0.0, first, []
        self.rank, self.world = rank, world
        self.args, self.queues = (seed, rows, length), []
        context = mp.get_context("spawn")
        for w in range(workers):
            box = context.Queue(maxsize=4)
            start = (first + w) * world + rank
            args = (seed, rows, length, start, workers * world, box)
            process = context.Process(target=_work, args=args, daemon=True)
            process.start()
            self.processes.append(process)
            self.queues.append(box)
        self.first = first

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, Tensor]:
        if not self.queues:
            batch = make_batch(self.args[0], self.next * self.world + self.rank, *self.args[1:])
        else:
            start = time.time()
            box = self.queues[(self.next - self.first) % len(self.queues)]
            while True:
                try:
                    batch = box.get(timeout=60)
                    break
                except queue.Empty:
                    if not any(p.is_alive() for p in self.processes):
                        raise RuntimeError("all data workers have died") from None
            self.waited += time.time() - start
        self.next += 1
        out = {}
        for key, value in batch.items():
            kind = {np.dtype(np.uint16): np.int32, np.dtype(np.int16): np.int32}.get(value.dtype)
            out[key] = torch.from_numpy(value.astype(kind) if kind else value)
            if torch.cuda.is_available():  # else each copy to the GPU waits for the step before it
                out[key] = out[key].pin_memory()
        return out

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
