"""Checkpoints: safetensors in Hugging Face's and OpenAI's original layout, to and from a model.

`load_model(folder)` reads either layout, `save(model, folder)` writes either; `load_packed(folder)`
keeps the experts packed, in the file. Errors are
CheckpointError and name the file and the tensor. `labhelpers.load` adds names and the tokenizer.
"""

from labhelpers.checkpoint.errors import CheckpointError
from labhelpers.checkpoint.files import TensorInfo, read_folder, read_header
from labhelpers.checkpoint.packed import load_packed
from labhelpers.checkpoint.reader import load_model, read_config
from labhelpers.checkpoint.writer import save

__all__ = [
    "CheckpointError",
    "TensorInfo",
    "load_model",
    "load_packed",
    "read_config",
    "read_folder",
    "read_header",
    "save",
]
