"""Exercise on a reasoning budget: when it is spent, force the opener of the final channel.

Source of the idea: imp, pull request 800 (ending the analysis is not enough, another one is
opened).
The package's own is `labhelpers.chat.budget`.
"""

from __future__ import annotations

from collections.abc import Callable

from labhelpers.exercises.core import Case, exercise

Step = Callable[[list[int]], int]
_END, _START, _ASSISTANT, _CHANNEL, _ANALYSIS, _FINAL, _MESSAGE, _RETURN = range(90, 98)
OPENER = [_END, _START, _ASSISTANT, _CHANNEL, _FINAL, _MESSAGE]
_AGAIN = [_START, _ASSISTANT, _CHANNEL, _ANALYSIS, _MESSAGE]
_PATIENCE = 80  # calls of step after which a loop is taken to be endless


def _thinker(thoughts: int, more: int = 0, says: dict[int, int] | None = None) -> Step:
    """A pretend model in the middle of its analysis: `thoughts` tokens, then it answers by itself.

    more: first it opens a second analysis of so many tokens. says: tokens that it writes when so
    many thoughts are left.
    If only `<|end|>` is put into its mouth it opens another analysis, as gpt-oss does.
    """
    fed: list[int] = []
    queue: list[int] = []
    state = {"thinking": True, "left": thoughts, "calls": 0, "answer": 3, "more": more}

    def step(new_ids: list[int]) -> int:
        state["calls"] += 1
        if state["calls"] > _PATIENCE:
            raise RuntimeError(f"step was called {_PATIENCE} times: does the loop ever end?")
        fed.extend(int(i) for i in new_ids)
        mood = sum((k + 1) * token for k, token in enumerate(fed)) % 50
        if queue and queue[0] == fed[-1]:
            queue.pop(0)
        if fed[-len(OPENER) :] == OPENER:
            queue.clear()
            state["thinking"] = False
        elif fed[-1] == _END and not queue:
            if state["left"] <= 0 and state["more"]:
                state["left"], state["more"] = state["more"], 0
            queue.extend(_AGAIN if state["left"] > 0 else OPENER[1:])
        if queue:
            return queue[0]
        if state["thinking"]:
            state["left"] -= 1
            return (says or {}).get(state["left"], mood) if state["left"] >= 0 else _END
        state["answer"] -= 1
        return mood if state["answer"] >= 0 else _RETURN

    return step


def _case(
    thoughts: int, budget: int, most: int = 40, more: int = 0, says: dict[int, int] | None = None
) -> tuple[object, ...]:
    return _thinker(thoughts, more, says), [1, 2, 3], budget, list(OPENER), {_RETURN}, most


