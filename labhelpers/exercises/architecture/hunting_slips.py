"""Wrong versions of exercise 1.11: the solution with one thing exchanged, and its sentence.

Some come several times, once for each way to write the same slip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.architecture.calls import Call, calls
from labhelpers.exercises.architecture.hunting import differs, first_wrong_part, pairs
from labhelpers.model import GptOss

Test = Callable[[Any, Any], bool]
Found = Iterable[tuple[str, Any, Any]]  # a part, what the suspect's returned, the reference's
Look = Callable[[GptOss, GptOss, Tensor], Found]


def _fed(suspect: GptOss, reference: GptOss, ids: Tensor) -> Found:
    """Every part of the suspect on what the reference's part was given."""
    return _feed(suspect, calls(reference, ids))


def _feed(suspect: GptOss, known: dict[str, Call]) -> Iterator[tuple[str, Any, Any]]:
    for name, (given, right) in known.items():
        yield name, suspect.get_submodule(name)(*given), right


def _passes(suspect: GptOss, reference: GptOss, ids: Tensor) -> Found:
    """Every part in a pass of its own model."""
    ours = calls(suspect, ids)
    for name, (_, right) in calls(reference, ids).items():
        yield name, ours[name][1], right


def _as_listed(suspect: GptOss, reference: GptOss, ids: Tensor) -> Found:
    """In the order in which a model lists its parts: the whole before what is in it."""
    known = calls(reference, ids)
    return _feed(suspect, {n: known[n] for n, _ in reference.named_modules() if n in known})


def _first(found: Found, test: Test = differs) -> str | None:
    return next((name for name, got, right in found if test(got, right)), None)


def _slip(message: str, function: Callable[[GptOss, GptOss, Tensor], Any]) -> None:
    def wrong(suspect: GptOss, reference: GptOss, ids: Tensor) -> Any:
        return function(suspect, reference, ids)

    wrong.__name__ = f"_first_wrong_part_{len(first_wrong_part.mistakes)}"
    first_wrong_part.mistake(message)(wrong)


def _tests(message: str, *tests: Callable[[Tensor, Tensor], Any], look: Look = _fed) -> None:
    """The solution with another test of two tensors, `test(a, b)` true if they differ."""

    def with_(test: Callable[[Tensor, Tensor], Any], *args: Any) -> str | None:
        return _first(look(*args), lambda got, right: any(test(*p) for p in pairs(got, right)))

    for test in tests:
        _slip(message, partial(with_, test))


