"""Looking inside: activations, head ablation, the reference, the real-thing cell, new pictures."""

import re
from html import unescape
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import labhelpers
from labhelpers import checkpoint, counting, real_thing
from labhelpers.ablation import (
    costs,
    expert_off,
    head_effects,
    head_off_by_row,
    heads_off,
    sinks_shut,
)
from labhelpers.activations import record
from labhelpers.config import GptOssConfig, YarnConfig
from labhelpers.model import GptOss
from labhelpers.viz.attention import attention_row
from labhelpers.viz.curves import swiglu_curve
from labhelpers.viz.heads import head_map
from labhelpers.viz.routing import record_routing
from labhelpers.viz.table import table

CONFIG = GptOssConfig(
    vocab_size=97, hidden_size=64, intermediate_size=32, num_hidden_layers=3,
    num_attention_heads=6, num_key_value_heads=2, head_dim=16, num_local_experts=5,
    num_experts_per_tok=2, sliding_window=7, rope_scaling=YarnConfig(),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> GptOss:
    made = GptOss(CONFIG)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return made.eval()


IDS = [(7 * i * i + 3 * i) % 97 for i in range(20)]


# Activations -------------------------------------------------------------------------------


def test_parts_are_recorded_without_the_batch(model: GptOss) -> None:
    seen = record(model, IDS)
    assert seen.output("embed_tokens").shape == (20, 64)
    assert seen.input("layers.0").shape == (20, 64)
    assert seen.output("lm_head").shape == (20, 97)
    with torch.inference_mode():
        assert torch.equal(seen.output("lm_head"), model(torch.tensor([IDS]))[0])


def test_each_part_can_be_run_again_on_its_input(model: GptOss) -> None:
    seen = record(model, torch.tensor([IDS]))
    part = model.model.layers[1].mlp
    with torch.inference_mode():
        again = part(seen.input("layers.1.mlp")[None])[0]
    assert torch.allclose(again, seen.output("layers.1.mlp"))


def test_hooks_are_gone_afterwards(model: GptOss) -> None:
    record(model, IDS)
    with pytest.raises(ValueError, match="one sequence"):
        record(model, torch.zeros(2, 3, dtype=torch.int64))
    assert not any(m._forward_hooks for m in model.modules())


def test_unknown_part_names_near_ones(model: GptOss) -> None:
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.router"):
        record(model, IDS).output("layers.9.mlp.router")


def test_transformers_reference_has_the_same_activations(model: GptOss, tmp_path) -> None:
    from labhelpers.reference import load_reference

    checkpoint.save(model, tmp_path)
    ours = checkpoint.load_model(tmp_path, torch.float32, torch.device("cpu"))
    reference = load_reference(tmp_path)
    assert all(p.dtype == torch.float32 for p in reference.parameters())
    a, b = record(ours, IDS), record(reference, IDS)
    for name in ("layers.0.self_attn", "layers.2.mlp", "layers.1", "norm", "lm_head"):
        assert torch.allclose(a.input(name), b.input(name), atol=1e-5), name
        assert torch.allclose(a.output(name), b.output(name), atol=1e-5), name
    for layer in range(3):
        (ids, weights), (their_ids, their_weights) = a.routing(layer), b.routing(layer)
        assert torch.equal(ids, their_ids) and torch.allclose(weights, their_weights, atol=1e-5)
        assert torch.allclose(weights.sum(-1), torch.ones(20))
    assert len(b.outputs("rotary_emb")) == 2


# Ablation ----------------------------------------------------------------------------------


def test_heads_off_equals_zero_columns(model: GptOss) -> None:
    ids = torch.tensor([IDS])
    with torch.inference_mode():
        whole = model(ids)
        with heads_off(model, [(1, 4), (1, 0)]):
            silent = model(ids)
        weight = model.model.layers[1].self_attn.o_proj.weight
        kept = weight.clone()
        weight[:, 64:80] = 0  # head 4
        weight[:, 0:16] = 0  # head 0
        expected = model(ids)
        weight.copy_(kept)
        assert torch.allclose(silent, expected, atol=1e-6)
        assert not torch.allclose(silent, whole, atol=1e-3)
        assert torch.equal(model(ids), whole)


def test_heads_off_refuses_heads_that_do_not_exist(model: GptOss) -> None:
    with pytest.raises(ValueError, match="no head 6 in a layer 0"), heads_off(model, [(0, 6)]):
        pass


def test_a_head_off_in_each_row_equals_one_run_a_head(model: GptOss) -> None:
    heads = [3, 0, 5]
    with torch.inference_mode():
        with head_off_by_row(model, 1, heads):
            rows = model(torch.tensor([IDS] * 3))
        for row, head in zip(rows, heads, strict=True):
            with heads_off(model, [(1, head)]):
                alone = model(torch.tensor([IDS]))[0]
            assert torch.allclose(row, alone, atol=1e-5)
        assert not torch.allclose(rows[0], rows[1], atol=1e-3)
    for layer, wrong in [(1, [0, 6]), (1, [-1]), (3, [0])]:
        with pytest.raises(ValueError, match="this model has no"):
            with head_off_by_row(model, layer, wrong):
                pass
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("prompt", [1, 5, 12])
def test_head_effects_equal_one_run_a_head(model: GptOss, prompt: int) -> None:
    start, text = IDS[:prompt], IDS[prompt:]
    effects = head_effects(model, start, text)
    assert effects.shape == (3, 6, len(text))
    targets = torch.tensor(text)

    def cost(off: list[tuple[int, int]]) -> torch.Tensor:
        cache = model.new_cache()
        with torch.inference_mode():
            if prompt > 1:
                model(torch.tensor([start[:-1]]), cache=cache)
            with heads_off(model, off):
                logits = model(torch.tensor([[start[-1], *text[:-1]]]), cache=cache)[0]
        return F.cross_entropy(logits, targets, reduction="none")

    for layer, head in [(0, 0), (1, 5), (2, 3)]:
        rise = cost([(layer, head)]) - cost([])
        assert rise.abs().max() > 1e-3  # else the comparison proves nothing
        assert torch.allclose(effects[layer, head], rise, atol=1e-4)


def test_head_effects_needs_both_texts(model: GptOss) -> None:
    with pytest.raises(ValueError, match="prompt"):
        head_effects(model, [], [1, 2])


def test_without_an_expert_the_next_best_steps_in(model: GptOss) -> None:
    whole = record_routing(model, IDS)
    gone = int(whole.expert_ids[1, 0, 0])
    with expert_off(model, 1, gone):
        seen = record_routing(model, IDS)
    assert (whole.expert_ids[1] == gone).any() and not (seen.expert_ids[1] == gone).any()
    spared = (whole.expert_ids[1] != gone).all(-1)  # tokens that never went there
    assert spared.any() and torch.equal(seen.expert_ids[1][spared], whole.expert_ids[1][spared])
    assert torch.allclose(seen.weights[1].sum(-1), torch.ones(20))
    assert torch.equal(seen.expert_ids[0], whole.expert_ids[0])
    assert torch.equal(record_routing(model, IDS).expert_ids, whole.expert_ids)
    for layer, expert in [(3, 0), (0, 5), (0, -1)]:
        with pytest.raises(ValueError, match="no expert"), expert_off(model, layer, expert):
            pass


def test_shut_sinks_take_nothing_and_come_back(model: GptOss) -> None:
    before = [layer.self_attn.sinks.clone() for layer in model.model.layers]
    with torch.inference_mode():
        whole = model(torch.tensor([IDS]))
    with pytest.raises(RuntimeError, match="stop"), sinks_shut(model, [(1, 2)]):
        shut = torch.stack([layer.self_attn.sinks.isinf() for layer in model.model.layers])
        assert shut.sum() == 1 and shut[1, 2]
        raise RuntimeError("stop")
    with sinks_shut(model), torch.inference_mode():
        assert not torch.allclose(model(torch.tensor([IDS])), whole, atol=1e-3)
    after = [layer.self_attn.sinks for layer in model.model.layers]
    assert all(map(torch.equal, before, after))
    with pytest.raises(ValueError, match="no head 6 in a layer 0"), sinks_shut(model, [(0, 6)]):
        pass


def test_costs_are_those_of_each_reply_alone(model: GptOss) -> None:
    found = costs(model, [IDS[:3], IDS[:7]], [IDS[3:8], IDS[7:]])
    with torch.inference_mode():
        scores = model(torch.tensor([IDS]))[0].log_softmax(-1)
    expected = [-scores[i - 1, IDS[i]].item() for i in (*range(3, 8), *range(7, 20))]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="none of them empty"):
        costs(model, [[]], [[1]])


