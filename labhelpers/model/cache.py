"""KV cache: keys and values of the tokens seen, each with its position.

gpt-oss's choice: every other layer looks back 128 tokens and no further, so its cache stops
growing at 128. Only the full-attention layers pay for a long context.

Each key carries its position, and -1 marks padding. Who may look at whom is read off these
positions alone (`attention.visible`), so the order of the keys is free, rows of a batch may
be of different length, and padding may stand on the left or on the right.

Source: transformers' DynamicCache does the same by index. Letters: B batch, K KV heads,
S keys kept, T new tokens, D head_dim. Limits: what a sliding layer dropped is gone, so this
cache cannot rewind; start a new one to edit the past.
"""

import torch
from torch import Tensor

from labhelpers.config import GptOssConfig

PADDING = -1  # the position of a token that nobody may look at


class LayerCache:
    """One layer's keys and values [B, K, S, D] and their positions [B, S]."""

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.positions: Tensor | None = None

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add k, v [B, K, T, D] at positions [B, T]; return all that the new tokens may need.

        The result still holds the keys that the first of the new tokens sees; only what is
        kept for the next call is cut to the window of each row's newest token.
        """
        if self.keys is not None and self.values is not None and self.positions is not None:
            k = torch.cat((self.keys, k), dim=2)  # [B, K, S + T, D]
            v = torch.cat((self.values, v), dim=2)
            positions = torch.cat((self.positions, positions), dim=1)  # [B, S + T]
        self._keep_newest(k, v, positions)
        return k, v, positions

    def _keep_newest(self, k: Tensor, v: Tensor, positions: Tensor) -> None:
        if self.window is not None and positions.shape[1] > self.window:
            # Row by row, the largest positions: padding (-1) is the first to go.
            positions, newest = positions.topk(self.window, dim=1)  # [B, W]
            index = newest[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
            k, v = k.gather(2, index), v.gather(2, index)  # [B, K, W, D]
        self.keys, self.values, self.positions = k, v, positions

    def __len__(self) -> int:
        """Keys kept for each row, padding included."""
        return 0 if self.keys is None else self.keys.shape[2]


class KVCache:
    """The caches of all layers, and how many real tokens each row has seen."""

    def __init__(self, config: GptOssConfig) -> None:
        self.layers = [
            LayerCache(config.sliding_window if kind == "sliding_attention" else None)
            for kind in config.layer_types
        ]
        self.lengths: Tensor | None = None  # [B] int64

    def positions(self, mask: Tensor) -> Tensor:
        """Positions [B, T] of new tokens whose mask [B, T] is True where real; counts them.

        Raises ValueError if the batch size changed since the last call.
        """
        before = mask.new_zeros(len(mask), dtype=torch.int64)
        if self.lengths is not None:
            if len(self.lengths) != len(mask):
                raise ValueError(
                    f"this cache holds {len(self.lengths)} rows, the new ids have {len(mask)}; "
                    "use a new KVCache for a new batch"
                )
            before = self.lengths
        steps = mask.long().cumsum(dim=1)  # [B, T]: 1 for the first real token
        self.lengths = before + steps[:, -1]
        return torch.where(mask, before[:, None] + steps - 1, PADDING)

    def nbytes(self) -> int:
        """Bytes of the keys and values now held."""
        held = [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() * t.element_size() for t in held)
