"""Harmony as test vectors: plain JSON that any implementation, in any language, can run.

`vectors/render.json` holds conversations with the token ids that they must become,
`vectors/streams.json` token streams with the messages in them, whole streams and broken ones.
FORMAT.md explains the fields. `python -m labhelpers.conformance` runs our own implementation,
`--against openai-harmony` OpenAI's library.
"""

from .implementations import Implementation, OpenAIHarmony, Ours, Refused
from .runner import Outcome, run, summary
from .vectors import RenderVector, StreamVector, load_render, load_streams

__all__ = [
    "Implementation",
    "OpenAIHarmony",
    "Ours",
    "Outcome",
    "Refused",
    "RenderVector",
    "StreamVector",
    "load_render",
    "load_streams",
    "run",
    "summary",
]
