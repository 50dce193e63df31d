"""Make gpt-oss-nano from nothing: `python -m training.nano` (about 25 minutes on two H100s).

Vocabulary, training in stages, MXFP4 export, evaluation; each step is a module of its own, called
here with the arguments that made the nano in the repository. `--cpu-smoke` takes the same way
with a toy of two layers in about a minute, into a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path


ROOT = Path(__file__).parents[1]
# The arguments of each stage; a stage starts from the weights of the one before.
STAGES = (
    ["--preset", "nano", "--seed", "11", "--steps", "7000"],
    ["--preset", "nano", "--seed", "12", "--steps", "7000"],
)


def run(module: str, *arguments: str, gpus: int = 1) -> None:
    """Call a module of this folder, on several GPUs through torchrun."""
    start = [sys.executable, "-m"]
    if gpus > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m"]
    print("$", module, *arguments, flush=True)
    subprocess.run([*start, f"training.{module}", *arguments], check=True, cwd=ROOT)


def smoke() -> None:
    """The whole pipeline with a toy, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        common = ["--preset", "smoke", "--rows", "4", "--length", "512", "--workers", "1"]
        run("train", *common, "--steps", "3", "--report", "1", "--out", f"{at}/one")
        # Stopped and continued: the second call goes on at step 3.
        run("train", *common, "--steps", "5", "--report", "1", "--out", f"{at}/one")
        run("export", "--preset", "smoke", "--state", f"{at}/one/state.pt", "--out", f"{at}/model",
            "--masters", f"{at}/masters")  # fmt: skip
        run("train", *common, "--steps", "1", "--report", "1", "--start", f"{at}/masters", "--out", f"{at}/two")
        run("evaluate", "--model", f"{at}/model", "--number", "1", "--batch", "8", "--out", f"{at}/eval")
        assert "letter counting" in (at / "eval" / "table.md").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "nano")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--cpu-smoke", action="store_true")
    args = parser.parse_args()
    if args.cpu_smoke:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        smoke()
        print("the whole pipeline ran")
        return
    if not (ROOT / "labhelpers" / "nano" / "tokenizer.json").exists():
        run("vocabulary")
    before: list[str] = []
    for number, stage in enumerate(STAGES, 1):
        out = args.out / f"stage-{number}"
        run("train", *stage, "--out", str(out), *before, gpus=args.gpus)
        run("export", "--state", str(out / "state.pt"), "--masters", str(out / "masters"))
        before = ["--start", str(out / "masters")]
    run("evaluate", "--out", str(args.out / "evaluation"))


if __name__ == "__main__":
    main()
