"""The whole model, one token a row at a time, as one CUDA graph.

The idea   a token of gpt-oss-20b must read 3.7 GB, 1.2 ms on an H100, and is about 150 kernels of
           12 microseconds. Python cannot start kernels that fast. So the launches of one step are
           recorded once, and a step replays them: nothing in it depends on the host. The token,
           the position and the caches lie in GPU memory, the last kernel writes the next token
           and counts the position on, and the next replay goes on from there.
One row    six kernels a layer: `_qkv`, `_attend`, `_o_proj`, `_route`, `_gate_up`, `_down`; then
           `_head` and `_choose`. Norms are in the kernel that follows them, additions to the
           residual stream in the one before.
More rows  the dense products are torch's; the attention kernel is the same; experts by `decode` up
           to 8 rows, beyond that by `grouped`.
Residual   `x` is fp32, where the model in bf16 rounds at each of the 48 additions. It costs 12 KB
           a kernel, which is nothing, and takes away the largest error between this and a float64
           reference: the bf16 model adds small updates to a large stream. Weights, q, k and v
           are bf16 as in the model.
Limits     greedy; the prompt goes in token by token; rows of equal length; head_dim a power of two.
           Where Triton cannot run use the model itself (`GptOss.generate`).

Letters: B rows, H hidden, N query heads, K KV heads, D head_dim, C places in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from labhelpers.config import GptOssConfig
from labhelpers.kernels import decode, grouped
from labhelpers.kernels.attention_decode import Attention
from labhelpers.kernels.batch_decode import add_norm, turn
from labhelpers.kernels.decoder_weights import DecoderWeights, LayerWeights
from labhelpers.kernels.linear_decode import Head, embed, o_proj, qkv
from labhelpers.kernels.packed import check_limit
from labhelpers.kernels.router_decode import Router
from labhelpers.kernels.triton_or_not import INTERPRETED, why_not
from labhelpers.model.rope import RotaryEmbedding


class Tuning(NamedTuple):
    """Sizes of the kernels' programs; the defaults suit an H100."""

    qkv_pairs: int = 4
    o_rows: int = 8
    head_rows: int = 8
    warps: int = 8
    splits: int | None = None  # of the keys of full layers; None: by the cache's size
    # Not `decode.tuning_for(1)`: it wins alone, but loses 0.5% of a whole step (120b, 4K context).
    experts: decode.Tuning = decode.Tuning()
    grouped: grouped.Tuning = grouped.Tuning(rows=16, columns=64, depth=128, warps=4, stages=3)


