"""Exercise on debugging: the model runs, its text is nearly right, and one part computes wrongly.

Source of the cases: `damages`, beside this file. The solution feeds each part what the reference's
part was given; whoever compares inputs and outputs of two passes is right too.
Wrong versions: `hunting_slips`.
Limits: a part is a torch module. What a module does in its own lines (attention's scores, the
model's rotations) is told by the module itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from labhelpers.config import GptOssConfig
from labhelpers.exercises.architecture.calls import calls
from labhelpers.exercises.architecture.damages import damaged
from labhelpers.exercises.core import Case, exercise
from labhelpers.exercises.inputs import numbers
from labhelpers.exercises.words import Words
from labhelpers.model import GptOss

Arguments = tuple[GptOss, GptOss, Tensor]
TOKENS, WINDOW = 40, 32  # up to the window's length a wrong window would not show
NOTHING = "None"


@torch.no_grad()
def _model() -> GptOss:
    """A small gpt-oss with fixed weights, and a stream that differs in size between tokens."""
    model = GptOss(
        GptOssConfig(
            vocab_size=60,
            hidden_size=24,
            intermediate_size=10,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            num_local_experts=6,
            num_experts_per_tok=3,
            sliding_window=WINDOW,
        )
    )
    for seed, (name, weight) in enumerate(model.named_parameters()):
        weight.copy_(numbers(*weight.shape, seed=seed, scale=0.1))
        if name.endswith("norm.weight"):
            weight.add_(1.0)
    model.model.embed_tokens.weight[0] = 0.0  # a padding token's row, often
    return model.eval().requires_grad_(False)


def _ids() -> Tensor:
    return torch.arange(TOKENS) ** 2 % 59 + 1  # [T], without token 0


@cache
def _case(name: str, layer: int | None = None, scale: float = 1.0) -> Arguments:
    """scale: of what attention adds to the stream in layer 1."""
    reference = _model()
    second: Any = reference.model.layers[1]
    second.self_attn.o_proj.weight.mul_(scale)
    second.self_attn.o_proj.bias.mul_(scale)
    # So that a few gates and ups pass the limit, but none of the last token's.
    second.mlp.experts.gate_up_proj.mul_(3.2)
    return damaged(reference, name, layer), reference, _ids()


@cache
def _at_a_padding_token() -> Arguments:
    suspect, reference, ids = _case("no eps", layer=0)
    return suspect, reference, ids.index_fill(0, torch.tensor([35]), 0)


@cache
def _two_at_once() -> Arguments:
    suspect, reference, ids = _case("bfloat16", layer=1)
    return damaged(suspect, "no + 1", layer=1), reference, ids


def pairs(got: Any, right: Any) -> list[tuple[Tensor, Tensor]]:
    """What two parts returned, side by side: a router returns three things, others one."""
    return list(zip(got, right, strict=True)) if isinstance(right, tuple) else [(got, right)]


def differs(got: Any, right: Any) -> bool:
    """Beyond rounding: more than 1e-5 of the largest number, in any of the things returned."""
    return any(not (a - b).abs().max() <= 1e-5 * b.abs().max() for a, b in pairs(got, right))


def _about(got: Any, expected: str, suspect: GptOss, reference: GptOss, ids: Tensor) -> str:
    """What there is to say of the part that was named."""
    if got == NOTHING or not isinstance(got, str):
        return ""
    known = calls(reference, ids)
    if got not in known:
        more = "Names are those of `calls`, such as `model.layers.1.mlp.router`."
        rest = f"model.{got}" in known and _about(f"model.{got}", expected, suspect, reference, ids)
        return f"{more} {rest}" if rest else more
    given, right = known[got]
    if not differs(suspect.get_submodule(got)(*given), right):
        return (
            f"Given what the reference's part was given, `{got}` returns the same as that, but for "
            "rounding: the fault is not its own."
        )
    inside = expected.startswith(f"{got}.")
    return f"`{got}` differs, but {'a part in it' if inside else 'an earlier one'} does, too."


def _made(got: Any, *arguments: Any) -> Any:
    return NOTHING if got is None else got  # None is an answer here


def _suspect(letter: str, make: Callable[[], Arguments]) -> Case:
    return Case(f"suspect {letter}", make)  # the names must not give away the answers


@exercise(
    "1.11",
    minutes=15,
    difficulty=2,
    cases=[
        _suspect("a", lambda: _case("neighbours")),
        _suspect("b", lambda: _case("other order", scale=1e3)),
        _suspect("c", lambda: _case("sinks", layer=1, scale=1e-5)),
        _suspect("d", lambda: _case("diluted", layer=1)),
        _suspect("e", lambda: _case("window")),
        _suspect("f", lambda: _case("key bias", layer=1)),
        _suspect("g", lambda: _case("gate and up")),
        _suspect("h", lambda: _case("no clamp", layer=1)),
        _suspect("i", lambda: _case("normed stream", layer=1)),
        _suspect("j", lambda: _case("head")),
        _suspect("k", _at_a_padding_token),
        _suspect("l", lambda: _case("theta")),
        _suspect("m", _two_at_once),
    ],
    observe=_made,
    words=Words(point=_about),
    hints=(
        "`calls(reference, ids)` lists the parts in the order in which they finish. Give the "
        "suspect's part of the same name what the reference's part was given. If it returns "
        "something else, the fault is its own, and the first such part is the answer.",
        "`for name, (given, right) in calls(reference, ids).items():`, then "
        "`got = suspect.get_submodule(name)(*given)`. Compare the largest difference with 1e-5 "
        "of the largest number of `right`. A router returns a tuple: compare each of its things.",
        "For a pair a, b: `if not (a - b).abs().max() <= 1e-5 * b.abs().max(): return name`. "
        "(Written with `not` and `<=` it also catches a NaN.) `viz.parity(name, a, b)` is the same "
        "comparison. After the loop nothing is wrong: `return None`.",
    ),
)
def first_wrong_part(suspect: GptOss, reference: GptOss, ids: Tensor) -> str | None:
    """Name of the first part of `suspect` that is itself wrong, such as "model.norm", or None.

    Itself wrong: given what the reference's part was given, it does not return what that
    returned, by more than 1e-5 of the largest number. First: in the order of `calls`, in which
    the parts of a part come before it. ids [T]; both models are this package's GptOss.
    """
    for name, (given, right) in calls(reference, ids).items():
        got = suspect.get_submodule(name)(*given)
        pairs = zip(got, right, strict=True) if isinstance(right, tuple) else [(got, right)]
        for a, b in pairs:
            if not (a - b).abs().max() <= 1e-5 * b.abs().max():  # a NaN is not <= anything
                return name
    return None
