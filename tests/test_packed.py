"""Packed experts: the same numbers as unpacked ones, from the file itself, in little memory."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import labhelpers
from labhelpers.checkpoint import CheckpointError, load_model, memory, save
from labhelpers.checkpoint.packed import load_packed
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss, fast
from labhelpers.model.moe import Experts
from labhelpers.mxfp4 import dequantize
from labhelpers.mxfp4.packed import PackedExperts, packed_product

NANO = Path(labhelpers.__file__).parent / "nano"
CONFIG = GptOssConfig(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=16,
    num_local_experts=5,
    num_experts_per_tok=2,
    eos_token_id=5,
)


def write(folder: Path, config: GptOssConfig = CONFIG, seed: int = 0, **options) -> Path:
    """A random checkpoint in which no bias is zero."""
    model = GptOss(config)
    generator = torch.Generator().manual_seed(seed)
    model.reset_parameters(std=0.3, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=generator)
    save(model, folder, **options)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("packed"))


def ids(config: GptOssConfig, batch: int = 1, tokens: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (batch, tokens), generator=generator)


# --- The product -----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 5),
    rows=st.integers(1, 40),
    groups=st.integers(1, 4),
    chunk=st.integers(1, 3000),
    threads=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_product_equals_the_unpacked_one(tokens, rows, groups, chunk, threads, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(256, (rows, groups, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(120, 130, (rows, groups), generator=generator, dtype=torch.uint8)
    x = torch.randn(tokens, 32 * groups, generator=generator).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = packed_product(x, blocks, scales, chunk)
    finally:
        torch.set_num_threads(before)
    exact = x.double() @ dequantize(blocks, scales, torch.float64).T
    assert out.dtype == dtype
    scale = x.double().abs() @ dequantize(blocks, scales, torch.float64).abs().T
    assert ((out - exact).abs() <= 2 * torch.finfo(dtype).eps * scale + 1e-30).all()


def test_product_refuses_what_does_not_fit():
    blocks, scales = torch.zeros(4, 2, 16, dtype=torch.uint8), torch.zeros(4, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"x \[1, 32\] and scales \[4, 2\]"):
        packed_product(torch.zeros(1, 32), blocks, scales)
    with pytest.raises(ValueError, match="G"):
        packed_product(torch.zeros(1, 64), blocks[:, :1], scales)


def test_gradients_reach_the_input():
    blocks = torch.randint(256, (4, 2, 16), dtype=torch.uint8)
    scales = torch.full((4, 2), 127, dtype=torch.uint8)
    x = torch.randn(3, 64, requires_grad=True)
    packed_product(x, blocks, scales).sum().backward()
    assert torch.equal(x.grad[0], dequantize(blocks, scales, torch.float32).T.sum(1))


# --- The model -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["huggingface", "original"])
@pytest.mark.parametrize("most", [10**9, 40_000], ids=["one_file", "sharded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_equal_the_unpacked_model(tmp_path, layout, most, dtype):
    write(tmp_path, layout=layout, max_shard_bytes=most)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (most < 10**9)
    reference, packed = load_model(tmp_path, dtype), load_packed(tmp_path, dtype)
    with torch.inference_mode():
        expected, got = reference(ids(CONFIG, 2)), packed(ids(CONFIG, 2))
    assert got.dtype == dtype and expected.abs().max() > 0.5
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_odd_shapes(tmp_path, seed):
    shapes = ((32, 64, 2, 1), (96, 32, 7, 7), (160, 224, 3, 2))
    hidden, inner, experts, top = shapes[seed]
    config = replace(
        CONFIG, hidden_size=hidden, intermediate_size=inner, num_local_experts=experts,
        num_experts_per_tok=top, num_hidden_layers=2, layer_types=(),
    )  # fmt: skip
    write(tmp_path, config, seed, max_shard_bytes=50_000)
    reference, packed = load_model(tmp_path), load_packed(tmp_path, torch.float32)
    torch.testing.assert_close(packed(ids(config)), reference(ids(config)), rtol=1e-5, atol=1e-5)


def test_weights_are_the_same_bits(folder):
    reference, packed = load_model(folder), load_packed(folder)
    for one, other in zip(reference.model.layers, packed.model.layers, strict=True):
        for index in range(CONFIG.num_local_experts):
            gate_up, down = other.mlp.experts.weights(index, torch.float32)
            assert torch.equal(gate_up, one.mlp.experts.gate_up_proj[index])
            assert torch.equal(down, one.mlp.experts.down_proj[index])


def test_nano():
    model, tokenizer = labhelpers.load("nano", device="cpu")
    packed = load_packed(NANO, torch.float32)
    prompt = ids(model.config, 1, 150)
    with torch.inference_mode():
        expected, got = model(prompt), packed(prompt)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    text = tokenizer.encode("What is an attention sink?")
    assert packed.stop_ids == model.stop_ids
    greedy = list(model.generate(text, max_new_tokens=24, stop=(), fast=False))
    assert list(packed.generate(text, max_new_tokens=24, stop=())) == greedy


def test_only_chosen_experts_are_touched(folder):
    experts = load_packed(folder).model.layers[0].mlp.experts
    used: list[int] = []
    one = experts.expert
    experts.expert = lambda index, hidden: used.append(index) or one(index, hidden)
    chosen, weights = torch.tensor([[3, 1]]), torch.tensor([[0.5, 0.5]], dtype=torch.bfloat16)
    experts(torch.ones(1, 64, dtype=torch.bfloat16), chosen, weights)
    assert used == [1, 3]


def test_packed_is_an_experts_that_the_lean_path_leaves_alone(folder):
    model = load_packed(folder, torch.float32)
    experts = model.model.layers[0].mlp.experts
    assert isinstance(experts, Experts) and "PackedExperts" in fast.unsuited(model)
    assert "5 experts, hidden 64, intermediate 96" in repr(experts)
    assert experts.expert_bytes() == 3 * 64 * 96 * 17 // 32 + 4 * (2 * 96 + 64)


def test_state_dict_is_the_checkpoint(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = load_packed(folder).state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in stored)
    assert not any(p.requires_grad for p in load_packed(folder).parameters())


# --- Errors ----------------------------------------------------------------------------------


def test_unpacked_checkpoints_are_sent_to_load_model(tmp_path):
    write(tmp_path, mxfp4=False)
    with pytest.raises(CheckpointError, match="nothing to keep packed: use .*load_model"):
        load_packed(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_dtypes(folder, dtype):
    with pytest.raises(ValueError, match="float16|bfloat16 or float32"):
        load_packed(folder, dtype)


def damage(folder: Path, change) -> None:
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)


def test_a_nan_scale_is_named_at_first_use(tmp_path):
    write(tmp_path)
    name = "model.layers.1.mlp.experts.down_proj_scales"
    damage(tmp_path, lambda tensors: tensors[name][4, 0].fill_(255))
    experts = load_packed(tmp_path).model.layers[1].mlp.experts
    hidden = torch.ones(1, 64, dtype=torch.bfloat16)
    assert experts.expert(3, hidden).isfinite().all()
    with pytest.raises(ValueError, match="layer 1: down_proj_scales of expert 4 hold 255"):
        experts.expert(4, hidden)


def test_damaged_folders(tmp_path, folder):
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_packed(tmp_path / "nowhere")
    write(tmp_path)
    damage(tmp_path, lambda tensors: tensors.pop("model.layers.0.mlp.experts.down_proj_scales"))
    with pytest.raises(CheckpointError, match="MXFP4 needs both"):
        load_packed(tmp_path)
    write(tmp_path)
    name = "model.layers.2.mlp.experts.gate_up_proj_blocks"
    damage(tmp_path, lambda tensors: tensors.update({name: tensors[name][:4].clone()}))
    with pytest.raises(CheckpointError, match=r"gate_up_proj_blocks has shape \[4, .*expected"):
        load_packed(tmp_path)


def test_a_missing_shard(tmp_path):
    write(tmp_path, max_shard_bytes=60_000)
    sorted(tmp_path.glob("*.safetensors"))[1].unlink()
    with pytest.raises(CheckpointError, match="shard .* is missing"):
        load_packed(tmp_path)


def test_conversion_must_fit(folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    load_packed(folder)  # takes nothing
    with pytest.raises(CheckpointError, match="pass dtype=torch.bfloat16"):
        load_packed(folder, torch.float32)


def test_sizes_that_do_not_divide_into_blocks():
    with pytest.raises(ValueError, match="multiples of 32"):
        PackedExperts(replace(CONFIG, hidden_size=80))


# --- Memory ----------------------------------------------------------------------------------

PROBE = """
import json, sys, threading, time, torch
from pathlib import Path
from labhelpers.checkpoint.packed import load_packed
torch.set_num_threads(2)

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(name))

