"""Tokens back to messages, one token at a time, strictly.

A completion starts behind `<|start|>assistant`, so the parser begins inside a header: the channel,
perhaps a recipient (in front of the channel or behind it: the model writes both), perhaps a
content type, then `<|message|>`, text, and a stop. `<|end|>` lets the next message begin.

gpt-oss's choice: structure is made of special tokens alone. The text "<|end|>" that a model
spells with ordinary tokens stays text here, because ids are read, never strings.

Source: OpenAI's harmony format guide; compared with openai-harmony 0.0.8, whose parser takes a
lone word in a header for a recipient (harmony #144); here it is a content type. Limits: no
repairs. Anything outside the format raises HarmonyError that names what was expected, with the
token's `position`. With strict=False `lenient` reads instead: it repairs, and lists the faults.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from .faults import Fault
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


class StreamParser:
    """Feed ids with `push`, read `messages`; `finish` when the stream is over.

    `role` is whose header has been opened already ("assistant" for a completion); with None the
    stream must begin with `<|start|>`, as a rendered conversation does. With strict=False this
    makes a LenientParser, which never raises on a valid id and fills `faults`.
    """

    def __new__(
        cls, tokenizer: Decoder | None = None, role: str | None = None, strict: bool = True
    ) -> StreamParser:
        if strict or cls is not StreamParser:
            return super().__new__(cls)
        from .lenient import LenientParser  # it builds on this module

        return super().__new__(LenientParser)

    def __init__(
        self, tokenizer: Decoder, role: str | None = "assistant", strict: bool = True
    ) -> None:
        if role not in (None, *ROLES):
            raise HarmonyError(f"unknown role {role!r}; harmony has {', '.join(ROLES)}")
        self.tokenizer = tokenizer
        self.messages: list[Message] = []
        self.header: Header | None = None  # set while inside a message's text
        self.complete = True  # False once finish met a message without a stop
        self.faults: list[Fault] = []  # stays empty here: a strict parser raises
        self._position = -1  # of the token read last
        self._role = role
        self._in_header = role is not None
        self._parts: list[tuple[bool, str]] = []  # the header so far: (special?, text)
        self._text: list[str] = []
        self._last_stop = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> Delta:
        """Take one id. Raises HarmonyError at the first token that breaks the format."""
        self._position += 1
        try:
            return self._push(token_id)
        except HarmonyError as error:
            error.position = self._position
            raise

    def _push(self, token_id: int) -> Delta:
        special = self.tokenizer.special_name(token_id)
        if self.header is not None:
            return self._push_text(token_id, special)
        if self._in_header:
            self._push_header(token_id, special)
        elif special == "<|start|>":
            self._role, self._in_header, self._parts = None, True, []
            self._utf8.reset()
        else:
            shown = special or repr(
                self.tokenizer.decode_bytes([token_id]).decode("utf-8", "replace")
            )
            after = f" after {self._last_stop}" if self._last_stop else ""
            raise HarmonyError(
                f"expected <|start|>{after}, got {shown}"
                + (": sampling should have stopped" if self._last_stop in STOPS[1:] else "")
            )
        return self._delta("", None)

    def finish(self) -> list[Message]:
        """End of the stream: all messages. A text that was cut off counts.

        Raises HarmonyError if the stream ended inside a header.
        """
        if self._in_header and (self._parts or self._role is None):
            raise HarmonyError(
                f"the stream ended inside a header: {self._shown()!r}", max(self._position, 0)
            )
        if self.header is not None:
            self.complete = False
            self._finish_message()
        self._in_header = False
        return self.messages

    # -- the three states -----------------------------------------------------------------

    def _push_header(self, token_id: int, special: str | None) -> None:
        if special and (half := self._utf8.decode(b"", final=True)):
            self._parts.append((False, half))  # a character ends where a mark begins
        if special == "<|message|>":
            self.header = read_header(self._parts, self._role)
            self._in_header, self._text = False, []
        elif special in (None, "<|channel|>", "<|constrain|>"):
            if special is None:
                text = self._utf8.decode(self.tokenizer.decode_bytes([token_id]))
                self._parts.append((False, text))
            else:
                self._parts.append((True, special))
        else:
            raise HarmonyError(
                f"{special} inside a header, where <|message|> was expected: {self._shown()!r}"
            )

    def _push_text(self, token_id: int, special: str | None) -> Delta:
        if special is None:
            # A character may be split over tokens: its bytes wait in the decoder.
            text = self._utf8.decode(self.tokenizer.decode_bytes([token_id]))
            self._text.append(text)
            return self._delta(text, None)
        header = self.header
        assert header is not None
        if special not in STOPS:
            raise HarmonyError(
                f"{special} inside the text of the {header.role}'s message; "
                f"it must end with one of {', '.join(STOPS)} first"
            )
        if special == "<|call|>" and header.recipient is None:
            raise HarmonyError("<|call|> ends a message that has no recipient: nobody is called")
        delta = self._delta(self._utf8.decode(b"", final=True), None)
        if delta.text:
            self._text.append(delta.text)
        self._last_stop = special
        return delta._replace(finished=self._finish_message())

    def _finish_message(self) -> Message:
        assert self.header is not None
        role, name, recipient, channel, content_type = self.header
        self._text.append(self._utf8.decode(b"", final=True))
        text = "".join(self._text)
        message = Message(role, text, channel, recipient, content_type, name)
        self.messages.append(message)
        self.header, self._role, self._parts = None, None, []
        return message

    def _delta(self, text: str, finished: Message | None) -> Delta:
        h = self.header
        if h is None:
            return Delta(self._role, None, None, text, finished)
        return Delta(h.role, h.channel, h.recipient, text, finished)

    def _shown(self) -> str:
        return "".join(text for _, text in self._parts)


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


class Parsed(NamedTuple):
    """What a lenient reading found. `complete`: the stream ended with a stop."""

    messages: list[Message]
    faults: list[Fault]
    complete: bool


def parse(
    ids: Iterable[int],
    tokenizer: Decoder,
    role: str | None = "assistant",
    strict: bool = True,
) -> list[Message]:
    """Messages of a completion (or, with role None, of a whole rendered conversation).

    Raises HarmonyError where the format is broken; with strict=False it is mended instead
    (`parse_lenient` says how).
    """
    return _parsed(ids, tokenizer, role, strict).messages


def parse_lenient(ids: Iterable[int], tokenizer: Decoder, role: str | None = "assistant") -> Parsed:
    """Messages of a stream that may be broken, and its faults. Raises for no list of valid ids.

    Every word of the stream is in a message, in a field of one, or in a fault's text.
    """
    parser = _parsed(ids, tokenizer, role, strict=False)
    return Parsed(parser.messages, parser.faults, parser.complete)


def _parsed(ids: Iterable[int], tokenizer: Decoder, role: str | None, strict: bool) -> StreamParser:
    parser = StreamParser(tokenizer, role, strict)
    for token_id in ids:
        parser.push(token_id)
    parser.finish()
    return parser
