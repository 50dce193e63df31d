"""MXFP4 to bf16 on a CPU: this package against transformers' dequantiser, in one run.

    python -m benchmarks.dequantize [--threads 2] [--rounds 5] [--experts 32] [--compile]

The expert matrices of one layer, gate_up of gpt-oss-20b and of nano, random bytes. transformers'
`convert_moe_packed_tensors` returns them turned, [E, in, out]; results are compared bit for bit,
each in its own order. The contenders take turns in every round, and the best round counts: the
machine may have other work. Bytes that must be moved (blocks, scales, result) a second are set
beside those of a copy of as many bytes, measured in the same rounds, threads and memory:
"new" results lie in memory that the system hands out (and clears) during the call, as
transformers' do; "reused" ones are written where the last ones were. `labhelpers.mxfp4.pages`
asks for large pages by itself; with THP_MEM_ALLOC_ENABLE=1 in the environment torch does, for all
contenders. --compile adds torch.compile of the plain formula.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from labhelpers.config import preset
from labhelpers.mxfp4 import FP4_VALUES, dequantize, dequantize_fast, dequantize_transposed

PEER = "transformers convert_moe_packed_tensors"
COPY, COPY_NEW = "copy, reused memory", "copy, new memory"
Contender = tuple[str, str, Callable[[], Tensor]]  # name, order of the result, call


def random_packed(experts: int, rows: int, groups: int) -> tuple[Tensor, Tensor]:
    """Any bytes, and scales as trained weights have them."""
    generator = torch.Generator().manual_seed(0)
    shape = (experts, rows, groups)
    blocks = torch.randint(256, (*shape, 16), dtype=torch.uint8, generator=generator)
    return blocks, torch.randint(112, 124, shape, dtype=torch.uint8, generator=generator)


def compiled() -> Callable[[Tensor, Tensor], Tensor]:
    """The plain formula, table and product, fused by a C++ compiler."""
    byte = torch.arange(256)
    pairs = torch.tensor(FP4_VALUES)[torch.stack((byte & 15, byte >> 4), -1)]
    powers = 2.0 ** (byte - 127)

    def formula(blocks: Tensor, scales: Tensor) -> Tensor:
        values = pairs[blocks.int()].flatten(-2) * powers[scales.int()].unsqueeze(-1)
        return values.to(torch.bfloat16).flatten(-2)

    return torch.compile(formula, dynamic=False)


def contenders(
    blocks: Tensor, scales: Tensor, reused: Tensor, with_compile: bool
) -> list[Contender]:
    """All write into `reused`, fp32 of the size of the result, who do not ask for new memory."""
    experts, rows, groups = scales.shape
    wide = reused.view(experts, rows, groups * 32)
    half = reused.view(torch.bfloat16)[: wide.numel()]
    straight, turned = half.view(wide.shape), half.view(experts, groups * 32, rows)
    single = torch.float32
    found: list[Contender] = [
        (PEER, "[in, out]", lambda: convert_moe_packed_tensors(blocks, scales)),
        ("dequantize (256 pairs)", "[out, in]", lambda: dequantize(blocks, scales)),
        ("the same, turned", "[in, out]", lambda: dequantize(blocks, scales).mT.contiguous()),
        ("dequantize_transposed, new", "[in, out]", lambda: dequantize_transposed(blocks, scales)),
        ("dequantize_transposed, reused", "[in, out]",
         lambda: dequantize_transposed(blocks, scales, out=turned)),
        ("dequantize_fast, new", "[out, in]", lambda: dequantize_fast(blocks, scales)),
        ("dequantize_fast, reused", "[out, in]",
         lambda: dequantize_fast(blocks, scales, out=straight)),
        ("dequantize_fast, fp32, reused", "[out, in]",
         lambda: dequantize_fast(blocks, scales, single, out=wide)),
    ]  # fmt: skip
    if with_compile:
        formula = compiled()
        found.append(("torch.compile of the formula", "[out, in]", lambda: formula(blocks, scales)))
    return found


def best_times(calls: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Seconds of the best of some rounds in which all take turns; short calls are repeated."""
    repeats, best = {}, dict.fromkeys(calls, float("inf"))
    for name, call in calls.items():
        begin = time.perf_counter()
        call()
        repeats[name] = max(1, int(0.05 / (time.perf_counter() - begin)))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / repeats[name])
    return best


