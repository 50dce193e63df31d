"""What the routers do: which experts each token goes to, and how evenly they are used.

    seen = viz.record_routing(model, ids)   # one forward pass, all layers
    viz.expert_load(seen)                   # layers x experts, by choices
    viz.expert_load(seen, by="weight")      # the same by what the choices count
    viz.token_routing(seen, layer=3, tokenizer=tokenizer)

gpt-oss's choice: every token takes the same number of experts in every layer, and the layers
choose independently. "Load" is the share of all choices in a layer, so an even load is 1 / E. A
choice may count next to nothing: `by="weight"` adds up the routing weights instead of the choices.

Letters: L layers, T tokens, E experts, k experts a token. Limits: one sequence at a time, and
one text is an anecdote: average over many before believing in a specialist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labhelpers.viz import look
from labhelpers.viz.conversation import TokenizerLike, piece
from labhelpers.viz.heatmap import ANNOTATED, draw_heatmap, ticks, token_ticks

if TYPE_CHECKING:
    from torch import Tensor

    from labhelpers.model import GptOss

MOST_TOKENS = 48  # columns that one picture can hold


class Routings(NamedTuple):
    """Every router's choices for one sequence."""

    ids: list[int]  # T token ids
    expert_ids: Tensor  # [L, T, k] int64, highest logit first
    weights: Tensor  # [L, T, k] float32
    num_experts: int

    @property
    def load(self) -> Tensor:
        """Share of a layer's choices that fall on each expert: [L, E], rows sum to 1."""
        import torch

        chosen = self.expert_ids.flatten(1)  # [L, T * k]
        counts = torch.zeros(len(chosen), self.num_experts)
        counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=counts.dtype))
        return counts / chosen.shape[1]

    @property
    def shares(self) -> Tensor:
        """Share of a layer's routing weight that each expert gets: [L, E], rows sum to 1."""
        import torch

        table = torch.zeros(len(self.weights), self.num_experts)
        table.scatter_add_(1, self.expert_ids.flatten(1), self.weights.flatten(1))
        return table / len(self.ids)

    @property
    def by_expert(self) -> Tensor:
        """Routing weights of all tokens and layers [L, T, E], 0 where an expert was not chosen."""
        import torch

        table = torch.zeros(*self.weights.shape[:2], self.num_experts)
        return table.scatter(2, self.expert_ids, self.weights)

    def preferred(self, of: Tensor) -> tuple[float, int, int]:
        """The expert that some tokens, of [T] (bool), choose most above what all tokens do.

        Returns the difference of the two shares, the layer and the expert.
        """
        chosen = (self.by_expert > 0).float()  # [L, T, E]
        above = chosen[:, of].mean(1) - chosen.mean(1)  # [L, E]
        return above.max().item(), *divmod(int(above.argmax()), self.num_experts)

    def by(self, measure: str) -> Tensor:
        """`load` for "choices", `shares` for "weight": [L, E]. Raises ValueError."""
        if measure not in ("choices", "weight"):
            raise ValueError(f'by is "choices" or "weight", not {measure!r}')
        return self.load if measure == "choices" else self.shares

    @classmethod
    def join(cls, several: Sequence[Routings]) -> Routings:
        """Several recordings of one model as one, token after token. Raises ValueError."""
        import torch

        if not several:
            raise ValueError("there is nothing to join: record_routing makes a recording")
        return cls(
            [token for one in several for token in one.ids],
            torch.cat([one.expert_ids for one in several], dim=1),
            torch.cat([one.weights for one in several], dim=1),
            several[0].num_experts,
        )

    def after(self, start: int) -> Routings:
        """The same recording without its first `start` tokens."""
        return Routings(
            self.ids[start:], self.expert_ids[:, start:], self.weights[:, start:], self.num_experts
        )

    def check_layer(self, layer: int) -> None:
        """Raise ValueError for a layer that is not there."""
        if not 0 <= layer < len(self.expert_ids):
            raise ValueError(
                f"layer {layer}: this model has layers 0 to {len(self.expert_ids) - 1}"
            )

    def weight_table(self, layer: int) -> Tensor:
        """Weights of one layer as [E, T], 0 where an expert was not chosen. Raises ValueError."""
        self.check_layer(layer)
        return self.by_expert[layer].T


