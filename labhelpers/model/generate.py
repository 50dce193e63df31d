"""Generation: ask for the next token, append it, ask again.

gpt-oss's choice: a turn ends with a special token of the harmony format (`<|return|>` after an
answer, `<|call|>` after a tool call). The stop token is yielded too, since whoever parses the
turn needs it.

The prompt goes in by pieces (`prefill_chunk`), so that the table of attention scores stays
small; then come single steps over the KV cache. One sequence on the CPU takes its steps
through `labhelpers.model.fast`, which computes the same with less overhead.

Limits: no beam search, no speculation; a batch waits for its slowest row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from labhelpers.model.cache import KVCache
from labhelpers.model.sampling import check_sampling, sample
from labhelpers.model.transformer import GptOss, check_dtype

Ids = Sequence[int] | Tensor
Stop = int | Iterable[int] | None


def generate(
    model: GptOss,
    ids: Ids,
    *,
    max_new_tokens: int = 512,
    stop: Stop = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    prefill_chunk: int = 512,
    fast: bool | None = None,
) -> Iterator[int]:
    """Stream up to max_new_tokens ids that follow `ids` (a list, [T] or [1, T]).

    stop: ids that end the turn (or one id); the one that did is yielded. None takes the model's
    own (`model.stop_ids`), an empty set never stops. temperature 0 is greedy; top_p 1 and top_k 0
    do not limit. seed: the same seed draws the same tokens, on every device; None draws anew.
    fast: True or False forces the lean CPU path on or off. Raises ValueError.
    """
    prompt = _as_ids(ids)
    prompt = prompt[0] if prompt.dim() == 2 and len(prompt) == 1 else prompt
    if prompt.dim() != 1:
        raise ValueError(
            f"generate takes one sequence, got ids of shape {list(prompt.shape)}; "
            "use labhelpers.model.generate.generate_batch for several"
        )
    from labhelpers.model import fast as lean

    if fast is None:
        fast = lean.suits(model)
    elif fast and (reason := lean.unsuited(model)):
        raise ValueError(f"the fast path cannot run this model: {reason}")
    rows = _stream(
        model, [prompt], max_new_tokens, stop, prefill_chunk, lean.start if fast else None,
        _sampler(temperature, top_p, top_k, seed),
    )  # fmt: skip
    return (row[0] for row in rows if row[0] is not None)


def generate_batch(
    model: GptOss,
    prompts: Sequence[Ids],
    *,
    max_new_tokens: int = 512,
    stop: Stop = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    prefill_chunk: int = 512,
) -> Iterator[list[int | None]]:
    """Stream for several prompts at once: each step yields one id a prompt.

    A prompt that has met its stop token gets None from then on. The prompts may differ in
    length; the other arguments are those of `generate`. Raises ValueError.
    """
    rows = [_as_ids(prompt) for prompt in prompts]
    if not rows or any(row.dim() != 1 for row in rows):
        raise ValueError("generate_batch takes a list of prompts, each a list of ids")
    sampler = _sampler(temperature, top_p, top_k, seed)
    return _stream(model, rows, max_new_tokens, stop, prefill_chunk, None, sampler)


def complete_batch(
    model: GptOss, prompts: Sequence[Ids], *, max_new_tokens: int = 512
) -> list[list[int]]:
    """`generate_batch` to its end, greedily: the ids after each prompt, the stop token included.

    Raises ValueError.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    for step in generate_batch(model, prompts, max_new_tokens=max_new_tokens):
        for reply, token in zip(replies, step, strict=True):
            if token is not None:  # None: this reply has ended
                reply.append(token)
    return replies


def _as_ids(ids: Ids) -> Tensor:
    """Whole numbers as int64; text or fractions are refused, not guessed at."""
    if isinstance(ids, str) or any(isinstance(i, str) for i in ids):
        raise ValueError("generate takes ids, not text: tokenizer.encode(text), or harmony.render")
    given = torch.as_tensor(ids)
    if len(given) and (given.is_floating_point() or given.is_complex()):
        raise ValueError(f"ids must be whole numbers, got {given.dtype}")
    return given.long()


