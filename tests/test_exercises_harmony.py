"""Chapter 4's exercises and clinic: wrong versions by name, other right ways accepted."""

from __future__ import annotations

import codecs
import functools
import re
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers import harmony
from labhelpers.exercises import harmony as ex
from labhelpers.exercises import judge, texts
from labhelpers.exercises.core import Case, Exercise
from labhelpers.exercises.harmony import clinic
from labhelpers.exercises.harmony.budget import OPENER, _thinker
from labhelpers.exercises.harmony.patients import CAUSES, PATIENTS
from labhelpers.exercises.harmony.toy import MARKS, ByteTokenizer, JoiningTokenizer
from labhelpers.exercises.progress import read
from labhelpers.harmony import HarmonyError, Message, parse, parse_lenient, render
from labhelpers.harmony.header import read_header
from labhelpers.harmony.render import kept_messages
from labhelpers.harmony.typescript import schema_to_typescript
from labhelpers.tokenizer import nano, o200k_harmony

MISTAKES = [(e, m) for e in ex.EXERCISES for m in e.mistakes]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LABHELPERS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# -- every exercise ---------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_an_exercise_is_complete(exercise):
    assert exercise.judge(exercise.function).outcome == "right"
    messages = [m.message for m in exercise.mistakes]
    assert len(set(messages)) >= 5 and len(exercise.hints) == 2
    assert len(list(groupby(messages))) == len(set(messages))
    assert 1 <= exercise.difficulty <= 3 and 5 <= exercise.minutes <= 30
    assert exercise.key == f"harmony.{exercise.name}"


def test_numbers_run_in_order():
    assert [e.number for e in ex.EXERCISES] == [f"4.{i}" for i in range(1, 9)]


@pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=[f"{e.name}-{m.function.__name__}" for e, m in MISTAKES]
)
def test_a_wrong_version_is_named(exercise, mistake):
    card = exercise.judge(mistake.function)
    assert card.outcome == "wrong" and card.lines[1] == mistake.message and len(card.lines) == 3
    assert repr(card) == repr(exercise.judge(mistake.function))


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_the_printed_solution_is_the_tested_function(exercise):
    scope = dict(exercise.function.__globals__)
    exec(exercise.source(), scope)
    assert exercise.judge(scope[exercise.name]).outcome == "right"


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_none_and_nonsense_are_told_plainly(exercise):
    assert "returned nothing" in exercise.judge(lambda *a: a and None).lines[0]
    for nonsense in (3.5, "text", [None], {}, (1, 2)):
        card = exercise.judge(lambda *a, n=nonsense: n)
        assert card.outcome == "wrong"
        assert "xpected" in card.lines[0] or "must return 4 things" in card.lines[0]


# Other ways to write the same: all must pass.


def frame_by_parts(message, tokenizer):
    header = message.name or message.role
    if message.recipient is not None:
        header += " to=" + message.recipient
    parts = ["<|start|>", header.encode()]
    if message.channel is not None:
        parts += ["<|channel|>", message.channel.encode()]
    kind = message.content_type
    if kind == "<|constrain|>json":
        parts += [b" ", "<|constrain|>", b"json"]
    elif kind:
        parts[-1] += b" " + kind.encode()
    calls = message.recipient and message.role == "assistant"
    parts += ["<|message|>", message.text.encode(), "<|call|>" if calls else "<|end|>"]
    ids = []
    for part in parts:
        if isinstance(part, str):
            ids.append(tokenizer.special_id(part))
        else:
            ids.extend(tokenizer.encode(part.decode()))
    return ids


def type_by_package(schema):
    return re.sub(r"^ +", "", schema_to_typescript(schema), flags=re.M)


def trained_backwards(messages):
    out, own = [], True
    for message in reversed(messages):
        own = own and message.role != "user"
        out.append(own and message.role == "assistant")
    return out[::-1]


def pieces_by_hand(chunks):
    waiting, out = b"", []
    for chunk in chunks:
        waiting += chunk
        try:
            out.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                text, used = codecs.utf_8_decode(waiting, "replace", False)
                out.append(text)
                waiting = waiting[used:]
            else:
                out.append(waiting[: error.start].decode())
                waiting = waiting[error.start :]
    return [*out, waiting.decode("utf-8", "replace")]


