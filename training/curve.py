"""Draw the loss of the runs that made nano: `python -m training.curve` -> docs/nano-loss.png."""

from __future__ import annotations

import json
from pathlib import Path

from labhelpers.viz import look

LOG = Path(__file__).parent / "nano-log.jsonl"
OUT = Path(__file__).parents[1] / "docs" / "nano-loss.png"
TOKENS_A_STEP = 131_072


def main() -> None:
    rows = [json.loads(line) for line in LOG.read_text().splitlines()]
    before, parts = 0, []
    for run in (1, 2):
        part = [row for row in rows if row["run"] == run]
        tokens = [(before + row["step"]) * TOKENS_A_STEP / 1e6 for row in part]
        parts.append((tokens, [row["loss"] for row in part]))
        before += part[-1]["step"]
    with look.style():
        fig, axes = look.figure(height=2.6)
        for (tokens, loss), tone, name in zip(
            parts, ("blue", "teal"), ("first run", "second run"), strict=True
        ):
            axes.semilogy(tokens, loss, color=look.tone(tone), linewidth=2)
            axes.text(tokens[-1], loss[-1] * 0.8, f"{loss[-1]:.4f}", size=9, ha="center", va="top")
            axes.text(tokens[0], loss[0] * 1.3, name, size=9, ha="left")
        axes.set(xlabel="tokens, millions", ylabel="loss, nats a token")
        axes.set_ylim(bottom=min(min(loss) for _, loss in parts) * 0.35, top=3)
        axes.set_title("A second run, on more data and at a lower rate, goes below the first")
        look.grid(axes, "y")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(look.png(fig)[0])
    print(f"{OUT.name}: {parts[0][1][-1]:.4f}, then {parts[1][1][-1]:.4f}")


if __name__ == "__main__":
    main()
