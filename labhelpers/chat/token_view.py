"""Tokens as the model sees them: special, header, and text in the colour of its channel.

    show_tokens(chat)             # the last prompt and reply

The idea   what a chat shows as four bubbles is one line of tokens for the model. Special ones
           are white on dark and square; header words are hollow; text has its channel's colour.
           Whoever points at a token sees its id; the ids also stand below, as plain text.
gpt-oss    structure is made of special tokens alone: "<|end|>" typed by a user shows up as
           several ordinary tokens here.
Limits     the reading is a simple one (a broken stream gets some colour, never an error); long
           prompts are shown from their end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from labhelpers.harmony import CHANNELS as CHANNEL_NAMES
from labhelpers.harmony import ROLES as ROLE_NAMES
from labhelpers.viz import look
from labhelpers.viz.components import CHANNELS, ROLES, Component
from labhelpers.viz.conversation import TokenizerLike, piece

if TYPE_CHECKING:
    from labhelpers.chat.session import Chat

MOST_TOKENS = 600


class Token(NamedTuple):
    """kind: "special", "header", or "text"; `owner` of a text: its channel, else its role."""

    id: int
    shown: str
    kind: str
    owner: str = ""

    @property
    def label(self) -> str:
        """The kind in words: "text of analysis"."""
        return f"text of {self.owner}" if self.kind == "text" and self.owner else self.kind


def read_tokens(
    ids: Iterable[int], tokenizer: TokenizerLike, role: str | None = None
) -> list[Token]:
    """Every id with its kind. `role`: whose header is open at the start; None: none is."""
    out: list[Token] = []
    header = role or ""
    in_header = role is not None
    owner = ""
    for token_id in ids:
        shown, name = piece(token_id, tokenizer), tokenizer.special_name(token_id)
        if name is None:
            kind = "header" if in_header else "text"
            out.append(Token(token_id, shown, kind, "" if in_header else owner))
            header += tokenizer.decode_bytes([token_id]).decode("utf-8", "replace")
            continue
        out.append(Token(token_id, shown, "special"))
        if name == "<|start|>":
            in_header, header = True, ""
        elif name == "<|message|>":
            in_header, owner = False, _owner(header)
        elif name in ("<|end|>", "<|call|>", "<|return|>"):
            owner = ""
        else:
            header += name
    return out


def _owner(header: str) -> str:
    """Whose text follows a header: the assistant's channel, else the role."""
    author, _, after = header.partition("<|channel|>")
    role = author.split(" ")[0]
    if role not in ROLE_NAMES:
        return "tool"
    channel = next((c for c in CHANNEL_NAMES if after.startswith(c)), "")
    return channel if role == "assistant" and channel else role


class TokenView(Component):
    """Tokens in reading order, with a legend; the plain form names the kind of every run."""

    def __init__(self, tokens: Sequence[Token], left_out: int = 0, note: str = "") -> None:
        self.tokens, self.left_out, self.note = list(tokens), left_out, note

    def html(self) -> str:
        if not self.tokens:
            return f"<p>{escape(self.note)}</p>"
        spans = "".join(
            f'<span title="{token.id} · {escape(token.label)}" style="{_style(token)}">'
            f"{escape(token.shown)}</span>" + ("<wbr>" if token.kind == "text" else "")
            for token in self.tokens
        )
        more = f"<small>{self._more()}</small> " if self.left_out else ""
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return (
            f'<div style="max-width:740px;line-height:2">{self._legend()}'
            f'<div style="overflow-wrap:anywhere">{more}<code style="background:none">{spans}'
            "</code></div><details><summary>the same as plain text, with ids</summary>"
            f'<pre style="white-space:pre-wrap;line-height:1.5;margin:4px 0">'
            f"{escape(self.plain())}</pre></details>{note}</div>"
        )

    def _legend(self) -> str:
        kinds: list[Token] = []
        for token in self.tokens:
            if token.label not in [k.label for k in kinds]:
                kinds.append(token)
        chips = " ".join(f'<span style="{_style(k)}">{escape(k.label)}</span>' for k in kinds)
        return f"<div><small>{len(self.tokens)} tokens: {chips}</small></div>"

    def _more(self) -> str:
        return f"{self.left_out} tokens before these ..."

    def plain(self) -> str:
        lines = [self._more()] if self.left_out else []
        label, run = "", ""
        for token in self.tokens:
            if token.label != label or token.kind == "special":
                lines += [run] if run else []
                label, run = token.label, f"{token.label}: "
            else:
                run += " | "
            run += f"{token.shown} {token.id}"
        lines += [run] if run else []
        return "\n".join([*lines, *filter(None, [self.note])])


def _style(token: Token) -> str:
    box = "padding:1px 3px;margin:0 1px;white-space:pre-wrap;"
    border = look.palette()["concepts"]["token"]["special"]["border"]
    if token.kind == "special":
        special = look.palette()["concepts"]["token"]["special"]
        colours = f"background:{special['background']};color:{special['text']}"
        return f"{box}{colours};border:1px solid {border};border-radius:0"
    if token.kind == "header":
        return f"{box}border:1px solid {border};border-radius:4px"
    mark = CHANNELS.get(token.owner) or ROLES.get(token.owner) or ROLES["system"]
    line = look.tone(mark.hue, "line")
    style = f"{box}border-bottom:3px {mark.bar} {line};border-radius:3px"
    if mark.hollow:
        return style
    return f"{style};background:{look.tone(mark.hue, 'fill')};color:{look.neutral('text')}"


def show_tokens(chat: Chat, prompt: bool = True, limit: int = MOST_TOKENS) -> TokenView:
    """The tokens of the chat's last turn: the prompt's, unless left out, and the reply's."""
    tokenizer = chat.backend.tokenizer
    if tokenizer is None:
        return TokenView([], note="This server sends text: its tokens are not to be seen.")
    ids = (chat.prompt if prompt else []) + chat.ids
    if not ids:
        return TokenView([], note="No tokens yet: say something first.")
    tokens = read_tokens(ids, tokenizer, None if prompt else "assistant")
    left_out = max(0, len(tokens) - limit)
    return TokenView(tokens[left_out:], left_out)
