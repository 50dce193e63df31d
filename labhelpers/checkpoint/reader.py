"""From a folder to a model, tensor by tensor: no second copy of the weights in memory.

The idea   first compare all headers with what the config asks for (names, shapes, dtypes), and
           only then take memory: the empty model. Each stored tensor is a view of the file, copied
           straight into its parameter; packed experts are unpacked one expert at a time. So the
           peak is the model and one expert.
gpt-oss    experts come as MXFP4 and are unpacked here; all else is bf16.
Sources    transformers' GptOssForCausalLM for the names, `labhelpers.mxfp4.format` for the numbers.
Limits     the whole model on one device, in one dtype; float16 is refused (see model.check_dtype).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from labhelpers.checkpoint.errors import CheckpointError, some
from labhelpers.checkpoint.files import TensorInfo, read_folder, read_json
from labhelpers.checkpoint.layouts import Entry, Layout, count_layers, detect, entries
from labhelpers.config import ConfigError, GptOssConfig
from labhelpers.model import GptOss, check_dtype
from labhelpers.mxfp4.format import dequantize

_DENSE = ("BF16", "F32")


def load_model(
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> GptOss:
    """The model in a folder (config.json and safetensors, either layout), ready to generate.

    Raises CheckpointError for anything missing, damaged or not understood; ValueError for float16.
    """
    check_dtype(dtype)
    found = survey(folder)
    found.check_stored()
    model = found.model.to(dtype).to_empty(device=device)
    _fill(model, found.wanted, found.tensors, found.packed)
    model.stop_ids |= stop_ids(found.folder, found.config)
    return model.eval()


class Survey(NamedTuple):
    """What a folder's config and headers say, before any weight is read."""

    folder: Path
    config: GptOssConfig
    tensors: dict[str, TensorInfo]  # what is stored, by name
    layout: Layout
    model: GptOss  # on the meta device: shapes without memory
    wanted: list[Entry]
    packed: set[Entry]  # those of `wanted` that are stored as MXFP4

    def check_stored(self) -> None:
        """Raise CheckpointError unless config, shapes and dtypes of all entries agree."""
        _check_quantization(self.folder, self.layout, self.packed)
        for entry in self.wanted:
            _check_entry(entry, self.tensors, entry in self.packed)


def survey(folder: str | Path) -> Survey:
    """Read config and headers. Raises CheckpointError unless every name is accounted for."""
    folder = check_folder(folder)
    config = read_config(folder)
    tensors = read_folder(folder)
    layout = detect(tensors, folder)
    _check_layers(folder, config, tensors)
    model = _empty_model(folder, config)
    wanted = entries({n: tuple(p.shape) for n, p in model.named_parameters()}, layout)
    packed = _check_names(folder, wanted, tensors)
    return Survey(folder, config, tensors, layout, model, wanted, packed)


@contextmanager
def mapped(tensors: dict[str, TensorInfo]) -> Iterator[Callable[[str], Tensor]]:
    """A function from names to views of the files, which take no memory until they are read.

    A view keeps its mapping alive by itself. The function raises CheckpointError.
    """
    with ExitStack() as stack:
        files: dict[Path, Any] = {}

        def read(name: str) -> Tensor:
            file = tensors[name].file
            try:
                if file not in files:
                    files[file] = stack.enter_context(safe_open(file, framework="pt"))
                return files[file].get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{file}: cannot read {name} ({error})") from error

        yield read


def _empty_model(folder: Path, config: GptOssConfig) -> GptOss:
    """Shapes without memory."""
    try:
        with torch.device("meta"):
            return GptOss(config)
    except (RuntimeError, OverflowError) as error:  # a size beyond any machine's integers
        raise CheckpointError(
            f"{folder / 'config.json'} asks for an impossible size: {error}"
        ) from error


def check_folder(folder: str | Path) -> Path:
    """The folder itself. Raises CheckpointError, with advice for a file or a missing folder."""
    path = Path(folder).expanduser()
    if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"):
        raise CheckpointError(
            f"{path} is a pickle, which runs code when it is opened, so it is "
            "refused: give a folder with .safetensors files"
        )
    if path.suffix == ".gguf":
        raise CheckpointError(
            f"{path} is GGUF, llama.cpp's packing: give a folder with the original "
            "checkpoint's .safetensors files"
        )
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file: give the folder that holds it and its config.json"
        )
    if not path.is_dir():
        raise CheckpointError(
            f"there is no folder {path}: give a folder with config.json and "
            ".safetensors files, or a Hub id such as openai/gpt-oss-20b"
        )
    return path


def read_config(folder: Path) -> GptOssConfig:
    """The folder's config.json. Raises CheckpointError, also where the values make no sense."""
    file = folder / "config.json"
    data = read_json(file)
    quantization = data.get("quantization_config") or {"quant_method": "mxfp4"}
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    if method != "mxfp4":
        raise CheckpointError(
            f"{file}: quant_method is {method!r}; this package reads mxfp4 and "
            "unquantized checkpoints"
        )
    try:
        return GptOssConfig.from_dict(data)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _check_layers(folder: Path, config: GptOssConfig, tensors: dict[str, TensorInfo]) -> None:
    layers = count_layers(tensors)  # before a model of a million layers is built
    if layers != config.num_hidden_layers:
        raise CheckpointError(
            f"{folder / 'config.json'}: num_hidden_layers is {config.num_hidden_layers}, but the "
            f"tensors are of {layers} layers: config and weights of different models?"
        )


