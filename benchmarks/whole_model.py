"""The whole model on one GPU, one token at a time: memory, tokens a second, where the time goes.

    python -m benchmarks.whole_model [--out FOLDER] [--models gpt-oss-20b] [--tune] [--quick]

At the shapes of gpt-oss-20b and gpt-oss-120b with random weights made on the GPU (valid MXFP4
experts, bf16 for the rest): first the decoder's logits against labhelpers.model in float64, at 4
layers, beside the error of labhelpers.model in bf16; then memory, decode speed at batch 1 with
1K, 4K and 32K tokens in the cache, at batch 8 and 64, and a profile of a token by kernel. Caches
are filled with random numbers: their content does not change the time. Needs a CUDA GPU with
80 GB and Triton; a little over a minute.

How it is timed: `Decoder.capture` makes a CUDA graph of a step; it is replayed STEPS times without
looking at the result, CUDA events around each step; the median. The last step has a full cache.
The limit beside it: the bytes that a step must read (weights and keys and values; of the experts
those of the chosen ones) over the read bandwidth measured in the same run.
--out writes whole_model.json and profile-*.json there; tables are printed too.
"""

import argparse
import json
import statistics
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels import limits, microseconds, random_packed
from labhelpers.config import GptOssConfig, preset
from labhelpers.kernels import why_not
from labhelpers.kernels.decoder import Decoder, Tuning
from labhelpers.kernels.decoder_weights import DecoderWeights, LayerWeights
from labhelpers.kernels.linear_decode import Head, o_proj, qkv
from labhelpers.model import GptOss
from labhelpers.mxfp4.format import dequantize

DEVICE = "cuda"
STEPS = 96
CONTEXTS = (4096, 1024, 32768)  # the one with a goal first
BATCHES = ((8, 4096), (64, 1024), (64, 4096))
# tok/s of OpenAI's triton reference, 20b shape, 4K cache, measured on another day's H100.
REFERENCE = {"gpt-oss-20b": 107.0}
GOALS = {"gpt-oss-20b": (300, 490), "gpt-oss-120b": (200, 300)}  # at 4K, batch 1

Row = dict[str, Any]


# A random model ----------------------------------------------------------------------------


def random_weights(config: GptOssConfig) -> DecoderWeights:
    """Random weights of that shape, made on the GPU layer by layer, sized as a trained model's."""
    bf16 = partial(torch.randn, dtype=torch.bfloat16, device=DEVICE)
    hidden, experts, inner = (
        config.hidden_size, config.num_local_experts, config.intermediate_size,
    )  # fmt: skip
    heads, dim = config.num_attention_heads, config.head_dim
    rows = (heads + 2 * config.num_key_value_heads) * dim
    layers = []
    for _ in range(config.num_hidden_layers):
        layers.append(
            LayerWeights(
                norm1=bf16(hidden).mul_(0.1).add_(1),
                qkv=bf16(rows, hidden).mul_(hidden**-0.5),
                qkv_bias=bf16(rows).mul_(0.1),
                sinks=bf16(heads),
                o=bf16(hidden, heads * dim).mul_((heads * dim) ** -0.5),
                o_bias=bf16(hidden).mul_(0.1),
                norm2=bf16(hidden).mul_(0.1).add_(1),
                router=bf16(experts, hidden).mul_(hidden**-0.5),
                router_bias=bf16(experts).mul_(0.1),
                gate_up=random_packed(experts, 2 * inner, hidden),
                down=random_packed(experts, hidden, inner),
            )
        )
    return DecoderWeights(
        embedding=bf16(config.vocab_size, hidden),
        layers=layers,
        norm=bf16(hidden).mul_(0.1).add_(1),
        head=bf16(config.vocab_size, hidden).mul_(hidden**-0.5),
    )


