"""HTML components: the same words with and without styles, safe in an untrusted notebook."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers import viz
from labhelpers.exercises import architecture as ex
from labhelpers.harmony import Conversation, HarmonyError, Message, ToolDescription, render
from labhelpers.tokenizer import nano
from labhelpers.viz import look
from labhelpers.viz.stream import Completion
from labhelpers.viz.table import table

BLOCKS = set("div dl dt dd p pre br details summary table tr td th thead tbody span small".split())
# What JupyterLab's sanitiser keeps, as far as it is used here; attributes: style alone.
KEPT = BLOCKS | {"b", "code"}


class Reader(HTMLParser):
    """The words of a page as one reads it without styles; notes what was used."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags, self.styles = "", set(), []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.words += "\n" if tag in BLOCKS else ""
        for name, value in attrs:
            assert name == "style", f"<{tag} {name}=...> does not survive"
            self.styles.append(value)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags are nested"
        self.words += "\n" if tag in BLOCKS else ""

    def handle_data(self, data):
        self.words += data


def read(component) -> Reader:
    reader = Reader()
    reader.feed(component._repr_html_())
    reader.close()
    assert not reader.open
    return reader


def words(text: str) -> list[str]:
    return re.sub(r"[|():]", " ", text).split()


def bad_reply() -> Completion:
    tokenizer = nano()
    reply = Completion(tokenizer)
    ids = [
        tokenizer.special_id("<|channel|>"),
        *tokenizer.encode("final"),
        tokenizer.special_id("<|message|>"),
        *tokenizer.encode("There <are>"),
    ]
    for token_id in ids:
        reply.push(token_id)
    reply.error = "<|start|> inside the text"
    return reply


CONVERSATION = Conversation((
    Message.system(model_identity="You are gpt-oss-nano."),
    Message.developer("Be <b>brief</b> & kind.", [ToolDescription("count", "Counts.")]),
    Message.user("How many rs are in 'strawberry'?\n\n  Think."),
    Message.analysis("Spell it: s t r a w.\nThat makes 3."),
    Message.call("python", "for c in 'raw':\n    print(c)"),
    Message.tool("python", "r\na\nw"),
    Message.call("functions.count", '{"word": "raw"}'),
    Message.preamble("One moment."),
    Message.final("There are 3."),
))  # fmt: skip


def stub(x, weight, eps):
    """Doc."""
    ...


