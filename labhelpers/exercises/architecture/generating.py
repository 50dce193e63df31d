"""Exercise on generating: the most likely token again and again, with a cache.

Source of the solution: `labhelpers.model.generate`; a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.words import Words

Step = Callable[[list[int]], Tensor]
_PATIENCE = 60  # calls of step after which a loop is taken to be endless


def _model(vocabulary: int = 11) -> Step:
    """A pretend model with a cache: its favourite token depends on all it was fed, in order."""
    state, place, calls = 1, 0, 0

    def step(new_ids: Sequence[int]) -> Tensor:
        nonlocal state, place, calls
        calls += 1
        if calls > _PATIENCE:
            raise RuntimeError(f"step was called {calls} times: does the loop ever end?")
        if not isinstance(new_ids, Sequence | Tensor) or getattr(new_ids, "shape", None) == ():
            raise ValueError("step takes a list of new ids: for a single token, step([token])")
        for token in new_ids:
            state, place = (31 * state + 7 * int(token) + place**2) % 1009, place + 1
        logits = torch.zeros(vocabulary)
        logits[state % vocabulary] = 1.0
        return logits

    return step


def _turn(prompt: list[int], stop: set[int], most: int) -> tuple[Any, ...]:
    return _model(), list(prompt), set(stop), most


def _in_one_pass(function: Callable[..., Any]) -> str:
    """A remark for whoever is right and feeds the prompt in pieces."""
    fed: list[int] = []
    step = _model()

    def watched(new_ids: list[int]) -> Tensor:
        fed.append(len(new_ids))
        return step(new_ids)

    function(watched, [3, 1, 4], {6}, 20)
    if fed[0] == 3:
        return ""
    return (
        "The prompt went in piece by piece. That is right, and slow: in one call, `step(prompt)`, "
        "the weights are read once for all its tokens."
    )


@exercise(
    "1.9",
    minutes=15,
    difficulty=2,
    cases=[
        Case("one stop token", lambda: _turn([3, 1, 4], {6}, 20)),
        Case("two stop tokens", lambda: _turn([2, 6], {4, 7}, 20)),
        Case("a limit of 5 tokens", lambda: _turn([1, 5, 8, 2], {3}, 5)),
        Case("a stop token in the prompt", lambda: _turn([4, 10, 3], {10}, 6)),
    ],
    words=Words(aside=_in_one_pass),
    hints=(
        "The first step is fed the whole prompt, every later one only the token just chosen: the "
        "cache remembers the rest. The stop token belongs to the answer.",
        "`new = list(prompt)` before the loop; in it `token = int(step(new).argmax())`, append it, "
        "return if it is in `stop`, else `new = [token]`. Run it max_new_tokens times at most.",
    ),
)
def greedy(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    """The new ids, a list of plain ints: always the most likely, up to and with a stop token.

    step(new_ids) takes the ids not yet fed (a cache keeps the others) and returns logits [V].
    At most max_new_tokens ids, whether a stop token came or not.
    """
    out: list[int] = []
    new = list(prompt)
    while len(out) < max_new_tokens:
        token = int(step(new).argmax())
        out.append(token)
        if token in stop:
            break
        new = [token]
    return out


@greedy.mistake("The stop token is left out: whoever reads the turn needs it.")
def _without_stop(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    out = greedy.function(step, prompt, stop, max_new_tokens)
    return out[:-1] if out[-1] in stop else out


@greedy.mistake("It goes on after the stop token: look at a token before asking for the next.")
def _one_more(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    out = greedy.function(step, prompt, stop, max_new_tokens)
    if out[-1] in stop and len(out) < max_new_tokens:
        out.append(int(step(out[-1:]).argmax()))
    return out


@greedy.mistake(
    "It never stops before the limit: stop is not looked at, or asked for a tensor, which is never "
    "found in a set of ints."
)
def _never_stops(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(step, prompt, set(), max_new_tokens)


@greedy.mistake("Only one stop token counts: gpt-oss has several, such as <|return|> and <|call|>.")
def _one_stop(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(step, prompt, {min(stop)}, max_new_tokens)


@greedy.mistake("The prompt is part of the result: return only what is new.")
def _with_prompt(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return prompt + greedy.function(step, prompt, stop, max_new_tokens)


@greedy.mistake(
    "Everything is fed again at each step, though the cache still has it: feed only the new token."
)
def _all_again(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    out: list[int] = []
    while len(out) < max_new_tokens and not (out and out[-1] in stop):
        out.append(int(step(prompt + out).argmax()))
    return out


@greedy.mistake("The prompt is fed at each step: after the first, feed the token just chosen.")
def _prompt_again(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    out: list[int] = []
    while len(out) < max_new_tokens and not (out and out[-1] in stop):
        out.append(int(step(prompt).argmax()))
    return out


@greedy.mistake("Only the last token of the prompt is fed: the first step takes all of it.")
def _last_only(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(step, prompt[-1:], stop, max_new_tokens)


@greedy.mistake("One token too many at the limit: max_new_tokens counts all new tokens.")
def _limit_plus_one(
    step: Step, prompt: list[int], stop: set[int], max_new_tokens: int
) -> list[int]:
    return greedy.function(step, prompt, stop, max_new_tokens + 1)


@greedy.mistake(
    "The token was left a tensor, which is never found in a set of ints, so no stop token stops "
    "it: `int(logits.argmax())`."
)
def _tensor_tokens(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[Any]:
    out: list[Any] = []
    new: list[Any] = list(prompt)
    while len(out) < max_new_tokens:
        token = step(new).argmax()
        out.append(token)
        if token in stop:
            break
        new = [token]
    return out


@greedy.mistake("One token too few at the limit: max_new_tokens of them may come.")
def _limit_minus_one(
    step: Step, prompt: list[int], stop: set[int], max_new_tokens: int
) -> list[int]:
    return greedy.function(step, prompt, stop, max_new_tokens - 1)


@greedy.mistake(
    "The prompt was counted as well: max_new_tokens is a limit for the new tokens alone."
)
def _prompt_counts(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(step, prompt, stop, max_new_tokens - len(prompt))


@greedy.mistake(
    "step returns the logits of the last token only, [V]: `[-1]` of these is a single number, and "
    "its argmax is always 0."
)
def _last_logit(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(lambda ids: step(ids)[-1], prompt, stop, max_new_tokens)


@greedy.mistake("max_new_tokens is ignored: it must end the loop even if no stop token comes.")
def _no_limit(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    return greedy.function(step, prompt, stop, 2 * _PATIENCE)


@greedy.mistake("The prompt is fed twice: the first step's logits already choose the first token.")
def _prompt_twice(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    step(prompt)
    return greedy.function(step, prompt, stop, max_new_tokens)


@greedy.mistake("The prompt's last token is fed twice: the logits after the prompt were not used.")
def _last_twice(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    step(prompt)
    return greedy.function(step, prompt[-1:], stop, max_new_tokens)


@greedy.mistake("The first new token is missing: the logits after the prompt choose it.")
def _first_missing(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    first = int(step(prompt).argmax())
    return greedy.function(step, [first], stop, max_new_tokens)