def as_model(config: GptOssConfig, weights: DecoderWeights, dtype: torch.dtype) -> GptOss:
    """labhelpers.model with the same weights, its experts unpacked."""
    with torch.device("meta"):
        model = GptOss(config)
    state = {"model.embed_tokens.weight": weights.embedding, "model.norm.weight": weights.norm,
             "lm_head.weight": weights.head}  # fmt: skip
    dim = config.head_dim
    q, k = config.num_attention_heads * dim, config.num_key_value_heads * dim
    for index, w in enumerate(weights.layers):
        name = f"model.layers.{index}."
        for part, matrix, bias in zip(
            "qkv", w.qkv.split((q, k, k)), w.qkv_bias.split((q, k, k)), strict=True
        ):
            state |= {f"{name}self_attn.{part}_proj.weight": matrix,
                      f"{name}self_attn.{part}_proj.bias": bias}  # fmt: skip
        state |= {
            f"{name}input_layernorm.weight": w.norm1,
            f"{name}self_attn.sinks": w.sinks,
            f"{name}self_attn.o_proj.weight": w.o,
            f"{name}self_attn.o_proj.bias": w.o_bias,
            f"{name}post_attention_layernorm.weight": w.norm2,
            f"{name}mlp.router.weight": w.router,
            f"{name}mlp.router.bias": w.router_bias,
        }
        for part, packed in (("gate_up", w.gate_up), ("down", w.down)):
            matrix = dequantize(packed.blocks, packed.scales, torch.bfloat16)
            state[f"{name}mlp.experts.{part}_proj"] = matrix.to(dtype).mT
            state[f"{name}mlp.experts.{part}_proj_bias"] = packed.bias
    state = {key: value.to(dtype) for key, value in state.items()}
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False)


# Correctness -------------------------------------------------------------------------------


def errors(got: Tensor, want: Tensor) -> Tensor:
    """Relative error of each row of logits [rows, V]."""
    return (got.double() - want).norm(dim=-1) / want.norm(dim=-1)


def check(seed: int = 0) -> list[Row]:
    """The decoder and the bf16 model against the float64 model; raises if the decoder is worse.

    Teacher-forced, so that one near-tie does not change what follows. A router's near-tie can
    still go the other way and make one token's error large, in either: medians are compared, and
    how often the same token is on top.
    """
    torch.manual_seed(seed)
    config = replace(preset("gpt-oss-20b"), num_hidden_layers=4, layer_types=())
    weights = random_weights(config)
    shapes = {1: 150, 8: 6, 64: 3}  # tokens by batch: past the window of 128 with one row
    ids = {b: torch.randint(config.vocab_size, (b, t), device=DEVICE) for b, t in shapes.items()}
    wanted, theirs = {}, {}
    for dtype, out in ((torch.float64, wanted), (torch.bfloat16, theirs)):
        model = as_model(config, weights, dtype)
        for batch, tokens in ids.items():
            out[batch] = model(tokens)[:, -(60 if batch == 1 else 2) :].clone()
        del model
        torch.cuda.empty_cache()
    rows = []
    for batch, tokens in ids.items():
        decoder = Decoder(config, weights, max_context=tokens.shape[1], batch=batch)
        runs = []
        for captured in (False, True):
            if captured:
                decoder.reset()
                decoder.capture()
            logits = [decoder.prefill(column[:, None]).clone() for column in tokens.unbind(1)]
            runs.append(torch.stack(logits, 1)[:, -wanted[batch].shape[1] :])  # [B, t, V]
        if not torch.equal(*runs):
            raise SystemExit(f"batch {batch}: the graph's logits differ from the launches'")
        want = wanted[batch].flatten(0, 1)
        ours, bf16 = (errors(x.flatten(0, 1), want) for x in (runs[1], theirs[batch]))
        same = [
            (x.flatten(0, 1).argmax(-1) == want.argmax(-1)).double().mean().item()
            for x in (runs[1], theirs[batch])
        ]
        row = {
            "batch": batch, "tokens": tokens.shape[1], "compared": len(want),
            "error": ours.median().item(), "bf16_error": bf16.median().item(),
            "worst": ours.max().item(), "bf16_worst": bf16.max().item(),
            "same_token": same[0], "bf16_same_token": same[1],
        }  # fmt: skip
        rows.append(row)
        print({k: round(v, 4) for k, v in row.items()}, flush=True)
        # More rows go through torch's bf16 products: as good as the bf16 model is good enough.
        if not row["error"] <= (1.0 if batch == 1 else 1.2) * row["bf16_error"]:  # NaN fails too
            raise SystemExit(f"wrong result: {row}")
    return rows


# Measurements ------------------------------------------------------------------------------


