"""Train gpt-oss-nano: `python -m training.train --preset nano --out runs/nano`.

Batches are made by worker processes while the GPU trains. Batch number i is the same whatever the
number of workers (it is seeded by i), so a run is fixed by its preset, seed and steps. A run that
reaches --max-seconds saves itself and can be continued by calling the same command again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from labhelpers.config import GptOssConfig
from training import optimizer
from training.batches import Batches
from training.export import weights_of
from training.model import Mask, TrainingModel, loss_of, masks, rope_tables

BALANCE = 0.01  # weight of the load-balancing loss
BLOCK_LISTS = (
    "kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices",
    "q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices",
)  # fmt: skip


@dataclass
class Schedule:
    """Warm up, hold, then fall linearly to zero."""

    steps: int
    warm_up: int = 100
    hold: float = 0.2

    def __call__(self, step: int) -> float:
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        start = self.hold * self.steps
        return min(1.0, max(0.0, (self.steps - step) / max(1.0, self.steps - start)))


class Trainer:
    """One model, its optimisers and buffers of fixed size, so that nothing is compiled twice."""

    def __init__(self, config: GptOssConfig, args: argparse.Namespace, device: str):
        self.args, self.device, self.config = args, device, config
        self.model = TrainingModel(config, args.seed).to(device)
        self.model.stream = torch.bfloat16 if device == "cuda" else torch.float32
        self.optimizers = optimizer.build(self.model, args.muon_lr, args.adam_lr)
        self.schedule = Schedule(args.steps, min(100, args.steps // 10 + 1), args.hold)
        self.cos, self.sin = (t.to(device) for t in rope_tables(config, args.length))
        self.documents = torch.zeros(args.rows, args.length, dtype=torch.int32, device=device)
        self.sliding, self.full = masks(self.documents, config.sliding_window)
        compiled = device == "cuda"  # a minute of compiling does not pay on the CPU
        self.remask = torch.compile(masks) if compiled else masks
        self.loss = torch.compile(self._loss, dynamic=False) if compiled else self._loss
        self.step = 0

    def _loss(
        self,
        ids: Tensor,
        supervised: Tensor,
        targets: Tensor,
        weights: Tensor,
        sliding: Mask,
        full: Mask,
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda"):
            hidden, balance = self.model(ids, supervised, self.cos, self.sin, sliding, full)
            return loss_of(self.model, hidden, targets, weights), balance

    def _mask(self, documents: Tensor) -> None:
        if isinstance(self.sliding, Tensor):
            self.sliding, self.full = masks(documents, self.config.sliding_window)
            return
        self.documents.copy_(documents, non_blocking=True)
        for fixed, new in zip(
            (self.sliding, self.full),
            self.remask(self.documents, self.config.sliding_window),
            strict=True,
        ):
            for name in BLOCK_LISTS:
                getattr(fixed, name).copy_(getattr(new, name))

    def train_step(self, batches: list[dict[str, Tensor]]) -> Tensor:
        """One step over this rank's batches; ranks average their gradients."""
        rate = self.schedule(self.step)
        for opt, lr in zip(self.optimizers, (self.args.muon_lr, self.args.adam_lr), strict=True):
            for group in opt.param_groups:
                group["lr"] = lr * rate
        total = torch.zeros((), device=self.device)
        for batch in batches:
            move = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
            self._mask(move["documents"])
            loss, balance = self.loss(
                move["ids"].long(), move["supervised"].long(), move["targets"].long(),
                move["weights"], self.sliding, self.full,
            )  # fmt: skip
            ((loss + BALANCE * balance) / len(batches)).backward()
            total += loss.detach() / len(batches)
        if dist.is_initialized():
            grads = [p.grad for p in self.model.parameters()]
            flat = torch.cat([g.flatten() for g in grads])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                g.copy_(part.view_as(g))
        if self.step == 0:
            self.check_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        for opt in self.optimizers:
            opt.step()
            opt.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def check_gradients(self) -> None:
        """Every parameter must learn: one that a compiler forgot would cost a whole run."""
        idle = [n for n, p in self.model.named_parameters() if p.grad is None or not p.grad.any()]
        if idle:
            raise RuntimeError(f"no gradient reaches {', '.join(idle)}")

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on with a run of one's own (the only pickle here, read as plain tensors)."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for opt, saved in zip(self.optimizers, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        self.step = state["step"]

    def start_from(self, folder: Path) -> None:
        """Begin with the weights of an earlier run (safetensors of `training.export --masters`)."""
        self.model.load_state_dict(weights_of(folder))

    def agree(self, stop: bool) -> bool:
        """Whether rank 0 wants to stop: a rank that went on alone would wait for ever."""
        if not dist.is_initialized():
            return stop
        if self.step % 20:  # asking costs a wait for the GPU
            return False
        flag = torch.tensor([int(stop)], device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag)

    def fit(self, seconds: float, left: float) -> None:
        """Choose the number of steps that fill the time left, from the speed of 60 steps."""
        steps = torch.tensor([self.step + int(left / seconds * 60)], device=self.device)
        if dist.is_initialized():
            dist.broadcast(steps, 0)
        self.schedule.steps = int(steps)
        print(f"steps fitted to the time: {self.schedule.steps}", flush=True)


