"""`labhelpers.load`: a name in, a model and its tokenizer out.

    model, tokenizer = labhelpers.load()                   # nano, which comes with the package
    model, tokenizer = labhelpers.load("gpt-oss-20b")      # from the Hub, 13 GB to fetch
    model, tokenizer = labhelpers.load("path/to/folder")   # either layout

The idea   settle everything that can fail early first: the name, the dtype, the config, the memory,
           the tokenizer; then fetch and read the weights.
gpt-oss    bfloat16 on a GPU. On a CPU float32, which small models can afford and in which results
           can be compared to 1e-5. Never float16: activations of the real models overflow in it.
Sources    transformers' `from_pretrained`, whose habits this follows (a folder goes before a Hub
           id of the same name). Limits: the whole model on one device, experts unpacked.
"""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labhelpers.checkpoint import hub, memory
from labhelpers.checkpoint.errors import CheckpointError
from labhelpers.checkpoint.reader import check_folder, load_model, read_config
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss, check_dtype
from labhelpers.tokenizer import O200K_VOCAB_SIZE, TokenizerError, from_folder, o200k_harmony

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer

_STOPS = ("<|return|>", "<|call|>", "<|endoftext|>")
_QUIET_BELOW = 1_000_000_000  # bytes: a small model needs no announcement


def load(
    name_or_path: str | Path = "nano",
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> "tuple[GptOss, Tokenizer]":
    """Load a model and its tokenizer.

    name_or_path: "nano", "gpt-oss-20b", "gpt-oss-120b", a folder, or a Hub id ("owner/name";
    "owner/name/original" for the original layout). A folder that is called nano: "./nano".
    dtype: bfloat16 on CUDA, float32 elsewhere unless given. device: CUDA if there is one, else
    the CPU; "mps" must be asked for. Says what it needs if that is 1 GB or more.

    Raises CheckpointError (a ValueError) if the checkpoint is missing, damaged or too large for
    the memory; ValueError for float16 or a device that is not there.
    """
    device = _device(device)
    dtype = check_dtype(dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32))
    name = str(name_or_path)
    folder, remote = _find(name)
    config = read_config(folder)
    memory.check_memory(name, config, dtype, device)
    _announce(name, config, dtype, device)
    if remote is not None:
        folder = hub.fetch_all(remote)
    tokenizer = _tokenizer(folder, config)
    model = load_model(folder, dtype, device)
    if not model.stop_ids:  # the original layout names none
        model.stop_ids = frozenset(tokenizer.special_id(stop) for stop in _STOPS)
    return model, tokenizer


def _find(name: str) -> tuple[Path, hub.HubName | None]:
    """The folder with config.json and, for a Hub id, what is still to be fetched."""
    if name == "nano":
        folder = Path(str(resources.files("labhelpers"))) / "nano"
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"this copy of labhelpers carries no nano model ({folder / 'config.json'} is "
                "missing): reinstall it, or train one (training/README.md)"
            )
        return folder, None
    remote = hub.hub_name(name)
    if remote is None or (name not in hub.SHORT_NAMES and Path(name).expanduser().exists()):
        return check_folder(name), None
    return hub.fetch_config(remote), remote


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"no device {device!r}: give 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but torch sees no GPU here: leave device out, or 'cpu'")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device='mps', but torch sees no Apple GPU here: leave device out")
    return chosen


def _announce(name: str, config: GptOssConfig, dtype: torch.dtype, device: torch.device) -> None:
    needed = memory.needed_bytes(config, dtype)
    if needed >= _QUIET_BELOW:
        expert = 3 * config.hidden_size * config.intermediate_size * dtype.itemsize
        print(
            f"{name}: {memory.gigabytes(needed)} in {memory.dtype_name(dtype)} on {device} (an "
            f"expert {expert / 1e6:.1f} MB); {memory.gigabytes(memory.free_bytes(device))} are free"
        )


def _tokenizer(folder: Path, config: GptOssConfig) -> "Tokenizer":
    """The real vocabulary, or the one in the folder. Raises CheckpointError."""
    if config.vocab_size == O200K_VOCAB_SIZE:
        return o200k_harmony()
    try:
        tokenizer = from_folder(folder)
    except TokenizerError as error:
        raise CheckpointError(
            f"{error}: fetch it, or use labhelpers.checkpoint.load_model for the weights alone"
        ) from error
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} ids, config.json says "
            f"vocab_size {config.vocab_size}: files of different models?"
        )
    return tokenizer
