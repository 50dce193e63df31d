"""nano's chat template equals the renderer, marks what the model writes, and loses nothing."""

import json

import pytest
from harmony_strategies import function_lists
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from small_tokenizer import NANO, small_folder  # noqa: F401 - a fixture

from labhelpers.harmony import (
    HarmonyError,
    Message,
    parse,
    render,
    render_for_completion,
    render_with_mask,
)
from labhelpers.harmony.chat import conversation_from_chat
from labhelpers.tokenizer import from_folder

transformers = pytest.importorskip("transformers")
from jinja2.exceptions import TemplateError  # noqa: E402 - comes with transformers


@pytest.fixture(scope="module")
def fast(small_folder):  # noqa: F811
    return transformers.AutoTokenizer.from_pretrained(small_folder)


@pytest.fixture(scope="module")
def tok(small_folder):  # noqa: F811
    return from_folder(small_folder)


def both(messages, fast, tok, prompt, **options):
    """Ids by the template and by the renderer."""
    theirs = fast.apply_chat_template(
        messages, add_generation_prompt=prompt, return_dict=True, **options
    )["input_ids"]
    conversation = conversation_from_chat(messages, **options)
    if prompt:
        return theirs, render_for_completion(conversation, tok)
    return theirs, render(conversation, tok, for_training=True)


# -- equal to the renderer, on random conversations ---------------------------------------

# Whole marks are refused by the template (tests/test_harmony_safety.py), all else is text.
words = st.one_of(
    st.text(st.sampled_from(list("abcXY 12'\"\n{}[]().,é中<|>")), max_size=20),
    st.sampled_from(["<|start", "start|>", "<|", "{{ x }}", "{% if %}", "<| end |>", "\r\n", " "]),
)
names = st.sampled_from(["get_weather", "now", "python", "browser.search", "functions.x", "a1"])
contents = st.one_of(
    words,
    st.lists(words.map(lambda t: {"type": "text", "text": t}), min_size=1, max_size=2).filter(
        lambda parts: "<|start|>" not in "".join(part["text"] for part in parts)
    ),
)
arguments = st.one_of(
    words,
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)),
    st.just({"é": [1.5, None, True]}),
    st.none(),
)


@st.composite
def chats(draw):
    """OpenAI-style messages in which every result has a call to answer."""
    out, calls, results = [], [], 0
    for _ in range(draw(st.integers(1, 7))):
        role = draw(
            st.sampled_from(
                ["user", "system", "developer"]
                + ["assistant"] * 4
                + ["tool"] * (3 if results < len(calls) else 0)
            )
        )
        message = {"role": role, "content": draw(contents)}
        if role == "assistant":
            calls, results = [], 0
            if draw(st.booleans()):
                message[draw(st.sampled_from(["thinking", "reasoning_content"]))] = draw(words)
            if draw(st.booleans()):
                for _ in range(draw(st.integers(1, 2))):
                    function = {"name": draw(names), "arguments": draw(arguments)}
                    call = {"type": "function", "function": function}
                    if draw(st.booleans()):
                        call["id"] = f"call_{len(out)}_{len(calls)}"
                    calls.append(call)
                message["tool_calls"] = calls
                message["content"] = draw(st.one_of(st.none(), st.just(""), contents))
        elif role == "tool":
            call, results = calls[results], results + 1
            how = draw(st.sampled_from(["place", "id", "name"]))
            if how == "name":
                message["name"] = call["function"]["name"]
            elif how == "id" and "id" in call:
                message["tool_call_id"] = call["id"]
            message["content"] = draw(st.one_of(contents, st.just({"t": 20}), st.just([1, "é"])))
        out.append(message)
    return out


options = st.fixed_dictionaries(
    {},
    optional={
        "builtin_tools": st.sampled_from([[], ["python"], ["browser", "python"]]),
        "reasoning_effort": st.sampled_from(["low", "medium", "high"]),
        "model_identity": st.just("You are nano."),
        "current_date": st.just("2026-01-31"),
        "tools": st.just(
            [
                {
                    "type": "function",
                    "function": {
                        "name": "now",
                        "description": "The time.\n",
                        "parameters": {
                            "type": "object",
                            "properties": {"zone": {"type": "string"}},
                        },
                    },
                }
            ]
        ),
    },
)