def measure(
    experts: int, rows: int, groups: int, rounds: int, with_compile: bool
) -> list[dict[str, object]]:
    blocks, scales = random_packed(experts, rows, groups)
    reused = torch.empty(32 * scales.numel())
    found = contenders(blocks, scales, reused, with_compile)
    theirs = found[0][2]()  # [E, in, out]
    target = reused.view(torch.bfloat16)[: theirs.numel()].view(theirs.shape)
    calls: dict[str, Callable[[], Tensor]] = {name: call for name, _, call in found}
    moved, equal = {}, {}
    for name, order, call in found:
        result = theirs if name == PEER else call()
        moved[name] = blocks.nbytes + scales.nbytes + result.nbytes
        result = result if order == "[in, out]" else result.mT
        equal[name] = all(  # an expert at a time, to need little memory
            torch.equal(ours.to(torch.bfloat16).view(torch.int16), other.view(torch.int16))
            for ours, other in zip(result, theirs, strict=True)
        )
    moved |= dict.fromkeys((COPY, COPY_NEW), 2 * theirs.nbytes)
    calls |= {COPY: lambda: target.copy_(theirs), COPY_NEW: theirs.clone}
    best = best_times(calls, rounds)
    limit = moved[COPY] / best[COPY]
    return [
        {
            "name": name,
            "order": dict((n, o) for n, o, _ in found).get(name, ""),
            "equal": equal.get(name),
            "seconds": best[name],
            "packed_gb_s": blocks.nbytes / best[name] / 1e9 if name in equal else None,
            "ratio": best[PEER] / best[name] if name in equal else None,
            "moved_gb_s": moved[name] / best[name] / 1e9,
            "of_copy": moved[name] / best[name] / limit,
        }
        for name in calls
    ]


def show(title: str, rows: list[dict[str, object]]) -> None:
    print(f"\n{title}\n")
    print("| | order | same bits | ms | packed GB/s | ratio | moved GB/s | of a copy |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        same = {True: "yes", False: "NO", None: ""}[row["equal"]]
        packed = f"{row['packed_gb_s']:.3f}" if row["packed_gb_s"] else ""
        ratio = f"{row['ratio']:.1f}" if row["ratio"] else ""
        print(f"| {row['name']} | {row['order']} | {same} | {1e3 * row['seconds']:.2f} | {packed} "
              f"| {ratio} | {row['moved_gb_s']:.1f} | {row['of_copy']:.0%} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--experts", type=int, default=32, help="of gpt-oss-20b: fewer is quicker")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: wants g++")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    large = os.environ.get("THP_MEM_ALLOC_ENABLE") == "1"
    if not options.json:
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
              f"{options.threads} threads, torch {torch.__version__}, transformers "
              f"{transformers.__version__}, best of {options.rounds} rounds, large pages "
              f"{'for all' if large else 'where a contender asks for them'}")  # fmt: skip
    results = {}
    for name in ("nano", "gpt-oss-20b"):
        config = preset(name)
        experts = options.experts if name == "gpt-oss-20b" else config.num_local_experts
        shape = (experts, 2 * config.intermediate_size, config.hidden_size // 32)
        title = f"{name}, gate_up of one layer: blocks {[*shape, 16]}"
        results[title] = measure(*shape, options.rounds, options.compile)
        if not options.json:
            show(title, results[title])
    if options.json:
        print(json.dumps({"threads": options.threads, "tables": results}))


if __name__ == "__main__":
    main()
