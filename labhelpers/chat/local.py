"""Chat with a model of this package: nano, or any gpt-oss that `labhelpers.load` can load.

The idea   each turn's prompt begins with the prompt of the turn before, word for word. So the
           KV cache of a prompt is kept, and the next turn reads only what is new.
gpt-oss    past reasoning is dropped, so what the model generated is *not* reusable: behind the
           old prompt comes `<|channel|>final` now, where `<|channel|>analysis` stood. The cache
           is therefore kept as it was before the first generated token. Change the effort, and
           the system message changes, and with it everything: nothing is reused.
Source     prefix caching in vLLM and SGLang does this by blocks for many users at once.
Limits     whole prompts only (a sliding layer has forgotten what it would need to rewind); the
           last three are kept; a call's own tokens are read again with its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labhelpers.chat.tokens import Started, TokenBackend
from labhelpers.model import fast
from labhelpers.model.cache import KVCache

if TYPE_CHECKING:
    from labhelpers.model import GptOss
    from labhelpers.tokenizer import Tokenizer

KEPT_PROMPTS = 3
CHUNK = 512  # tokens read at once: the table of scores is [chunk, all tokens so far]


class LocalBackend(TokenBackend):
    """A `labhelpers` model behind the chat's interface.

    reuse: keep the KV caches of the last prompts for the next turn.
    """

    def __init__(
        self, model: GptOss, tokenizer: Tokenizer, name: str | None = None, reuse: bool = True
    ) -> None:
        super().__init__(name or tokenizer.name, tokenizer, model.config.max_position_embeddings)
        self.model, self.reuse = model, reuse
        self._opener = 1 + len(tokenizer.encode("assistant"))  # tokens of <|start|>assistant
        self._known: list[tuple[list[int], KVCache]] = []  # prompts and their caches, newest last

    @torch.inference_mode()
    def start(self, ids: Sequence[int]) -> Started:
        """Read what the caches do not know yet of a prompt [T]."""
        ids = list(ids)
        reused, cache = self._longest_known(ids)
        # The opened answer (`<|start|>assistant`) apart: without one, another message follows.
        opened = max(reused, len(ids) - self._opener)
        if reused < opened:
            self._read(ids[reused:opened], cache)
        if self.reuse:
            self._known = [*self._known, (ids[:opened], _copy(cache))][-KEPT_PROMPTS:]
        hidden = self._read(ids[opened:], cache)  # [1, H]
        return Started(self.model.lm_head(hidden), self._steps(cache), reused)

    def _read(self, ids: list[int], cache: KVCache) -> Tensor:
        """Feed ids to the cache; the hidden state [1, H] behind the last."""
        new = torch.tensor([ids], device=self.model.device)  # [1, T]
        for piece in new.split(CHUNK, dim=1):
            hidden = self.model.model(piece, cache=cache)  # [1, chunk, H]
        return hidden[:, -1]

    def _longest_known(self, ids: list[int]) -> tuple[int, KVCache]:
        """How many first tokens some cache holds (never all: the last one's logits are wanted)."""
        best, found = 0, self.model.new_cache()
        for known, cache in self._known:
            if best < len(known) < len(ids) and ids[: len(known)] == known:
                best, found = len(known), _copy(cache)
        return best, found

    def _steps(self, cache: KVCache):  # type: ignore[no-untyped-def]
        """A function from one id to the next logits; it is built when the first id is known."""
        step = None

        @torch.inference_mode()
        def take(token_id: int) -> Tensor:
            nonlocal step
            if step is None:
                step = fast.start(self.model, cache) if fast.suits(self.model) else plain
            return step(torch.tensor([[token_id]], device=self.model.device))

        def plain(ids: Tensor) -> Tensor:
            return self.model(ids, cache=cache)[:, -1]  # [1, V]

        return take


def _copy(cache: KVCache) -> KVCache:
    """A cache that goes its own way. The tensors are shared: updates replace, never overwrite."""
    twin = copy(cache)
    twin.layers = [copy(layer) for layer in cache.layers]
    return twin