# Twenty words ------------------------------------------------------------------------------


def test_the_twenty_words_hold_their_letters() -> None:
    assert len(set(counting.WORDS)) == 20
    assert all(1 <= word.count(letter) <= 4 for word, letter in counting.WORDS)


def test_nano_counts_its_twenty_words() -> None:
    model, tokenizer = labhelpers.load("nano", device="cpu")
    replies = counting.write(model, counting.questions(tokenizer))
    assert counting.how_many_right(tokenizer, replies) == 20
    assert all(tokenizer.special_name(reply[-1]) == "<|return|>" for reply in replies)
    assert not counting.is_right("banana", "a", "That is 3 .<|message|>There are 2 as in banana.")
    kinds = {text: counting.kind(tokenizer.encode(text)[0], tokenizer) for text in "r7, "}
    assert kinds == {"r": "single letter", "7": "number", ",": "other", " ": "space"}
    assert counting.kind(replies[0][-1], tokenizer) == "special token"
    assert counting.kind(tokenizer.encode(" word")[0], tokenizer) == "word"


# The real thing ----------------------------------------------------------------------------


def test_static_runs_never_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABHELPERS_STATIC", "1")
    assert real_thing.why_not() == (
        "gpt-oss-20b was not loaded: this page is made on a CPU, without a network."
    )


