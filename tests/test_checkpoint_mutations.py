"""A hundred ways to spoil a checkpoint: each must end in one clear CheckpointError.

A row is a name, the layout, what is done to a sound folder, and what the message must contain:
the file or the tensor at fault, and a word of what is wrong.
"""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from labhelpers.checkpoint import CheckpointError, load_model, save
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss

CONFIG = GptOssConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_local_experts=2,
    num_experts_per_tok=1,
    eos_token_id=5,
)
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
EXPERTS = "model.layers.1.mlp.experts"
BLOCKS, SCALES = f"{EXPERTS}.down_proj_blocks", f"{EXPERTS}.down_proj_scales"
Q = "model.layers.0.self_attn.q_proj.weight"
SINKS = "model.layers.1.self_attn.sinks"
Mutation = Callable[[Path], Any]


# What can be done to a folder. Each of these returns a function of the folder.


def tensors(change: Callable[[dict[str, torch.Tensor]], Any], file: str = FILE) -> Mutation:
    """Load all tensors of a file, change the dict in place, save it again."""

    def mutate(folder: Path) -> None:
        held = {name: t.clone() for name, t in load_file(folder / file).items()}
        change(held)
        save_file({n: t.contiguous() for n, t in held.items()}, folder / file)

    return mutate


def drop(*names: str) -> Mutation:
    return tensors(lambda held: [held.pop(name) for name in names])


def put(name: str, value: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> Mutation:
    return tensors(lambda held: held.__setitem__(name, value(held).clone()))


def cast(name: str, dtype: torch.dtype) -> Mutation:
    return put(name, lambda held: held[name].to(dtype))


def at(name: str, value: float) -> Mutation:
    return tensors(lambda held: held[name].view(-1).__setitem__(3, value))


def config(file: str = "config.json", **changes: Any) -> Mutation:
    """Set keys of a JSON file; None deletes one."""

    def mutate(folder: Path) -> None:
        path = folder / file
        data = json.loads(path.read_text()) if path.exists() else {}
        data |= changes
        path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))

    return mutate


def text(file: str, content: str) -> Mutation:
    return lambda folder: (folder / file).write_text(content)


def bytes_of(change: Callable[[bytes], bytes], file: str = FILE) -> Mutation:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def header(change: Callable[[dict[str, Any]], Any]) -> Mutation:
    """Change the header's JSON and leave the data as they are."""

    def rewrite(raw: bytes) -> bytes:
        (length,) = struct.unpack("<Q", raw[:8])
        entries = json.loads(raw[8 : 8 + length])
        change(entries)
        new = json.dumps(entries).encode()
        return struct.pack("<Q", len(new)) + new + raw[8 + length :]

    return bytes_of(rewrite)


def raw_header(new: bytes) -> Mutation:
    return bytes_of(lambda raw: struct.pack("<Q", len(new)) + new)


def entry(**changes: Any) -> Mutation:
    return header(lambda entries: entries[Q].update(changes))


def shift(by: int) -> Mutation:
    """Move a tensor's place in the data, its size unchanged."""

    def change(entries: dict[str, Any]) -> None:
        entries[Q]["data_offsets"] = [n + by for n in entries[Q]["data_offsets"]]

    return header(change)


def only(name: str) -> Mutation:
    """Another weight file in place of the safetensors."""

    def mutate(folder: Path) -> None:
        (folder / FILE).rename(folder / name)

    return mutate


def point_at(path: str) -> Mutation:
    """Give this path, not the folder."""

    def mutate(folder: Path) -> Path:
        return folder / path

    return mutate


def both(*mutations: Mutation) -> Mutation:
    def mutate(folder: Path) -> None:
        for mutation in mutations:
            mutation(folder)

    return mutate


def shard(folder: Path, name: str) -> Path:
    """The shard that holds a tensor."""
    return folder / json.loads((folder / INDEX).read_text())["weight_map"][name]


def index(change: Callable[[dict[str, Any]], Any]) -> Mutation:
    def mutate(folder: Path) -> None:
        data = json.loads((folder / INDEX).read_text())
        change(data["weight_map"])
        (folder / INDEX).write_text(json.dumps(data))

    return mutate


def _second_copy(folder: Path) -> None:
    shutil.copy(folder / FILE, folder / "again.safetensors")


def _other_shard(folder: Path) -> None:
    """A shard of a model with another width, under the right name."""
    path = shard(folder, Q)
    save_file({n: torch.cat([t, t]) for n, t in load_file(path).items()}, path)


def _whole_file_too(folder: Path) -> None:
    shutil.copy(shard(folder, Q), folder / FILE)


def _directory(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).mkdir()