def header_by_split(parts, role):
    text = "".join(f" {p} " if p in MARKS else p for p in parts)
    words, fields = text.split(), {"role": role}
    while words:
        word = words.pop(0)
        if word == "<|channel|>":
            fields["channel"] = words.pop(0)
        elif word == "<|constrain|>":
            fields["type"] = word + words.pop(0)
        elif word[:3] == "to=":
            fields["to"] = word[3:]
        elif fields["role"] is None:
            fields["role"] = word
        else:
            fields["type"] = word
    return [fields.get(k) for k in ("role", "channel", "to", "type")]


def budget_in_two_loops(step, prompt, budget, opener, stop, most):
    out, token = [], step(prompt)
    while len(out) < min(budget, most) and token != opener[0]:
        out.append(token)
        if token in stop:
            return out
        token = step([token])
    if len(out) == most:
        return out
    if token != opener[0]:
        out += opener
        token = step(list(opener))
    while len(out) < most:
        out.append(token)
        if token in stop:
            break
        token = step([token])
    return out


def budget_looked_at_first(step, prompt, budget, opener, stop, most):
    out, new, thinking = [], list(prompt), True
    while len(out) < most:
        if thinking and len(out) == budget:
            out.extend(opener)
            new, thinking = new + opener, False
            continue
        token = step(new)
        thinking = thinking and token != opener[0]
        out.append(token)
        new = [token]
        if token in stop:
            return out
    return out


def test_the_budget_may_be_looked_at_before_asking():
    card = ex.answer_within.judge(budget_looked_at_first)
    assert card.outcome == "right", repr(card)


def budget_slips(forced, unfed, whole):
    """The loop above with the slips that are made most often."""

    def wrong(step, prompt, budget, opener, stop, most):
        out, new, thinking = [], list(prompt), True
        while len(out) < most:
            if thinking and len(out) == budget:
                out.extend(opener[:forced])
                new, thinking = ([] if unfed else new) + opener[:forced], False
                continue
            token = step(prompt + out if whole else new)
            thinking = thinking and token != opener[0]
            out.append(token)
            new = [token]
            if token in stop:
                return out
        return out

    return wrong


@pytest.mark.parametrize(("slips", "words"), [
    ((1, False, False), "Only `<|end|>` was forced"), ((1, True, False), "Only `<|end|>`"),
    ((6, True, False), "never fed"), ((6, False, True), "fed again at each step"),
])  # fmt: skip
def test_slips_in_another_style_are_named(slips, words):
    card = ex.answer_within.judge(budget_slips(*slips))
    assert card.outcome == "wrong" and words in card.lines[1], repr(card)


def test_a_call_that_is_thrown_away_is_not_minded():
    def asks_once_more(step, prompt, budget, opener, stop, most):
        out = ex.answer_within.function(step, prompt, budget, opener, stop, most)
        step([])
        return out

    assert ex.answer_within.judge(asks_once_more).outcome == "right"


def keep_backwards(messages):
    stay, over = [], False
    for i in range(len(messages) - 1, -1, -1):
        if not over or messages[i].channel != "analysis":
            stay.append(i)
        over = over or (messages[i].role == "assistant" and messages[i].channel == "final")
    return sorted(stay)


def reusable_by_while(old, new):
    n = 0
    while n < len(old) and n < len(new) and old[n] == new[n]:
        n += 1
    return n


@pytest.mark.parametrize("variant", [
    frame_by_parts, type_by_package, trained_backwards, pieces_by_hand, header_by_split,
    budget_in_two_loops, keep_backwards, reusable_by_while,
])  # fmt: skip
def test_other_ways_to_write_it_pass(variant):
    names = [e.name for e in ex.EXERCISES]
    order = ["frame", "type_of", "trained", "text_pieces", "read_header", "answer_within", "keep",
             "reusable"]  # fmt: skip
    assert names == order
    variants = [
        frame_by_parts, type_by_package, trained_backwards, pieces_by_hand,
        header_by_split, budget_in_two_loops, keep_backwards, reusable_by_while,
    ]  # fmt: skip
    card = getattr(ex, order[variants.index(variant)]).judge(variant)
    assert card.outcome == "right", repr(card)


