"""What a chat needs of a model: one method that streams the next turn of a conversation.

    for item in backend.stream(conversation, options):
        ...                       # Piece, Piece, Piece ... and at the end one Ending

The idea   a `Piece` is what just came: a channel and new text. Whether ids were sampled here or
           JSON came over a wire is the backend's business, so the same `Chat` talks to nano, to
           a transformers model and to a server.
gpt-oss    a turn may hold several messages (reasoning, a call, an answer), each in a channel
           and perhaps to a recipient; so a piece says where it belongs, not only what it says.
Limits     text only, one conversation at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, NamedTuple, Protocol

from labhelpers.harmony import Conversation, Message

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer


class BackendError(RuntimeError):
    """The model could not be asked: no connection, a refusal, an answer that is no answer."""


class Piece(NamedTuple):
    """New text of a message. `finished` is the whole message if it has just ended.

    `ids` are the tokens that brought it (none from a server). `note` is a remark of the harness
    about the turn, never the model's own words. `partial`: the message was cut off.
    """

    channel: str | None
    recipient: str | None
    text: str
    finished: Message | None = None
    ids: tuple[int, ...] = ()
    note: str = ""
    partial: bool = False


class Ending(NamedTuple):
    """Why a turn is over, and what was noticed on the way.

    reason: "return" (answered), "call" (a tool is wanted), "length" (max_new_tokens), "stopped"
    (by the reader), "endoftext", or "lost" (the connection closed early). `faults` are the
    parser's, `messages` its reading of the whole turn (None: as the pieces said);
    `prompt_tokens` and `reused` (those taken from the KV cache) are None if unknown.
    """

    reason: str
    faults: tuple[object, ...] = ()
    prompt_tokens: int | None = None
    reused: int | None = None
    note: str = ""
    messages: tuple[Message, ...] | None = None


@dataclass(frozen=True)
class Options:
    """How to decode. temperature 0 is greedy; `stopped` is set when the reader wants no more.

    reasoning_budget: analysis tokens after which the final channel is opened for the model;
    effort: for a server, which writes its own system message.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    reasoning_budget: int | None = None
    effort: str = "medium"
    stopped: Event = field(default_factory=Event, compare=False)


class Backend(Protocol):
    """Anything that can go on with a conversation."""

    name: str

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None if it sends text: then there are no tokens to see or to force."""
        ...

    def stream(self, conversation: Conversation, options: Options) -> Iterator[Piece | Ending]:
        """Pieces of the assistant's next turn, then its Ending."""
        ...

    def interrupt(self) -> None:
        """Called by another thread after `stopped` was set: wake up if you wait for something."""
        ...