def run(folder):
    model = load_packed(folder)
    return list(model.generate(list(range(64)), max_new_tokens=3, stop=()))

# Once before: modules and tables, and the kernels that torch makes for each shape and keeps.
run(sys.argv[1])
start = {n: resident(n) for n in ("RssAnon", "RssFile")}
peak, done = dict(start), threading.Event()
def watch():
    while not done.is_set():
        for n in peak:
            peak[n] = max(peak[n], resident(n))
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
run(sys.argv[1])
done.set()
thread.join()
print(json.dumps({n: peak[n] - start[n] for n in peak}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_anonymous_memory_stays_small(tmp_path):
    """10 MB of packed experts, 38 MB unpacked: all are used, and yet only as file pages."""
    config = replace(
        CONFIG, hidden_size=256, intermediate_size=512, num_local_experts=16,
        num_experts_per_tok=4,
    )  # fmt: skip
    write(tmp_path, config, max_shard_bytes=5_000_000)
    experts = sum(f.stat().st_size for f in tmp_path.glob("*.safetensors"))
    assert experts > 10e6
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path)],
        capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"}, cwd=Path(labhelpers.__file__).parents[1],
    )  # fmt: skip
    peak = json.loads(run.stdout)
    assert peak["RssFile"] > 0.8 * experts  # mapped, and read where it lies
    assert peak["RssAnon"] < 6e6, peak