@exercise(
    "4.6",
    minutes=15,
    difficulty=3,
    cases=[
        Case("a budget of 5 and a long thought", lambda: _case(30, 5)),
        Case("a thought that ends in time", lambda: _case(4, 9)),
        Case("a limit of 3 tokens in all", lambda: _case(30, 9, 3)),
        Case("a budget of 0", lambda: _case(30, 0)),
        Case("an opener that passes the limit", lambda: _case(30, 4, 7)),
        Case("a second analysis after its own end", lambda: _case(3, 6, more=9)),
        Case("a stop token inside the analysis", lambda: _case(30, 5, says={27: _RETURN})),
        Case("the word `final` in a thought", lambda: _case(30, 6, says={27: _FINAL})),
        Case("a budget as large as the limit", lambda: _case(30, 4, 4)),
    ],
    hints=(
        "The usual loop: ask `step`, append, feed what was appended. While the model thinks (it "
        "has not written `opener[0]`, the `<|end|>`), look at how many tokens it has written; "
        "when the budget is spent, put the whole opener in the place of its token.",
        "Keep `new`, the ids to feed next. Normally `new = [token]`. If `thinking` and "
        "`len(out) == budget`, then `new = list(opener)` and thinking is over. In both cases "
        "`out += new`, and the next `step(new)` sees the opener as if the model had written it.",
    ),
)
def answer_within(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    """A list of the new ids: a first thought of at most `budget`, then, forced or not, an answer.

    step(new_ids) takes the ids not yet fed and gives the model's next id. The prompt ends inside
    the analysis. Up to and with a stop token, and no new id once there are `most`; the opener is
    written whole even so. A model that ends its analysis by itself is not forced any more, even
    if it opens a second one.
    """
    out: list[int] = []
    new, thinking = list(prompt), True
    while len(out) < most:
        token = step(new)
        thinking = thinking and token != opener[0]
        new = [token]
        if thinking and len(out) == budget:
            new, thinking = list(opener), False  # the model's own token is dropped
        out += new
        if out[-1] in stop:
            break
    return out


def _forcing(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int,
    forced: list[int] | None = None, fed: int | None = None, kept: bool = False,
    notices: bool = True, again: bool = False, shown: bool = True, stops: bool = True,
) -> list[int]:  # fmt: skip
    """The loop with slips: what is forced, how much of it is fed, and so on."""
    out: list[int] = []
    new, thinking = list(prompt), True
    while len(out) < most:
        token = step(new)
        if notices:
            thinking = thinking and token != opener[0]
        new, said = [token], [token]
        due = len(out) >= budget if again else len(out) == budget
        if thinking and due:
            force = list(opener) if forced is None else forced
            said = ([token] if kept else []) + (force if shown else [])
            new = force[-fed:] if fed else said if shown else force
            thinking = again
        out += said
        if stops and out and out[-1] in stop:
            break
    return out


def _slip(message: str, **slips: object) -> None:
    def wrong(
        step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
    ) -> list[int]:
        more = int(slips.get("more", 0))  # type: ignore[call-overload]
        options = {k: v for k, v in slips.items() if k != "more"}
        if options.pop("end_only", False):
            options["forced"] = opener[:1]
        if options.pop("without_end", False):
            options["forced"] = opener[1:]
        return _forcing(step, prompt, budget + more, opener, stop, most, **options)  # type: ignore[arg-type]

    wrong.__name__ = f"_budget_{len(answer_within.mistakes)}"
    answer_within.mistake(message)(wrong)


_slip(
    "Only `<|end|>` was forced, and the model opened another analysis: force the whole opener, up "
    "to the `<|message|>` of final.",
    end_only=True,
)
_slip("The opener lacks its first token: the analysis has to be closed first.", without_end=True)
_slip("Only the last token of the opener was fed to the model: feed all of it.", fed=1)
_slip(
    "One token of reasoning too many: the opener takes the place of the token that the model "
    "wanted, as soon as `budget` tokens have been written.",
    kept=True,
)
_slip("The opener is missing from the result: whoever reads the turn needs it.", shown=False)
_slip("One token of reasoning too few: `budget` tokens may be written.", more=-1)
_slip(
    "The opener was forced although the analysis had already ended by itself: look for "
    "`opener[0]`.",
    notices=False,
)
_slip("The opener is forced again and again: after it, thinking is over.", again=True)
_slip("The stop token does not stop it.", stops=False)


def _edit(
    message: str,
    change: Callable[[list[int], list[int], int, int], list[int]],
) -> None:
    """A wrong version that changes the right ids, given prompt, budget and most."""

    def wrong(
        step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
    ) -> list[int]:
        out = answer_within.function(step, prompt, budget, opener, stop, most)
        return change(out, prompt, budget, most)

    wrong.__name__ = f"_budget_{len(answer_within.mistakes)}"
    answer_within.mistake(message)(wrong)


_edit(
    "The stop token is left out: whoever reads the turn needs it.",
    lambda out, prompt, budget, most: out[:-1] if out[-1] == _RETURN else out,
)
_edit(
    "The prompt is returned too: asked are the new ids alone.",
    lambda out, prompt, budget, most: [*prompt, *out],
)
_edit(
    "The opener was cut at the limit: an opener without its end opens nothing, so it is written "
    "whole.",
    lambda out, prompt, budget, most: out[:most],
)


@answer_within.mistake(
    "The opener passed the limit, and one more id was asked for: look at `most` again behind it."
)
def _one_past(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    out: list[int] = []
    new, thinking = list(prompt), True
    while len(out) < most:
        if thinking and len(out) == budget:
            out += opener
            new, thinking = new + list(opener), False
        token = step(new)
        thinking = thinking and token != opener[0]
        out.append(token)
        if token in stop:
            break
        new = [token]
    return out


@answer_within.mistake(
    "With a budget of 0 nothing was forced: look at the budget before the first token is kept."
)
def _never_at_zero(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    return _forcing(step, prompt, budget or most + 1, opener, stop, most)


@answer_within.mistake(
    "With a budget of 0 one token of reasoning was kept: look at the budget before the first token "
    "is kept."
)
def _one_at_zero(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    return _forcing(step, prompt, max(1, budget), opener, stop, most)


@answer_within.mistake("Nothing was forced: the reasoning goes on beyond its budget.")
def _never(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    return _forcing(step, prompt, most + 1, opener, stop, most)


@answer_within.mistake("It stopped when the budget was spent: then the answer is due, by force.")
def _gives_up(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    return _forcing(step, prompt, most + 1, opener, stop, budget if budget < 9 else most)


@answer_within.mistake(
    "The last token of reasoning was never fed: the model goes on from a text with a hole. Feed "
    "it together with the opener."
)
def _last_unfed(
    step: Step, prompt: list[int], budget: int, opener: list[int], stop: set[int], most: int
) -> list[int]:
    out: list[int] = []
    new, thinking = list(prompt), True
    while len(out) < most:
        if thinking and len(out) == budget:
            out += opener
            new, thinking = list(opener), False
        token = step(new)
        thinking = thinking and token != opener[0]
        out.append(token)
        if token in stop:
            break
        new = [token]
    return out
