"""What every part of a model was given, whole, so that it can be given the same once more.

    given, returned = calls(model, ids)["model.layers.3.mlp.router"]
    other.get_submodule("model.layers.3.mlp.router")(*given)     # another model's part, on the same

`record` keeps the first tensor that went into a part, which is enough to look at. To feed a part
again takes all of it: attention is also given cosines, sines and positions, the experts are given
ids and weights.

Source: torch's forward hooks, by `labhelpers.activations.watch`. Letters: T tokens.
Limits: this package's model, whose parts take what they are given in order; one sequence, no
cache. What is kept is not a copy: change none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from labhelpers.activations import watch
from labhelpers.model import GptOss

Call = tuple[list[Any], Any]  # what a part was given, and what it returned


def calls(model: GptOss, ids: Sequence[int] | Tensor) -> dict[str, Call]:
    """{name: (given, returned)} of one pass over ids [T], in the order in which parts finish.

    So the parts of a part come before it: "model.layers.0.mlp.router", then
    "model.layers.0.mlp", then "model.layers.0". The model as a whole, whose name is empty, is
    left out. Batch dimensions are kept. Raises ValueError if ids hold more than one sequence.
    """
    found: dict[str, Call] = {}
    parts = {name: part for name, part in model.named_modules() if name}

    def keep(name: str, given: list[Any], returned: Any) -> None:
        found[name] = (given, returned)

    watch(model, ids, parts, keep)
    return found
