"""nano's training: the bank, the cases, the batches, and the training model against the package."""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from harmony_oracle import oracle, to_oracle

from labhelpers import tokenizer
from labhelpers.config import GptOssConfig
from labhelpers.harmony import parse, render, render_segments, render_with_mask
from labhelpers.model import GptOss
from labhelpers.mxfp4.format import fake_quantize
from training import bank, evaluate, optimizer, train
from training.batches import Batches, make_batch, tokens_of
from training.cases import Maker, typo, without_reasoning
from training.export import as_model, weights_of, write_masters
from training.model import TrainingModel, loss_of, masks, rope_tables
from training.skills import (
    arithmetic,
    browser,
    counting,
    functions,
    letter_case,
    mixture,
    reading,
    stories,
)

SKILLS = [make for _, make in mixture.SHARES]


@pytest.mark.parametrize("author", bank.authors())
def test_every_author_keeps_the_rules(author):
    assert bank.check(author)


def test_the_held_out_author_wrote_every_file():
    counts = bank.check(bank.held_out_author())
    assert set(counts) == {
        p.stem for a in bank.authors() for p in (bank.FOLDER / a).glob("*.jsonl")
    }
    assert counts["course"] >= 2 * len(bank.table("facts"))


def test_the_bank_is_as_large_as_promised():
    authors = bank.authors()
    assert len(authors) >= 6 and bank.held_out_author() in authors
    total = {
        name: sum(len(bank.load(a).get(name, [])) for a in authors)
        for name in bank.load(bank.held_out_author())
    }
    wanted = {"counting": 300, "arithmetic": 300, "functions": 400, "course": 800,
              "instructions": 300, "off_topic": 400}  # fmt: skip
    assert all(total[name] >= least for name, least in wanted.items()), total
    assert total["second_turns"] + total["tool_errors"] >= 300


def test_a_broken_wording_is_refused(tmp_path, monkeypatch):
    author = bank.held_out_author()
    for path in (bank.FOLDER / author).glob("*.jsonl"):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / path.name).write_text(path.read_text())
    for name in ("facts", "attributes", "small_talk"):
        (tmp_path / f"{name}.json").write_text((bank.FOLDER / f"{name}.json").read_text())
    monkeypatch.setattr(bank, "FOLDER", tmp_path)
    rows = (tmp_path / "x" / "counting.jsonl").read_text().replace("{word}", "{wrod}", 1)
    (tmp_path / "x" / "counting.jsonl").write_text(rows)
    bank.load.cache_clear()
    with pytest.raises(ValueError, match="counting.jsonl row 1"):
        bank.check("x")
    bank.load.cache_clear()


def _literal(text):
    """The longest stretch of a wording without slots."""
    return max(re.split(r"\{\w+\}", text), key=len).strip().lower()


def test_held_out_wordings_are_in_no_training_text():
    """Nothing of the held-out author is drawn, and (spelt out) nothing stands there by chance."""
    held_out = bank.held_out_author()
    maker = mixture.maker(5)
    assert held_out not in maker.authors
    for name in ("counting", "off_topic", "course", "unfit", "small_talk", "instructions"):
        texts = {row["text"].lower() for row in maker.rows(name)}
        assert not texts & {row["text"].lower() for row in bank.load(held_out)[name]}
    said = "\n".join(
        m.text.lower()
        for _ in range(3000)
        for m in mixture.draw(maker).messages
        if m.role == "user"
    )
    requests = [r["text"] for f in bank.load(held_out)["functions"] for r in f["requests"]]
    long = [t for t in map(_literal, requests) if len(t) > 34]
    assert len(long) > 100
    assert [t for t in long if t in said] == []


def test_instructions_put_together_are_no_held_out_ones():
    maker = mixture.maker(6)
    made = {
        letter_case.make(maker, b).lower().strip(" .") for b in ("capitals", "lowercase") * 6000
    }
    assert len(made) > 4000
    for author in bank.authors():
        if author not in maker.authors:
            texts = {r["text"].lower().strip(" .") for r in bank.load(author)["instructions"]}
            assert not texts & made, author


def test_low_effort_counts_along():
    thought, n = counting.reasoning("low", "strawberry", "r")
    assert (thought.text, n) == ("s t r1 a w b e r2 r3 y: 3", 3)