def _off(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().max()


def _beyond(a: Tensor, b: Tensor) -> bool:
    """A difference beyond the bound, asked in the way in which a NaN is none."""
    return bool(_off(a, b) > 1e-5 * b.abs().max())


# -- which part is named ------------------------------------------------------------------------

_TWO_PASSES = (
    "Two passes were compared, part by part, by what they return. But inside attention `o_proj` "
    "finishes before attention itself, so it is accused where it was only fed wrongly. Feed each "
    "part what the reference's part was given (or compare all that the two were given, too)."
)
_slip(_TWO_PASSES, lambda *args: _first(_passes(*args)))
_tests(_TWO_PASSES, _beyond, look=_passes)
_slip(_TWO_PASSES, lambda *a: _first(_passes(*a), lambda x, y: differs(*pairs(x, y)[0])))
_slip(_TWO_PASSES, lambda *a: (_first(_passes(*a)) or "").removeprefix("model.") or None)
_slip(  # as `record` has them: the first of what a part returned, names without "model."
    _TWO_PASSES,
    lambda *a: (
        _first(_passes(*a), lambda x, y: _beyond(*pairs(x, y)[0])) or ""
    ).removeprefix("model.") or None,
)  # fmt: skip
_slip(
    "This is the last part that differs. After a fault nearly everything does: `return` at the "
    "first one.",
    lambda *args: [None, *(f[0] for f in _passes(*args) if differs(*f[1:]))][-1],
)


def _largest(found: Found) -> str | None:
    errors = {}
    for name, got, right in found:
        shares = [(_off(a, b) / b.abs().max()).item() for a, b in pairs(got, right)]
        errors[name] = max(share if share == share else float("inf") for share in shares)
    worst = max(errors, key=errors.__getitem__)
    return worst if errors[worst] > 1e-5 else None


for _look in (_passes, _fed):
    _slip(
        "This is the part with the largest difference. A fault grows on its way: what follows is "
        "often further off than where it began.",
        lambda *args, look=_look: _largest(look(*args)),
    )

_WHOLE = (
    "The whole was named, not the part in it. Either the last one that differs was kept, or the "
    "model was asked before its parts, as `named_modules` lists them: the order of `calls` has "
    "the innermost first, so `return` at the first."
)
_slip(_WHOLE, lambda *args: _first(_as_listed(*args)))
_slip(_WHOLE, lambda *args: _first(f for f in _as_listed(*args) if f[0] != "model"))


def _kept(found: Found, leave_out: Callable[[str, GptOss], bool], model: GptOss) -> str | None:
    return _first(f for f in found if not leave_out(f[0], model))


_slip(
    "Only parts without parts of their own were asked. Scores, window and sinks are in attention's "
    "own lines, between its four maps; sums are in the layer's: ask those as well.",
    lambda *args: _kept(_fed(*args), lambda n, m: any(m.get_submodule(n).children()), args[1]),
)
_slip(
    "Only whole layers were compared: the question is which part of a layer.",
    lambda *args: _kept(_fed(*args), lambda n, _: n.count(".") != 2, args[1]),
)
_slip(
    "The name lost its `model.`: give it as `calls` and the model list it.",
    lambda *args: (first_wrong_part.function(*args) or "").removeprefix("model.") or None,
)
_slip(
    "A list was returned: the name alone is asked for.",
    lambda *args: [name] if (name := first_wrong_part.function(*args)) else None,
)
for _end in ("lm_head", ""):
    _slip(
        "One suspect is innocent, and something was named all the same: after the loop, "
        "`return None`.",
        lambda *args, end=_end: first_wrong_part.function(*args) or end,
    )
_slip(
    "It says None of every suspect. Is the `return` with the name inside the loop, and reached?",
    lambda *_: None,
)
for _name in ("model", "lm_head"):
    _slip("It says the same of all suspects: ask their parts.", lambda *_, n=_name: n)

# -- what is compared ---------------------------------------------------------------------------

_ROUNDING = (
    "Rounding was taken for a fault. One suspect is right and only adds in another order: allow "
    "1e-5 of the reference's largest number. (`torch.equal` allows nothing; `torch.allclose` holds "
    "each number against its own size, and a sum near 0 then fails by rounding alone.)"
)
_STRICT = (lambda a, b: not torch.equal(a, b), lambda a, b: not torch.allclose(a, b))
_tests(_ROUNDING, _STRICT[0], lambda a, b: not ((a - b) / b).abs().max() <= 1e-5)
_tests(_ROUNDING, *_STRICT, look=_passes)
_tests(
    "The bound is absolute. Where numbers are large rounding is larger than that, and where they "
    "are small a real fault is smaller: divide by the reference's largest number.",
    lambda a, b: not _off(a, b) <= 1e-5,
    *(lambda a, b, e=bound: _off(a, b) > e for bound in (1e-3, 1e-5)),
    *(lambda a, b, e=bound: not torch.allclose(a, b, atol=e) for bound in (1e-4, 1e-5)),
)
_tests(
    "A NaN slipped through: it is neither above a bound nor below it. Ask the other way round, "
    "`if not difference <= bound`.",
    _beyond,
)
_FIRST_ONLY = (
    "Only the first of several things was compared. A router returns ids, weights and logits: the "
    "ids may be right and the weights wrong."
)
_slip(_FIRST_ONLY, lambda *a: _first(_fed(*a), lambda x, y: differs(*pairs(x, y)[0])))
_slip(_FIRST_ONLY, lambda *a: _first(_fed(*a), lambda x, y: _beyond(*pairs(x, y)[0])))
_tests(
    "Only the places of the largest numbers were compared (argmax): all numbers may be wrong, half "
    "as large for example, and the largest stays where it was.",
    lambda a, b: not torch.equal(a.argmax(-1), b.argmax(-1)),
)
_tests(
    "A cosine was compared. It does not see a size, and hardly a fault at a few tokens (section 10 "
    "has the example): compare the largest difference.",
    *(
        lambda a, b, least=least: torch.cosine_similarity(a.flatten() * 1.0, b.flatten(), 0) < least
        for least in (0.99, 0.999)
    ),
)


def _only_at(place: slice) -> Test:
    """Compare some tokens only: routers and experts have [T, ...], the others [1, T, ...]."""
    return lambda got, right: any(
        differs(*(t[:, place] if t.dim() == 3 else t[place] for t in pair))
        for pair in pairs(got, right)
    )


_slip(
    "Only the last token was compared. Some faults are seen at few tokens, such as a gate beyond "
    "the limit: compare all of them.",
    lambda *args: _first(_fed(*args), _only_at(slice(-1, None))),
)
_slip(
    "Only the first token was compared. It sees nobody but itself, so little goes wrong there: "
    "compare all of them.",
    lambda *args: _first(_fed(*args), _only_at(slice(0, 1))),
)
for _tokens in (16, 32):
    _slip(
        "The text was cut short. Up to the length of the window a wrong window lets the same "
        "tokens through: use all of ids.",
        lambda s, r, ids, t=_tokens: first_wrong_part.function(s, r, ids[:t]),  # type: ignore[misc]
    )


def _by_weights(suspect: GptOss, reference: GptOss, ids: Tensor) -> str | None:
    theirs = dict(reference.named_parameters())
    wrong = (n for n, weight in suspect.named_parameters() if differs(weight, theirs[n]))
    return next((name.rpartition(".")[0] for name in wrong), None)


_slip(
    "The weights were compared, and most suspects have the right ones: it is what they do with "
    "them that is wrong. Compare what the parts return.",
    _by_weights,
)