def record_routing(model: GptOss, ids: Sequence[int] | Tensor) -> Routings:
    """Run the model once over ids (T of them) and keep what its routers chose.

    Raises ValueError if ids hold more than one sequence.
    """
    import torch

    from labhelpers.activations import watch

    found: list[Any] = []  # model.moe.Routing, layer by layer
    layers: Any = model.model.layers
    routers = {f"layer {n}": layer.mlp.router for n, layer in enumerate(layers)}
    row = watch(model, ids, routers, lambda _name, _given, out: found.append(out))
    experts = torch.stack([routing.expert_ids for routing in found]).cpu()
    weights = torch.stack([routing.weights for routing in found]).float().cpu()
    return Routings(row, experts, weights, model.config.num_local_experts)


def expert_load(routings: Routings, by: str = "choices", title: str | None = None) -> look.Picture:
    """Heat map: every expert's share of its layer's choices, or of its weight, in percent.

    The colours say how far a share lies from the even one, which is paper.
    Raises ValueError unless `by` is "choices" or "weight".
    """
    load = 100 * routings.by(by)  # [L, E]
    layers, experts = load.shape
    layer, expert = divmod(int(load.argmax()), experts)
    even = 100 / experts
    with look.style():
        fig, axes = look.figure(height=min(4.0, max(2.2, 1.1 + 0.3 * layers)))
        # From 0 up, all shares would look alike: white is the even share, full colour is twice it.
        above = load - even
        top, words = max(even, float(above.max())), [[f"{v:.0f}" for v in r] for r in load.tolist()]
        draw_heatmap(
            axes, above.tolist(), "points above even", top=top, signed=True,
            words=words if load.numel() <= ANNOTATED else None,
        )  # fmt: skip
        axes.set(xlabel="expert", ylabel="layer")
        often = by == "choices"
        said = "How often each expert is chosen" if often else "How much each expert counts"
        said += f" (% of {by}, white: the even {even:.3g})"
        axes.set_title(title or said)
        ticks(axes, "x", experts)
        ticks(axes, "y", layers)
    text = (
        f"By {by}, shares run from {load.min():.0f}% to {load.max():.0f}% (expert {expert} of "
        f"layer {layer}); an even share is {even:.1f}%."
    )
    return look.Picture(fig, text, load)


def expert_bars(
    routings: Routings, layer: int, by: str = "choices", title: str | None = None
) -> look.Picture:
    """Bars: shares of one layer's experts, beside the even share, `by` as in expert_load.

    Raises ValueError for a layer that is not there, or another `by`.
    """
    routings.check_layer(layer)
    load = (100 * routings.by(by)[layer]).tolist()
    even = 100 / len(load)
    with look.style():
        fig, axes = look.figure(height=2.6)
        ink = look.neutral("text")
        for expert, value in enumerate(load):
            kind = (
                look.palette()["experts"][expert]
                if len(load) <= 8
                else {"color": look.tone("slate", "line"), "hatch": ""}
            )
            axes.bar(expert, value, 0.8, color=kind["color"], hatch=kind["hatch"], edgecolor=ink)
            if len(load) <= 32:
                axes.text(expert, value, f"{value:.0f}", ha="center", va="bottom", size=9)
        axes.axhline(even, color=ink, linestyle="--", linewidth=1)
        axes.annotate(
            "even\nshare", (1, even), xycoords=("axes fraction", "data"), size=9,
            xytext=(4, 0), textcoords="offset points", va="center", annotation_clip=False,
        )  # fmt: skip
        axes.set(ylabel=f"% of {by}", ylim=(0, max(*load, even) * 1.15))
        if len(load) <= 8:
            axes.set_xticks(range(len(load)), [f"e{e}" for e in range(len(load))])
        else:
            ticks(axes, "x", len(load))
            axes.set_xlabel("expert")
        axes.set_title(title or f"The {len(load)} experts of layer {layer}, by {by}")
    text = (
        f"Layer {layer}, by {by}: from {min(load):.0f}% to {max(load):.0f}% an expert; "
        f"an even share is {even:.1f}%."
    )
    return look.Picture(fig, text, load)


