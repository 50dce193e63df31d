"""Attention: each token takes a weighted mean of the values of tokens it may look at.

gpt-oss's choices:
- 64 query heads share 8 KV heads: query head h reads KV head h // 8;
- even layers look back over a window of 128 tokens (oneself and 127 before), odd ones over all;
- every query head has a sink, one learned logit that enters the softmax's denominator and
  brings no value: a head with nothing to read gives its attention to it;
- biases on all four projections.

Source: model card, "Attention"; transformers' GptOssAttention. Letters: B batch, T queries,
S keys, N query heads, K KV heads, G = N / K, D head_dim.

Limits: written to be read; it holds the whole [B, N, T, S] table of scores. Feed a long
prompt in pieces with a cache (`generate` does).
"""

import torch
from torch import Tensor, nn

from labhelpers.config import GptOssConfig
from labhelpers.model.cache import LayerCache
from labhelpers.model.rope import apply_rope


def visible(query_positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Which of the S keys each of the T queries may look at: bool [B, T, S].

    Takes positions [B, T] and [B, S], -1 for padding. Key k is seen iff k is real and
    0 <= q - k, and q - k < window where there is a window.
    """
    distance = query_positions[:, :, None] - key_positions[:, None, :]  # [B, T, S]
    seen = (distance >= 0) & (key_positions >= 0)[:, None, :]
    return seen if window is None else seen & (distance < window)


def sink_attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, seen: Tensor) -> Tensor:
    """Mix v by softmax(q k / sqrt(D)) with a sink per head: [B, N, T, D].

    q [B, N, T, D]; k and v [B, K, S, D]; sinks [N]; seen bool [B, T, S]. Raises ValueError if
    N is not a multiple of K.
    """
    batch, heads, tokens, dim = q.shape
    kv_heads = k.shape[1]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads cannot share {kv_heads} KV heads in equal groups")
    # N splits into (K, G), in this order: head h belongs to KV head h // G.
    q = q.reshape(batch, kv_heads, -1, tokens, dim)  # [B, K, G, T, D]
    scores = q @ k[:, :, None].transpose(-1, -2) * dim**-0.5  # [B, K, G, T, S]
    # The lowest number, not -inf: a row of padding sees nothing and must stay finite.
    scores = scores.float().masked_fill(~seen[:, None, None], torch.finfo(torch.float32).min)
    sink = sinks.float().view(1, kv_heads, -1, 1, 1).expand(batch, -1, -1, tokens, 1)
    weights = torch.cat((scores, sink), dim=-1).softmax(dim=-1)  # [B, K, G, T, S + 1]
    weights = weights[..., :-1].to(v.dtype)  # the sink has taken its share: drop it
    return (weights @ v[:, :, None]).reshape(batch, heads, tokens, dim)


class Attention(nn.Module):
    """Grouped-query attention with sinks, sliding or full by layer type."""

    def __init__(self, config: GptOssConfig, layer_idx: int) -> None:
        super().__init__()
        hidden, dim, bias = config.hidden_size, config.head_dim, config.attention_bias
        q_size = config.num_attention_heads * dim  # 4096 in gpt-oss: wider than hidden, 2880
        kv_size = config.num_key_value_heads * dim
        sliding = config.layer_types[layer_idx] == "sliding_attention"
        self.window = config.sliding_window if sliding else None
        self.head_dim = dim
        self.q_proj = nn.Linear(hidden, q_size, bias=bias)
        self.k_proj = nn.Linear(hidden, kv_size, bias=bias)
        self.v_proj = nn.Linear(hidden, kv_size, bias=bias)
        self.o_proj = nn.Linear(q_size, hidden, bias=bias)
        self.sinks = nn.Parameter(torch.empty(config.num_attention_heads))  # [N]

    def forward(
        self,
        hidden: Tensor,
        rope: tuple[Tensor, Tensor],
        positions: Tensor,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """hidden [B, T, H] at positions [B, T], with cos and sin [B, T, D/2] -> [B, T, H]."""
        q = apply_rope(self._heads(self.q_proj(hidden)), *rope)  # [B, N, T, D]
        k = apply_rope(self._heads(self.k_proj(hidden)), *rope)  # [B, K, T, D]
        v = self._heads(self.v_proj(hidden))  # [B, K, T, D]: values are not turned
        key_positions = positions
        if cache is not None:
            k, v, key_positions = cache.update(k, v, positions)
        seen = visible(positions, key_positions, self.window)
        out = sink_attention(q, k, v, self.sinks, seen)  # [B, N, T, D]
        return self.o_proj(out.transpose(1, 2).flatten(2))  # [B, T, N * D] -> [B, T, H]

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, n * D] -> [B, n, T, D]."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
