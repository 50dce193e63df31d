"""GPU kernels for MXFP4 experts against the card's own limits and torch's bf16, in one run.

    python -m benchmarks.kernels [--out FOLDER] [--quick] [--tune]

At the shapes of gpt-oss-20b and gpt-oss-120b, random valid MXFP4: correctness against float64
first, then microseconds, GB/s and the share of a limit that is measured in the same run (copy
bandwidth for dequantize, read bandwidth for decode, a bf16 matmul's rate for prefill), beside
torch's bf16 grouped matmul on the same routing. Needs a CUDA GPU and Triton; about 2 minutes.

How it is timed: a CUDA graph of one pass over ROTATE layers' worth of different weights (together
several times the L2 cache, so weights come from memory), replayed; CUDA events around a replay,
divided by the passes in it; the median of the replays. What a pass does is the public function,
with everything that it launches. With --tune the kernels' settings are tried one by one, each
timed in the same way; the table then shows the best, and says which.
--out writes kernels.json and kernels.md there; both are printed too.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import reading
from labhelpers.config import preset
from labhelpers.kernels import decode, dequantize, experts_decode, experts_grouped, grouped, why_not
from labhelpers.kernels.packed import Packed, experts_plain
from labhelpers.model.moe import swiglu
from labhelpers.mxfp4 import format as mx

MODELS = ("gpt-oss-20b", "gpt-oss-120b")
DECODE_TOKENS, PREFILL_TOKENS = (1, 2, 4, 8), (64, 256, 1024, 4096)
ROTATED = 400e6  # bytes that a pass over all copies must read: 8 times an H100's L2
BYTES_A_WEIGHT = 17 / 32
# What --tune tries: of decode, rows and registers of its two kernels; of prefill, by the pairs that
# an expert has on average.
DECODE_TUNINGS = [
    decode.Tuning(4, 4), decode.Tuning(4, 4, 96, None), decode.Tuning(4, 4, None, 80),
    decode.Tuning(4, 4, 96, 80), decode.Tuning(2, 4), decode.Tuning(4, 4, overlap=False),
]  # fmt: skip
PREFILL_TUNINGS = {
    12: [(16, 128, 128, 4, 4), (16, 128, 256, 4, 3), (16, 64, 256, 4, 4)],
    48: [(32, 128, 128, 4, 4), (64, 128, 128, 4, 3), (64, 128, 64, 4, 4), (16, 128, 128, 4, 4)],
    200: [
        (64, 128, 128, 4, 3), (64, 128, 64, 4, 4), (128, 128, 64, 8, 3), (128, 128, 128, 8, 2),
        (256, 128, 64, 8, 3),
    ],
    10**9: [
        (128, 128, 64, 8, 3), (128, 128, 64, 8, 4), (128, 128, 128, 8, 2), (256, 128, 64, 8, 3),
        (256, 128, 64, 8, 4), (128, 256, 64, 8, 3),
    ],
}  # fmt: skip

DEVICE = "cuda"

Row = dict[str, Any]


# Timing ------------------------------------------------------------------------------------


def microseconds(calls: list[Callable[[], Any]], replays: int, captured: bool = True) -> float:
    """Median time of one call: all of `calls` in a CUDA graph, replayed (or called anew)."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, and warms up
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)

    def once() -> None:
        for call in calls:
            call()

    if captured:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            once()
        once = graph.replay
    for _ in range(3):
        once()
    times = []
    for _ in range(replays):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        once()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return 1e3 * statistics.median(times) / len(calls)


