"""The lean path against the plain one: logits as numbers, and all the reasons to step aside."""

from dataclasses import replace

import pytest
import torch
from test_model_parity import BASE, CONFIGS, TOLERANCE, random_ids, randomise, relative

from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss, KVCache, fast
from labhelpers.model.generate import generate


def build(config: GptOssConfig, bf16_weights: bool) -> GptOss:
    """A random model; with bf16_weights as a checkpoint would give them (exact in float16)."""
    model = GptOss(config).eval()
    randomise(model, seed=7)
    if bf16_weights:
        model.to(torch.bfloat16).float()
    return model


@pytest.mark.parametrize("bf16_weights", [False, True])
@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "all of 2 experts"])
@torch.no_grad()
def test_steps_equal_the_plain_path(name: str, bf16_weights: bool) -> None:
    config = replace(CONFIGS[name], num_hidden_layers=3, layer_types=())
    config = replace(config, sliding_window=min(config.sliding_window, 40))
    model = build(config, bf16_weights)
    ids, prompt = random_ids(config, 1, 100), 30  # the steps cross the window of 40
    plain = model(ids)[0, prompt:]
    cache = KVCache(config)
    model(ids[:, :prompt], cache=cache)
    step = fast.start(model, cache)
    steps = torch.cat([step(ids[:, t : t + 1]) for t in range(prompt, 100)])
    assert relative(steps, plain) < TOLERANCE


@torch.no_grad()
def test_full_layers_grow_past_their_first_buffer() -> None:
    model = build(replace(BASE, num_hidden_layers=2, layer_types=(), sliding_window=8), True)
    ids = random_ids(BASE, 1, 600)  # the buffer starts with 256 slots
    cache = KVCache(model.config)
    model(ids[:, :3], cache=cache)
    step = fast.start(model, cache)
    steps = torch.cat([step(ids[:, t : t + 1]) for t in range(3, 600)])
    assert relative(steps, model(ids)[0, 3:]) < TOLERANCE


def test_float16_is_used_only_where_it_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 64, generator=generator)
    weight, bias = torch.randn(48, 64, generator=generator), torch.randn(48, generator=generator)
    for w in (weight, weight.bfloat16().float(), weight * 1e6, weight.bfloat16().float() * 2**-9):
        exact = (x.double() @ w.double().t() + bias).float()
        assert relative(fast.matrix(w, bias)(x), exact) < 1e-6
        assert relative(fast.matrix(w)(x), exact - bias) < 1e-5


def test_generate_takes_it_and_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(BASE, True)
    started: list[KVCache] = []
    start = fast.start
    monkeypatch.setattr(fast, "start", lambda m, c: started.append(c) or start(m, c))
    prompt = random_ids(BASE, 1, 20)
    lean = list(generate(model, prompt, max_new_tokens=150))
    assert len(started) == 1
    assert list(generate(model, prompt, max_new_tokens=150, fast=False)) == lean
    assert len(started) == 1


def test_changed_weights_are_noticed() -> None:
    model = build(BASE, True)
    prompt = random_ids(BASE, 1, 5)
    before = list(generate(model, prompt, max_new_tokens=30))
    kept = vars(model)["_fast_weights"][1]
    assert list(generate(model, prompt, max_new_tokens=30)) == before
    assert vars(model)["_fast_weights"][1] is kept  # not built twice
    with torch.no_grad():
        model.model.layers[1].self_attn.sinks.add_(3.0)
    after = list(generate(model, prompt, max_new_tokens=30))
    assert after == list(generate(model, prompt, max_new_tokens=30, fast=False)) != before
    assert "_fast_weights" not in model.state_dict()


def test_it_steps_aside() -> None:
    model = build(BASE, True)
    assert fast.suits(model)
    seen: list[int] = []
    hook = model.model.layers[0].mlp.register_forward_hook(lambda *_: seen.append(1))
    assert "hook" in fast.unsuited(model)
    list(generate(model, [1, 2], max_new_tokens=4))
    assert len(seen) == 4  # a chapter's hook sees the prompt and every step
    hook.remove()

    class Other(type(model.model.layers[0].mlp.experts)):  # type: ignore[misc]
        pass

    model.model.layers[0].mlp.experts.__class__ = Other
    assert "Other" in fast.unsuited(model)
    with pytest.raises(ValueError, match="fast path cannot"):
        generate(model, [1], fast=True)
    assert "float32" in fast.unsuited(build(BASE, False).to(torch.bfloat16))
    assert len(list(generate(build(BASE, False).bfloat16(), [1], max_new_tokens=3))) == 3


def test_float32_without_fbgemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an ARM laptop does."""

    def absent(*_: object) -> None:
        raise RuntimeError("no FBGEMM here")

    monkeypatch.setattr(torch, "fbgemm_pack_gemm_matrix_fp16", absent)
    model = build(BASE, True)
    prompt = random_ids(BASE, 1, 20)
    lean = list(generate(model, prompt, max_new_tokens=40, fast=True))
    assert list(generate(model, prompt, max_new_tokens=40, fast=False)) == lean