# -- equal to the package -----------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
TEXTS = WORDS | st.lists(st.sampled_from([*MARKS, "a", " ", "é"]), max_size=6).map("".join)
MESSAGES = st.one_of(
    TEXTS.map(Message.user), TEXTS.map(Message.analysis), TEXTS.map(Message.final),
    TEXTS.map(Message.preamble),
    TEXTS.map(lambda t: Message.call("functions.f", t)),
    TEXTS.map(lambda t: Message.call("python", t)),
    TEXTS.map(lambda t: Message.tool("functions.f", t)),
    TEXTS.map(lambda t: Message.tool("python", t)),
)  # fmt: skip


@given(MESSAGES)
@settings(max_examples=150, deadline=None)
def test_frame_equals_the_renderer(message):
    for tokenizer in (ByteTokenizer(), JoiningTokenizer(), nano()):
        ids = ex.frame.function(message, tokenizer)
        assert ids == render([message], tokenizer)
        assert parse(ids, tokenizer, role=None) == [message]


@given(st.lists(MESSAGES, max_size=9))
@settings(max_examples=200, deadline=None)
def test_keep_equals_the_written_rule(messages):
    assert ex.keep.function(messages) == kept_messages(tuple(messages))


@given(st.lists(MESSAGES, max_size=6))
@settings(max_examples=100, deadline=None)
def test_trained_equals_the_mask(before):
    finals = [m for m in before if m.channel != "final"]  # one turn behind the last question
    messages = [Message.user("q"), Message.final("a"), *finals, Message.user("q"),
                Message.analysis("t"), Message.final("a")]  # fmt: skip
    own = ex.trained.function(messages)
    segments = harmony.render_segments(messages, for_training=True)
    generated = {s.message for s in segments if s.generated}
    assert [i for i, o in enumerate(own) if o] == sorted(generated)


@given(st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {},
                     {"type": "string", "enum": ["a", "b"]}, {"anyOf": []}]),
    lambda inner: inner.map(lambda s: {"type": "array", "items": s}), max_leaves=3,
), st.booleans(), st.booleans())  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_type_of_equals_the_package(inner, needed, told):
    value = {**inner, **({"description": "d"} if told else {})}
    schema = {"type": "object", "properties": {"x": value, "y": {"type": "number"}},
              "required": ["x"] if needed else []}  # fmt: skip
    assert ex.type_of.function(schema) == schema_to_typescript(schema)


@given(st.lists(st.binary(max_size=4), max_size=6))
@settings(max_examples=200, deadline=None)
def test_text_pieces_lose_nothing(chunks):
    whole = b"".join(chunks).decode("utf-8", "replace")
    assert "".join(ex.text_pieces.function(chunks)) == whole


@pytest.mark.parametrize("case", ex.read_header.cases, ids=lambda c: c.name)
def test_read_header_equals_the_package(case):
    parts, role = case.make()
    theirs = read_header([(p in MARKS, p) for p in parts], role)
    ours = ex.read_header.function(parts, role)
    assert ours == (theirs.role, theirs.channel, theirs.recipient, theirs.content_type)


def test_the_pretend_model_reopens_its_analysis():
    step = _thinker(30)
    first = step([1])
    assert first < 50
    ids = [step([90])]
    while len(ids) < 5:
        ids.append(step([ids[-1]]))
    assert ids == [91, 92, 93, 94, 96], "start assistant channel analysis message"
    answer = ex.answer_within.function(_thinker(30), [1], 5, OPENER, {97}, 40)
    assert answer[5:11] == OPENER and answer[-1] == 97


# -- how differences are told ---------------------------------------------------------------


@pytest.mark.parametrize(("got", "expected", "words"), [
    ("ab", "ac", "Expected `ac`, got `ab`."),
    (" a", "a ", "Expected `a␣`, got `␣a`."),
    ("a\nb", "a\nc", "Line 2: expected `c`, got `b`."),
    ("a\n", "a", "Line 2 is one too many: an empty text."),
    ("a", "a\nb", "Line 2 is missing: `b`."),
    (3, "a", "Expected a text, got `int`."),
    ((1, 2), [1, 2], "Expected a list of plain ints, got `tuple`. `list(...)` makes one of it."),
    ((c for c in "ab"), ["a"], "Expected a list, got `generator`. A function with `yield` returns "
     "one: collect in a list and return that."),
    ([True], [False], "Item 0: expected `False`, got `True`."),
    ([1], [True], "Item 0: expected `True`, got `1`."),
    (["a"], ["a", "b"], "Expected 2 items, got 1."),
    (True, False, "Expected `False`, got `True`."),
])  # fmt: skip
def test_texts_and_lists_are_compared(got, expected, words):
    assert judge.difference(got, expected, 0.0) == words
    assert judge.difference(expected, expected, 0.0) == ""


