"""Read a broken header as a person would: known words in their places, the rest as prose.

Strictly, a header is a role, `to=recipient`, a channel and a content type. Here words are taken
one by one; what is doubled, glued together or misspelt is put right and reported, and what has no
place is handed back: it is the message's own text if no `<|message|>` ever came.

Source: headers reported against servers of gpt-oss (`commentary??`, `to=a to=a`,
`assistantassistant`, a channel made of prose). Limits: spelling is mended only at the end of a
channel's name; no list of tools is known here, so a recipient is never corrected.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from .faults import Fault, fault
from .header import Header
from .messages import CHANNELS, ROLES

CONTENT_TYPES = ("json", "code")
TOOL_NAMES = ("functions.", "browser.", "python")


class Piece(NamedTuple):
    """A special token's name, or the text that one ordinary token brought."""

    special: bool
    text: str
    position: int


class Loose(NamedTuple):
    """A header, the prose that was found in it, whether a role stood there, and the faults."""

    header: Header
    prose: str
    role_written: bool
    faults: list[Fault]


def shown(pieces: list[Piece]) -> str:
    """The pieces as they stood in the stream."""
    return "".join(piece.text for piece in pieces)


def is_header_word(word: str) -> bool:
    """Whether a word belongs in headers rather than in prose."""
    return word in (*ROLES, *CHANNELS, *CONTENT_TYPES) or word.startswith("to=")


def is_cut_off(loose: Loose, marked: bool) -> bool:
    """Whether a header at the end of a stream holds no message's text, but half a word at most.

    `marked`: a special token stood in it, so that it is no answer without marks.
    """
    words, header = loose.prose.split(), loose.header
    if len(words) != 1:
        return not words
    begins = any(known.startswith(words[0]) for known in ("to=", *CHANNELS, *ROLES))
    return begins or (marked and not header.channel and not header.recipient)


def read_loosely(pieces: list[Piece], role: str | None, has_message_mark: bool) -> Loose:
    """A header's pieces as fields. `role` is None if it is to be read in them.

    With `has_message_mark` the words without a place are faults; without it they are returned as
    prose, from the first of them to the end of its run.
    """
    reader = _Reader(role, has_message_mark, shown(pieces))
    for run in _runs(pieces):
        reader.read(run)
    return reader.result()


