"""Generation: equal to transformers' greedy text, streamed, stopped, seeded, batched."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_model_parity import BASE, pair, random_ids, randomise

from labhelpers.model import GptOss
from labhelpers.model.generate import generate, generate_batch
from labhelpers.model.sampling import sample

CONFIG = replace(BASE, num_attention_heads=8, sliding_window=16)


@pytest.fixture(scope="module")
def model() -> GptOss:
    ours = GptOss(CONFIG).eval()
    randomise(ours, seed=4)
    return ours


def test_greedy_equals_transformers_across_the_window() -> None:
    ours, theirs = pair(CONFIG)
    ids = random_ids(CONFIG, 1, 9)
    expected = theirs.generate(ids, max_new_tokens=40, do_sample=False)[0, 9:].tolist()
    for fast in (False, None):
        assert list(ours.generate(ids, max_new_tokens=40, fast=fast)) == expected
    assert list(ours.generate(ids[0].tolist(), max_new_tokens=40, prefill_chunk=2)) == expected


def test_batch_rows_equal_themselves_alone(model: GptOss) -> None:
    prompts = [random_ids(CONFIG, 1, n, seed=n)[0].tolist() for n in (3, 40, 17)]
    alone = [list(generate(model, p, max_new_tokens=25)) for p in prompts]
    together = list(generate_batch(model, prompts, max_new_tokens=25, prefill_chunk=10))
    assert [list(row) for row in zip(*together, strict=True)] == alone


def test_stop_token_is_yielded_and_ends_its_row(model: GptOss) -> None:
    prompts = [random_ids(CONFIG, 1, n, seed=n)[0].tolist() for n in (5, 6)]
    first, second = (list(generate(model, p, max_new_tokens=12)) for p in prompts)
    stop = first[3]
    for one in ({stop}, stop):  # a set, or the id itself
        assert (
            list(generate(model, prompts[0], max_new_tokens=12, stop=one))
            == first[: first.index(stop) + 1]
        )
    only_first = stop if stop not in second else None
    assert only_first is not None, "choose other prompts: both rows meet the stop token"
    rows = list(generate_batch(model, prompts, max_new_tokens=12, stop=[stop]))
    ended = first.index(stop) + 1
    assert [r[0] for r in rows] == first[:ended] + [None] * (12 - ended)
    assert [r[1] for r in rows] == second


def test_own_stop_ids_are_the_default(model: GptOss) -> None:
    prompt = [1, 2, 3]
    free = list(generate(model, prompt, max_new_tokens=8, stop=()))
    try:
        model.stop_ids = frozenset({free[0]})
        assert list(generate(model, prompt, max_new_tokens=8)) == free[:1]
        assert list(generate(model, prompt, max_new_tokens=8, stop=())) == free
    finally:
        model.stop_ids = frozenset()
    assert GptOss(replace(CONFIG, eos_token_id=(3, 4))).stop_ids == {3, 4}


def test_it_streams_and_leaves_autograd_alone(model: GptOss) -> None:
    stream = generate(model, [1, 2], max_new_tokens=50)
    assert isinstance(next(stream), int)
    # Between two tokens the caller may train: no inference mode may leak out.
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    model(torch.tensor([[1, 2]])).sum().backward()
    model.zero_grad(set_to_none=True)
    assert isinstance(next(stream), int)


def test_seed_repeats_and_seeds_differ(model: GptOss) -> None:
    def draw(seed: int) -> list[int]:
        return list(generate(model, [5], max_new_tokens=20, temperature=1.0, seed=seed))

    state = torch.random.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is untouched


def test_length_never_passes_the_positions(model: GptOss) -> None:
    short = GptOss(replace(CONFIG, max_position_embeddings=12))
    short.load_state_dict(model.state_dict())
    assert len(list(generate(short, [1] * 9, max_new_tokens=50))) == 3
    with pytest.raises(ValueError, match="no room"):
        generate(short, [1] * 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 2.5}, "whole number"),
        ({"stop": ["<|end|>"]}, "special_id"),
        ({"stop": "<|end|>"}, "special_id"),
    ],
)
def test_bad_options_raise_before_the_first_token(
    model: GptOss, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model, [1], **options)


def test_bad_prompts(model: GptOss) -> None:
    with pytest.raises(ValueError, match="empty"):
        generate(model, [])
    with pytest.raises(ValueError, match="generate_batch"):
        generate(model, torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="another tokenizer"):
        next(generate(model, [CONFIG.vocab_size]))
    with pytest.raises(ValueError, match="not text"):
        generate(model, "Hello")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not text"):
        generate_batch(model, ["Hello"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="whole numbers, got torch.float32"):
        generate(model, [1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got a list"):
        model([1, 2])


def counts(draws: int = 4000, **options: float) -> Counter[int]:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(draws, -1)
    generator = torch.Generator().manual_seed(0)
    return Counter(sample(logits, generator=generator, **options).tolist())  # type: ignore[arg-type]


def test_sampling_follows_the_distribution() -> None:
    assert counts() == {0: 4000}
    plain = counts(temperature=1.0)
    for token, share in enumerate([0.5, 0.3, 0.15, 0.05]):
        assert abs(plain[token] / 4000 - share) < 0.03
    assert counts(temperature=0.5)[0] > 0.64 * 4000  # 0.25 / (0.25 + 0.09 + 0.0225 + 0.0025)
    assert set(counts(temperature=1.0, top_k=2)) == {0, 1}
    assert set(counts(temperature=1.0, top_k=9)) == {0, 1, 2, 3}
    nucleus = counts(temperature=1.0, top_p=0.6)  # 0.5 is short of 0.6: the next one stays too
    assert set(nucleus) == {0, 1} and abs(nucleus[0] / 4000 - 0.5 / 0.8) < 0.03
    assert set(counts(temperature=1.0, top_p=0.01)) == {0}
    assert set(counts(temperature=1e-45)) == {0}  # no overflow, however cold