@given(TEXTS, TEXTS)
@settings(max_examples=200, deadline=None)
def test_any_two_texts_are_told_apart(a, b):
    told = texts.text_difference(a, b)
    assert (told == "") == (a == b) and told.count("`") % 2 == 0


def test_long_texts_show_the_place():
    told = texts.text_difference("x" * 100 + "a" + "y" * 100, "x" * 100 + "b" + "y" * 100)
    assert told.startswith("From character 80: expected `xxxx") and len(told) < 200


def test_a_part_that_may_be_none_is_told():
    card = ex.read_header.judge(lambda parts, role: (role or parts[0], "final", None, None))
    assert card.lines[0] == "Input with a user: in `channel`: expected `None`, got `final`."


def test_inputs_are_not_to_be_changed():
    def in_place(messages):
        found = ex.keep.function(messages)
        messages.clear()
        return found

    assert "in place" in ex.keep.judge(in_place).lines[0]

    def popping(schema):
        found = ex.type_of.function(schema)
        schema.pop("properties", None)
        return found

    assert "in place" in ex.type_of.judge(popping).lines[0]
    assert ex.type_of.judge(ex.type_of.function).outcome == "right", "the next try has all of it"


# -- an answer that calls itself --------------------------------------------------------------

RIGHT = """
def type_of(schema):
    kind = schema.get("type")
    if kind == "object":
        out = "{\\n"
        for name, inner in schema.get("properties", {}).items():
            if "description" in inner:
                out += "// " + inner["description"] + "\\n"
            sign = "" if name in schema.get("required", []) else "?"
            out += f"{name}{sign}: {type_of(inner)},\\n"
        return out + "}"
    if kind == "array":
        return type_of(schema["items"]) + "[]" if "items" in schema else "Array<any>"
    if kind == "string" and "enum" in schema:
        return " | ".join('"' + word + '"' for word in schema["enum"])
    known = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}
    return known.get(kind, "any")
"""
WRONG = RIGHT.replace('"integer": "number"', '"integer": "integer"')


def cell(source, scope):
    """What a notebook's cell with `@ex.type_of.check` does with its names."""
    under_decorator = {**scope}
    exec(source, scope)
    function = scope.pop("type_of")
    if "type_of" in under_decorator:
        scope["type_of"] = under_decorator["type_of"]
    card = ex.type_of.judge(function)
    assert scope.get("type_of") is under_decorator.get("type_of"), "put back as it was"
    scope["type_of"] = function if card.outcome == "right" else ex.type_of.function
    return card


@pytest.mark.parametrize("order", ["rw", "wr", "rwr", "wwr"])
def test_a_recursive_answer_is_judged_by_itself(order):
    scope = {}
    for letter in order:
        card = cell(RIGHT if letter == "r" else WRONG, scope)
        assert card.outcome == ("right" if letter == "r" else "wrong"), repr(card)
        assert letter == "r" or "no `integer`" in repr(card.lines)


def test_a_recursive_answer_under_another_decorator():
    scope = {"wraps": functools.wraps}
    wrapped = (
        RIGHT
        + """
inner = type_of

@wraps(inner)
def type_of(schema):
    return inner(schema)
"""
    )
    assert cell(wrapped, scope).outcome == "right"


def test_no_card_shows_raw_asterisks():
    said = [m.message for e in ex.EXERCISES for m in e.mistakes]
    said += [hint for e in ex.EXERCISES for hint in e.hints]
    for who in PATIENTS:
        said += [who.look, who.told, *who.wrong.values()]
    said += [c.text for c in CAUSES.values()] + [c.sign for c in CAUSES.values()]
    for text in said:
        assert "*" not in "".join(text.split("`")[::2]), text


def test_a_mark_that_does_not_exist_is_told():
    with pytest.raises(ValueError, match=r"no mark 'start'; there are <\|start\|>"):
        ByteTokenizer().special_id("start")


# -- the clinic -------------------------------------------------------------------------------

