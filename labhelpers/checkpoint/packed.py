"""From a folder to a model whose weights stay in the file: `load_packed`.

The idea   to map a file into memory is to promise it, not to read it: the system fetches a page
           when it is first touched and may drop it again, since the file still has it. So a model
           of 13.8 GB is there in seconds, takes little memory of its own ("anonymous"), and uses
           the rest of the RAM as a cache. With less RAM than weights it runs too, reading the
           missing pages again, only slower.
gpt-oss    experts stay MXFP4 (`labhelpers.mxfp4.packed`); all else is bf16 in the file and is
           used from there. In fp32 all else is converted, which takes memory (20b: 7.2 GB).
Sources    transformers' names, as in `checkpoint.reader`; safetensors' safe_open, which maps.
Limits     the CPU. Headers are checked now, an expert's scales when it is first used; whether
           other numbers are finite is not looked at, for that would read all of the file. Keep
           the files as they are while the model lives: a file cut short ends the process.
"""

from pathlib import Path

import torch
from torch import Tensor

from labhelpers.checkpoint import memory, reader
from labhelpers.checkpoint.errors import CheckpointError
from labhelpers.checkpoint.files import TensorInfo
from labhelpers.model import DecoderLayer, GptOss, check_dtype
from labhelpers.mxfp4.packed import PackedExperts

_STORED = {torch.bfloat16: "BF16", torch.float32: "F32"}


def load_packed(folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> GptOss:
    """The model in a folder, experts packed and everything memory-mapped, ready to generate.

    folder holds config.json and safetensors, one file or shards, either layout. dtype is that of
    activations and of all but the expert matrices; what the file stores in another dtype is
    converted, and takes memory. Raises CheckpointError for anything missing, damaged, unpacked
    or too large; ValueError for float16.
    """
    check_dtype(dtype)
    if dtype not in _STORED:
        raise ValueError(f"packed experts work in bfloat16 or float32, not in {dtype}")
    found = reader.survey(folder)
    folder, config, model = found.folder, found.config, found.model
    unpacked = [e.name for e in found.wanted if e.expert and e not in found.packed]
    if unpacked:
        raise CheckpointError(
            f"{folder} holds {unpacked[0]} unpacked, so there is nothing to keep packed: use "
            "labhelpers.checkpoint.load_model, or write it again with checkpoint.save"
        )
    found.check_stored()
    _check_memory(folder, found.tensors, dtype)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with torch.device("meta"):
        for number, layer in enumerate(model.model.layers):
            assert isinstance(layer, DecoderLayer)
            layer.mlp.experts = PackedExperts(config, f"{folder}: layer {number}")
    model.requires_grad_(False)
    model.load_state_dict(_views(shapes, found, dtype), assign=True)
    model.stop_ids |= reader.stop_ids(folder, config)
    return model.eval()


def _views(
    shapes: dict[str, tuple[int, ...]], found: reader.Survey, dtype: torch.dtype
) -> dict[str, Tensor]:
    """A state dict of views into the files; only another dtype makes a copy."""
    state: dict[str, Tensor] = {}
    with reader.mapped(found.tensors) as read:
        for entry in found.wanted:
            if entry in found.packed:
                # Hugging Face's names are ours, whatever the layout calls them.
                state[f"{entry.params[0]}_blocks"] = read(entry.blocks)
                state[f"{entry.params[0]}_scales"] = read(entry.scales)
                continue
            stored = read(entry.name)
            # The original layout has q, k and v as one matrix: three views of its rows.
            parts = stored.split([shapes[param][0] for param in entry.params])
            for param, part in zip(entry.params, parts, strict=True):
                state[param] = part.to(dtype)
    return state


def _check_memory(folder: Path, tensors: dict[str, TensorInfo], dtype: torch.dtype) -> None:
    """What must be converted must fit; what is mapped always does."""
    foreign = [i for i in tensors.values() if i.dtype not in ("U8", _STORED[dtype])]
    needed = sum(torch.Size(info.shape).numel() for info in foreign) * dtype.itemsize
    free = memory.free_bytes(torch.device("cpu"))
    if needed > free:
        raise CheckpointError(
            f"{folder} stores {len(foreign)} tensors as {foreign[0].dtype}; to convert them takes "
            f"{memory.gigabytes(needed)}, and {memory.gigabytes(free)} are free: pass "
            "dtype=torch.bfloat16, which uses a bf16 checkpoint as it lies in the file"
        )
