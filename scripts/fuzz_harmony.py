"""Broken harmony streams by the hundred thousand: does the parser read every one of them?

    python scripts/fuzz_harmony.py 100000 --first 0 --processes 2

Each seed makes one stream (a conversation, broken in one to three places; or noise), even seeds
with gpt-oss's tokenizer, odd ones with nano's. For each it must hold that the lenient parser raises
nothing and loses no word, that streaming and whole reading agree, that nothing is mended without a
fault, and that every fault and every error of the strict parser names a token of the stream.
Exits with 1 and the first failing seeds if one does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from harmony_fuzz import problems, stream  # noqa: E402

from labhelpers.harmony import HarmonyError, parse, parse_lenient  # noqa: E402
from labhelpers.tokenizer import nano, o200k_harmony  # noqa: E402

CHUNK = 2_500  # seeds that a process takes at a time


def check(seeds: range) -> tuple[Counter[str], Counter[str], list[tuple[int, list[str]]]]:
    """Counts, kinds of faults, and the seeds that failed with what went wrong."""
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failed = []
    for seed in seeds:
        tok = nano() if seed % 2 else o200k_harmony()
        ids, role = stream(seed, tok)
        counts.update(streams=1, tokens=len(ids), **{tok.name: 1})
        if wrong := problems(ids, tok, role):
            failed.append((seed, wrong))
            continue
        messages, faults, _ = parse_lenient(ids, tok, role)
        counts.update(messages=len(messages), faults=len(faults))
        kinds.update({fault.kind for fault in faults})
        try:
            parse(ids, tok, role)
            counts["accepted strictly"] += 1
        except HarmonyError:
            pass
    return counts, kinds, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("streams", type=int, nargs="?", default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    last = args.first + args.streams
    chunks = [range(n, min(n + CHUNK, last)) for n in range(args.first, last, CHUNK)]
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failed: list[tuple[int, list[str]]] = []
    began = time.perf_counter()
    with ProcessPoolExecutor(args.processes) as pool:
        for some_counts, some_kinds, some_failed in pool.map(check, chunks):
            counts.update(some_counts)
            kinds.update(some_kinds)
            failed += some_failed
    print(f"seeds {args.first} to {last - 1}, {time.perf_counter() - began:.0f} seconds")
    print(", ".join(f"{name}: {count:,}" for name, count in counts.items()))
    print("streams with a fault of each kind:")
    for kind, count in kinds.most_common():
        print(f"  {count:7,}  {kind}")
    for seed, wrong in failed[:10]:
        print(f"FAILED seed {seed}: {'; '.join(wrong)}")
    print(f"{len(failed)} streams failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