@settings(max_examples=400, deadline=None)
@given(messages=chats(), options=options, prompt=st.booleans())
def test_template_equals_renderer(messages, options, prompt, fast, tok):
    theirs, ours = both(messages, fast, tok, prompt, **options)
    assert tok.decode(theirs) == tok.decode(ours)
    assert theirs == ours


@settings(max_examples=150, deadline=None)
@given(messages=chats(), options=options)
def test_nothing_is_left_out_in_silence(messages, options, fast, tok):
    """Every text stands in the prompt, but for reasoning (and built-in calls) that is over."""
    prompt = fast.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False, **options
    )
    for message in conversation_from_chat(messages, **options):
        if message.channel != "analysis" and message.role != "system":
            parts = [p if isinstance(p, str) else p.instructions or "" for p in message.parts]
            assert "".join(parts) in prompt
    calls = [c["function"] for m in messages for c in m.get("tool_calls", [])]
    called = [c for c in calls if not c["name"].startswith(("python", "browser."))]
    assert prompt.count("<|start|>assistant to=functions.") >= len(called)


# What a client can get wrong: (where, what instead).
damages = st.sampled_from(
    [
        {"content": None},
        {"content": 5},
        {"content": {"text": "x"}},
        {"content": [{"type": "image"}]},
        {"content": [None]},
        {"role": "robot"},
        {"role": None},
        {"role": "tool", "tool_call_id": "none"},
        {"role": "tool", "name": "two words"},
        {"role": "tool", "name": "x<|end|>"},
        {"role": "tool", "name": "f", "content": None},
        {"role": "assistant", "content": None},
        {"role": "assistant", "tool_calls": [{"name": None}]},
        {"role": "assistant", "tool_calls": [{"name": "a b"}]},
        {"role": "assistant", "tool_calls": [{"name": ""}]},
        {"role": "assistant", "tool_calls": [{"arguments": "{}"}]},
        {"role": "assistant", "tool_calls": ["f"]},
        {"role": "assistant", "tool_calls": []},
        {"role": "assistant", "thinking": 3},
        {"role": "assistant", "thinking": ["a", {"text": "b"}]},
        {"role": "assistant", "reasoning": "r", "reasoning_content": ""},
        {"role": "system", "content": ""},
    ]
)


@settings(max_examples=400, deadline=None)
@given(messages=chats(), damage=damages, at=st.integers(0, 6), options=options)
def test_template_and_library_refuse_the_same(messages, damage, at, options, fast, tok):
    messages[at % len(messages)] |= damage
    try:
        conversation = conversation_from_chat(messages, **options)
        ours = render_for_completion(conversation, tok)
    except HarmonyError:
        with pytest.raises(TemplateError):
            fast.apply_chat_template(messages, add_generation_prompt=True, **options)
        return
    theirs = fast.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, **options
    )
    assert theirs == ours


def printed_alike(value):
    """False for floats that Python and JSON printers write differently."""
    if isinstance(value, dict):
        return all(map(printed_alike, value.values()))
    if isinstance(value, list):
        return all(map(printed_alike, value))
    big = isinstance(value, int) and not -(2**63) <= value < 2**64
    return not big and not (isinstance(value, float) and "e" in repr(value))


def no_marks(value):
    return "<|" not in json.dumps(value, ensure_ascii=False)


tools = (
    function_lists.filter(len)
    .map(
        lambda functions: [
            {
                "type": "function",
                "function": {"name": f.name, "description": f.description}
                | ({} if f.parameters is None else {"parameters": f.parameters}),
            }
            for f in functions
        ]
    )
    .filter(
        lambda ts: all(no_marks(t) and printed_alike(t["function"].get("parameters")) for t in ts)
    )
)


@settings(max_examples=150, deadline=None)
@given(tools=tools)
def test_any_schema_equals_renderer(tools, fast, tok):
    theirs, ours = both([{"role": "user", "content": "hi"}], fast, tok, True, tools=tools)
    assert tok.decode(theirs) == tok.decode(ours)


# -- one behaviour each -------------------------------------------------------------------

USER = {"role": "user", "content": "a"}


