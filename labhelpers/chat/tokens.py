"""The half that all token backends share: sample, force, parse, stop.

The idea   a backend that has the model at hand only says how to `start` on a prompt and how to
           take one `step` more. Here the loop around it: choose an id (or take the one that the
           reasoning budget forces), read it with harmony's parser, pass on what it brought.
gpt-oss    stops at `<|return|>` (answered) and `<|call|>` (a tool is wanted). `<|end|>` is no
           stop: the next message of the same turn follows. `<|endoftext|>` should never come;
           it ends the turn with a remark (the published generation_config stops there too).
Source     `labhelpers.model.generate` is the same loop without harmony. Limits: one sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from labhelpers.chat.backend import Ending, Options, Piece
from labhelpers.chat.budget import Budget
from labhelpers.harmony import Conversation, LenientParser, render_for_completion
from labhelpers.model.sampling import check_sampling, sample

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer

REASONS = {"<|return|>": "return", "<|call|>": "call", "<|endoftext|>": "endoftext"}


class Started(NamedTuple):
    """A prompt that has been read: what comes next, how to go on, how much was known already."""

    logits: Tensor  # [1, V]
    step: Callable[[int], Tensor]  # one more id -> logits [1, V]
    reused: int = 0  # tokens of the prompt that the KV cache held already


class TokenBackend:
    """Base of the backends that sample here; a subclass gives `start`."""

    def __init__(self, name: str, tokenizer: Tokenizer, positions: int) -> None:
        self.name, self.positions = name, positions
        self.tokenizer: Tokenizer = tokenizer
        self.stops = {
            tokenizer.specials[name]: reason
            for name, reason in REASONS.items()
            if name in tokenizer.specials
        }

    def start(self, ids: Sequence[int]) -> Started:
        """Read the prompt's ids."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Nothing to wake: the loop looks at `stopped` before every token."""

    def stream(self, conversation: Conversation, options: Options) -> Iterator[Piece | Ending]:
        """The assistant's next turn, a piece a token. Raises ValueError (too long a prompt ...)."""
        check_sampling(options.temperature, options.top_p, options.top_k)
        prompt = render_for_completion(conversation, self.tokenizer)
        room = self.positions - len(prompt)
        if room < 1:
            raise ValueError(
                f"the conversation has {len(prompt)} tokens, {self.name} reads {self.positions}: "
                "start a new one"
            )
        parser = LenientParser(self.tokenizer)
        budget = Budget(self.tokenizer, options.reasoning_budget)
        choose = _sampler(options)
        started = self.start(prompt)
        logits, reason, seen = started.logits, "length", 0
        token_id = -1
        for count in range(min(options.max_new_tokens, room)):
            if options.stopped.is_set():
                reason = "stopped"
                break
            if count:
                logits = started.step(token_id)
            was_cut = budget.was_cut
            token_id = budget.next_id(-1 if budget.is_forcing else choose(logits))
            delta = parser.push(token_id)
            note = "" if was_cut or not budget.was_cut else _cut_note(budget)
            ended = delta.finished
            seen += ended is not None
            yield Piece(delta.channel, delta.recipient, delta.text, ended, (token_id,), note)
            if token_id in self.stops:
                reason = self.stops[token_id]
                break
        messages = tuple(parser.finish())
        for message in messages[seen:]:  # what was cut off in the middle
            yield Piece(message.channel, message.recipient, "", message, partial=True)
        faults = tuple(parser.faults)
        yield Ending(reason, faults, len(prompt), started.reused, messages=messages)


def _sampler(options: Options) -> Callable[[Tensor], int]:
    generator = torch.Generator()  # on the CPU, where `sample` draws
    if options.seed is None:
        generator.seed()
    else:
        generator.manual_seed(options.seed)
    o = options
    return lambda logits: int(sample(logits, o.temperature, o.top_p, o.top_k, generator))


def _cut_note(budget: Budget) -> str:
    return (
        f"The reasoning was cut after {budget.spent} token{'s' * (budget.spent != 1)} (the "
        "reasoning budget): the final channel was opened for the model."
    )