def _check_names(folder: Path, wanted: list[Entry], tensors: dict[str, TensorInfo]) -> set[Entry]:
    """The entries that are stored packed, once every name is accounted for."""
    packed, missing, known = set(), [], set()
    for entry in wanted:
        halves = [name for name in (entry.blocks, entry.scales) if entry.expert and name in tensors]
        if len(halves) == 1:
            other = entry.scales if halves[0] == entry.blocks else entry.blocks
            raise CheckpointError(
                f"{tensors[halves[0]].file} holds {halves[0]}, but {other} is "
                f"nowhere in {folder}: MXFP4 needs both"
            )
        if halves and entry.name in tensors:
            raise CheckpointError(
                f"{folder} holds {entry.name} twice, unpacked and as "
                f"{entry.blocks}: keep one of them"
            )
        if halves:
            packed.add(entry)
        elif entry.name not in tensors:
            missing.append(entry.name)
        known |= {entry.name, *halves}
    if missing:
        raise CheckpointError(
            f"{folder} lacks {some(missing)} ({len(missing)} of {len(wanted)} "
            "expected by config.json): fetch the missing files"
        )
    extra = sorted(set(tensors) - known)
    if extra:
        files = sorted({tensors[name].file.name for name in extra})
        raise CheckpointError(
            f"{folder}: {some(files)} holds {some(extra)}, which a gpt-oss of this "
            "config does not have: is config.json of another model?"
        )
    return packed


def _check_quantization(folder: Path, layout: Layout, packed: set[Entry]) -> None:
    """Hugging Face's config must say what the tensors are; the original's has no word for it."""
    promised = bool(read_json(folder / "config.json").get("quantization_config"))
    if layout == "original" or promised == bool(packed):
        return
    is_so, cure = ("unpacked", "remove") if promised else ("packed as MXFP4", "restore")
    raise CheckpointError(
        f"{folder / 'config.json'} {'has' if promised else 'lacks'} a quantization_config, but the "
        f"expert matrices are {is_so}: {cure} it, or transformers will load random experts"
    )


def _check_entry(entry: Entry, tensors: dict[str, TensorInfo], packed: bool) -> None:
    """Shape and dtype of what is stored for one entry."""
    shapes = {entry.name: entry.shape}
    if packed:
        shapes = {entry.blocks: (*entry.scales_shape, 16), entry.scales: entry.scales_shape}
    dtypes = ("U8",) if packed else _DENSE
    for name, shape in shapes.items():
        info = tensors[name]
        if info.shape != shape:
            raise CheckpointError(
                f"{info.file}: {name} has shape {list(info.shape)}, expected "
                f"{list(shape)} by config.json"
            )
        if info.dtype not in dtypes:
            raise CheckpointError(
                f"{info.file}: {name} is stored as {info.dtype}, expected "
                f"{' or '.join(dtypes)}: convert it first"
            )


@torch.no_grad()
def _fill(
    model: GptOss, wanted: list[Entry], tensors: dict[str, TensorInfo], packed: set[Entry]
) -> None:
    """Copy every stored tensor into its parameters."""
    params = dict(model.named_parameters())
    with mapped(tensors) as read:
        for entry in wanted:
            targets: list[Tensor] = [params[name] for name in entry.params]
            where = f"{tensors[entry.blocks if entry in packed else entry.name].file}: {entry.name}"
            if entry in packed:
                _unpack(targets[0], read(entry.blocks), read(entry.scales), where)
            else:
                _copy(targets, read(entry.name), entry.transposed)
            for target in targets:
                _check_finite(target, where)


def _copy(targets: list[Tensor], stored: Tensor, transposed: bool) -> None:
    """Rows of stored to the targets in turn: q, then k, then v."""
    stored = stored.transpose(1, 2) if transposed else stored
    parts = stored.split([len(target) for target in targets])
    for target, part in zip(targets, parts, strict=True):
        target.copy_(part)


def _unpack(target: Tensor, blocks: Tensor, scales: Tensor, where: str) -> None:
    """Unpack [E, out, G, 16] into target [E, in, out], an expert at a time."""
    if (scales == 255).any():
        expert, row, block = torch.nonzero(scales == 255)[0].tolist()
        raise CheckpointError(
            f"{where} has scale 255 (NaN) at expert {expert}, row {row}, block "
            f"{block}: the file is damaged, fetch it again"
        )
    for out, expert_blocks, expert_scales in zip(target, blocks, scales, strict=True):
        device = target.device
        values = dequantize(expert_blocks.to(device), expert_scales.to(device), target.dtype)
        out.copy_(values.T)


def _check_finite(target: Tensor, where: str) -> None:
    low, high = target.aminmax()  # NaN wins, and no mask as large as the tensor is made
    if not torch.isfinite(high - low):
        raise CheckpointError(f"{where} holds NaN or infinity: the file is damaged, fetch it again")


def stop_ids(folder: Path, config: GptOssConfig) -> frozenset[int]:
    """The end tokens of generation_config.json, if there is one."""
    file = folder / "generation_config.json"
    ids = read_json(file).get("eos_token_id", []) if file.exists() else []
    ids = ids if isinstance(ids, list) else [ids]
    if not all(type(i) is int and 0 <= i < config.vocab_size for i in ids):
        raise CheckpointError(
            f"{file}: eos_token_id {ids} must hold ids below the vocabulary size "
            f"{config.vocab_size}"
        )
    return frozenset(ids)