def limits(replays: int) -> Row:
    """Copy and read bandwidth in GB/s, and the rate of a large bf16 matmul in TFLOP/s."""
    size = 2**30
    source = torch.randint(2**31, (size // 4,), dtype=torch.int32, device=DEVICE)
    target = torch.empty_like(source)
    copy = microseconds([partial(target.copy_, source)], replays)
    # A sum reads each byte once; torch's reduction of fp32 keeps the memory busy.
    numbers = target.view(torch.float32).nan_to_num_()
    reads = [microseconds([partial(f, numbers)], replays) for f in (torch.sum, torch.amax)]
    read = min(reads)  # the better of two is nearer to what the card can do
    only_read, shape = reading_only([source], replays)
    del source, target, numbers
    n = 8192
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    product = microseconds([partial(torch.mm, a, b)], replays)
    return {
        "copy_gb_s": 2 * size / copy / 1e3,
        "read_gb_s": size / read / 1e3,
        "read_kernel_gb_s": only_read,
        "read_kernel": shape,
        "matmul_tflop_s": 2 * n**3 / product / 1e6,
    }


def reading_only(parts: list[Tensor], replays: int) -> tuple[float, str]:
    """GB/s of a kernel that does nothing else, part after part, and the shape that is best."""
    found = {}
    for shape in reading.SHAPES:
        size = reading.read(parts[0], *shape)
        us = microseconds([partial(reading.read, part, *shape) for part in parts], replays)
        found["{} threads, {} reads".format(*shape)] = size / us / 1e3
    best_shape = max(found, key=lambda shape: found[shape])
    return found[best_shape], best_shape


# One layer's experts -----------------------------------------------------------------------


def random_packed(experts: int, out: int, inputs: int) -> Packed:
    """Valid MXFP4 straight from random bits: nobody needs bf16 weights to make it."""
    groups = inputs // mx.BLOCK
    blocks = torch.randint(256, (experts, out, groups, 16), dtype=torch.uint8, device=DEVICE)
    # E2M1 codes drawn evenly have a mean square of 8.56: weights of about inputs**-0.5 in all.
    middle = round(127 + math.log2(inputs**-0.5 / 8.56**0.5))
    scales = torch.randint(middle - 1, middle + 2, (experts, out, groups), device=DEVICE)
    bias = 0.1 * torch.randn(experts, out, device=DEVICE)
    return Packed(blocks, scales.to(torch.uint8), bias.to(torch.bfloat16))


def random_layer(name: str) -> tuple[Packed, Packed]:
    config = preset(name)
    hidden, inner = config.hidden_size, config.intermediate_size
    experts = config.num_local_experts
    gate_up = random_packed(experts, 2 * inner, hidden)
    return gate_up, random_packed(experts, hidden, inner)


def routing(tokens: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Random hidden states, evenly drawn experts and weights of `tokens` tokens."""
    config = preset(name)
    hidden = torch.randn(tokens, config.hidden_size, device=DEVICE).to(torch.bfloat16)
    order = torch.rand(tokens, config.num_local_experts, device=DEVICE).argsort(1)
    ids = order[:, : config.num_experts_per_tok].contiguous()
    weights = torch.rand(ids.shape, device=DEVICE).softmax(1).to(torch.bfloat16)
    return hidden, ids, weights


def unpacked(packed: Packed) -> Tensor:
    return mx.dequantize(packed.blocks, packed.scales)  # bf16 [E, out, in]


# The peer: torch's bf16 --------------------------------------------------------------------


def bf16_prefill(hidden: Tensor, ids: Tensor, weights: Tensor, first: Tensor, second: Tensor,
                 bias_1: Tensor, bias_2: Tensor) -> Tensor:  # fmt: skip
    """The same layer by torch._grouped_mm on bf16 weights [E, out, in]; no host waits."""
    top_k = ids.shape[1]
    flat = ids.flatten()
    order = flat.argsort(stable=True)
    expert = flat[order]
    counts = torch.zeros(len(first), dtype=torch.int64, device=ids.device)
    ends = counts.scatter_add_(0, flat, torch.ones_like(flat)).cumsum(0).to(torch.int32)
    x = torch._grouped_mm(hidden[order // top_k], first.mT, offs=ends) + bias_1[expert]
    x = torch._grouped_mm(swiglu(x), second.mT, offs=ends) + bias_2[expert]
    x = x * weights.flatten()[order, None]
    return torch.empty_like(x).index_copy_(0, order, x).unflatten(0, (-1, top_k)).sum(1)


def bf16_bmm(hidden: Tensor, ids: Tensor, weights: Tensor, first: Tensor, second: Tensor,
             bias_1: Tensor, bias_2: Tensor) -> Tensor:  # fmt: skip
    """The same by gathered bmm: for few tokens, and where _grouped_mm is absent."""
    flat = ids.flatten()
    x = hidden.repeat_interleave(ids.shape[1], 0)[:, :, None]  # [S, H, 1]
    x = torch.bmm(first[flat], x)[..., 0] + bias_1[flat]
    x = torch.bmm(second[flat], swiglu(x)[:, :, None])[..., 0] + bias_2[flat]
    return (x.unflatten(0, ids.shape) * weights[..., None]).sum(1)


def peer(tokens: int) -> tuple[str, Callable[..., Tensor]] | None:
    if hasattr(torch, "_grouped_mm"):
        return "torch._grouped_mm", bf16_prefill
    return ("torch.bmm", bf16_bmm) if tokens <= 8 else None


# Correctness -------------------------------------------------------------------------------


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


def check(name: str, layer: tuple[Packed, Packed]) -> list[Row]:
    """Errors against float64, beside that of bf16 inputs with fp32 sums; raises if too large."""
    gate_up, down = layer
    small = Packed(*(part[:2] for part in gate_up))
    want_bits = mx.dequantize(small.blocks, small.scales).view(torch.int16)
    if not torch.equal(dequantize(small.blocks, small.scales).view(torch.int16), want_bits):
        raise SystemExit(f"{name}: dequantize is not bit-equal")
    rows = []
    for function, tokens in ((experts_decode, 1), (experts_decode, 8), (experts_grouped, 8),
                             (experts_grouped, 77), (experts_grouped, 300)):  # fmt: skip
        _, ids, weights = routing(tokens, name)
        exact_input = torch.randn(tokens, gate_up.inputs, device=DEVICE, dtype=torch.float64)
        hidden = exact_input.to(torch.bfloat16)
        want = experts_plain(exact_input, ids, weights, gate_up, down)
        # bf16 inputs of both matrices, fp32 (here: float64) sums
        basis = torch.zeros_like(want)
        for expert in ids.unique().tolist():
            token, slot = torch.where(ids == expert)
            one, two = (
                mx.dequantize(p.blocks[expert], p.scales[expert], torch.float64) for p in layer
            )
            x = swiglu(hidden[token].double() @ one.T + gate_up.bias[expert].double())
            x = x.to(torch.bfloat16).double() @ two.T + down.bias[expert].double()
            basis.index_add_(0, token, x * weights[token, slot, None].double())
        got = function(hidden, ids, weights, gate_up, down, dtype=torch.float32)
        row = {
            "model": name, "kernel": function.__name__, "tokens": tokens,
            "error": error(got, want), "bf16_error": error(basis, want),
        }  # fmt: skip
        rows.append(row)
        if not row["error"] <= 2 * row["bf16_error"]:  # NaN fails too
            raise SystemExit(f"wrong result: {row}")
    return rows


# Measurements ------------------------------------------------------------------------------


def best(candidates: dict[str, list[Callable[[], Any]]], replays: int) -> tuple[str, float]:
    """The fastest of several settings; one that does not fit the card is passed over."""
    times: dict[str, float] = {}
    for label, calls in candidates.items():
        try:
            times[label] = microseconds(calls, replays)
        except Exception as problem:  # out of registers or shared memory: not a candidate
            if len(candidates) == 1:
                raise
            print(f"    {label}: {type(problem).__name__}: {str(problem)[:100]}", flush=True)
    if len(times) > 1:
        print("    " + ", ".join(f"{label} {us:.1f}" for label, us in times.items()), flush=True)
    label = min(times, key=times.__getitem__)
    return label, times[label]


def measure_dequantize(name: str, matrix: Packed, top: Row, options: Any) -> Row:
    groups = matrix.scales.numel()
    settings = {(1024, 4): ""}
    if options.tune:
        settings = {(w, n): f"words {w}, warps {n}" for w in (512, 1024, 2048) for n in (4, 8)}
    label, us = best(
        {
            text or "default": [partial(dequantize, matrix.blocks, matrix.scales, words, warps)]
            for (words, warps), text in settings.items()
        },
        options.replays,
    )
    gb_s = groups * (17 + 64) / us / 1e3
    plain = microseconds([partial(mx.dequantize, matrix.blocks[:8], matrix.scales[:8])], 5, False)
    plain *= len(matrix.scales) / 8
    return {
        "model": name, "kernel": "dequantize", "tokens": None, "us": us, "gb_s": gb_s,
        "limit": "copy", "share": gb_s / top["copy_gb_s"], "setting": label,
        "peer": "mxfp4.dequantize on the GPU", "peer_us": plain,
    }  # fmt: skip


def measure_decode(name: str, layers: list[tuple[Packed, Packed]], tokens: int, top: Row,
                   options: Any) -> Row:  # fmt: skip
    """One expert layer's decode; every call has fresh weights, ids and hidden states."""
    batches = [(*routing(tokens, name), *layer) for layer in layers]
    weights_an_expert = sum(part.outputs * part.inputs for part in layers[0])
    read = statistics.mean(len(b[1].unique()) for b in batches) * weights_an_expert
    read_bytes = read * BYTES_A_WEIGHT
    settings = DECODE_TUNINGS if options.tune else [decode.tuning_for(tokens)]
    label, us = best(
        {_short(t): [partial(experts_decode, *b, tuning=t) for b in batches] for t in settings},
        options.replays,
    )
    gb_s = read_bytes / us / 1e3
    row = {
        "model": name, "kernel": "decode", "tokens": tokens, "us": us, "gb_s": gb_s,
        "limit": "read", "share": gb_s / top["read_gb_s"], "setting": label,
    }  # fmt: skip
    if tokens == 1:  # where the time goes
        tuning = next(t for t in settings if _short(t) == label)
        planes = [decode.to_planes(b[0], tuning) for b in batches]
        first = [
            partial(decode.launch_gate_up, p, b[1], b[3], 1.702, 7.0, tuning)
            for p, b in zip(planes, batches, strict=True)
        ]
        inner = [call() for call in first]
        second = [
            partial(decode.launch_down, i, b[1], b[2], b[4], 7.0, torch.bfloat16, tuning)
            for i, b in zip(inner, batches, strict=True)
        ]
        to_planes = [partial(decode.to_planes, b[0], tuning) for b in batches]
        row["parts_us"] = {
            "to_planes": microseconds(to_planes, options.replays),
            "gate_up": microseconds(first, options.replays),
            "down": microseconds(second, options.replays),
        }
        # As many bytes as one token's experts, from the same layers, in one piece.
        for part, stored in zip(("gate_up", "down"), zip(*layers, strict=True), strict=True):
            weights = batches[0][1].numel() * stored[0].outputs * stored[0].inputs
            words = round(weights * BYTES_A_WEIGHT / 4)
            pieces = [packed.blocks.view(torch.int32).flatten()[:words] for packed in stored]
            row[f"only_reading_{part}_gb_s"] = reading_only(pieces, options.replays)[0]
    row["grouped_us"] = microseconds([partial(experts_grouped, *b) for b in batches], 20)
    return row


def measure_prefill(name: str, layers: list[tuple[Packed, Packed]], tokens: int, top: Row,
                    options: Any) -> Row:  # fmt: skip
    batches = [(*routing(tokens, name), *layer) for layer in layers[:2]]
    config = preset(name)
    a_expert = tokens * config.num_experts_per_tok / config.num_local_experts
    tunings = [grouped.tuning_for(a_expert)]
    if options.tune:
        most = min(size for size in PREFILL_TUNINGS if a_expert < size)
        tunings = [grouped.Tuning(*t) for t in PREFILL_TUNINGS[most]]
        tunings = [t for t in tunings if _right(t, batches[0])] or [grouped.tuning_for(a_expert)]
    label, us = best(
        {_short(t): [partial(experts_grouped, *b, tuning=t) for b in batches] for t in tunings},
        options.replays // 2,
    )
    tuning = next(t for t in tunings if _short(t) == label)
    flop = 2 * tokens * config.num_experts_per_tok * sum(p.outputs * p.inputs for p in layers[0])
    experts = statistics.mean(len(b[1].unique()) for b in batches)
    read = experts * sum(p.outputs * p.inputs for p in layers[0]) * BYTES_A_WEIGHT
    arithmetic, reading = flop / top["matmul_tflop_s"] / 1e6, read / top["read_gb_s"] / 1e3  # us
    row = {
        "model": name, "kernel": "grouped", "tokens": tokens, "us": us, "gb_s": read / us / 1e3,
        "tflop_s": flop / us / 1e6, "limit": "matmul" if arithmetic > reading else "read",
        "share": max(arithmetic, reading) / us, "setting": label,
    }  # fmt: skip
    # where the time goes
    top_k = config.num_experts_per_tok
    calls: dict[str, list[Callable[[], Any]]] = {}
    for hidden, ids, _, gate_up, down in batches:
        x, tiles = grouped.shuffled(hidden), grouped.plan(ids, len(gate_up.scales), tuning.rows)
        inner, parts = (x.new_empty(ids.numel(), n) for n in (down.inputs, down.outputs))
        one = (x, tiles, gate_up, inner, top_k, True, 1.702, 7.0, tuning)
        two = (inner, tiles, down, parts, 1, False, 1.702, 7.0, tuning)
        for part, call in (
            ("plan", partial(grouped.plan, ids, len(gate_up.scales), tuning.rows)),
            ("shuffled", partial(grouped.shuffled, hidden)),
            ("gate_up", partial(grouped.launch, *one)),
            ("down", partial(grouped.launch, *two)),
        ):
            calls.setdefault(part, []).append(call)
    row["parts_us"] = {part: microseconds(c, options.replays // 2) for part, c in calls.items()}
    return row


def _right(tuning: grouped.Tuning, batch: tuple) -> bool:
    """Whether a setting gives what 16-row tiles give, which `check` has seen: else not timed."""
    want = experts_grouped(*batch, tuning=grouped.Tuning(16, 128, 128, 4, 4)).double()
    try:
        differs = error(experts_grouped(*batch, tuning=tuning), want)
    except Exception as problem:  # out of registers or shared memory
        print(f"    {_short(tuning)}: {type(problem).__name__}: {str(problem)[:100]}", flush=True)
        return False
    if not differs < 0.01:  # NaN too
        print(f"    {_short(tuning)}: WRONG, differs by {differs:.3g}", flush=True)
    return differs < 0.01


def _short(tuning: Any) -> str:
    return "(" + ", ".join("-" if part is None else str(part) for part in tuning) + ")"


def measure_peer(rows: list[Row], name: str, layer: tuple[Packed, Packed], options: Any) -> None:
    """Fill in torch's bf16 times; the weights are unpacked once, and then there is one copy."""
    first, second = map(unpacked, layer)
    for row in rows:
        tokens = row["tokens"]
        found = None if tokens is None else peer(tokens)
        if found is None:
            continue
        label, function = found
        # Fresh tokens choose other experts, and one layer in bf16 is far larger than L2.
        copies = 8 if tokens <= 8 else 2
        calls = [
            partial(function, *routing(tokens, name), first, second, layer[0].bias, layer[1].bias)
            for _ in range(copies)
        ]
        try:
            tokens_of_it = routing(tokens, name)
            theirs = function(*tokens_of_it, first, second, layer[0].bias, layer[1].bias)
            row["peer_differs"] = error(theirs, experts_grouped(*tokens_of_it, *layer).double())
            assert row["peer_differs"] < 0.03, "the peer computes something else"
            row["peer"], row["peer_us"] = label, microseconds(calls, options.replays)
        except Exception as problem:  # an old torch, or a shape that it refuses
            row["peer"] = f"{label}: {type(problem).__name__}: {str(problem)[:80]}"


# The report --------------------------------------------------------------------------------


def markdown(result: Row) -> str:
    top = result["limits"]
    lines = [
        f"{result['device']}, torch {result['torch']}, Triton {result['triton']}, "
        f"{result['date']}. Measured in the same run: copy {top['copy_gb_s']:.0f} GB/s "
        f"(read + written), read {top['read_gb_s']:.0f} GB/s (by a kernel that only reads: "
        f"{top['read_kernel_gb_s']:.0f}, {top['read_kernel']}), bf16 matmul "
        f"{top['matmul_tflop_s']:.0f} TFLOP/s.",
        "",
        "| model | kernel | tokens | us | GB/s | % of limit | torch bf16, us | ratio | setting |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in result["rows"]]
    lines += ["", "In parts (us): " + "; ".join(
        f"{r['model']}, {r['kernel']}, {r['tokens']} tokens: "
        + ", ".join(f"{k} {v:.1f}" for k, v in r["parts_us"].items())
        for r in result["rows"] if "parts_us" in r)]  # fmt: skip
    lines += ["Only reading one token's bytes (GB/s): " + "; ".join(
        f"{r['model']}, gate_up {r['only_reading_gate_up_gb_s']:.0f}, "
        f"down {r['only_reading_down_gb_s']:.0f}"
        for r in result["rows"] if "only_reading_down_gb_s" in r)]  # fmt: skip
    lines += ["Few tokens through the grouped kernel instead (us): " + "; ".join(
        f"{r['model']}, {r['tokens']}: {r['grouped_us']:.1f}"
        for r in result["rows"] if "grouped_us" in r)]  # fmt: skip
    worst = max(r["error"] / r["bf16_error"] for r in result["errors"])
    lines += [f"Errors against float64: at most {worst:.2f} times those of bf16 inputs with fp32 "
              "sums; dequantize is bit-equal."]  # fmt: skip
    return "\n".join(lines)


def _line(row: Row) -> str:
    peer_us = row.get("peer_us")
    ratio = f"{peer_us / row['us']:.1f}x" if peer_us else ""
    theirs = f"{peer_us:.1f}" if peer_us else row.get("peer", "")
    return (
        f"| {row['model']} | {row['kernel']} | {row['tokens'] or ''} | {row['us']:.1f} | "
        f"{row['gb_s']:.0f} | {100 * row['share']:.0f}% of {row['limit']} | {theirs} | {ratio} | "
        f"{row['setting']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for kernels.json and kernels.md")
    parser.add_argument("--quick", action="store_true", help="20b only, 1 and 1,024 tokens")
    parser.add_argument("--tune", action="store_true", help="try the kernels' settings too")
    parser.add_argument("--replays", type=int, default=40)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/kernels.py: no CUDA GPU here, nothing measured.")
        return
    reason = why_not(torch.empty(1, device=DEVICE))
    if reason:
        print(f"benchmarks/kernels.py: {reason}; nothing measured.")
        return
    import triton

    # A fallback must not be timed as a kernel.
    warnings.filterwarnings("error", message=".*Plain PyTorch runs")
    torch.manual_seed(0)
    begin = time.perf_counter()
    result: Row = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": triton.__version__, "date": time.strftime("%Y-%m-%d"),
        "limits": limits(options.replays), "errors": [], "rows": [],
    }  # fmt: skip
    print(result["limits"], flush=True)
    for name in MODELS[:1] if options.quick else MODELS:
        config = preset(name)
        # Layers to rotate through: enough that a pass over the experts of one token, in each,
        # reads ROTATED bytes. Two of gpt-oss-120b's would hold it too, but with fewer chances.
        an_expert = 3 * config.hidden_size * config.intermediate_size * BYTES_A_WEIGHT
        count = math.ceil(ROTATED / (config.num_experts_per_tok * an_expert))
        layers = [random_layer(name) for _ in range(count)]
        result["errors"] += check(name, layers[0])
        print(f"{name}: right, {count} layers, {time.perf_counter() - begin:.0f} s", flush=True)
        rows = [measure_dequantize(name, layers[0][0], result["limits"], options)]
        for tokens in DECODE_TOKENS[:1] if options.quick else DECODE_TOKENS:
            rows.append(measure_decode(name, layers, tokens, result["limits"], options))
        for tokens in (1024,) if options.quick else PREFILL_TOKENS:
            rows.append(measure_prefill(name, layers, tokens, result["limits"], options))
        layer = layers[0]
        del layers
        torch.cuda.empty_cache()
        measure_peer(rows, name, layer, options)
        result["rows"] += rows
        print(f"{name}: measured, {time.perf_counter() - begin:.0f} s", flush=True)
        del layer
        torch.cuda.empty_cache()
        if options.out:  # after each model: a run that is cut off keeps what it has
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "kernels.json").write_text(json.dumps(result, indent=1))
            (options.out / "kernels.md").write_text(markdown(result) + "\n")
    result["seconds"] = time.perf_counter() - begin
    if options.out:
        (options.out / "kernels.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
