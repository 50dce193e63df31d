"""Strips, anatomies and figures of chapter 4: safe pages, right words, no stream too broken."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_components import KEPT, read, words

from labhelpers import viz
from labhelpers.exercises import harmony as ex
from labhelpers.harmony import Message, ToolDescription, render, render_with_mask
from labhelpers.tokenizer import nano, o200k_harmony
from labhelpers.viz.dropping import short_name
from labhelpers.viz.harmony import OUTSIDE, harmony_tokens
from labhelpers.viz.table import table

CALL = Message.call("functions.f", '{"a": "<b>"}')
TALK = [
    Message.system(),
    Message.developer("Be <b>brief</b>.", [ToolDescription("f", "F.")]),
    Message.user("One & two?\n <|end|> é"),
    Message.analysis("Hm."),
    Message.preamble("A moment."),
    CALL,
    Message.tool("functions.f", "3 | 4"),
    Message.final("Three."),
]
IDS, MASK = render_with_mask(TALK, nano())
COMPONENTS = {
    "prompt": lambda: harmony_tokens(IDS, nano()),
    "ids": lambda: harmony_tokens(IDS, nano(), ids_below=True, most=9),
    "loss": lambda: harmony_tokens(IDS, nano(), loss=MASK),
    "empty": lambda: harmony_tokens([], nano()),
    "no stream": lambda: harmony_tokens([], nano(), role="assistant"),
    **{f"patient {n}": lambda n=n: ex.clinic.transcript(n) for n in range(1, 11)},
    **{f"anatomy {i}": lambda m=m: viz.anatomy(m) for i, m in enumerate(TALK)},
    "side by side": lambda: viz.side_by_side({"a <b>": ["x\n y", ""], "c": ["x", "z"]}, ["1", "2"]),
    "left table": lambda: table(["a", "b"], [["x", 3]], left=True),
    "right": lambda: ex.clinic.judge(1, "call-not-a-stop"),
    "wrong": lambda: ex.clinic.judge(1, "letter-cut"),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_reads_the_same_without_styles(name):
    component = COMPONENTS[name]()
    reader = read(component)
    assert words(reader.words) == words(repr(component))
    assert reader.tags <= KEPT
    assert component._repr_html_() == COMPONENTS[name]()._repr_html_()
    for style in reader.styles:
        assert "var(" not in style and "url(" not in style
        assert ("background" in style) == (";color:" in style)


def test_each_message_becomes_a_strip():
    strip = harmony_tokens(IDS, nano())
    assert [s.title for s in strip.spans] == [
        "system", "developer", "user", "assistant · analysis", "assistant · commentary",
        "assistant · commentary", "tool functions.f", "assistant · final",
    ]  # fmt: skip
    assert [s.after_title for s in strip.spans][5] == "to functions.f"
    assert sum(len(s.tokens) for s in strip.spans) == len(IDS)
    call = strip.spans[5]
    assert [t.text for t in call.tokens if t.header][:2] == ["<|start|>", "assistant"]
    assert not any(t.header for t in call.tokens[-4:])


def test_a_completion_begins_in_its_header():
    ids = [i for m in (Message.analysis("Hm."), Message.final("3")) for i in render([m], nano())]
    ids = ids[2:]  # without <|start|>assistant, which the prompt ends with
    strip = harmony_tokens(ids, nano(), role="assistant")
    assert [s.title for s in strip.spans] == ["assistant · analysis", "assistant · final"]


def test_recipients_are_found_on_both_sides():
    t = nano()
    behind = [t.special_id("<|channel|>"), *t.encode("commentary to=functions.f"),
              t.special_id("<|message|>"), *t.encode("{}"), t.special_id("<|call|>")]  # fmt: skip
    (span,) = harmony_tokens(behind, t, role="assistant").spans
    assert (span.title, span.after_title) == ("assistant · commentary", "to functions.f")


def test_what_belongs_to_no_message_is_said():
    strip = harmony_tokens(ex.clinic.ids(1), o200k_harmony(), role="assistant")
    assert strip.spans[-1].title == OUTSIDE and strip.spans[-1].stray


def test_the_clinic_gives_no_titles():
    for number in range(1, 11):
        strip = ex.clinic.transcript(number)
        for span in strip.spans:
            assert OUTSIDE not in repr(strip) and f"{span.title}\n" not in repr(strip)


def test_a_header_is_an_outline_and_nothing_else():
    page = harmony_tokens(IDS, nano()).html()
    assert "dashed" in page and "background:#ffffff" not in page
    assert page.count("background:transparent;color:inherit") == page.count("1px dashed")


def test_long_messages_show_their_end():
    strip = repr(harmony_tokens(IDS, nano(), most=6))
    first = strip.split("\n")[1]
    assert "more ..." in first and first.endswith("<|end|>") and first.count("|  ") == 0


def test_trained_tokens_are_counted():
    strip = harmony_tokens(IDS, nano(), loss=MASK)
    assert strip.note == f"✓ {sum(MASK)} of {len(IDS)} tokens are trained."
    assert repr(strip).count("✓") == sum(MASK) + 1
    with pytest.raises(ValueError, match="entries of loss"):
        harmony_tokens(IDS, nano(), loss=MASK[1:])


@given(st.lists(st.integers(0, 6143) | st.integers(6136, 6142), max_size=40), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_stream_is_too_broken(ids, completion):
    tokenizer = nano()
    ids = [i for i in ids if i < len(tokenizer)]
    strip = harmony_tokens(ids, tokenizer, role="assistant" if completion else None)
    assert sum(len(s.tokens) for s in strip.spans) == len(ids)
    assert words(read(strip).words) == words(repr(strip))


def test_anatomy_names_every_part():
    assert repr(viz.anatomy(CALL)) == (
        "<|start|> begins | assistant who speaks | ␣to=functions.f to whom | "
        "<|channel|> channel comes | commentary channel | ␣ a space | <|constrain|> format comes | "
        'json format | <|message|> text comes | {"a":␣"<b>"} text | <|call|> ends: tool\'s turn'
    )
    assert repr(viz.anatomy(Message.final("3"), for_training=True)).endswith(
        "<|return|> ends: all done"
    )
    assert "␣code content type" in repr(viz.anatomy(Message.call("python", "1")))


def test_differences_are_marked_in_words():
    view = viz.side_by_side({"ours": ["a", "b"], "theirs": ["a", ""]}, ["one", "two"])
    assert view.different == ["two"]
    assert repr(view) == "ours | theirs\none\n    a\n    a\ntwo\n    b\n    ≠ (nothing)"
    with pytest.raises(ValueError, match="1 texts for 2 items"):
        viz.side_by_side({"ours": ["a"]}, ["one", "two"])


# -- figures ------------------------------------------------------------------------------------

KEPT_BY = {"all": range(8), "no thoughts": [0, 1, 2, 4, 5, 6, 7]}
PICTURES = {
    "rules": lambda: viz.drop_rules(TALK, KEPT_BY),
    "one rule": lambda: viz.drop_rules(TALK, {"all": range(8)}),
    "efforts": lambda: viz.effort_lengths({"low": [3, 5, 4], "high": [30, 44, 60]}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_keeps_the_rules(name):
    picture = PICTURES[name]()
    width, height = picture.figure.get_size_inches()
    assert width == 7.2 and 1.6 <= height <= 4
    axes = picture.figure.axes[0]
    assert axes.get_title(loc="left") and axes.get_xlabel()
    data = picture.png()
    assert len(data) < 60_000
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.width == 1440 and image.getpixel((0, 0)) == (255, 255, 255)


def test_pictures_say_in_words_what_they_show():
    assert repr(PICTURES["rules"]()) == "all: drops nothing.\nno thoughts: drops analysis (3)."
    assert PICTURES["rules"]().data["no thoughts"] == [0, 1, 2, 4, 5, 6, 7]
    said = repr(PICTURES["efforts"]())
    assert said == "Median tokens of reasoning over 3 words: low 4 (3 to 5), high 44 (30 to 60)."


def test_short_names():
    assert [short_name(m) for m in TALK] == [
        "system", "developer", "user", "analysis", "preamble", "call", "result", "final"
    ]  # fmt: skip


def test_the_strip_is_the_same_for_gpt_oss():
    strip = harmony_tokens(render_with_mask(TALK, o200k_harmony())[0], o200k_harmony())
    assert [s.title for s in strip.spans] == [s.title for s in harmony_tokens(IDS, nano()).spans]
