"""Harmony made visible, token by token: what kind each token is, and what the parts are called.

    viz.harmony_tokens(ids, tokenizer)            # a strip a message, coloured by channel
    viz.anatomy(message)                          # one message, its parts named

The eye behind the strip is tolerant: it colours broken streams too, since those are worth
looking at. What it makes of a token is a guess; `labhelpers.harmony` decides.

Source: the same colours and bars as `labhelpers.viz.conversation`. Limits: a long message shows
its first tokens and says how many more there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from labhelpers.harmony import Message, render_segments
from labhelpers.viz import look
from labhelpers.viz.components import (
    CHANNELS,
    OUTCOMES,
    ROLES,
    Component,
    Mark,
    bar,
    chip,
    escape,
    indent,
)
from labhelpers.viz.conversation import TokenizerLike, piece

_STOPS = ("<|end|>", "<|call|>", "<|return|>")
_STRAY = OUTCOMES["not attempted"]._replace(glyph="")
OUTSIDE = "outside of any message"


class Token(NamedTuple):
    """One token: its text, what stands below it, and whether it is a mark or in a header."""

    text: str
    below: str
    special: bool
    header: bool


@dataclass
class Span:
    """The tokens of one message, or some that belong to none. `role` None: written in them."""

    role: str | None
    stray: bool = False
    tokens: list[Token] = field(default_factory=list)
    words: list[tuple[bool, str]] = field(default_factory=list)  # the header: (mark?, text)

    def _fields(self) -> tuple[str, str, str]:
        """Role, channel and recipient as far as they can be made out."""
        role, channel, recipient, mark = self.role or "", "", "", ""
        text = "".join(f" {t} " if special else t for special, t in self.words)
        for word in text.split():
            if word.startswith("<|"):
                mark = word
            elif mark == "<|channel|>":
                channel, mark = channel or word, ""
            elif word.startswith("to="):
                recipient = word.removeprefix("to=")
            else:
                role = role or word
        return role, channel, recipient

    @property
    def mark(self) -> Mark:
        """Colour and bar."""
        role, channel, _ = self._fields()
        if self.stray:
            return _STRAY
        if role == "assistant":
            return CHANNELS.get(channel, ROLES["assistant"] if not channel else _STRAY)
        return ROLES.get(role, ROLES["tool"])

    @property
    def title(self) -> str:
        """Who speaks, in which channel."""
        role, channel, recipient = self._fields()
        if self.stray:
            return OUTSIDE
        if role and role not in ROLES and recipient:
            return f"tool {role}"
        return f"{role} · {channel}" if channel and role == "assistant" else role or "no role"

    @property
    def after_title(self) -> str:
        """To whom, if it is a call."""
        role, _, recipient = self._fields()
        return f"to {recipient}" if recipient and role == "assistant" else ""


class HarmonyStrip(Component):
    """Messages as strips of tokens; `spans` holds them. `note` is a sentence below."""

    def __init__(
        self, spans: Sequence[Span], most: int, note: str = "", titles: bool = True
    ) -> None:
        self.spans, self.most, self.note, self.titles = list(spans), most, note, titles

    def _left_out(self, span: Span) -> int:
        return max(0, len(span.tokens) - self.most)

    def _shown(self, span: Span) -> tuple[list[Token], list[Token]]:
        """The first tokens and, if some are left out, the last one: a stop tells a lot."""
        if not self._left_out(span):
            return span.tokens, []
        return span.tokens[: self.most - 1], span.tokens[-1:]

    def html(self) -> str:
        below = any(token.below for span in self.spans for token in span.tokens)
        flat = "float:none;width:auto;margin:0"
        rows = []
        for span in self.spans:
            first, last = self._shown(span)
            cells = [_cell(token, span.mark, below) for token in first]
            if last:
                cells.append(f"<span>... {self._left_out(span)} more ...</span>")
                cells += [_cell(token, span.mark, below) for token in last]
            after = f" {escape(span.after_title)}" if span.after_title else ""
            title = (
                f'<dt style="{flat};font-weight:normal">{chip(span.title, span.mark)}{after}</dt>'
                if self.titles
                else ""
            )
            rows.append(
                f'<div style="{bar(span.mark)}">{title}'
                f'<dd style="{flat};padding:3px 0 0 0">{" ".join(cells)}</dd></div>'
            )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f'<dl style="display:block;margin:0">{"".join(rows)}</dl>{note}'

    def plain(self) -> str:
        lines = []
        for span in self.spans:
            first, last = self._shown(span)
            words = [" ".join(filter(None, (t.text, t.below))) for t in first]
            if last:
                words.append(f"... {self._left_out(span)} more ...")
                words += [" ".join(filter(None, (t.text, t.below))) for t in last]
            if self.titles:
                lines.append(" ".join(filter(None, (span.title, span.after_title))))
            lines.append(indent(" | ".join(words)) if self.titles else " | ".join(words))
        return "\n".join([*lines, *filter(None, [self.note])])


def harmony_tokens(
    ids: Iterable[int],
    tokenizer: TokenizerLike,
    role: str | None = None,
    ids_below: bool = False,
    loss: Sequence[bool] | None = None,
    most: int = 48,
    titles: bool = True,
) -> HarmonyStrip:
    """Ids as messages, each token coloured by what it is: mark, header, or text of a channel.

    role: "assistant" for what a model wrote, whose header the prompt had opened; None for a whole
    prompt. ids_below writes each id under its token, loss a check mark under those that are
    trained. most: tokens of one message that are shown. titles: say above each message who speaks
    in which channel. Raises ValueError if loss does not fit.
    """
    ids = [int(i) for i in ids]
    if loss is not None and len(loss) != len(ids):
        raise ValueError(f"there are {len(ids)} tokens and {len(loss)} entries of loss")
    spans: list[Span] = [Span(role)] if role else []
    in_header, between = role is not None, role is None
    for place, token_id in enumerate(ids):
        special = tokenizer.special_name(token_id)
        if special == "<|start|>" and not (in_header and spans and not spans[-1].tokens):
            spans.append(Span(None))
            in_header, between = True, False
        elif between and special != "<|start|>":
            spans.append(Span(None, stray=True))
            between = False
        text = piece(token_id, tokenizer)
        below = str(token_id) if ids_below else ""
        if loss is not None:
            below = "✓" if loss[place] else ""
        span = spans[-1]
        inside = in_header and special not in ("<|message|>", *_STOPS)
        span.tokens.append(Token(text, below, special is not None, inside))
        if inside and special != "<|start|>":
            raw = tokenizer.decode_bytes([token_id]).decode("utf-8", "replace")
            span.words.append((special is not None, special or raw))
        if special == "<|message|>":
            in_header = False
        elif special in _STOPS:
            in_header, between = False, True
    note = ""
    if loss is not None:
        note = f"✓ {sum(loss)} of {len(ids)} tokens are trained."
    return HarmonyStrip(spans, most, note, titles)


def _cell(token: Token, mark: Mark, below: bool) -> str:
    """A token's box: marks square and dark, header words outlined, text filled."""
    kinds = look.palette()["concepts"]["token"]
    if token.special:
        colours = kinds["special"]
        box = f"background:{colours['background']};color:{colours['text']};"
        border = f"1px solid {colours['border']}"
    else:
        fill = look.tone(mark.hue, "fill")
        box = f"background:{fill};color:{look.neutral('text')};"
        if token.header:  # nothing but the outline: it must not outshine the text on a dark page
            box = "background:transparent;color:inherit;"
        border = f"1px {'dashed' if token.header else 'solid'} {look.tone(mark.hue, 'line')}"
    box += f"border:{border};border-radius:{0 if token.special else 4}px;"
    under = f'<small style="display:block">{escape(token.below)}</small>' if below else ""
    return (
        '<span style="display:inline-block;text-align:center;vertical-align:top;margin:2px 1px">'
        f'<code style="{box}padding:1px 3px;white-space:pre">{escape(token.text)}</code> {under}'
        "</span>"
    )


