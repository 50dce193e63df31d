"""The whole model: embedding, blocks of attention and experts, final norm, head.

gpt-oss's choice: pre-norm blocks (norm, attention, add; norm, experts, add), a head of its own
(not the embedding again), and modules named so that a state dict of transformers'
GptOssForCausalLM fits without renaming.

Source: model card, section 2; transformers' GptOssModel. Letters: B batch, T tokens, H hidden,
V vocabulary.

Limits: float32 and bfloat16. In float16 the large models overflow (activations near layer 34
of gpt-oss-120b pass 65,504, its largest number, and every logit turns to NaN), so it is
refused rather than tried.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from labhelpers.config import GptOssConfig
from labhelpers.model.attention import Attention
from labhelpers.model.cache import KVCache, LayerCache
from labhelpers.model.moe import MLP
from labhelpers.model.norm import RMSNorm
from labhelpers.model.rope import RotaryEmbedding


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return dtype if gpt-oss can run in it. Raises ValueError otherwise."""
    if dtype == torch.float16:
        raise ValueError(
            "gpt-oss does not run in float16: activations of gpt-oss-120b pass 65,504, its largest "
            "number, and the logits become NaN. Use torch.bfloat16, or torch.float32."
        )
    if dtype not in (torch.float32, torch.bfloat16, torch.float64):
        raise ValueError(f"gpt-oss runs in torch.float32 or torch.bfloat16, not in {dtype!r}")
    return dtype


class DecoderLayer(nn.Module):
    """One block: attention, then experts, each added to what came in."""

    def __init__(self, config: GptOssConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer_idx)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        hidden: Tensor,
        rope: tuple[Tensor, Tensor],
        positions: Tensor,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rope, positions, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class GptOssModel(nn.Module):
    """Everything below the head: ids in, hidden states out."""

    def __init__(self, config: GptOssConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = RotaryEmbedding(config)

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Hidden states [B, T, H] after the final norm; arguments as GptOss.forward."""
        mask = _check_inputs(ids, attention_mask, self.config.vocab_size)
        positions = (cache or KVCache(self.config)).positions(mask)  # [B, T], -1 for padding
        hidden = self.embed_tokens(ids)  # [B, T, H]
        rope = self.rope(positions, check_dtype(hidden.dtype))
        caches = cache.layers if cache is not None else [None] * len(self.layers)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, rope, positions, layer_cache)
        return self.norm(hidden)


class GptOss(nn.Module):
    """A gpt-oss language model.

    Built under `with torch.device("meta"):` it takes no memory; fill it with
    `load_state_dict(weights, assign=True)`.
    """

    def __init__(self, config: GptOssConfig) -> None:
        super().__init__()
        self.config = config
        self.model = GptOssModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Where `generate` stops unless told otherwise; loading may add to it.
        self.stop_ids: frozenset[int] = frozenset(config.eos_token_ids)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, std: float = 0.02, generator: torch.Generator | None = None) -> None:
        """Start as transformers does: weights and sinks normal, biases 0, norm scales 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias") and "router" not in name:
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=generator)

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Logits [B, T, V] for int64 ids [B, T].

        attention_mask [B, T]: 1 for a token, 0 for padding (left or right), for these ids
        only; a cache remembers what was padding before. cache: a KVCache, changed in place,
        that holds the tokens before these. Raises ValueError.
        """
        return self.lm_head(self.model(ids, attention_mask, cache))

    def generate(self, ids: Any, **options: Any) -> Iterator[Any]:
        """Stream new ids after `ids`; see `labhelpers.model.generate.generate`."""
        from labhelpers.model.generate import generate  # it needs this module's class

        return generate(self, ids, **options)

    def new_cache(self) -> KVCache:
        """An empty KV cache for this model."""
        return KVCache(self.config)

    @property
    def dtype(self) -> torch.dtype:
        """The embedding's, which stands for all weights."""
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """The embedding's, which stands for all weights."""
        return self.model.embed_tokens.weight.device

    def half(self) -> "GptOss":
        """Refused: see check_dtype."""
        check_dtype(torch.float16)
        return self


def _check_inputs(ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> Tensor:
    """The mask as bool [B, T]. Raises ValueError for a wrong shape or an id out of range."""
    if not isinstance(ids, Tensor):
        raise ValueError(
            f"ids must be a tensor [batch, tokens], got a {type(ids).__name__}: "
            "torch.tensor([list_of_ids])"
        )
    if ids.dim() != 2 or ids.shape[1] == 0 or ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"ids must be whole numbers [batch, tokens] with at least one token, got {ids.dtype} "
            f"{list(ids.shape)}; torch.tensor([list_of_ids]) has this shape"
        )
    if ids.device.type == "cpu" and not (0 <= int(ids.min()) and int(ids.max()) < vocab_size):
        raise ValueError(
            f"ids run from {int(ids.min())} to {int(ids.max())}, the vocabulary from 0 to "
            f"{vocab_size - 1}: were they made by another tokenizer?"
        )
    if attention_mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if attention_mask.shape != ids.shape:
        raise ValueError(
            f"attention_mask {list(attention_mask.shape)} must have the shape of ids "
            f"{list(ids.shape)}: with a cache it covers the new tokens only"
        )
    return attention_mask.bool()
