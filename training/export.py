"""From a training state to nano's folder: `python -m training.export --state runs/nano/state.pt`.

The experts leave as MXFP4, by the same rule that rounded them in every forward pass of training,
so nothing is lost; everything else leaves as bfloat16. `--masters` also writes the unrounded
weights, from which a later run can start (`training.train --from-weights`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labhelpers import checkpoint
from labhelpers.config import GptOssConfig
from labhelpers.model import GptOss
from labhelpers.tokenizer import from_folder

NANO = Path(__file__).parents[1] / "labhelpers" / "nano"
PART = 14_000_000  # bytes a file of masters


def weights_of(path: Path) -> dict[str, Tensor]:
    """Weights of a state.pt, or of a folder of masters."""
    if path.is_dir():
        found: dict[str, Tensor] = {}
        for part in sorted(path.glob("*.safetensors")):
            found.update(load_file(part))
        return found
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


def as_model(weights: dict[str, Tensor], config: GptOssConfig) -> GptOss:
    """The package's model: experts stand as [E, in, out] there."""
    model = GptOss(config)
    turned = {
        name: w.transpose(1, 2) if name.endswith(("gate_up_proj", "down_proj")) else w
        for name, w in weights.items()
    }
    model.load_state_dict(turned)
    return model


def write_masters(weights: dict[str, Tensor], folder: Path) -> None:
    """bfloat16 copies in parts of at most 14 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, w in weights.items():
        w = w.to(torch.bfloat16).contiguous()
        if size + w.nbytes > PART and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][name] = w
        size += w.nbytes
    for i, part in enumerate(parts):
        save_file(part, folder / f"masters-{i}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state.pt or a folder of masters")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--out", type=Path, default=NANO)
    parser.add_argument("--masters", type=Path)
    args = parser.parse_args()
    weights = weights_of(args.state)
    if args.masters:
        write_masters(weights, args.masters)
    tokenizer = from_folder(NANO)
    special = tokenizer.special_id
    config = replace(
        GptOssConfig.from_file(Path(__file__).parent / "configs" / f"{args.preset}.json"),
        eos_token_id=special("<|return|>"),
        pad_token_id=special("<|endoftext|>"),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "generation_config.json").write_text(
        json.dumps(
            {
                "eos_token_id": [special(n) for n in ("<|return|>", "<|call|>", "<|endoftext|>")],
                "pad_token_id": special("<|endoftext|>"),
                "do_sample": False,
            },
            indent=2,
        )
        + "\n"
    )
    paths = checkpoint.save(as_model(weights, config), args.out)
    print(*(f"{p.name}: {p.stat().st_size / 1e6:.2f} MB" for p in paths))


if __name__ == "__main__":
    main()
