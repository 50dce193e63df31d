"""Tokens back to messages, one token at a time, strictly.

A completion starts behind `<|start|>assistant`, so the parser begins inside a header, then comes
`<|message|>`, text, and a stop. `<|end|>` lets the next message begin.

gpt-oss's choice: structure is made of special tokens alone. The text "<|end|>" that a model
spells with ordinary tokens stays text here, because ids are read, never strings.

Source: OpenAI's harmony format guide. Limits: no repairs. Anything outside the format raises
HarmonyError that names what was expected, with the token's `position`; `lenient` repairs instead.
"""

from __future__ import annotations

import codecs

from .faults import Fault
from .header import STOPS, Decoder, Delta, Header, read_header
from .messages import ROLES, HarmonyError, Message


class StreamParser:
    """Feed ids with `push`, read `messages`; `finish` when the stream is over.

    `role` is whose header has been opened already ("assistant" for a completion); with None the
    stream must begin with `<|start|>`, as a rendered conversation does.
    LenientParser, made of it, never raises on a valid id and fills `faults`.
    """

    def __init__(self, tokenizer: Decoder, role: str | None = "assistant") -> None:
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
