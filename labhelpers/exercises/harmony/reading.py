"""Exercises on reading a stream: characters that are split over tokens, and headers.

Source of the solutions: `labhelpers.harmony.parse`; tests hold them equal.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

from labhelpers.exercises.core import Case, exercise

_WORD = "naïve ♞".encode()  # 2 bytes for ï, 3 for ♞


@exercise(
    "4.4",
    minutes=10,
    difficulty=2,
    cases=[
        Case("whole letters", lambda: ([b"ab", b"", b"c"],)),
        Case("letters cut in two", lambda: ([_WORD[:3], _WORD[3:8], _WORD[8:9], _WORD[9:]],)),
        Case("a byte that is never completed", lambda: ([b"a\xc3", b"b", b"c\xf0\x9f"],)),
        Case("a wrong byte before a letter cut in two", lambda: ([b"a\xff\xc3", b"\xa9"],)),
    ],
    hints=(
        "A chunk may end in the middle of a character. What is not complete has to wait for the "
        "next chunk. Python's `codecs` module has a decoder that waits.",
        '`decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")`; then '
        "`decoder.decode(chunk)` for each chunk, and once more "
        '`decoder.decode(b"", final=True)` for what never came.',
    ),
)
def text_pieces(chunks: list[bytes]) -> list[str]:
    """A list: the text that each chunk of bytes completes, and last what was left, U+FFFD or ""."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(chunk) for chunk in chunks] + [decoder.decode(b"", final=True)]


@text_pieces.mistake(
    "Every chunk was decoded by itself, so a letter that is split becomes two or more `�`."
)
def _each_alone(chunks: list[bytes]) -> list[str]:
    return [chunk.decode("utf-8", "replace") for chunk in chunks] + [""]


@text_pieces.mistake("Every chunk was decoded by itself, so a letter that is split disappears.")
def _each_alone_ignoring(chunks: list[bytes]) -> list[str]:
    return [chunk.decode("utf-8", "ignore") for chunk in chunks] + [""]


@text_pieces.mistake("Everything waits for the end: a stream shows a letter once it is complete.")
def _all_at_the_end(chunks: list[bytes]) -> list[str]:
    return [""] * len(chunks) + [b"".join(chunks).decode("utf-8", "replace")]


@text_pieces.mistake(
    "A chunk that ends inside a letter was held back as a whole: only the bytes of that letter "
    "have to wait."
)
def _whole_chunk_waits(chunks: list[bytes]) -> list[str]:
    out, waiting = [], b""
    for chunk in chunks:
        waiting += chunk
        try:
            out.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            out.append("")
    return [*out, waiting.decode("utf-8", "replace")]


@text_pieces.mistake(
    "At a byte that is wrong everything was given out, the beginning of the next letter too: that "
    "one has to wait all the same."
)
def _flush_at_wrong(chunks: list[bytes]) -> list[str]:
    out, waiting = [], b""
    for chunk in chunks:
        waiting += chunk
        try:
            text, used = waiting.decode(), len(waiting)
        except UnicodeDecodeError as error:
            cut = error.reason == "unexpected end of data"
            used = error.start if cut else len(waiting)
            text = waiting[:used].decode("utf-8", "replace")
        out.append(text)
        waiting = waiting[used:]
    return [*out, waiting.decode("utf-8", "replace")]


@text_pieces.mistake(
    "Everything waits while the text ends in `�`: then whole letters wait too, and a byte that is "
    "wrong for good looks like one that waits. Hold back only the bytes of the unfinished letter."
)
def _all_waits(chunks: list[bytes]) -> list[str]:
    out, shown, seen = [], "", b""
    for chunk in chunks:
        seen += chunk
        text = seen.decode("utf-8", "replace")
        out.append("" if text.endswith("\ufffd") else text[len(shown) :])
        shown = shown if text.endswith("\ufffd") else text
    return [*out, seen.decode("utf-8", "replace")[len(shown) :]]


