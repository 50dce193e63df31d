"""Experts that stay packed: 4.25 bits a weight in memory, unpacked a few rows at a time.

The idea   of 32 experts a token uses 4, so 28 need not even be read. Blocks and scales are kept as
           the checkpoint has them, views of a memory-mapped file, and a product with a packed
           matrix unpacks some rows, multiplies, and forgets them. What is unpacked at any
           moment is a few megabytes, whatever the size of the model.
gpt-oss    90% of the weights are experts: unpacked to bf16 gpt-oss-20b takes 42 GB, packed 13.8.
Sources    transformers' GptOssExperts for the numbers (here `model.moe.Experts`, whose forward is
           inherited); its Mxfp4GptOssExperts keeps the same two tensors a matrix, for a GPU.
Limits     the CPU, and no training: nothing flows back into packed weights. Each use unpacks
           anew, so time goes into unpacking, not multiplying, until many tokens share an expert.
           A file must not be changed or cut short while it is mapped.

Letters: T tokens, H hidden, I intermediate, E experts, G blocks a row.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labhelpers.config import GptOssConfig
from labhelpers.model.moe import Experts, swiglu
from labhelpers.mxfp4.fast import Job, dequantize_fast, share_out
from labhelpers.mxfp4.format import BLOCK, dequantize

# Weights that a thread unpacks at a time: 1 MiB as bf16, which stays in its core's cache between
# unpacking and multiplying.
CHUNK = 2**19


def packed_product(x: Tensor, blocks: Tensor, scales: Tensor, chunk: int = CHUNK) -> Tensor:
    """x @ dequantize(blocks, scales).T: [T, in] -> [T, out], without ever holding that matrix.

    x is bf16 or fp32 [T, 32 G]; blocks uint8 [out, G, 16], scales uint8 [out, G]. Each of torch's
    threads unpacks some rows to x's dtype, `chunk` weights or at least one row, into a buffer
    that it uses again for the next. (Where x wants a gradient, the matrix is made after all.)
    Raises ValueError.
    """
    if x.ndim != 2 or scales.ndim != 2 or x.shape[1] != BLOCK * scales.shape[1]:
        raise ValueError(
            f"x {list(x.shape)} and scales {list(scales.shape)} do not belong together: "
            f"expected [T, {BLOCK} G] and [out, G]"
        )
    if torch.is_grad_enabled() and x.requires_grad:
        return x @ dequantize(blocks, scales, x.dtype).T
    out = x.new_empty(len(x), len(scales))
    rows = max(1, chunk // x.shape[1])
    inference = torch.is_inference_mode_enabled()

    def worker() -> Callable[[Job], None]:
        buffer = torch.empty(rows, x.shape[1], dtype=x.dtype)

        def multiply(job: Job) -> None:
            # A mode holds for one thread only: a new one starts in none.
            with torch.inference_mode(inference), torch.no_grad():
                part = scales[job]
                weight = dequantize_fast(blocks[job], part, x.dtype, buffer[: len(part)], 1)
                out[:, job[0]] = x @ weight.T

        return multiply

    share_out([(slice(i, i + rows),) for i in range(0, len(scales), rows)], worker)
    return out


class PackedExperts(Experts):
    """`Experts` whose two matrices an expert stay packed; everything else is inherited.

    Tensors have the checkpoint's names and shapes, so a state dict is filled with what the file
    holds: `gate_up_proj_blocks` [E, 2I, H/32, 16], `gate_up_proj_scales` [E, 2I, H/32],
    `gate_up_proj_bias` [E, 2I], `down_proj_blocks` [E, H, I/32, 16], `down_proj_scales`
    [E, H, I/32], `down_proj_bias` [E, H]. Packed matrices are (out, in): see `weights`.
    """

    def __init__(self, config: GptOssConfig, where: str = "these experts") -> None:
        """Empty, to be filled; `where` names file and layer in errors. Raises ValueError."""
        nn.Module.__init__(self)  # not Experts': it would make the unpacked matrices
        experts, hidden = config.num_local_experts, config.hidden_size
        inner = config.intermediate_size
        if hidden % BLOCK or inner % BLOCK:
            raise ValueError(
                f"hidden_size={hidden} and intermediate_size={inner} must be multiples of {BLOCK}: "
                "MXFP4 has blocks of that size; keep these experts unpacked"
            )
        self.alpha, self.limit, self.where = config.swiglu_alpha, config.swiglu_limit, where
        self._sound: set[int] = set()  # experts whose scales were looked at
        for name, rows, columns in (("gate_up", 2 * inner, hidden), ("down", hidden, inner)):
            scales = torch.empty(experts, rows, columns // BLOCK, dtype=torch.uint8)
            blocks = torch.empty(*scales.shape, BLOCK // 2, dtype=torch.uint8)
            self.register_buffer(f"{name}_proj_blocks", blocks)
            self.register_buffer(f"{name}_proj_scales", scales)
            bias = nn.Parameter(torch.empty(experts, rows), requires_grad=False)
            self.register_parameter(f"{name}_proj_bias", bias)

    def expert(self, index: int, hidden: Tensor) -> Tensor:
        """One expert on hidden [t, H] -> [t, H]. Raises ValueError for damaged scales."""
        self._check(index)
        gate_up = self._product("gate_up", index, hidden)  # [t, 2I]
        return self._product("down", index, swiglu(gate_up, self.alpha, self.limit))

    def weights(self, index: int, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor]:
        """One expert unpacked as `Experts` has it: gate_up [H, 2I] and down [I, H] of dtype."""
        gate_up, down = (
            dequantize(self._part(name, "blocks", index), self._part(name, "scales", index), dtype)
            for name in ("gate_up", "down")
        )
        return gate_up.T, down.T

    def expert_bytes(self) -> int:
        """Bytes that one expert takes: what a token reads for each expert that it chose."""
        return sum(t[0].nbytes for t in self.state_dict().values())

    def extra_repr(self) -> str:
        """What print(model) says of it."""
        experts, rows, groups = self._all("down", "scales").shape
        return (
            f"{experts} experts, hidden {rows}, intermediate {groups * BLOCK}, packed as MXFP4: "
            f"{self.expert_bytes() / 1e6:.2f} MB an expert"
        )

    def _product(self, name: str, index: int, x: Tensor) -> Tensor:
        blocks, scales = self._part(name, "blocks", index), self._part(name, "scales", index)
        return packed_product(x, blocks, scales) + self._part(name, "bias", index)

    def _all(self, name: str, part: str) -> Tensor:
        return getattr(self, f"{name}_proj_{part}")

    def _part(self, name: str, part: str, index: int) -> Tensor:
        return self._all(name, part)[index]

    def _check(self, index: int) -> None:
        """An expert is looked at when it is first used: all of them would be all of the file."""
        if index in self._sound:
            return
        for name in ("gate_up", "down"):
            if (self._part(name, "scales", index) == 255).any():
                raise ValueError(
                    f"{self.where}: {name}_proj_scales of expert {index} hold 255 (NaN): the file "
                    "is damaged, fetch it again"
                )
        self._sound.add(index)
