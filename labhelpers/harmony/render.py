"""A conversation as the tokens that gpt-oss reads.

Every message is `<|start|>` role ` to=recipient` `<|channel|>`channel ` `type `<|message|>` text
and a stop: `<|call|>` after a call, `<|return|>` after the answer being trained, else `<|end|>`.

gpt-oss's choice: past reasoning is dropped. By OpenAI's written rule, everything in the analysis
channel before the last final goes, and after it everything stays, so that the model still knows
why it made a call whose result has just come. `compat="openai-harmony"` follows that library's
0.0.8 instead: it drops only before the first final, and nothing if the last assistant message is
no final (even for training).

The rule that keeps users from forging messages: `render_segments` yields either a special token's
name or a text; texts are always encoded as ordinary text, piece by piece.

Source: OpenAI's harmony format guide, its guide to raw reasoning, and openai-harmony 0.0.8.
Limits: a model usually writes the recipient behind the channel; re-rendering puts it in front.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

from .messages import (
    Content,
    DeveloperContent,
    HarmonyError,
    Message,
    SystemContent,
    check_header,
)
from .system_text import developer_text, system_text

Compat = Literal["openai-harmony"] | None


class Encoder(Protocol):
    """What render needs of a tokenizer (labhelpers.tokenizer.Tokenizer has it)."""

    def encode(self, text: str) -> list[int]: ...
    def encode_cached(self, text: str) -> tuple[int, ...]: ...
    def special_id(self, name: str) -> int: ...


class Segment(NamedTuple):
    """A special token's name or a text, with what the trainer and the pictures want to know."""

    text: str
    special: bool
    message: int  # index in the conversation; its length for an opened answer
    role: str
    generated: bool  # written by the model in the last turn: what training should predict


def render(
    conversation: Iterable[Message],
    tokenizer: Encoder,
    for_training: bool = False,
    compat: Compat = None,
) -> list[int]:
    """Ids of the whole conversation.

    With `for_training` a final at the end stops with `<|return|>`, and the last turn keeps its
    reasoning. Raises HarmonyError for what harmony cannot express.
    """
    return assemble(render_segments(conversation, for_training, compat), tokenizer)[0]


def render_for_completion(
    conversation: Iterable[Message], tokenizer: Encoder, compat: Compat = None
) -> list[int]:
    """Ids of the conversation and an opened answer, `<|start|>assistant`: the model's prompt."""
    segments = render_segments(conversation, compat=compat, completion=True)
    return assemble(segments, tokenizer)[0]


def render_with_mask(
    conversation: Iterable[Message], tokenizer: Encoder
) -> tuple[list[int], list[bool]]:
    """Ids for training, and for each id whether the model has to produce it in the last turn."""
    return assemble(render_segments(conversation, for_training=True), tokenizer)


def assemble(segments: Iterable[Segment], tokenizer: Encoder) -> tuple[list[int], list[bool]]:
    """Ids of segments, and the mask of generated ids. Each segment is encoded by itself."""
    ids: list[int] = []
    mask: list[bool] = []
    for text, special, _, role, generated in segments:
        if special:
            ids.append(tokenizer.special_id(text))
            mask.append(generated)
            continue
        # Roles, channels and system texts return in every conversation; other texts do not.
        cached = role == "system" or len(text) <= 24
        piece = tokenizer.encode_cached(text) if cached else tokenizer.encode(text)
        ids.extend(piece)
        mask.extend([generated] * len(piece))
    return ids, mask


