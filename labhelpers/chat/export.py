"""A chat as JSON and back: settings, messages, remarks.

The idea   harmony's own fields, one object a message, so that nothing is folded together as in
           the chat-completions format: channel, recipient and content type survive.
Limits     the backend is not in it (only its name, as a note), nor ids: they belong to one
           vocabulary. Text parts of a message are joined.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labhelpers.chat.backend import Backend
from labhelpers.harmony import HarmonyError, Message, ToolDescription

if TYPE_CHECKING:
    from labhelpers.chat.session import Chat

FORMAT, VERSION = "labhelpers.chat", 1
SETTINGS = (
    "instructions", "effort", "reasoning_budget", "max_new_tokens", "temperature", "top_p",
    "top_k", "seed",
)  # fmt: skip
FIELDS = ("role", "channel", "recipient", "content_type", "name")


def to_json(chat: Chat) -> str:
    """The chat as JSON text, two spaces deep."""
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "model": chat.backend.name}
    data["settings"] = {name: getattr(chat, name) for name in SETTINGS}
    data["settings"]["system"] = chat.system | {"tools": list(chat.system["tools"])}
    data["settings"]["functions"] = [asdict(function) for function in chat.functions]
    data["messages"] = [
        {f: getattr(e.message, f) for f in FIELDS if getattr(e.message, f) is not None}
        | {"text": e.message.text}
        | ({"tokens": e.tokens} if e.tokens is not None else {})
        | ({"note": e.note} if e.note else {})
        | ({} if e.kept else {"kept": False})
        for e in chat.entries
    ]
    return json.dumps(data, ensure_ascii=False, indent=2)


def from_json(text: str, backend: Backend) -> Chat:
    """The chat again. Raises ValueError that says what is wrong with the text."""
    from labhelpers.chat.record import Entry
    from labhelpers.chat.session import Chat

    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"this is no JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("this JSON is no chat of labhelpers: Chat.to_json writes one")
    if data.get("version") != VERSION:
        raise ValueError(f"a chat of version {data.get('version')!r}; this reads {VERSION}")
    try:
        settings = dict(data["settings"])
        system = settings.pop("system")
        functions = [ToolDescription(**f) for f in settings.pop("functions")]
        tools = [*functions, *system.pop("tools", ())]
        chat = Chat(backend, tools=tools, system=_tuples(system), **settings)
        for item in data["messages"]:
            message = Message(content=item["text"], **{f: item.get(f) for f in FIELDS})
            chat.entries.append(
                Entry(message, item.get("tokens"), item.get("note", ""), item.get("kept", True))
            )
    except (KeyError, TypeError, AttributeError, HarmonyError) as error:
        raise ValueError(f"this chat is damaged: {type(error).__name__} {error}") from error
    return chat


def _tuples(system: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in system.items()}
