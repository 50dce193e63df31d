"""A turn written down: pieces become entries, whatever way the turn ends.

The idea   while pieces come, text is collected; a finished message becomes an `Entry`. When the
           turn is over the parser's last word counts: it may have read a broken stream anew
           (words that looked like a step turn out to be the answer).
gpt-oss    what the model must not read again is kept for the reader only: half a thought, half
           a call, and whatever the model wrote in another's name (a user's next question, a
           tool's result that it made up).
Limits     the count of a message's tokens is exact for token backends and unknown for servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labhelpers.chat.backend import Ending, Piece
from labhelpers.chat.notes import ending_note
from labhelpers.harmony import Message, renderable

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer


@dataclass
class Entry:
    """A message as it was seen: with its length, a remark, and whether the model reads it again."""

    message: Message
    tokens: int | None = None
    note: str = ""
    kept: bool = True


class Record:
    """Writes a turn behind the `entries` there are. `spent`: reasoning tokens, also of before."""

    def __init__(self, entries: list[Entry], tokenizer: Tokenizer | None, spent: int) -> None:
        self.entries, self.tokenizer, self.spent = entries, tokenizer, spent
        self.first = len(entries)  # where this turn's messages begin
        self.ids: list[int] = []
        self.note = ""
        self._begin()

    def _begin(self) -> None:
        self._channel: str | None = None
        self._recipient: str | None = None
        self._text = ""
        self._count = 0

    def take(self, piece: Piece) -> None:
        """Write down what a piece brought."""
        self.ids += piece.ids
        if piece.note:
            self.note = " ".join(filter(None, [self.note, piece.note]))
        if piece.channel is not None:
            self._channel, self._recipient = piece.channel, piece.recipient
            if self.tokenizer and piece.ids and self.tokenizer.special_name(piece.ids[0]) is None:
                self._count += 1
                self.spent += piece.channel == "analysis" and piece.recipient is None
        self._text += piece.text
        if piece.finished is not None:
            self._add(piece.finished, piece.partial, piece.note)

    def _add(self, message: Message, partial: bool = False, note: str = "") -> None:
        count = self._count if self.tokenizer else None
        self.entries.append(_entry(message, count, partial, note))
        self._begin()

    def close(self, ending: Ending, max_new_tokens: int) -> str:
        """The end, whatever it was. Returns what is to be said about it."""
        if self._text:  # nobody finished this message: the stream was left
            self._add(Message("assistant", self._text, self._channel, self._recipient), True)
        if ending.messages is not None:
            self._read_again(ending)
        reply = self.entries[self.first :]
        said = ending_note(ending, [e.message for e in reply], self.spent, max_new_tokens)
        self.note = " ".join(filter(None, [self.note, said]))
        if said:
            last = self.entries[-1]
            last.note = " ".join(filter(None, [last.note, said]))
        return said

    def _read_again(self, ending: Ending) -> None:
        """The parser's final messages in place of those that it gave on the way."""
        old = self.entries[self.first :]
        messages = [renderable(m) for m in ending.messages or ()]
        if [e.message for e in old] == messages:
            return
        new = []
        for message in messages:
            known = next((e for e in old if e.message.text == message.text), None)
            if known is not None:
                old.remove(known)
            tokens = known.tokens if known else None
            same = known is not None and known.message == message
            new.append(known if known and same else _entry(message, tokens, False, ""))
        self.entries[self.first :] = new


def _entry(message: Message, tokens: int | None, partial: bool, note: str) -> Entry:
    message = renderable(message)  # a header that the model broke must not end the chat
    if message.role != "assistant":
        said = f"The model wrote this in the name of the {message.role}; it will not see it again."
        return Entry(message, tokens, said, kept=False)
    # Half a sentence for the user was read by the user; half a thought or call is nothing.
    for_user = message.channel != "analysis" and message.recipient is None
    if partial:
        note = "Cut off." if for_user else "Cut off; the model will not see it again."
    return Entry(message, tokens, note, kept=for_user or not partial)