def call(name="f", arguments="{}", **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}} | more


def text(messages, fast, **options):
    out = fast.apply_chat_template(messages, tokenize=False, **options)
    return out.split("for every message.")[1].split("<|end|>", 1)[1]


def test_a_preamble_is_said_aloud_and_every_call_goes_out(fast):
    messages = [
        USER,
        {
            "role": "assistant",
            "thinking": "t",
            "content": "Let me look.",
            "tool_calls": [call("f", id="1"), call("g", '{"x":1}', id="2")],
        },
        {"role": "tool", "tool_call_id": "2", "content": '{"t":20}'},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    json_call = "<|channel|>commentary <|constrain|>json<|message|>"
    result = " to=assistant<|channel|>commentary<|message|>"
    assert text(messages, fast) == (
        "<|start|>user<|message|>a<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>t<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>"
        f"<|start|>assistant to=functions.f{json_call}{{}}<|call|>"
        f'<|start|>assistant to=functions.g{json_call}{{"x":1}}<|call|>'
        f'<|start|>functions.g{result}{{"t":20}}<|end|>'
        f"<|start|>functions.f{result}sunny<|end|>"
    )


def test_a_later_system_message_stays(fast):
    messages = [USER, {"role": "system", "content": "In capitals."}]
    assert text(messages, fast).endswith(
        "<|start|>developer<|message|># Instructions\n\nIn capitals.<|end|>"
    )


def test_past_reasoning_goes_and_the_last_stays_in_training(fast):
    messages = [
        USER,
        {"role": "assistant", "thinking": "old", "content": "A"},
        USER,
        {"role": "assistant", "thinking": "new", "content": "B"},
    ]
    trained = text(messages, fast)
    assert "old" not in trained and "new" in trained and trained.endswith("B<|return|>")
    prompt = text([*messages, USER], fast, add_generation_prompt=True)
    assert "old" not in prompt and "new" not in prompt and "<|return|>" not in prompt
    assert prompt.endswith("a<|end|><|start|>assistant")


def test_reasoning_stays_between_call_and_result(fast):
    messages = [
        USER,
        {"role": "assistant", "thinking": "old", "content": "A"},
        USER,
        {"role": "assistant", "thinking": "why", "tool_calls": [call()]},
        {"role": "tool", "content": "1"},
    ]
    prompt = text(messages, fast, add_generation_prompt=True)
    assert "why" in prompt and "old" not in prompt


def test_no_date_unless_given(fast):
    plain = fast.apply_chat_template([USER], tokenize=False)
    dated = fast.apply_chat_template([USER], tokenize=False, current_date="2026-01-31")
    assert "Current date" not in plain
    assert dated == plain.replace("2024-06\n", "2024-06\nCurrent date: 2026-01-31\n")


def test_a_python_function_as_tool(fast, tok):
    def add(a: int, b: int = 2):
        """
        Add two numbers.

        Args:
            a: the first
            b: the second
        """

    prompt = text([USER], fast, tools=[add])  # transformers writes the schema
    assert "// Add two numbers.\ntype add = (_: {\n// the first\na: number," in prompt


@pytest.mark.parametrize(
    "messages, options, words",
    [
        ([{"role": "robot", "content": "x"}], {}, "nknown role"),
        ([{"role": "user", "content": None}], {}, "is missing"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "nly text is understood"),
        ([USER, {"role": "assistant", "content": None}], {}, "needs content, thinking"),
        ([USER, {"role": "tool", "content": "1"}], {}, "needs a name or a tool_call_id"),
        (
            [
                USER,
                {"role": "assistant", "tool_calls": [call(id="1")]},
                {"role": "tool", "tool_call_id": "2", "content": ""},
            ],
            {},
            "o call has the id 2",
        ),
        ([USER], {"reasoning_effort": "extreme"}, "low, medium or high"),
        ([USER], {"builtin_tools": ["shell"]}, "o built-in tool"),
        ([USER], {"builtin_tools": ["python", "python"]}, "listed twice"),
        ([USER], {"tools": [{"name": "two words"}]}, "no spaces"),
        ([USER], {"tools": [{"name": "to=f"}]}, "header syntax"),
    ],
)
def test_errors_in_template_and_library(messages, options, words, fast):
    with pytest.raises(TemplateError, match=words):
        fast.apply_chat_template(messages, tokenize=False, **options)
    with pytest.raises(HarmonyError, match=words):
        conversation_from_chat(messages, **options)


# -- generation marks ---------------------------------------------------------------------


def test_generation_marks_cover_what_training_predicts(fast, tok):
    messages = [
        {"role": "system", "content": "s"},
        USER,
        {"role": "assistant", "thinking": "t", "content": "p", "tool_calls": [call()]},
        {"role": "tool", "content": "é"},
        {"role": "assistant", "thinking": "u", "content": "done"},
    ]
    out = fast.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = render_with_mask(conversation_from_chat(messages), tok)
    assert out["input_ids"] == ids
    assert out["assistant_masks"] == [int(m) for m in mask]


def test_generation_marks_of_earlier_turns(fast, tok):
    messages = [
        USER,
        {"role": "assistant", "content": "A"},
        USER,
        {"role": "assistant", "content": "B"},
    ]
    out = fast.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tok.decode(marked) == (
        "<|channel|>final<|message|>A<|end|><|channel|>final<|message|>B<|return|>"
    )


# -- answers read back by transformers ----------------------------------------------------

CALL_JSON = '<|channel|>commentary <|constrain|>json<|message|>{"a": 1}<|call|>'
ARGS = {"name": "f", "arguments": {"a": 1}}
reads_responses = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.16"),
    reason="transformers before 5.16 does not know the key `join` of a response_template",
)