def ready(config: GptOssConfig, weights: DecoderWeights, context: int, batch: int = 1,
          tuning: Tuning = Tuning()) -> Decoder:  # noqa: B008  # fmt: skip
    """A decoder whose caches are full but for STEPS + 8 tokens, captured."""
    decoder = Decoder(config, weights, context, batch, tuning)
    for keys, values in decoder.caches:
        keys.normal_()
        values.normal_()
    decoder.reset(context - STEPS - 8)
    decoder.token.random_(config.vocab_size)
    decoder.capture()
    return decoder


def milliseconds_a_step(decoder: Decoder) -> float:
    """Median over STEPS steps, after 8 to warm up."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(STEPS + 9)]
    events[0].record()
    for event in events[1:]:
        decoder.step()
        event.record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in zip(events[8:-1], events[9:], strict=True)]
    if not decoder.logits.isfinite().all():
        raise SystemExit("the logits are not finite")
    return statistics.median(times)


def bytes_to_read(config: GptOssConfig, weights: DecoderWeights, context: int,
                  batch: int) -> dict[str, int]:  # fmt: skip
    """What one step must read: each weight once, every row its keys and values."""
    parts = dict(weights.bytes_a_token(config.num_experts_per_tok))
    # Rows share experts: of E with k a row, drawn evenly, B rows meet E (1 - (1 - k/E)^B).
    experts, top_k = config.num_local_experts, config.num_experts_per_tok
    met = experts * (1 - (1 - top_k / experts) ** batch)
    parts["experts"] = round(parts["experts"] * met / top_k)
    keys = 0
    for kind in config.layer_types:
        keys += min(config.sliding_window, context) if kind == "sliding_attention" else context
    width = 2 * config.num_key_value_heads * config.head_dim * 2  # k and v in bf16
    parts["keys and values"] = batch * keys * width
    return parts


def settings(context: int, batch: int, tuning: Tuning, try_out: bool) -> list[Tuning]:
    """Ways to split the keys; one, unless they are to be tried out."""
    if not try_out or batch > 8:
        return [tuning]
    return [tuning._replace(splits=n) for n in (None, 8, 16, 32 if batch == 1 else 2)]


def measure(name: str, weights: DecoderWeights, context: int, batch: int, read_gb_s: float,
            tunings: list[Tuning]) -> tuple[Row, Tuning]:  # fmt: skip
    """The fastest of the settings, and which it is."""
    config = preset(name)
    found = []
    for tuning in tunings:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        decoder = ready(config, weights, context, batch, tuning)
        ms = milliseconds_a_step(decoder)
        free, total = torch.cuda.mem_get_info()
        peak = torch.cuda.max_memory_allocated()
        attention = decoder.attention[1]
        setting = f"splits {attention.splits}, stages {attention.stages}"
        found.append((ms, peak / 1e9, (total - free) / 1e9, setting, tuning))
        if len(tunings) > 1:
            print(f"    {setting}: {ms:.3f} ms", flush=True)
        del decoder, attention
    ms, allocated, used, setting, tuning = min(found, key=lambda f: f[0])
    need = sum(bytes_to_read(config, weights, context, batch).values())
    row = {
        "model": name, "context": context, "batch": batch, "ms": ms, "tok_s": 1e3 * batch / ms,
        "setting": setting, "gb": need / 1e9, "gb_s": need / ms / 1e6,
        "limit_tok_s": batch * read_gb_s * 1e9 / need, "share": need / ms / 1e6 / read_gb_s,
        "allocated_gb": allocated, "used_gb": used,
    }  # fmt: skip
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row, tuning


def profile(name: str, weights: DecoderWeights, context: int, tuning: Tuning, ms: float) -> Row:
    """Where a token's time goes, by kernel: torch's profiler over four steps of the graph.

    Kernels overlap (the next one fetches its weights while this one ends), so a kernel is charged
    with the time from the end of the one before to its own end. These add up to the token.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorder

    decoder = ready(preset(name), weights, context, 1, tuning)
    for _ in range(3):
        decoder.step()
    torch.cuda.synchronize()
    with recorder(activities=[ProfilerActivity.CUDA]) as record:
        for _ in range(4):
            decoder.step()
        torch.cuda.synchronize()
    events = sorted(
        (e for e in record.events() if e.device_type == torch.autograd.DeviceType.CUDA),
        key=lambda e: e.time_range.end,
    )
    names = [e.name for e in events]
    starts = [i for i, kernel in enumerate(names) if kernel.startswith("_embed")]
    token = events[starts[-2] : starts[-1]]  # one whole step, the last but one
    before = events[starts[-2] - 1].time_range.end
    origin, parts, timeline = before, {}, []
    for event in token:
        kernel = event.name.removesuffix("_0")
        part = parts.setdefault(kernel, {"launches": 0, "us": 0.0, "busy_us": 0.0})
        part["launches"] += 1
        part["us"] += event.time_range.end - before
        part["busy_us"] += event.time_range.elapsed_us()
        before = event.time_range.end
        timeline.append([kernel, round(event.time_range.start - origin, 2),
                         round(before - origin, 2)])  # fmt: skip
    result = {
        "model": name, "context": context, "batch": 1, "ms_without_profiler": ms,
        "us_total": before - origin, "parts": parts, "timeline": timeline,
        "bytes": bytes_to_read(preset(name), weights, context, 1),
    }  # fmt: skip
    print(f"{name}, profile of a token: {before - origin:.0f} us in all ({1e3 * ms:.0f} without)")
    for kernel, part in parts.items():
        print(f"    {kernel:12} {part['launches']:3} x {part['us'] / part['launches']:7.2f} us = "
              f"{part['us']:7.1f}   busy {part['busy_us']:7.1f}", flush=True)  # fmt: skip
    return result