def run(args: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.cuda.set_device(rank)
        dist.init_process_group("nccl")
    torch.set_float32_matmul_precision("high")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    config = GptOssConfig.from_file(Path(__file__).parent / "configs" / f"{args.preset}.json")
    trainer = Trainer(config, args, device)
    if (out / "state.pt").exists():
        trainer.load(out / "state.pt")
    elif args.start:
        trainer.start_from(Path(args.start))
    # A step takes `accumulate` batches, in the same order whatever the number of GPUs.
    mine = args.accumulate // world
    batches = Batches(
        args.seed, args.rows, args.length, args.workers, trainer.step * mine, rank, world
    )
    start = last = time.time()
    warm = 0.0
    losses: list[Tensor] = []
    log = (out / "log.jsonl").open("a")
    try:
        while trainer.step < min(trainer.schedule.steps, args.last_step):
            if trainer.agree(time.time() - start > args.max_seconds):
                break
            losses.append(trainer.train_step([next(batches) for _ in range(mine)]))
            if rank == 0 and trainer.step % args.save_every == 0:
                trainer.save(out / "state.pt")
            if args.fit_seconds and trainer.step in (20, 80):
                torch.cuda.synchronize()
                if trainer.step == 20:
                    warm = time.time()
                else:
                    trainer.fit(time.time() - warm, args.fit_seconds - (time.time() - start))
            if trainer.step % args.report == 0 or trainer.step == trainer.schedule.steps:
                value = torch.stack(losses).mean().item()
                now = time.time()
                tokens = len(losses) * args.accumulate * args.rows * args.length
                row = {"step": trainer.step, "loss": round(value, 5),
                       "seconds": round(now - start, 1), "waited": round(batches.waited, 1),
                       "tokens_per_second": round(tokens / (now - last))}  # fmt: skip
                if rank == 0:
                    print(json.dumps(row), flush=True)
                    log.write(json.dumps(row) + "\n")
                losses, last = [], now
                if not math.isfinite(value):
                    raise FloatingPointError(f"loss is {value} at step {trainer.step}")
    finally:
        batches.close()
        log.close()
    if rank == 0:
        trainer.save(out / "state.pt")
        print(f"saved step {trainer.step} of {trainer.schedule.steps}", flush=True)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="nano", help="a file of training/configs")
    parser.add_argument("--out", default="runs/nano")
    parser.add_argument(
        "--from-weights", dest="start", help="folder of weights that the run begins with"
    )
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument(
        "--last-step", type=int, default=10**9, help="stop before --steps is reached"
    )
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--accumulate", type=int, default=1, help="batches a step, over all GPUs")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--hold", type=float, default=0.2, help="share of steps at full rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--save-every", type=int, default=2000, help="steps between checkpoints")
    parser.add_argument("--report", type=int, default=50)
    parser.add_argument("--fit-seconds", type=float, default=0, help="choose --steps to fill these")
    parser.add_argument("--max-seconds", type=float, default=1e9)
    return parser


if __name__ == "__main__":
    run(arguments().parse_args())
