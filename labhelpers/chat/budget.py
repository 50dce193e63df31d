"""A reasoning budget: after n tokens of analysis the answer is opened for the model.

The idea   when the budget is spent and the model goes on thinking, the next ids are not sampled
           but given: `<|end|><|start|>assistant<|channel|>final<|message|>`. Decoding goes on
           behind them, so the model now finds itself in the middle of its answer.
gpt-oss    `<|end|>` alone is not enough: a model that has not finished thinking opens analysis
           again. Only the whole opener of final leaves it no choice of channel.
Source     a known remedy for replies that are all reasoning and no answer (kekzl/imp, thread
           800). Limits: the answer may be worse, for it comes from half a thought; a call in the
           analysis channel (to=python) is no reasoning and is never cut.
"""

from __future__ import annotations

from typing import Protocol

OPENER = ("<|end|>", "<|start|>", "assistant", "<|channel|>", "final", "<|message|>")


class TokenizerLike(Protocol):
    """What is needed of a tokenizer (labhelpers.tokenizer.Tokenizer has it)."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def special_id(self, name: str) -> int: ...
    def special_name(self, token_id: int) -> str | None: ...


def opener_ids(tokenizer: TokenizerLike) -> list[int]:
    """The ids that end the reasoning and open the answer."""
    ids: list[int] = []
    for part in OPENER:
        ids += [tokenizer.special_id(part)] if part.startswith("<|") else tokenizer.encode(part)
    return ids


class Budget:
    """Stands between the sampler and the model: `next_id` gives the id that is really used.

    `limit` None never cuts. `spent` counts reasoning tokens; `was_cut` says that it stepped in.
    The stream begins inside an assistant's header, as every completion does.
    Raises ValueError for a limit that is no whole number from 0 up.
    """

    def __init__(self, tokenizer: TokenizerLike, limit: int | None) -> None:
        check_budget(limit)
        self.tokenizer, self.limit = tokenizer, limit
        self.spent = 0
        self.was_cut = False
        self._forced: list[int] = []
        self._header: list[int] | None = []  # ids of the header being written; None: in a text
        self._reasoning = False

    @property
    def is_forcing(self) -> bool:
        """True while the next id is already decided, so that nothing need be sampled."""
        return bool(self._forced)

    def next_id(self, proposed: int) -> int:
        """`proposed`, or the next id of the opener."""
        if self._forced:
            token_id = self._forced.pop(0)
        elif self._is_over(proposed):
            token_id, *self._forced = opener_ids(self.tokenizer)
            self.was_cut = True
        else:
            token_id = proposed
        self._watch(token_id)
        return token_id

    def _is_over(self, proposed: int) -> bool:
        """The budget is spent, and the model would think on (a mark ends the thought by itself)."""
        if self.limit is None or not self._reasoning or self.spent < self.limit:
            return False
        return self.tokenizer.special_name(proposed) is None

    def _watch(self, token_id: int) -> None:
        name = self.tokenizer.special_name(token_id)
        if name == "<|message|>" and self._header is not None:
            header = self.tokenizer.decode(self._header)
            self._reasoning = "<|channel|>analysis" in header and "to=" not in header
            self._header = None
        elif name in ("<|start|>", "<|end|>", "<|call|>", "<|return|>"):
            self._header, self._reasoning = [], False
        elif self._header is not None:
            self._header.append(token_id)
        elif name is None and self._reasoning:
            self.spent += 1


def check_budget(limit: int | None) -> int | None:
    """The limit, if it is one. Raises ValueError."""
    whole = isinstance(limit, int) and not isinstance(limit, bool)
    if limit is None or (whole and limit >= 0):
        return limit
    raise ValueError(f"reasoning_budget is a whole number of tokens, 0 or more, got {limit!r}")