# -- one message, its parts named -------------------------------------------------------------


class Anatomy(Component):
    """Parts of a message, each over its name. `parts` holds (text, name, is it a mark)."""

    def __init__(self, parts: Sequence[tuple[str, str, bool]], mark: Mark) -> None:
        self.parts, self.mark = list(parts), mark

    def html(self) -> str:
        cells = []
        for text, name, special in self.parts:
            header = not special and name != "text"
            cell = _cell(Token(text, name, special, header), self.mark, below=True)
            cells.append(cell.replace("margin:2px 1px", "margin:2px 5px"))
        return f'<div style="{bar(self.mark)}">{" ".join(cells)}</div>'

    def plain(self) -> str:
        return " | ".join(f"{text} {name}" for text, name, _ in self.parts)


_MARKS = {
    "<|start|>": "begins",
    "<|channel|>": "channel comes",
    "<|constrain|>": "format comes",
    "<|message|>": "text comes",
    "<|end|>": "ends",
    "<|call|>": "ends: tool's turn",
    "<|return|>": "ends: all done",
}


def anatomy(message: Message, for_training: bool = False) -> Anatomy:
    """One message with the names of its parts, in the order in which it is rendered."""
    parts: list[tuple[str, str, bool]] = []
    before = ""
    for segment in render_segments([message], for_training=for_training):
        if segment.special:
            parts.append((segment.text, _MARKS[segment.text], True))
        else:
            name = {
                "<|start|>": "who speaks",
                "<|channel|>": "channel",
                "<|constrain|>": "format",
                "<|message|>": "text",
            }.get(before, "content type")
            if segment.text.startswith(" to=") and before != "<|message|>":
                name = "to whom"
            elif not segment.text.strip():
                name = "a space"
            parts.append((segment.text.replace(" ", "␣").replace("\n", "⏎"), name, False))
        before = segment.text if segment.special else ""
    key = message.channel if message.role == "assistant" else None
    return Anatomy(parts, CHANNELS[key] if key in CHANNELS else ROLES[message.role])
