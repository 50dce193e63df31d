"""Exercise on what a token costs: how many of the parameters it uses.

Source of the solution: the model card's table of parameters, counted by `labhelpers.accounting`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labhelpers.accounting import count_parameters
from labhelpers.config import GptOssConfig, preset
from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.words import Words


def _which_table(function: Callable[..., Any]) -> str:
    """A remark for whoever leaves out the output head and counts the embedding: equal sizes.

    Told by a count in which the embedding is larger by one row.
    """
    scope = getattr(function, "__globals__", {})
    count, config = scope.get("count_parameters"), preset("nano")
    if count is not count_parameters:
        return ""
    right = function(config)

    def with_another_row(config: GptOssConfig) -> dict[str, int]:
        parts = count(config)
        return parts | {"embedding": parts["embedding"] + config.hidden_size}

    scope["count_parameters"] = with_another_row
    try:
        moved = function(config)
    finally:
        scope["count_parameters"] = count
    if moved == right:
        return ""
    return (
        "One thing: you count the embedding and leave out the output head. In gpt-oss both have as "
        "many parameters, so the sum is right, but it is the head that works: of the embedding a "
        "token reads one row."
    )


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
    words=Words(aside=_which_table),
    hints=(
        "Three questions: of the experts, which part does one token use? Of the embedding (one row "
        "for each word of the vocabulary), how much? And what about all the rest?",
        "`parts = count_parameters(config)`, with keys such as `'experts'`. Experts count by "
        "`num_experts_per_tok` out of `num_local_experts`, the `'embedding'` not at all, all else "
        "in full, the output head (`'unembedding'`) too.",
    ),
)
def active_parameters(config: GptOssConfig) -> int:
    """Parameters that one token uses, as the model card counts them: a whole number."""
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


@active_parameters.mistake(
    "The output head (unembedding) is left out: every token passes through all of it."
)
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


@active_parameters.mistake(
    "4 of 32 experts is written into the code: that is the 20b. Read both numbers from config."
)
def _four_of_32(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return sum(parts.values()) - parts["embedding"] - parts["experts"] + parts["experts"] * 4 // 32


@active_parameters.mistake(
    "4 experts a token is written into the code: both gpt-oss have 4, another model may not. Read "
    "`config.num_experts_per_tok`."
)
def _four(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return _without(config, "experts") + parts["experts"] * 4 // config.num_local_experts


@active_parameters.mistake(
    "The experts are left out altogether: a token passes through num_experts_per_tok of them."
)
def _no_experts(config: GptOssConfig) -> int:
    return _without(config, "experts")


@active_parameters.mistake(
    "These are the experts alone: attention, router, norms and output head work for every token, "
    "too."
)
def _experts_alone(config: GptOssConfig) -> int:
    parts = count_parameters(config)
    return parts["experts"] * config.num_experts_per_tok // config.num_local_experts


@active_parameters.mistake("The router was scaled too: to choose, it looks at all the experts.")
def _router_scaled(config: GptOssConfig) -> int:
    router = count_parameters(config)["router"]
    used = router * config.num_experts_per_tok // config.num_local_experts
    return active_parameters.function(config) - router + used


_BILLIONS = "The result is in billions: return the number of parameters itself."


@active_parameters.mistake(_BILLIONS)
def _billions(config: GptOssConfig) -> float:
    return active_parameters.function(config) / 1e9


@active_parameters.mistake(_BILLIONS)
def _billions_two_digits(config: GptOssConfig) -> float:
    return round(active_parameters.function(config) / 1e9, 2)


@active_parameters.mistake(_BILLIONS)
def _billions_one_digit(config: GptOssConfig) -> float:
    return round(active_parameters.function(config) / 1e9, 1)
