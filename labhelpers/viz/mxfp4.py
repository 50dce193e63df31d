"""MXFP4 on real weights: one block and its rounding, nibble orders, histograms, errors.

    viz.one_block(values)                 # 32 weights, and their errors by two scale rules
    viz.nibble_orders()                   # the same 32 codes in Hugging Face's and GGML's bytes
    viz.weight_histogram(weight)          # a tensor, and how often each value is used
    viz.scheme_errors(error_table([...])) # the error of each scheme

The idea   32 weights share a power of two; what is rounded is the weight in steps of it.
Source     `labhelpers.mxfp4.scales` (rules), `grid` (rounding), `ggml` (order), `compare`.
Limits     one block or one tensor at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labhelpers.viz import look
from labhelpers.viz.mxfp4_bits import line_values, number, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from labhelpers.mxfp4.compare import Errors
    from labhelpers.mxfp4.scales import Rule

MOST_RULES = 3


def rounded_block(values: Any, rule: Rule) -> dict[str, Any]:
    """A block [32] under a rule: scale byte, rounded values, errors (weight - rounded), clipped."""
    import torch

    from labhelpers.mxfp4.format import fake_quantize
    from labhelpers.mxfp4.scales import choose_scales

    block = torch.as_tensor(values, dtype=torch.float32).flatten()
    if block.shape != (32,):
        raise ValueError(f"a block has 32 weights, got {block.numel()}")
    byte = int(choose_scales(block[None], rule)[0, 0])
    rounded = fake_quantize(block, rule)
    size = block.square().mean().sqrt().item() or 1.0
    rms = (rounded - block).square().mean().sqrt().item() / size
    limit = 6 * 2.0 ** (byte - 127)
    errors = (block - rounded).tolist()
    clipped = [i for i, v in enumerate(block.tolist()) if abs(v) > limit]
    return {"scale": byte, "rounded": rounded.tolist(), "errors": errors, "rms": rms,
            "largest": max(map(abs, errors)), "clipped": len(clipped), "where": clipped,
            "limit": limit}  # fmt: skip


def one_block(
    values: Any, rules: Sequence[Rule] = ("floor", "round_up"), title: str | None = None
) -> look.Picture:
    """The 32 weights of a block, and under them what each rule makes wrong of every one.

    Error: weight - rounded weight, all rules on one axis, ✗ where a weight is clipped. The pale
    band is half the finest step: small weights cannot be further off. A panel a rule, 1 to 3 of
    them. Raises ValueError for other numbers of weights or rules.
    """
    from matplotlib.figure import Figure

    if not 1 <= len(rules) <= MOST_RULES:
        raise ValueError(f"1 to {MOST_RULES} rules, got {list(rules)}")
    results = {rule: rounded_block(values, rule) for rule in rules}
    block = [float(v) for v in values]
    errors = [abs(e) for r in results.values() for e in r["errors"]]
    largest, most = max(map(abs, block)) or 1.0, max(errors) or 1.0
    with look.style():
        fig = Figure(figsize=(look.WIDTH, min(4.0, 1.35 + 1.2 * len(rules))))
        panels = fig.subplots(1 + len(rules), 1, sharex=True)
        _block_bars(panels[0], block, "slate")
        panels[0].set(ylim=(-1.15 * largest, 1.15 * largest), ylabel="weight")
        panels[0].set_title(title or "A block of 32 weights, and what rounding takes from each")
        for axes, (rule, found) in zip(panels[1:], results.items(), strict=True):
            _block_bars(axes, found["errors"], "blue", found["where"])
            half = 2.0 ** (found["scale"] - 127) / 4
            axes.axhspan(-half, half, color=look.neutral("masked"), zorder=0)
            for i in found["where"]:
                error = found["errors"][i]
                axes.text(i + 0.55, error, "✗ clipped", va="top" if error > 0 else "bottom",
                          size=9, color=look.tone("orange", "ink"))  # fmt: skip
            axes.set(ylim=(-1.25 * most, 1.25 * most), ylabel="error")
            said = f"{rule}: scale {power(found['scale'])}, largest error {found['largest']:.2g}, "
            axes.set_title(said + f"root mean square {100 * found['rms']:.1f}%", size=10)
        panels[-1].set_xlabel("place in the block (band: half the finest step)")
    lines = [
        f"{rule}: scale byte {r['scale']}, error {100 * r['rms']:.1f}% of the block's root mean "
        f"square, the largest {r['largest']:.2g}, {r['clipped']} clipped"
        + (f" to {number(r['limit'])}" if r["clipped"] else "")
        for rule, r in results.items()
    ]
    return look.Picture(fig, "\n".join(lines), results)


def _block_bars(axes: Axes, values: Sequence[float], hue: str, clipped: Sequence[int] = ()) -> None:
    """A bar for each of 32 values from 0, those of clipped weights orange and hatched."""
    hues = ["orange" if i in clipped else hue for i in range(len(values))]
    axes.bar(range(len(values)), values, 0.8, zorder=2, linewidth=0.7,
             color=[look.tone(h, "fill") for h in hues],
             edgecolor=[look.tone(h, "ink") for h in hues],
             hatch=["///" if h == "orange" else "" for h in hues])  # fmt: skip
    axes.axhline(0, color=look.neutral("muted"), linewidth=0.7, zorder=1)
    axes.set_xlim(-0.8, 31.8)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def nibble_orders(title: str | None = None) -> look.Picture:
    """Which of a block's 32 values lies in which half of which byte, in two file formats.

    A column is a byte, the high nibble above the low one.
    """
    from matplotlib.patches import Rectangle

    orders = {
        "Hugging Face": [(2 * j, 2 * j + 1) for j in range(16)],
        "GGML": [(j, j + 16) for j in range(16)],
    }
    with look.style():
        fig, axes = look.figure(height=3.0)
        for row, pairs in enumerate(orders.values()):
            for byte, (low, high) in enumerate(pairs):
                for half, value in enumerate((high, low)):
                    late = value >= 16
                    top = 2.9 * row + half
                    axes.add_patch(Rectangle(
                        (byte + 0.06, top), 0.88, 1.0, linewidth=0.8,
                        facecolor=look.tone("blue" if late else "olive", "fill"),
                        edgecolor=look.tone("blue" if late else "olive", "ink"),
                    ))  # fmt: skip
                    axes.text(byte + 0.5, top + 0.54, str(value), ha="center", va="center",
                              size=10, weight="bold" if late else "normal")  # fmt: skip
        axes.set(xlim=(0, 16), ylim=(4.95, -0.1))
        axes.set_xlabel("byte of the block (values 0 to 15 olive, 16 to 31 blue and bold)")
        axes.set_xticks([b + 0.5 for b in range(16)], [str(b) for b in range(16)])
        labels = [f"{name}, {half}" for name in orders for half in ("high nibble", "low nibble")]
        axes.set_yticks([0.5, 1.5, 3.4, 4.4], labels)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title or "The same 32 values in two orders: repack, don't copy")
    text = (
        "Hugging Face: byte j holds value 2j (low nibble) and 2j + 1 (high nibble). GGML: byte j "
        "holds value j (low) and j + 16 (high)."
    )
    return look.Picture(fig, text, orders)


def weight_histogram(
    weight: Tensor, rule: Rule = "round_up", title: str | None = None
) -> look.Picture:
    """Left the weights, right how often each value is used once they are rounded.

    weight [..., K], K the input dimension, which 32 must divide (ValueError).
    """
    import torch

    from labhelpers.mxfp4.format import as_blocks, quantize, unpack

    flat = weight.detach().float()
    as_blocks(flat)
    blocks, scales = quantize(flat, rule)
    codes = unpack(blocks).flatten().long()
    from labhelpers.mxfp4.grid import FP4_VALUES

    used = torch.tensor(FP4_VALUES)[codes]
    shares = {v: 100 * (used == v).float().mean().item() for v in line_values()}
    limit = float(flat.abs().flatten().kthvalue(max(1, int(0.999 * flat.numel()))).values) or 1.0
    counts = torch.histc(flat, 61, -limit, limit)
    edges = torch.linspace(-limit, limit, 62)
    with look.style():
        fig, (left, right) = look.figure(height=2.7, columns=2)
        left.bar(edges[:-1].tolist(), (100 * counts / flat.numel()).tolist(), 2 * limit / 61,
                 align="edge", color=look.tone("slate"), linewidth=0)  # fmt: skip
        left.set(xlabel="weight", ylabel="% of the weights")
        left.set_title(title or "The weights")
        place = range(len(shares))
        right.bar(place, list(shares.values()), 0.8, color=look.tone("blue"),
                  edgecolor=look.tone("blue", "ink"))  # fmt: skip
        names = [number(v) for v in shares]
        right.set_xticks(list(place), names, rotation=90 if len(names) > 12 else 0)
        right.tick_params(axis="x", labelsize=8)
        right.set(xlabel="steps of the block's scale", ylabel="% of the weights")
        right.set_title("How often each value is used")
        for axes in (left, right):
            look.grid(axes, "y")
    bytes_used = torch.unique(scales)
    largest = max(shares, key=lambda v: shares[v])
    text = (
        f"Rounded by {rule}: the value used most is {number(largest)} ({shares[largest]:.1f}%), "
        f"0 takes {shares[0.0]:.1f}%, the ends -6 and 6 take {shares[-6.0] + shares[6.0]:.1f}%; "
        f"{len(bytes_used)} different scales, 2^{int(bytes_used.min()) - 127} to "
        f"2^{int(bytes_used.max()) - 127}."
    )
    return look.Picture(fig, text, {"shares": shares, "scales": bytes_used.tolist()})


def scheme_errors(errors: Sequence[Errors], title: str | None = None) -> look.Picture:
    """A bar a scheme: its rms error in percent of the weights' own size, the bits beside it.

    errors: `labhelpers.mxfp4.compare.error_table([...])`. Raises ValueError for none.
    """
    if not errors:
        raise ValueError("no errors to draw: compare.error_table makes them")
    values = [100 * e.rms for e in errors]
    with look.style():
        fig, axes = look.figure(height=min(4.0, 1.2 + 0.36 * len(errors)))
        for row, (error, value) in enumerate(zip(errors, values, strict=True)):
            ours = error.scheme.startswith("mxfp4")
            hue = "blue" if ours else "slate"
            axes.barh(row, value, 0.66, color=look.tone(hue, "line" if ours else "fill"),
                      edgecolor=look.tone(hue, "ink"))  # fmt: skip
            axes.text(value + 0.01 * max(values), row, _percent(value), va="center", size=9)
        axes.set_yticks(range(len(errors)), [f"{e.scheme}, {e.bits:g} bits" for e in errors])
        axes.set_ylim(len(errors) - 0.5, -0.5)
        axes.set(xlabel="root mean square error, % of the weights' root mean square")
        axes.set_xlim(0, 1.12 * (max(values) or 1.0))
        axes.tick_params(axis="y", length=0)
        look.grid(axes, "x")
        axes.set_title(title or "What each way of keeping four bits costs")
    words = ", ".join(f"{e.scheme} {_percent(v)}" for e, v in zip(errors, values, strict=True))
    return look.Picture(fig, f"Error by scheme: {words}.", list(errors))


def _percent(value: float) -> str:
    """Two digits for what is small, one decimal for the rest."""
    return f"{value:.1f}%" if value >= 1 or value == 0 else f"{value:.2g}%"