COMPONENTS = {
    "conversation": lambda: viz.conversation(CONVERSATION),
    "counted": lambda: viz.conversation(CONVERSATION, nano()),
    "opened": lambda: viz.conversation(CONVERSATION, nano(), open_analysis=True),
    "empty": lambda: viz.conversation([]),
    "reply": lambda: bad_reply().view([CONVERSATION.messages[2]]),
    "tokens": lambda: viz.tokens(render(CONVERSATION, nano()), nano(), limit=500),
    "long": lambda: viz.tokens(render(CONVERSATION, nano()), nano(), limit=50),
    "equal": lambda: viz.parity("logits, 300 tokens", torch.ones(3), torch.ones(3)),
    "different": lambda: viz.parity("logits", torch.ones(3), torch.zeros(3)),
    "shapes": lambda: viz.parity("logits", torch.ones(3), torch.zeros(4)),
    "wrong": lambda: ex.swiglu.judge(ex.swiglu.mistakes[0].function),
    "raised": lambda: ex.swiglu.judge(lambda a: 1 < 2),
    "untouched": lambda: ex.rms_norm.judge(stub),
    "right": lambda: ex.rms_norm.judge(ex.rms_norm.function),
    "price": lambda: ex.rms_norm,
    "hint": lambda: ex.mix_experts.hint_card(2),
    "solution": lambda: ex.mix_experts.solution_card(),
    "table": lambda: table(["", "nano"], [["<layers>", 8], ["share", 0.5]]),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_without_styles_it_reads_like_its_text(name):
    component = COMPONENTS[name]()
    assert words(read(component).words) == words(repr(component))
    assert repr(component) == repr(COMPONENTS[name]()), "the same on every run"
    assert component._repr_html_() == COMPONENTS[name]()._repr_html_()


@pytest.mark.parametrize("name", COMPONENTS)
def test_it_survives_an_untrusted_page(name):
    reader = read(COMPONENTS[name]())
    assert reader.tags <= KEPT
    colours = set()
    for style in reader.styles:
        assert not re.search(r"var\(|url\(|rgb|[<>\"']", style)
        colours |= set(re.findall(r"#\w+", style))
    known = str(look.palette()) + look.neutral("text")
    assert all(c in known for c in colours)
    for style in reader.styles:  # a background never comes without its text colour
        assert ("background" in style) == bool(re.search(r"(?:^|;)color:", style))


LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n")
TEXTS = st.text(LETTERS, max_size=60)


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_text_is_escaped(first, second):
    messages = [
        Message.user(first),
        Message.analysis(second),
        Message.call("python", first),
        Message.tool("a" + second, second),
    ]
    for component in (
        viz.conversation(messages),
        viz.tokens(nano().encode(first), nano()),
        table([first], [[second]]),
    ):
        assert words(read(component).words) == words(repr(component))


def test_plain_conversation():
    messages = [
        Message.user("How many?"),
        Message.analysis("r at 3, 8 and 9.\nThat makes 3."),
        Message.call("python", "1 + 1"),
        Message.tool("python", "2"),
        Message.final("3"),
    ]
    count = len(nano().encode("r at 3, 8 and 9.\nThat makes 3."))
    assert repr(viz.conversation(messages, nano())) == (
        "user\n    How many?\n"
        f"assistant · analysis ({count} tokens of reasoning)\n"
        "    r at 3, 8 and 9.\n    That makes 3.\n"
        "assistant · analysis to python\n    1 + 1\n"
        "tool python\n    2\n"
        "assistant · final\n    3"
    )


def test_reasoning_is_folded_unless_it_is_the_lesson():
    message = [Message.analysis("Hm.")]
    assert "<details>" in viz.conversation(message)._repr_html_()
    assert "<details>" not in viz.conversation(message, open_analysis=True)._repr_html_()


def test_channels_differ_without_colour():
    bars = {
        channel: re.search(r"border-left:5px (\w+)", viz.conversation(
            [Message("assistant", "x", channel)])._repr_html_())[1]
        for channel in ("analysis", "commentary", "final")
    }  # fmt: skip
    assert bars == {"analysis": "dotted", "commentary": "double", "final": "solid"}


def test_token_strip_shows_blanks_and_split_letters():
    tokenizer = nano()
    ids = [tokenizer.special_id("<|start|>"), *tokenizer.encode(" in\n"), *tokenizer.encode("𓀀")]
    text = repr(viz.tokens(ids, tokenizer))
    assert text.startswith(f"<|start|> {ids[0]} | ␣in {ids[1]} | ⏎ {ids[2]} | ·")
    html = viz.tokens(ids, tokenizer)._repr_html_()
    assert "border-radius:0px" in html and "border-radius:4px" in html and "<br>" not in html


# -- parity ----------------------------------------------------------------------------------


def test_parity_prints_the_bound_and_keeps_the_difference():
    a = torch.linspace(-20, 20, 50)
    b = a.clone()
    b[7] += 4e-5
    card = viz.parity("logits, 50 tokens", b, a)
    assert card and card.equal and card.largest == pytest.approx(2e-6, rel=0.2)
    assert repr(card) == (
        "✓ equal  logits, 50 tokens: ours and transformers, largest difference under 1e-5: True"
    )
    far = viz.parity("mask", b, a, bound=1e-6, names=("ours", "package"))
    assert not far and repr(far).endswith("ours and package, largest difference under 1e-6: False")


@pytest.mark.parametrize(("ours", "equal"), [
    (torch.tensor([1.0, float("nan")]), False), (torch.tensor([1.0, 2.0, 3.0]), False),
    (torch.tensor([1, 2]), True), (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), True),
    (torch.tensor([1.0, float("inf")]), False),
])  # fmt: skip
def test_parity_of_strange_values(ours, equal):
    assert viz.parity("x", ours, torch.tensor([1.0, 2.0])).equal is equal


