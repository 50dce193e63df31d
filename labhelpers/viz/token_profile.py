"""Where a token's time goes on a GPU, and why a fused kernel reads an eighth of the bytes.

    viz.two_ways()                         # unpack-then-multiply against unpack-in-registers
    viz.kernel_limits(record)              # how near each kernel comes to the card's limit
    viz.token_profile("recorded.json")     # microseconds of a token, part by part
    viz.token_limits("recorded.json", 3020)  # and how near each part comes to the bandwidth

The idea   at batch 1 each weight is used once: decoding is as fast as weights can be read. A
           weight of 4.25 bits is 0.53 bytes; unpacking it to memory first writes 2 more and reads
           them again.
Source     the bytes are arithmetic; a profile is what a benchmark recorded, and names its machine.
Limits     bytes of weights only: at batch 1 activations are too small to see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labhelpers.accounting import MXFP4_BITS
from labhelpers.viz import look
from labhelpers.viz.table import Table, table

PACKED = MXFP4_BITS / 8  # bytes a weight
BF16 = 2.0


def two_ways(title: str | None = None) -> look.Picture:
    """Two rows of boxes: what crosses the memory bus for one weight, by either way."""
    from matplotlib.patches import FancyArrowPatch, Rectangle

    ways = {
        "unpack, then multiply": (
            ("memory", "MXFP4"), PACKED, ("registers", "unpack"), BF16, ("memory", "bf16"), BF16,
            ("registers", "multiply"),
        ),
        "unpack in registers": (("memory", "MXFP4"), PACKED, ("registers", "unpack, multiply")),
    }  # fmt: skip
    totals = {}
    with look.style():
        fig, axes = look.figure(height=2.6)
        for row, (way, stops) in enumerate(ways.items()):
            totals[way] = sum(s for s in stops if isinstance(s, float))
            axes.text(0, 2.2 * row - 0.72, f"{way}: {totals[way]:.2f} bytes a weight", size=10,
                      weight="bold")  # fmt: skip
            for place, stop in enumerate(stops):
                x = 1.3 * place
                wide = 1.9 if place == 2 and len(stops) == 3 else 1.15
                if isinstance(stop, float):
                    axes.add_patch(FancyArrowPatch(
                        (x - 0.2, 2.2 * row), (x + 1.24, 2.2 * row), arrowstyle="-|>", shrinkA=0,
                        shrinkB=0, mutation_scale=8 + 5 * stop, linewidth=1 + 3.2 * stop,
                        color=look.tone("orange" if stop > 1 else "teal"),
                    ))  # fmt: skip
                    written = stops[place + 1][0] == "memory"  # type: ignore[index]
                    verb = "written" if written else "read"
                    axes.text(x + 0.42, 2.2 * row + 0.5, f"{stop:.2f} B\n{verb}", ha="center",
                              va="center", size=8.5)  # fmt: skip
                    continue
                kind, text = stop
                hue = "slate" if kind == "memory" else "blue"
                axes.add_patch(Rectangle(
                    (x - 0.05, 2.2 * row - 0.42), wide, 0.84, zorder=3,
                    facecolor=look.tone(hue, "fill"), edgecolor=look.tone(hue, "ink"),
                    linestyle="-" if kind == "memory" else "--",
                ))  # fmt: skip
                axes.text(x - 0.05 + wide / 2, 2.2 * row, f"{kind}\n{text}", ha="center",
                          va="center", size=8.5, zorder=4)  # fmt: skip
        axes.set(xlim=(-0.1, 9.0), ylim=(2.95, -1.0))
        axes.set_axis_off()
        axes.set_xlabel("one weight's way")
        axes.set_title(title or "What crosses the memory bus for one weight")
    slow, fast = totals.values()
    text = (
        f"Unpacking to memory first moves {slow:.2f} bytes a weight, unpacking in registers "
        f"{fast:.2f}: {slow / fast:.1f} times fewer. Weights kept as bf16: {BF16:.2f}."
    )
    return look.Picture(fig, text, totals)


# The kernels of `labhelpers.kernels.decoder` in words, in the order in which a layer runs them.
KERNELS = {
    "_embed": "embedding",
    "_qkv": "attention: q, k, v",
    "_attend": "attention: over the cache",
    "_o_proj": "attention: output",
    "_route": "norm, router",
    "_to_planes": "experts: activations",
    "_gate_up": "experts: gate, up",
    "_down": "experts: down",
    "_head": "output head",
    "_choose": "choose the token",
}


def read_profile(profile: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """A profile as a dictionary: "parts" {name: microseconds}, "launches" {name: times}, "what".

    profile: a file or dictionary as `benchmarks/whole_model.py` records it, or simply {"parts":
    {name: microseconds}}, with "limits", "what" and "machine" if there are any.
    Raises ValueError if there are no parts, or one is negative.
    """
    found: dict[str, Any] = (
        json.loads(Path(profile).read_text(encoding="utf-8"))
        if isinstance(profile, str | Path)
        else dict(profile)
    )
    times, launches = {}, {}
    for kernel, part in (found.get("parts") or {}).items():
        name = KERNELS.get(kernel, kernel)
        recorded = isinstance(part, Mapping)
        times[name] = float(part["us"] if recorded else part)
        launches[name] = int(part["launches"]) if recorded else 1
    if not times or min(times.values()) < 0:
        raise ValueError('a profile needs "parts": {name: microseconds}, none of them negative')
    if "what" not in found and "model" in found:
        context, batch = found.get("context", 0), found.get("batch", 1)
        found["what"] = f"{found['model']}'s shape, batch {batch}, {context:,} tokens in the cache"
    return found | {"parts": times, "launches": launches}


def token_profile(
    profile: str | Path | Mapping[str, Any],
    machine: str | None = None,
    read_gb_s: float | None = None,
    title: str | None = None,
) -> look.Picture:
    """A bar a part in microseconds; its limit (bytes over bandwidth), where given, is darker.

    profile: a JSON file or a dictionary, as in `read_profile`; at most 12 parts (ValueError).
    machine: the card that it was recorded on, unless the profile says it. read_gb_s: what it
    reads a second, in GB; with the profile's "bytes" it gives the bound of the whole token.
    """
    found = read_profile(profile)
    found["machine"] = machine or found.get("machine")
    parts, launches = found["parts"], found["launches"]
    limits = {str(k): float(v) for k, v in (found.get("limits") or {}).items()}
    if len(parts) > 12:
        raise ValueError(f"at most 12 parts can be read in one picture, got {len(parts)}")
    total, widest = sum(parts.values()), max(parts.values())
    hues = {"expert": "teal", "attention": "blue", "head": "olive", "embed": "olive",
            "router": "rose", "norm": "rose", "cache": "violet"}  # fmt: skip
    with look.style():
        fig, axes = look.figure(height=min(4.0, max(1.6, 1.25 + 0.3 * len(parts))))
        for row, (name, value) in enumerate(parts.items()):
            hue = next((h for word, h in hues.items() if word in name.lower()), "slate")
            axes.barh(row, value, 0.68, color=look.tone(hue, "fill"),
                      edgecolor=look.tone(hue, "ink"))  # fmt: skip
            if limits.get(name):
                axes.barh(row, min(limits[name], value), 0.3, color=look.tone(hue, "ink"))
            axes.text(value + 0.01 * widest, row, f"{value:.0f} µs, {100 * value / total:.0f}%",
                      va="center", size=9)  # fmt: skip
        times = [f" (x {launches[n]})" if launches[n] > 1 else "" for n in parts]
        axes.set_yticks(range(len(parts)), [n + t for n, t in zip(parts, times, strict=True)])
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.set(xlabel="microseconds of one token" + (
            " (dark: reading its bytes at full bandwidth)" if limits else ""))  # fmt: skip
        axes.set_xlim(0, 1.2 * widest)
        axes.tick_params(axis="y", length=0)
        look.grid(axes, "x")
        axes.set_title(title or f"A token takes {total:,.0f} µs: where they go")
    where = ", ".join(str(found[k]) for k in ("what", "machine") if found.get(k))
    words = "; ".join(f"{name} {value:.0f}" for name, value in parts.items())
    text = f"{where + ': ' if where else ''}{total:,.0f} µs a token ({1e6 / total:,.0f} a second): "
    text += f"{words}."
    bound = sum(limits.values())
    if not limits and read_gb_s and isinstance(found.get("bytes"), Mapping):
        bound = sum(found["bytes"].values()) / read_gb_s / 1e3  # GB/s are 1e3 bytes a microsecond
    if bound:
        text += f" Reading the bytes alone: {bound:,.0f} µs, {100 * bound / total:.0f}% of it."
    return look.Picture(fig, text, {"parts": parts, "limits": limits, "total": total})


# What a part of the model reads, and the kernels that read it.
_READERS = {
    "experts": (("experts",), ("_gate_up", "_down")),
    "attention": (("attention", "keys and values"), ("_qkv", "_attend", "_o_proj")),
    "router and norms": (("router and norms",), ("_route",)),
    "output head": (("head",), ("_head",)),
}


def token_limits(profile: str | Path | Mapping[str, Any], read_gb_s: float) -> Table:
    """A row a part: bytes it reads for a token, microseconds it takes, and would take at best.

    profile: recorded with bytes, as `benchmarks/whole_model.py` does. read_gb_s: what the card
    reads a second, in GB. Embedding and choice, a few microseconds, are left out of the parts and
    are in the total. Raises ValueError without bytes, or for a bandwidth that is not positive.
    """
    found = read_profile(profile)
    if not isinstance(found.get("bytes"), Mapping) or read_gb_s <= 0:
        raise ValueError('token_limits needs the profile\'s "bytes" and a bandwidth above 0')
    rows = []
    totals = [sum(found["bytes"].values()), sum(found["parts"].values())]
    for part, (read, kernels) in _READERS.items():
        size = sum(found["bytes"].get(name, 0) for name in read)
        rows.append((part, size, sum(found["parts"].get(KERNELS[k], 0.0) for k in kernels)))
    rows.append(("a token", *totals))
    return table(
        ["part", "reads", "takes", "at full bandwidth", "of it"],
        [[part, _size(size), f"{us:,.0f} µs", f"{size / read_gb_s / 1e3:,.0f} µs",
          f"{100 * size / read_gb_s / 1e3 / us:.0f}%" if us else "-"]
         for part, size, us in rows],
    )  # fmt: skip


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def kernel_limits(record: Mapping[str, Any], title: str | None = None) -> look.Picture:
    """A bar a kernel and size, a panel a model: how much of the card's limit it reaches.

    record: as `benchmarks/kernels.py` writes it, {"rows": [{"model", "kernel", "tokens", "share",
    "limit", "us", "peer_us"}]}. Solid bars are bound by bytes ("copy" or "read"), hatched ones by
    arithmetic ("matmul"). In brackets stands how many times as fast as its peer it is. Raises
    ValueError for a record of no or more than two models, or more than 12 rows for one.
    """
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in record.get("rows") or []:
        tokens = row.get("tokens")
        size = f", {tokens:,} token{'s' if tokens > 1 else ''}" if tokens else ""
        rows.setdefault(row["model"], {})[row["kernel"] + size] = row
    if not 1 <= len(rows) <= 2 or max(map(len, rows.values())) > 12:
        raise ValueError("kernel_limits draws 1 or 2 models of at most 12 rows each")
    names = list(dict.fromkeys(name for one in rows.values() for name in one))
    most = max(100 * row["share"] for one in rows.values() for row in one.values())
    with look.style():
        fig, panels = look.figure(
            min(4.0, 1.3 + 0.28 * len(names)), columns=len(rows), sharey=True, squeeze=False
        )
        for axes, (model, one) in zip(panels[0], rows.items(), strict=True):
            for place, name in enumerate(names):
                if name not in one:
                    continue
                share, bytes_bound = 100 * one[name]["share"], one[name]["limit"] != "matmul"
                hue = "blue" if bytes_bound else "orange"
                axes.barh(place, share, 0.68, color=look.tone(hue, "fill"),
                          edgecolor=look.tone(hue, "ink"),
                          hatch="" if bytes_bound else "///")  # fmt: skip
                times = one[name]["peer_us"] / one[name]["us"]
                axes.text(share + 2, place, f"{share:.0f}% ({times:.1f}x)", va="center", size=9,
                          bbox={"facecolor": look.neutral("paper"), "edgecolor": "none",
                                "pad": 0.5}, zorder=4)  # fmt: skip
            axes.axvline(100, color=look.neutral("muted"), linestyle="--", linewidth=1, zorder=1)
            axes.set(xlim=(0, max(150, most + 45)), ylim=(len(names) - 0.5, -0.5))
            axes.set_xticks(range(0, 101, 25))
            axes.set_xlabel("% of the limit (hatched: of arithmetic)")
            axes.set_title(f"{model}'s shape")
            axes.tick_params(axis="y", length=0)
            look.grid(axes, "x")
        panels[0, 0].set_yticks(range(len(names)), names)
        if title:
            fig.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
    lines = []
    for model, one in rows.items():
        said = []
        for kernel in dict.fromkeys(row["kernel"] for row in one.values()):
            mine = [row for row in one.values() if row["kernel"] == kernel]
            for limit in dict.fromkeys(row["limit"] for row in mine):
                some = [row for row in mine if row["limit"] == limit]
                shares = _span([100 * row["share"] for row in some], ".0f")
                times = _span([row["peer_us"] / row["us"] for row in some], ".1f")
                said.append(f"{kernel} {shares}% of {limit} ({times}x)")
        lines.append(f"{model}: {'; '.join(said)}.")
    return look.Picture(fig, "\n".join(lines), rows)


def _span(values: Sequence[float], form: str) -> str:
    """The smallest and the largest, or the one if they read the same."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