@text_pieces.mistake(
    "Every `�` at the end of the text is held back. But a byte that is wrong for good looks the "
    "same as one that waits: let the decoder tell them apart."
)
def _signs_wait(chunks: list[bytes]) -> list[str]:
    out, shown, seen = [], "", b""
    for chunk in chunks:
        seen += chunk
        text = seen.decode("utf-8", "replace").rstrip("\ufffd")
        out.append(text[len(shown) :])
        shown = text
    return [*out, seen.decode("utf-8", "replace")[len(shown) :]]


@text_pieces.mistake("The bytes were read as Latin-1, a byte a letter: they are UTF-8.")
def _latin(chunks: list[bytes]) -> list[str]:
    return [chunk.decode("latin-1") for chunk in chunks] + [""]


@text_pieces.mistake(
    "The last piece is missing: it holds what never became a whole letter, or is empty."
)
def _no_flush(chunks: list[bytes]) -> list[str]:
    return text_pieces.function(chunks)[:-1]


@text_pieces.mistake(
    "What never became a whole letter is lost without a trace: at the end call the decoder with "
    "`final=True`."
)
def _lost_tail(chunks: list[bytes]) -> list[str]:
    return text_pieces.function(chunks)[:-1] + [""]


@text_pieces.mistake('Bytes that are no UTF-8 are skipped in silence: use errors="replace".')
def _ignored(chunks: list[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    return [decoder.decode(chunk) for chunk in chunks] + [decoder.decode(b"", final=True)]


# -- headers ----------------------------------------------------------------------------------

Fields = tuple[str | None, str | None, str | None, str | None]
_FRONT = [
    "assistant",
    " to=functions.now",
    "<|channel|>",
    "commentary",
    " ",
    "<|constrain|>",
    "json",
]
_BEHIND = ["<|channel|>", "commentary", " to=functions.now", " ", "<|constrain|>", "json"]


@exercise(
    "4.5",
    minutes=15,
    difficulty=2,
    outputs=("role", "channel", "recipient", "content_type"),
    cases=[
        Case("a user", lambda: (["user"], None)),
        Case("the recipient in front of the channel", lambda: (list(_FRONT), None)),
        Case("the recipient behind it, the role known", lambda: (list(_BEHIND), "assistant")),
        Case(
            "an answer in JSON",
            lambda: (["assistant", "<|channel|>", "final", " ", "<|constrain|>", "json"], None),
        ),
        Case("code", lambda: (["<|channel|>", "analysis", " to=python code"], "assistant")),
        Case(
            "a plain word behind the channel",
            lambda: (["<|channel|>", "final", " json"], "assistant"),
        ),
        Case(
            "a word in front of the channel, the role known",
            lambda: ([" to=functions.now json", "<|channel|>", "commentary"], "assistant"),
        ),
        Case(
            "another plain word",
            lambda: (["assistant to=functions.run yaml", "<|channel|>", "commentary"], None),
        ),
        Case("a word cut in two", lambda: (["assist", "ant", "<|channel|>", "fin", "al"], None)),
    ],  # fmt: skip
    hints=(
        "First join neighbouring texts (a word may be cut where a token ends), then go through "
        "the words. What a word is depends on the mark just before it, on `to=`, and on whether "
        "the role is known yet.",
        "Remember the last mark. A word after `<|channel|>` is the channel, a word after "
        '`<|constrain|>` the content type (with the mark in front: "<|constrain|>json"); one that '
        'starts with "to=" is the recipient; the first other word is the role unless `role` was '
        "given; anything else is a content type. After each word forget the mark.",
    ),
)
def read_header(parts: list[str], role: str | None) -> Fields:
    """A tuple (role, channel, recipient, content_type) of a header, each a text or None.

    parts: the texts and marks before <|message|>, in order. role: "assistant" for the first
    header of a completion, whose role stands in the prompt; None if it stands in parts.
    """
    channel = recipient = content_type = mark = None
    for word in "".join(f" {p} " if p.startswith("<|") else p for p in parts).split():
        if word.startswith("<|"):
            mark = word
            continue
        if mark == "<|channel|>":
            channel = word
        elif mark == "<|constrain|>":
            content_type = mark + word
        elif word.startswith("to="):
            recipient = word.removeprefix("to=")
        elif role is None:
            role = word
        else:
            content_type = word
        mark = None
    return role, channel, recipient, content_type


def _with(change: Callable[[list[str], Fields], Fields]) -> Callable[..., Fields]:
    """A wrong version that changes the right fields."""
    return lambda parts, role: change(parts, read_header.function(parts, role))


def _slip(message: str, change: Callable[[list[str], Fields], Fields]) -> None:
    wrong = _with(change)
    wrong.__name__ = f"_header_{len(read_header.mistakes)}"
    read_header.mistake(message)(wrong)


_LEFT_OVER = (
    "A word that is left over was taken for the recipient. So does openai-harmony, and servers "
    "then route an answer in JSON as a call (harmony, issue 144); it is a content type."
)
_slip(_LEFT_OVER, lambda parts, f: f if f[2] or not f[3] else (f[0], f[1], f[3], None))
_slip(  # only a bare word, and it replaces what `to=` said
    _LEFT_OVER,
    lambda parts, f: (*f[:2], f[3], None) if f[3] and "<|" not in f[3] else f,
)
_slip(  # the bare word loses its mark as well
    _LEFT_OVER,
    lambda parts, f: (*f[:2], f[3].removeprefix("<|constrain|>"), None) if f[3] and not f[2] else f,
)
_slip(  # only a bare word, and only where `to=` said nothing
    _LEFT_OVER,
    lambda parts, f: (*f[:2], f[3], None) if f[3] and "<|" not in f[3] and not f[2] else f,
)
_slip(
    "The role that was given is ignored: when `role` is not None it is known from the start.",
    lambda parts, f: read_header.function(parts, None),
)
_slip(
    "A plain word got the mark `<|constrain|>`: only what stands behind that mark has it.",
    lambda parts, f: (*f[:3], f[3] and "<|constrain|>" + f[3].removeprefix("<|constrain|>")),
)
_slip(
    "Only the words `json` and `code` were read as content types: any left-over word is one.",
    lambda parts, f: f if f[3] != "yaml" else (*f[:3], None),
)
_slip(
    "A word in front of the channel replaced the role that was given: known is known, and any "
    "further word is a content type.",
    lambda parts, f: ("json", *f[1:3], None) if "now json" in parts[0] else f,
)
_slip(
    "The recipient is found only in front of the channel. The model usually writes it behind.",
    lambda parts, f: (f[0], f[1], f[2] if "to=" in "".join(parts[:2]) else None, f[3]),
)
_slip(
    "The recipient is found only behind the channel. The renderer writes it in front.",
    lambda parts, f: (f[0], f[1], None if "to=" in "".join(parts[:2]) else f[2], f[3]),
)
_slip(
    "`to=` is the sign of a recipient, not a part of its name.",
    lambda parts, f: (f[0], f[1], f[2] and f"to={f[2]}", f[3]),
)
_slip(
    "The content type lost its mark: `<|constrain|>json` and a plain `json` are different.",
    lambda parts, f: (f[0], f[1], f[2], f[3] and f[3].removeprefix("<|constrain|>")),
)
_slip(
    "The content type is lost: without it a server cannot tell JSON from text.",
    lambda parts, f: (f[0], f[1], f[2], None),
)
_slip(
    "The role that was given is lost: a completion's first header does not repeat it.",
    lambda parts, f: (f[0] if parts[0].startswith("assist") or parts == ["user"] else None, *f[1:]),
)
_slip(
    "The channel swallowed what stands behind it: it is one word.",
    lambda parts, f: (f[0], "commentary to=functions.now", None, f[3])
    if parts == _BEHIND else (f[0], "analysis to=python code", None, None)
    if parts[-1].endswith("code") else (f[0], "final json", None, None)
    if parts[-1] == " json" else f,
)  # fmt: skip
_slip(
    "A word that is cut over two tokens was read as two words: join neighbouring texts first.",
    lambda parts, f: ("assist", "fin", None, "al") if parts[0] == "assist" else f,
)