def test_a_scene_changes_but_never_the_numbers():
    maker = mixture.maker(1)
    rows = maker.rows("arithmetic")[:400]
    new = [arithmetic.other_scene(maker, row["text"]) for row in rows]
    assert sum(a["text"] != b for a, b in zip(rows, new, strict=True)) > 100
    for row, text in zip(rows, new, strict=True):
        assert bank.slots_of(text) == bank.slots_of(row["text"])
        assert "percent" not in row["text"] or "percent" in text


def test_words_that_decide_a_sum_stay():
    maker = mixture.maker(2)
    for text in ("Double {a} and take {b}", "{a} lost, {b} sold", "the sum of {a} and {b} percent"):
        assert {arithmetic.other_scene(maker, text) for _ in range(20)} == {text}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("Grandma has 9 jars with 36 plums each, and 9 plums left over.", "9 * 36 + 9",
         "Grandma has 9 jars with: start. jars with 36 plums each: *. and 9 plums left over: +."),
        ("Take 14 from 60.", "60 - 14", "Take 14 from: -. from 60: start."),
        ("12.5*3", "round(12.5 * 3, 2)", "12.5*: start. *3: *."),
        ("80 euros and 6% on top", "round(80 + 80 * 6 / 100, 2)",
         "80 euros and: start. euros and 6% on top: +%."),
        ("Square it", "4 ** 2", ""),
    ],
)  # fmt: skip
def test_a_sum_is_read_number_by_number(text, code, said):
    assert reading.read(text, code) == said


def test_a_models_code_is_read_and_never_run():
    assert arithmetic.printed("print(round(250 * (100 + 8) / 100, 2))") == "270.0"
    assert arithmetic.printed("print(2 - -3 ** 2)") == "11"
    for code in ("print(open('x'))", "print(1", "1 + 1", "print(1 / 0)", "print(9 ** 9 ** 9)",
                 "print(a)", "print('x' * 3)", "print(True + 1)"):  # fmt: skip
        assert arithmetic.printed(code) is None, code


def test_history_without_reasoning_teaches_only_the_answer():
    """What a server shows that drops the reasoning before a call: the call is not learnt again."""
    nano, maker = tokenizer.nano(), mixture.maker(2)
    for make in (functions.make, arithmetic.make, browser.make):
        case = make(maker)
        short = without_reasoning(case)
        shown, learnt = short.messages[: short.history], short.messages[short.history :]
        assert not [
            m
            for m in shown
            if m.channel == "analysis" and m.role == "assistant" and not m.recipient
        ]
        assert learnt == case.messages[-len(learnt) :] and shown[-1].role == "tool"
        ids, mask = tokens_of(short, nano)
        produced = [i for i, wanted in zip(ids, mask, strict=True) if wanted]
        assert parse(produced, nano) == list(learnt)


def test_test_words_are_in_no_training_text():
    train, test = Maker(random.Random(1)), Maker(random.Random(2), "test")
    seen = {train.v.word() for _ in range(4000)}
    assert not seen & {test.v.word() for _ in range(4000)}
    assert "strawberry" not in seen


@pytest.mark.parametrize("make", SKILLS, ids=lambda f: f"{f.__module__[16:]}.{f.__name__}")
def test_cases_render_like_openai_harmony_and_parse_back(make):
    """Token for token with the real tokenizer; and what nano must produce parses strictly."""
    encoding, real = oracle(), tokenizer.o200k_harmony()
    nano, maker = tokenizer.nano(), Maker(random.Random(str(make)))
    for _ in range(12):
        case = make(maker)
        ours = render(case.messages, real, for_training=True, compat="openai-harmony")
        theirs = encoding.render_conversation_for_training(to_oracle(case.messages))
        assert ours == theirs
        ids, mask = render_with_mask(case.messages, nano)
        last = case.turn[-1]
        assert nano.decode(ids[-1:]) == "<|return|>" and mask[-1]
        produced = [i for i, wanted in zip(ids, mask, strict=True) if wanted]
        if len([m for m in case.turn if m.role == "tool"]) == 0:
            assert [m.text for m in parse(produced, nano)] == [m.text for m in case.turn]
        assert last.channel == "final" and last.text == last.text.strip()


