"""python -m labhelpers.conformance [--against openai-harmony] [--list] [--only NAME] [--all]

Runs the vectors against our implementation, or against OpenAI's library, prints what failed and
the counts, and exits with 1 if anything did.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .implementations import Implementation, OpenAIHarmony, Ours
from .runner import run, summary
from .vectors import load_render, load_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m labhelpers.conformance", description="Run the harmony test vectors."
    )
    parser.add_argument("--against", choices=("labhelpers", "openai-harmony"), default="labhelpers")
    parser.add_argument("--list", action="store_true", help="name the vectors and stop")
    parser.add_argument("--only", default="", metavar="NAME", help="vectors whose name holds NAME")
    parser.add_argument("--all", action="store_true", help="print the checks that pass, too")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for vector in load_render():
            print(f"render  {vector.name} (rule: {vector.rule})")
        for stream in load_streams():
            print(f"stream  {stream.name}: {stream.about}")
        return 0
    try:
        implementation: Implementation = (
            OpenAIHarmony() if chosen.against == "openai-harmony" else Ours()
        )
    except ImportError as error:
        print(error, file=sys.stderr)
        return 2
    outcomes = run(implementation, chosen.only)
    for outcome in outcomes:
        if chosen.all or outcome.outcome in ("fail", "late"):
            detail = f": {outcome.detail}" if outcome.detail else ""
            print(f"{outcome.outcome}  {outcome.check}  {outcome.vector}{detail}")
    for check, counts in summary(outcomes).items():
        found = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        print(f"{check}: {found}")
    return int(any(outcome.outcome == "fail" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
