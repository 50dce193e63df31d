"""Broken harmony streams, made from whole ones: each way of breaking is a function on token ids.

REAL holds those that were seen in production (their numbers in the notes of servers' trackers),
RANDOM those that a fuzzer thinks of. Every function takes (ids, tok, rng) and returns new ids; a
stream that lacks what a mutation needs comes back unchanged. `tokens` writes a stream by hand.
"""

import re

STRUCTURE = (
    "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"
)  # fmt: skip


def tokens(tok, text):
    """Ids of a text in which the names of special tokens are those tokens."""
    parts = re.split(r"(<\|\w+\|>)", text)
    return [i for p in parts for i in ([tok.special_id(p)] if p in tok.specials else tok.encode(p))]


def places(ids, tok, mark):
    """Where a special token stands."""
    wanted = tok.special_id(mark)
    return [n for n, i in enumerate(ids) if i == wanted]


def header_of_last(ids, tok):
    """Begin and end of the last message's header: behind <|start|>, and its <|message|>."""
    marks = places(ids, tok, "<|message|>")
    if not marks:
        return None
    begin = max([n for n in places(ids, tok, "<|start|>") if n < marks[-1]], default=-1) + 1
    return begin, marks[-1]


def insert(ids, at, more):
    return [*ids[:at], *more, *ids[at:]]


# -- seen in production -------------------------------------------------------------------


def double_start(ids, tok, rng=None):
    """<|start|><|start|>assistant (vllm 43408)."""
    found = places(ids, tok, "<|start|>")
    return insert(ids, found[-1], [tok.special_id("<|start|>")]) if found else ids


def double_role(ids, tok, rng=None):
    """<|start|>assistantassistant (tenstorrent/vllm 386)."""
    found = places(ids, tok, "<|start|>")
    return insert(ids, found[-1] + 1, tokens(tok, "assistant")) if found else ids


def whole_opener_again(ids, tok, rng=None):
    """A completion that repeats the <|start|>assistant that the prompt ended with."""
    return tokens(tok, "<|start|>assistant") + ids


def words_after_end(ids, tok, rng=None):
    """<|end|> 364 <|start|> (vllm 43408)."""
    found = places(ids, tok, "<|end|>")
    return insert(ids, found[-1] + 1, tokens(tok, " 364 ")) if found else ids


def no_start(ids, tok, rng=None):
    """<|end|><|channel|>final: <|start|> and the role are missing."""
    header = header_of_last(ids, tok)
    marks = header and [n for n in places(ids, tok, "<|channel|>") if n >= header[0]]
    return ids[: header[0] - 1] + ids[marks[0] :] if marks and header[0] else ids


def role_glued_to_channel(ids, tok, rng=None):
    """<|start|>assistantfinal: the mark between the two is missing."""
    header = header_of_last(ids, tok)
    marks = header and [n for n in places(ids, tok, "<|channel|>") if n >= header[0]]
    return ids[: marks[0]] + ids[marks[0] + 1 :] if marks and header[0] else ids


def empty_channel(ids, tok, rng=None):
    """<|channel|><|message|> (vllm 43408, sglang 8914)."""
    header = header_of_last(ids, tok)
    marks = header and [n for n in places(ids, tok, "<|channel|>") if n >= header[0]]
    return ids[: marks[0] + 1] + ids[header[1] :] if marks else ids


def _in_header(ids, tok, change):
    """The text from the last <|channel|> to the mark behind it, changed as text."""
    marks = places(ids, tok, "<|channel|>")
    if not marks:
        return ids
    begin = marks[-1] + 1
    end = next((n for n in range(begin, len(ids)) if tok.is_special(ids[n])), len(ids))
    return ids[:begin] + tok.encode(change(tok.decode(ids[begin:end]))) + ids[end:]


def question_marks(ids, tok, rng=None):
    """<|channel|>commentary?? (llama.cpp 27720)."""
    return _in_header(ids, tok, lambda text: re.sub(r"^\w+", r"\g<0>??", text))


