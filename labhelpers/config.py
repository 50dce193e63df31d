"""The numbers that make a gpt-oss: one frozen dataclass, read from any of its config files.

gpt-oss's choice: two sizes that differ in layers and experts alone. Everything else (width,
heads, window, YaRN, vocabulary) is the same in gpt-oss-20b and gpt-oss-120b.

Sources: config.json of openai/gpt-oss-20b and -120b, original/config.json beside them, and
transformers' GptOssConfig. Three spellings are read:
- the published one: `rope_scaling` and `rope_theta`;
- what transformers 5 writes: `rope_parameters`, with the theta inside;
- the original layout: `num_experts`, `experts_per_token`, `initial_context_length`,
  `rope_scaling_factor`, `rope_ntk_alpha`, `rope_ntk_beta`.

Limits: only gpt-oss. A value that would be ignored or guessed (another activation, another
RoPE scaling, an unknown key in the YaRN block, two spellings that disagree) is refused with
ConfigError: a YaRN block read wrongly passes every short test and fails on long texts.
"""

import json
import math
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

LAYER_TYPES = ("sliding_attention", "full_attention")
# A damaged number must not fill the memory, nor reach torch.
_MOST_LAYERS, _LARGEST_SIZE = 10_000, 2**40


class ConfigError(ValueError):
    """A config that is wrong or was not understood; the message says what to change."""


