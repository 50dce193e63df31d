"""What an implementation has to offer to be run, and two that do: ours and OpenAI's library.

Source: openai-harmony 0.0.8 is driven through its Python classes, strict and not strict. Limits:
its lenient mode reports no faults, so none are compared.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import Any, NamedTuple, Protocol

from labhelpers.harmony import (
    HarmonyError,
    StreamParser,
    parse_lenient,
    render,
    render_for_completion,
)
from labhelpers.tokenizer import o200k_harmony

from .conversation_json import messages_from_json, messages_to_json
from .vectors import RenderVector, StreamVector

JsonMessages = list[dict[str, Any]]


class Refused(NamedTuple):
    """A strict reader stopped: at which token, and what it said."""

    position: int
    words: str


class Read(NamedTuple):
    """A reader came to the end. None: this implementation does not tell."""

    messages: JsonMessages
    complete: bool | None = None
    faults: list[dict[str, Any]] | None = None
    deltas: list[str] | None = None


class Implementation(Protocol):
    """The door of the runner. `rules`: which rules on reasoning it can follow."""

    name: str
    rules: tuple[str, ...]

    def render(self, vector: RenderVector) -> list[int]: ...
    def read_strict(self, vector: StreamVector) -> Read | Refused: ...
    def read_lenient(self, vector: StreamVector) -> Read | Refused: ...


class Ours:
    """labhelpers.harmony."""

    name = "labhelpers"
    rules: tuple[str, ...] = ("written", "openai-harmony")

    def render(self, vector: RenderVector) -> list[int]:
        messages = messages_from_json(vector.messages)
        compat: Any = "openai-harmony" if vector.rule == "openai-harmony" else None
        if vector.completion:
            return render_for_completion(messages, o200k_harmony(), compat)
        return render(messages, o200k_harmony(), vector.for_training, compat)

    def read_strict(self, vector: StreamVector) -> Read | Refused:
        parser = StreamParser(o200k_harmony(), vector.role)
        try:
            deltas = [parser.push(i).text for i in vector.ids]
            messages = parser.finish()
        except HarmonyError as error:
            return Refused(-1 if error.position is None else error.position, str(error))
        return Read(messages_to_json(messages), parser.complete, None, deltas)

    def read_lenient(self, vector: StreamVector) -> Read | Refused:
        parsed = parse_lenient(vector.ids, o200k_harmony(), vector.role)
        faults = [{"position": f.position, "kind": f.kind} for f in parsed.faults]
        return Read(messages_to_json(parsed.messages), parsed.complete, faults)


class OpenAIHarmony:
    """OpenAI's library, offline. Raises ImportError if it is not installed."""

    name = "openai-harmony"
    rules: tuple[str, ...] = ("openai-harmony",)

    def __init__(self) -> None:
        from labhelpers.harmony.oracle import load_oracle

        self.encoding = load_oracle()
        self.version = metadata.version("openai-harmony")

    def render(self, vector: RenderVector) -> list[int]:
        import openai_harmony as library

        from labhelpers.harmony.oracle import to_library

        conversation = to_library(messages_from_json(vector.messages))
        if vector.completion:
            return self.encoding.render_conversation_for_completion(
                conversation, library.Role.ASSISTANT
            )
        if vector.for_training:
            return self.encoding.render_conversation_for_training(conversation)
        return self.encoding.render_conversation(conversation)

    def read_strict(self, vector: StreamVector) -> Read | Refused:
        return self._read(vector, strict=True)

    def read_lenient(self, vector: StreamVector) -> Read | Refused:
        return self._read(vector, strict=False)

    def _read(self, vector: StreamVector, strict: bool) -> Read | Refused:
        import openai_harmony as library

        role = library.Role(vector.role) if vector.role else None
        parser = library.StreamableParser(self.encoding, role, strict=strict)
        deltas: list[str] = []
        try:
            for token in vector.ids:
                parser.process(token)
                ended = token in _stops(self.encoding)
                deltas.append("" if ended else parser.last_content_delta or "")
            parser.process_eos()
        except library.HarmonyError as error:
            return Refused(min(len(deltas), len(vector.ids) - 1), str(error))
        return Read([_to_json(m) for m in parser.messages], None, None, deltas)


@lru_cache(maxsize=1)
def _stops(encoding: Any) -> frozenset[int]:
    return frozenset(encoding.stop_tokens())


def _to_json(message: Any) -> dict[str, Any]:
    """A message of the library in our shape, unchecked: its channel may be none of ours."""
    fields = {
        "channel": message.channel,
        "recipient": message.recipient,
        "content_type": message.content_type,
        "name": message.author.name,
    }
    header = {field: value for field, value in fields.items() if value is not None}
    text = "".join(part.text for part in message.content)
    return {"role": message.author.role.value, **header, "content": text}