def render_segments(
    conversation: Iterable[Message],
    for_training: bool = False,
    compat: Compat = None,
    completion: bool = False,
) -> list[Segment]:
    """The conversation as special tokens and texts, in order. `completion` opens an answer.

    Raises HarmonyError for what harmony cannot express.
    """
    if compat not in (None, "openai-harmony"):
        raise HarmonyError(f"compat is {compat!r}; use None or 'openai-harmony'")
    messages = tuple(conversation)
    for message in messages:
        if not isinstance(message, Message):
            raise HarmonyError(
                f"a conversation holds Message objects, got a {type(message).__name__}; "
                "labhelpers.harmony.chat.conversation_from_chat reads OpenAI-style dicts"
            )
    has_functions = any(
        part.functions
        for message in messages
        if message.role == "developer"
        for part in message.parts
        if isinstance(part, DeveloperContent)
    )
    turn = last_turn_start(messages)
    out: list[Segment] = []
    # The model writes on by itself after <|end|>; after <|call|> the harness opens the answer.
    runs_on = False
    for i in kept_messages(messages, for_training, compat):
        message = messages[i]
        check_header(message)
        if compat is None and message.role == "tool" and message.recipient is None:
            raise HarmonyError(
                f"the result of {message.name} has no recipient: without to=assistant no parser "
                "can tell it from an unknown role (Message.tool sets it)"
            )
        returns = for_training and i == len(messages) - 1 and _is_final(message)
        stop = "<|return|>" if returns else _stop(message)
        generated = message.role == "assistant" and i >= turn
        out += _message_segments(message, i, has_functions, stop, generated, runs_on)
        runs_on = generated and stop == "<|end|>"
    if completion:
        n = len(messages)
        out.append(Segment("<|start|>", True, n, "assistant", False))
        out.append(Segment("assistant", False, n, "assistant", False))
    return out


def kept_messages(
    messages: tuple[Message, ...], for_training: bool = False, compat: Compat = None
) -> list[int]:
    """Indices of the messages that are rendered: all but the reasoning that is over."""
    everything = list(range(len(messages)))
    if compat == "openai-harmony":
        last = next((m for m in reversed(messages) if m.role == "assistant"), None)
        if last is None or last.channel != "final":
            return everything
        over = next(i for i, m in enumerate(messages) if m.channel == "final")
    else:
        # The answer being trained does not end the reasoning that leads to it.
        past = messages[:-1] if for_training else messages
        over = max((i for i, m in enumerate(past) if _is_final(m)), default=0)
    return [i for i in everything if i >= over or messages[i].channel != "analysis"]


def last_turn_start(messages: tuple[Message, ...]) -> int:
    """Index of the first message of the last turn: behind the last user's message or answer."""
    for i in range(len(messages) - 1, -1, -1):
        ends_earlier_turn = _is_final(messages[i]) and i < len(messages) - 1
        if messages[i].role not in ("assistant", "tool") or ends_earlier_turn:
            return i + 1
    return 0


def _is_final(message: Message) -> bool:
    return message.role == "assistant" and message.channel == "final"


def _stop(message: Message) -> str:
    """`<|call|>` hands over to a tool, `<|end|>` lets the conversation go on."""
    calls = message.role == "assistant" and message.recipient is not None
    return "<|call|>" if calls else "<|end|>"


def _message_segments(
    message: Message, i: int, has_functions: bool, stop: str, generated: bool, runs_on: bool
) -> list[Segment]:
    """One message. Its `<|start|>assistant` counts as generated only if the model `runs_on`."""
    role, constrain = message.role, "<|constrain|>"
    # A tool is known by its name alone; others by their role, and a name behind it if they have.
    author = message.name if role == "tool" else role
    if message.name and role != "tool":
        author = f"{role}:{message.name}"
    opener = generated and runs_on
    out = [
        Segment("<|start|>", True, i, role, opener),
        Segment(str(author), False, i, role, opener),
    ]

    def text(piece: str) -> None:
        if piece:
            out.append(Segment(piece, False, i, role, generated))

    def mark(name: str) -> None:
        out.append(Segment(name, True, i, role, generated))

    if message.recipient not in (None, "all"):
        text(f" to={message.recipient}")
    if message.channel is not None:
        mark("<|channel|>")
        text(message.channel)
    if message.content_type is not None:
        if message.content_type.startswith(constrain):
            text(" ")
            mark(constrain)
            text(message.content_type.removeprefix(constrain))
        else:
            text(f" {message.content_type}")
    mark("<|message|>")
    for part in message.parts:
        text(content_text(part, has_functions))
    mark(stop)
    return out


def content_text(part: Content, has_functions: bool = False) -> str:
    """The text of one content part."""
    if isinstance(part, SystemContent):
        return system_text(part, has_functions)
    if isinstance(part, DeveloperContent):
        return developer_text(part)
    return part
