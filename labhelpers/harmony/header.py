"""What stands before a message's text, and the words that parsing needs for it.

A header is role or tool, perhaps ` to=` and a recipient, `<|channel|>` and a channel, perhaps a
content type. The recipient stands in front of the channel or behind it: the model writes both.

Source: OpenAI's harmony format guide; compared with openai-harmony 0.0.8, whose parser takes a
lone word in a header for a recipient (harmony #144); here it is a content type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from .messages import CHANNELS, ROLES, HarmonyError, Message

STOPS = ("<|end|>", "<|call|>", "<|return|>")


class Decoder(Protocol):
    """What parsing needs of a tokenizer (labhelpers.tokenizer.Tokenizer has it)."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def special_name(self, token_id: int) -> str | None: ...


class Header(NamedTuple):
    """What stands before `<|message|>`."""

    role: str
    name: str | None = None
    recipient: str | None = None
    channel: str | None = None
    content_type: str | None = None


class Delta(NamedTuple):
    """What one token brought: the message it belongs to, new text, and the message if it ended."""

    role: str | None
    channel: str | None
    recipient: str | None
    text: str
    finished: Message | None


def read_header(parts: list[tuple[bool, str]], role: str | None) -> Header:
    """A header's parts, (is it special, text), as its fields. `role` None: it is written in it.

    Raises HarmonyError for a missing or doubled field and for words that have no place.
    """
    shown = "".join(text for _, text in parts)
    if "\ufffd" in shown:
        raise HarmonyError(f"bytes that are no UTF-8 in the header {shown!r}")
    fields: dict[str, str] = {}

    def put(field: str, value: str) -> None:
        if field in fields:
            raise HarmonyError(f"two values for {field} in the header {shown!r}")
        if not value:
            raise HarmonyError(f"no value for {field} in the header {shown!r}")
        fields[field] = value

    author = role
    waiting: str | None = None  # the special token whose word comes next
    for special, text in _runs(parts):
        if special:
            if waiting:
                raise HarmonyError(f"{waiting} is followed by {text} in the header {shown!r}")
            waiting = text
            continue
        for word in text.split():
            if waiting == "<|channel|>":
                put("channel", word)
            elif waiting == "<|constrain|>":
                put("content_type", "<|constrain|>" + word)
            elif author is None:
                author = word
            elif word.startswith("to="):
                put("recipient", word.removeprefix("to="))
            else:
                put("content_type", word)
            waiting = None
    if waiting:
        raise HarmonyError(f"nothing follows {waiting} in the header {shown!r}")
    channel = fields.get("channel")
    if channel is not None and channel not in CHANNELS:
        raise HarmonyError(f"unknown channel {channel!r} in the header {shown!r}")
    if author is None:
        raise HarmonyError(f"the header {shown!r} names no role")
    name = None
    if author not in ROLES or author == "tool":
        # A tool is known by its name alone, and only its recipient shows that it is one.
        if "recipient" not in fields:
            raise HarmonyError(f"unknown role {author!r} in the header {shown!r}")
        author, name = "tool", author
    return Header(author, name, fields.get("recipient"), channel, fields.get("content_type"))


def _runs(parts: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    """Neighbouring texts joined, so that words do not break where tokens do."""
    runs: list[tuple[bool, str]] = []
    for special, text in parts:
        if runs and not special and not runs[-1][0]:
            text = runs.pop()[1] + text
        runs.append((special, text))
    return runs
