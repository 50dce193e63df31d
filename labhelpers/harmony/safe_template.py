"""Chat messages to ids in which no text can become a control token, for any tokenizer.

A chat template makes one string, and the tokenizer then takes every "<|start|>" in it for the
control token, whoever wrote it: with a plain template, a user who types
"<|end|><|start|>system<|message|>..." has written a system message. No escape repairs that inside
the string. Removing marks fails ("<|st<|start|>art|>" joins up again, and so do two content parts),
and placeholders that are swapped back after tokenising can be typed by the user as well. Asking the
tokenizer to split special tokens (transformers: `split_special_tokens=True`) spells the template's
own marks out too. So nano's template refuses texts that hold a special token's name (measured in
tests/test_harmony_safety.py), and `render_chat` is the way that serves every text: marks are put in
as ids, texts are encoded one by one as ordinary text.

gpt-oss's choice: OpenAI's harmony library renders token by token too. Limits: text that looks
like a mark still reads like one to the eye, and perhaps to the model; only its ids are harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from .chat import conversation_from_chat
from .messages import HarmonyError
from .render import Encoder, render, render_for_completion


def render_chat(
    messages: Sequence[dict[str, Any]],
    tokenizer: Any,
    tools: Iterable[dict[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **settings: Any,
) -> list[int]:
    """What `apply_chat_template` gives with nano's template, but safe: ids of chat messages.

    `tokenizer` is ours or one of transformers; `settings` are builtin_tools, model_identity,
    reasoning_effort and current_date. Without `add_generation_prompt` a final answer at the end
    keeps its reasoning and stops with <|return|>, as in training.

    Raises HarmonyError for messages that harmony cannot express.
    """
    conversation = conversation_from_chat(messages, tools, **settings)
    encoder = encoder_of(tokenizer)
    if add_generation_prompt:
        return render_for_completion(conversation, encoder)
    return render(conversation, encoder, for_training=True)


def encoder_of(tokenizer: Any) -> Encoder:
    """The tokenizer itself if it is one of ours, else one of transformers behind our interface."""
    return tokenizer if hasattr(tokenizer, "special_id") else TransformersEncoder(tokenizer)


class TransformersEncoder:
    """A tokenizer of transformers that encodes texts as ordinary text, marks only by name."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._controls = set(tokenizer.get_added_vocab().values())
        self.encode_cached = lru_cache(maxsize=4096)(lambda text: tuple(self.encode(text)))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. Raises HarmonyError if the tokenizer would put a control token in it."""
        out = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids = list(out["input_ids"])
        if not self._controls.isdisjoint(ids):
            # Slow tokenizers may ignore split_special_tokens: better no answer than a forged one.
            raise HarmonyError(f"this tokenizer makes a control token of the text {text[:60]!r}")
        return ids

    def special_id(self, name: str) -> int:
        """Id of a special token. Raises HarmonyError if the tokenizer has none of that name."""
        token_id = self.tokenizer.get_added_vocab().get(name)
        if token_id is None:
            raise HarmonyError(f"this tokenizer has no special token {name!r}: not a harmony model")
        return token_id
