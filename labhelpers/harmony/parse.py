"""A whole stream of tokens as messages: strictly, or mended with a list of faults.

gpt-oss's choice: a turn ends with `<|return|>` or `<|call|>`; what is cut off is read as far as it
goes. Source: OpenAI's harmony format guide. Limits: `stream` and `lenient` read token by token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .faults import Fault
from .header import Decoder
from .lenient import LenientParser
from .messages import Message
from .stream import StreamParser


class Parsed(NamedTuple):
    """What a lenient reading found. `complete`: the stream ended with a stop."""

    messages: list[Message]
    faults: list[Fault]
    complete: bool


def parse(
    ids: Iterable[int],
    tokenizer: Decoder,
    role: str | None = "assistant",
    strict: bool = True,
) -> list[Message]:
    """Messages of a completion (or, with role None, of a whole rendered conversation).

    Raises HarmonyError where the format is broken; with strict=False it is mended instead
    (`parse_lenient` says how).
    """
    return _parsed(ids, tokenizer, role, strict).messages


def parse_lenient(ids: Iterable[int], tokenizer: Decoder, role: str | None = "assistant") -> Parsed:
    """Messages of a stream that may be broken, and its faults. Raises for no list of valid ids.

    Every word of the stream is in a message, in a field of one, or in a fault's text.
    """
    parser = _parsed(ids, tokenizer, role, strict=False)
    return Parsed(parser.messages, parser.faults, parser.complete)


def _parsed(ids: Iterable[int], tokenizer: Decoder, role: str | None, strict: bool) -> StreamParser:
    parser = (StreamParser if strict else LenientParser)(tokenizer, role)
    for token_id in ids:
        parser.push(token_id)
    parser.finish()
    return parser
