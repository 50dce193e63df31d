"""Decode speed at nano's shape: this package against transformers' `generate`, in one run.

    python benchmarks/decode.py [--threads 2] [--rounds 5]

float32, batch 1, greedy, a 64-token prompt and 200 new tokens; the same weights and the same
number of threads for all. transformers runs with each of its expert implementations; ratios
are to the fastest. The contenders take turns in every round, so that a busy machine slows all
alike; each figure is the median over the rounds. Prefill is part of the time on both sides.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import transformers

from labhelpers.config import GptOssConfig, preset
from labhelpers.model import GptOss
from labhelpers.model.generate import generate

PROMPT, NEW = 64, 200
EXPERTS = ("eager", "grouped_mm", "batched_mm")


def build(config: GptOssConfig) -> tuple[GptOss, torch.nn.Module]:
    """Both models with the same random weights, rounded to bfloat16 as a checkpoint's are."""
    torch.manual_seed(0)
    ours = GptOss(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    ours.to(torch.bfloat16).float()
    theirs = transformers.GptOssForCausalLM(transformers.GptOssConfig.from_dict(config.to_dict()))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


def run_theirs(model: torch.nn.Module, ids: torch.Tensor, experts: str) -> list[int]:
    model.set_experts_implementation(experts)
    # eos_token_id=-1: no random model may stop early and be called fast.
    out = model.generate(ids, max_new_tokens=NEW, do_sample=False, eos_token_id=-1)
    return out[0, ids.shape[1] :].tolist()


def run_ours(model: GptOss, ids: torch.Tensor, fast: bool) -> list[int]:
    return list(generate(model, ids, max_new_tokens=NEW, stop=(), fast=fast))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()

    config = preset("nano")
    ours, theirs = build(config)
    ids = torch.randint(config.vocab_size, (1, PROMPT))
    runs: dict[str, Callable[[], list[int]]] = {
        f"transformers {e}": partial(run_theirs, theirs, ids, e) for e in EXPERTS
    }
    runs |= {"labhelpers plain": partial(run_ours, ours, ids, False)}
    runs |= {"labhelpers lean": partial(run_ours, ours, ids, True)}
    texts = {name: run() for name, run in runs.items()}  # warms up, and checks the work
    for name, text in texts.items():
        assert len(text) == NEW, f"{name} stopped after {len(text)} tokens"
    same = texts["labhelpers lean"] == texts["transformers eager"]

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    speed = {name: NEW / statistics.median(times) for name, times in seconds.items()}
    best = max(value for name, value in speed.items() if name.startswith("transformers"))
    if options.json:
        ratio = speed["labhelpers lean"] / best
        result = {"threads": options.threads, "tokens_per_second": speed, "ratio": ratio}
        print(json.dumps(result | {"same_text": same}))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
          f"{options.threads} threads, torch {torch.__version__}, "
          f"transformers {transformers.__version__}")  # fmt: skip
    print(f"{config.num_hidden_layers} layers of {config.hidden_size}, top "
          f"{config.num_experts_per_tok} of {config.num_local_experts} experts, vocabulary "
          f"{config.vocab_size}; float32, prompt {PROMPT}, new {NEW}, "
          f"median of {options.rounds}; same greedy text: {same}")  # fmt: skip
    for name, value in speed.items():
        print(f"{name:24} {value:8.1f} tok/s   {value / best:5.2f} x")


if __name__ == "__main__":
    main()