def test_reasoning_is_dropped_by_the_written_rule():
    maker = Maker(random.Random(3))
    from training.skills import turns

    for _ in range(40):
        case = turns.make(maker)
        kept = {s.message for s in render_segments(case.messages, for_training=True)}
        for i, message in enumerate(case.messages[: len(case.prompt)]):
            assert message.channel != "analysis" or i not in kept


def test_effort_changes_the_length_of_reasoning():
    maker, nano = Maker(random.Random(4)), tokenizer.nano()
    lengths = {"low": [], "medium": [], "high": []}
    for _ in range(1500):
        case = mixture.draw(maker)
        thoughts = [m for m in case.turn if m.channel == "analysis" and m.role == "assistant"]
        thoughts = [m for m in thoughts if m.recipient is None]
        lengths[case.effort].append(sum(len(nano.encode(m.text)) for m in thoughts))
    low, medium, high = (np.mean(lengths[e]) for e in ("low", "medium", "high"))
    assert high > 2 * medium > 4 * low


def test_batches_are_the_same_for_any_number_of_workers():
    one = make_batch(9, 3, 4, 1024)
    two = make_batch(9, 3, 4, 1024)
    assert all((one[k] == two[k]).all() for k in one)
    first = [next(b)["ids"] for b in [Batches(9, 4, 1024, workers=0)] for _ in range(1)][0]
    workers = Batches(9, 4, 1024, workers=2)
    try:
        assert torch.equal(next(workers)["ids"], first)
        assert torch.equal(
            next(workers)["ids"],
            torch.from_numpy(make_batch(9, 1, 4, 1024)["ids"].astype(np.int32)),
        )
    finally:
        workers.close()


def test_supervised_positions_predict_the_assistant():
    batch, nano = make_batch(2, 0, 4, 1024), tokenizer.nano()
    ids = batch["ids"].reshape(-1)
    n = int(batch["weights"].sum())
    assert 0.1 < n / ids.size < 0.36
    assert (batch["targets"][:n] == ids[batch["supervised"][:n] + 1]).all()
    stops = [nano.special_id("<|return|>"), nano.special_id("<|call|>")]
    assert np.isin(batch["targets"][:n], stops).sum() >= 4
    assert (batch["documents"] > 0).mean() > 0.85


def _tiny():
    return GptOssConfig(
        vocab_size=6144, hidden_size=64, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=16,
    )  # fmt: skip


def _random(config, seed):
    model = TrainingModel(config, seed)
    model.stream = torch.float32
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if p.ndim < 2 or name.endswith("_bias"):
            p.data += 0.3 * torch.randn_like(p)
    return model


def test_training_model_is_the_package_model():
    """Packed conversations with masks give each conversation's own logits, experts in MXFP4."""
    config = _tiny()
    model = _random(config, 1)
    weights = {
        k: fake_quantize(v) if k.endswith(("gate_up_proj", "down_proj")) else v
        for k, v in model.state_dict().items()
    }
    package: GptOss = as_model(weights, config)
    ids = torch.randint(0, 6000, (2, 96))
    documents = torch.ones(2, 96, dtype=torch.int32)
    documents[0, 50:] = 2
    cos, sin = rope_tables(config, 96)
    hidden, balance = model(ids, torch.arange(192), cos, sin, *masks(documents, 16))
    logits = model.lm_head(hidden).view(2, 96, -1)
    with torch.no_grad():
        pairs = [(logits[0, :50], package(ids[:1, :50])), (logits[0, 50:], package(ids[:1, 50:])),
                 (logits[1], package(ids[1:]))]  # fmt: skip
    for ours, reference in pairs:
        assert (ours - reference[0]).abs().max() < 1e-5 * reference.abs().max()
    assert 0.9 < float(balance.detach()) < 4


def test_a_few_steps_learn_and_gradients_reach_every_parameter():
    model = _random(_tiny(), 2)
    tools = optimizer.build(model, 0.02, 3e-3)
    batch = {k: torch.from_numpy(v.astype(np.float32) if k == "weights" else v.astype(np.int64))
             for k, v in make_batch(1, 0, 1, 512).items()}  # fmt: skip
    cos, sin = rope_tables(model.config, 512)
    losses = []
    for _ in range(6):
        hidden, balance = model(
            batch["ids"], batch["supervised"], cos, sin, *masks(batch["documents"], 16)
        )
        loss = loss_of(model, hidden, batch["targets"], batch["weights"])
        (loss + 0.01 * balance).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        for tool in tools:
            tool.step()
            tool.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3


