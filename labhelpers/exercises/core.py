"""Exercises: the reader fills a stub, `check` says how it went, and the notebook goes on.

    from labhelpers.exercises import architecture as ex

    @ex.rms_norm.check
    def rms_norm(x, weight, eps):
        ...

Four outcomes: not attempted (the body is a docstring and `...`), raised, wrong, right. Whatever
the outcome, the name `rms_norm` is usable afterwards: the reader's function if it is right, the
course's otherwise.

While a function is judged its own name means itself (`raised.named`), so that one which calls
itself is judged by itself alone.

Mistakes are code. An exercise holds its solution and named wrong versions of it; if the reader's
results equal those of a wrong version on every input, the card names that mistake. Tests run
the same functions, so that every one is rejected by its own message. One mistake that can be
written in several ways (with other roundings, or another shape) has a version for each.

Source of the habits: Kaggle's learntools (check, hint, solution). Limits: a reader's endless
loop is not interrupted; the kernel's Stop button does that.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.cards import Card, Note
from labhelpers.exercises.judge import Show, difference, same
from labhelpers.exercises.progress import record
from labhelpers.exercises.raised import Raised, alike, outcome
from labhelpers.exercises.untouched import is_untouched, told_nothing
from labhelpers.exercises.words import Words
from labhelpers.viz.components import show

GOES_ON = "The notebook goes on with the course's version."
Observe = Callable[..., Any]  # (result, *arguments) -> what is judged


@dataclass(frozen=True)
class Case:
    """One input. `make` builds the arguments."""

    name: str  # completes "on the input with ..."
    make: Callable[[], tuple[Any, ...]]

    def fresh(self) -> tuple[Any, ...]:
        """Arguments that nobody else has: an answer may change what it gets."""
        return copy.deepcopy(self.make())


@dataclass(frozen=True)
class Mistake:
    """A wrong version, and the sentence that names it."""

    message: str
    function: Callable[..., Any]


class Exercise:
    """One exercise. `function` is the course's solution, `mistakes` the named wrong versions."""

    def __init__(
        self,
        number: str,
        function: Callable[..., Any],
        cases: Sequence[Case],
        hints: tuple[str, ...],
        minutes: int,
        difficulty: int,
        axes: Sequence[str],
        outputs: Sequence[str],
        tolerance: float,
        show: Show = None,
        observe: Observe | None = None,
        words: Words | None = None,
    ) -> None:
        self.number, self.function, self.name = number, function, function.__name__
        self.cases, self.hints = tuple(cases), hints
        self.minutes, self.difficulty = minutes, difficulty
        self.axes, self.outputs, self.tolerance = tuple(axes), tuple(outputs), tolerance
        self.show, self.observe, self.words = show, observe, words or Words()
        self.mistakes: list[Mistake] = []
        self._hints_given = 0

    @property
    def title(self) -> str:
        """Number and name, as cards write it."""
        return f"{self.number} {self.name}"

    @property
    def key(self) -> str:
        """The name in the progress file, such as architecture.rms_norm."""
        return f"{self.function.__module__.split('.')[2]}.{self.name}"

    def mistake(self, message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: add a wrong version under a sentence that says what is wrong with it."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.mistakes.append(Mistake(message, function))
            return function

        return add

    # -- judging --------------------------------------------------------------------------

    def check(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Judge a function, show the card, and return the function to go on with."""
        card = self.judge(function)
        if card.outcome != "not attempted":  # so that an untouched notebook writes no file
            if note := record(self.key, card.outcome):
                card.lines.append(note)
        show(card)
        return function if card.outcome == "right" else self.function

    def judge(self, function: Callable[..., Any]) -> Card:
        """The card for a function; nothing is shown or recorded."""
        if is_untouched(function):
            line = f"Fill in the body, then run this cell again. {GOES_ON}"
            return Card("not attempted", self.title, [line])
        results = []
        for case in self.cases:
            results.append(self.outcome(function, case))
            if isinstance(results[-1], Raised):
                named = self._recognise(results)
                end = f"{named} {self._goes_on()}" if named else self._goes_on()
                return Card("raised", self.title, [*results[-1].told(function, case.name), end])
        if problem := self._problem(function, results):
            named = self._recognise(results)
            lines = [problem, *([named] if named else []), self._goes_on()]
            return Card("wrong", self.title, lines)
        names = ", ".join(case.name for case in self.cases)
        lines = [f"All {len(self.cases)} inputs agree: {names}."]
        if self.words.aside is not None:
            with torch.inference_mode(False), torch.enable_grad():
                lines += filter(None, [self.words.aside(function)])
        return Card("right", self.title, lines)

    def outcome(self, function: Callable[..., Any], case: Case) -> Any:
        """What is judged of a function on a case: its result (or what `observe` makes of it)."""
        with torch.inference_mode(False), torch.enable_grad():  # whatever the notebook has set
            arguments = case.fresh()
            result = outcome(function, arguments)
            if self.observe is None or isinstance(result, Raised):
                return result
            return outcome(self.observe, (result, *arguments))

    def _problem(self, function: Callable[..., Any], results: list[Any]) -> str:
        """The first difference from the solution, or "" if there is none."""
        for case, got in zip(self.cases, results, strict=True):
            expected = self.outcome(self.function, case)
            found = difference(got, expected, self.tolerance, self.axes, self.outputs, self.show)
            if found and got is None:
                found = told_nothing(function)
            elif found and self.words.point is not None:
                more = self.words.point(got, expected, *case.fresh())
                found = f"{found} {more}" if more else found
            if found:
                return f"Input with {case.name}: {found[0].lower()}{found[1:]}"
        for case in self.cases if self.words.strict is not None else ():
            with torch.inference_mode(False), torch.enable_grad():
                pair = [outcome(f, case.fresh()) for f in (function, self.function)]
            if found := self.words.strict(*pair):  # type: ignore[misc]
                return f"Input with {case.name}: {found}"
        for case in self.cases:
            with torch.inference_mode(False), torch.enable_grad():
                arguments, untouched = case.fresh(), case.fresh()
                outcome(function, arguments)
            for got, expected in zip(arguments, untouched, strict=True):
                kinds = Tensor | list | dict
                if isinstance(expected, kinds) and not same(got, expected, 0.0):
                    return (
                        "The result is right, but the function changes its input in place: "
                        "whoever passed it will compute with other numbers."
                    )
        return ""

    def _recognise(self, results: list[Any]) -> str:
        """The message of the wrong version that gives the same results, or "".

        The results may end early, with an error: then the wrong version must raise there too.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a wrong version's are not the reader's
            for mistake in self.mistakes:
                if all(
                    alike(got, self.outcome(mistake.function, case), self.tolerance)
                    for case, got in zip(self.cases, results, strict=False)
                ):
                    return mistake.message
        return ""

    def _goes_on(self) -> str:
        return f"{GOES_ON} Next: `ex.{self.name}.hint()`"

    # -- help on request ------------------------------------------------------------------

    def hint(self, number: int | None = None) -> None:
        """Show the next hint; the last is near the code. `hint(1)` shows a given one."""
        show(self.hint_card(number))

    def hint_card(self, number: int | None = None) -> Note:
        """The hint as a component; after the last, that there are no more.

        Raises ValueError if a number is given and there is no such hint.
        """
        last = len(self.hints)
        more = f"`ex.{self.name}.solution()`"
        if number is None and self._hints_given >= last:
            text = f"{more} shows the course's version, `ex.{self.name}.hint(1)` the first hint."
            return Note(f"No more hints for {self.title}: there are {last}", text)
        number = self._hints_given + 1 if number is None else number
        if not 1 <= number <= last:
            raise ValueError(f"there are hints 1 to {last}, not {number}")
        self._hints_given = max(self._hints_given, number)
        record(self.key, hints=number)
        end = "" if number < last else f" Next: {more}"
        return Note(f"Hint {number} of {last} for {self.title}", self.hints[number - 1] + end)

    def solution(self) -> None:
        """Show the course's function: the very one that the tests run."""
        show(self.solution_card())

    def solution_card(self) -> Note:
        """The solution as a component."""
        record(self.key, solution=True)
        return Note(f"A solution of {self.title}", source=self.source())

    def source(self) -> str:
        """The solution's source, from `def` on, without the types in its signature.

        Types would need imports that a notebook may not have.
        """
        text = textwrap.dedent(inspect.getsource(self.function))
        node = ast.parse(text).body[0]
        assert isinstance(node, ast.FunctionDef)
        body = "\n".join(text.splitlines()[node.body[0].lineno - 1 :])
        return f"def {self.name}({', '.join(a.arg for a in node.args.args)}):\n{body}"

    def buttons(self) -> Any:
        """Hint and solution as buttons (a widget)."""
        from labhelpers.exercises.buttons import help_buttons

        return help_buttons(self)

    def _repr_html_(self) -> str:
        return self._price().html()

    def __repr__(self) -> str:
        return self._price().plain()

    def _price(self) -> Note:
        level = ("easy", "middling", "hard")[self.difficulty - 1]
        return Note(f"Exercise {self.title}", f"{self.minutes} minutes, {level}")


def exercise(
    number: str,
    *,
    cases: Sequence[Case],
    hints: tuple[str, ...],
    minutes: int,
    difficulty: int,
    axes: Sequence[str] = ("row",),
    outputs: Sequence[str] = (),
    tolerance: float = 1e-5,
    show: Show = None,
    observe: Observe | None = None,
    words: Words | None = None,
) -> Callable[[Callable[..., Any]], Exercise]:
    """Decorator that makes an Exercise of its solution.

    number "1.5"; minutes for a reader who has not seen the solution; difficulty 1 to 3; axes:
    what the leading dimensions of the result are called; outputs: names of the parts if the
    result is a tuple; show: tokens as text, if it is a list of ids; observe: makes what is judged
    of the result and the arguments (a gradient, say); words: sentences of its own. The wrong
    versions follow with `@name.mistake("what is wrong")`.
    """

    def make(function: Callable[..., Any]) -> Exercise:
        return Exercise(
            number, function, cases, hints, minutes, difficulty, axes, outputs, tolerance, show,
            observe, words,
        )  # fmt: skip

    return make
