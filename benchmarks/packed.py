"""gpt-oss-20b's shape on a CPU with its experts packed: memory, speed, and what bounds it.

    python -m benchmarks.packed [--threads 2] [--prompt 4] [--tokens 8] [--limit-gb 8]

Writes a checkpoint of random but valid MXFP4 (13.8 GB, sharded; deleted at the end, whatever
happens), drops it from the page cache, loads it with `load_packed` in a fresh process and
generates; at the end it touches every page of every weight, the most that a long conversation
can do. `--checkpoint FOLDER` takes an existing checkpoint instead, the real one say.

Memory is told apart as Linux does: anonymous (RssAnon: the process's own) and file-backed
(RssFile: pages of the mapped checkpoint, which the system may drop at any time). `--limit-gb`
repeats it in a memory cgroup of that size, page cache included, where this system lets us make
one. Linux only. What it writes is nonsense: random weights have the shape of the real ones, and
so their cost.
"""

import argparse
import json
import math
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labhelpers.checkpoint.files import INDEX
from labhelpers.checkpoint.layouts import NOT_CONVERTED, Entry, entries
from labhelpers.checkpoint.packed import load_packed
from labhelpers.config import GptOssConfig, preset
from labhelpers.model import GptOss
from labhelpers.mxfp4.fast import dequantize_fast

SHARD_BYTES = 5_000_000_000
PIECE = 2**24  # numbers made at a time
Stored = tuple[str, str, tuple[int, ...]]  # name, dtype as safetensors calls it, shape


# --- Writing: a checkpoint in pieces, never more than some megabytes in memory ----------------


