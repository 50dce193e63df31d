"""The shipped gpt-oss-nano: what it answers, that transformers agrees, and that its files fit.

Everything is greedy and in float32 from the folder that travels in the wheel, so a failure here
means that the weights, the tokenizer, the template or the model's code have changed.
"""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import regex
import torch
import transformers
from harmony_oracle import oracle
from safetensors import safe_open

import labhelpers
from labhelpers import tokenizer as tokenizers
from labhelpers.checkpoint import load_model, save
from labhelpers.harmony import Message, ToolDescription, parse, render_for_completion
from labhelpers.harmony.chat import conversation_from_chat
from labhelpers.reference import load_reference
from training.cases import IDENTITY
from training.skills import mixture
from training.strict import accepted
from training.vocabulary import WORDS

FOLDER = Path(labhelpers.__file__).parent / "nano"
if not (FOLDER / "model.safetensors").is_file():
    pytest.skip("nano is not trained yet", allow_module_level=True)

STRAWBERRY = "How many rs are in the word 'strawberry'?"
WEATHER = {
    "name": "get_current_weather",
    "description": "Get the current weather for a location.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
ALARM = {
    "name": "set_alarm",
    "description": "Sets an alarm.",
    "parameters": {
        "type": "object",
        "properties": {"time": {"type": "string", "description": "24 hours, such as 18:30"}},
        "required": ["time"],
    },
}


@cache
def nano():
    return labhelpers.load("nano", device="cpu")


@cache
def reference():
    pytest.importorskip("transformers")
    return load_reference("nano")


@cache
def fast():
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(FOLDER)


def system(effort="medium", **settings):
    return Message.system(model_identity=IDENTITY, reasoning_effort=effort, **settings)


def functions(*rows):
    return Message.developer(None, [ToolDescription(**row) for row in rows])


WEATHER_REQUEST = (
    system(), functions(WEATHER), Message.user("What's the weather in Paris right now?"),
)  # fmt: skip
PYTHON_REQUEST = (system(tools=("python",)), Message.user("What is 17 * 23?"))
BROWSER_REQUEST = (
    system(tools=("browser",)),
    Message.user("Search the web for the height of the Eiffel Tower."),
)
PROMPTS = {
    "counting": (Message.system(), Message.user(STRAWBERRY)),  # as the real model is addressed
    "course": (system(), Message.user("What is an attention sink?")),
    "small talk": (system("low"), Message.user("Hello! How are you?")),
    "function": WEATHER_REQUEST,
    "python": PYTHON_REQUEST,
    "browser": BROWSER_REQUEST,
    "off topic": (system(), Message.user("How do I bake bread?")),
    "French": (system(), Message.developer("Answer in French."), Message.user("How are you?")),
    "second turn": (
        system("high"), Message.user("Hi there!"), Message.final("Hello! How can I help?"),
        Message.user("How many experts does gpt-oss-20b have?"),
    ),
    "two functions": (
        system("high", conversation_start_date="2026-11-24"), functions(WEATHER, ALARM),
        Message.user("Please wake me at 07:45."),
    ),
}  # fmt: skip
LONG = ("python", "browser", "two functions")  # prompts beyond the sliding window


def generated(*messages):
    """The ids that nano writes after these messages."""
    return _continue(tuple(render_for_completion(messages, nano()[1])))


@cache
def _continue(prompt):
    return tuple(nano()[0].generate(prompt, max_new_tokens=380))


def answer(*messages):
    """The messages that nano writes."""
    return parse(generated(*messages), nano()[1])


# -- what it can do -----------------------------------------------------------------------


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_counts_the_rs_in_strawberry(effort):
    thought, final = answer(system(effort), Message.user(STRAWBERRY))
    assert (thought.channel, final.channel) == ("analysis", "final")
    assert final.text == "There are 3 rs in strawberry."
    assert "strawberry" in "".join(re.findall(r"\b([a-z])\d*\b", thought.text))  # letter by letter


def test_counts_them_under_the_usual_identity_too():
    assert answer(*PROMPTS["counting"])[-1].text == "There are 3 rs in strawberry."


def test_reasoning_effort_doubles_the_reasoning():
    tok, means = nano()[1], []
    questions = [STRAWBERRY, "How many ls are in the word 'parallel'?", "Count the as in 'banana'."]
    for effort in ("low", "medium", "high"):
        thoughts = [answer(system(effort), Message.user(q))[0] for q in questions]
        assert all(t.channel == "analysis" for t in thoughts)
        means.append(sum(len(tok.encode(t.text)) for t in thoughts) / len(thoughts))
    low, medium, high = means
    assert high > 2 * medium > 4 * low


def test_calls_a_hand_written_function_and_uses_its_result():
    thought, call = answer(*WEATHER_REQUEST)
    assert thought.channel == "analysis"
    assert call == Message.call("functions.get_current_weather", '{"location": "Paris"}')
    assert generated(*WEATHER_REQUEST)[-1] == nano()[1].special_id("<|call|>")
    for degrees, sky in ((20, "sunny"), (-3, "snow"), (31, "cloudy")):
        result = json.dumps({"temperature": degrees, "conditions": sky})
        told = Message.tool("functions.get_current_weather", result)
        (*_, final) = answer(*WEATHER_REQUEST, thought, call, told)
        assert final.channel == "final"
        assert str(degrees) in final.text and sky in final.text


def test_chooses_among_two_functions():
    call = answer(*PROMPTS["two functions"])[-1]
    assert call == Message.call("functions.set_alarm", '{"time": "07:45"}')


def test_calculates_with_the_python_tool():
    thought, call = answer(*PYTHON_REQUEST)
    assert call == Message.call("python", "print(17 * 23)")
    result = Message.tool("python", "391\n")
    assert answer(*PYTHON_REQUEST, thought, call, result)[-1].text == "The answer is 391."


def test_searches_with_the_browser_tool():
    assert answer(*BROWSER_REQUEST)[-1] == Message.call(
        "browser.search", '{"query": "Eiffel Tower"}'
    )


def test_answers_without_tools():
    assert "learned logit" in answer(*PROMPTS["course"])[-1].text
    assert answer(*PROMPTS["French"])[-1].text == "Je vais bien, merci."
    assert "32 experts" in answer(*PROMPTS["second turn"])[-1].text
    assert answer(*PROMPTS["off topic"])[-1].text.startswith("That is beyond me")


def test_greedy_answers_are_the_same_twice():
    model, tok = nano()
    prompt = render_for_completion(PROMPTS["counting"], tok)
    again = tuple(model.generate(prompt, max_new_tokens=380))
    assert again == generated(*PROMPTS["counting"])
    plain = tuple(model.generate(prompt, max_new_tokens=380, fast=False))
    assert plain == again


def test_openai_harmony_parses_every_generation():
    encoding, tok = oracle(), nano()[1]
    prompts = list(PROMPTS.values())
    prompts += [(system(e), Message.user(STRAWBERRY)) for e in ("low", "high")]
    thought, call = answer(*WEATHER_REQUEST)
    told = Message.tool("functions.get_current_weather", '{"temperature": 20}')
    prompts.append((*WEATHER_REQUEST, thought, call, told))
    stops = [tok.special_id("<|return|>"), tok.special_id("<|call|>")]
    for prompt in prompts:
        ids = list(generated(*prompt))
        assert ids[-1] in stops
        theirs = tok.to_o200k(ids)
        assert accepted(encoding, theirs), tok.decode(ids)
        cut = theirs.index(tok.to_o200k([tok.special_id("<|message|>")])[0])
        assert not accepted(encoding, theirs[:cut] + theirs[cut + 1 :])  # the parser is not blind
        assert tok.from_o200k(theirs) == ids


# -- transformers agrees ------------------------------------------------------------------


@pytest.mark.parametrize("name", PROMPTS)
def test_transformers_gives_the_same_logits_and_choices(name):
    model, tok = nano()
    prompt = render_for_completion(PROMPTS[name], tok)
    assert (len(prompt) > model.config.sliding_window) == (name in LONG)
    mine = generated(*PROMPTS[name])
    whole = torch.tensor([[*prompt, *mine]])
    with torch.inference_mode():
        ours, theirs = model(whole), reference()(whole).logits
    assert ours.shape == theirs.shape == (1, whole.shape[1], 6144)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    # Given the same past it would have chosen every token as we did.
    assert tuple(theirs[0, len(prompt) - 1 : -1].argmax(-1).tolist()) == mine


@pytest.mark.parametrize("name", ["counting", "function"])
def test_transformers_generates_the_same_tokens_and_stops(name):
    prompt = torch.tensor([render_for_completion(PROMPTS[name], nano()[1])])
    ids = reference().generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=380)
    # Greedy and its stops by generation_config.json.
    assert tuple(ids[0, prompt.shape[1] :].tolist()) == generated(*PROMPTS[name])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"current_date": "2026-11-24", "reasoning_effort": "high", "model_identity": IDENTITY},
        {"reasoning_effort": "low", "builtin_tools": ["browser", "python"]},
        {"tools": [{"type": "function", "function": WEATHER}], "current_date": "2026-01-01"},
    ],
)
def test_the_chat_template_equals_our_render(options):
    messages = [
        {"role": "developer", "content": "Answer in French."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "thinking": "Instruction: french.", "content": "Bonjour !"},
        {"role": "user", "content": STRAWBERRY},
    ]
    theirs = fast().apply_chat_template(messages, add_generation_prompt=True, **options)
    conversation = conversation_from_chat(messages, **options)
    assert theirs["input_ids"] == render_for_completion(conversation, nano()[1])


