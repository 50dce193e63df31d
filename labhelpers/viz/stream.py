"""Watch a model write: each token appears as it comes, in the colours of its channel.

    reply = viz.stream(model, conversation, tokenizer)     # returns when the turn is over
    reply.final, reply.analysis, reply.ids

Ids are read by harmony's strict parser, so what is analysis and what is final is decided by the
model's own special tokens, not by searching its text.

Limits: with LABHELPERS_STATIC=1 (set when notebooks are run by machine, and under pytest) the
conversation is displayed once, at the end: a stored output must not hold display updates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from labhelpers.harmony import (
    Conversation,
    HarmonyError,
    Message,
    StreamParser,
    render_for_completion,
)
from labhelpers.viz.components import in_notebook, show
from labhelpers.viz.conversation import ConversationView, MessageView

if TYPE_CHECKING:
    from labhelpers.model import GptOss
    from labhelpers.tokenizer import Tokenizer

_SECONDS_BETWEEN_UPDATES = 0.05  # a page redraws 20 times a second, whatever the model does


def is_static() -> bool:
    """True where an output must come once: LABHELPERS_STATIC=1, or (unless that is 0) pytest."""
    wanted = os.environ.get("LABHELPERS_STATIC", "")
    return wanted != "0" if wanted else "PYTEST_CURRENT_TEST" in os.environ


class Completion:
    """What a model wrote: `ids`, `messages`, and `error` if it broke the format.

    `complete` tells whether it ended with a stop token (and not at max_new_tokens).
    """

    def __init__(self, tokenizer: Tokenizer, role: str | None = "assistant") -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.error = ""
        self.complete = False
        self._parser = StreamParser(tokenizer, role)
        self.counts: list[int] = []  # text tokens of each message begun so far
        self._text = ""  # of the message now being written

    def push(self, token_id: int) -> str:
        """Take one id; returns the text that it brought. Raises HarmonyError."""
        self.ids.append(token_id)
        was_inside = self._parser.header is not None
        delta = self._parser.push(token_id)
        if not was_inside and self._parser.header is not None:
            self.counts.append(0)
            self._text = ""
        elif was_inside and delta.finished is None:
            self.counts[-1] += 1
            self._text += delta.text
        return delta.text

    @property
    def messages(self) -> list[Message]:
        """The messages so far, the unfinished one included."""
        done, header = list(self._parser.messages), self._parser.header
        if header is not None:
            done.append(Message(
                header.role, self._text, header.channel, header.recipient,
                header.content_type, header.name,
            ))  # fmt: skip
        return done

    def text_of(self, channel: str) -> str:
        """All text of a channel that calls nobody, joined by newlines."""
        found = [m.text for m in self.messages if m.channel == channel and not m.recipient]
        return "\n".join(found)

    @property
    def analysis(self) -> str:
        """The reasoning."""
        return self.text_of("analysis")

    @property
    def final(self) -> str:
        """The answer."""
        return self.text_of("final")

    def view(self, before: Sequence[Message] = (), open_analysis: bool = True) -> ConversationView:
        """Messages to show: some of those before, then what was written."""
        views = [MessageView(m) for m in before]
        for message, count in zip(self.messages, self.counts, strict=False):
            views.append(MessageView(message, count, folded=not open_analysis))
        return ConversationView(views, self._note())

    def _note(self) -> str:
        if self.error:
            return f"The model broke the harmony format here: {self.error}"
        return ""

    def __repr__(self) -> str:
        name = self.tokenizer.special_name(self.ids[-1]) if self.ids else None
        end = f"stopped at {name}" if self.complete and name else "not finished"
        return f"{len(self.ids)} tokens, {end}"


def stream(
    model: GptOss,
    prompt: Conversation | Sequence[Message] | Sequence[int],
    tokenizer: Tokenizer,
    open_analysis: bool = True,
    show_prompt: bool = True,
    static: bool | None = None,
    **options: Any,
) -> Completion:
    """Let the model answer a conversation (or rendered ids) and show it while it writes.

    show_prompt puts the user's last message above. options go to `model.generate`
    (max_new_tokens, temperature, seed ...). static forces one display at the end (True) or the
    live view (False). A reply that breaks the harmony format ends there; `error` says how.
    Raises ValueError (HarmonyError for a prompt that is no conversation).
    """
    items: list[Any] = list(prompt)
    messages = [m for m in items if isinstance(m, Message)]
    if messages or any(isinstance(i, str | dict) for i in items):
        ids = render_for_completion(items, tokenizer)
    else:
        ids = [int(i) for i in items]
    before = [m for m in messages if m.role == "user"][-1:] if show_prompt else []
    reply = Completion(tokenizer)
    static = is_static() if static is None else static
    source = model.generate(ids, **options)
    if static:
        for _ in _read(source, reply):
            pass
        show(reply.view(before, open_analysis))
    elif in_notebook():
        _show_live(source, reply, before, open_analysis)
    else:
        _print_live(source, reply, before)
    name = tokenizer.special_name(reply.ids[-1]) if reply.ids else None
    reply.complete = not reply.error and name in ("<|return|>", "<|call|>", "<|endoftext|>")
    return reply


def _read(source: Iterable[int], reply: Completion) -> Iterable[str]:
    """Feed the reply; a break of the format ends the reading."""
    try:
        for token_id in source:
            yield reply.push(int(token_id))
    except HarmonyError as error:
        reply.error = str(error)


def _show_live(
    source: Iterable[int], reply: Completion, before: list[Message], open_analysis: bool
) -> None:
    from IPython.display import display

    handle = display(reply.view(before, open_analysis), display_id=True)
    shown_at = 0.0
    for _ in _read(source, reply):
        if time.monotonic() - shown_at >= _SECONDS_BETWEEN_UPDATES:
            handle.update(reply.view(before, open_analysis))
            shown_at = time.monotonic()
    handle.update(reply.view(before, open_analysis))


def _print_live(source: Iterable[int], reply: Completion, before: list[Message]) -> None:
    """The terminal's form: a message's title when it begins, then its text as it comes."""
    for message in before:
        print(MessageView(message).plain())
    begun = 0
    for text in _read(source, reply):
        if len(reply.counts) > begun:
            begun = len(reply.counts)
            print("\n" * (begun > 1) + MessageView(reply.messages[-1]).title())
            print(end="    ")
        print(text.replace("\n", "\n    "), end="", flush=True)
    print()
    if reply.error:
        print(reply.view().note)