def _broken_link(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).symlink_to(folder / "blobs" / "gone")


def _into_original(folder: Path) -> None:
    (folder / "original").mkdir()
    (folder / FILE).rename(folder / "original" / FILE)


FILES = [
    ("empty", bytes_of(lambda raw: b""), [FILE, "0 bytes", "fetch it again"]),
    ("seven_bytes", bytes_of(lambda raw: raw[:7]), [FILE, "7 bytes"]),
    ("cut_in_header", bytes_of(lambda raw: raw[:100]), [FILE, "inside its header"]),
    ("cut_by_one", bytes_of(lambda raw: raw[:-1]), [FILE, "cut short", "ends at byte"]),
    ("cut_in_half", bytes_of(lambda raw: raw[: len(raw) // 2]), [FILE, "cut short", "model."]),
    ("bytes_behind", bytes_of(lambda raw: raw + b"123"), [FILE, "3 bytes after its last"]),
    ("huge_header", bytes_of(lambda raw: b"\xff" * 8 + raw[8:]), [FILE, "not a safetensors"]),
    ("header_no_json", raw_header(b"{oh no"), [FILE, "bad header"]),
    ("header_a_list", raw_header(b"[1, 2]"), [FILE, "bad header", "not a JSON object"]),
    ("header_no_utf8", raw_header(b'{"\xff": 1}'), [FILE, "bad header"]),
    ("header_nested", raw_header(b'{"a":' + b"[" * 99_999), [FILE, "bad header"]),
    ("header_twice", raw_header(b'{"a": 1, "a": 2}'), [FILE, "the key a occurs twice"]),
    ("header_empty", raw_header(b"{}"), ["no gpt-oss checkpoint", "nothing"]),
    ("entry_dtype", entry(dtype="F4"), [FILE, Q, "makes no sense"]),
    ("entry_no_shape", header(lambda e: e[Q].pop("shape")), [FILE, Q, "makes no sense"]),
    ("entry_negative", entry(shape=[-32, -32]), [FILE, Q, "makes no sense"]),
    ("entry_fraction", entry(shape=[32.0, 32]), [FILE, Q, "makes no sense"]),
    ("entry_one_offset", entry(data_offsets=[0]), [FILE, Q, "makes no sense"]),
    ("entry_a_number", header(lambda e: e.update({Q: 7})), [FILE, Q, "makes no sense"]),
    ("entry_too_large", entry(shape=[33, 32]), [FILE, Q, "takes 2,112"]),
    ("gap", shift(2), [FILE, "a gap or an overlap"]),
    ("overlap", shift(-2), [FILE, "a gap or an overlap"]),
    ("lfs_pointer", text(FILE, "version https://git-lfs.github.com/spec/v1\n"), [FILE, "lfs pull"]),
    ("gguf_inside", bytes_of(lambda raw: b"GGUF" + raw), [FILE, "GGUF"]),
    ("pickle_inside", lambda f: torch.save({}, f / FILE), [FILE, "pickle", "run code"]),
    ("web_page", text(FILE, "<!DOCTYPE html><title>Sign in</title>"), [FILE, "web page"]),
    ("only_bin", only("pytorch_model.bin"), ["pytorch_model.bin", "pickles", "run code"]),
    ("only_pt", only("model.pt"), ["model.pt", "pickles", ".safetensors version"]),
    ("only_gguf", only("gpt-oss-20b-mxfp4.gguf"), ["gpt-oss-20b-mxfp4.gguf", "llama.cpp"]),
    ("only_text", only("weights.txt"), ["no .safetensors", "weights.txt"]),
    ("only_original", _into_original, ["did you mean", "original"]),
    ("a_pt_file", point_at("model.pt"), ["model.pt", "pickle", "refused"]),
    ("a_bin_file", point_at("pytorch_model.bin"), ["pytorch_model.bin", "pickle"]),
    ("a_gguf_file", point_at("model.gguf"), ["model.gguf", "llama.cpp"]),
    ("a_safetensors_file", point_at(FILE), [FILE, "give the folder"]),
    ("no_folder", point_at("nowhere"), ["no folder", "nowhere", "Hub id"]),
    ("a_directory", _directory, [FILE, "cannot be read"]),
    ("a_broken_link", _broken_link, [FILE, "cannot be read", "fetch it again"]),
    ("two_checkpoints", _second_copy, ["in both again.safetensors and model.safetensors"]),
]

TENSORS = [
    ("lacks_norm", drop("model.norm.weight"), ["lacks model.norm.weight", "1 of"]),
    ("lacks_sinks", drop(SINKS), [f"lacks {SINKS}"]),
    ("lacks_head", drop("lm_head.weight"), ["lacks lm_head.weight"]),
    ("lacks_expert_bias", drop(f"{EXPERTS}.down_proj_bias"), [f"lacks {EXPERTS}.down_proj_bias"]),
    ("lacks_experts", drop(BLOCKS, SCALES), [f"lacks {EXPERTS}.down_proj "]),
    ("extra", put("model.layers.0.extra", lambda held: torch.ones(2)), [FILE, "layers.0.extra"]),
    (
        "extra_layer",
        put("model.layers.2.self_attn.sinks", lambda held: torch.ones(4)),
        ["config.json", "num_hidden_layers is 2", "3 layers"],
    ),
    (
        "router_packed",
        put("model.layers.0.mlp.router.weight_blocks", lambda held: held[BLOCKS]),
        [FILE, "router.weight_blocks", "does not have"],
    ),
    ("flat", put(Q, lambda held: held[Q].flatten()), [FILE, Q, "[1024], expected [32, 32]"]),
    (
        "o_proj_wide",
        put("model.layers.0.self_attn.k_proj.weight", lambda held: held[Q]),
        ["k_proj.weight has shape [32, 32], expected [16, 32]"],
    ),
    (
        "vocabulary",
        put("model.embed_tokens.weight", lambda held: held["model.embed_tokens.weight"][:39]),
        ["model.embed_tokens.weight", "[39, 32], expected [40, 32]"],
    ),
    ("fp16", cast(Q, torch.float16), [FILE, Q, "stored as F16", "convert"]),
    ("fp64", cast("model.norm.weight", torch.float64), ["model.norm.weight", "F64"]),
    ("int8", cast(SINKS, torch.int8), [SINKS, "I8, expected BF16 or F32"]),
    ("fp8", cast("lm_head.weight", torch.float8_e4m3fn), ["lm_head.weight", "F8_E4M3"]),
    ("blocks_int8", cast(BLOCKS, torch.int8), [BLOCKS, "I8, expected U8"]),
    ("scales_bf16", cast(SCALES, torch.bfloat16), [SCALES, "BF16, expected U8"]),
    ("no_scales", drop(SCALES), [FILE, BLOCKS, SCALES, "needs both"]),
    ("no_blocks", drop(BLOCKS), [FILE, BLOCKS, SCALES, "needs both"]),
    (
        "packed_and_not",
        put(f"{EXPERTS}.down_proj", lambda held: torch.zeros(2, 64, 32)),
        [f"{EXPERTS}.down_proj twice", BLOCKS],
    ),
    ("scales_short", put(SCALES, lambda h: h[SCALES][:, :31]), [SCALES, "expected [2, 32, 2]"]),
    (
        "gguf_blocks",
        put(BLOCKS, lambda held: torch.zeros(2, 32, 2, 17, dtype=torch.uint8)),
        [BLOCKS, "[2, 32, 2, 17], expected [2, 32, 2, 16]"],
    ),
    (
        "blocks_flat",
        put(BLOCKS, lambda held: held[BLOCKS].flatten(-2)),
        [BLOCKS, "[2, 32, 32], expected [2, 32, 2, 16]"],
    ),
    (
        "blocks_in_out",
        put(BLOCKS, lambda held: torch.zeros(2, 64, 1, 16, dtype=torch.uint8)),
        [BLOCKS, "[2, 64, 1, 16], expected [2, 32, 2, 16]"],
    ),
    ("nan", at(Q, float("nan")), [FILE, Q, "NaN or infinity"]),
    ("inf", at("model.embed_tokens.weight", float("inf")), ["embed_tokens.weight", "infinity"]),
    ("minus_inf", at(SINKS, float("-inf")), [SINKS, "infinity"]),
    ("nan_bias", at(f"{EXPERTS}.down_proj_bias", float("nan")), ["down_proj_bias", "NaN"]),
    ("scale_255", at(SCALES, 255), ["down_proj has scale 255", "expert 0, row 1, block 1"]),
    (
        "scale_254",
        both(put(BLOCKS, lambda held: held[BLOCKS] | 7), at(SCALES, 254)),
        [FILE, "down_proj holds NaN or infinity"],
    ),
    ("mixed", put("norm.scale", lambda held: torch.ones(32)), ["mixes two layouts", "norm.scale"]),
    (
        "another_model",
        tensors(lambda held: [held.__setitem__(f"gpt2.{n}", held.pop(n)) for n in list(held)]),
        ["no gpt-oss checkpoint", "gpt2.lm_head.weight"],
    ),
    (
        "one_layer_fewer",
        tensors(lambda held: [held.pop(n) for n in list(held) if n.startswith("model.layers.1")]),
        ["num_hidden_layers is 2", "of 1 layers"],
    ),
]

YARN = CONFIG.to_dict()["rope_scaling"]
CONFIGS = [
    ("no_config", lambda folder: (folder / "config.json").unlink(), ["no config.json"]),
    ("config_no_json", text("config.json", "{oops"), ["config.json is not JSON"]),
    ("config_a_list", text("config.json", "[]"), ["config.json must hold a JSON object"]),
    ("config_no_utf8", bytes_of(lambda raw: b"\xff", "config.json"), ["config.json is not JSON"]),
    ("no_hidden_size", config(hidden_size=None), ["config.json", "lacks hidden_size"]),
    ("many_layers", config(num_hidden_layers=10**12), ["config.json", "num_hidden_layers"]),
    ("one_layer_more", config(num_hidden_layers=3, layer_types=None), ["is 3", "of 2 layers"]),
    ("wider", config(hidden_size=64), ["model.embed_tokens.weight", "expected [40, 64]"]),
    ("odd_width", config(hidden_size=33), ["model.embed_tokens.weight", "expected [40, 33]"]),
    ("more_experts", config(num_local_experts=3), ["router.weight", "expected [3, 32]"]),
    ("more_heads", config(num_attention_heads=6), ["self_attn.sinks", "[4], expected [6]"]),
    ("absurd_width", config(hidden_size=10**18), ["config.json", "hidden_size", "no machine"]),
    (
        "absurd_product",
        config(hidden_size=2**39, intermediate_size=2**39),
        ["config.json", "impossible size"],
    ),
    ("width_a_string", config(hidden_size="32"), ["config.json", "hidden_size", "'32'"]),
    ("width_negative", config(hidden_size=-32), ["config.json", "hidden_size", "-32"]),
    ("window_zero", config(sliding_window=0), ["config.json", "sliding_window"]),
    ("llama", config(model_type="llama"), ["config.json", "model_type is 'llama'"]),
    ("gelu", config(hidden_act="gelu"), ["config.json", "hidden_act is 'gelu'"]),
    ("tied", config(tie_word_embeddings=True), ["config.json", "tie_word_embeddings"]),
    ("top_k", config(num_experts_per_tok=3), ["config.json", "num_experts_per_tok=3"]),
    ("kv_heads", config(num_key_value_heads=3), ["config.json", "num_key_value_heads=3"]),
    ("eos", config(eos_token_id=40), ["config.json", "token id 40", "0..39"]),
    ("layer_types", config(layer_types=["full_attention"]), ["config.json", "layer_types"]),
    ("yarn_key", config(rope_scaling={**YARN, "mscale": 2}), ["config.json", "mscale"]),
    ("yarn_kind", config(rope_scaling={"rope_type": "longrope"}), ["config.json", "longrope"]),
    ("yarn_null", text("config.json", json.dumps(
        {**CONFIG.to_dict(), "rope_scaling": None})), ["config.json", "rope_scaling"]),
    ("theta_nan", config(rope_theta=float("nan")), ["config.json", "rope_theta"]),
    ("fp8", config(quantization_config={"quant_method": "fp8"}), ["config.json", "'fp8'"]),
    ("quantization_text", config(quantization_config="mxfp4!"), ["config.json", "mxfp4!"]),
    ("quantization_gone", config(quantization_config=None), ["lacks a quantization_config"]),
    ("eos_list", config("generation_config.json", eos_token_id=[5, 99]), ["[5, 99]", "size 40"]),
    ("eos_text", config("generation_config.json", eos_token_id="x"), ["generation_config.json"]),
    ("generation_no_json", text("generation_config.json", "{"), ["generation_config.json", "JSON"]),
]  # fmt: skip

SHARDS = [
    ("no_shard", lambda f: shard(f, Q).unlink(), ["shard model-0", "missing", "tensors there"]),
    (
        "no_shards",
        lambda f: [path.unlink() for path in f.glob("*.safetensors")],
        [INDEX, "none of its shards"],
    ),
    ("index_no_json", text(INDEX, "{"), [INDEX, "is not JSON"]),
    ("index_no_map", text(INDEX, "{}"), [INDEX, "weight_map"]),
    ("index_empty_map", text(INDEX, '{"weight_map": {}}'), [INDEX, "weight_map"]),
    ("index_elsewhere", index(lambda m: m.update({Q: "../x.safetensors"})), [INDEX, Q, "../x"]),
    ("index_a_number", index(lambda m: m.update({Q: 1})), [INDEX, Q, "no file name"]),
    ("index_wrong_shard", index(lambda m: m.update({Q: m["lm_head.weight"]})), [Q, "lacks"]),
    ("index_forgets", index(lambda m: m.pop(Q)), [INDEX, "does not name", Q]),
    ("index_invents", index(lambda m: m.update(new=m[Q])), ["lacks new", "different downloads"]),
    ("whole_file_too", _whole_file_too, [FILE, INDEX, "both"]),
    ("shard_cut", lambda f: shard(f, Q).write_bytes(b"123456789"), ["model-0", "header"]),
    ("shard_of_another", _other_shard, ["model-0", "has shape", "expected"]),
]

ORIGINAL = [
    ("no_scales", drop("block.1.mlp.mlp2_weight.scales"), ["mlp2_weight.scales", "needs both"]),
    ("lacks_qkv", drop("block.0.attn.qkv.weight"), ["lacks block.0.attn.qkv.weight"]),
    (
        "qkv_short",
        put("block.0.attn.qkv.bias", lambda held: held["block.0.attn.qkv.bias"][:32]),
        ["block.0.attn.qkv.bias has shape [32], expected [64]"],
    ),
    ("q_alone", put("block.0.attn.q.weight", lambda h: torch.ones(2)), ["block.0.attn.q.weight"]),
    ("mixed", put("lm_head.weight", lambda h: torch.ones(2)), ["mixes", "lm_head.weight"]),
    ("nan", at("block.1.attn.sinks", float("nan")), ["block.1.attn.sinks holds NaN"]),
    ("scale_255", at("block.1.mlp.mlp1_weight.scales", 255), ["mlp1_weight has scale 255"]),
    ("yarn_in_part", config(rope_ntk_beta=None), ["config.json", "rope_ntk_beta missing"]),
    ("no_experts", config(num_experts=None), ["config.json", "num_local_experts"]),
    ("layers", config(num_hidden_layers=3), ["config.json", "num_hidden_layers is 3"]),
]

BF16 = [
    (
        "promised_mxfp4",
        config(quantization_config={"quant_method": "mxfp4"}),
        ["config.json has a quantization_config", "unpacked", "remove it"],
    ),
    (
        "out_in",
        put(f"{EXPERTS}.down_proj", lambda h: h[f"{EXPERTS}.down_proj"].transpose(1, 2)),
        [f"{EXPERTS}.down_proj has shape [2, 32, 64], expected [2, 64, 32]"],
    ),
]

TABLE = [
    pytest.param(layout, mutate, words, id=f"{layout}-{name}")
    for layout, rows in {
        "huggingface": FILES + TENSORS + CONFIGS,
        "sharded": SHARDS,
        "original": ORIGINAL,
        "bf16": BF16,
    }.items()
    for name, mutate, words in rows
]
OPTIONS: dict[str, dict[str, Any]] = {
    "huggingface": {},
    "sharded": {"max_shard_bytes": 8_000},
    "original": {"layout": "original"},
    "bf16": {"mxfp4": False},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A sound checkpoint of each kind, in a folder of that name."""
    root = tmp_path_factory.mktemp("sound")
    model = GptOss(CONFIG)
    for name, options in OPTIONS.items():
        save(model, root / name, **options)
        (root / name / "generation_config.json").unlink(missing_ok=True)
        assert load_model(root / name).config.hidden_size == 32
    return root


def test_the_table_is_long_enough():
    assert len(TABLE) > 100


@pytest.mark.parametrize(("kind", "mutate", "words"), TABLE)
def test_message(sound, tmp_path, kind, mutate, words):
    folder = tmp_path / "model"
    shutil.copytree(sound / kind, folder)
    changed = mutate(folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(changed if isinstance(changed, Path) else folder)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 600, message


def test_random_damage_is_a_checkpoint_error_or_harmless(sound, tmp_path):
    """Flip, cut or insert bytes, mostly in headers and JSON: nothing else may come out."""
    dice = random.Random(0)
    refused = 0
    for _ in range(150):
        folder = tmp_path / "model"
        shutil.copytree(sound / dice.choice(list(OPTIONS)), folder, dirs_exist_ok=True)
        path = dice.choice(sorted(folder.iterdir()))
        raw = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(min(len(raw), 4_000))
            kind = dice.randrange(3)
            if kind == 0:
                raw[place] ^= 1 << dice.randrange(8)
            elif kind == 1:
                del raw[place : place + dice.randint(1, 40)]
            else:
                raw[place:place] = bytes(dice.randrange(256) for _ in range(3))
        path.write_bytes(raw)
        try:
            load_model(folder)
        except CheckpointError:
            refused += 1
        shutil.rmtree(folder)
    assert refused > 100
