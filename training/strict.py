"""Every generation of an evaluation through openai-harmony's strict parser.

`python -m training.strict runs/nano/evaluation/generations-*.json`: nano's ids are translated to
o200k_harmony's by the table that lies beside the tokenizer, and parsed as the assistant's turn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from labhelpers import tokenizer
from labhelpers.harmony.oracle import load_oracle


def accepted(encoding: object, ids: list[int]) -> bool:
    """Whether openai-harmony parses the ids and finds a whole message in them."""
    from openai_harmony import HarmonyError, Role, StreamableParser

    parser = StreamableParser(encoding, role=Role.ASSISTANT, strict=True)  # type: ignore[arg-type]
    try:
        for token in ids:
            parser.process(token)
        parser.process_eos()
    except HarmonyError:
        return False
    return bool(parser.messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generations", nargs="+", type=Path)
    args = parser.parse_args()
    nano, encoding = tokenizer.nano(), load_oracle()
    for path in args.generations:
        rows = json.loads(path.read_text())
        bad = [row for row in rows if not accepted(encoding, nano.to_o200k(row))]
        print(f"{path.name}: {len(rows) - len(bad)} of {len(rows)} parse strictly")
        for row in bad[:5]:
            print("  ", repr(nano.decode(row))[:200])


if __name__ == "__main__":
    main()
