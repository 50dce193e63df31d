"""The reference: transformers' own gpt-oss, loaded so that its numbers can be compared with ours.

The idea   parity by numbers, never by likeness. transformers' GptOssForCausalLM in float32, with
           attention and experts in their plain ("eager") form, is what every part of the course
           is held against.
gpt-oss    its checkpoints hold MXFP4 experts. Here they are unpacked, which loses nothing: every
           MXFP4 value is a float32 value too.
Sources    transformers' `from_pretrained`, `Mxfp4Config`.
Limits     small models: gpt-oss-20b in float32 would take 84 GB. Not the way to run a model.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch


def load_reference(folder: str | Path = "nano") -> Any:
    """transformers' GptOssForCausalLM of nano or of any folder, in float32 on the CPU.

    Raises OSError (transformers') if the folder holds no model.
    """
    from transformers import GptOssForCausalLM
    from transformers.utils import logging
    from transformers.utils.quantization_config import Mxfp4Config

    if str(folder) == "nano":
        folder = Path(str(resources.files("labhelpers"))) / "nano"
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    if "quantization_config" in (Path(folder) / "config.json").read_text(encoding="utf-8"):
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it would warn that unpacking costs memory: intended here
    logging.disable_progress_bar()
    try:
        model = GptOssForCausalLM.from_pretrained(folder, **options)
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    return model.float().eval()  # unpacked experts arrive in bfloat16; the values are the same
