"""Backends for the chat's tests: one that writes what a test wants, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from labhelpers.chat.tokens import Started, TokenBackend
from labhelpers.tokenizer import Tokenizer, nano

MARKS = ("start", "end", "message", "channel", "constrain", "return", "call", "endoftext")


def ids_of(stream: str, tokenizer: Tokenizer | None = None) -> list[int]:
    """A reply as ids; "<end>" in it is the special token, everything else is text."""
    tokenizer = tokenizer or nano()
    ids: list[int] = []
    for piece in stream.replace("<", "\0<").replace(">", ">\0").split("\0"):
        if piece[1:-1] in MARKS and piece[:1] == "<":
            ids.append(tokenizer.special_id(f"<|{piece[1:-1]}|>"))
        elif piece:
            ids += tokenizer.encode(piece)
    return ids


ANSWER = (
    "<channel>analysis<message>Think a little.<end>"
    "<start>assistant<channel>final<message>Hi.<return>"
)


class Scripted(TokenBackend):
    """Writes the given streams, one a turn (the last one again and again)."""

    def __init__(self, *streams: str | list[int]) -> None:
        super().__init__("scripted", nano(), 131072)
        self.streams = [s if isinstance(s, list) else ids_of(s) for s in streams]
        self.prompts: list[list[int]] = []
        self.read: list[list[int]] = []  # what was fed back, a list a turn

    def start(self, ids: Sequence[int]) -> Started:
        stream = iter(self.streams[min(len(self.prompts), len(self.streams) - 1)])
        self.prompts.append(list(ids))
        self.read.append([])

        def logits() -> torch.Tensor:
            row = torch.zeros(1, self.tokenizer.vocab_size)
            row[0, next(stream, self.tokenizer.special_id("<|endoftext|>"))] = 100.0
            return row

        def step(token_id: int) -> torch.Tensor:
            self.read[-1].append(token_id)
            return logits()

        return Started(logits(), step)
