"""Exercises on the whole model: generating with a cache, and what a token costs.

Source of the solutions: `labhelpers.model.generate`; the model card's table of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from labhelpers.accounting import count_parameters
from labhelpers.config import GptOssConfig, preset
from labhelpers.exercises.core import Case, exercise

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
        for token in new_ids:
            state, place = (31 * state + 7 * int(token) + place**2) % 1009, place + 1
        logits = torch.zeros(vocabulary)
        logits[state % vocabulary] = 1.0
        return logits

    return step


def _turn(prompt: list[int], stop: set[int], most: int) -> tuple[Any, ...]:
    return _model(), list(prompt), set(stop), most


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
    hints=(
        "The first step is fed the whole prompt, every later one only the token just chosen: the "
        "cache remembers the rest. The stop token belongs to the answer.",
        "`new = list(prompt)` before the loop; in it `token = int(step(new).argmax())`, append it, "
        "return if it is in `stop`, else `new = [token]`. Run it max_new_tokens times at most.",
    ),
)
def greedy(step: Step, prompt: list[int], stop: set[int], max_new_tokens: int) -> list[int]:
    """New ids after prompt, always the most likely, up to a stop token (which is included).

    step(new_ids) takes the ids not yet fed (a cache keeps the others) and returns logits [V].
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


@greedy.mistake("It never stops before the limit: the stop tokens are not looked at.")
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


# -- what a token costs -----------------------------------------------------------------------


@exercise(
    "1.10",
    minutes=10,
    difficulty=2,
    cases=[
        Case("gpt-oss-20b", lambda: (preset("gpt-oss-20b"),)),
        Case("gpt-oss-120b", lambda: (preset("gpt-oss-120b"),)),
        Case(
            "3 of 8 experts",
            lambda: (
                GptOssConfig(
                    vocab_size=50,
                    hidden_size=16,
                    intermediate_size=12,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    head_dim=8,
                    num_local_experts=8,
                    num_experts_per_tok=3,
                ),
            ),
        ),  # fmt: skip
    ],
    hints=(
        "Three questions: of the experts, which part does one token use? Of the embedding (one row "
        "for each word of the vocabulary), how much? And what about all the rest?",
        "`parts = count_parameters(config)`. Experts count by `num_experts_per_tok` out of "
        "`num_local_experts`, the embedding not at all, everything else in full, the head too.",
    ),
)
def active_parameters(config: GptOssConfig) -> int:
    """Parameters that one token uses, as the model card counts them."""
    parts = count_parameters(config)
    parts["experts"] = parts["experts"] * config.num_experts_per_tok // config.num_local_experts
    parts["embedding"] = 0  # a token reads one row of it
    return sum(parts.values())


def _without(config: GptOssConfig, part: str) -> int:
    parts = count_parameters(config)
    share = config.num_experts_per_tok / config.num_local_experts if part == "experts" else 1
    return active_parameters.function(config) - round(parts[part] * share)


@active_parameters.mistake("These are all parameters: a token uses only some of the experts.")
def _all(config: GptOssConfig) -> int:
    return sum(count_parameters(config).values())


@active_parameters.mistake(
    "All experts are counted: a token uses num_experts_per_tok of the num_local_experts."
)
def _all_experts(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return sum(parts.values()) - parts["embedding"]


@active_parameters.mistake("The embedding is counted: a token reads a single row of it.")
def _embedding(config: GptOssConfig) -> int:
    return active_parameters.function(config) + count_parameters(config)["embedding"]


@active_parameters.mistake("The unembedding is left out: every token passes through all of it.")
def _no_head(config: GptOssConfig) -> int:
    return _without(config, "unembedding")


@active_parameters.mistake("The router is left out: it looks at every token.")
def _no_router(config: GptOssConfig) -> int:
    return _without(config, "router")


@active_parameters.mistake("The norms are left out: they are few, but used.")
def _no_norms(config: GptOssConfig) -> int:
    return _without(config, "norms")


@active_parameters.mistake("One expert a layer is counted: a token uses num_experts_per_tok.")
def _one_expert(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return _without(config, "experts") + parts["experts"] // config.num_local_experts


@active_parameters.mistake("The experts' share was taken of everything: only experts are chosen.")
def _share_of_all(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return sum(parts.values()) * config.num_experts_per_tok // config.num_local_experts
