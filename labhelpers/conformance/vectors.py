"""The vectors: what is given, and what has to come out.

Two files, two kinds. A render vector is a conversation with the ids that it becomes; a stream
vector is a list of ids with the messages that stand in it, and for a broken stream the token at
which a strict reader stops. Source: tests/harmony_cases.py (the goldens) and
tests/harmony_mutations.py (streams seen in production); scripts/conformance_vectors.py writes the
files. Limits: all ids are o200k_harmony's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

# "any": every rule on reasoning gives these ids.
RULES = ("any", "written", "openai-harmony")


@dataclass(frozen=True)
class RenderVector:
    """Render `messages` and get `ids`; `text` shows them, marks by name."""

    name: str
    rule: str  # one of RULES: which past reasoning is dropped
    completion: bool  # an answer is opened at the end: <|start|>assistant
    for_training: bool  # a final at the end stops with <|return|>
    messages: list[dict[str, Any]]
    text: str
    ids: list[int]


@dataclass(frozen=True)
class StreamVector:
    """Read `ids` and find `messages`; `text` shows the stream, marks by name.

    `role`: whose header is open at the start (None: the stream begins with <|start|>).
    `strict`: whether strict readers are asked at all; False where refusing and reading are both
    right, since the stream is well formed and yet not what the model meant.
    `refused_at`: index of the token at which a strict reader raises; None if it reads to the end.
    `messages`, `complete`: what a lenient reader makes of it; a strict one too where it reads.
    `faults`: what the lenient reader reports, as {"position", "kind"}.
    `deltas`: the text that each token brought, for streams in which that is worth a look.
    """

    name: str
    about: str
    role: str | None
    text: str
    ids: list[int]
    refused_at: int | None
    messages: list[dict[str, Any]]
    complete: bool
    faults: list[dict[str, Any]]
    deltas: list[str] | None = None
    strict: bool = True


def load_render() -> list[RenderVector]:
    """The vectors for renderers."""
    return [RenderVector(**item) for item in _load("vectors/render.json")["vectors"]]


def load_streams() -> list[StreamVector]:
    """The vectors for parsers."""
    return [StreamVector(**item) for item in _load("vectors/streams.json")["vectors"]]


def load_result(name: str) -> dict[str, Any]:
    """A recorded result, such as "openai-harmony-0.0.8"."""
    return _load(f"results/{name}.json")


def _load(path: str) -> dict[str, Any]:
    file = resources.files("labhelpers.conformance").joinpath(path)
    return json.loads(file.read_text(encoding="utf-8"))
