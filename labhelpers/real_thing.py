"""The cells "on the real thing": may gpt-oss-20b be loaded here, and what was loaded?

    if reason := why_not("openai/gpt-oss-20b"):
        print(reason)
    else:
        model = load_packed("openai/gpt-oss-20b")
        print(describe_expert(model))

gpt-oss's choice: experts at 4.25 bits. Whoever lacks what the packed path wants (a GPU of
capability 7.5, Triton, `kernels`) gets bfloat16 experts without being asked, three times the
bytes, and then runs out of memory. So everything is looked at before the download, and dtype and
bytes of one expert are read off right after loading.

Source: transformers' `quantizer_mxfp4.py`; the checks are those of `labhelpers.mxfp4.paths`.
Limits: one GPU. Bytes are those of the weights that the module holds, not of workspace.
"""

from __future__ import annotations

from typing import Any

import torch

from labhelpers import doctor
from labhelpers.mxfp4 import paths
from labhelpers.viz.stream import is_static


def why_not(name: str = "openai/gpt-oss-20b") -> str:
    """A sentence that says why the model is not loaded here, or "" if it can be.

    With LABHELPERS_STATIC=1 (chapters executed by machine) it is never loaded.
    """
    short = name.removeprefix("openai/")
    if is_static():
        return f"{short} was not loaded: this page is made on a CPU, without a network."
    gpu = doctor.find_gpu()
    packed = doctor.packed_path(gpu)
    if not packed.ok:
        return f"{short} is not loaded: the packed path {packed.text}"
    needed = paths.need(short, "packed", context=0).total
    if gpu.free < needed:
        return (
            f"{short} is not loaded: it takes {needed / 1e9:.1f} GB of GPU memory, and "
            f"{gpu.free / 1e9:.1f} GB are free."
        )
    try:
        from huggingface_hub import HfApi, try_to_load_from_cache

        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=10)
    except Exception as error:  # offline, refused, or a proxy: all mean the same here
        return f"{short} is not loaded: the Hub does not answer ({type(error).__name__})."
    return ""


def load_packed(name: str = "openai/gpt-oss-20b") -> Any:
    """transformers' model with its experts left in MXFP4, on the GPU."""
    from transformers import GptOssForCausalLM

    return GptOssForCausalLM.from_pretrained(name, dtype="auto", device_map="cuda").eval()


def describe_expert(model: Any, layer: int = 0) -> str:
    """Dtype and bytes of one expert as it now lies in memory, and which of the two it means.

    model: transformers' GptOssForCausalLM or labhelpers' GptOss.
    """
    experts, config = model.model.layers[layer].mlp.experts, model.config
    tensors = [
        tensor for name in ("gate_up_proj", "down_proj") for part in _related(experts, name)
        for tensor in _tensors(part)
    ]  # fmt: skip
    size = sum(t.numel() * t.element_size() for t in tensors) // config.num_local_experts
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in tensors})
    values = 3 * config.hidden_size * config.intermediate_size
    verdict = "packed, as stored" if size < values else "unpacked"
    return (
        f"one expert: {' and '.join(dtypes)}, {size / 1e6:.2f} MB, "
        f"{8 * size / values:.2f} bits a weight: {verdict}"
    )


def _related(experts: Any, name: str) -> list[Any]:
    """The weight and, where packed, what holds its scales; biases are left out."""
    found = [getattr(experts, name, None)]
    found += [getattr(experts, f"{name}{end}", None) for end in ("_blocks", "_scales")]
    found.append(getattr(getattr(experts, f"{name}_precision_config", None), "weight_scale", None))
    return [part for part in found if part is not None]


def _tensors(part: Any) -> list[torch.Tensor]:
    """The plain tensor of a parameter, or the one inside Triton's wrapper (storage.data)."""
    if isinstance(part, torch.Tensor):
        return [part]
    data = getattr(getattr(part, "storage", None), "data", None)
    return [data] if isinstance(data, torch.Tensor) else []