@reads_responses
@pytest.mark.parametrize(
    "answer, expected",
    [
        ("<|channel|>final<|message|>Hello.<|return|>", {"content": "Hello."}),
        (
            "<|channel|>analysis<|message|> a <|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c",
            {"reasoning_content": " a \nb", "content": "c"},
        ),
        (
            "<|channel|>commentary<|message|>Wait.<|end|>"
            "<|start|>assistant to=functions.f" + CALL_JSON,
            {"content": "Wait.", "tool_calls": [ARGS]},
        ),
        (
            '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
            {"tool_calls": [ARGS]},
        ),
        (
            " to=python<|channel|>analysis code<|message|>print(1)<|call|>",
            {"tool_calls": [{"name": "python", "arguments": "print(1)"}]},
        ),
        (
            "<|channel|>analysis to=python code<|message|>1<|call|>",
            {"tool_calls": [{"name": "python", "arguments": 1}]},
        ),
    ],
)
def test_response_template(answer, expected, fast):
    prompt = fast.apply_chat_template([USER], tokenize=False, add_generation_prompt=True)
    parsed = fast.parse_response(fast.encode(answer), prefix=prompt)
    if "tool_calls" in expected:
        expected = expected | {
            "tool_calls": [{"type": "function", "function": f} for f in expected["tool_calls"]]
        }
    assert parsed == {"role": "assistant"} | expected


@reads_responses
def test_what_the_template_writes_transformers_reads_back(fast, tok):
    messages = [
        USER,
        {
            "role": "assistant",
            "thinking": "t",
            "content": "p",
            "tool_calls": [call("f", '{"a": 1}')],
        },
    ]
    whole = text(messages, fast)
    prefix, answer = whole.split("<|start|>assistant", 1)
    parsed = fast.parse_response(fast.encode(answer), prefix=prefix + "<|start|>assistant")
    assert parsed["reasoning_content"] == "t" and parsed["content"] == "p"
    assert parsed["tool_calls"][0]["function"] == ARGS
    assert parse(fast.encode(answer), tok) == [
        Message.analysis("t"),
        Message.preamble("p"),
        Message.call("functions.f", '{"a": 1}'),
    ]


@pytest.mark.skipif(not (NANO / "tokenizer.json").exists(), reason="nano is not trained yet")
def test_shipped_nano_speaks_the_template():
    fast, tok = transformers.AutoTokenizer.from_pretrained(NANO), from_folder(NANO)
    assert fast.response_template["start_anchor"] == "<|start|>assistant"
    theirs, ours = both([USER], fast, tok, True, builtin_tools=["python"])
    assert theirs == ours