def test_an_expert_is_described_by_what_lies_in_memory(model: GptOss) -> None:
    assert real_thing.describe_expert(model) == (
        "one expert: float32, 0.02 MB, 32.00 bits a weight: unpacked"
    )

    # As transformers keeps it on a GPU: Triton's wrapper, and the scales in another object.
    def wrapped(*shape: int) -> SimpleNamespace:
        return SimpleNamespace(storage=SimpleNamespace(data=torch.zeros(shape, dtype=torch.uint8)))

    def scales(*shape: int) -> SimpleNamespace:
        return SimpleNamespace(weight_scale=wrapped(*shape))

    experts = SimpleNamespace(
        gate_up_proj=wrapped(5, 64, 32), gate_up_proj_precision_config=scales(5, 64, 2),
        down_proj=wrapped(5, 64, 16), down_proj_precision_config=scales(5, 64, 1),
    )  # fmt: skip
    layer = SimpleNamespace(mlp=SimpleNamespace(experts=experts))
    packed = SimpleNamespace(config=CONFIG, model=SimpleNamespace(layers=[layer]))
    assert real_thing.describe_expert(packed) == (
        "one expert: uint8, 0.00 MB, 4.25 bits a weight: packed, as stored"
    )


# Pictures and tables -----------------------------------------------------------------------


def test_table_reads_the_same_in_both_forms() -> None:
    made = table(["", "a", "b"], [["x", 12345, -0.001], ["y <z>", True, 2.5]])
    assert repr(made).split("\n")[1].split() == ["x", "12,345", "0.00"]
    text = unescape(re.sub(r"<[^>]*>", " ", made.html()))
    assert text.split() == repr(made).split()
    with pytest.raises(ValueError, match="2 cells"):
        table(["a", "b"], [[1]])


def test_attention_row_gives_the_sink_what_is_missing() -> None:
    picture = attention_row([0.1, 0.2, 0.3, 0.0], list("abcd"), query=2, window=2)
    assert picture.data[0] == pytest.approx(0.4)
    assert "The sink takes 0.40; of the tokens, c (position 2)" in picture.text
    long = attention_row([0.01] * 60, ["w"] * 60, query=59, newest=10)
    assert long.data[1] == pytest.approx(0.5) and len(long.data) == 12
    assert "50 tokens before the last 10 get 0.50" in long.text
    with pytest.raises(ValueError, match="query 4"):
        attention_row([0.1] * 4, list("abcd"), query=4)


def test_pictures_are_small() -> None:
    assert head_map(torch.eye(8), "nats").text.startswith("Largest: head 0 of layer 0 (1.0)")
    for picture in (head_map(torch.randn(8, 8), "nats"), swiglu_curve()):
        assert len(picture.png()) < 60_000
    scales = [head_map(torch.tensor([[1.0, low]]), "nats").figure.axes[1] for low in (-0.04, -0.06)]
    assert [scale.get_ylim()[0] for scale in scales] == [0.0, -1.0]  # one-sided, two-sided
    with pytest.raises(ValueError, match="layers, heads"):
        head_map(torch.zeros(3), "nats")
