"""Where the parameters and the bytes are, as stacked bars computed from a config alone.

gpt-oss's choice: more than nine tenths of the parameters are experts, stored in 4.25 bits each
(4 for the number, 8 shared by a block of 32), and a token passes through 4 experts a layer. So
the parameters are in the experts, the bytes much less so, and the work hardly at all.

Source: `labhelpers.accounting`, which reproduces the model card's table. Limits: weights only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labhelpers.accounting import (
    MXFP4_BITS,
    count_active_parameters,
    count_parameters,
    weight_bytes,
)
from labhelpers.config import GptOssConfig
from labhelpers.viz import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a legend says -> the palette's concept. A bar is drawn in this order.
_PARTS = {
    "embedding, output head": "embedding_and_head",
    "attention": "attention",
    "router, norms": "router_and_norms",
    "experts": "expert_blocks",
    "expert scales": "expert_scales",
}
_HATCH = {"router_and_norms": "xxx", "expert_scales": "///"}

Parts = dict[str, float]


def _grouped(parts: Mapping[str, int]) -> Parts:
    """accounting's parts under the names of the legend."""
    return {
        "embedding, output head": parts["embedding"] + parts["unembedding"],
        "attention": parts["attention"],
        "router, norms": parts["router"] + parts["norms"],
        "experts": parts["experts"],
    }


def _bytes(config: GptOssConfig, mxfp4: bool) -> Parts:
    if not mxfp4:
        return _grouped(weight_bytes(config, expert_bits=16))
    whole = weight_bytes(config, expert_bits=MXFP4_BITS)
    blocks = weight_bytes(config, expert_bits=4)["experts"]
    grouped = _grouped(whole)
    return grouped | {"experts": blocks, "expert scales": whole["experts"] - blocks}


def parameter_bars(configs: Mapping[str, GptOssConfig], title: str | None = None) -> look.Picture:
    """A bar a model: the share of each part in its parameters, the total at its end."""
    rows = {name: _grouped(count_parameters(c)) for name, c in configs.items()}
    return _shares(
        rows,
        "share of the parameters, %",
        "",
        title or "Parameters: the larger the model, the more of it is experts",
    )


def byte_bars(
    configs: Mapping[str, GptOssConfig], mxfp4: bool = True, title: str | None = None
) -> look.Picture:
    """A bar a model: the share of each part in its bytes as stored (or all in bfloat16)."""
    rows = {name: _bytes(c, mxfp4) for name, c in configs.items()}
    default = (
        "Bytes as stored: experts at 4.25 bits, all else at 16"
        if mxfp4
        else ("Bytes in bfloat16: 2 for every parameter")
    )
    return _shares(rows, "share of the bytes, %", "B", title or default)


def active_bars(configs: Mapping[str, GptOssConfig], title: str | None = None) -> look.Picture:
    """Two bars a model, in billions: all parameters, and those that one token uses."""
    rows: dict[str, Parts] = {}
    for name, config in configs.items():
        rows[f"{name} total"] = _grouped(count_parameters(config))
        rows[f"{name} active"] = _grouped(count_active_parameters(config))
    sums = {name: sum(parts.values()) for name, parts in rows.items()}
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.5 + 0.42 * len(rows)))
        _draw(axes, {n: {p: v / 1e9 for p, v in parts.items()} for n, parts in rows.items()})
        for row, total in enumerate(sums.values()):
            axes.text(total / 1e9, row, f"  {quantity(total)}", va="center", weight="bold")
        axes.set_xlabel("parameters, billions")
        axes.set_xlim(0, max(sums.values()) / 1e9 * 1.12)
        axes.set_title(title or "A token uses a small part of the model")
        _legend(fig, axes, rows)
    text = "; ".join(
        f"{name}: {quantity(sums[name + ' active'])} of {quantity(sums[name + ' total'])} "
        f"({100 * sums[name + ' active'] / sums[name + ' total']:.1f}%)" for name in configs
    )  # fmt: skip
    return look.Picture(fig, f"Active parameters: {text}.", rows)


def _shares(rows: dict[str, Parts], axis: str, unit: str, title: str) -> look.Picture:
    totals = {name: sum(parts.values()) for name, parts in rows.items()}
    shares = {
        name: {p: 100 * v / totals[name] for p, v in parts.items()} for name, parts in rows.items()
    }
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.6 + 0.46 * len(rows)))
        _draw(axes, shares, "{:.0f}%")
        for row, total in enumerate(totals.values()):
            axes.text(100, row, f"  {quantity(total, unit)}", va="center", weight="bold")
        axes.set_xlabel(axis)
        axes.set_xlim(0, 113)
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(title)
        _legend(fig, axes, rows)
    # Every value in words: thin segments carry no number in the picture.
    lines = [
        f"{name}, {quantity(totals[name], unit)}: "
        + ", ".join(f"{part} {share:.1f}%" for part, share in parts.items())
        for name, parts in shares.items()
    ]
    return look.Picture(fig, "\n".join(lines), rows)


def _draw(axes: Axes, rows: dict[str, Parts], number: str = "{:.1f}") -> None:
    widest = max(sum(parts.values()) for parts in rows.values())
    for row, parts in enumerate(rows.values()):
        start = 0.0
        for part, value in parts.items():
            if value <= 0:
                continue  # no zero segment
            kind = look.concept("model_part", _PARTS[part])
            axes.barh(
                row, value, 0.62, left=start, color=look.tone(kind["hue"], kind["tone"]),
                hatch=_HATCH.get(_PARTS[part], ""), linewidth=0.8,
                edgecolor=look.neutral("paper") if kind["tone"] == "line" else look.tone(
                    kind["hue"], "ink"),
            )  # fmt: skip
            if value >= 0.07 * widest:
                axes.text(
                    start + value / 2,
                    row,
                    number.format(value),
                    ha="center",
                    va="center",
                    weight="bold",
                    size=9,
                )
            start += value
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    look.grid(axes, "x")


def _legend(fig, axes: Axes, rows: dict[str, Parts]) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.patches import Patch

    used = [p for p in _PARTS if any(parts.get(p, 0) > 0 for parts in rows.values())]
    handles = []
    for part in used:
        kind = look.concept("model_part", _PARTS[part])
        handles.append(Patch(
            facecolor=look.tone(kind["hue"], kind["tone"]), label=part,
            hatch=_HATCH.get(_PARTS[part], ""), edgecolor=look.tone(kind["hue"], "ink"),
        ))  # fmt: skip
    fig.legend(
        handles=handles, loc="outside lower left", ncols=len(used), handlelength=1.2,
        columnspacing=1.4,
    )  # fmt: skip


def quantity(value: float, unit: str = "") -> str:
    """A count for people: 20.9B parameters, 13.8 GB (unit "B"), 14.6M, 950."""
    sizes = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3))
    for letter, size in sizes:
        if value >= size:
            letter = letter.replace("B", "G") if unit else letter
            return f"{value / size:.1f} {letter}{unit}" if unit else f"{value / size:.1f}{letter}"
    return f"{value:.0f} {unit}".rstrip()