@dataclass(frozen=True)
class YarnConfig:
    """How YaRN stretches RoPE (arXiv 2309.00071, section 3); the defaults are gpt-oss's.

    factor: the context grows this many times. original_max_position_embeddings: the context
    before stretching, in tokens. beta_fast, beta_slow: pairs that turn more often than
    beta_fast times over the original context keep their speed, those that turn less often
    than beta_slow times are slowed by `factor`, those between are mixed. truncate: round the
    borders between these groups to whole pairs (gpt-oss: no).
    """

    factor: float = 32.0
    original_max_position_embeddings: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = False

    def __post_init__(self) -> None:
        _check_size("original_max_position_embeddings", self.original_max_position_embeddings)
        for name in ("factor", "beta_fast", "beta_slow"):
            _check_number(name, getattr(self, name))
        if not isinstance(self.truncate, bool):
            raise ConfigError(f"YaRN's truncate must be true or false, got {self.truncate!r}")
        if self.factor < 1:
            raise ConfigError(f"YaRN's factor stretches the context: give >= 1, got {self.factor}")
        if self.beta_fast <= self.beta_slow:
            raise ConfigError(
                f"YaRN needs beta_fast > beta_slow, got {self.beta_fast} and {self.beta_slow}"
            )
        if self.original_max_position_embeddings <= 2 * math.pi * self.beta_slow:
            raise ConfigError(
                f"original_max_position_embeddings={self.original_max_position_embeddings} is so "
                f"short that no pair turns beta_slow={self.beta_slow} times; give at least "
                f"{math.ceil(2 * math.pi * self.beta_slow + 1e-9)}"
            )

    @property
    def attention_factor(self) -> float:
        """The concentration that multiplies cos and sin: 0.1 ln(factor) + 1 (gpt-oss: 1.3466)."""
        return 0.1 * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class GptOssConfig:
    """Sizes and switches of one gpt-oss, under transformers' field names.

    The defaults are gpt-oss-20b's (without its token ids). `layer_types` left empty becomes
    sliding, full, sliding, ... `rope_scaling=None` is plain RoPE. Raises ConfigError.
    """

    vocab_size: int = 201_088
    hidden_size: int = 2880
    intermediate_size: int = 2880
    num_hidden_layers: int = 24
    num_attention_heads: int = 64
    num_key_value_heads: int = 8
    head_dim: int = 64
    num_local_experts: int = 32
    num_experts_per_tok: int = 4
    sliding_window: int = 128
    layer_types: tuple[str, ...] = ()
    rms_norm_eps: float = 1e-5
    rope_theta: float = 150_000.0
    rope_scaling: YarnConfig | None = field(default_factory=YarnConfig)
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    max_position_embeddings: int = 131_072
    attention_bias: bool = True
    tie_word_embeddings: bool = False
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in _SIZES:
            _check_size(name, getattr(self, name))
        for name in ("rms_norm_eps", "rope_theta", "swiglu_alpha", "swiglu_limit"):
            _check_number(name, getattr(self, name))
        if self.num_hidden_layers > _MOST_LAYERS:
            raise ConfigError(
                f"num_hidden_layers is {self.num_hidden_layers}, which no gpt-oss has (24 or 36)"
            )
        pattern = tuple(LAYER_TYPES[i % 2] for i in range(self.num_hidden_layers))
        object.__setattr__(self, "layer_types", tuple(self.layer_types) or pattern)
        if isinstance(self.eos_token_id, list):
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        self._check_shapes()
        self._check_token_ids()

    def _check_shapes(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads={self.num_attention_heads} must be a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}: query heads share KV heads "
                "in equal groups"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even (RoPE turns pairs), got {self.head_dim}")
        if self.num_experts_per_tok > self.num_local_experts:
            raise ConfigError(
                f"num_experts_per_tok={self.num_experts_per_tok}, but there are only "
                f"num_local_experts={self.num_local_experts}"
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ConfigError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is "
                f"{self.num_hidden_layers}; pass layer_types=() for sliding, full, sliding, ..."
            )
        unknown = sorted({str(t) for t in self.layer_types if t not in LAYER_TYPES})
        if unknown:
            raise ConfigError(f"unknown layer types {unknown}; gpt-oss has {list(LAYER_TYPES)}")
        if not (self.rope_scaling is None or isinstance(self.rope_scaling, YarnConfig)):
            raise ConfigError("rope_scaling must be a YarnConfig or None; use from_dict for JSON")
        if self.tie_word_embeddings is not False:
            raise ConfigError("tie_word_embeddings must be false: gpt-oss has its own lm_head")
        if not isinstance(self.attention_bias, bool):
            raise ConfigError(f"attention_bias must be true or false, got {self.attention_bias!r}")

    def _check_token_ids(self) -> None:
        pad = () if self.pad_token_id is None else (self.pad_token_id,)
        for token_id in (*self.eos_token_ids, *pad):
            if type(token_id) is not int or not 0 <= token_id < self.vocab_size:
                raise ConfigError(
                    f"token id {token_id!r} (eos_token_id or pad_token_id) is not in the "
                    f"vocabulary 0..{self.vocab_size - 1}"
                )

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """eos_token_id as a tuple, empty if there is none."""
        ids = self.eos_token_id
        return () if ids is None else tuple(ids) if isinstance(ids, tuple) else (ids,)

    @property
    def num_key_value_groups(self) -> int:
        """Query heads that share one KV head (gpt-oss: 8)."""
        return self.num_attention_heads // self.num_key_value_heads

    @classmethod
    def from_file(cls, path: str | Path) -> "GptOssConfig":
        """Read config.json, named itself or by its folder. Raises ConfigError, OSError."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path.name} is not JSON: {error}") from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "GptOssConfig":
        """Build from a decoded config.json in any of the three spellings. Raises ConfigError."""
        from labhelpers.config_keys import read_config  # kept apart: spellings are not sizes

        return cls(**read_config(data))

    def to_dict(self) -> dict[str, Any]:
        """The published config.json's keys (`rope_scaling` beside `rope_theta`).

        transformers 5 reads them too; `from_dict(c.to_dict()) == c`.
        """
        out: dict[str, Any] = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss"}
        out |= {f.name: getattr(self, f.name) for f in fields(self)}
        out["layer_types"] = list(self.layer_types)
        if isinstance(self.eos_token_id, tuple):
            out["eos_token_id"] = list(self.eos_token_id)
        # transformers takes `"rope_scaling": null` for "YaRN as in gpt-oss": name the plain kind.
        yarn = self.rope_scaling
        out["rope_scaling"] = (
            {"rope_type": "yarn", **vars(yarn)} if yarn else {"rope_type": "default"}
        )
        return out


_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "num_local_experts", "num_experts_per_tok",
    "sliding_window", "max_position_embeddings",
)  # fmt: skip


def _check_size(name: str, value: object) -> None:
    if type(value) is not int or value < 1:  # `type is`: True is an int to isinstance
        raise ConfigError(f"{name} must be a whole number >= 1, got {value!r}")
    if value > _LARGEST_SIZE:
        raise ConfigError(f"{name} is {value}, which no machine can hold")


def _check_number(name: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a positive number, got {value!r}")


def preset(name: str = "nano") -> GptOssConfig:
    """The config of "nano", "gpt-oss-20b" or "gpt-oss-120b". Raises ConfigError."""
    short = name.removeprefix("openai/")
    if short == "nano":
        file = resources.files("labhelpers").joinpath("nano", "config.json")
        return (
            GptOssConfig.from_dict(json.loads(file.read_text(encoding="utf-8")))
            if file.is_file()
            else _NANO_PLACEHOLDER
        )
    if short not in _LARGE:
        raise ConfigError(f"no preset {name!r}; there are nano, {', '.join(_LARGE)}")
    layers, experts = _LARGE[short]
    return GptOssConfig(
        num_hidden_layers=layers, num_local_experts=experts,
        eos_token_id=200_002, pad_token_id=199_999,
    )  # fmt: skip


_LARGE = {"gpt-oss-20b": (24, 32), "gpt-oss-120b": (36, 128)}  # layers, experts per layer
# Used until the trained model's own config.json lies in labhelpers/nano.
_NANO_PLACEHOLDER = GptOssConfig(
    vocab_size=6144, hidden_size=256, intermediate_size=256, num_hidden_layers=8,
    num_attention_heads=8, num_key_value_heads=2, num_local_experts=8,
)  # fmt: skip