def write_checkpoint(folder: Path, config: GptOssConfig) -> int:
    """Write config.json and shards of random weights; return the bytes of the tensors."""
    with torch.device("meta"):
        shapes = {n: tuple(p.shape) for n, p in GptOss(config).named_parameters()}
    shards: list[list[Stored]] = [[]]
    for tensor in (t for entry in entries(shapes, "huggingface") for t in _stored(entry)):
        if shards[-1] and sum(map(_size, shards[-1])) + _size(tensor) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(tensor)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / name, shard, rng)
        weight_map |= {tensor[0]: name for tensor in shard}
    total = sum(_size(tensor) for shard in shards for tensor in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": NOT_CONVERTED}
    (folder / "config.json").write_text(
        json.dumps(config.to_dict() | {"quantization_config": quantization})
    )
    return total


def _stored(entry: Entry) -> list[Stored]:
    if not entry.expert:
        return [(entry.name, "BF16", entry.shape)]
    return [
        (entry.blocks, "U8", (*entry.scales_shape, 16)),
        (entry.scales, "U8", entry.scales_shape),
    ]


def _size(tensor: Stored) -> int:
    return math.prod(tensor[2]) * (2 if tensor[1] == "BF16" else 1)


def _write_shard(file: Path, shard: list[Stored], rng: np.random.Generator) -> None:
    header: dict[str, Any] = {}
    position = 0
    for tensor in shard:
        name, dtype, shape = tensor
        end = position + _size(tensor)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in shard:
            for piece in _numbers(tensor, rng):
                stream.write(piece.data)
        stream.flush()
        os.fsync(stream.fileno())  # only clean pages can be dropped from the cache


def _numbers(tensor: Stored, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Random contents under which activations stay of the order of 1."""
    name, _, shape = tensor
    left = math.prod(shape)
    while left:
        count = min(left, PIECE)
        left -= count
        if name.endswith("_blocks"):
            yield np.frombuffer(rng.bytes(count), np.uint8)  # every byte is two valid codes
        elif name.endswith("_scales"):
            # Random codes have a root mean square of 2.9: times 2^-8 or 2^-7 about 1/sqrt(2880).
            yield rng.integers(119, 121, count, np.uint8)
        elif name.endswith("norm.weight"):
            yield torch.ones(count, dtype=torch.bfloat16).view(torch.int16).numpy()
        else:
            width = 1.0 if "embed" in name else 0.1 if name.endswith("bias") else 0.03
            values = torch.empty(count).uniform_(-width, width).bfloat16()
            yield values.view(torch.int16).numpy()


def drop_from_cache(folder: Path) -> None:
    """Ask the system to forget the file contents that it holds, so that reading is reading."""
    for file in folder.glob("*.safetensors"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_speed(folder: Path, most: int = 2**30) -> float:
    """GB/s of a plain read in order, not cached."""
    drop_from_cache(folder)
    done, begin = 0, time.perf_counter()
    with open(sorted(folder.glob("*.safetensors"))[-1], "rb", buffering=0) as stream:
        while done < most and (piece := stream.read(2**23)):
            done += len(piece)
    speed = done / (time.perf_counter() - begin) / 1e9
    drop_from_cache(folder)
    return speed


# --- Measuring: in a process of its own, so that peaks are those of loading and generating ----


class Memory(threading.Thread):
    """Looks at the process's resident memory 50 times a second and keeps the largest values."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, int] = defaultdict(int)
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.02):
            self.look()

    def look(self) -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        now = {k: int(v.split()[0]) * 1024 for k, v in (x.split(":") for x in lines)
               if k in ("VmHWM", "RssAnon", "RssFile", "RssShmem")}  # fmt: skip
        for name, value in now.items():
            self.peak[name] = max(self.peak[name], value)
        return now


class Clock:
    """Seconds inside some kinds of modules, by hooks; and that every logit is finite."""

    def __init__(self, model: GptOss) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.began: dict[str, float] = {}
        self.finite = True
        for layer in model.model.layers:
            self.watch("attention", layer.self_attn)
            self.watch("experts", layer.mlp.experts)
        self.watch("head", model.lm_head)
        model.lm_head.register_forward_hook(self.check)

    def watch(self, name: str, module: torch.nn.Module) -> None:
        def begin(*_: Any) -> None:
            self.began[name] = time.perf_counter()

        def end(*_: Any) -> None:
            self.seconds[name] += time.perf_counter() - self.began[name]

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def check(self, module: Any, args: Any, logits: torch.Tensor) -> None:
        self.finite = self.finite and bool(torch.isfinite(logits).all())


def counters() -> tuple[float, int, int, int, float]:
    """Now, bytes read from disk, minor and major page faults, seconds of CPU time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    faults = usage.ru_minflt, usage.ru_majflt
    return time.perf_counter(), int(io["read_bytes"]), *faults, time.process_time()


def measure(folder: Path, prompt: int, tokens: int, threads: int) -> dict[str, Any]:
    """Load and generate, greedily; seconds, bytes and faults of each step."""
    torch.set_num_threads(threads)
    memory = Memory()
    before = memory.look()
    memory.start()
    marks = [counters()]
    model = load_packed(folder)
    marks.append(counters())
    loaded = memory.look()
    clock = Clock(model)
    ids = torch.randint(model.config.vocab_size, (prompt,), generator=torch.manual_seed(1))
    new: list[int] = []
    stream = model.generate(ids, max_new_tokens=tokens + 1, stop=())
    new.append(next(stream))  # the prompt goes in
    marks.append(counters())
    clock.seconds.clear()
    for token in stream:
        new.append(token)
        marks.append(counters())
    generated = memory.look()
    # No sum: one byte of each page (4 KiB) is enough for the system to bring it in.
    touched = sum(int(t.flatten().view(torch.uint8)[::4096].sum()) for t in weights(model))
    marks.append(counters())
    memory.stopped.set()
    memory.join()
    memory.look()
    steps = [[b - a for a, b in zip(x, y, strict=True)] for x, y in pairwise(marks)]
    config, experts = model.config, model.model.layers[0].mlp.experts
    chosen = config.num_hidden_layers * config.num_experts_per_tok * experts.expert_bytes()
    attention = sum(p.nbytes for n, p in model.named_parameters() if "self_attn" in n)
    return {
        "before": before, "loaded": loaded, "generated": generated, "peak": memory.peak,
        "steps": steps[:-1], "touch": steps[-1], "touched": touched, "ids": new,
        "load": os.getloadavg()[0], "finite": clock.finite, "seconds": clock.seconds,
        "bytes": {"experts": chosen, "attention": attention, "head": model.lm_head.weight.nbytes},
        "unpack": _unpack_speed(experts), "bandwidth": _bandwidth(),
        "expert": [str(experts.gate_up_proj_blocks.dtype), experts.expert_bytes()],
    }  # fmt: skip


def weights(model: GptOss) -> Iterator[torch.Tensor]:
    """All tensors that lie in the file."""
    yield from (t for t in model.state_dict().values() if t.numel())


def _unpack_speed(experts: Any) -> dict[str, float]:
    """Packed GB that `dequantize_fast` alone takes in, a second and a second of CPU time."""
    blocks, scales = experts.gate_up_proj_blocks[0], experts.gate_up_proj_scales[0]
    out = dequantize_fast(blocks, scales)
    begin, cpu, rounds = time.perf_counter(), time.process_time(), 10
    for _ in range(rounds):
        dequantize_fast(blocks, scales, out=out)
    done = rounds * (blocks.nbytes + scales.nbytes) / 1e9
    return {
        "wall": done / (time.perf_counter() - begin),
        "cpu": done / (time.process_time() - cpu),
    }


def _bandwidth() -> float:
    """GB/s at which memory is read (the best of five sums over half a gigabyte)."""
    numbers, best = torch.zeros(2**26, dtype=torch.int64), math.inf
    for _ in range(5):
        begin = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - begin)
    return numbers.nbytes / best / 1e9


# --- A memory limit, where the system allows one ---------------------------------------------


def memory_group(limit: int) -> Path:
    """A new control group below our own, limited to `limit` bytes. Raises OSError."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":  # version 1
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        elif controllers == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        else:
            continue
        group = root / path.lstrip("/") / f"packed-{os.getpid()}"
        group.mkdir()
        try:
            (group / name).write_text(str(limit))
        except OSError:
            group.rmdir()
            raise
        return group
    raise OSError("no memory controller among this process's control groups")


def in_child(folder: Path, options: argparse.Namespace, group: Path | None) -> dict[str, Any]:
    """`measure` in a fresh process, inside a control group if one is given."""
    command = [sys.executable, "-m", "benchmarks.packed", "--measure", str(folder)]
    for name in ("prompt", "tokens", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    if group is not None:  # the shell enters the group, then becomes the measurement
        enter = f'echo $$ > "{group / "cgroup.procs"}" && exec "$@"'
        command = ["sh", "-c", enter, "sh", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the measurement ended with {done.returncode} (-9: out of memory)")
    return json.loads(done.stdout.splitlines()[-1])


# --- The report ------------------------------------------------------------------------------


def report(title: str, result: dict[str, Any], disk: float) -> None:
    load, prefill, *decode = result["steps"]
    peak, needed, unpack = result["peak"], result["bytes"], result["unpack"]
    seconds = sum(step[0] for step in decode)
    count = len(decode)
    total = sum(needed.values())
    dtype, one = result["expert"]
    parts = {name: result["seconds"][name] / count for name in ("experts", "attention", "head")}
    rows = [
        ("one expert right after loading", f"{dtype}, {one / 1e6:.2f} MB"),
        ("seconds to load", f"{load[0]:.2f}"),
        ("after loading: anonymous / file", _pair(result["loaded"])),
        ("after generating: anonymous / file", _pair(result["generated"])),
        ("peak resident, every page touched at the end (VmHWM)", f"{peak['VmHWM'] / 1e9:.2f} GB"),
        ("peak anonymous / peak file-backed", _pair(peak)),
        ("prompt", f"{prefill[0]:.1f} s, {prefill[1] / 1e9:.1f} GB from disk"),
        ("decode", f"{count / seconds:.3f} tok/s ({seconds / count:.2f} s a token)"),
        ("CPU time", f"{sum(s[4] for s in decode) / count:.2f} s a token; the wait for a core is "
                     f"the rest (load average {result['load']:.1f})"),
        ("a token must read", f"{total / 1e9:.2f} GB ({_parts(needed, 1e9, 'GB')})"),
        ("a token did read from disk", f"{sum(s[1] for s in decode) / count / 1e9:.2f} GB"),
        ("page faults a token, minor / major",
         f"{sum(s[2] for s in decode) / count:,.0f} / {sum(s[3] for s in decode) / count:,.0f}"),
        ("where the time of a token goes", _parts(parts, 1, "s")),
        ("measured beside it",
         f"memory {result['bandwidth']:.1f} GB/s, disk {disk:.2f} GB/s, unpacking "
         f"{unpack['wall']:.2f} GB/s of packed weights ({unpack['cpu']:.2f} a CPU second)"),
        ("a token's time from these alone",
         f"memory {total / result['bandwidth'] / 1e9:.2f} s, disk (were nothing cached) "
         f"{total / disk / 1e9:.2f} s, unpacking {needed['experts'] / unpack['wall'] / 1e9:.2f} s"),
        ("all logits finite", str(result["finite"])),
    ]  # fmt: skip
    print(f"\n| {title} | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |", flush=True)


def _pair(memory: dict[str, int]) -> str:
    return f"{memory['RssAnon'] / 1e9:.2f} GB / {memory['RssFile'] / 1e9:.2f} GB"


def _parts(values: dict[str, float], unit: float, name: str) -> str:
    return " + ".join(f"{key} {value / unit:.2f} {name}" for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()),
                        help="where a scratch folder is made (and removed)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--layers", type=int, default=24, help="fewer, for a trial")
    parser.add_argument("--limit-gb", type=float, help="once more in a memory cgroup of this size")
    parser.add_argument("--checkpoint", type=Path, help="measure this one; write and delete none")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.prompt, options.tokens, options.threads)))
        return
    config = GptOssConfig.from_dict(
        preset("gpt-oss-20b").to_dict() | {"num_hidden_layers": options.layers, "layer_types": None}
    )
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
          f"{options.threads} threads, torch {torch.__version__}")  # fmt: skip
    if options.checkpoint:
        compare(options.checkpoint, options)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(options.folder).free
    if free < 16e9:
        parser.error(f"{options.folder} has {free / 1e9:.1f} GB free; 16 GB are wanted: --folder")
    with tempfile.TemporaryDirectory(prefix="packed-", dir=options.folder) as scratch:
        begin = time.perf_counter()
        written = write_checkpoint(Path(scratch), config)
        print(f"{options.layers} layers, {written / 1e9:.2f} GB written in "
              f"{time.perf_counter() - begin:.0f} s", flush=True)  # fmt: skip
        compare(Path(scratch), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Without a limit, then with one if asked for."""
    disk = disk_speed(folder)
    report("no limit", in_child(folder, options, None), disk)
    if options.limit_gb:
        limited(folder, options, disk)


def limited(scratch: Path, options: argparse.Namespace, disk: float) -> None:
    """The same under a limit that counts the page cache too."""
    try:
        group = memory_group(int(options.limit_gb * 2**30))
    except OSError as error:
        print(f"\nno memory limit can be set here ({error}): run as root, or use systemd-run")
        return
    try:
        drop_from_cache(scratch)  # pages count for the group that first touches them
        report(f"{options.limit_gb:g} GiB limit", in_child(scratch, options, group), disk)
        for name in ("memory.max_usage_in_bytes", "memory.peak"):  # version 1, version 2
            if (group / name).exists():
                used = int((group / name).read_text()) / 2**30
                print(f"| most that the group used, cache included | {used:.2f} GiB |")
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()
