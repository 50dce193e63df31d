"""What can be wrong in a stream of harmony tokens: a named fault, its place, its repair.

gpt-oss's choice: none. The format guide says what a right stream is; sampling breaks it now and
then (a header that never ends, a channel called `commentary??`), and a server that only raises
loses an answer that a reader would have seen at once. The lenient parser repairs and reports.

Source: streams reported against vLLM, SGLang, llama.cpp and openai-harmony, each kind met at
least once in the wild or found by fuzzing. Limits: a fault tells what was done, and the repair
is a reading, not a proof.
"""

from __future__ import annotations

from dataclasses import dataclass

# What happened; what was done. Fault.explanation adds the words that it was about.
KINDS: dict[str, str] = {
    # between messages
    "no-start": "a message begins without <|start|>; it counts as the assistant's",
    "message-after-return": "<|message|> follows a stop; its text is a message all the same",
    "words-between-messages": "words stand outside any message",
    "doubled-stop": "a stop stands where there is no message to end; it was passed over",
    # in a header
    "doubled-start": "the opening of a message stands twice; one of them counts",
    "doubled-role": "the role stands twice; one of them counts",
    "no-role": "the header names no role; it counts as the assistant's",
    "unknown-role": "the header begins with no role that harmony has",
    "no-header": "text came without any mark; it was read as a message",
    "no-channel": "an assistant's message names no channel; its ending decides",
    "no-channel-mark": "a channel's name stands without <|channel|>; it counts all the same",
    "empty-channel": "nothing follows <|channel|>; the message's ending decides",
    "unknown-channel": "the word after <|channel|> is no channel that harmony has",
    "two-channels": "the header names two channels; the last one counts",
    "two-recipients": "the recipient stands twice; the first one counts",
    "empty-recipient": "nothing follows to=; it was passed over",
    "recipient-glued": "the recipient runs into what follows; it was cut there",
    "empty-constrain": "nothing follows <|constrain|>; it was passed over",
    "extra-words": "the header holds words that have no place in it; they are kept here alone",
    "broken-character": "the header holds bytes that are no UTF-8; U+FFFD stands for them",
    "no-message-mark": "a header is given up before <|message|>; its prose, if any, is a message",
    "stop-in-header": "a stop came before <|message|>; what the header does not need is the text",
    # in a text
    "no-stop": "a new header begins inside a text; the message before it ended there",
    "mark-in-text": "a mark that belongs in a header stands inside a text; it was passed over",
    "call-without-recipient": "<|call|> ends a message that calls nobody; it is one all the same",
    # anywhere
    "unknown-special": "a special token that harmony does not use; it was passed over",
    "other-stop": "<|endoftext|> stands for a stop of harmony",
    "truncated-header": "the stream ended inside a header",
    "truncated-text": "the stream ended inside a message; what there is of it counts",
}

_LONGEST = 60  # characters of the words shown in an explanation


@dataclass(frozen=True)
class Fault:
    """One departure from the format, and what was made of it.

    `position`: index of the token in the stream (for a truncated stream, its last token);
    `kind`: a key of KINDS; `explanation`: one sentence; `text`: the words that it is about. Words
    that are in no message are here in full, so nothing that a model wrote is lost.
    """

    position: int
    kind: str
    explanation: str
    text: str = ""


def fault(kind: str, position: int, text: str = "", done: str = "") -> Fault:
    """A Fault of a kind, its sentence made from KINDS, the words and what was `done`."""
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    sentence = KINDS[kind] + (f"; {done}" if done else "") + (f": {shown!r}" if text else "")
    return Fault(position, kind, sentence[0].upper() + sentence[1:] + ".", text)
