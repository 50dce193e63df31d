"""Chapter 4's exercises: writing harmony, reading it, and what comes between two turns.

`clinic` holds ten broken transcripts to diagnose. `ByteTokenizer` is the tokenizer for paper.
"""

from labhelpers.exercises.harmony import budget_slips as _budget_slips  # noqa: F401 (registers)
from labhelpers.exercises.harmony import clinic
from labhelpers.exercises.harmony.budget import answer_within
from labhelpers.exercises.harmony.framing import frame
from labhelpers.exercises.harmony.history import keep, reusable
from labhelpers.exercises.harmony.reading import read_header, text_pieces
from labhelpers.exercises.harmony.schemas import type_of
from labhelpers.exercises.harmony.toy import ByteTokenizer
from labhelpers.exercises.harmony.training import trained

EXERCISES = (
    frame,
    type_of,
    trained,
    text_pieces,
    read_header,
    answer_within,
    keep,
    reusable,
)

__all__ = ["EXERCISES", "ByteTokenizer", "clinic", *sorted(e.name for e in EXERCISES)]
