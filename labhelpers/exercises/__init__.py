"""Exercises: stubs to fill, checks that say what is wrong, hints and solutions on request.

    from labhelpers.exercises import architecture as ex     # a chapter's exercises
    labhelpers.exercises.progress()                         # all of them as a picture

`core` has the mechanics, `judge` compares results, `progress` keeps the record; then comes one
module a topic, with solutions, named wrong versions and hints. A new topic goes into TOPICS.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from labhelpers.exercises import progress as _record
from labhelpers.exercises.core import Case, Exercise, Mistake, exercise

if TYPE_CHECKING:
    from labhelpers.viz.look import Picture

TOPICS = ("architecture", "mxfp4", "harmony")  # in the order of the chapters


def all_exercises() -> list[Exercise]:
    """Every exercise of the course, in order."""
    modules = [import_module(f"labhelpers.exercises.{topic}") for topic in TOPICS]
    return [item for module in modules for item in module.EXERCISES]


def progress() -> "Picture":
    """What is solved so far, as a picture and in words."""
    return _record.draw(all_exercises())


__all__ = ["TOPICS", "Case", "Exercise", "Mistake", "all_exercises", "exercise", "progress"]
