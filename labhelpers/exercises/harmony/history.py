"""Exercises on a conversation that goes on: which reasoning stays, and what a cache can reuse.

Source of the solutions: `labhelpers.harmony.render.kept_messages` (OpenAI's written rule); a
test holds them equal.
"""

from __future__ import annotations

from labhelpers.exercises.core import Case, exercise
from labhelpers.harmony import Message

_THOUGHT, _FINAL = Message.analysis("Hm."), Message.final("4")
_ASK = Message.user("And now?")
_CALL = Message.call("functions.now", "{}")
_RESULT = Message.tool("functions.now", "12:30")
_PREAMBLE = Message.preamble("I will look.")
_PYTHON = [Message.call("python", "2+2"), Message.tool("python", "4")]
_TURN = [Message.user("2+2?"), _THOUGHT, _FINAL]


@exercise(
    "4.7",
    minutes=10,
    difficulty=2,
    cases=[
        Case("the first turn, a call under way", lambda: ([_ASK, _THOUGHT, _CALL, _RESULT],)),
        Case("three turns", lambda: ([*_TURN, *_TURN, _ASK],)),
        Case(
            "a call under way after a finished turn",
            lambda: ([*_TURN, _ASK, _THOUGHT, _CALL, _RESULT],),
        ),
        Case(
            "a finished turn with python",
            lambda: ([_ASK, _THOUGHT, *_PYTHON, _THOUGHT, _FINAL, _ASK],),
        ),
        Case(
            "a finished turn with a call",
            lambda: ([_ASK, _THOUGHT, _CALL, _RESULT, _THOUGHT, _FINAL, _ASK],),
        ),
        Case(
            "a system message in the middle",
            lambda: ([*_TURN, _ASK, _THOUGHT, _CALL, _RESULT, Message.developer("In French.")],),
        ),
        Case("a turn broken off before its answer", lambda: ([*_TURN, _ASK, _THOUGHT, _ASK],)),
        Case("a dialogue that ends with its answer", lambda: ([*_TURN, *_TURN],)),
        Case("no final, and a thought first of all", lambda: ([_THOUGHT, _CALL, _RESULT],)),
        Case(
            "a finished turn with a preamble",
            lambda: ([_ASK, _THOUGHT, _PREAMBLE, _CALL, _RESULT, _THOUGHT, _FINAL, _ASK],),
        ),
    ],  # fmt: skip
    hints=(
        "Find the last final message. Before it, everything in the analysis channel goes; from it "
        "on, everything stays.",
        'A final is an assistant message whose channel is "final". If there is none, nothing '
        "goes. The channel decides, not the role: a call of python and its result stand in the "
        "analysis channel too.",
    ),
)
def keep(messages: list[Message]) -> list[int]:
    """A list of the indices that the next prompt holds, in order, by OpenAI's written rule."""
    finals = [i for i, m in enumerate(messages) if m.channel == "final"]
    last = max(finals, default=0)
    return [i for i, m in enumerate(messages) if i >= last or m.channel != "analysis"]


def _cut(messages: list[Message], at: int) -> list[int]:
    return [i for i, m in enumerate(messages) if i >= at or m.channel != "analysis"]


@keep.mistake(
    "This is openai-harmony's rule: it drops up to the first final only, and nothing while the "
    "last assistant message is a call."
)
def _library(messages: list[Message]) -> list[int]:
    last = next((m for m in reversed(messages) if m.role == "assistant"), None)
    if last is None or last.channel != "final":
        return list(range(len(messages)))
    return _cut(messages, next(i for i, m in enumerate(messages) if m.channel == "final"))


@keep.mistake("It drops up to the first final: the written rule says the last.")
def _first_final(messages: list[Message]) -> list[int]:
    return _cut(
        messages, min((i for i, m in enumerate(messages) if m.channel == "final"), default=0)
    )


@keep.mistake(
    "All reasoning is dropped. Between a call and its result the model then forgets why it called."
)
def _drop_all(messages: list[Message]) -> list[int]:
    return _cut(messages, len(messages))


@keep.mistake("Nothing is dropped: old reasoning fills the context, and training never showed it.")
def _keep_all(messages: list[Message]) -> list[int]:
    return list(range(len(messages)))


_CUT_AT_USER = (
    "The cut is at the last user message. Usually that is the same; the rule speaks of finals. "
    "(The reasoning of a turn that has no answer yet is lost.)"
)


@keep.mistake(_CUT_AT_USER)
def _last_user(messages: list[Message]) -> list[int]:
    return _cut(messages, max((i for i, m in enumerate(messages) if m.role == "user"), default=0))


@keep.mistake(_CUT_AT_USER)
def _last_of_settings(messages: list[Message]) -> list[int]:
    at = max((i for i, m in enumerate(messages) if m.role in ("user", "developer")), default=0)
    return _cut(messages, at)