def expert_pairs(routings: Routings, layer: int, title: str | None = None) -> look.Picture:
    """Matrix: in how many percent of the tokens two experts of a layer work together.

    Raises ValueError for a layer that is not there.
    """
    import torch

    routings.check_layer(layer)
    chosen = torch.zeros(len(routings.ids), routings.num_experts)
    chosen.scatter_(1, routings.expert_ids[layer], 1.0)  # [T, E], 1 where chosen
    together = 100 * chosen.T @ chosen / len(chosen)  # [E, E]
    below = torch.ones_like(together).tril(-1).bool()  # each pair once
    table = torch.where(below, together, torch.nan)
    first, second = divmod(int(table.nan_to_num(-1).argmax()), routings.num_experts)
    with look.style():
        fig, axes = look.figure(height=3.2)
        draw_heatmap(axes, table[1:, :-1].tolist(), "share of tokens, %")
        axes.set_facecolor(look.neutral("masked"))
        axes.set(xlabel="expert", ylabel="expert")
        ticks(axes, "x", routings.num_experts - 1)
        ticks(axes, "y", routings.num_experts - 1)
        axes.set_yticks(axes.get_yticks(), [str(int(t) + 1) for t in axes.get_yticks()])
        axes.set_title(title or f"Which experts of layer {layer} work on the same token")
    text = (
        f"Layer {layer}: experts {second} and {first} meet most often, "
        f"at {together[first, second]:.0f}% of the tokens."
    )
    return look.Picture(fig, text, together)


def token_routing(
    routings: Routings, layer: int, tokenizer: TokenizerLike, title: str | None = None
) -> look.Picture:
    """Strip: the experts of one layer below each token, darker for a larger weight.

    Raises ValueError for a layer that is not there.
    """
    shown = routings.ids[:MOST_TOKENS]
    table = routings.weight_table(layer)[:, : len(shown)]  # [E, T]
    most = look.colormap("load")
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.5 + 0.24 * len(table)))
        edge, empty = look.tone("blue", "ink"), look.neutral("grid")
        for expert, row in enumerate(table.tolist()):
            # Squares, not circles: round edges of hundreds of dots make a PNG three times larger.
            axes.bar(
                range(len(row)), 0.76, 0.76, bottom=expert - 0.38, zorder=2, linewidth=1.0,
                color=[most(w) if w else look.neutral("paper") for w in row],
                edgecolor=[edge if w else empty for w in row],
            )  # fmt: skip
        token_ticks(axes, [piece(i, tokenizer) for i in shown], top=True)
        axes.set(ylabel="expert", xlim=(-0.7, max(len(shown), 12) - 0.3))
        axes.set_ylim(len(table) - 0.5, -0.5)
        ticks(axes, "y", len(table))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(title or f"Layer {layer}: which experts each token goes to (fill: weight)")
    first = routings.expert_ids[layer, 0].tolist()
    cut = (
        f" The first {len(shown)} of {len(routings.ids)} tokens."
        if len(shown) < len(routings.ids)
        else ""
    )
    text = (
        f"Layer {layer}: the first token, {piece(shown[0], tokenizer)}, goes to experts "
        f"{', '.join(map(str, first))}; expert {first[0]} has the largest weight, "
        f"{routings.weights[layer, 0, 0]:.2f}.{cut}"
    )
    return look.Picture(fig, text, table)


def token_experts(
    routings: Routings, tokenizer: TokenizerLike, title: str | None = None
) -> look.Picture:
    """Heat map: the favourite expert of every token in every layer; shade is its weight.

    At most 36 tokens: each cell carries its expert's number.
    """
    shown = routings.ids[:36]
    best = routings.expert_ids[:, : len(shown), 0].tolist()  # [L, T]
    weights = routings.weights[:, : len(shown), 0]
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.6 + 0.26 * len(best)))
        words = [[str(e) for e in row] for row in best]
        draw_heatmap(
            axes, weights.tolist(), "weight", top=1.0, words=words, size=9 if len(shown) < 32 else 8
        )
        token_ticks(axes, [piece(i, tokenizer) for i in shown])
        ticks(axes, "y", len(best))
        axes.set(ylabel="layer")
        axes.set_title(title or "Each token's favourite expert, layer by layer")
    same = len({tuple(column) for column in zip(*best, strict=True)})
    text = f"{len(shown)} tokens take {same} different paths through the favourite experts."
    return look.Picture(fig, text, best)
