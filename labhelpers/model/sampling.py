"""From logits to the next token: the favourite one, or a draw among the likely ones.

gpt-oss's choice: OpenAI recommends temperature 1.0 and top_p 1.0, a draw from the whole
distribution. Temperature 0 means greedy here: always the favourite, the same text each time.

Source: the order (temperature, then top-k, then top-p) is that of transformers' generate.
Letters: B batch, V vocabulary.
"""

import torch
from torch import Tensor


def check_sampling(temperature: float, top_p: float, top_k: int) -> None:
    """Raise ValueError for settings that have no meaning."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1 (1: no limit), got {top_p}")
    if top_k < 0:
        raise ValueError(f"top_k must be 0 (no limit) or a positive count, got {top_k}")


def sample(
    logits: Tensor,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose ids [B] from logits [B, V]; a CPU generator makes the draw repeatable."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    # On the CPU in float32: the same seed then draws the same numbers on every device.
    logits = logits.float().cpu()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # so that no number overflows
    if 0 < top_k < logits.shape[-1]:
        weakest = logits.topk(top_k, dim=-1).values[:, -1:]  # [B, 1]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if top_p < 1:
        probabilities = keep_nucleus(probabilities, top_p)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def keep_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the fewest tokens that together reach top_p, in each row of [B, V].

    Not normalised again: multinomial does not ask for it.
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True)
    # A token stays if those before it have not yet reached top_p; so the first always stays.
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, ids, kept)
