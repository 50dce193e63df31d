"""A message as a model wrote it, made fit to be rendered into the next prompt.

Lenient parsing reports what stood in a header, a recipient such as "functions.f|constrain|>json"
included, and the renderer refuses words that break headers. A chat that goes on needs a way
between the two: the text stays as it is, header words are cut down to what a header may hold.

gpt-oss's choice: none, servers raise or pass such names on. Source: `messages.check_header` says
what is refused. Limits: a name that was cut down may be no tool's name; the answer to a call with
such a name should say so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from .messages import HarmonyError, Message, check_header

# What stands there if nothing of the word can be kept: a tool has to have both.
INSTEAD = {"name": "tool", "recipient": "assistant"}


def renderable(message: Message) -> Message:
    """The message itself if it can be rendered, else a copy whose header words are cut down.

    A content type that does not fit is left out, a recipient or name ends where it stops being a
    word, and a tool's result without a recipient is for the assistant.
    """
    changed: dict[str, Any] = {}
    if message.role == "tool" and message.recipient is None:
        changed["recipient"] = "assistant"
    for field in ("recipient", "content_type", "name"):
        value = getattr(message, field)
        if value is None or _fits(message, field, value):
            continue
        found = re.match(r"(?:to=)*([\w./-]+)", value)
        word = found[1] if found and field != "content_type" else None
        if word is None or not _fits(message, field, word):
            word = INSTEAD.get(field) if message.role == "tool" else None
        changed[field] = word
    return replace(message, **changed) if changed else message


def _fits(message: Message, field: str, word: str) -> bool:
    """Whether a header may hold this word there."""
    bare: dict[str, Any] = {"recipient": None, "content_type": None}
    bare["name"] = "tool" if message.role == "tool" else None
    try:
        check_header(replace(message, **{**bare, field: word}))
    except HarmonyError:
        return False
    return True
