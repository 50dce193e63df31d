"""From a model to a folder, in either layout, so that other engines can load it.

The idea   write what the published checkpoints hold: experts in MXFP4, all else in bf16, and a
           config.json that says so. Files appear whole or not at all: each is written under
           another name and then renamed, config.json last.
gpt-oss    Hugging Face's layout is what transformers loads with GptOssForCausalLM; the original
           one is what openai/gpt-oss loads.
Sources    the published config.json (`quantization_config`), openai/gpt-oss `ModelConfig`.
Limits     weights that were not trained for MXFP4 lose precision in it (mxfp4=False keeps them);
           the original config cannot tell unusual settings, which are then refused.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from labhelpers.checkpoint.errors import CheckpointError
from labhelpers.checkpoint.files import INDEX
from labhelpers.checkpoint.layouts import NOT_CONVERTED, Entry, Layout, entries
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss
from labhelpers.mxfp4.format import BLOCK, Rule, quantize

# A group is written to one file; its tensors are made when their turn comes, not before.
Group = tuple[int, Callable[[], dict[str, Tensor]]]


def save(
    model: GptOss,
    folder: str | Path,
    layout: Layout = "huggingface",
    mxfp4: bool = True,
    max_shard_bytes: int = 5_000_000_000,
    dtype: torch.dtype | None = torch.bfloat16,
    rule: Rule = "round_up",
) -> list[Path]:
    """Write model to folder and return the paths of the weight files.

    mxfp4 packs the experts (by `rule`); dtype is that of everything else, None for the model's
    own. A checkpoint that lies in the folder under this function's file names is replaced; an
    existing generation_config.json is kept. Raises CheckpointError for NaN, infinity, sizes that
    32 does not divide, or a config that the layout cannot express.
    """
    folder = Path(folder)
    if max_shard_bytes < 1:
        raise CheckpointError(f"max_shard_bytes must be at least 1, got {max_shard_bytes}")
    if dtype not in (None, torch.bfloat16, torch.float32):
        raise CheckpointError(f"dtype must be bfloat16, float32 or None, got {dtype}")
    config_json = _config_json(model.config, layout, mxfp4)
    if mxfp4:
        _check_blocks(model.config)
    shards = _shards(_groups(model, layout, mxfp4, dtype, rule), max_shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    paths = _write_shards(folder, shards, "model--" if layout == "original" else "model-")
    generation = folder / "generation_config.json"
    if layout == "huggingface" and model.stop_ids and not generation.exists():
        settings = {"eos_token_id": sorted(model.stop_ids), "do_sample": True}
        if model.config.pad_token_id is not None:
            settings["pad_token_id"] = model.config.pad_token_id
        _write_json(generation, settings)
    if dtype is not None and layout == "huggingface":
        config_json["dtype"] = str(dtype).removeprefix("torch.")
    _write_json(folder / "config.json", config_json)
    return paths


def _config_json(config: GptOssConfig, layout: Layout, mxfp4: bool) -> dict[str, Any]:
    if layout == "original":
        return _original_config(config)
    data = config.to_dict()
    if mxfp4:
        data["quantization_config"] = {
            "modules_to_not_convert": NOT_CONVERTED, "quant_method": "mxfp4"
        }  # fmt: skip
    return data


def _original_config(config: GptOssConfig) -> dict[str, Any]:
    """The 16 keys of openai/gpt-oss's ModelConfig, which stops at any other."""
    yarn = config.rope_scaling
    if yarn is None:
        raise CheckpointError("the original layout cannot say that YaRN is off (rope_scaling None)")
    data = {
        "num_hidden_layers": config.num_hidden_layers,
        "num_experts": config.num_local_experts,
        "experts_per_token": config.num_experts_per_tok,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "swiglu_limit": config.swiglu_limit,
        "head_dim": config.head_dim,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "sliding_window": config.sliding_window,
        "initial_context_length": yarn.original_max_position_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling_factor": yarn.factor,
        "rope_ntk_alpha": yarn.beta_slow,
        "rope_ntk_beta": yarn.beta_fast,
    }
    # Reading it back must give the same model; ids and the longest context are not its business.
    kept = {n: getattr(config, n) for n in ("eos_token_id", "pad_token_id")}
    read = GptOssConfig.from_dict(data)
    read = replace(read, max_position_embeddings=config.max_position_embeddings, **kept)
    lost = [n for n, v in vars(config).items() if getattr(read, n) != v]
    if lost:
        raise CheckpointError(
            f"the original layout cannot express {', '.join(lost)} of this config "
            "(it always means gpt-oss's own): save as 'huggingface'"
        )
    return data


def _check_blocks(config: GptOssConfig) -> None:
    for name in ("hidden_size", "intermediate_size"):
        if getattr(config, name) % BLOCK:
            raise CheckpointError(
                f"{name}={getattr(config, name)} is not a multiple of {BLOCK}, so the experts do "
                "not divide into MXFP4 blocks: save with mxfp4=False"
            )


def _groups(
    model: GptOss, layout: Layout, mxfp4: bool, dtype: torch.dtype | None, rule: Rule
) -> Iterator[Group]:
    """(bytes, maker of tensors) for each entry of the layout."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    for entry in entries({n: tuple(p.shape) for n, p in params.items()}, layout):
        values = [params[name] for name in entry.params]
        count = sum(value.numel() for value in values)
        if mxfp4 and entry.expert:
            size = count // 2 + count // BLOCK
            yield size, partial(_packed, entry, values[0], rule)
        else:
            kept = dtype or values[0].dtype
            yield count * kept.itemsize, partial(_dense, entry, values, kept)


def _packed(entry: Entry, weight: Tensor, rule: Rule) -> dict[str, Tensor]:
    """Pack weight [E, in, out] an expert at a time, along its input dimension."""
    try:
        pairs = [quantize(expert.T, rule) for expert in weight]
    except ValueError as error:
        raise CheckpointError(f"cannot save {entry.params[0]}: {error}") from error
    blocks, scales = (torch.stack(part).cpu() for part in zip(*pairs, strict=True))
    return {entry.blocks: blocks, entry.scales: scales}


def _dense(entry: Entry, values: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    value = torch.cat([v.to("cpu", dtype) for v in values])
    low, high = value.aminmax()
    if not torch.isfinite(high - low):
        raise CheckpointError(f"cannot save {entry.params[0]}: it holds NaN or infinity")
    value = value.transpose(1, 2) if entry.transposed else value
    return {entry.name: value.contiguous()}


def _shards(groups: Iterator[Group], most: int) -> list[list[Group]]:
    """Fill shards in order, none above `most` bytes unless one group alone is."""
    shards: list[list[Group]] = [[]]
    used = 0
    for group in groups:
        if shards[-1] and used + group[0] > most:
            shards.append([])
            used = 0
        shards[-1].append(group)
        used += group[0]
    return shards


def _write_shards(folder: Path, shards: list[list[Group]], prefix: str) -> list[Path]:
    """Write model.safetensors, or numbered shards and their index; remove what they replace."""
    weight_map: dict[str, str] = {}
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [
            f"{prefix}{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)
        ]
    for name, shard in zip(names, shards, strict=True):
        tensors: dict[str, Tensor] = {}
        for _, make in shard:
            tensors |= make()
        weight_map |= dict.fromkeys(tensors, name)
        save_file(tensors, folder / f".{name}.partial", metadata={"format": "pt"})
    written = {folder / name for name in names}
    for old in {
        folder / INDEX,
        folder / "model.safetensors",
        *folder.glob("model-*-of-*.safetensors"),
    }:
        if old not in written:
            old.unlink(missing_ok=True)  # else it would be read together with the new files
    for path in sorted(written):
        os.replace(folder / f".{path.name}.partial", path)
    if len(shards) > 1:
        total = sum(size for shard in shards for size, _ in shard)
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return sorted(written)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
