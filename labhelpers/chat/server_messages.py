"""A harmony conversation as the JSON of OpenAI's chat completions, the way to a server.

The idea   harmony's messages are finer than this format: reasoning, a preamble and calls go
           into one assistant message, and calls get ids, which harmony has not.
gpt-oss    reasoning is sent back only behind the last answer (OpenAI's written rule), so that a
           tool's result finds the thought that led to the call.
Source     OpenAI's API reference. Limits: the system message stays behind, except effort: a
           server writes its own.
"""

from __future__ import annotations

from typing import Any

from labhelpers.chat.backend import Options
from labhelpers.harmony import Conversation, DeveloperContent, Message, ToolDescription
from labhelpers.harmony.render import kept_messages

CHAT_PATH = "/chat/completions"


def request_body(
    model: str, conversation: Conversation, options: Options, reasoning_field: str
) -> dict[str, Any]:
    """The request, streaming."""
    body: dict[str, Any] = {
        "model": model,
        "messages": chat_messages(conversation, reasoning_field),
        "stream": True,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "reasoning_effort": options.effort,
    }
    if options.seed is not None:
        body["seed"] = options.seed
    tools = [
        {"type": "function", "function": _function(function)}
        for message in conversation
        for part in message.parts
        if isinstance(part, DeveloperContent)
        for function in part.functions
    ]
    return body | ({"tools": tools} if tools else {})


def _function(function: ToolDescription) -> dict[str, Any]:
    parameters = function.parameters or {"type": "object", "properties": {}}
    return {"name": function.name, "description": function.description, "parameters": parameters}


def chat_messages(
    conversation: Conversation, reasoning_field: str = "reasoning_content"
) -> list[dict[str, Any]]:
    """The messages as dicts, past reasoning dropped."""
    messages = conversation.messages
    out: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []  # (recipient, id) that no result has answered yet
    count = 0
    for i in kept_messages(messages):
        message = messages[i]
        if message.role == "developer":
            out += _instructions(message)
        elif message.role == "user":
            out.append({"role": "user", "content": message.text})
        elif message.role == "tool":
            out.append(_result(message, open_calls))
        elif message.role == "assistant":
            turn = _open_turn(out, message)
            if message.recipient:
                count += 1
                open_calls.append((message.recipient, f"call_{count}"))
                name = message.recipient.removeprefix("functions.")
                turn.setdefault("tool_calls", []).append({
                    "id": f"call_{count}",
                    "type": "function",
                    "function": {"name": name, "arguments": message.text},
                })  # fmt: skip
            else:
                field = reasoning_field if message.channel == "analysis" else "content"
                turn[field] = "\n".join(filter(None, [turn.get(field), message.text]))
    return out


def _instructions(message: Message) -> list[dict[str, Any]]:
    texts = [
        part if isinstance(part, str) else part.instructions
        for part in message.parts
        if isinstance(part, str | DeveloperContent)
    ]
    text = "\n".join(filter(None, texts))
    return [{"role": "system", "content": text}] if text else []


def _open_turn(out: list[dict[str, Any]], message: Message) -> dict[str, Any]:
    """The assistant's dict that this message goes into, a new one after an answer or a call."""
    last = out[-1] if out else {}
    goes_on = last.get("role") == "assistant" and (message.recipient or "tool_calls" not in last)
    if not goes_on:
        out.append({"role": "assistant", "content": None})
    return out[-1]


def _result(message: Message, open_calls: list[tuple[str, str]]) -> dict[str, Any]:
    """A tool's result under the id of the first call of that name that waits for one."""
    at = next((i for i, (name, _) in enumerate(open_calls) if name == message.name), None)
    call_id = open_calls.pop(at)[1] if at is not None else "call_0"
    return {"role": "tool", "tool_call_id": call_id, "content": message.text}
