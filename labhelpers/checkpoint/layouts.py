"""Two names for everything: the Hugging Face layout and OpenAI's original one.

The idea   a layout is a list of what is stored and which parameters of our model it fills. Our
           parameters carry Hugging Face's names, so only the original layout renames.
gpt-oss    both hold the same numbers. The original fuses q, k and v into one `attn.qkv`; a
           packed expert matrix is two tensors, `_blocks` and `_scales` (original: `.blocks` and
           `.scales`), always [E, out, in]. Unpacked, Hugging Face's is [E, in, out] like ours,
           the original's [E, out, in].
Sources    openai/gpt-oss `torch/weights.py` and `torch/model.py`; transformers' GptOssExperts and
           `convert_moe_packed_tensors`. Limits: no other layout (Metal's, GGUF's).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from labhelpers.checkpoint.errors import CheckpointError, some
from labhelpers.mxfp4.format import BLOCK

Layout = Literal["huggingface", "original"]
Shape = tuple[int, ...]

# What the published config.json names as left unpacked: everything but the experts and norms.
NOT_CONVERTED = [
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"
]  # fmt: skip

_ORIGINAL = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.norm.weight": "norm.scale",
    "lm_head.weight": "unembedding.weight",
}
_ORIGINAL_IN_BLOCK = {
    "input_layernorm.weight": "attn.norm.scale",
    "self_attn.q_proj.weight": "attn.qkv.weight",
    "self_attn.q_proj.bias": "attn.qkv.bias",
    "self_attn.sinks": "attn.sinks",
    "self_attn.o_proj.weight": "attn.out.weight",
    "self_attn.o_proj.bias": "attn.out.bias",
    "post_attention_layernorm.weight": "mlp.norm.scale",
    "mlp.router.weight": "mlp.gate.weight",
    "mlp.router.bias": "mlp.gate.bias",
    "mlp.experts.gate_up_proj": "mlp.mlp1_weight",
    "mlp.experts.gate_up_proj_bias": "mlp.mlp1_bias",
    "mlp.experts.down_proj": "mlp.mlp2_weight",
    "mlp.experts.down_proj_bias": "mlp.mlp2_bias",
}


@dataclass(frozen=True)
class Entry:
    """One stored matrix or vector, and the parameters that its rows fill, in order."""

    name: str
    params: tuple[str, ...]  # three for the fused qkv, else one
    shape: Shape  # as stored unpacked
    expert: bool = False  # an expert matrix, which may be stored packed
    transposed: bool = False  # stored unpacked as [E, out, in], while the parameter is [E, in, out]
    separator: str = "_"

    @property
    def blocks(self) -> str:
        """Name of the packed codes, uint8 [E, out, in / 32, 16]."""
        return f"{self.name}{self.separator}blocks"

    @property
    def scales(self) -> str:
        """Name of the packed scales, uint8 of `scales_shape`."""
        return f"{self.name}{self.separator}scales"

    @property
    def scales_shape(self) -> Shape:
        """[E, out, in / 32]; blocks have 16 bytes for each of these."""
        experts, rows, columns = self.shape
        if not self.transposed:
            rows, columns = columns, rows
        return experts, rows, columns // BLOCK


def entries(params: Mapping[str, Shape], layout: Layout) -> list[Entry]:
    """What a layout stores for a model with these parameters (name -> shape).

    Raises CheckpointError for a layout that is neither.
    """
    if layout not in get_args(Layout):
        raise CheckpointError(f"layout must be one of {list(get_args(Layout))}, got {layout!r}")
    if layout == "huggingface":
        return [Entry(n, (n,), tuple(s), expert=_is_expert(n)) for n, s in params.items()]
    out = []
    for name, shape in params.items():
        if re.search(r"\.[kv]_proj\.", name):
            continue  # stored behind q
        names = tuple(name.replace("q_proj", f"{part}_proj") for part in "qkv")
        if "q_proj" not in name:
            names = (name,)
        rows = sum(params[n][0] for n in names)
        expert = _is_expert(name)
        stored = (shape[0], shape[2], shape[1]) if expert else (rows, *shape[1:])
        out.append(Entry(_original(name), names, stored, expert, expert, "."))
    return out


def detect(names: Iterable[str], where: object) -> Layout:
    """The layout whose names these are. Raises CheckpointError for neither, or a mixture."""
    original = sorted(n for n in names if re.match(r"block\.|embedding\.|unembedding\.|norm\.", n))
    published = sorted(n for n in names if re.match(r"model\.|lm_head\.", n))
    if original and published:
        raise CheckpointError(
            f"{where} mixes two layouts: {original[0]} is OpenAI's original, {published[0]} is "
            "Hugging Face's. Keep each in its own folder"
        )
    if not original and not published:
        raise CheckpointError(
            f"{where} is no gpt-oss checkpoint: it holds {some(sorted(names)) or 'nothing'}"
        )
    return "original" if original else "huggingface"


def count_layers(names: Iterable[str]) -> int:
    """One more than the highest layer number in the names."""
    numbers = [re.match(r"(?:model\.layers|block)\.(\d{1,6})\.", name) for name in names]
    return 1 + max((int(match[1]) for match in numbers if match), default=-1)


def _is_expert(name: str) -> bool:
    return name.endswith(("experts.gate_up_proj", "experts.down_proj"))


def _original(name: str) -> str:
    block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    return f"block.{block[1]}.{_ORIGINAL_IN_BLOCK[block[2]]}" if block else _ORIGINAL[name]