def test_parity_of_zeros_and_of_nothing():
    assert viz.parity("x", torch.zeros(3), torch.zeros(3))
    assert not viz.parity("x", torch.full((3,), 1e-3), torch.zeros(3))
    with pytest.raises(ValueError, match="empty"):
        viz.parity("x", torch.zeros(0), torch.zeros(0))
    with pytest.raises(TypeError, match="ours is a list"):
        viz.parity("x", [1.0], torch.zeros(1))


# -- stream ----------------------------------------------------------------------------------


class Writer:
    """A model that writes given ids."""

    def __init__(self, ids):
        self.ids, self.seen = ids, None

    def generate(self, ids, **options):
        self.seen = (list(ids), options)
        return iter(self.ids)


def turn(*messages: Message) -> list[int]:
    """What a model writes for these messages: rendered, without the opening it was given."""
    tokenizer = nano()
    ids = render([Message.user("?"), *messages], tokenizer, for_training=True)
    opening = tokenizer.encode("assistant")
    start = tokenizer.special_id("<|start|>")
    return ids[ids.index(start, 1) + 1 + len(opening) :]


ANSWER = turn(Message.analysis("r at 3.\nOne."), Message.final("There is 1.\nYes."))
QUESTION = [Message.user("How many rs?")]


def test_a_static_stream_displays_once(capsys):
    reply = viz.stream(Writer(ANSWER), QUESTION, nano(), max_new_tokens=90)
    count = len(nano().encode("r at 3.\nOne."))
    assert capsys.readouterr().out == (
        "user\n    How many rs?\n"
        f"assistant · analysis ({count} tokens of reasoning)\n    r at 3.\n    One.\n"
        "assistant · final\n    There is 1.\n    Yes.\n"
    )
    assert reply.final == "There is 1.\nYes." and reply.analysis == "r at 3.\nOne."
    assert reply.ids == ANSWER and reply.complete and not reply.error
    assert repr(reply) == f"{len(ANSWER)} tokens, stopped at <|return|>"


def test_a_stream_passes_prompt_and_options():
    writer = Writer(ANSWER)
    viz.stream(writer, QUESTION, nano(), temperature=1.0, seed=3)
    prompt, options = writer.seen
    assert nano().decode_bytes(prompt).endswith(b"<|start|>assistant")
    assert options == {"temperature": 1.0, "seed": 3}
    viz.stream(writer, prompt, nano())
    assert writer.seen[0] == prompt
    for wrong in ("How many rs?", [{"role": "user", "content": "hi"}]):
        with pytest.raises(HarmonyError, match="Message objects"):
            viz.stream(writer, wrong, nano())


def test_a_terminal_sees_tokens_as_they_come(capsys):
    shown = []

    class Watched(Writer):
        def generate(self, ids, **options):
            for token_id in self.ids:
                yield token_id
                shown.append(capsys.readouterr().out)

    viz.stream(Watched(ANSWER), QUESTION, nano(), static=False)
    text = "".join(shown) + capsys.readouterr().out
    assert text == (
        "user\n    How many rs?\nassistant · analysis\n    r at 3.\n    One.\n"
        "assistant · final\n    There is 1.\n    Yes.\n"
    )
    assert sum(bool(s) for s in shown) > 8


@pytest.mark.parametrize("static", [True, False])
def test_a_broken_reply_is_shown_and_explained(static, capsys):
    start = nano().special_id("<|start|>")
    reply = viz.stream(Writer([*ANSWER[:6], start, *ANSWER]), QUESTION, nano(), static=static)
    out = capsys.readouterr().out
    assert "broke the harmony format" in out and "must end with one of" in out
    assert reply.error and not reply.complete and len(reply.ids) == 7


def test_an_unfinished_reply_is_kept(capsys):
    reply = viz.stream(Writer(ANSWER[:-4]), QUESTION, nano())
    assert reply.final and not reply.complete and repr(reply).endswith("not finished")
    assert viz.stream(Writer([]), QUESTION, nano()).ids == []


def test_static_by_environment(monkeypatch):
    from labhelpers.viz.stream import is_static

    monkeypatch.delenv("LABHELPERS_STATIC", raising=False)
    assert is_static(), "under pytest"
    monkeypatch.setenv("LABHELPERS_STATIC", "0")
    assert not is_static()
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setenv("LABHELPERS_STATIC", "")
    assert not is_static()
    monkeypatch.setenv("LABHELPERS_STATIC", "1")
    assert is_static()