def channel_again(ids, tok, rng=None):
    """<|channel|>commentary?commentary? (llama.cpp 27720)."""
    return _in_header(ids, tok, lambda text: re.sub(r"^(\w+)", r"\1?\1?", text))


def misspelt_channel(ids, tok, rng=None):
    """<|channel|>finalx (dynamo 14935)."""
    return _in_header(ids, tok, lambda text: re.sub(r"^\w+", r"\g<0>x", text))


def prose_as_channel(ids, tok, rng=None):
    """<|channel|>, then what the model thinks, then <|message|> (llama.cpp 27720)."""
    return _in_header(ids, tok, lambda text: "We can answer now")


def two_channels(ids, tok, rng=None):
    """<|channel|>analysis<|channel|>final."""
    marks = places(ids, tok, "<|channel|>")
    return insert(ids, marks[-1], tokens(tok, "<|channel|>analysis")) if marks else ids


def _recipient(ids, tok, change):
    """The text of the last header's to=..., changed."""
    header = header_of_last(ids, tok)
    if not header:
        return ids
    begin = header[0]
    for n in range(header[0], header[1] + 1):  # run by run
        if tok.is_special(ids[n]):
            text = tok.decode(ids[begin:n])
            if " to=" in text:
                return ids[:begin] + tok.encode(change(text)) + ids[n:]
            begin = n + 1
    return ids


def recipient_twice(ids, tok, rng=None):
    """to=functions.f to=functions.f (sglang 35299, vllm 51977)."""
    return _recipient(ids, tok, lambda text: re.sub(r" to=\S+", r"\g<0>\g<0>", text))


def to_twice(ids, tok, rng=None):
    """to=to=functions.f."""
    return _recipient(ids, tok, lambda text: text.replace("to=", "to=to="))


def recipient_glued(ids, tok, rng=None):
    """to=functions.f<|constrain|>json, the mark spelt with ordinary tokens."""
    marks = places(ids, tok, "<|constrain|>")
    if not marks:
        return ids
    at, before = marks[-1], ids[: marks[-1]]
    while before and tok.decode(before[-1:]).isspace():
        before = before[:-1]
    return before + tok.encode("<|constrain|>") + ids[at + 1 :]


def final_without_header(ids, tok, rng=None):
    """analysis<|end|>, then the answer at once."""
    header = header_of_last(ids, tok)
    return ids[: max(header[0] - 1, 0)] + ids[header[1] + 1 :] if header else ids


def bare_answer(ids, tok, rng=None):
    """Nothing but the answer and its stop (llama.cpp 25321, harmony 80)."""
    header = header_of_last(ids, tok)
    return ids[header[1] + 1 :] if header else ids


def message_after_return(ids, tok, rng=None):
    """<|return|><|message|> and the text: the last header is lost."""
    header = header_of_last(ids, tok)
    begin = max(header[0] - 1, 0) if header else 0
    return (
        ids[:begin] + tokens(tok, "<|return|><|message|>") + ids[header[1] + 1 :] if begin else ids
    )


def no_message_mark(ids, tok, rng=None):
    """final, then the text and a stop without <|message|> (harmony 82, dynamo 237)."""
    header = header_of_last(ids, tok)
    return ids[: header[1]] + tok.encode(" ") + ids[header[1] + 1 :] if header else ids


def stop_before_message(ids, tok, rng=None):
    """final<|return|><|message|> and the text: the stop comes twice, once too early."""
    header = header_of_last(ids, tok)
    return insert(ids, header[1], ids[-1:]) if header and tok.is_special(ids[-1]) else ids


def call_then_commentary(ids, tok, rng=None):
    """Sampling goes on past <|call|>: commentary<|channel|>... (vllm 22519, harmony 60)."""
    found = places(ids, tok, "<|call|>")
    more = tokens(tok, "commentary<|channel|>commentary to=functions.g<|message|>{}<|call|>")
    return ids[: found[-1] + 1] + more if found else ids


