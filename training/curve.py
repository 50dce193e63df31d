"""Draw the loss of the runs that made nano: `python -m training.curve` -> docs/nano-loss.png."""

from __future__ import annotations

import json
from pathlib import Path

from labhelpers.viz import look

LOG = Path(__file__).parent / "nano-log.jsonl"
OUT = Path(__file__).parents[1] / "docs" / "nano-loss.png"
TOKENS_A_STEP = 131_072
RUNS = {1: "first run", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
TONES = ("blue", "teal", "violet", "orange", "blue")


def main() -> None:
    rows = [json.loads(line) for line in LOG.read_text().splitlines()]
    before, parts = 0, []
    for run in RUNS:
        part = [row for row in rows if row["run"] == run]
        tokens = [(before + row["step"]) * TOKENS_A_STEP / 1e6 for row in part]
        parts.append((tokens, [row["loss"] for row in part]))
        before += part[-1]["step"]
    with look.style():
        fig, axes = look.figure(height=2.6)
        for (tokens, loss), tone, name in zip(parts, TONES, RUNS.values(), strict=True):
            axes.semilogy(tokens, loss, color=look.tone(tone), linewidth=2)
            x, y, ha, va = tokens[-1], loss[-1] * 0.8, "right", "top"
            if name == "fifth":  # short, and its begin is in the way: beside the curve
                x, y, ha, va = tokens[-1] + 40, loss[-1], "left", "center"
            axes.text(x, y, f"{loss[-1]:.4f}", size=9, ha=ha, va=va)
            axes.text(tokens[0], max(loss) * 1.3, name, size=9, ha="left")
        axes.set(xlabel="tokens, millions", ylabel="loss, nats a token")
        axes.set_xlim(right=before * TOKENS_A_STEP / 1e6 * 1.1)
        axes.set_ylim(bottom=min(min(loss) for _, loss in parts) * 0.35, top=3)
        axes.set_title("Each run goes on with the weights of the one before")
        look.grid(axes, "y")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(look.png(fig)[0])
    print(f"{OUT.name}:", ", then ".join(f"{loss[-1]:.4f}" for _, loss in parts))


if __name__ == "__main__":
    main()