def test_muon_orthogonalizes_and_parts_gate_from_up():
    stack = optimizer.orthogonalize(torch.randn(3, 24, 16)).float()
    values = torch.linalg.svdvals(stack)
    assert values.min() > 0.5 and values.max() < 1.4
    w = torch.randn(2, 12, 5)
    parts = optimizer.as_matrices("x.gate_up_proj", w)
    assert torch.equal(parts[0], w[0, 0::2]) and torch.equal(parts[1], w[0, 1::2])
    assert torch.equal(optimizer.put_back("x.gate_up_proj", parts, w), w)


def test_masters_round_trip(tmp_path):
    weights = _random(_tiny(), 3).state_dict()
    write_masters(weights, tmp_path)
    back = weights_of(tmp_path)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[k], weights[k].bfloat16()) for k in weights)


def test_the_evaluation_judges():
    case = evaluate.cases("known", 1)[1][1]
    run = evaluate.Run("functions", case)
    nano = tokenizer.nano()
    right = [m for m in case.turn if m.role == "assistant"]
    segments = render_segments(case.messages, for_training=True)
    produced = [i for i, w in zip(*render_with_mask(case.messages, nano), strict=True) if w]
    assert segments and produced and right
    cut = produced.index(nano.special_id("<|call|>")) + 1
    run.take(produced[:cut], nano)
    assert run.calls_right and not run.done
    run.take(produced[cut:], nano)
    assert run.done and run.final is True and run.value("calls", nano)
    other = evaluate.Run("functions", case)
    other.take(nano.encode("words without a stop"), nano)
    assert other.done and not other.parsed and not other.value("all", nano)


def test_typos_never_make_words_that_nobody_wants():
    rng = random.Random(1)
    assert all(
        typo(rng, "count the public classic") == "count the public classic" for _ in range(200)
    )
    assert typo(rng, "remember {letters} strange") != "remember {letters} strange"


def test_generation_config_and_table_are_what_the_shipped_nano_has():
    folder = bank.FOLDER.parents[1] / "labhelpers" / "nano"
    if not (folder / "model.safetensors").exists():
        pytest.skip("nano is not there yet")
    nano = tokenizer.nano()
    settings = json.loads((folder / "generation_config.json").read_text())
    names = {nano.special_name(i) for i in settings["eos_token_id"]}
    assert names == {"<|return|>", "<|call|>", "<|endoftext|>"}


def test_a_parameter_without_gradient_stops_the_training(monkeypatch):
    """A nano was once trained whose experts learned nothing: the compiler had dropped them."""
    config = GptOssConfig.from_file(Path(train.__file__).parent / "configs" / "smoke.json")
    args = argparse.Namespace(
        seed=0, muon_lr=0.01, adam_lr=0.001, steps=2, hold=0.2, rows=2, length=64
    )
    batch = {
        "ids": torch.randint(config.vocab_size, (2, 64), dtype=torch.int32),
        "documents": torch.zeros(2, 64, dtype=torch.int32),
        "supervised": torch.arange(128),
        "targets": torch.randint(config.vocab_size, (128,)),
        "weights": torch.ones(128),
    }
    train.Trainer(config, args, "cpu").train_step([batch])
    monkeypatch.setattr("training.model.fake_quantize_ste", lambda w: w.detach())
    with pytest.raises(RuntimeError, match=r"no gradient reaches .*gate_up_proj.*down_proj"):
        train.Trainer(config, args, "cpu").train_step([batch])


def test_stories_amount_to_what_their_code_says():
    maker = mixture.maker(3)
    for _ in range(500):
        text, code = stories.make(maker)
        numbers = re.findall(r"\d+\.\d+|\d+", text)
        used = [n for n in re.findall(r"\d+\.\d+|\d+", code) if n not in ("2", "100")]
        assert all(n in numbers for n in used), (text, code)
        assert float(arithmetic.evaluate(code)) == float(arithmetic.printed(f"print({code})"))
    assert any("(" in stories.told(maker)[1] for _ in range(200))