def stop_twice(ids, tok, rng=None):
    """<|end|><|return|> (vllm 50690)."""
    stops = [n for mark in ("<|return|>", "<|call|>") for n in places(ids, tok, mark)]
    return insert(ids, max(stops), [tok.special_id("<|end|>")]) if stops else ids


def tail_after_return(ids, tok, rng=None):
    """Words after the stop of the whole turn (vllm 50690)."""
    return ids + tok.encode("Anything else?")


def header_in_text(ids, tok, rng=None):
    """Thinking runs into <|channel|>final: no <|end|>, no <|start|>."""
    header = header_of_last(ids, tok)
    marks = header and [n for n in places(ids, tok, "<|channel|>") if n >= header[0]]
    return ids[: header[0] - 2] + ids[marks[0] :] if marks and header[0] >= 2 else ids


REAL = {
    f.__name__: f
    for f in (
        double_start, double_role, whole_opener_again, words_after_end, no_start,
        role_glued_to_channel, empty_channel, question_marks, channel_again, misspelt_channel,
        prose_as_channel, two_channels, recipient_twice, to_twice, recipient_glued,
        final_without_header, bare_answer, message_after_return, no_message_mark,
        stop_before_message, call_then_commentary, stop_twice, tail_after_return, header_in_text,
    )
}  # fmt: skip


# -- by chance ----------------------------------------------------------------------------


def delete(ids, tok, rng):
    """One token gone."""
    at = rng.randrange(len(ids)) if ids else 0
    return ids[:at] + ids[at + 1 :]


def delete_special(ids, tok, rng):
    """One mark gone."""
    found = [n for n, i in enumerate(ids) if tok.is_special(i)]
    at = rng.choice(found) if found else len(ids)
    return ids[:at] + ids[at + 1 :]


def insert_special(ids, tok, rng):
    """A special token anywhere, mostly one of harmony's own."""
    known = STRUCTURE if rng.random() < 0.9 else sorted(tok.specials)
    return insert(ids, rng.randint(0, len(ids)), [tok.special_id(rng.choice(known))])


def insert_header_words(ids, tok, rng):
    """Words of headers anywhere."""
    words = (
        "assistant",
        "final",
        " to=functions.f",
        "to=",
        "json",
        "user",
        "commentary",
        " ",
        "\n",
    )
    return insert(ids, rng.randint(0, len(ids)), tok.encode(rng.choice(words)))


def duplicate(ids, tok, rng):
    """A stretch of tokens twice."""
    at, length = rng.randint(0, len(ids)), rng.randint(1, 6)
    return insert(ids, at, ids[max(at - length, 0) : at])


def swap(ids, tok, rng):
    """Two tokens change places."""
    out = list(ids)
    if out:
        a, b = rng.randrange(len(out)), rng.randrange(len(out))
        out[a], out[b] = out[b], out[a]
    return out


def truncate(ids, tok, rng):
    """The stream ends anywhere."""
    return ids[: rng.randint(0, len(ids))]


def replace(ids, tok, rng):
    """A token becomes any other one."""
    if not ids:
        return ids
    at = rng.randrange(len(ids))
    return [*ids[:at], random_id(tok, rng), *ids[at + 1 :]]


def cut_character(ids, tok, rng):
    """A lone byte of a longer character anywhere."""
    byte = tok.ranks[bytes([rng.choice((0xC3, 0xE4, 0xF0, 0x9F, 0x80))])]
    return insert(ids, rng.randint(0, len(ids)), [byte])


def random_id(tok, rng):
    """Any id that the tokenizer has."""
    if rng.random() < 0.2:
        return rng.choice(sorted(tok.specials.values()))
    while True:
        token_id = rng.randrange(tok.vocab_size)
        if tok.is_special(token_id) or token_id < len(tok.ranks):
            return token_id


RANDOM = {
    f.__name__: f
    for f in (
        delete, delete_special, insert_special, insert_header_words, duplicate, swap, truncate,
        replace, cut_character,
    )
}  # fmt: skip
