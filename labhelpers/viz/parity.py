"""The parity card: are two results equal, within a stated bound?

It prints the bound, never the difference: 3e-7 on one processor is 4e-7 on the next, and a
notebook whose outputs are compared would fail there. The measured value is `card.largest`.

The difference is relative to the largest value of the reference: logits of size 20 that differ
by 2e-5 differ by 1e-6. Limits: equal numbers, not equal meaning; compare shapes of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labhelpers.viz.components import CHANNELS, Component, Mark, chip, escape, label

if TYPE_CHECKING:
    from torch import Tensor

_EQUAL = Mark("teal", "solid", glyph="✓")
_DIFFERENT = Mark(CHANNELS["commentary"].hue, "solid", glyph="✗")


class Parity(Component):
    """`equal` (bool), `largest` (relative difference, float) and `reason` if shapes differ."""

    def __init__(
        self, what: str, largest: float, bound: float, names: tuple[str, str], reason: str = ""
    ) -> None:
        self.what, self.largest, self.bound, self.names = what, largest, bound, names
        self.reason = reason
        self.equal = not reason and largest <= bound

    def __bool__(self) -> bool:
        return self.equal

    def _words(self) -> tuple[str, str]:
        head = f"{self.what}: {self.names[0]} and {self.names[1]}, "
        if self.reason:
            return head + self.reason, ""
        bound = f"{self.bound:g}".replace("e-0", "e-")  # 1e-5, as people write it
        return head + f"largest difference under {bound}:", str(self.equal)

    def html(self) -> str:
        mark = _EQUAL if self.equal else _DIFFERENT
        words, verdict = self._words()
        end = f" <b>{verdict}</b>" if verdict else ""
        return f"<div>{chip(self._verdict, mark)} {escape(words)}{end}</div>"

    def plain(self) -> str:
        mark = _EQUAL if self.equal else _DIFFERENT
        words, verdict = self._words()
        return f"{label(self._verdict, mark)}  {words} {verdict}".rstrip()

    @property
    def _verdict(self) -> str:
        return "equal" if self.equal else "different"


def parity(
    what: str,
    ours: Tensor,
    reference: Tensor,
    bound: float = 1e-5,
    names: tuple[str, str] = ("ours", "transformers"),
) -> Parity:
    """Compare two tensors of any shape and dtype; `what` says what they are ("logits, 300 tokens").

    bound is relative to the largest absolute value of the reference. A NaN differs from
    everything. Raises TypeError if either is not a tensor, ValueError for empty tensors.
    """
    import torch

    for name, value in zip(names, (ours, reference), strict=True):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"parity compares tensors, {name} is a {type(value).__name__}")
    if ours.shape != reference.shape:
        reason = f"shape {list(ours.shape)}, not {list(reference.shape)}"
        return Parity(what, float("inf"), bound, names, reason)
    if ours.numel() == 0:
        raise ValueError(f"nothing to compare: {what} is empty")
    a, b = ours.detach().cpu().double(), reference.detach().cpu().double()
    scale = b.abs().max().item() or 1.0  # all zeros: the difference itself
    difference = (a - b).abs().max().item() / scale
    largest = difference if difference == difference else float("inf")  # NaN
    return Parity(what, largest, bound, names)
