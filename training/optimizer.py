"""Muon for the matrices, AdamW for everything else.

Muon (Keller Jordan and others, 2024) replaces the momentum of a matrix by the nearest orthogonal
matrix, found by a Newton-Schulz iteration, so that every direction of the matrix learns at the
same rate. Gate, up and each expert are matrices of their own here. Embeddings, head, router,
norms, biases and sinks keep AdamW, and only the first two are decayed.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn


def orthogonalize(stack: Tensor, steps: int = 5) -> Tensor:
    """Nearly orthogonal matrices for a stack [N, rows, columns] (singular values 0.7 to 1.2)."""
    x = stack.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def as_matrices(name: str, tensor: Tensor) -> Tensor:
    """View a parameter as [N, rows, columns]; gate and up rows of an expert are parted."""
    if name.endswith("gate_up_proj"):
        experts, rows, columns = tensor.shape
        return tensor.view(experts, rows // 2, 2, columns).transpose(1, 2).flatten(0, 1)
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)


def put_back(name: str, matrices: Tensor, like: Tensor) -> Tensor:
    """The reverse of as_matrices."""
    if name.endswith("gate_up_proj"):
        experts, rows, columns = like.shape
        return matrices.view(experts, 2, rows // 2, columns).transpose(1, 2).reshape(like.shape)
    return matrices.view(like.shape)


class Muon(torch.optim.Optimizer):
    """Muon over named matrices; those of one shape are orthogonalised in one batch."""

    def __init__(
        self,
        named: list[tuple[str, nn.Parameter]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ):
        self.names = [name for name, _ in named]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([p for _, p in named], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        params = group["params"]
        grads = [p.grad for p in params]
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        by_shape: dict[tuple[int, int], list[tuple[int, Tensor]]] = defaultdict(list)
        for i, (name, update) in enumerate(zip(self.names, updates, strict=True)):
            matrices = as_matrices(name, update)
            by_shape[tuple(matrices.shape[-2:])].append((i, matrices))
        for (rows, columns), items in by_shape.items():
            done = orthogonalize(torch.cat([m for _, m in items]))
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            for (i, _), part in zip(items, done.split([len(m) for _, m in items]), strict=True):
                params[i].add_(put_back(self.names[i], part, params[i]), alpha=-scale)


def build(model: nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """The two optimisers of a TrainingModel."""
    matrices, decayed, plain = [], [], []
    for name, p in model.named_parameters():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            decayed.append(p)
        elif p.ndim < 2 or "router" in name or name.endswith("_bias"):
            plain.append(p)
        else:
            matrices.append((name, p))
    fused = next(model.parameters()).is_cuda
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=adam_lr,
        betas=(0.9, 0.95),
        fused=fused,
    )
    return [Muon(matrices, muon_lr), adam]