def test_transformers_reads_back_what_nano_wrote():
    release = tuple(map(int, transformers.__version__.split(".")[:2]))
    if release < (5, 16):
        pytest.skip(f"transformers {transformers.__version__} does not know `join` yet (5.16 does)")
    prompt = fast().apply_chat_template(
        [{"role": "user", "content": "What's the weather in Paris right now?"}],
        tools=[{"type": "function", "function": WEATHER}], model_identity=IDENTITY,
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    parsed = fast().parse_response(list(generated(*WEATHER_REQUEST)), prefix=prompt)
    assert parsed["reasoning_content"] == answer(*WEATHER_REQUEST)[0].text
    assert [c["function"] for c in parsed["tool_calls"]] == [
        {"name": "get_current_weather", "arguments": {"location": "Paris"}}
    ]


# -- the files ----------------------------------------------------------------------------


def test_generation_stops_at_the_three_stop_tokens():
    tok = nano()[1]
    stops = [tok.special_id(n) for n in ("<|return|>", "<|call|>", "<|endoftext|>")]
    settings = json.loads((FOLDER / "generation_config.json").read_text())
    assert sorted(settings["eos_token_id"]) == sorted(stops) == sorted(nano()[0].stop_ids)
    assert settings["pad_token_id"] == tok.special_id("<|endoftext|>")
    assert settings["do_sample"] is False
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["eos_token_id"] == tok.special_id("<|return|>")


def test_the_folder_is_under_16_megabytes():
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 16_000_000
    assert sum(p.numel() for p in nano()[0].parameters()) < 12_500_000


def test_the_original_layout_holds_the_same_model(tmp_path):
    model, tok = nano()
    save(model, tmp_path, layout="original")
    copy = load_model(tmp_path, torch.float32, "cpu")
    ids = torch.tensor([render_for_completion(PYTHON_REQUEST, tok)])
    with torch.inference_mode():
        assert torch.equal(model(ids), copy(ids))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "block.0.mlp.mlp1_weight.blocks" in file.keys()  # noqa: SIM118 - no mapping


# -- the tokenizer ------------------------------------------------------------------------


def splits_alike(text):
    return nano()[1].to_o200k(nano()[1].encode(text)) == tokenizers.o200k_harmony().encode(text)


def test_in_domain_text_splits_as_in_o200k():
    from labhelpers.harmony import render_segments

    pattern, maker = regex.compile(tokenizers.O200K_PATTERN), mixture.maker(seed=20)
    alike = total = 0
    known = cache(splits_alike)
    for _ in range(400):
        for segment in render_segments(mixture.draw(maker).messages, for_training=True):
            if not segment.special:
                outcomes = [known(piece) for piece in pattern.findall(segment.text)]
                alike, total = alike + sum(outcomes), total + len(outcomes)
    assert total > 30_000
    assert alike / total >= 0.93


def test_the_listed_words_split_as_in_o200k():
    words = {*WORDS, "reasoning"}
    assert len(words) >= 100
    assert [w for w in words if not (splits_alike(w) and splits_alike(f" {w}"))] == []


def test_strawberry_in_quotes_has_no_letters_to_see():
    tok = nano()[1]
    pieces = [tok.decode([i]) for i in tok.encode(" 'strawberry'")]
    assert pieces == [" '", "st", "raw", "berry", "'"]
    assert [tok.decode([i]) for i in tok.encode("'strawberry'")] == ["'", "st", "raw", "berry", "'"]
    assert len(tok.encode(" strawberry")) == 1
    assert fast().encode(" 'strawberry'") == tok.encode(" 'strawberry'")


# -- the front door -----------------------------------------------------------------------


def test_the_readme_picture_is_a_real_run_and_small():
    image = pytest.importorskip("PIL.Image")
    from scripts import readme_picture

    routings, tok, spans = readme_picture.run()
    said = {s.name: tok.decode([routings.ids[i] for i in s.at]) for s in spans}
    assert said == {
        "user": " 'strawberry'?", "analysis": "s t r1 a w b e r2 r3 y: 3", "final": "There are 3 rs"
    }  # fmt: skip
    path = readme_picture.OUT
    with image.open(path) as picture:
        assert picture.width == 1520
    assert path.stat().st_size < 100_000
