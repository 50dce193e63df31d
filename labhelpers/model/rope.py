"""Rotary positions: turn each pair of channels by an angle that grows with the position.

gpt-oss's choice: YaRN, factor 32 over an original 4,096 tokens, borders not rounded
(`truncate` false); its concentration 0.1 ln(32) + 1 multiplies cos and sin, at every position.
Channel i is paired with channel i + D/2 (halves, not neighbours).

Source: YaRN (arXiv 2309.00071); RotaryEmbedding in openai/gpt-oss; transformers'
GptOssRotaryEmbedding, whose float32 operations are followed in order, so that the frequencies
are equal to the last bit. Letters: B batch, T tokens, N heads, D head_dim.

Limits: no other scaling. The original code asserts that the low border is above 0, which
needs an original context of about 200 tokens; transformers clamps it at 0, and so do we.
"""

import math

import torch
from torch import Tensor

from labhelpers.config import GptOssConfig, YarnConfig


def inverse_frequencies(config: GptOssConfig) -> Tensor:
    """Radians per position for each of the D/2 pairs: float32 [D/2] on the CPU."""
    # Named device: a model built under torch.device("meta") still needs these numbers.
    exponents = torch.arange(0, config.head_dim, 2, device="cpu").float() / config.head_dim
    periods = config.rope_theta**exponents  # [D/2]; a pair turns once in 2 pi periods
    extrapolated = 1.0 / periods
    if config.rope_scaling is None:
        return extrapolated
    interpolated = 1.0 / (config.rope_scaling.factor * periods)
    low, high = correction_range(config.rope_scaling, config.head_dim, config.rope_theta)
    pairs = torch.arange(config.head_dim // 2, dtype=torch.float32, device="cpu")
    # 1 for the fast pairs (kept), 0 for the slow ones (slowed), a ramp between.
    kept = 1 - ((pairs - low) / (high - low)).clamp(0, 1)
    return interpolated * (1 - kept) + extrapolated * kept


def correction_range(yarn: YarnConfig, head_dim: int, theta: float) -> tuple[float, float]:
    """First and last pair of YaRN's ramp (gpt-oss: 8.09 and 17.40 of 32 pairs)."""

    def pair_that_turns(times: float) -> float:
        period = yarn.original_max_position_embeddings / (times * 2 * math.pi)
        return head_dim * math.log(period) / (2 * math.log(theta))

    low, high = pair_that_turns(yarn.beta_fast), pair_that_turns(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    return low, high + 0.001 if low == high else high  # a ramp of no width cannot be divided by


class RotaryEmbedding:
    """cos and sin for any positions; no parameters, hence no nn.Module.

    The frequencies stay in float32 outside the module tree, so `model.to(torch.bfloat16)`
    cannot round them and loading onto the meta device cannot lose them.
    """

    def __init__(self, config: GptOssConfig) -> None:
        yarn = config.rope_scaling
        self.attention_factor = 1.0 if yarn is None else yarn.attention_factor
        self._inv_freq = {torch.device("cpu"): inverse_frequencies(config)}  # one per device

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, each [B, T, D/2] in dtype, for integer positions [B, T]."""
        device = positions.device
        if device not in self._inv_freq:
            self._inv_freq[device] = self._inv_freq[torch.device("cpu")].to(device)
        angles = positions[..., None].float() * self._inv_freq[device]  # [B, T, D/2]
        cos, sin = angles.cos() * self.attention_factor, angles.sin() * self.attention_factor
        return cos.to(dtype), sin.to(dtype)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [B, N, T, D] by the angles whose cos and sin are [B, T, D/2]."""
    cos, sin = cos[:, None], sin[:, None]  # [B, 1, T, D/2]: the same for all heads
    first, second = x.chunk(2, dim=-1)  # halves: channel i pairs with i + D/2
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
