"""Conversations and tokens made visible: the message view, the token strip, the live stream.

Each message has one chip (role and channel) and a bar on its left whose line style tells the
channel too: analysis dotted and folded, commentary double, final solid. A special token is white
on dark with square corners, an ordinary one is round; space is written ␣ and newline ⏎.

gpt-oss's choice that this shows: the model thinks in one channel and answers in another, and
only the final channel is for the user.

Source: `labhelpers.harmony` for the parts of a message. Limits: text only; a token that is half
a letter is shown as ·.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from labhelpers.harmony import Conversation, DeveloperContent, Message, SystemContent
from labhelpers.harmony.render import content_text
from labhelpers.viz import look
from labhelpers.viz.components import (
    CHANNELS,
    ROLES,
    Component,
    bar,
    chip,
    code,
    escape,
    indent,
)


class TokenizerLike(Protocol):
    """What is needed of a tokenizer (labhelpers.tokenizer.Tokenizer has it)."""

    def encode(self, text: str) -> list[int]: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def special_name(self, token_id: int) -> str | None: ...


class MessageView(Component):
    """One message. `tokens` is the length of a reasoning text if it is known.

    `folded` hides the text behind its summary line, as analysis is; the plain form shows all.
    """

    def __init__(self, message: Message, tokens: int | None = None, folded: bool = True) -> None:
        self.message, self.tokens = message, tokens
        self.is_reasoning = message.channel == "analysis" and message.role == "assistant"
        self.folded = folded and self.is_reasoning and message.recipient is None
        key = message.channel if message.role == "assistant" else None
        self.mark = CHANNELS[key] if key in CHANNELS else ROLES[message.role]

    def title(self) -> str:
        """Role, channel, and the recipient of a call or the name of a tool."""
        return " ".join(filter(None, (self._title(), self._after_title())))

    def _title(self) -> str:
        channel = self.message.channel
        shown = self.message.role == "assistant" and channel is not None
        return f"{self.message.role} · {channel}" if shown else self.message.role

    def _after_title(self) -> str:
        if self.message.role == "tool":
            return self.message.name or ""
        return f"to {self.message.recipient}" if self.message.recipient else ""

    def _summary(self) -> str:
        if self.tokens is None:
            return "reasoning"
        return f"{self.tokens} token{'s' * (self.tokens != 1)} of reasoning"

    @property
    def text(self) -> str:
        """What the model reads of the content, settings written out."""
        functions = any(isinstance(p, DeveloperContent) and p.functions for p in self.message.parts)
        return "".join(
            content_text(p, functions) if isinstance(p, SystemContent | DeveloperContent) else p
            for p in self.message.parts
        )

    def html(self) -> str:
        message = self.message
        is_code = message.role == "assistant" and message.recipient is not None
        body = code(self.text) if is_code else escape(self.text)
        if self.folded:
            body = f"<details><summary>{self._summary()}</summary>{body}</details>"
        elif self.is_reasoning and not is_code:
            body = f"<small>{self._summary()}</small><br>{body}"
        after = f" {escape(self._after_title())}" if self._after_title() else ""
        # JupyterLab floats dt and dd, which takes the view apart: undone here.
        flat = "float:none;width:auto;margin:0"
        return (
            f'<div style="{bar(self.mark)}"><dt style="{flat};font-weight:normal">'
            f"{chip(self._title(), self.mark)}{after}</dt>"
            f'<dd style="{flat};padding:3px 0 0 0">{body}</dd></div>'
        )

    def plain(self) -> str:
        head = self.title()
        if self.is_reasoning and self.message.recipient is None:
            head += f" ({self._summary()})"
        return f"{head}\n{indent(self.text)}"


class ConversationView(Component):
    """Messages one below the other."""

    def __init__(self, messages: Sequence[MessageView], note: str = "") -> None:
        self.messages, self.note = list(messages), note

    def html(self) -> str:
        inner = "".join(m.html() for m in self.messages)
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f'<dl style="display:block;margin:0">{inner}</dl>{note}'

    def plain(self) -> str:
        return "\n".join([*(m.plain() for m in self.messages), *filter(None, [self.note])])


def conversation(
    messages: Conversation | Iterable[Message],
    tokenizer: TokenizerLike | None = None,
    open_analysis: bool = False,
) -> ConversationView:
    """The message view. With a tokenizer, reasoning says how many tokens it has.

    open_analysis unfolds the reasoning, where reasoning is the lesson.
    """
    views = []
    for message in messages:
        count = len(tokenizer.encode(message.text)) if tokenizer else None
        views.append(MessageView(message, count, folded=not open_analysis))
    return ConversationView(views)


class TokenStrip(Component):
    """Tokens in a row, each over its id. `items` holds (text, id, is it special)."""

    def __init__(self, items: Sequence[tuple[str, int, bool]], left_out: int = 0) -> None:
        self.items, self.left_out = list(items), left_out

    def html(self) -> str:
        styles = look.palette()["concepts"]["token"]
        cells, ordinary = [], 0
        for text, token_id, special in self.items:
            kind = styles["special"] if special else styles["ordinary"]
            background = kind["background"]
            if not special:  # two tints in turn, so that neighbours do not run together
                background, ordinary = background[ordinary % 2], ordinary + 1
            box = (
                f"background:{background};color:{kind['text']};border:1px solid {kind['border']};"
                f"border-radius:{0 if special else 4}px;padding:1px 4px;white-space:pre"
            )
            cells.append(
                '<span style="display:inline-block;text-align:center;margin:2px 3px">'
                f'<code style="{box}">{escape(text)}</code> '
                f'<small style="display:block">{token_id}</small></span>'
            )
        more = f" <span>{self._more()}</span>" if self.left_out else ""
        return f'<div style="max-width:740px">{" ".join(cells)}{more}</div>'

    def _more(self) -> str:
        return f"... {self.left_out} more"

    def plain(self) -> str:
        words = [f"{text} {token_id}" for text, token_id, _ in self.items]
        return " | ".join(words + ([self._more()] if self.left_out else []))


def tokens(ids: Iterable[int], tokenizer: TokenizerLike, limit: int = 120) -> TokenStrip:
    """The token strip of ids; after `limit` tokens it says how many more there are."""
    ids = [int(i) for i in ids]
    items = [(piece(i, tokenizer), i, tokenizer.special_name(i) is not None) for i in ids[:limit]]
    return TokenStrip(items, left_out=max(0, len(ids) - limit))


def piece(token_id: int, tokenizer: TokenizerLike) -> str:
    """One token as text: ␣ for space, ⏎ for newline, · for bytes that are no whole letter."""
    name = tokenizer.special_name(token_id)
    if name is not None:
        return name
    text = tokenizer.decode_bytes([token_id]).decode("utf-8", "replace").replace("\ufffd", "·")
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
