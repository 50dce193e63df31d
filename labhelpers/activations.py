"""What every part of a model was given, and what it made of it: one forward pass, taken apart.

    seen = record(model, ids)                        # this package's model or transformers'
    x = seen.input("layers.3.mlp.router")            # [T, H]
    ids, weights = seen.routing(3)                   # [T, k], twice

gpt-oss's choice: none; but since this package bears transformers' names for its modules, the same
name finds the same part in both, and a part rebuilt by hand can be given the real input of the
reference's part and compared with its real output.

Source: torch's forward hooks. Letters: T tokens, H hidden, k experts a token.
Limits: one sequence, no cache; it keeps everything, so use it on small models and short texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Activations:
    """Inputs and outputs of all modules by name, without the batch dimension.

    Names are those of the state dict without the leading "model.": "embed_tokens",
    "layers.0.self_attn", "layers.0.self_attn.q_proj", "norm", "lm_head" ...
    """

    def __init__(self, inputs: dict[str, Tensor], outputs: dict[str, Any]) -> None:
        self._inputs, self._outputs = inputs, outputs

    def input(self, name: str) -> Tensor:
        """What the part was given, such as [T, H]. Raises ValueError for an unknown part."""
        return _look_up(self._inputs, name)

    def output(self, name: str) -> Tensor:
        """What the part returned; of several things the first. Raises ValueError."""
        found = _look_up(self._outputs, name)
        return found[0] if isinstance(found, tuple) else found

    def outputs(self, name: str) -> tuple[Tensor, ...]:
        """All that the part returned, such as cos and sin of the rotary embedding."""
        found = _look_up(self._outputs, name)
        return found if isinstance(found, tuple) else (found,)

    def routing(self, layer: int) -> tuple[Tensor, Tensor]:
        """A router's choice: expert_ids [T, k] (int64) and weights [T, k]."""
        parts = self.outputs(f"layers.{layer}.mlp.router")
        ids = next(p for p in parts if not p.is_floating_point())
        # The logits have a column an expert, the weights one a choice. With as many choices as
        # experts both have the same shape; then the weights are the ones that sum to 1.
        rows = [p for p in parts if p.is_floating_point() and p.shape == ids.shape]
        weights = min(rows, key=lambda w: (w.sum(-1) - 1).abs().max().item())
        return ids.long(), weights

    def __repr__(self) -> str:
        return f"Activations of {len(self._outputs)} parts"


def record(model: nn.Module, ids: Sequence[int] | Tensor) -> Activations:
    """Run a model once over ids [T] and keep what went into and came out of every module.

    model: labhelpers.model.GptOss or transformers' GptOssForCausalLM. Raises ValueError if ids
    hold more than one sequence.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Any] = {}

    def keep(name: str, given: list[Any], out: Any) -> None:
        tensors = [a for a in given if isinstance(a, Tensor)]
        if tensors:
            inputs[name] = _without_batch(tensors[0])
        outputs[name] = (
            tuple(_without_batch(o) for o in out if isinstance(o, Tensor))
            if isinstance(out, tuple | list)
            else _without_batch(out)
        )

    parts = {
        name.removeprefix("model."): module
        for name, module in model.named_modules()
        if name not in ("", "model")
    }
    watch(model, ids, parts, keep)
    return Activations(inputs, outputs)


def watch(
    model: nn.Module,
    ids: Sequence[int] | Tensor,
    parts: Mapping[str, nn.Module],
    keep: Callable[[str, list[Any], Any], None],
) -> list[int]:
    """Run a model once over ids [T] or [1, T]; return them as a list.

    After each of the parts `keep(name, given, out)` gets all that it was given and what it
    returned, batch dimension included. Raises ValueError if ids hold more than one sequence.
    """
    row = torch.as_tensor(ids, dtype=torch.int64)
    row = row[0] if row.dim() == 2 and len(row) == 1 else row
    if row.dim() != 1 or len(row) == 0:
        raise ValueError(f"one sequence of ids is wanted here, got shape {list(row.shape)}")

    def hook(name: str) -> Any:
        return lambda _module, args, kwargs, out: keep(name, [*args, *kwargs.values()], out)

    hooks = [part.register_forward_hook(hook(n), with_kwargs=True) for n, part in parts.items()]
    try:
        with torch.inference_mode():
            model(row[None].to(next(model.parameters()).device))
    finally:
        for handle in hooks:
            handle.remove()
    return row.tolist()


def _without_batch(value: Any) -> Any:
    """[1, T, ...] -> [T, ...]; routers and experts see [T, ...] already. Moved to the CPU."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu().clone()  # a later part may change it in place
    return value[0] if value.dim() >= 2 and value.shape[0] == 1 else value


def _look_up(found: dict[str, Any], name: str) -> Any:
    if name not in found:
        near = [n for n in found if n.split(".")[-1] == name.split(".")[-1]][:3]
        hint = f"; there are {', '.join(near)} ..." if near else ""
        raise ValueError(f"this model has no part {name!r}{hint}")
    return found[name]
