"""Draw the loss of the run that made nano: `python -m training.curve` -> docs/nano-loss.png."""

from __future__ import annotations

import json
from pathlib import Path

from labhelpers.viz import look

LOG = Path(__file__).parent / "nano-log.jsonl"
OUT = Path(__file__).parents[1] / "docs" / "nano-loss.png"
TOKENS_A_STEP = 131_072


def main() -> None:
    rows = [json.loads(line) for line in LOG.read_text().splitlines()]
    tokens = [row["step"] * TOKENS_A_STEP / 1e6 for row in rows]
    loss = [row["loss"] for row in rows]
    with look.style():
        fig, axes = look.figure(height=2.6)
        axes.semilogy(tokens, loss, color=look.tone("teal"), linewidth=2)
        axes.set(xlabel="tokens, millions", ylabel="loss, nats a token")
        axes.set_title(
            "The second half, at a falling learning rate, takes seven eighths of the loss"
        )
        axes.text(tokens[-1], loss[-1] * 1.25, f"{loss[-1]:.4f}", size=9, ha="center")
        look.grid(axes, "y")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(look.png(fig)[0])
    print(f"{OUT.name}: from {loss[0]:.2f} to {loss[-1]:.4f}")


if __name__ == "__main__":
    main()
