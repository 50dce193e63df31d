"""Write the conformance vectors and OpenAI's result on them: python -m scripts.conformance_vectors

Render vectors come from the cases behind tests/goldens/harmony, streams from
tests/conformance_streams.py; what our own implementation does is what is written, so read the diff.
Tests hold our output to openai-harmony wherever that is right.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "labhelpers" / "conformance"
sys.path.insert(0, str(ROOT / "tests"))

from conformance_streams import all_streams  # noqa: E402 - found in tests/
from harmony_cases import CASES  # noqa: E402

from labhelpers.conformance.conversation_json import messages_to_json  # noqa: E402
from labhelpers.conformance.implementations import OpenAIHarmony, Ours, Read, Refused  # noqa: E402
from labhelpers.conformance.runner import run, summary  # noqa: E402
from labhelpers.conformance.vectors import RenderVector, StreamVector  # noqa: E402
from labhelpers.tokenizer import o200k_harmony  # noqa: E402

TABLE = "<!-- results -->"
FORMAT = "harmony conformance vectors, version 1; see FORMAT.md"


def render_vectors() -> list[dict[str, Any]]:
    """One vector for each golden, two where the two rules on reasoning differ."""
    out = []
    for name, (messages, options) in CASES.items():
        found = {rule: _rendered(name, rule, messages, options) for rule in Ours.rules}
        if found["written"]["ids"] == found["openai-harmony"]["ids"]:
            out.append({**found["written"], "rule": "any"})
        else:
            out += [{**vector, "name": f"{name}@{rule}"} for rule, vector in found.items()]
    return out


def _rendered(name: str, rule: str, messages: Any, options: dict[str, Any]) -> dict[str, Any]:
    vector = RenderVector(
        name=name,
        rule=rule,
        completion=bool(options.get("completion")),
        for_training=bool(options.get("for_training")),
        messages=messages_to_json(messages),
        text="",
        ids=[],
    )
    ids = Ours().render(vector)
    return {**vars(vector), "text": o200k_harmony().decode(ids), "ids": ids}


def stream_vectors() -> list[dict[str, Any]]:
    """What our strict and lenient parsers make of every stream."""
    out = []
    for name, about, role, ids in all_streams(o200k_harmony()):
        text = o200k_harmony().decode(ids)
        empty = StreamVector(name, about, role, text, ids, None, [], True, [])
        strict, lenient = Ours().read_strict(empty), Ours().read_lenient(empty)
        assert isinstance(lenient, Read)
        found = {
            "refused_at": strict.position if isinstance(strict, Refused) else None,
            "messages": lenient.messages,
            "complete": lenient.complete,
            "faults": lenient.faults,
        }
        if isinstance(strict, Read):
            # Well formed by the letter, but the lenient reader saw what was meant.
            found["strict"] = strict[:2] == lenient[:2]
            if "character" in name or "byte" in name:
                found["deltas"] = strict.deltas
        vector = {**vars(empty), **found}
        for field, default in (("deltas", None), ("strict", True)):
            if vector[field] == default:
                del vector[field]
        out.append(vector)
    return out


def write(path: str, content: dict[str, Any], lists: str) -> None:
    """JSON with one vector a block, its ids on one line."""
    head = {k: v for k, v in content.items() if k != lists}
    lines = [json.dumps(head, ensure_ascii=False)[:-1] + f', "{lists}": [']
    for item in content[lists]:
        fields = [
            f"    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in item.items()
        ]
        lines.append("  {\n" + ",\n".join(fields) + "\n  },")
    lines[-1] = lines[-1].removesuffix(",")
    file = FOLDER / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, "]}"]) + "\n", encoding="utf-8", newline="")


def write_table(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> None:
    """The table under "Results" in FORMAT.md, anew."""
    rows = [f"| check | labhelpers | {name} |", "|---|---|---|"]
    for check in ours:
        cells = [
            ", ".join(f"{count} {outcome}" for outcome, count in found.get(check, {}).items())
            for found in (ours, theirs)
        ]
        rows.append(f"| {check} | {cells[0]} | {cells[1] or 'reports none'} |")
    note = FOLDER / "FORMAT.md"
    head = note.read_text(encoding="utf-8").split(TABLE)[0]  # the table is the note's end
    note.write_text(head + TABLE + "\n".join(["", *rows, ""]), encoding="utf-8", newline="")
    print("\n".join(rows))


def main() -> None:
    """Write the three files, and the table."""
    write("vectors/render.json", {"format": FORMAT, "vectors": render_vectors()}, "vectors")
    write("vectors/streams.json", {"format": FORMAT, "vectors": stream_vectors()}, "vectors")
    library = OpenAIHarmony()
    outcomes = run(library)
    result = {
        "implementation": library.name,
        "version": library.version,
        "summary": summary(outcomes),
        "outcomes": [o._asdict() for o in outcomes if o.outcome != "pass"],
    }
    write(f"results/{library.name}-{library.version}.json", result, "outcomes")
    write_table(summary(run(Ours())), result["summary"], f"{library.name} {library.version}")


if __name__ == "__main__":
    main()