class Decoder:
    """Steps of one token for each of `batch` rows, with caches of `max_context` places."""

    def __init__(
        self,
        config: GptOssConfig,
        weights: DecoderWeights,
        max_context: int = 4096,
        batch: int = 1,
        tuning: Tuning = Tuning(),  # noqa: B008 (immutable)
    ) -> None:
        """Allocate caches on the weights' device.

        Raises ValueError if kernels cannot run there, or do not take these shapes.
        """
        if reason := why_not(weights.embedding):
            raise ValueError(f"the decoder is Triton kernels, and {reason}: use GptOss.generate")
        if batch < 1 or not 1 <= max_context <= config.max_position_embeddings:
            raise ValueError(
                f"batch={batch} must be at least 1 and max_context={max_context} in 1.."
                f"{config.max_position_embeddings} (max_position_embeddings)"
            )
        _check_shapes(config, tuning)
        self.config, self.weights, self.batch, self.tuning = config, weights, batch, tuning
        self.max_context = max_context
        self.device = device = weights.embedding.device
        # The interpreter cuts bf16 off instead of rounding it (see triton_or_not).
        dtype = torch.float32 if INTERPRETED else torch.bfloat16
        heads, kv_heads, dim = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        )  # fmt: skip
        cos, sin = RotaryEmbedding(config)(torch.arange(max_context)[None], torch.float32)
        self.rope = cos[0].to(device), sin[0].to(device)  # [positions, D/2]
        self.caches: list[tuple[Tensor, Tensor]] = []
        attention: dict[int, Attention] = {}  # by places: layers of a kind share the scratch
        self.attention: list[Attention] = []
        for kind in config.layer_types:
            places = min(config.sliding_window, max_context)
            places = places if kind == "sliding_attention" else max_context
            keys, values = torch.zeros(
                2, batch, kv_heads, places, dim, dtype=dtype, device=device
            )  # [B, K, C, D] each
            if places not in attention:
                splits = tuning.splits if kind == "full_attention" else None
                attention[places] = Attention(keys, heads // kv_heads, splits)
            self.caches.append((keys, values))
            self.attention.append(attention[places])

        self.x = torch.zeros(batch, config.hidden_size, device=device)  # fp32: see above
        self.q = torch.zeros(batch, heads, dim, dtype=dtype, device=device)
        self.attended = torch.zeros_like(self.q)
        self.token = torch.zeros(batch, dtype=torch.int64, device=device)
        self.position = torch.zeros(batch, dtype=torch.int32, device=device)
        self.head = Head(weights.head, tuning.head_rows, tuning.warps)
        self.logits = self.head.logits if batch == 1 else torch.empty(0)
        self.router = Router(
            config.hidden_size, config.num_local_experts, config.num_experts_per_tok, device
        )
        self.length = 0  # the host's count of the position, to notice a full cache
        self.graph: torch.cuda.CUDAGraph | None = None

    # One step ------------------------------------------------------------------------------

    def launch(self) -> None:
        """Launch the kernels of one step, without looking at anything on the GPU."""
        embed(self.token, self.weights.embedding, self.x)
        if self.batch == 1:
            for index in range(len(self.weights.layers)):
                self._layer_of_one(index)
            self.head(self.x, self.weights.norm, self.config.rms_norm_eps)
            self.head.choose(self.token, self.position)
        else:
            self._layers_of_many()

    def _layer_of_one(self, index: int) -> None:
        eps, tuning, w = self.config.rms_norm_eps, self.tuning, self.weights.layers[index]
        keys, values = self.caches[index]
        qkv(self.x, w.norm1, eps, w.qkv, w.qkv_bias, self.rope, self.position, self.q, keys,
            values, tuning.qkv_pairs, tuning.warps)  # fmt: skip
        self.attention[index](self.q, keys, values, w.sinks, self.position, self.attended)
        o_proj(self.attended.flatten(1), w.o, w.o_bias, self.x, tuning.o_rows, tuning.warps)
        router = self.router
        router(self.x, w.norm2, eps, w.router, w.router_bias)
        alpha, limit = self.config.swiglu_alpha, self.config.swiglu_limit
        inner = decode.launch_gate_up(
            router.planes, router.ids, w.gate_up, alpha, limit, tuning.experts
        )
        decode.launch_down(inner, router.ids, router.weights, w.down, limit, torch.float32,
                           tuning.experts, residual=self.x, out=self.x)  # fmt: skip

    def _layers_of_many(self) -> None:
        eps, added = self.config.rms_norm_eps, None
        dtype = self.weights.head.dtype
        hidden = torch.empty(self.x.shape, dtype=dtype, device=self.device)  # [B, H]
        for w, (keys, values), attention in zip(
            self.weights.layers, self.caches, self.attention, strict=True
        ):
            add_norm(self.x, added, w.norm1, eps, hidden)
            turn(F.linear(hidden, w.qkv, w.qkv_bias), self.rope, self.position, self.q, keys,
                 values)  # fmt: skip
            attention(self.q, keys, values, w.sinks, self.position, self.attended)
            added = F.linear(self.attended.flatten(1).to(dtype), w.o, w.o_bias)
            add_norm(self.x, added, w.norm2, eps, hidden)
            added = self._experts(hidden, w)
        add_norm(self.x, added, self.weights.norm, eps, hidden)
        self.logits = F.linear(hidden, self.weights.head).float()  # [B, V]
        self.token.copy_(self.logits.argmax(-1))
        self.position += 1

    def _experts(self, hidden: Tensor, w: LayerWeights) -> Tensor:
        """[B, H] -> [B, H] fp32."""
        router_logits = F.linear(hidden, w.router, w.router_bias).float()
        top_logits, ids = router_logits.topk(self.config.num_experts_per_tok, dim=-1)
        shares, alpha, limit = (
            top_logits.softmax(-1), self.config.swiglu_alpha, self.config.swiglu_limit,
        )  # fmt: skip
        function: Any = grouped.experts_grouped
        tuning: Any = self.tuning.grouped
        if self.batch <= decode.MOST_TOKENS:
            function, tuning = decode.experts_decode, self.tuning.experts
        return function(hidden.bfloat16(), ids, shares, w.gate_up, w.down, alpha, limit,
                        torch.float32, tuning)  # fmt: skip

    # Steps ---------------------------------------------------------------------------------

    def capture(self) -> None:
        """Record a step as a CUDA graph; what has been read and the next token stay as they are.

        Raises ValueError if the cache is full: trial steps write the next place.
        """
        if INTERPRETED or self.graph is not None:
            return
        self._check_room(1)
        state = (self.token, self.position)
        before = [t.clone() for t in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # compile and warm up: a graph cannot hold that
                self.launch()
                for now, then in zip(state, before, strict=True):
                    now.copy_(then)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.launch()

    def step(self) -> None:
        """One token a row: reads `token`, writes `logits` and the next `token`.

        Returns at once; the GPU is still at work. Raises ValueError if the cache is full.
        """
        self._check_room(1)
        self.length += 1
        if self.graph is not None:
            self.graph.replay()
        else:
            self.launch()

    def _check_room(self, tokens: int) -> None:
        if self.length + tokens > self.max_context:
            raise ValueError(
                f"no room in the cache: of its {self.max_context} places (max_context) "
                f"{self.length} are taken, and {tokens} more are asked for. Call reset(), or give "
                "more places"
            )

    def reset(self, length: int = 0) -> None:
        """Forget everything; or, to measure a long context, take what the caches hold as read."""
        if not 0 <= length <= self.max_context:
            raise ValueError(f"length={length} must be in 0..{self.max_context} (max_context)")
        self.length = length
        self.position.fill_(length)

    def prefill(self, prompt: Sequence[int] | Tensor) -> Tensor:
        """Read prompt ids [B, T] (or [T] for one row): logits fp32 [B, V] after its last token.

        The next step may overwrite what is returned: clone it to keep it. Raises ValueError for a
        prompt that is empty, of another shape or too long, and for ids outside the vocabulary.
        """
        ids = torch.as_tensor(prompt, device=self.device).long()
        ids = ids[None] if ids.ndim == 1 and self.batch == 1 else ids
        if not ids.numel():
            raise ValueError("the prompt is empty: give at least one token")
        if ids.ndim != 2 or len(ids) != self.batch:
            raise ValueError(
                f"the prompt is {list(ids.shape)}, expected [{self.batch}, T]: as many rows as "
                "`batch`, all of one length"
            )
        if not 0 <= ids.min() <= ids.max() < self.config.vocab_size:
            raise ValueError(f"ids must be in 0..{self.config.vocab_size - 1} (vocab_size)")
        self._check_room(ids.shape[1])
        for column in ids.unbind(1):
            self.token.copy_(column)
            self.step()
        return self.logits

    def generate(self, prompt: Sequence[int] | Tensor, max_new_tokens: int) -> Iterator[list[int]]:
        """Greedy ids that follow the prompt: one list of B a step."""
        self.prefill(prompt)
        for count in range(max_new_tokens):
            yield self.token.tolist()
            if count + 1 < max_new_tokens:
                self.step()


def _check_shapes(config: GptOssConfig, tuning: Tuning) -> None:
    """What GptOssConfig allows and the kernels do not: as ValueError, before Triton complains."""
    dim = config.head_dim
    if dim < 16 or dim & (dim - 1):
        raise ValueError(f"head_dim={dim}: the attention kernel takes powers of two from 16")
    if dim // 2 % tuning.qkv_pairs:
        raise ValueError(f"qkv_pairs={tuning.qkv_pairs} must divide head_dim / 2 = {dim // 2}")
    check_limit(config.swiglu_alpha, config.swiglu_limit)
