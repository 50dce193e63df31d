"""What is said about a turn that did not simply end with an answer.

The idea   a reply without an answer must not look like an empty answer. Each way to end has its
           sentence, which says what happened and what can be done about it.
gpt-oss    the commonest: all tokens went into the analysis channel, so final never came.
Limits     it tells the ends apart by messages and reason, not by what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from labhelpers.chat.backend import Ending
from labhelpers.harmony import Message


def ending_note(
    ending: Ending, reply: Sequence[Message], reasoning_tokens: int, max_new_tokens: int
) -> str:
    """A remark about a turn, "" if it ended as it should. `reply` is what came in it."""
    answered = any(m.channel == "final" and m.text.strip() for m in reply)
    called = any(m.recipient for m in reply)
    notes = []
    if ending.reason == "stopped":
        notes.append("Stopped.")
    elif ending.reason == "lost":
        notes.append("The connection ended before the reply did.")
    elif ending.reason == "length" and (answered or called):
        notes.append(f"The reply was cut off after {max_new_tokens} tokens (max_new_tokens).")
    elif ending.reason == "length":
        notes.append(_all_reasoning(reasoning_tokens, max_new_tokens))
    elif ending.reason == "endoftext":
        notes.append("The model ended with <|endoftext|>, where <|return|> was expected.")
    elif not answered and not called:
        notes.append("The model ended its turn without an answer.")
    cut = ending.reason in ("length", "stopped")  # then a truncated message is no news
    faults = [f for f in ending.faults if not (cut and _kind(f).startswith("truncated"))]
    notes += [f"The stream broke the format: {_explanation(f)}" for f in faults[:3]]
    if len(faults) > 3:
        notes.append(f"({len(faults) - 3} more: chat.faults.)")
    if ending.note:
        notes.append(ending.note)
    return " ".join(notes)


def _all_reasoning(reasoning_tokens: int, max_new_tokens: int) -> str:
    spent = f"{reasoning_tokens} of them" if reasoning_tokens else "all of them"
    return (
        f"No answer: the limit of {max_new_tokens} tokens (max_new_tokens) was reached, {spent} "
        "spent on reasoning. Raise it, lower the effort, or set a reasoning budget."
    )


def _kind(fault: object) -> str:
    return str(getattr(fault, "kind", ""))


def _explanation(fault: object) -> str:
    return str(getattr(fault, "explanation", fault)).rstrip(".") + "."
