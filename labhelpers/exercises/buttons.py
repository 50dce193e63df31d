"""Hint and solution of an exercise as two buttons, for those who would rather click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labhelpers.viz.widgets import show

if TYPE_CHECKING:
    from labhelpers.exercises.core import Exercise


class HelpButtons:
    """`box` holds the buttons `hint` and `solution`, and the `answer` (HTML) below them."""

    def __init__(self, exercise: Exercise) -> None:
        import ipywidgets as w

        self.exercise = exercise
        wide = w.Layout(width="110px")
        self.hint = w.Button(description="Hint", layout=wide)
        self.solution = w.Button(description="Solution", layout=wide)
        self.answer = w.HTML()
        self.hint.on_click(lambda _: self._say(exercise.hint_card()))
        self.solution.on_click(lambda _: self._say(exercise.solution_card()))
        self.box = w.VBox([w.HBox([self.hint, self.solution]), self.answer])

    def _say(self, note: Any) -> None:
        self.answer.value = note.html()

    def _ipython_display_(self) -> None:
        show(self.box, f"hint and solution of exercise {self.exercise.title}", below="")

    def __repr__(self) -> str:
        return f"Interactive: hint and solution of exercise {self.exercise.title}."


def help_buttons(exercise: Exercise) -> HelpButtons:
    """The two buttons of an exercise."""
    return HelpButtons(exercise)
