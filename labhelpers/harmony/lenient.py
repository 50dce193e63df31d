"""A stream parser that mends what it can and never gives up: for servers, chats and clinics.

Three states, as strictly: between messages, in a header, in a text. The difference is what an
unexpected token does. It never raises; it leaves a Fault, and the text goes where a reader would
put it. Words outside every message are an answer if the turn has no other.

gpt-oss's choice: the channel says who may see a text, so a text without one is placed by its
ending: `<|return|>` ends an answer, `<|call|>` a call, and `<|end|>` means that more follows, so
it was analysis, unless nothing does follow.

Source: broken streams of production servers; `faults` lists them. Limits: words that may yet be a
header are held back until the mark, the stop or the end that settles it; a message that `<|end|>`
made analysis may still become final in `messages` when the turn ends without an answer.
"""

from __future__ import annotations

from dataclasses import replace

from .faults import fault
from .header import STOPS, Decoder, Delta, Header
from .loose_header import Loose, Piece, is_cut_off, is_header_word, read_loosely, shown
from .messages import ROLES, Message
from .stream import StreamParser

_MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", *STOPS, "<|endoftext|>")


class LenientParser(StreamParser):
    """A StreamParser whose `push` and `finish` mend, `faults` tells what was mended."""

    def __init__(self, tokenizer: Decoder, role: str | None = "assistant") -> None:
        super().__init__(tokenizer, role)
        self._pieces: list[Piece] = []  # since the last message: a header, or stray words
        self._broken_off: str | None = None  # the channel of a text in which a header began
        self._answered = False  # the assistant's turn has an answer or a call
        self._guess: tuple[int, int, Message] | None = None  # see _end_turn
        self._over = False
        self._held: Header | None = None  # it met a stop; a <|message|> may follow even so

    def push(self, token_id: int) -> Delta:
        """Take one id. Raises only for an id that the tokenizer does not have."""
        self._position += 1
        special = self.tokenizer.special_name(token_id)
        if special is not None and special not in _MARKS:
            self._fault("unknown-special", special)
            return self._delta("", None)
        empty = None if special == "<|message|>" else self._release()
        if special is None:
            delta = self._words(self._utf8.decode(self.tokenizer.decode_bytes([token_id])))
        else:  # a mark also ends a character that was left half written
            before = self._words(self._utf8.decode(b"", final=True))
            delta = self._mark(special)
            delta = delta._replace(text=before.text + delta.text)
        return delta._replace(finished=empty) if empty else delta

    def _release(self) -> Message | None:
        """A header that met a stop, and no <|message|> behind it: a message without a text."""
        if self._held is None:
            return None
        self._begin(self._held)
        return self._end_message(None).finished

    def finish(self) -> list[Message]:
        """End of the stream: all messages, the one that was cut off and mended ones included."""
        if self._over:
            return self.messages
        self._over = True
        self._words(self._utf8.decode(b"", final=True))
        self._release()
        self.complete = bool(self._last_stop) and not self._in_header and self.header is None
        if self.header is not None:
            self._fault("truncated-text")
            self._end_message(None)
        elif self._in_header and (self._pieces or self._role is None):
            self._guess = None  # the assistant was about to go on
            self._cut_header()
        elif self._pieces:
            self.complete &= self._stray(None).finished is None
        self._end_turn()
        self._in_header, self._pieces = False, []
        return self.messages

    # -- one token ------------------------------------------------------------------------

    def _words(self, text: str) -> Delta:
        if self.header is not None:
            self._text.append(text)
            return self._delta(text, None)
        if text:
            self._pieces.append(Piece(False, text, self._position))
        return self._delta("", None)

    def _mark(self, special: str) -> Delta:
        if special == "<|endoftext|>":
            self._fault("other-stop")
            return self._stop(special)
        if special in STOPS:
            return self._stop(special)
        if special == "<|start|>":
            return self._start()
        if special == "<|channel|>":
            return self._channel()
        if special == "<|message|>" and self.header is None:
            return self._message()
        if special == "<|constrain|>" and self.header is None:
            self._open_header(special)
            self._pieces.append(Piece(True, special, self._position))
        else:
            self._fault("mark-in-text", special)
        return self._delta("", None)

    def _start(self) -> Delta:
        delta = self._delta("", None)
        if self.header is not None:
            self._fault("no-stop")
            delta = self._break_off()
        elif self._in_header:
            words = shown(self._pieces).split()
            if all(word in ROLES for word in words):
                self._fault("doubled-start", shown(self._pieces))
            else:
                loose = self._read(False)
                self._fault("no-message-mark", shown(self._pieces))
                if loose.prose.strip():
                    delta = self._whole_message(loose, "<|start|>")
        elif self._pieces:
            delta = self._stray("<|start|>")
        self._in_header, self._role, self._pieces = True, None, []
        return delta

    def _channel(self) -> Delta:
        delta = self._delta("", None)
        if self.header is not None:  # no fault of `no-start` too: the text was not ended
            self._fault("no-stop")
            delta = self._break_off()
            self._in_header, self._role = True, "assistant"
        self._open_header("<|channel|>")
        self._pieces.append(Piece(True, "<|channel|>", self._position))
        return delta

    def _message(self) -> Delta:
        if self._held is not None:
            self._fault("message-after-return", done="the header before the stop counts")
            self._begin(self._held)
            return self._delta("", None)
        headless = not self._in_header and not self._pieces
        if headless and self._last_stop in STOPS[1:]:
            self._fault("message-after-return")
            self._in_header, self._role = True, "assistant"
        self._open_header("<|message|>")
        self._begin(self._read(True, headless).header)
        return self._delta("", None)

    def _stop(self, special: str) -> Delta:
        if self.header is not None:
            delta = self._end_message(special)
        elif self._in_header:
            delta = self._stop_in_header(special)
        elif self._pieces:
            delta = self._stray(special)
        else:
            self._fault("doubled-stop", special)
            delta = self._delta("", None)
        self._in_header, self._last_stop = False, special
        return delta

    # -- headers --------------------------------------------------------------------------

    def _open_header(self, mark: str) -> None:
        """A header begins without <|start|>, unless one has begun already."""
        if self._in_header:
            return
        words = shown(self._pieces).split()
        begins_with_role = bool(words) and words[0].startswith(ROLES)
        fields = mark == "<|message|>" or any(word.startswith("to=") for word in words)
        if self._pieces and not begins_with_role and not fields:
            self._stray("<|start|>")
        self._fault("no-start")
        self._in_header, self._role = True, None if begins_with_role else "assistant"

    def _read(self, has_message_mark: bool, headless: bool = False) -> Loose:
        """The pieces as a header, its channel left open or filled in for the assistant."""
        loose = read_loosely(self._pieces, self._role, has_message_mark)
        self.faults += loose.faults
        header, kinds = loose.header, {f.kind for f in loose.faults}
        written = self._role is not None or loose.role_written or "unknown-role" in kinds
        if not written and (has_message_mark or loose.prose.strip()):
            self._fault("no-role")
        if header.role != "assistant" or header.channel is not None:
            return loose
        if header.recipient:
            header = header._replace(channel="commentary")
        elif not has_message_mark and not loose.role_written and self._broken_off:
            header = header._replace(channel=self._broken_off)  # a text goes on behind a stray mark
        if has_message_mark and not headless and not kinds & {"empty-channel", "unknown-channel"}:
            self._fault("no-channel")
        return loose._replace(header=header)

    def _stop_in_header(self, special: str) -> Delta:
        loose = self._read(False)
        prose, header, text = loose.prose.strip(), loose.header, shown(self._pieces)
        if prose and not any(piece.special for piece in self._pieces):
            self.faults.append(fault("no-header", self._pieces[0].position, text))
        else:
            self._fault("stop-in-header", text)
        if prose:
            return self._whole_message(loose, special)
        if special == "<|call|>" and header.recipient is None:
            self._fault("call-without-recipient")
        self._held = header if header.channel or header.recipient else None
        self._pieces = []
        return self._delta("", None)

    def _cut_header(self) -> None:
        """The stream ended before <|message|>: prose is a message, a mere header is none."""
        loose, text = self._read(False), shown(self._pieces)
        marked = self._role is None or any(piece.special for piece in self._pieces)
        cut = is_cut_off(loose, marked)
        if marked or cut:
            done = "nothing of it is a message" if cut else "its prose is a message"
            self._fault("truncated-header", text, done)
        else:
            self.faults.append(fault("no-header", self._pieces[0].position, text))
            self._fault("truncated-text")
        if not cut:
            self._whole_message(loose, None)

    # -- messages -------------------------------------------------------------------------

    def _begin(self, header: Header) -> None:
        """A message's text begins."""
        if header.role == "assistant":
            self._guess = None  # the turn goes on
        else:
            self._end_turn()
            self._answered = False
        self.header, self._held = header, None
        self._in_header, self._text, self._pieces, self._broken_off = False, [], [], None

    def _whole_message(self, loose: Loose, stop: str | None) -> Delta:
        """A message whose text stood in its header."""
        self._begin(loose.header)
        self._text.append(text := loose.prose.lstrip())
        return self._end_message(stop)._replace(text=text)

    def _break_off(self) -> Delta:
        """The text ends, for a header begins inside it."""
        assert self.header is not None
        channel = self.header.channel
        delta = self._end_message("<|start|>")
        self._broken_off = channel
        return delta

    def _end_message(self, stop: str | None) -> Delta:
        """The message ends; a channel that was left open is settled by the stop."""
        assert self.header is not None
        header, guessed = self.header, False
        if stop == "<|call|>" and header.recipient is None:
            self._fault("call-without-recipient")
        if header.role == "assistant":
            if header.channel is None:
                guessed = stop in ("<|end|>", "<|start|>")
                channel = {"<|call|>": "commentary"}.get(stop or "", "final")
                self.header = header._replace(channel="analysis" if guessed else channel)
            self._answered |= self.header.channel == "final" or header.recipient is not None
        delta = self._delta("", None)
        message = self._finish_message()
        if guessed:
            index = len(self.messages) - 1
            self._guess = index, index + 1, replace(message, channel="final")
        return delta._replace(finished=message)

    def _stray(self, stop: str | None) -> Delta:
        """Words outside any message: an answer if the turn has none, else kept in the fault."""
        pieces, text = self._pieces, shown(self._pieces)
        self._pieces = []
        quiet = self._answered or all(is_header_word(word) for word in text.split())
        done = "the turn has no answer yet, so they are a message"
        if quiet:
            done = "kept here alone"
        elif stop == "<|start|>":
            done = "a message only if the turn ends here"
        self.faults.append(fault("words-between-messages", pieces[0].position, text, done))
        if not quiet and stop != "<|start|>":
            return self._whole_message(Loose(Header("assistant"), text, False, []), stop)
        if not quiet:  # the next header shows whether the assistant goes on
            self._guess = len(self.messages), len(self.messages), Message.final(text)
        return self._delta("", None)

    def _end_turn(self) -> None:
        """Nothing more comes from the assistant: what looked like a step was the answer."""
        if self._guess and not self._answered:
            begin, end, message = self._guess
            self.messages[begin:end] = [message]
        self._guess = None

    def _fault(self, kind: str, text: str = "", done: str = "") -> None:
        self.faults.append(fault(kind, max(self._position, 0), text, done))