class _Reader:
    def __init__(self, role: str | None, marked: bool, text: str) -> None:
        self.role, self.marked = role, marked
        self.name: str | None = None
        self.role_written = False
        self.has_recipient = re.search(r"(^|\s)to=\S", text) is not None
        self.fields: dict[str, str] = {}
        self.waiting: tuple[str, int] | None = None  # the mark whose word comes next
        self.prose: list[tuple[str, int]] = []
        self.misplaced: tuple[str, int] | None = None  # the kind of fault with which it began
        self.faults: list[Fault] = []
        self.broken: int | None = None  # where bytes stand that are no UTF-8

    def read(self, run: list[Piece]) -> None:
        if run[0].special:
            self.end_waiting()
            self.waiting = (run[0].text, run[0].position)
            return
        text = shown(run)
        begins = list(accumulate((len(piece.text) for piece in run), initial=0))

        def position_of(offset: int) -> int:
            return run[bisect_right(begins, offset) - 1].position

        if "\ufffd" in text and self.broken is None:
            self.broken = position_of(text.index("\ufffd"))
        for match in re.finditer(r"\S+", text):
            word, position = match.group(), position_of(match.start())
            rest = self.take(word, position)
            if not rest:
                continue
            if not self.marked:  # prose, up to the next mark
                self.prose.append((text[match.end() - len(rest) :], position))
                return
            self.prose.append((rest, position))

    def end_waiting(self) -> None:
        if self.waiting:
            kind = "empty-channel" if self.waiting[0] == "<|channel|>" else "empty-constrain"
            self.add(kind, self.waiting[1])
            self.waiting = None

    def add(self, kind: str, position: int, text: str = "", done: str = "") -> None:
        self.faults.append(fault(kind, position, text, done))

    def take(self, word: str, position: int) -> str:
        """Put a word in its place. Returns what has none: "" or an end of the word."""
        if word.startswith("to="):
            self.end_waiting()  # a recipient is no channel and no content type
        mark, self.waiting = self.waiting and self.waiting[0], None
        if mark == "<|channel|>":
            return self.take_channel(word, position)
        if mark == "<|constrain|>" and (self.marked or not self.prose):
            return self.take_content_type("<|constrain|>", word, position)
        if self.role is None:
            return self.take_role(word, position)
        if word.startswith("to="):
            return self.take_recipient(word, position)
        if word == self.role and not self.fields:
            self.add("doubled-role", position, word)
            return ""
        if word in CHANNELS and "channel" not in self.fields and not self.prose:
            self.add("no-channel-mark", position, word)
            self.fields["channel"] = word
            return ""
        if word in CONTENT_TYPES and "recipient" in self.fields:
            return self.take_content_type("", word, position)
        return word

    def take_role(self, word: str, position: int) -> str:
        known = next((r for r in ROLES if word.startswith(r)), "")
        rest = word.removeprefix(known)
        self.role, self.role_written = "assistant", True
        if known and known != "tool" and not rest:
            self.role = known
        elif known and (rest in (*ROLES, *CHANNELS) or not rest[:1].isalnum()) and rest:
            self.role = known
            if rest.startswith(":"):  # the renderer writes user:name, which no parser takes
                self.name = rest[1:] or None
                self.add("unknown-role", position, word, f"read as the role {known} with a name")
            elif rest in CHANNELS:
                self.add("no-channel-mark", position, word)
                self.fields["channel"] = rest
            else:
                kind = "doubled-role" if rest in ROLES else "unknown-role"
                self.add(kind, position, word, f"read as {known}")
        elif (
            (self.has_recipient and not is_header_word(word))
            or word == "tool"
            or word.startswith(TOOL_NAMES)
        ):
            self.role, self.name = "tool", word
            if not self.has_recipient:
                self.add("unknown-role", position, word, "read as a tool's name")
        else:
            self.role_written = False
            if is_header_word(word):  # the role was left out
                return self.take(word, position)
            self.misplaced = ("unknown-role", position)
            return word
        return ""

    def take_channel(self, word: str, position: int) -> str:
        found = re.match(rf"\W*({'|'.join(CHANNELS)})", word)
        rest = word[found.end() :] if found else ""
        # `finalx` is a slip of the model, `finally` a word of its prose.
        if found is None or (len(rest) > 1 and rest[:2].isalpha() and not is_header_word(rest)):
            self.misplaced = self.misplaced or ("unknown-channel", position)
            return word
        name = found.group(1)
        old = self.fields.get("channel")
        if old is not None:
            self.add("two-channels", position, old)
        self.fields["channel"] = name
        if rest.startswith("to="):
            self.add("unknown-channel", position, word, f"read as {name} and a recipient")
            return self.take_recipient(rest, position)
        if word != name:
            self.add("unknown-channel", position, word, f"read as {name}")
        return ""

    def take_recipient(self, word: str, position: int) -> str:
        name = re.sub("^(to=)+", "", word)
        if word.startswith("to=to="):
            self.add("two-recipients", position, word)
        # A mark that was spelt in letters, or (with no <|message|> to come) the arguments.
        cut = re.search(r"<\|" if self.marked else r"<\||[{\[\"]", name)
        rest = name[cut.start() :] if cut else ""
        name = name[: cut.start()] if cut else name
        if rest:
            self.add("recipient-glued", position, word, f"read as {name or 'nobody'}")
        if not name:
            self.add("empty-recipient", position, word)
        elif "recipient" in self.fields:
            self.add("two-recipients", position, word)
        else:
            self.fields["recipient"] = name
        if spelt := re.fullmatch(r"<\|(constrain|channel)\|>(\w+)(.*)", rest, re.DOTALL):
            mark, value, rest = spelt.groups()
            if mark == "constrain":
                return self.take_content_type("<|constrain|>", value, position) or rest
            return self.take_channel(value, position) or rest
        return rest

    def take_content_type(self, mark: str, word: str, position: int) -> str:
        if "content_type" in self.fields:
            return word
        if not self.marked and (glued := re.match(r"[\w.+/-]+(?=[{\[\"])", word)):
            self.fields["content_type"] = mark + glued.group()
            return word[glued.end() :]
        if split := re.fullmatch(r"(json|code)(to=.+)", word):
            self.fields["content_type"] = mark + split.group(1)
            self.add("recipient-glued", position, word)
            return self.take_recipient(split.group(2), position)
        self.fields["content_type"] = mark + word
        return ""

    def result(self) -> Loose:
        self.end_waiting()
        if self.broken is not None:
            self.add("broken-character", self.broken)
        f, prose = self.fields, self.prose
        words = " ".join(text for text, _ in prose).strip()
        if self.misplaced:
            kind, position = self.misplaced
            done = "kept here alone" if self.marked else "read as text"
            self.add(kind, position, words, done)
        elif self.marked and len(prose) == 1 and "content_type" not in f:
            f["content_type"] = words  # as strictly: one word over is a content type
        elif self.marked and prose:
            self.add("extra-words", prose[0][1], words)
        role = self.role or "assistant"  # who else leaves it out?
        name = self.name or (role if role == "tool" else None)
        header = Header(role, name, f.get("recipient"), f.get("channel"), f.get("content_type"))
        return Loose(header, "".join(text for text, _ in prose), self.role_written, self.faults)


def _runs(pieces: list[Piece]) -> list[list[Piece]]:
    """Neighbouring texts together, so that words do not break where tokens do."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and not piece.special and not runs[-1][0].special:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs
