"""Conversations as JSON and back, in a shape that other languages read without our classes.

The shape is that of `labhelpers.harmony.messages`, field by field; what equals its default is left
out, so that a vector shows what it is about. FORMAT.md lists the fields. Limits: keys of JSON
objects keep their order, since the order of a function's parameters is part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labhelpers.harmony import (
    DeveloperContent,
    HarmonyError,
    Message,
    SystemContent,
    ToolDescription,
    ToolNamespace,
)

_HEADER = ("channel", "recipient", "content_type", "name")
_SYSTEM = (
    "model_identity",
    "knowledge_cutoff",
    "conversation_start_date",
    "reasoning_effort",
    "channel_required",
)


def messages_to_json(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as a JSON list."""
    out = []
    for message in messages:
        content: Any = [_part_to_json(part) for part in message.parts]
        if isinstance(message.content, str):
            content = message.content
        header = {f: getattr(message, f) for f in _HEADER if getattr(message, f) is not None}
        out.append({"role": message.role, **header, "content": content})
    return out


def messages_from_json(data: Iterable[dict[str, Any]]) -> list[Message]:
    """Messages from their JSON. Raises HarmonyError for a part of an unknown type."""
    out = []
    for item in data:
        content = item["content"]
        if not isinstance(content, str):
            content = tuple(_part_from_json(part) for part in content)
            settings = len(content) == 1 and not isinstance(content[0], str)
            content = content[0] if settings else content
        header = {field: item.get(field) for field in _HEADER}
        out.append(Message(item["role"], content, **header))
    return out


def _part_to_json(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, DeveloperContent):
        return {
            "type": "developer",
            "instructions": part.instructions,
            "functions": [_function_to_json(f) for f in part.functions],
        }
    default = SystemContent()
    changed = {f: getattr(part, f) for f in _SYSTEM if getattr(part, f) != getattr(default, f)}
    if part.valid_channels != default.valid_channels:
        changed["valid_channels"] = list(part.valid_channels)
    if part.tools:
        changed["tools"] = [_tool_to_json(tool) for tool in part.tools]
    return {"type": "system", **changed}


def _tool_to_json(tool: ToolNamespace | str) -> Any:
    if isinstance(tool, str):
        return tool
    functions = [_function_to_json(f) for f in tool.functions]
    return {"name": tool.name, "description": tool.description, "functions": functions}


def _function_to_json(function: ToolDescription) -> dict[str, Any]:
    return {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }


def _part_from_json(part: dict[str, Any]) -> Any:
    kind = part.get("type")
    if kind == "text":
        return part["text"]
    if kind == "developer":
        return DeveloperContent(
            part.get("instructions"), tuple(ToolDescription(**f) for f in part.get("functions", ()))
        )
    if kind != "system":
        raise HarmonyError(f"a content part of type {kind!r}; there are text, system, developer")
    settings = {field: part[field] for field in _SYSTEM if field in part}
    if "valid_channels" in part:
        settings["valid_channels"] = tuple(part["valid_channels"])
    tools = tuple(
        tool
        if isinstance(tool, str)
        else ToolNamespace(
            tool["name"],
            tool.get("description"),
            tuple(ToolDescription(**f) for f in tool.get("functions", ())),
        )
        for tool in part.get("tools", ())
    )
    return SystemContent(**settings, tools=tools)
