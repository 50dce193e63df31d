"""The logit lens: ask the head what it would say after each layer, not only after the last.

Every block adds to the same stream, so the final norm and the head can read the stream anywhere.
What they read shows when the model makes up its mind.

Source: the method is nostalgebraist's ("interpreting GPT: the logit lens", 2020). Letters: L
layers, T tokens, V vocabulary. Limits: the early layers were never trained to be read so; a
strange token there means little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labhelpers.viz import look
from labhelpers.viz.conversation import TokenizerLike, piece
from labhelpers.viz.heatmap import draw_heatmap, token_ticks

if TYPE_CHECKING:
    from torch import Tensor

    from labhelpers.model import GptOss


class Lens(NamedTuple):
    """The favourite next token after the embedding (row 0) and after each layer."""

    ids: list[int]  # T, the input
    favourites: Tensor  # [L + 1, T] int64
    probabilities: Tensor  # [L + 1, T] float32, of the favourites


def lens_table(model: GptOss, ids: Sequence[int] | Tensor) -> Lens:
    """Read the stream of one sequence of ids [T] after the embedding and every layer.

    Raises ValueError if ids hold more than one sequence.
    """
    import torch

    from labhelpers.activations import watch

    stream: list[Tensor] = []  # [1, T, H] each
    parts: dict[str, Any] = {"embedding": model.model.embed_tokens}
    parts |= {f"layer {n}": layer for n, layer in enumerate(model.model.layers)}
    row = watch(model, ids, parts, lambda _name, _given, out: stream.append(out))
    with torch.inference_mode():
        best = []
        for hidden in stream:  # one layer at a time: V is large
            likely = model.lm_head(model.model.norm(hidden[0])).float().softmax(-1)  # [T, V]
            best.append(likely.max(dim=-1))
    probabilities = torch.stack([b.values for b in best]).cpu()
    return Lens(row, torch.stack([b.indices for b in best]).cpu(), probabilities)


def logit_lens(
    model: GptOss,
    ids: Sequence[int] | Tensor,
    tokenizer: TokenizerLike,
    last: int = 8,
    title: str | None = None,
) -> look.Picture:
    """Heat map: favourite next token after each layer, at the last positions; shade is its
    probability. The picture's `data` is the Lens of all positions.
    """
    lens = lens_table(model, ids)
    last = min(last, len(lens.ids))
    favourites = lens.favourites[:, -last:].tolist()
    probabilities = lens.probabilities[:, -last:]
    words = [[_short(piece(i, tokenizer)) for i in row] for row in favourites]
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.4 + 0.28 * len(words)))
        draw_heatmap(
            axes,
            probabilities.tolist(),
            "probability",
            top=1.0,
            words=words,
            size=9 if last <= 8 else 8,
        )
        for text in axes.texts:
            text.set_family(look.MONO)
        token_ticks(axes, [piece(i, tokenizer) for i in lens.ids[-last:]])
        axes.set_yticks(range(len(words)), ["embedding", *map(str, range(len(words) - 1))])
        axes.set(ylabel="after layer", xlabel="token read")
        axes.set_title(title or "What the output head would say next, layer by layer")
    final = favourites[-1][-1]
    settled = _settled([row[-1] for row in favourites])
    text = (
        f"After {piece(lens.ids[-1], tokenizer)} the model says {piece(final, tokenizer)} "
        f"(probability {probabilities[-1, -1]:.2f}); it is the favourite {settled}."
    )
    return look.Picture(fig, text, lens)


def _settled(column: list[int]) -> str:
    """From which layer on the last favourite stays the favourite."""
    first = len(column) - 1
    while first > 0 and column[first - 1] == column[-1]:
        first -= 1
    return "from the embedding on" if first == 0 else f"from layer {first - 1} on"


def _short(text: str) -> str:
    return text if len(text) <= 8 else text[:7] + "…"
