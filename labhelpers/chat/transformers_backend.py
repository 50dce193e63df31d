"""Chat with a model of transformers: `GptOssForCausalLM` and its tokenizer.

The idea   prompt and parsing stay ours (`labhelpers.harmony`), the forward pass is theirs. So a
           difference in the answers is a difference between models, not between templates.
gpt-oss    a transformers tokenizer turns the *text* "<|end|>" into the control token unless
           told otherwise. Here its vocabulary is read into this package's Tokenizer, whose
           `encode` cannot do that.
Source     transformers' modular_gpt_oss.py and DynamicCache. Limits: no reuse of the KV cache
           between turns; models whose tokenizer is byte-level BPE, as gpt-oss's is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labhelpers.chat.tokens import Started, TokenBackend
from labhelpers.tokenizer import O200K_VOCAB_SIZE, Tokenizer, TokenizerError, from_folder
from labhelpers.tokenizer import o200k_harmony as real_tokenizer


class TransformersBackend(TokenBackend):
    """A transformers model [B, T] -> logits, and the tokenizer that belongs to it.

    hf_tokenizer may be a transformers tokenizer or one of this package.
    Raises ValueError if the tokenizer cannot be read or lacks harmony's marks.
    """

    def __init__(self, model: Any, hf_tokenizer: Any, name: str | None = None) -> None:
        config = model.config
        tokenizer = as_tokenizer(hf_tokenizer)
        missing = [s for s in ("<|start|>", "<|message|>") if s not in tokenizer.specials]
        if missing:
            raise ValueError(f"this tokenizer has no {' and no '.join(missing)}: not a gpt-oss's")
        name = name or getattr(config, "_name_or_path", "") or tokenizer.name
        super().__init__(Path(name).name, tokenizer, config.max_position_embeddings)
        self.model = model

    @torch.inference_mode()
    def start(self, ids: Sequence[int]) -> Started:
        """Read the prompt's ids in one go."""
        past: Any = None

        @torch.inference_mode()
        def take(new: Sequence[int]) -> Tensor:
            nonlocal past
            tensor = torch.tensor([list(new)], device=self.model.device)  # [1, T]
            # Only the last token's logits are wanted: the head is the widest matrix of all.
            out = self.model(tensor, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = out.past_key_values
            return out.logits[:, -1]  # [1, V]

        return Started(take(ids), lambda token_id: take([token_id]))


def as_tokenizer(tokenizer: Any) -> Tokenizer:
    """This package's Tokenizer with the same ids. Raises ValueError if that cannot be."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if len(tokenizer) > O200K_VOCAB_SIZE - 2000 and "<|message|>" in tokenizer.get_vocab():
        return real_tokenizer()
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise ValueError("a fast tokenizer is needed: AutoTokenizer.from_pretrained(folder)")
    with tempfile.TemporaryDirectory(prefix="labhelpers-chat-") as folder:
        (Path(folder) / "tokenizer.json").write_text(inner.to_str(), encoding="utf-8")
        try:
            return from_folder(folder)
        except (TokenizerError, KeyError) as error:
            raise ValueError(f"this tokenizer is not built as gpt-oss's is: {error}") from error
