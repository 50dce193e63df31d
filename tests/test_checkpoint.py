"""Checkpoints there and back: both layouts, transformers, memory, and `labhelpers.load`."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import labhelpers
from labhelpers import loading
from labhelpers.checkpoint import CheckpointError, load_model, memory, read_folder, save
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss
from labhelpers.mxfp4 import fake_quantize

CONFIG = GptOssConfig(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=16,
    num_local_experts=4,
    num_experts_per_tok=2,
    eos_token_id=5,
    pad_token_id=3,
)
IDS = torch.randint(0, 160, (1, 200), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> GptOss:
    """A random model whose numbers a checkpoint can hold exactly: experts in MXFP4, bf16 else."""
    made = GptOss(CONFIG)
    made.reset_parameters(std=0.3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.endswith(("bias", "norm.weight")):  # not all 0 or all 1
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
            is_expert = name.endswith(("gate_up_proj", "down_proj"))
            p.copy_(fake_quantize(p, dim=-2) if is_expert else p.bfloat16())
    made.stop_ids = frozenset({5, 7})
    return made


def same_weights(a: GptOss, b: GptOss) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("most", [10**9, 60_000], ids=["one_file", "sharded"])
@pytest.mark.parametrize("mxfp4", [True, False], ids=["mxfp4", "bf16"])
@pytest.mark.parametrize("layout", ["huggingface", "original"])
def test_round_trip(model, tmp_path, layout, mxfp4, most):
    paths = save(model, tmp_path, layout, mxfp4, max_shard_bytes=most)
    assert (len(paths) == 1) == (most == 10**9)
    assert all(path.is_file() for path in paths)
    back = load_model(tmp_path)
    assert same_weights(back, model)
    assert not back.training
    assert not list(tmp_path.glob(".*"))  # no half-written files
    if layout == "huggingface":
        assert back.config == CONFIG
        assert back.stop_ids == {5, 7}


def test_the_two_layouts_hold_the_same_bytes(model, tmp_path):
    (published,) = save(model, tmp_path / "a")
    (original,) = save(model, tmp_path / "b", "original")
    a, b = load_file(published), load_file(original)
    assert sum(t.nbytes for t in a.values()) == sum(t.nbytes for t in b.values())
    qkv = [a[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(b["block.1.attn.qkv.weight"], torch.cat(qkv))
    for ours, theirs in (("gate_up_proj_blocks", "mlp1_weight.blocks"),
                         ("down_proj_scales", "mlp2_weight.scales")):  # fmt: skip
        assert torch.equal(a[f"model.layers.2.mlp.experts.{ours}"], b[f"block.2.mlp.{theirs}"])
    assert set(json.loads((tmp_path / "b/config.json").read_text())) >= {
        "num_experts", "experts_per_token", "initial_context_length", "rope_ntk_alpha"
    }  # fmt: skip


def test_config_says_what_the_published_one_says(model, tmp_path):
    (path,) = save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization_config"] == {
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
        "quant_method": "mxfp4",
    }
    dtypes = {name: info.dtype for name, info in read_folder(tmp_path).items()}
    packed = {name for name, dtype in dtypes.items() if dtype == "U8"}
    assert packed == {n for n in dtypes if n.endswith(("_blocks", "_scales"))}
    assert {dtypes[name] for name in dtypes.keys() - packed} == {"BF16"}


@pytest.mark.parametrize("mxfp4", [True, False])
def test_transformers_loads_it_and_gives_our_logits(model, tmp_path, mxfp4):
    from transformers import GptOssForCausalLM

    save(model, tmp_path, mxfp4=mxfp4, max_shard_bytes=60_000)
    theirs, info = GptOssForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        expected = theirs.float().eval()(IDS).logits
        assert (model(IDS) - expected).abs().max() < 1e-4  # logits reach 10
        assert expected.abs().max() > 5


def test_transformers_own_checkpoint_loads_here(tmp_path):
    from transformers import GptOssConfig as TheirConfig
    from transformers import GptOssForCausalLM

    theirs = GptOssForCausalLM(TheirConfig(**CONFIG.to_dict())).eval()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        assert (load_model(tmp_path)(IDS) - theirs(IDS).logits).abs().max() < 1e-5


def test_openai_reference_loads_the_original_layout(model, tmp_path):
    reference = pytest.importorskip("gpt_oss.torch.model", reason="pip install gpt-oss")
    save(model, tmp_path, "original")
    theirs = reference.Transformer.from_checkpoint(str(tmp_path), "cpu").float()
    with torch.no_grad():
        assert (theirs(IDS[0]) - model(IDS)[0]).abs().max() < 1e-3


def test_saving_again_replaces_the_old_files(model, tmp_path):
    save(model, tmp_path, max_shard_bytes=60_000)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 9}')
    save(model, tmp_path)
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    assert not (tmp_path / "model.safetensors.index.json").exists()
    assert load_model(tmp_path).stop_ids == {5, 9}  # the reader's own settings were kept
    save(model, tmp_path, max_shard_bytes=60_000)
    assert same_weights(load_model(tmp_path), model)


def test_dtype_of_what_is_not_packed(tmp_path):
    made = GptOss(CONFIG)
    save(made, tmp_path, mxfp4=False, dtype=None)
    assert same_weights(load_model(tmp_path), made)
    half = load_model(tmp_path, torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def _with(model: GptOss, name: str, value: float) -> GptOss:
    spoilt = GptOss(CONFIG)
    spoilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        spoilt.get_parameter(name).view(-1)[3] = value
    return spoilt


@pytest.mark.parametrize(
    "name",
    ["model.layers.1.mlp.experts.down_proj", "model.layers.0.self_attn.sinks", "lm_head.weight"],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_saved(model, tmp_path, name, value):
    with pytest.raises(CheckpointError, match=name):
        save(_with(model, name, value), tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"intermediate_size": 80}, {}, "intermediate_size=80 is not a multiple of 32"),
        ({}, {"layout": "gguf"}, r"'huggingface', 'original'"),
        ({}, {"max_shard_bytes": 0}, "at least 1"),
        ({}, {"dtype": torch.float16}, "bfloat16, float32 or None"),
        ({"rope_scaling": None}, {"layout": "original"}, "YaRN is off"),
        ({"swiglu_alpha": 2.0}, {"layout": "original"}, "swiglu_alpha"),
        ({"rms_norm_eps": 1e-6}, {"layout": "original"}, "rms_norm_eps"),
        (
            {"layer_types": ("full_attention",) * 3},
            {"layout": "original"},
            "cannot express layer_types",
        ),
        ({"attention_bias": False}, {"layout": "original"}, "attention_bias"),
    ],
)
def test_save_refuses(tmp_path, changes, options, message):
    config = GptOssConfig(**{**vars(CONFIG), **changes})
    with pytest.raises(CheckpointError, match=message):
        save(GptOss(config), tmp_path / "new", **options)
    assert not (tmp_path / "new/config.json").exists()


# A process of its own: one that ran other tests holds freed memory, which hides what is taken.
_WATCHED_LOAD = """
import sys, threading, time
from pathlib import Path
import torch
from labhelpers.checkpoint import load_model

