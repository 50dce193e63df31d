"""GptOssConfig: every spelling read alike, nonsense refused, the published sizes reproduced."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labhelpers import accounting
from labhelpers.config import ConfigError, GptOssConfig, YarnConfig, preset

# The facts of openai/gpt-oss-20b's config.json, in its own spelling.
PUBLISHED: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True,
    "attention_dropout": 0.0, "eos_token_id": 200002, "pad_token_id": 199999,
    "experts_per_token": 4, "num_experts_per_tok": 4, "num_local_experts": 32, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2880, "intermediate_size": 2880,
    "initial_context_length": 4096, "initializer_range": 0.02, "max_position_embeddings": 131072,
    "num_attention_heads": 64, "num_hidden_layers": 24, "num_key_value_heads": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn",
        "original_max_position_embeddings": 4096, "truncate": False,
    },
    "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 201088,
    "tie_word_embeddings": False, "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
ORIGINAL: dict[str, Any] = {
    "num_hidden_layers": 24, "num_experts": 32, "experts_per_token": 4, "vocab_size": 201088,
    "hidden_size": 2880, "intermediate_size": 2880, "swiglu_limit": 7.0, "head_dim": 64,
    "num_attention_heads": 64, "num_key_value_heads": 8, "sliding_window": 128,
    "initial_context_length": 4096, "rope_theta": 150000, "rope_scaling_factor": 32.0,
    "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
}  # fmt: skip


def with_rope_parameters(**changes: Any) -> dict[str, Any]:
    """PUBLISHED as transformers 5 would save it."""
    data = {k: v for k, v in PUBLISHED.items() if k not in ("rope_scaling", "rope_theta")}
    return data | {"rope_parameters": PUBLISHED["rope_scaling"] | {"rope_theta": 150000} | changes}


def test_three_spellings_one_config() -> None:
    config = preset("gpt-oss-20b")
    assert GptOssConfig.from_dict(PUBLISHED) == config
    assert GptOssConfig.from_dict(with_rope_parameters()) == config
    original = GptOssConfig.from_dict(ORIGINAL)
    assert replace(original, eos_token_id=200002, pad_token_id=199999) == config


def test_transformers_reads_what_we_write_and_back() -> None:
    transformers = pytest.importorskip("transformers")
    for name in ("nano", "gpt-oss-20b", "gpt-oss-120b"):
        config = preset(name)
        theirs = transformers.GptOssConfig.from_dict(config.to_dict())
        assert theirs.rope_parameters["factor"] == config.rope_scaling.factor  # type: ignore[union-attr]
        saved = json.loads(theirs.to_json_string(use_diff=False))
        assert "rope_parameters" in saved
        assert GptOssConfig.from_dict(saved) == config


def test_from_file_takes_the_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    assert GptOssConfig.from_file(tmp_path) == GptOssConfig.from_file(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        GptOssConfig.from_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": -1}, "hidden_size must be a whole number >= 1"),
        ({"hidden_size": 2880.0}, "whole number"),
        ({"head_dim": 63}, "even"),
        ({"num_key_value_heads": 7}, "multiple of"),
        ({"num_experts_per_tok": 33, "experts_per_token": 33}, "only num_local_experts=32"),
        ({"experts_per_token": 2}, "contradicts"),
        ({"layer_types": ["sliding_attention"]}, "names 1 layers"),
        ({"num_hidden_layers": 10**12}, "which no gpt-oss has"),
        ({"vocab_size": 10**30}, "no machine can hold"),
        ({"layer_types": ["linear_attention"] * 24}, "unknown layer types"),
        ({"layer_types": "full_attention"}, "list"),
        ({"model_type": "mixtral"}, "knows gpt_oss only"),
        ({"hidden_act": "gelu"}, "SwiGLU"),
        ({"tie_word_embeddings": True}, "lm_head"),
        ({"eos_token_id": 201088}, "not in the vocabulary"),
        ({"rms_norm_eps": 0}, "positive"),
        ({"rope_theta": float("inf")}, "positive"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"rope_theta": 1e4}}, "theta differs"),
        ({"swiglu_limit": "7"}, "positive"),
        ({"sliding_window": 0}, "whole number"),
        ({"rope_scaling": None}, "plain RoPE"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "'llama3' is not known"),
        ({"rope_scaling": {"factor": 8.0}}, "None is not known"),
        ({"rope_scaling": "yarn"}, "must be an object"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"mscale": 1.0}}, "not understood: mscale"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"attention_factor": 1.0}}, "1.346574"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"beta_fast": 0.5}}, "beta_fast > beta_slow"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"factor": 0.5}}, ">= 1"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"truncate": "no"}}, "true or false"),
        ({"rope_scaling": PUBLISHED["rope_scaling"] | {"partial_rotary_factor": 0.25}}, "whole"),
        ({"initial_context_length": 8192}, "initial_context_length contradicts"),
        ({"rope_parameters": {"rope_type": "default"}}, "contradicts"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GptOssConfig.from_dict(PUBLISHED | change)


@pytest.mark.parametrize("key", ["vocab_size", "head_dim", "num_local_experts"])
def test_no_size_is_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=f"lacks {key}"):
        GptOssConfig.from_dict({k: v for k, v in PUBLISHED.items() if k != key})


@pytest.mark.parametrize("key", ["rope_scaling_factor", "rope_ntk_alpha", "rope_ntk_beta"])
def test_half_a_yarn_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} missing"):
        GptOssConfig.from_dict({k: v for k, v in ORIGINAL.items() if k != key})
    data = with_rope_parameters()
    del data["rope_parameters"]["factor"]
    with pytest.raises(ConfigError, match="needs factor"):
        GptOssConfig.from_dict(data)


def test_silence_about_truncate_means_true_as_in_transformers() -> None:
    data = with_rope_parameters()
    del data["rope_parameters"]["truncate"]
    yarn = GptOssConfig.from_dict(data).rope_scaling
    assert yarn is not None and yarn.truncate is True


def test_too_short_an_original_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="give at least 7"):
        YarnConfig(original_max_position_embeddings=6)
    YarnConfig(original_max_position_embeddings=7)


def test_config_is_frozen_and_an_error_is_a_value_error() -> None:
    with pytest.raises(AttributeError):
        preset("nano").hidden_size = 1  # type: ignore[misc]
    assert issubclass(ConfigError, ValueError)
    with pytest.raises(ConfigError, match="there are nano"):
        preset("gpt-oss-7b")
    assert preset("openai/gpt-oss-20b") == preset("gpt-oss-20b")


@given(
    kv=st.integers(1, 4), groups=st.integers(1, 4), experts=st.integers(1, 8),
    layers=st.integers(1, 9), yarn=st.sampled_from([None, YarnConfig(), YarnConfig(2.5, 64)]),
    eos=st.sampled_from([None, 3, (3, 5)]),
)  # fmt: skip
def test_round_trip(
    kv: int, groups: int, experts: int, layers: int, yarn: YarnConfig | None, eos: Any
) -> None:
    config = GptOssConfig(
        vocab_size=50, num_hidden_layers=layers, num_attention_heads=kv * groups,
        num_key_value_heads=kv, num_local_experts=experts, num_experts_per_tok=(experts + 1) // 2,
        rope_scaling=yarn, eos_token_id=eos,
    )  # fmt: skip
    assert GptOssConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.layer_types[0] == "sliding_attention"  # even layers slide
    assert config.layer_types.count("full_attention") == layers // 2


@pytest.mark.parametrize(
    ("name", "total", "active", "gibibytes"),
    [("gpt-oss-20b", 20.91, 3.61, 12.8), ("gpt-oss-120b", 116.83, 5.13, 60.8)],
)
def test_published_sizes(name: str, total: float, active: float, gibibytes: float) -> None:
    """The model card's table 1."""
    config = preset(name)
    assert round(sum(accounting.count_parameters(config).values()) / 1e9, 2) == total
    assert round(sum(accounting.count_active_parameters(config).values()) / 1e9, 2) == active
    assert round(sum(accounting.weight_bytes(config).values()) / 2**30, 1) == gibibytes
    parts = accounting.count_parameters(config)
    mlp = (parts["experts"] + parts["router"]) / 1e9
    assert round(mlp, 2) == {"gpt-oss-20b": 19.12, "gpt-oss-120b": 114.71}[name]
    assert round(parts["attention"] / 1e9, 2) == {"gpt-oss-20b": 0.64, "gpt-oss-120b": 0.96}[name]


