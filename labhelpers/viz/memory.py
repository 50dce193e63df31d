"""Where the bytes are, and on which card they fit: gpt-oss packed and unpacked.

    viz.byte_shares({"20b": preset("gpt-oss-20b")})   # bf16, experts packed, all packed
    viz.fits(context=8192)                            # models x cards
    viz.memory_table(context=8192)                    # the same bytes as a table
    viz.hardware_paths()                              # which hardware runs which path

gpt-oss's choice: experts are 91% (20b) and 98% (120b) of the parameters, so packing them and
nothing else leaves a third of the bytes, and what would hurt most stays exact.

Source: `labhelpers.accounting`, `labhelpers.mxfp4.paths` and `hardware` (each entry's source).
Limits: weights and a tenth, and the KV cache of one sequence; a card's memory as sold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labhelpers.accounting import MXFP4_BITS, weight_bytes
from labhelpers.config import GptOssConfig
from labhelpers.viz import look
from labhelpers.viz.components import Component, escape
from labhelpers.viz.parameters import _bytes, _draw, _grouped, _legend, quantity
from labhelpers.viz.table import Table, table

if TYPE_CHECKING:
    from labhelpers.mxfp4.paths import Form

MODELS = ("gpt-oss-20b", "gpt-oss-120b")
FORMS: tuple[Form, ...] = ("packed", "bf16")
SIGNS = "✓ runs, ✗ does not, ? neither code nor documents settle it"
TIGHT = 2  # GB left, below which a card is a gamble: it never has all that it is sold with
STORED = ("all bf16", "experts packed", "all packed")


def byte_shares(configs: Mapping[str, GptOssConfig], title: str | None = None) -> look.Picture:
    """Three bars a model, in percent of its bf16 bytes: all bf16, experts packed, all packed."""
    rows, ends = {}, {}
    for name, config in configs.items():
        whole = _bytes(config, mxfp4=False)
        total = sum(whole.values())
        packed = _bytes(config, mxfp4=True)
        everything = _grouped(weight_bytes(config, MXFP4_BITS, MXFP4_BITS))
        scales = everything["experts"] * (MXFP4_BITS - 4) / MXFP4_BITS
        everything |= {"experts": everything["experts"] - scales, "expert scales": scales}
        for form, parts in zip(STORED, (whole, packed, everything), strict=True):
            row = f"{name}, {form}"
            rows[row] = {part: 100 * value / total for part, value in parts.items()}
            ends[row] = sum(parts.values())
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.3 + 0.3 * len(rows)))
        _draw(axes, rows, "{:.0f}%")
        for place, (name, size) in enumerate(ends.items()):
            axes.text(sum(rows[name].values()) + 1, place, quantity(size, "B"), va="center",
                      weight="bold", size=9)  # fmt: skip
        axes.set(xlabel="% of the bytes in bf16", xlim=(0, 113))
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(title or "The larger the model, the more its experts save")
        _legend(fig, axes, rows)
    lines = []
    for name in configs:
        sizes = [ends[f"{name}, {form}"] for form in STORED]
        won = 100 * (sizes[0] - sizes[1]) / (sizes[0] - sizes[2])
        bf16, some, everything_ = (quantity(size, "B") for size in sizes)
        lines.append(
            f"{name}: {bf16} in bf16, {some} with its experts packed, {everything_} with all of it "
            f"packed: the experts are {won:.0f}% of the gain."
        )
    return look.Picture(fig, "\n".join(lines), rows)


def fits(context: int = 8192, title: str | None = None) -> look.Picture:
    """A matrix of cards and models: GB to spare (✓; "tight" below 2 GB), or missing (✗).

    A model takes its weights, a tenth more, and the KV cache of one sequence of `context` tokens.
    Raises ValueError for a negative context.
    """
    from matplotlib.patches import Rectangle

    from labhelpers.mxfp4.hardware import CARDS
    from labhelpers.mxfp4.paths import need

    needs = {
        f"{m.removeprefix('gpt-oss-')} {f}": need(m, f, context) for m in MODELS for f in FORMS
    }
    left = {
        card.gigabytes: {n: card.gigabytes - d.total / 1e9 for n, d in needs.items()}
        for card in CARDS
    }
    with look.style():
        fig, axes = look.figure(height=4.0)
        for row, card in enumerate(CARDS):
            for column, spare in enumerate(left[card.gigabytes].values()):
                good = spare >= 0
                axes.add_patch(Rectangle(
                    (column + 0.02, row + 0.06), 0.96, 0.88, linewidth=0,
                    facecolor=look.tone("teal", "fill") if good else look.neutral("masked"),
                ))  # fmt: skip
                words = f"{'✓' if good else '✗'} {spare:+.{0 if abs(spare) > 2 else 1}f}"
                words += ", tight" if 0 <= spare < TIGHT else ""
                axes.text(column + 0.5, row + 0.52, words, ha="center", va="center", size=9)
        axes.set(xlim=(0, len(needs)), ylim=(len(CARDS), 0))
        heads = [f"{n}\n{d.total / 1e9:.1f} GB" for n, d in needs.items()]
        axes.set_xticks([c + 0.5 for c in range(len(needs))], heads)
        axes.xaxis.tick_top()
        labels = [f"{c.names}  {c.gigabytes} GB" for c in CARDS]
        axes.set_yticks([r + 0.5 for r in range(len(CARDS))], labels, size=8.5)
        axes.tick_params(length=0)
        axes.set_xlabel(f"GB left (✓) or missing (✗), a KV cache of {context:,} tokens included")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title or "What fits in the memory of one card")
    lines = []
    for name, wanted in needs.items():
        first = next((c for c in CARDS if left[c.gigabytes][name] >= 0), None)
        where = f"from {first.gigabytes} GB up ({first.names})" if first else "on none of them"
        where += ", tightly" if first and left[first.gigabytes][name] < TIGHT else ""
        lines.append(f"{name}: {wanted.total / 1e9:.1f} GB, fits {where}.")
    return look.Picture(fig, "\n".join(lines), left)


def memory_table(context: int = 8192) -> Table:
    """Weights, KV cache and their sum with a tenth more, in GB, for each model and form."""
    from labhelpers.mxfp4.paths import need

    rows = []
    for model in MODELS:
        for form in FORMS:
            wanted = need(model, form, context)
            numbers = (wanted.weights, wanted.cache, wanted.total)
            rows.append([f"{model}, {form}", *(f"{n / 1e9:.1f}" for n in numbers)])
    return table(["GB", "weights", f"KV cache, {context:,} tokens", "with 10% more"], rows)


class HardwarePaths(Component):
    """The compatibility table; `rows` are `labhelpers.mxfp4.hardware.HARDWARE`.

    With `sources` a letter stands behind each entry, and a list below says what it means.
    """

    HEAD = ("", "packed MXFP4", "FlashAttention 3, sinks", "MegaBlocks (use_kernels=True)",
            "what happens instead")  # fmt: skip

    def __init__(self, sources: bool = False) -> None:
        from labhelpers.mxfp4.hardware import HARDWARE

        self.rows, self.sources = HARDWARE, sources

    def _cells(self) -> list[list[str]]:
        out = []
        for row in self.rows:
            name = f"{row.name} ({row.examples})"
            entries = (row.packed, row.flash, row.megablocks, row.otherwise)
            ends = [f" [{', '.join(e.sources)}]" if self.sources else "" for e in entries]
            out.append([name, *(f"{_sign(e.verdict)}{e.text}{end}"
                                for e, end in zip(entries, ends, strict=True))])  # fmt: skip
        return out

    def html(self) -> str:
        cell = "text-align:left;vertical-align:top;padding:3px 10px 3px 0;white-space:normal"
        head = "".join(f'<th style="{cell}">{escape(h)}</th>' for h in self.HEAD)
        rows = "".join(
            "<tr>" + "".join(f'<td style="{cell}">{escape(text)}</td>' for text in row) + "</tr>"
            for row in self._cells()
        )
        page = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        notes = "".join(f"<div><b>{k}</b> {escape(v)}</div>" for k, v in self._sources())
        return f"{page}<p>{escape(SIGNS)}</p>{notes}"

    def plain(self) -> str:
        lines = [" | ".join(filter(None, self.HEAD))]
        for name, *cells in self._cells():
            lines += [name, "    " + " | ".join(cells)]
        return "\n".join([*lines, SIGNS, *(f"{k} {v}" for k, v in self._sources())])

    def _sources(self) -> list[tuple[str, str]]:
        from labhelpers.mxfp4.hardware import SOURCES

        return list(SOURCES.items()) if self.sources else []


def _sign(verdict: str) -> str:
    signs = {"yes": "✓ ", "no": "✗ ", "?": "? "}
    return signs.get(verdict, f"{verdict}: ")


def hardware_paths(sources: bool = False) -> HardwarePaths:
    """Which hardware runs which path of transformers, and what happens where it does not."""
    return HardwarePaths(sources)
