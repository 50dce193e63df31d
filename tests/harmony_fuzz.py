"""Streams for the parsers to fail on, by seed, and what must hold of every reading of them.

`stream(seed, tok)` gives the ids of one stream and the role that is open at its start; `problems`
reads it every way there is and returns what went wrong, in words ([] is the answer wanted).
"""

import random
from collections import Counter

from harmony_mutations import RANDOM, REAL, STRUCTURE, places, random_id

from labhelpers.harmony import HarmonyError, LenientParser, Message, parse, parse_lenient, render

PREFIX = len("ab")  # <|start|> and assistant: what the prompt gives a completion


def conversation(rng, words):
    """Messages of a turn or several. Every word occurs once, so a lost one is missed."""

    def text(most=6):
        parts = [next(words) for _ in range(rng.randint(0, most))]
        return rng.choice((" ", " ", "\n", "é ", " 🙂", "中")).join(parts)

    messages = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        messages.append(Message.user(text()))
        for _ in range(rng.randint(0, 2)):
            if rng.random() < 0.3:
                messages.append(Message.preamble(text()))
            messages.append(Message.analysis(text(12)))
            if rng.random() < 0.5:
                name = f"functions.{next(words)}"
                messages.append(Message.call(name, f'{{"a": "{text()}"}}'))
                if rng.random() < 0.7:
                    messages.append(Message.tool(name, text()))
            elif rng.random() < 0.3:
                messages.append(Message.call("python", text()))
                messages.append(Message.tool("python", text()))
        messages.append(Message.final(text(12)))
    return messages


def stream(seed, tok):
    """(ids, role) of one broken stream; one in twenty is left whole, one in twenty is noise."""
    rng = random.Random(seed)
    words = (f"w{n}x" for n in range(rng.randrange(100, 900), 10_000))
    if rng.random() < 0.05:
        return [random_id(tok, rng) for _ in range(rng.randint(0, 40))], rng.choice(
            ("assistant", None)
        )
    messages, role = conversation(rng, words), None
    ids = render(messages, tok, for_training=True, compat="openai-harmony")
    if rng.random() < 0.75:  # what a model writes: from its first header on
        first = next(n for n, m in enumerate(messages) if m.role == "assistant")
        before = render(messages[:first], tok)
        ids, role = ids[len(before) + PREFIX :], "assistant"
    calls = places(ids, tok, "<|call|>")
    if calls and rng.random() < 0.3:  # a turn that ends with a call
        ids = ids[: calls[-1] + 1]
    if rng.random() < 0.05:
        return ids, role
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutations = REAL if rng.random() < 0.4 else RANDOM
        ids = mutations[rng.choice(sorted(mutations))](ids, tok, rng)
    return ids, role


def runs(ids, tok):
    """The texts between special tokens, half characters as U+FFFD."""
    out, run = [], []
    for i in [*ids, None]:
        name = tok.special_name(i) if i is not None else "<|end|>"
        if name is None:
            run.append(i)
        elif name not in (*STRUCTURE, "<|endoftext|>"):
            continue  # no mark of harmony: passed over
        elif run:
            out.append(tok.decode(run))
            run = []
    return out


def lost(ids, tok, messages, faults):
    """Words of the stream that are in no message, in no field and in no fault."""
    texts = [m.text for m in messages] + [f.text for f in faults]
    fields = {
        value
        for m in messages
        for value in (
            m.role, m.name, m.channel, m.recipient, m.recipient and f"to={m.recipient}",
            m.content_type, (m.content_type or "").removeprefix("<|constrain|>"),
        )
        if value
    }  # fmt: skip
    missing = []
    for run in runs(ids, tok):
        if not any(run in text or run.strip() in text for text in texts):
            missing += [
                word
                for word in run.split()
                if word not in fields and not any(word in text for text in texts)
            ]
    return missing


def problems(ids, tok, role):
    """What is wrong with our reading of a stream."""
    wrong = []
    try:
        messages, faults, complete = parse_lenient(ids, tok, role)
    except Exception as error:  # any at all is a failure
        return [f"raised {error!r}"]
    if missing := lost(ids, tok, messages, faults):
        wrong.append(f"lost {missing}")
    if any(not 0 <= f.position < max(len(ids), 1) for f in faults):
        wrong.append("a fault outside the stream")
    strictly = error = None
    try:
        strictly = parse(ids, tok, role)
    except HarmonyError as caught:
        error = caught
        if error.position is None or not 0 <= error.position < max(len(ids), 1):
            wrong.append("an error outside the stream")
    mended = [f for f in faults if f.kind != "truncated-text"]
    if not mended and (error or strictly != messages):
        wrong.append(f"mended in silence: {error or strictly}")
    if complete and any(f.kind.startswith("truncated") for f in faults):
        wrong.append("complete, and cut off")
    return wrong + stream_problems(ids, tok, role, messages)


def stream_problems(ids, tok, role, messages):
    """Token by token: the deltas of a message are its text, and no message passes unseen."""
    parser, text, seen, wrong = LenientParser(tok, role), "", [], []
    for i in ids:
        delta = parser.push(i)
        text += delta.text
        if delta.finished:
            if delta.finished.text != text:
                wrong.append(f"streamed {text!r}, finished {delta.finished.text!r}")
            seen.append(delta.finished.text)
            text = ""
    if parser.finish() != messages:
        wrong.append("streamed and whole readings differ")
    texts = [m.text for m in messages]
    late = 2 + sum(f.kind == "words-between-messages" for f in parser.faults)
    if Counter(seen) - Counter(texts) or len(texts) - len(seen) > late:
        wrong.append(f"streamed messages {seen}, in the end {texts}")
    if text and not any(t.startswith(text) for t in texts):
        wrong.append(f"streamed {text!r}, which is in no message")
    return wrong
