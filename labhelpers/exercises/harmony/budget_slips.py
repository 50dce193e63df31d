"""More wrong versions of exercise 4.6: the same slips in the styles in which loops get written.

Some keep the model's token and look at the budget in front of `step`, some behind the token.
"""

from __future__ import annotations

from typing import Any

from labhelpers.exercises.harmony.budget import Step, answer_within


def _variant(
    message: str, forced: int = 6, unfed: bool = False, whole: bool = False, late: bool = False,
    at_least: bool = False, any_mark: bool = False, deaf: bool = False, last: bool = False,
    again: bool = False, guard: bool = False,
) -> None:  # fmt: skip
    """The loop that keeps the model's token first and looks at the budget in front of `step`.

    forced: how much of the opener. unfed: the last token is not fed with it. whole: all is fed
    again each time. late: the budget is looked at behind the token. last: even at the limit.
    guard: the limit is looked at again behind the opener.
    """

    def wrong(
        step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
    ) -> list[int]:
        out: list[int] = []
        new, thinking = list(prompt), True

        def force() -> None:
            nonlocal new, thinking
            due = len(out) >= budget if at_least else len(out) == budget
            if thinking and due and (last or len(out) < most):
                out.extend(opener[:forced])
                new = ([] if unfed else new) + list(opener[:forced])
                thinking = again

        while len(out) < most:
            if not late:
                force()
            if guard and len(out) >= most:
                break
            token = step([*prompt, *out] if whole else new)
            thinking = thinking and (token not in opener if any_mark else token != opener[0])
            out.append(token)
            if token in stop and not (deaf and thinking):
                break
            new = [token]
            if late:
                force()
        return out

    wrong.__name__ = f"_budget_{len(answer_within.mistakes)}"
    answer_within.mistake(message)(wrong)


def _sampled_first(
    message: str, forced: int = 6, any_mark: bool = False, deaf: bool = False, last: bool = False,
    whole: bool = False, again: bool = False,
) -> None:  # fmt: skip
    """The solution's own loop with such slips."""

    def wrong(
        step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
    ) -> list[int]:
        out: list[int] = []
        new, thinking = list(prompt), True
        while len(out) < most or (last and thinking and len(out) == budget):
            token = step([*prompt, *out] if whole else new)
            thinking = thinking and (token not in opener if any_mark else token != opener[0])
            new = [token]
            if thinking and (len(out) >= budget if again else len(out) == budget):
                new, thinking = list(opener[:forced]), again
            out += new
            if out[-1] in stop and not (deaf and thinking):
                break
        return out

    wrong.__name__ = f"_budget_{len(answer_within.mistakes)}"
    answer_within.mistake(message)(wrong)


_DEAF = "A stop token inside the analysis was ignored: it ends everything, wherever it comes."
_ANY = (
    "A token of the opener other than its first was taken for the end of the thought: a thought "
    "may hold the word `final`. Compare with `opener[0]`."
)
_LAST = (
    "The budget was spent and the limit `most` reached at once, and the opener was written: "
    "nothing new is begun then. (The opener may pass the limit, but has to begin in front of it.)"
)
_WHOLE = "Everything was fed again at each step: `step` takes only the ids that are not yet fed."
_ONLY_END = (
    "Only `<|end|>` was forced, so the model went on to another analysis. Force the whole opener, "
    "up to the `<|message|>` of final."
)
_UNFED = (
    "The last token of reasoning was never fed: the model goes on from a text with a hole. Feed "
    "it together with the opener."
)
_SLIPS: list[tuple[str, dict[str, Any]]] = [
    (_UNFED, {"unfed": True}),
    (_DEAF, {"deaf": True}),
    (_ANY, {"any_mark": True}),
    (_WHOLE, {"whole": True}),
    (_ONLY_END, {"forced": 1}),
    (_ONLY_END, {"forced": 1, "unfed": True}),
    (_ONLY_END, {"forced": 1, "again": True}),
    (_LAST, {"last": True}),
]
for _message, _options in _SLIPS:
    if _message not in (_UNFED, _ONLY_END):  # those are named above
        _sampled_first(_message, **_options)
    if _message != _LAST:
        _variant(_message, **_options)
        _variant(_message, guard=True, **_options)
        _variant(_message, guard=True, at_least=True, **_options)
    for _more in (False, True):
        _variant(_message, late=True, at_least=_more, **_options)
        _variant(_message, late=True, at_least=_more, **{"last": True, **_options})
