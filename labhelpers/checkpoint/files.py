"""The files of a checkpoint: which safetensors there are, and what their headers promise.

A .safetensors file is a length (8 bytes, little endian), that many bytes of JSON (name -> dtype,
shape, data_offsets) and the bytes of the tensors, without a gap. So names, shapes and dtypes of
a 13 GB model are known after reading some kilobytes, and nothing in the file is ever executed.

gpt-oss: one `model.safetensors`, or shards with a `model.safetensors.index.json` that says which
shard holds which tensor. Source: the format's description in huggingface/safetensors.
Limits: safetensors only. Pickles (.bin, .pt, .pth) run code when they are opened and are refused;
GGUF, another packing of the same weights, is named and refused.
"""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labhelpers.checkpoint.errors import CheckpointError, some

INDEX = "model.safetensors.index.json"
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
_AGAIN = "delete it and fetch it again"
# What people really find under a name that ends in .safetensors.
_IMPOSTORS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"GGUF": "is a GGUF file under another name; give a safetensors checkpoint",
    b"PK\x03\x04": "is a pickle (torch.save) under another name, and pickles run code when opened; "
    "fetch a safetensors checkpoint",
    b"<!DOCTYPE": f"is a web page, perhaps a login or an error page: {_AGAIN}",
    b"<html": f"is a web page, perhaps a login or an error page: {_AGAIN}",
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what its header says of it."""

    file: Path
    dtype: str  # the format's name: "BF16", "F32", "U8" ...
    shape: tuple[int, ...]


def read_folder(folder: Path) -> dict[str, TensorInfo]:
    """Name -> TensorInfo for all tensors of a folder. Raises CheckpointError."""
    found = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if not found:
        raise CheckpointError(_why_nothing(folder, index))
    if index.exists():
        return _read_sharded(folder, index)
    tensors: dict[str, TensorInfo] = {}
    for file in found:
        for name, info in read_header(file).items():
            if name in tensors:
                raise CheckpointError(
                    f"{name} is in both {tensors[name].file.name} and {file.name} of {folder}: "
                    "two checkpoints in one folder? Keep the files of one"
                )
            tensors[name] = info
    return tensors


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Name -> TensorInfo for one file, checked against its size. Raises CheckpointError."""
    try:
        raw, data_bytes = _header_bytes(file)
        header = json.loads(raw, object_pairs_hook=_no_doubles)
    except OSError as error:  # a broken link in a cache, a folder, no permission
        raise CheckpointError(f"{file} cannot be read ({error.strerror}): {_AGAIN}") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} has a bad header ({error}): {_AGAIN}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} has a bad header (not a JSON object): {_AGAIN}")
    header.pop("__metadata__", None)
    _check_spans(file, sorted(_spans(file, header)), data_bytes)
    return {
        name: TensorInfo(file, entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
    }


def _header_bytes(file: Path) -> tuple[bytes, int]:
    """The JSON of the header, undecoded, and the number of bytes behind it."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(32)
        for magic, what in _IMPOSTORS.items():
            if start.startswith(magic):
                raise CheckpointError(f"{file} {what}")
        if size < 8:
            raise CheckpointError(f"{file} has {size} bytes, too few for a header: {_AGAIN}")
        (length,) = struct.unpack("<Q", start[:8])
        if length > _MOST_HEADER_BYTES:
            raise CheckpointError(
                f"{file} is not a safetensors file (its header would be {length:,} "
                f"bytes long): {_AGAIN}"
            )
        if 8 + length > size:
            raise CheckpointError(f"{file} ends inside its header ({size:,} bytes): {_AGAIN}")
        stream.seek(8)
        raw = stream.read(length)
    return raw, size - 8 - length


def _spans(file: Path, header: dict[str, Any]) -> Iterator[tuple[int, int, str]]:
    """(begin, end, name) of each tensor, its own entry being sound."""
    for name, entry in header.items():
        try:
            item, shape = ITEM_BYTES[entry["dtype"]], entry["shape"]
            begin, end = entry["data_offsets"]
            sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise CheckpointError(f"{file}: the header's entry for {name} makes no sense: {_AGAIN}")
        if end - begin != math.prod(shape) * item:
            raise CheckpointError(
                f"{file}: {name} has {end - begin:,} bytes, but {entry['dtype']} {shape} takes "
                f"{math.prod(shape) * item:,}: {_AGAIN}"
            )
        yield begin, end, name


def _check_spans(file: Path, spans: list[tuple[int, int, str]], available: int) -> None:
    """Tensors must follow each other without gap or overlap, up to the end of the file."""
    position = 0
    for begin, end, name in spans:
        if begin != position:
            raise CheckpointError(
                f"{file}: {name} starts at byte {begin:,} of the data, expected "
                f"{position:,} (a gap or an overlap): {_AGAIN}"
            )
        if end > available:
            raise CheckpointError(
                f"{file} is cut short: {name} ends at byte {end:,} of the data, "
                f"and there are {available:,}: {_AGAIN}"
            )
        position = end
    if position != available:
        raise CheckpointError(
            f"{file} has {available - position:,} bytes after its last tensor: {_AGAIN}"
        )


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"the key {max(names, key=names.count)} occurs twice")
    return dict(pairs)


def _read_sharded(folder: Path, index: Path) -> dict[str, TensorInfo]:
    """All tensors of a sharded checkpoint, index and headers saying the same."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map (tensor name -> file): {_AGAIN}")
    if (folder / "model.safetensors").exists() and "model.safetensors" not in weight_map.values():
        raise CheckpointError(
            f"{folder} holds both model.safetensors and {INDEX}, which names other "
            "files: two checkpoints in one folder? Keep one"
        )
    shards = {}
    for name, file in weight_map.items():
        # A path would let an index read files elsewhere.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise CheckpointError(
                f"{index}: {name} is said to be in {file!r}, which is no file name"
            )
        if file not in shards:
            if not (folder / file).is_file():
                count = sum(value == file for value in weight_map.values())
                raise CheckpointError(
                    f"shard {file} is missing from {folder}; {INDEX} puts {count} tensors there, "
                    f"{name} first: fetch that file"
                )
            shards[file] = read_header(folder / file)
        if name not in shards[file]:
            raise CheckpointError(
                f"{folder / file} lacks {name}, which {INDEX} puts there: index "
                "and shards are of different downloads; fetch both"
            )
    unnamed = [n for f, held in shards.items() for n in held if weight_map.get(n) != f]
    if unnamed:
        raise CheckpointError(
            f"{index} does not name {some(unnamed)}, which the shards hold: index "
            "and shards are of different downloads; fetch both"
        )
    return {name: shards[file][name] for name, file in weight_map.items()}


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} has no {file.name}: fetch it too") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON ({error}): {_AGAIN}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} must hold a JSON object, not a {type(data).__name__}")
    return data


def _why_nothing(folder: Path, index: Path) -> str:
    """Why a folder without safetensors files is no checkpoint, as far as its files tell."""
    files = sorted(file.name for file in folder.iterdir())
    pickles = [name for name in files if Path(name).suffix in _PICKLES]
    if index.exists():
        return f"{folder} has {INDEX} but none of its shards: fetch the .safetensors files"
    if pickles:
        return (
            f"{folder} holds pickles ({some(pickles)}), which run code when they are opened, so "
            "they are refused: fetch the .safetensors version"
        )
    if gguf := [name for name in files if name.endswith(".gguf")]:
        return (
            f"{folder} holds GGUF ({some(gguf)}), llama.cpp's packing of these weights; this "
            "package reads safetensors: fetch the original checkpoint"
        )
    if (folder / "original").is_dir():
        return f"{folder} has no .safetensors; did you mean {folder / 'original'}?"
    return f"{folder} holds no .safetensors file (it holds: {some(files) or 'nothing'})"
