"""From the spellings of config.json to GptOssConfig's fields.

The same model is described by three files: the published config.json, what transformers 5
saves, and the original checkpoint's. This module knows their names so that `config.py` needs
to know only the model.

Source: the three files themselves, and transformers 5.15 and 5.22 (both write
`rope_parameters` and accept `rope_scaling`). Limits: keys that say nothing about the
architecture (dtype, quantization_config, initializer_range, ...) are passed over.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from labhelpers.config import ConfigError, GptOssConfig, YarnConfig

# The original layout's names. The published config.json holds a few of them beside its own.
_OTHER_NAMES = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"}
_FIELDS = {f.name for f in fields(GptOssConfig)} - {"rope_scaling"}
# Sizes that nobody should guess; the other fields fall back on gpt-oss's values.
_REQUIRED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "num_local_experts", "num_experts_per_tok",
)  # fmt: skip
_YARN_KEYS = {
    "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate"
}  # fmt: skip
_ORIGINAL_ROPE = (
    "initial_context_length", "rope_scaling_factor", "rope_ntk_alpha", "rope_ntk_beta"
)  # fmt: skip


def read_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """GptOssConfig's arguments from a decoded config.json. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"a config is a JSON object, got {type(data).__name__}")
    if data.get("model_type", "gpt_oss") != "gpt_oss":
        raise ConfigError(f"model_type is {data['model_type']!r}; this package knows gpt_oss only")
    if data.get("hidden_act") not in (None, "silu", "swiglu"):
        raise ConfigError(f"hidden_act is {data['hidden_act']!r}; gpt-oss has a clamped SwiGLU")
    args: dict[str, Any] = {}
    for key, value in data.items():
        name = _OTHER_NAMES.get(key, key)
        if name in _FIELDS:
            _set(args, name, value, key)
    for name in ("layer_types", "sliding_window"):  # null means: gpt-oss's default
        if args.get(name, 0) is None:
            del args[name]
    missing = [name for name in _REQUIRED if name not in args]
    if missing:
        raise ConfigError(f"the config lacks {', '.join(missing)}")
    if isinstance(args.get("layer_types"), str):
        raise ConfigError("layer_types must be a list with one name a layer")
    args |= _read_rope(data, args)
    return args


def _set(args: dict[str, Any], name: str, value: Any, key: str) -> None:
    """Store a field; a second spelling of the same field must say the same."""
    if name in args and args[name] != value:
        raise ConfigError(f"{key}={value!r} contradicts {name}={args[name]!r} in the same config")
    args[name] = value


def _read_rope(data: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """rope_scaling, rope_theta and, for the original layout, the maximum length."""
    given = [key for key in ("rope_scaling", "rope_parameters") if key in data]
    if not given:
        return _read_original_rope(data, args)
    blocks = [data[key] for key in given]
    for key, block in zip(given, blocks, strict=True):
        if block is None:
            raise ConfigError(
                f"{key} is null, which transformers takes for gpt-oss's YaRN: give the YaRN "
                'block, or {"rope_type": "default"} for plain RoPE'
            )
        if not isinstance(block, Mapping):
            raise ConfigError(f"{key} must be an object, got {type(block).__name__}")
    out: dict[str, Any] = {}
    for key, block in zip(given, blocks, strict=True):
        _set(out, "rope_scaling", _read_block(dict(block), data, key), key)
        theta = block.get("rope_theta", args.get("rope_theta"))
        if theta is not None:
            _set(out, "rope_theta", theta, f"{key}.rope_theta")
    if args.get("rope_theta", out.get("rope_theta")) != out.get("rope_theta"):
        raise ConfigError("rope_theta differs between the config and its rope block")
    return out


def _read_block(block: dict[str, Any], data: Mapping[str, Any], key: str) -> YarnConfig | None:
    """A Hugging Face rope block; whatever is not understood is refused by name."""
    kind = block.pop("rope_type", block.pop("type", None))
    block.pop("type", None)
    block.pop("rope_theta", None)
    if block.pop("partial_rotary_factor", 1.0) not in (1.0, None):
        raise ConfigError(f"{key}: gpt-oss turns the whole head, not a part of it")
    if kind not in ("yarn", "default"):
        raise ConfigError(f"{key}: rope_type {kind!r} is not known; gpt-oss has 'yarn'")
    # Derived or alien settings: null is harmless, a value must agree with the paper's formula.
    concentration = block.pop("attention_factor", None)
    for name in ("mscale", "mscale_all_dim"):
        if block.get(name, 0) is None:
            del block[name]
    unknown = sorted(set(block) - (_YARN_KEYS if kind == "yarn" else set()))
    if unknown:
        raise ConfigError(f"{key}: {kind} settings not understood: {', '.join(unknown)}")
    if kind == "default":
        return None
    if "original_max_position_embeddings" not in block and "initial_context_length" in data:
        block["original_max_position_embeddings"] = data["initial_context_length"]
    for name in ("factor", "original_max_position_embeddings"):
        if name not in block:
            raise ConfigError(f"{key}: YaRN needs {name}")
    context = block["original_max_position_embeddings"]
    if data.get("initial_context_length", context) != context:
        raise ConfigError(f"initial_context_length contradicts {key}'s original length {context}")
    # transformers rounds the borders when the block is silent about it.
    yarn = YarnConfig(**{"truncate": True, **block})
    if concentration is not None and abs(concentration - yarn.attention_factor) > 1e-6:
        raise ConfigError(
            f"{key}: attention_factor {concentration} is not 0.1 ln(factor) + 1 = "
            f"{yarn.attention_factor:.6f}, the only one that gpt-oss uses"
        )
    return yarn


def _read_original_rope(data: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """The original layout's flat YaRN keys; none at all means gpt-oss's own YaRN."""
    present = [key for key in _ORIGINAL_ROPE if key in data]
    if not present:
        return {}
    if len(present) < len(_ORIGINAL_ROPE):
        missing = ", ".join(key for key in _ORIGINAL_ROPE if key not in data)
        raise ConfigError(f"YaRN is described in part: {missing} missing")
    yarn = YarnConfig(
        factor=data["rope_scaling_factor"],
        original_max_position_embeddings=data["initial_context_length"],
        beta_fast=data["rope_ntk_beta"],
        beta_slow=data["rope_ntk_alpha"],
        truncate=False,  # the original code never rounds the borders
    )
    stretched = round(yarn.factor * yarn.original_max_position_embeddings)
    length = args.get("max_position_embeddings", stretched)
    if data["rope_scaling_factor"] == 1:  # the original code then skips YaRN altogether
        return {"rope_scaling": None, "max_position_embeddings": length}
    return {"rope_scaling": yarn, "max_position_embeddings": length}