def anonymous():  # bytes of our own, without the pages of mapped files
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

load_model(sys.argv[1])  # small: what the first load imports is not counted
before, peak, done = anonymous(), [0], threading.Event()

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
model = load_model(sys.argv[2], torch.bfloat16)
done.set()
watcher.join()
print(peak[0] - before, sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_the_model_and_one_expert(model, tmp_path):
    config = GptOssConfig(
        vocab_size=2000, hidden_size=512, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=8, num_key_value_heads=2, num_local_experts=24, num_experts_per_tok=2,
    )  # fmt: skip
    save(model, tmp_path / "small")
    write_random_checkpoint(tmp_path, config)
    command = [sys.executable, "-c", _WATCHED_LOAD, str(tmp_path / "small"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    peak, size = map(int, result.stdout.split())
    expert = 2 * 512 * 512 * 2
    assert size > 75_000_000
    assert size * 0.95 < peak < size + 4 * expert + 6_000_000


def write_random_checkpoint(folder: Path, config: GptOssConfig) -> None:
    """Packed experts of random bytes: quicker than to quantize a model."""
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in GptOss(config).named_parameters()}
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, columns, rows = shape
            packed = (experts, rows, columns // 32, 16)
            tensors[f"{name}_blocks"] = torch.randint(256, packed, dtype=torch.uint8)
            tensors[f"{name}_scales"] = torch.full(packed[:-1], 120, dtype=torch.uint8)
        else:
            tensors[name] = torch.zeros(shape, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors")
    data = {**config.to_dict(), "quantization_config": {"quant_method": "mxfp4"}}
    (folder / "config.json").write_text(json.dumps(data))


# labhelpers.load: names, tokenizer, memory


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """A checkpoint with a tokenizer of 256 bytes and three specials."""
    from labhelpers.tokenizer import O200K_PATTERN, byte_characters

    config = GptOssConfig(**{**vars(CONFIG), "vocab_size": 259})
    path = tmp_path_factory.mktemp("folder") / "checkpoint"
    save(GptOss(config), path)
    names = ("<|return|>", "<|call|>", "<|endoftext|>")
    specials = [{"content": n, "id": 256 + i, "special": True} for i, n in enumerate(names)]
    split = {"type": "Split", "pattern": {"Regex": O200K_PATTERN}}
    tokenizer = {
        "added_tokens": specials,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]},
        "model": {"type": "BPE", "vocab": {c: b for b, c in byte_characters().items()}},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


def test_load_a_folder(folder):
    model, tokenizer = labhelpers.load(folder, device="cpu")
    assert model.dtype == torch.float32
    ids = tokenizer.encode("hello")
    assert model(torch.tensor([ids])).shape == (1, len(ids), 259)
    assert labhelpers.load(str(folder), torch.bfloat16, "cpu")[0].dtype == torch.bfloat16


def test_load_nano(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading.resources, "files", lambda package: tmp_path)
    with pytest.raises(CheckpointError, match="carries no nano model"):
        labhelpers.load()
    (tmp_path / "nano").symlink_to(folder)
    assert labhelpers.load(device="cpu")[0].config.vocab_size == 259


def test_original_layout_gets_its_stop_ids_from_the_tokenizer(folder, tmp_path):
    model = load_model(folder)
    model.stop_ids = frozenset()
    save(model, tmp_path, "original")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert labhelpers.load(tmp_path, device="cpu")[0].stop_ids == {256, 257, 258}


def test_float16_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="float16"):
        labhelpers.load("gpt-oss-20b", torch.float16, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there(folder, device):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there.get(device):
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=f"{device}.*('cpu'|leave device out)"):
        labhelpers.load(folder, device=device)


def test_tokenizer_of_another_model(folder, tmp_path, model):
    save(model, tmp_path)
    with pytest.raises(CheckpointError, match=r"no tokenizer.json.*weights alone"):
        labhelpers.load(tmp_path, device="cpu")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match="259 ids, config.json says vocab_size 160"):
        labhelpers.load(tmp_path, device="cpu")


class FakeHub:
    """Stands for the network: a cache folder with config.json, then the rest."""

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.folder, self.error, self.asked = folder, error, []

    def hf_hub_download(self, repo: str, file: str) -> str:
        self.asked.append((repo, file))
        if self.error:
            raise self.error
        return str(self.folder / file)

    def snapshot_download(self, repo: str, **patterns) -> str:
        self.asked.append((repo, patterns))
        return str(self.folder)


@pytest.fixture
def hub(monkeypatch):
    def install(folder: Path, error: Exception | None = None) -> FakeHub:
        import huggingface_hub

        fake = FakeHub(folder, error)
        for name in ("hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(huggingface_hub, name, getattr(fake, name))
        return fake

    return install


def test_hub_id(hub, folder, capsys):
    fake = hub(folder)
    model, _ = labhelpers.load("someone/small-gpt-oss", device="cpu")
    assert model.config.vocab_size == 259
    (repo, file), (_, patterns) = fake.asked
    assert (repo, file) == ("someone/small-gpt-oss", "config.json")
    assert patterns["allow_patterns"] == ["*.safetensors", "*.json"]
    assert patterns["ignore_patterns"] == ["*/*"]  # original/ and metal/ hold it all again
    assert capsys.readouterr().out == ""


def test_hub_id_of_the_original_layout(hub, folder, tmp_path):
    save(load_model(folder), tmp_path / "original", "original")
    (tmp_path / "original/tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    fake = hub(tmp_path)
    labhelpers.load("someone/small-gpt-oss/original", device="cpu")
    assert fake.asked[0] == ("someone/small-gpt-oss", "original/config.json")
    assert fake.asked[1][1]["allow_patterns"] == ["original/*.safetensors", "original/*.json"]


def test_a_folder_goes_before_a_hub_id(hub, folder, monkeypatch):
    fake = hub(folder, AssertionError("asked the Hub"))
    monkeypatch.chdir(folder.parent.parent)
    labhelpers.load(f"{folder.parent.name}/{folder.name}", device="cpu")
    assert not fake.asked


@pytest.mark.parametrize(
    ("dtype", "free", "message"),
    [
        (torch.float32, 50e9, r"gpt-oss-20b needs 83\..*float32.*50\.0 GB.*bfloat16.*41\.9 GB"),
        (torch.bfloat16, 20e9, r"gpt-oss-20b needs 41\.9 GB in RAM.*20\.0 GB are free.*nano"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_the_download(
    hub, tmp_path, monkeypatch, dtype, free, message
):
    config = labhelpers.preset("gpt-oss-20b").to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    fake = hub(tmp_path)
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free))
    with pytest.raises(CheckpointError, match=message):
        labhelpers.load("gpt-oss-20b", dtype, "cpu")
    assert fake.asked == [("openai/gpt-oss-20b", "config.json")]


def test_bytes_are_announced_before_a_large_model_is_fetched(hub, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text(json.dumps(labhelpers.preset("gpt-oss-120b").to_dict()))
    hub(tmp_path)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 500_000_000_000)
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors"):
        labhelpers.load("gpt-oss-120b", torch.bfloat16, "cpu")
    said = capsys.readouterr().out
    assert "gpt-oss-120b: 233.7 GB in bfloat16 on cpu (an expert 49.8 MB)" in said


def _hub_errors():
    from huggingface_hub import errors

    response = namedtuple("Response", "status_code headers request")(403, {}, None)

    def http(kind):
        error = kind.__new__(kind)
        Exception.__init__(error, "refused")
        error.response = response
        return error

    return [
        (http(errors.GatedRepoError), "gated.*hf auth login"),
        (http(errors.RepositoryNotFoundError), "spelling.*HF_TOKEN"),
        (http(errors.HfHubHTTPError), "answered 403.*hf auth login"),
        (http(errors.RemoteEntryNotFoundError), "has no config.json"),
        (errors.LocalEntryNotFoundError("x"), "not in the local cache.*go online"),
        (errors.OfflineModeIsEnabled("x"), "HF_HUB_OFFLINE"),
        (OSError("disk full"), "cannot fetch owner/name: disk full"),
    ]


@pytest.mark.parametrize(("error", "message"), _hub_errors())
def test_hub_refusals_say_what_to_do(hub, tmp_path, error, message):
    hub(tmp_path, error)
    with pytest.raises(CheckpointError, match=message):
        labhelpers.load("owner/name", device="cpu")


def test_free_memory_is_a_sensible_number():
    assert 10_000_000 < memory.free_bytes(torch.device("cpu")) < 10**14