def _stop_ids(stop: Stop) -> frozenset[int]:
    ids = [stop] if isinstance(stop, (int, str)) else list(stop or ())
    if any(isinstance(i, str) for i in ids):
        raise ValueError('stop holds ids, not names: tokenizer.special_id("<|return|>")')
    return frozenset(int(i) for i in ids)


Step = Callable[[Tensor], Tensor]  # new ids [B, 1] -> logits [B, V]
Sampler = Callable[[Tensor], Tensor]  # logits [B, V] -> ids [B]


def _sampler(temperature: float, top_p: float, top_k: int, seed: int | None) -> Sampler:
    check_sampling(temperature, top_p, top_k)
    generator = torch.Generator()  # on the CPU, where `sample` draws
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return lambda logits: sample(logits, temperature, top_p, top_k, generator)


def _stream(
    model: GptOss,
    prompts: list[Tensor],
    max_new_tokens: int,
    stop: Stop,
    prefill_chunk: int,
    start_fast: "Callable[[GptOss, KVCache], Step] | None",
    sampler: Sampler,
) -> Iterator[list[int | None]]:
    """Check everything now (a generator would wait for the first `next`), then stream."""
    longest = max(len(p) for p in prompts)
    limit = model.config.max_position_embeddings
    if min(len(p) for p in prompts) == 0:
        raise ValueError("the prompt is empty; gpt-oss's starts with <|start|>")
    if longest >= limit:
        raise ValueError(f"a prompt of {longest} tokens leaves no room in {limit} positions")
    for name, count in (("max_new_tokens", max_new_tokens), ("prefill_chunk", prefill_chunk)):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number, at least 1, got {count!r}")
    check_dtype(model.dtype)
    stop_ids = model.stop_ids if stop is None else _stop_ids(stop)
    steps = _logit_steps(model, prompts, prefill_chunk, sampler, start_fast)
    return _until_stopped(islice(steps, min(max_new_tokens, limit - longest)), stop_ids)


def _until_stopped(
    steps: Iterator[list[int]], stop_ids: frozenset[int]
) -> Iterator[list[int | None]]:
    running: list[bool] | None = None
    for ids in steps:
        running = running or [True] * len(ids)
        yield [i if on else None for i, on in zip(ids, running, strict=True)]
        running = [on and i not in stop_ids for i, on in zip(ids, running, strict=True)]
        if not any(running):
            return


def _logit_steps(
    model: GptOss,
    prompts: list[Tensor],
    prefill_chunk: int,
    sampler: Sampler,
    start_fast: "Callable[[GptOss, KVCache], Step] | None",
) -> Iterator[list[int]]:
    """Endless new ids. No inference_mode around a yield: it would leak into the caller."""
    cache = model.new_cache()
    logits = _prefill(model, prompts, cache, prefill_chunk)  # [B, V]
    step: Step | None = None
    while True:
        new = sampler(logits)  # [B]
        yield new.tolist()
        if step is None:  # built only now: a single token needs no second step
            step = (
                start_fast(model, cache)
                if start_fast is not None
                else lambda ids: model(ids, cache=cache)[:, -1]
            )
        with torch.inference_mode():
            logits = step(new[:, None].to(model.device))


@torch.inference_mode()
def _prefill(model: GptOss, prompts: list[Tensor], cache: KVCache, chunk: int) -> Tensor:
    """Feed the prompts, padded on the left; logits [B, V] after each row's last token."""
    width = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    for piece, piece_mask in zip(ids.split(chunk, 1), mask.split(chunk, 1), strict=True):
        hidden = model.model(piece, piece_mask, cache)  # [B, chunk, H]
    return model.lm_head(hidden[:, -1])  # the head is wanted for the last token only