@keep.mistake("Calls in commentary and their results are dropped too: only analysis goes.")
def _drop_calls(messages: list[Message]) -> list[int]:
    last = max((i for i, m in enumerate(messages) if m.channel == "final"), default=0)
    gone = ("analysis", "commentary")
    return [i for i, m in enumerate(messages) if i >= last or m.channel not in gone]


@keep.mistake(
    "You keep calls of python and their results, but they stand in the analysis channel and leave "
    "with the reasoning."
)
def _keep_python(messages: list[Message]) -> list[int]:
    last = max((i for i, m in enumerate(messages) if m.channel == "final"), default=0)
    return [
        i
        for i, m in enumerate(messages)
        if i >= last or m.channel != "analysis" or m.recipient is not None
    ]


@keep.mistake(
    "You keep the results of python: they stand in the analysis channel, like their calls, and "
    "leave with the reasoning."
)
def _keep_results(messages: list[Message]) -> list[int]:
    own = keep.function(messages)
    return [i for i, m in enumerate(messages) if i in own or m.role == "tool"]


@keep.mistake(
    "You drop preambles of finished turns. The user has read them; only the analysis channel goes. "
    "(The official template does the same.)"
)
def _drop_preambles(messages: list[Message]) -> list[int]:
    last = max((i for i, m in enumerate(messages) if m.channel == "final"), default=0)
    said = [i for i, m in enumerate(messages) if m.channel == "commentary" and m.recipient is None]
    return [i for i in keep.function(messages) if i >= last or i not in said]


@keep.mistake(
    "Without any final message 0 was taken for one, and a thought there is gone: if there is no "
    "final, nothing goes."
)
def _zero_is_final(messages: list[Message]) -> list[int]:
    last = max((i for i, m in enumerate(messages) if m.channel == "final"), default=0)
    return [i for i, m in enumerate(messages) if i > last or m.channel != "analysis"]


@keep.mistake("It looks for a final before the last message only: a list may end with its answer.")
def _not_the_end(messages: list[Message]) -> list[int]:
    return _cut(
        messages, max((i for i, m in enumerate(messages[:-1]) if m.channel == "final"), default=0)
    )


@keep.mistake("Only the last message before the final is dropped: all analysis before it goes.")
def _one_only(messages: list[Message]) -> list[int]:
    finals = [i for i, m in enumerate(messages) if m.channel == "final"]
    return [i for i in range(len(messages)) if i + 1 not in finals]


# -- what a cache can reuse -------------------------------------------------------------------


@exercise(
    "4.8",
    minutes=5,
    difficulty=1,
    cases=[
        Case("a difference in the middle", lambda: ([5, 7, 7, 9, 2, 4], [5, 7, 7, 1, 2, 4, 4])),
        Case("the old one continued", lambda: ([3, 1, 4], [3, 1, 4, 1, 5])),
        Case("nothing in common at first", lambda: ([8, 2], [9, 2])),
        Case("a shorter one", lambda: ([6, 6, 1, 2], [6, 6])),
    ],
    hints=(
        "Walk through both lists together and stop at the first place where they differ.",
        "`for n, (a, b) in enumerate(zip(old, new))`: if a != b, return n. If none differs, the "
        "shorter list is the whole prefix.",
    ),
)
def reusable(old: list[int], new: list[int]) -> int:
    """How many tokens of `new` a cache filled with `old` can serve: the common prefix."""
    for n, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return n
    return min(len(old), len(new))


@reusable.mistake(
    "It counts equal tokens after the first difference too. A key depends on everything before "
    "it, so they are of no use."
)
def _equal_places(old: list[int], new: list[int]) -> int:
    return sum(a == b for a, b in zip(old, new, strict=False))


@reusable.mistake("It counts tokens that occur in both, wherever they stand: places matter.")
def _in_common(old: list[int], new: list[int]) -> int:
    return len(set(old) & set(new))


@reusable.mistake("One too many: the token that differs cannot be reused.")
def _one_more(old: list[int], new: list[int]) -> int:
    return reusable.function(old, new) + 1


@reusable.mistake("One too few: all tokens before the first that differs are reusable.")
def _one_less(old: list[int], new: list[int]) -> int:
    return max(0, reusable.function(old, new) - 1)


@reusable.mistake("It compares from the end: a cache is filled from the start.")
def _suffix(old: list[int], new: list[int]) -> int:
    return reusable.function(old[::-1], new[::-1])


@reusable.mistake("If nothing differs it says 0: then the whole shorter list is the prefix.")
def _zero_if_equal(old: list[int], new: list[int]) -> int:
    found = reusable.function(old, new)
    return 0 if found == min(len(old), len(new)) else found


@reusable.mistake("It is all or nothing: also a part of the old prompt can be reused.")
def _all_or_nothing(old: list[int], new: list[int]) -> int:
    return len(old) if new[: len(old)] == old else 0