def tune(weights: DecoderWeights, config: GptOssConfig, read_gb_s: float) -> list[Row]:
    """Each dense kernel alone, over all layers in turn, at several settings; and attention."""
    decoder = Decoder(config, weights, 4096)
    x, layers = decoder.x.normal_(), weights.layers
    rows = []

    def note(part: str, setting: str, us: float, size: float) -> None:
        share = size / us / 1e3 / read_gb_s
        rows.append({"part": part, "setting": setting, "us": us, "share": share})
        print(f"    {part:8} {setting:24} {us:7.2f} us  {100 * share:.0f}% of read", flush=True)

    for pairs, warps in ((2, 8), (4, 8)):
        calls = [
            partial(qkv, x, w.norm1, 1e-5, w.qkv, w.qkv_bias, decoder.rope, decoder.position,
                    decoder.q, *cache, pairs, warps)
            for w, cache in zip(layers, decoder.caches, strict=True)
        ]  # fmt: skip
        note("qkv", f"pairs {pairs}, warps {warps}", microseconds(calls, 20),
             2 * layers[0].qkv.numel())  # fmt: skip
    attended = decoder.attended.normal_().flatten(1)
    for size, warps in ((4, 8), (8, 8)):
        calls = [partial(o_proj, attended, w.o, w.o_bias, x, size, warps) for w in layers]
        note("o_proj", f"rows {size}, warps {warps}", microseconds(calls, 20),
             2 * layers[0].o.numel())  # fmt: skip
    for size, warps in ((8, 8),):
        head = Head(weights.head, size, warps)
        note("head", f"rows {size}, warps {warps}",
             microseconds([partial(head, x, weights.norm, 1e-5)], 20),
             2 * weights.head.numel())  # fmt: skip
    head = Head(weights.head)
    calls = [partial(head.choose, decoder.token, decoder.position)] * 20
    note("choose", "", microseconds(calls, 20), 0)
    w = layers[0]
    calls = [
        partial(decoder.router, x, w.norm2, 1e-5, w.router, w.router_bias) for w in layers
    ]  # fmt: skip
    note("route", "", microseconds(calls, 20), 2 * w.router.numel())
    for context in (1024, 4096, 32768):
        one = Decoder(config, weights, context)
        one.reset(context - 1)
        for kind in (0, 1):
            calls = [
                partial(one.attention[i], one.q, *one.caches[i], layers[i].sinks, one.position,
                        one.attended)
                for i in range(kind, len(layers), 2)
            ]  # fmt: skip
            keys = one.caches[kind][0]
            note("attend", f"keys {keys.shape[2]}, splits {one.attention[kind].splits}",
                 microseconds(calls, 20), 2 * keys.numel() * keys.element_size())  # fmt: skip
    return rows


# The report --------------------------------------------------------------------------------