def test_counts_equal_the_model_itself() -> None:
    torch = pytest.importorskip("torch")
    from labhelpers.model import GptOss, KVCache

    configs = [
        preset("nano"),
        preset("gpt-oss-120b"),
        replace(preset("nano"), attention_bias=False, num_hidden_layers=3, layer_types=()),
    ]
    for config in configs:
        with torch.device("meta"):  # 120b, without its 234 GB
            model = GptOss(config)
        real = sum(p.numel() for p in model.parameters())
        assert sum(accounting.count_parameters(config).values()) == real
    config = replace(preset("nano"), num_hidden_layers=3, layer_types=(), sliding_window=16)
    cache, model = KVCache(config), GptOss(config)
    with torch.no_grad():
        model(torch.zeros(2, 50, dtype=torch.int64), cache=cache)
    predicted = accounting.kv_cache_bytes(config, 50, batch=2, bytes_per_value=4)
    assert cache.nbytes() == sum(predicted.values())


def test_kv_cache_of_20b_at_full_length() -> None:
    held = accounting.kv_cache_bytes(preset("gpt-oss-20b"), 131_072)
    assert held == {"sliding_attention": 3 * 2**20, "full_attention": 3 * 2**30}
    with pytest.raises(ValueError, match="context >= 0"):
        accounting.kv_cache_bytes(preset("nano"), -1)
