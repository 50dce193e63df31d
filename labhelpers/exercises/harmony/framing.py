"""Exercise on writing harmony: one message as tokens.

Source of the solution: `labhelpers.harmony.render`; a test holds them equal.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import groupby
from typing import Any

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.harmony.toy import MARKS, ByteTokenizer, JoiningTokenizer
from labhelpers.harmony import Message

_TOY, _JOINING = ByteTokenizer(), JoiningTokenizer()


def _shown(ids: list[int]) -> str:
    known = [i if 0 <= i < 256 + len(MARKS) or 512 <= i < 1024 else 63 for i in ids]
    return _JOINING.decode(known)


@exercise(
    "4.1",
    minutes=20,
    difficulty=2,
    show=_shown,
    cases=[
        Case("a user who types a mark", lambda: (Message.user("Say <|end|> é"), _TOY)),
        Case("an answer", lambda: (Message.final("Hi."), _TOY)),
        Case("a call", lambda: (Message.call("functions.now", '{"zone": 1}'), _TOY)),
        Case("a tool's result", lambda: (Message.tool("functions.now", "12:30"), _TOY)),
        Case("python", lambda: (Message.call("python", "1+1"), _TOY)),
        Case(
            "a tokenizer whose tokens reach over joints",
            lambda: (Message.call("python", "1 + 1"), _JOINING),
        ),
        Case("a text with blanks at its ends", lambda: (Message.final(" Hi.\n"), _TOY)),
        Case("a preamble", lambda: (Message.preamble("I look."), _TOY)),
        Case(
            "an answer in JSON",
            lambda: (replace(Message.final("{}"), content_type="<|constrain|>json"), _TOY),
        ),
        Case(
            "a call with a plain `json`",
            lambda: (replace(Message.call("functions.now", "{}"), content_type="json"), _TOY),
        ),
    ],
    hints=(
        "Collect ids in a list, in the order of the header: mark, author, recipient, channel, "
        "content type. A mark is `tokenizer.special_id(...)`, everything else goes through "
        "`tokenizer.encode(...)`, its leading space included.",
        'The author is `message.name or message.role`. With a recipient, encode `f" to={...}"` as '
        "one text, behind the author's. "
        "`<|constrain|>json` becomes a space, the mark, and `json`; `code` becomes one text with "
        "its space, ` code`. The stop is `<|call|>` if the assistant has a recipient, else "
        "`<|end|>`.",
    ),
)
def frame(message: Message, tokenizer: Any) -> list[int]:
    """Ids of one message, a list of plain ints: header, <|message|>, text, stop."""
    mark, text = tokenizer.special_id, tokenizer.encode
    ids = [mark("<|start|>"), *text(message.name or message.role)]
    if message.recipient:
        ids += text(f" to={message.recipient}")
    if message.channel:
        ids += [mark("<|channel|>"), *text(message.channel)]
    if message.content_type:
        kind = message.content_type.removeprefix("<|constrain|>")
        if kind == message.content_type:
            ids += text(f" {kind}")
        else:
            ids += [*text(" "), mark("<|constrain|>"), *text(kind)]
    ids += [mark("<|message|>"), *text(message.text)]
    calls = message.role == "assistant" and message.recipient
    return [*ids, mark("<|call|>" if calls else "<|end|>")]


def _parts(message: Message, **slip: Any) -> list[Any]:
    """The message as marks (str) and texts (bytes), with a slip of the pen."""
    author = message.role if slip.get("role_only") else message.name or message.role
    to = (
        f"{slip.get('before_to', ' ')}to={message.recipient}".encode() if message.recipient else b""
    )
    to = b"" if slip.get("no_to") else to
    text = message.text.strip() if slip.get("strip") else message.text
    channel = ["<|channel|>", message.channel.encode()] if message.channel else []
    kind: list[Any] = []
    if message.content_type and not slip.get("no_type"):
        name = message.content_type.removeprefix("<|constrain|>").encode()
        constrained = name.decode() != message.content_type and not slip.get("plain_type")
        kind = [slip.get("before_type", b" "), *["<|constrain|>"] * constrained, name]
    calls = message.role == "assistant" or slip.get("results_call")
    stop = "<|call|>" if message.recipient and calls and not slip.get("always_end") else "<|end|>"
    if slip.get("returns") and message.channel == "final":
        stop = "<|return|>"
    return [
        "<|start|>", author.encode(), *([] if slip.get("to_behind") else [to]),
        slip.get("newline", b""), *channel, *([to] if slip.get("to_behind") else []), *kind,
        *(["<|message|>"] if not slip.get("no_message") else []), text.encode(), stop,
    ]  # fmt: skip


def _ids(parts: list[Any], tokenizer: Any, apart: bool = False) -> list[int]:
    """The ids; neighbouring texts are encoded as one, unless they are to stay apart."""
    ids: list[int] = []
    for is_mark, run in groupby(parts, lambda part: isinstance(part, str)):
        if is_mark:
            ids += [tokenizer.special_id(part) for part in run]
        else:
            texts = list(run)
            joined = texts if apart else [b"".join(texts)]
            ids += [i for text in joined for i in tokenizer.encode(text.decode())]
    return ids


def _as_text(**slip: Any) -> None:
    def wrong(message: Message, tokenizer: Any) -> list[int]:
        parts = (p if isinstance(p, bytes) else p.encode() for p in _parts(message, **slip))
        return tokenizer.encode(b"".join(parts).decode())

    wrong.__name__ = f"_marks_as_text_{len(frame.mistakes)}"
    frame.mistake(
        "The marks were encoded as text: a mark is one token, `tokenizer.special_id(name)`, and "
        "only the words between marks go through `encode`."
    )(wrong)


for _end in (False, True):  # whoever writes one long text has often other slips in it
    _as_text(always_end=_end)
    _as_text(always_end=_end, no_type=True)
    _as_text(always_end=_end, no_type=True, no_to=True)
    _as_text(always_end=_end, plain_type=True)
    _as_text(always_end=_end, role_only=True)
    _as_text(always_end=_end, role_only=True, no_type=True, no_to=True)


@frame.mistake(
    "The marks went through `encode`: a mark is one token, `tokenizer.special_id(name)`. (And "
    "words that belong together, ` to=functions.now`, are encoded in one go.)"
)
def _marks_encoded(message: Message, tokenizer: Any) -> list[int]:
    name = tokenizer.special_name
    ids = _to_apart(message, tokenizer)
    return [j for i in ids for j in (tokenizer.encode(name(i)) if name(i) else [i])]


@frame.mistake(
    "A mark that was typed became a real mark: whoever can type can forge messages. Encode "
    "the text by itself, as ordinary text."
)
def _marks_in_text(message: Message, tokenizer: Any) -> list[int]:
    joined = b"".join(p if isinstance(p, bytes) else p.encode() for p in _parts(message)).decode()
    pieces = re.split(r"(<\|\w+\|>)", joined)
    return _ids([p if p in MARKS else p.encode() for p in pieces], tokenizer)


@frame.mistake(
    "The recipient stands behind the channel: the renderer writes it in front (the model may do "
    "either)."
)
def _to_behind(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, to_behind=True), tokenizer)


@frame.mistake("The space before `to=` is missing: author and recipient run together.")
def _no_space(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, before_to=""), tokenizer)


@frame.mistake(
    "A tool's result was stopped with `<|call|>`. It has a recipient too, but only the assistant "
    "calls."
)
def _results_call(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, results_call=True), tokenizer)


@frame.mistake("A call ends with `<|call|>`, not with `<|end|>`: it hands over to a tool.")
def _always_end(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, always_end=True), tokenizer)


@frame.mistake("A tool is known by its name alone: write `message.name`, not the role `tool`.")
def _role_only(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, role_only=True), tokenizer)


@frame.mistake("There is no newline after the role: that is another chat format (ChatML).")
def _newline(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, newline=b"\n"), tokenizer)


@frame.mistake("`<|constrain|>` is missing: write the mark and then the word `json`.")
def _plain_type(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, plain_type=True), tokenizer)


@frame.mistake(
    "`<|constrain|>` inside the content type was encoded as text: it is a mark, one token."
)
def _typed_constrain(message: Message, tokenizer: Any) -> list[int]:
    parts = _parts(message)
    return _ids([p.encode() if p == "<|constrain|>" else p for p in parts], tokenizer)


@frame.mistake(
    "A preamble was stopped with `<|call|>`. Its channel is commentary too, but it has no "
    "recipient: nobody is called."
)
def _commentary_calls(message: Message, tokenizer: Any) -> list[int]:
    parts = _parts(message)
    if message.role == "assistant" and message.channel == "commentary":
        parts[-1] = "<|call|>"
    return _ids(parts, tokenizer)


@frame.mistake(
    "The content type is missing where there is no recipient: an answer may have one as well."
)
def _type_of_calls_only(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, no_type=message.recipient is None), tokenizer)


@frame.mistake(
    "A plain `json` got a mark: write `<|constrain|>` only if it stands in `content_type`."
)
def _always_constrained(message: Message, tokenizer: Any) -> list[int]:
    kind = message.content_type
    if kind and kind != "code" and not kind.startswith("<|"):
        message = replace(message, content_type=f"<|constrain|>{kind}")
    return _ids(_parts(message), tokenizer)


@frame.mistake("The space before `<|constrain|>` is missing.")
def _tight_mark(message: Message, tokenizer: Any) -> list[int]:
    tight = (message.content_type or "").startswith("<|")
    return _ids(_parts(message, before_type=b"" if tight else b" "), tokenizer)


@frame.mistake("The space before the content type is missing.")
def _tight_type(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, before_type=b""), tokenizer)


@frame.mistake("The content type is missing: it stands at the end of the header.")
def _no_type(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, no_type=True), tokenizer)


@frame.mistake(
    "`<|return|>` ends the last answer of a training text only; in a conversation that goes on, an "
    "answer ends with `<|end|>`."
)
def _returns(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, returns=True), tokenizer)


@frame.mistake("`<|message|>` is missing: it says where the header ends and the text begins.")
def _no_message(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, no_message=True), tokenizer)


@frame.mistake(
    "A space was encoded apart from the word behind it: a tokenizer may have one token for both. "
    "Encode ` code` in one go."
)
def _apart(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message), tokenizer, apart=True)


def _cut_recipient(message: Message, tokenizer: Any, *cut: str) -> list[int]:
    """The right ids, but the recipient's text is encoded in pieces."""
    ids = frame.function(message, tokenizer)
    if not message.recipient:
        return ids
    author = tokenizer.encode(message.name or message.role)
    whole = tokenizer.encode(f" to={message.recipient}")
    apart = [i for piece in cut for i in tokenizer.encode(piece.format(message.recipient))]
    return [ids[0], *author, *apart, *ids[1 + len(author) + len(whole) :]]


_TO_APART = (
    "A recipient was encoded in pieces: a tokenizer may have a token that reaches over the joint. "
    "Encode ` to=functions.now` in one go."
)


@frame.mistake(_TO_APART)
def _to_apart(message: Message, tokenizer: Any) -> list[int]:
    return _cut_recipient(message, tokenizer, " to=", "{}")


@frame.mistake(_TO_APART)
def _space_apart(message: Message, tokenizer: Any) -> list[int]:
    return _cut_recipient(message, tokenizer, " ", "to={}")


@frame.mistake(
    "The blanks at the ends of the text are gone: a renderer changes no letter of what was written."
)
def _stripped(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message, strip=True), tokenizer)


@frame.mistake("The stop is missing: without it the next message would belong to this one.")
def _no_stop(message: Message, tokenizer: Any) -> list[int]:
    return _ids(_parts(message)[:-1], tokenizer)
