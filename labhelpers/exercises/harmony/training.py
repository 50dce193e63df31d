"""Exercise on training: which messages of a sample the model has to produce.

Source of the solution: the `generated` of `labhelpers.harmony.render_segments`; a test holds
them equal.
"""

from __future__ import annotations

from typing import Any

from labhelpers.exercises.core import Case, exercise
from labhelpers.harmony import Message

_CALL = Message.call("functions.now", "{}")
_RESULT = Message.tool("functions.now", "12:30")
_SETTINGS = [Message.system(), Message.developer("Be brief.")]
_FIRST = [Message.user("Hi"), Message.final("Hello.")]


@exercise(
    "4.3",
    minutes=5,
    difficulty=1,
    cases=[
        Case(
            "one turn",
            lambda: (
                [*_SETTINGS, Message.user("2+2?"), Message.analysis("4"), Message.final("4")],
            ),
        ),
        Case(
            "a turn before, and a call with its result",
            lambda: (
                [
                    *_SETTINGS,
                    *_FIRST,
                    Message.user("Time?"),
                    Message.analysis("Ask."),
                    _CALL,
                    _RESULT,
                    Message.final("12:30"),
                ],
            ),
        ),
        Case(
            "a turn that was broken off before its answer",
            lambda: (
                [
                    *_FIRST,
                    Message.user("Time?"),
                    Message.analysis("Ask."),
                    Message.user("Never mind. 2+2?"),
                    Message.analysis("4"),
                    Message.final("4"),
                ],
            ),
        ),
        Case("a call at the end", lambda: ([*_SETTINGS, *_FIRST, Message.user("Time?"), _CALL],)),
    ],  # fmt: skip
    hints=(
        "The sample is for the last turn. It begins behind the last user's message; what the "
        "assistant said before that is context, like the user's words.",
        'Find the index of the last message with role "user". A message counts if it stands '
        'behind it and its role is "assistant"; a tool\'s result was not written by the model.',
    ),
)
def trained(messages: list[Message]) -> list[bool]:
    """A list with a bool for each message: does the loss of this sample count it?"""
    last_user = max(i for i, m in enumerate(messages) if m.role == "user")
    return [i > last_user and m.role == "assistant" for i, m in enumerate(messages)]


@trained.mistake(
    "Answers of earlier turns are trained too. Their reasoning is gone from the text, so the "
    "model would learn to answer without thinking."
)
def _every_answer(messages: list[Message]) -> list[bool]:
    return [m.role == "assistant" for m in messages]


@trained.mistake(
    "Everything since the last earlier final is trained. A turn may have been broken off without "
    "one: the last turn begins behind the last user."
)
def _since_final(messages: list[Message]) -> list[bool]:
    finals = [i for i, m in enumerate(messages[:-1]) if m.channel == "final"]
    start = max(finals, default=-1)
    return [i > start and m.role == "assistant" for i, m in enumerate(messages)]


@trained.mistake("Calls are left out: a model that is to call has to learn how.")
def _no_calls(messages: list[Message]) -> list[bool]:
    own = trained.function(messages)
    return [o and not m.recipient for m, o in zip(messages, own, strict=True)]


@trained.mistake(
    "These are the places of the trained messages. Asked is a bool for every message, in order."
)
def _places(messages: list[Message]) -> list[Any]:
    return [i for i, own in enumerate(trained.function(messages)) if own]


@trained.mistake("The list covers only the last turn: messages before it need a `False` each.")
def _short(messages: list[Message]) -> list[bool]:
    last_user = max(i for i, m in enumerate(messages) if m.role == "user")
    return trained.function(messages)[last_user:]


@trained.mistake("The list covers only the last turn: messages before it need a `False` each.")
def _shorter(messages: list[Message]) -> list[bool]:
    last_user = max(i for i, m in enumerate(messages) if m.role == "user")
    return trained.function(messages)[last_user + 1 :]


@trained.mistake("A tool's result is trained too: the model would learn to invent results.")
def _results_too(messages: list[Message]) -> list[bool]:
    own = trained.function(messages)
    last_user = max(i for i, m in enumerate(messages) if m.role == "user")
    tools = [i > last_user and m.role == "tool" for i, m in enumerate(messages)]
    return [a or b for a, b in zip(own, tools, strict=True)]


@trained.mistake(
    "Only the final message is trained: reasoning and calls have to be learned as well."
)
def _finals(messages: list[Message]) -> list[bool]:
    own = trained.function(messages)
    return [o and m.channel == "final" for m, o in zip(messages, own, strict=True)]


@trained.mistake("Only the very last message is trained: the whole last turn counts.")
def _last(messages: list[Message]) -> list[bool]:
    return [i == len(messages) - 1 for i in range(len(messages))]


@trained.mistake("The reasoning is left out: it is what the answer is made of.")
def _no_reasoning(messages: list[Message]) -> list[bool]:
    own = trained.function(messages)
    return [o and m.channel != "analysis" for m, o in zip(messages, own, strict=True)]


@trained.mistake("The user's question is trained too: the model would learn to ask.")
def _question_too(messages: list[Message]) -> list[bool]:
    last_user = max(i for i, m in enumerate(messages) if m.role == "user")
    return [i == last_user or own for i, own in enumerate(trained.function(messages))]


@trained.mistake(
    "Only what comes after the last tool's result is trained: the call before it was the model's "
    "own."
)
def _after_result(messages: list[Message]) -> list[bool]:
    last = max(i for i, m in enumerate(messages) if m.role in ("user", "tool"))
    return [i > last and m.role == "assistant" for i, m in enumerate(messages)]