NUMBERS = range(1, len(PATIENTS) + 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_patient_is_diagnosed(number, capsys):
    who = clinic.patient(number)
    assert clinic.judge(number, ...).outcome == "not attempted"
    clinic.diagnose(number, ...)
    assert read()[0] == {}, "an untouched notebook writes no file"
    clinic.diagnose(number, who.cause)
    assert "✓ right  clinic: patient" in capsys.readouterr().out
    assert read()[0][f"harmony.clinic_{number}"]["outcome"] == "right"
    assert who.sources and "Cure:" in who.told


@pytest.mark.parametrize("number", NUMBERS)
def test_wrong_causes_are_answered(number):
    who = clinic.patient(number)
    for cause in CAUSES:
        card = clinic.judge(number, cause)
        assert (card.outcome == "right") == (cause == who.cause)
        if cause != who.cause:
            assert card.lines[1] == who.look and len(card.lines) == 2
            assert who.cause not in repr(card), "the answer is not given away"
    assert set(who.wrong) <= set(CAUSES) - {who.cause}


def test_ten_patients_ten_causes_and_some_for_nobody():
    found = [p.cause for p in PATIENTS]
    assert len(PATIENTS) == 10 and len(set(found)) == 10 and len(CAUSES) == 13
    assert repr(clinic.causes()).count("\n") == len(CAUSES)


@pytest.mark.parametrize(("answer", "words"), [
    ("budget_spent", "Did you mean `budget-spent`?"), ("xyz", "lists them"), (None, "no cause"),
    (3, "no cause"), ("", "no cause"),
])  # fmt: skip
def test_odd_answers_are_told(answer, words):
    card = clinic.judge(5, answer)
    assert card.outcome == "wrong" and words in card.lines[0]
    with pytest.raises(ValueError, match="patients 1 to 10"):
        clinic.judge(0, answer)
    for number in ("2", 2.0, None, True):
        with pytest.raises(ValueError, match="whole numbers"):
            clinic.judge(number, answer)


def test_the_score_counts_the_diagnosed(capsys):
    assert repr(clinic.score()).startswith("0 of 10 patients are diagnosed\nWaiting: 1, 2, 3")
    clinic.diagnose(2, "word-as-recipient")
    clinic.diagnose(3, "letter-cut")
    assert repr(clinic.score()).startswith("1 of 10 patients are diagnosed\nWaiting: 1, 3, 4")
    for number in NUMBERS:
        clinic.diagnose(number, clinic.patient(number).cause)
    assert repr(clinic.score()) == "10 of 10 patients are diagnosed\nNobody waits."


def test_the_transcripts_show_what_they_claim():
    tokenizer = o200k_harmony()
    start, call, end, back = (
        tokenizer.special_id(f"<|{n}|>") for n in ("start", "call", "end", "return")
    )
    one = clinic.ids(1)
    assert one[one.index(call) + 1] == 12606  # the number in the reported error
    assert clinic.ids(2)[-1] == clinic.ids(3)[-1] == back
    assert clinic.stream(4)[0] == start and clinic.ids(4)[-len(clinic.stream(4)) - 2] == start
    assert all(clinic.stream(n) == clinic.ids(n) for n in range(1, 11) if n != 4)
    assert not {end, call, back} & set(clinic.ids(5))
    assert not any(tokenizer.is_special(i) for i in clinic.ids(7))
    assert clinic.ids(8).count(call) == clinic.ids(9).count(call) == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_parsers_see_of_the_patients_what_the_chapter_says(number):
    tokenizer, who = o200k_harmony(), clinic.patient(number)
    ids = clinic.stream(number)
    read_again = parse_lenient(ids, tokenizer, role=who.role)
    try:
        parse(ids, tokenizer, role=who.role)
        strict = "reads"
    except HarmonyError:
        strict = "stops"
    prompt = who.role is None
    assert (strict == "stops") == (number in (1, 3, 4, 7, 10) or prompt)
    if not prompt:
        assert bool(read_again.faults) == (number != 2)


def test_a_case_may_hold_a_plain_function():
    exercise = Exercise(
        "9.9", lambda x: x, [Case("one", lambda: (1,))], ("", ""), 5, 1, (), (), 0.0
    )
    assert exercise.judge(lambda x: x).outcome == "right"
