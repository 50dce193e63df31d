"""OpenAI-style chat messages (dicts with roles, tool_calls and so on) as a harmony conversation.

Chat APIs and chat templates know a flatter shape than harmony: reasoning, text and calls sit in
one assistant message. Here each becomes a message of its own: `thinking` goes to analysis, text
beside calls to commentary, calls to their tools, text alone to final. nano's chat template does
the same inside transformers, and a test holds the two together.

Limits: harmony has no call ids, so a result finds its call's name by `tool_call_id`, or by its
place; a "system" message becomes the developer message, as in OpenAI's API for these models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from .messages import (
    DEFAULT_IDENTITY,
    Conversation,
    DeveloperContent,
    HarmonyError,
    Message,
    SystemContent,
    ToolDescription,
    check_header_word,
)


def conversation_from_chat(
    messages: Sequence[dict[str, Any]],
    tools: Iterable[dict[str, Any]] | None = None,
    builtin_tools: Sequence[str] = (),
    model_identity: str | None = None,
    reasoning_effort: str | None = None,
    current_date: str | None = None,
) -> Conversation:
    """Chat messages, OpenAI-style tools and settings as a Conversation.

    Raises HarmonyError for messages that are no dicts, an unknown role, missing content, a part
    that is not text, or a tool message that no call precedes.
    """
    if isinstance(messages, str) or not all(isinstance(m, dict) for m in messages):
        raise HarmonyError('chat messages are a list of dicts: [{"role": "user", "content": ...}]')
    system = SystemContent(
        model_identity=model_identity or DEFAULT_IDENTITY,
        conversation_start_date=current_date or None,
        reasoning_effort=reasoning_effort or "medium",
        tools=tuple(builtin_tools),
    )
    functions = tuple(function_from_tool(tool) for tool in tools or ())
    out = [Message("system", system)]
    if functions and not (messages and messages[0].get("role") in ("system", "developer")):
        out.append(Message("developer", DeveloperContent(None, functions)))
        functions = ()
    for at, message in enumerate(messages):
        role = message.get("role")
        if role in ("system", "developer"):
            text = text_of(message.get("content"), role)
            out.append(Message("developer", DeveloperContent(text, functions)))
            functions = ()
        elif role == "user":
            out.append(Message.user(text_of(message.get("content"), "user")))
        elif role == "assistant":
            out += _assistant(message, builtin_tools)
        elif role == "tool":
            name = recipient_of(_answered(messages, at), builtin_tools)
            out.append(Message.tool(name, _result_text(message.get("content"))))
        else:
            raise HarmonyError(f"unknown role {role!r} in chat message {at}")
    return Conversation(tuple(out))


def function_from_tool(tool: dict[str, Any]) -> ToolDescription:
    """{"type": "function", "function": {...}}, or the inner dict alone.

    Raises HarmonyError if it is no dict; transformers.utils.get_json_schema makes such a dict of
    a typed Python function, as apply_chat_template does by itself.
    """
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise HarmonyError(
            "a tool is a dict with a name and a JSON schema of its parameters, got "
            f"{tool!r}; transformers.utils.get_json_schema writes it for a typed function"
        )
    name: Any = function.get("name")
    return ToolDescription(name, function.get("description") or "", function.get("parameters"))


def recipient_of(name: str, builtin_tools: Sequence[str] = ()) -> str:
    """A built-in tool by its own name, anything else in the functions namespace.

    Raises HarmonyError for a name that would break a header.
    """
    check_header_word(name, "the name of a function")
    is_python = name == "python" and "python" in builtin_tools
    is_browser = name.startswith("browser.") and "browser" in builtin_tools
    known = is_python or is_browser or name.startswith("functions.")
    return name if known else f"functions.{name}"


def text_of(content: Any, role: str) -> str:
    """A string as it is, text parts joined. Raises HarmonyError for anything else."""
    if isinstance(content, str):
        return content
    if content is None:
        raise HarmonyError(f"the content of a {role} message is missing; use '' if it is empty")
    if not isinstance(content, list | tuple):
        raise HarmonyError(f"the content of a {role} message is text, got {content!r}")
    texts = []
    for part in content:
        text = part if isinstance(part, str) else isinstance(part, dict) and part.get("text")
        if not isinstance(text, str):
            raise HarmonyError(f"only text is understood, but a {role} message holds {part!r}")
        texts.append(text)
    return "".join(texts)


def _assistant(message: dict[str, Any], builtin_tools: Sequence[str]) -> list[Message]:
    thinking = next(
        (message[k] for k in ("thinking", "reasoning_content", "reasoning") if message.get(k)), None
    )
    calls, content = message.get("tool_calls") or [], message.get("content")
    if not calls and content is None and not thinking:
        raise HarmonyError("an assistant message needs content, thinking or tool_calls")
    out = [Message.analysis(text_of(thinking, "assistant"))] if thinking else []
    if calls and content:
        out.append(Message.preamble(text_of(content, "assistant")))
    elif not calls and content is not None:
        out.append(Message.final(text_of(content, "assistant")))
    for call in calls:
        name, function = _called(call)
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
        out.append(Message.call(recipient_of(name, builtin_tools), arguments))
    return out


def _called(call: Any) -> tuple[str, dict[str, Any]]:
    """Name and function dict of one entry of tool_calls."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise HarmonyError(f"an entry of tool_calls needs a function with a name, got {call!r}")
    return function["name"], function


def _answered(messages: Sequence[dict[str, Any]], at: int) -> str:
    """The name of the function that the tool message at index `at` answers."""
    message = messages[at]
    if message.get("name"):
        return message["name"]
    wanted, name = message.get("tool_call_id"), None
    calls: list[dict[str, Any]] = []
    results = 0
    for earlier in messages[:at]:
        if earlier.get("role") == "assistant":
            calls, results = earlier.get("tool_calls") or [], 0
            for call in calls:
                if wanted and call.get("id") == wanted:
                    name = _called(call)[0]
        elif earlier.get("role") == "tool":
            results += 1
    if name:
        return name
    if wanted and any(call.get("id") for call in calls):
        raise HarmonyError(f"no call has the id {wanted}")
    if results >= len(calls):
        raise HarmonyError(
            "a tool message needs a name or a tool_call_id: there is no call that it could answer"
        )
    return _called(calls[results])[0]


def _result_text(content: Any) -> str:
    """A result: text stays text (never quoted again), other values become JSON."""
    parts = (
        isinstance(content, list)
        and content
        and isinstance(content[0], dict)
        and content[0].get("type") == "text"
    )
    if content is None or isinstance(content, str) or parts:
        return text_of(content, "tool")
    return json.dumps(content, ensure_ascii=False)
