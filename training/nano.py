"""Make gpt-oss-nano from nothing: `python -m training.nano --gpus 2` (30 minutes on two H100s).

Vocabulary, five training runs, MXFP4 export, evaluation; each step is a module of its own, called
here with the arguments that made the nano in the repository. One GPU takes twice the time.
`--cpu-smoke` goes the same way with a toy of two layers, in about a minute, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The runs that made the nano in the repository, steps of 131,072 tokens. Each begins with the
# weights of the one before. The third was ended by its time, and the fourth brings its rate
# down to zero from where it stood; the fifth is for questions after a turn of another kind.
STEP = "--preset nano --rows 64 --accumulate 2".split()
RUNS = (
    "--seed 21 --steps 9928 --last-step 9460",
    "--seed 22 --steps 3621 --muon-lr 0.009 --adam-lr 0.0014 --hold 0.1",
    "--seed 23 --steps 17056 --last-step 9780 --muon-lr 0.012 --adam-lr 0.0018 --hold 0.25",
    "--seed 24 --steps 8756 --muon-lr 0.0068 --adam-lr 0.00102 --hold 0",
    "--seed 25 --steps 788 --muon-lr 0.004 --adam-lr 0.0006 --hold 0",
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
        common = "--preset smoke --rows 4 --length 512 --workers 1 --report 1".split()
        run("train", *common, *f"--steps 3 --out {at}/one".split())
        # Stopped and continued: the second call goes on at step 3.
        run("train", *common, *f"--steps 5 --out {at}/one".split())
        out = f"--state {at}/one/state.pt --out {at}/model --masters {at}/masters"
        run("export", "--preset", "smoke", *out.split())
        run("train", *common, *f"--steps 1 --from-weights {at}/masters --out {at}/two".split())
        run("evaluate", *f"--model {at}/model --number 1 --batch 8 --out {at}/eval".split())
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
    start: list[str] = []
    for number, settings in enumerate(RUNS, 1):
        folder, masters = args.out / f"run-{number}", args.out / f"masters-{number}"
        run("train", *STEP, *settings.split(), *start, "--out", str(folder), gpus=args.gpus)
        to = [] if number == len(RUNS) else ["--out", str(args.out / "model")]
        run("export", "--state", str(folder / "state.pt"), *to, "--masters", str(masters))
        start = ["--from-weights", str(masters)]
    run("evaluate", "--out", str(args.out / "evaluation"))


if __name__ == "__main__":
    main()