def markdown(result: Row) -> str:
    lines = [
        f"{result['device']}, torch {result['torch']}, Triton {result['triton']}, "
        f"{result['date']}; read bandwidth in the same run {result['read_gb_s']:.0f} GB/s.",
        "",
        "| model | batch | context | ms a step | tok/s | limit | % of limit | GB a step | GB "
        "allocated | GB used |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        lines.append(
            f"| {r['model']} | {r['batch']} | {r['context']} | {r['ms']:.3f} | **{r['tok_s']:.0f}**"
            f" | {r['limit_tok_s']:.0f} | {100 * r['share']:.0f}% | {r['gb']:.2f} | "
            f"{r['allocated_gb']:.1f} | {r['used_gb']:.1f} |"
        )
    lines.append("")
    for r in result["rows"]:
        if (r["batch"], r["context"]) == (1, 4096):
            bar, goal = GOALS[r["model"]]
            peer = REFERENCE.get(r["model"])
            lines.append(
                f"{r['model']} at 4K, batch 1: {r['tok_s']:.0f} tok/s; bar {bar}, goal {goal}"
                + (f"; {r['tok_s'] / peer:.1f} times OpenAI's triton reference ({peer:.0f})."
                   if peer else ".")
            )  # fmt: skip
    for c in result["checks"]:
        lines.append(
            f"Against float64, 4 layers, batch {c['batch']}, {c['compared']} rows of logits: "
            f"median error {c['error']:.4f}, the bf16 model {c['bf16_error']:.4f}; same top token "
            f"{100 * c['same_token']:.0f}%, the bf16 model {100 * c['bf16_same_token']:.0f}%."
        )
    return "\n".join(lines)


def save(result: Row, folder: Path | None) -> None:
    """After each model, so that a run that is cut off keeps what it has."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "whole_model.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "whole_model.md").write_text(markdown(result) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the json files")
    parser.add_argument("--models", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--quick", action="store_true", help="batch 1 at 4K only")
    parser.add_argument("--tune", action="store_true", help="try the kernels' settings too")
    parser.add_argument("--no-check", action="store_true", help="skip the comparison with float64")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/whole_model.py: no CUDA GPU here, nothing measured.")
        return
    reason = why_not(torch.empty(1, device=DEVICE))
    if reason:
        print(f"benchmarks/whole_model.py: {reason}; nothing measured.")
        return
    import triton

    warnings.filterwarnings("error", message=".*Plain PyTorch runs")
    torch.set_grad_enabled(False)
    begin = time.perf_counter()
    read = limits(20)["read_gb_s"]
    torch.cuda.empty_cache()
    result: Row = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": triton.__version__, "date": time.strftime("%Y-%m-%d"), "read_gb_s": read,
        "checks": [], "rows": [],
    }  # fmt: skip
    if not options.no_check:
        result["checks"] = check()
        torch.cuda.empty_cache()
    print(f"checked, {time.perf_counter() - begin:.0f} s; read {read:.0f} GB/s", flush=True)
    for name in options.models:
        torch.manual_seed(0)
        weights = random_weights(preset(name))
        torch.cuda.synchronize()
        print(f"{name}: {weights.nbytes() / 1e9:.2f} GB of weights made, "
              f"{time.perf_counter() - begin:.0f} s", flush=True)  # fmt: skip
        runs = [(1, 4096)] if options.quick else [(1, c) for c in CONTEXTS] + list(BATCHES)
        for batch, context in runs:
            try:
                tunings = settings(context, batch, Tuning(), options.tune)
                row, tuning = measure(name, weights, context, batch, read, tunings)
            except torch.OutOfMemoryError as problem:
                print(f"{name}, batch {batch}, context {context}: {str(problem)[:80]}", flush=True)
                continue
            result["rows"].append(row)
            if (batch, context) == (1, 4096):
                try:
                    found = profile(name, weights, context, tuning, row["ms"])
                except Exception as problem:  # the profiler is not everywhere: measure on
                    print(f"no profile: {type(problem).__name__}: {problem}", flush=True)
                    found = {}
                if options.out:
                    options.out.mkdir(parents=True, exist_ok=True)
                    path = options.out / f"profile-{name}.json"
                    path.write_text(json.dumps(found) + "\n")
            save(result, options.out)
        if options.tune:
            torch.cuda.empty_cache()
            result[f"tune {name}"] = tune(weights, preset(name), read)
        del weights
        torch.cuda.empty_cache()
        print(f"{name}: measured, {time.perf_counter() - begin:.0f} s", flush=True)
    result["seconds"] = round(time.perf_counter() - begin)
    save(result, options.out)
    print(markdown(result))


if __name__ == "__main__":
    main()
