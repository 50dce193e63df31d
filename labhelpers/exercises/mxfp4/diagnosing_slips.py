"""Wrong versions of exercise 2.8: the solution with one part exchanged, under the sentence for it.

Most come twice, since what is said where nothing fits is anybody's choice: "other", or "fine".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.mxfp4.damages import NAMES
from labhelpers.exercises.mxfp4.diagnosing import SIZE, diagnose
from labhelpers.mxfp4 import dequantize, fake_quantize, quantize

_ORDER = torch.arange(SIZE).view(2, -1).T.flatten()
Repair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _unggml(blocks: Tensor) -> Tensor:
    codes = torch.cat((blocks & 15, blocks >> 4), -1)
    return codes[..., ::2] | codes[..., 1::2] << 4


def _to_ggml(blocks: Tensor) -> Tensor:
    codes = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2)
    return codes[..., :16] | codes[..., 16:] << 4


_REPAIRS: dict[str, Repair] = {
    "fine": lambda blocks, scales: (blocks, scales),
    "nibbles": lambda blocks, scales: (blocks << 4 | blocks >> 4, scales),
    "ggml": lambda blocks, scales: (_unggml(blocks), scales),
    "scales": lambda blocks, scales: (blocks, scales.roll(-1, -1)),
    "bias": lambda blocks, scales: (blocks, scales + 127),
    "rows": lambda blocks, scales: (blocks[_ORDER], scales[_ORDER]),
}


def _is_floor(got: Tensor, reference: Tensor) -> bool:
    either = (got == fake_quantize(reference)) | (got == fake_quantize(reference, "floor"))
    return bool(either.all())


def _is_floor_throughout(got: Tensor, reference: Tensor) -> bool:
    return torch.equal(got, fake_quantize(reference, "floor"))


def _by_repairs(
    blocks: Tensor,
    scales: Tensor,
    reference: Tensor,
    left: str = "other",
    right: Callable[[Tensor], Tensor] = fake_quantize,
    alike: Callable[[Tensor, Tensor], bool] = torch.equal,
    transposed: Callable[[Tensor, Tensor], bool] = lambda got, reference: torch.equal(
        got, fake_quantize(reference.T)
    ),
    floor: Callable[[Tensor, Tensor], bool] = _is_floor,
    **repairs: Repair,  # "undo_rows", ...
) -> str:
    """The solution with parts of it exchanged; left: what is said if nothing fits."""
    wanted = right(reference)
    for name, usual in _REPAIRS.items():
        repair = repairs.get(f"undo_{name}", usual)
        if alike(dequantize(*repair(blocks, scales), torch.float32), wanted):
            return name
    got = dequantize(blocks, scales, torch.float32)
    if transposed(got, reference):
        return "transposed"
    return "floor" if floor(got, reference) else left


def _slip(message: str, left: tuple[str, ...] = ("other", "fine"), **changes: Any) -> None:
    """Wrong versions with one part exchanged, for each word that may be said in the end."""
    for word in left:

        def wrong(blocks: Tensor, scales: Tensor, reference: Tensor, word: str = word) -> str:
            return _by_repairs(blocks, scales, reference, word, **changes)

        wrong.__name__ = f"_diagnose_{len(diagnose.mistakes)}"
        diagnose.mistake(message)(wrong)


_slip(
    "What fits no damage is called after one: two at once are none of these, that is `other`. "
    "Prove the last name on the list like the others.",
    left=("fine", "floor", "rows", "transposed", "scales", "bias", "nibbles", "ggml"),
)
_slip(
    "The packed weights were compared with the reference itself, which is not rounded: nothing "
    "ever equals it. Compare with `fake_quantize(reference)`.",
    right=lambda reference: reference,
)
_slip(
    "Nibbles and GGML are taken for each other. Exchanged nibbles are undone byte by byte, `blocks "
    "<< 4 | blocks >> 4`; in GGML's order byte j holds codes j and j + 16, so they move between "
    "bytes.",
    left=("other",),
    undo_nibbles=_REPAIRS["ggml"],
    undo_ggml=_REPAIRS["nibbles"],
)
_slip(
    "GGML's order was taken the wrong way. If you repair the file: all low nibbles are its first "
    "16 codes, all high ones its last; pack neighbours of these. If you rebuild the damage from a "
    "right one: code j goes with j + 16.",
    undo_ggml=lambda blocks, scales: (_to_ggml(blocks), scales),
)
_slip(
    "Bytes were put in another order, as by `blocks.flip(-1)`. Exchanged nibbles change places "
    "within each byte: `blocks << 4 | blocks >> 4`.",
    undo_nibbles=lambda blocks, scales: (blocks.flip(-1), scales),
)
_ROLL = (
    "The scales were moved the wrong way, or along the wrong dimension: each row has its own, so "
    "along the last one. If you repair the file: back, `scales.roll(-1, -1)`. If you rebuild the "
    "damage from a right one: on, `scales.roll(1, -1)`."
)
_slip(_ROLL, undo_scales=lambda blocks, scales: (blocks, scales.roll(1, -1)))
_slip(_ROLL, left=("other",), undo_scales=lambda blocks, scales: (blocks, scales.roll(-1, 0)))
_slip(_ROLL, left=("other",), undo_scales=lambda blocks, scales: (blocks, scales.roll(-1)))
_slip(
    "The 127 was taken the wrong way. If you repair the file: it is missing already, so add it. If "
    "you rebuild the damage from a right one: subtract it.",
    undo_bias=lambda blocks, scales: (blocks, scales - 127),
)
_slip(
    "The 127 was added and the result clamped to a byte. A byte of 252 is the exponent -4 here: "
    "252 + 127 has to wrap around to 123, as uint8 does by itself.",
    undo_bias=lambda blocks, scales: (blocks, (scales.int() + 127).clamp(0, 255).to(torch.uint8)),
)
_slip(
    "The rows were moved the wrong way. If you repair the file: its halves are to alternate again, "
    "0, 48, 1, 49, ... If you rebuild the damage from a right one: even rows first, then odd ones.",
    undo_rows=lambda blocks, scales: tuple(
        t[torch.arange(SIZE).view(-1, 2).T.flatten()] for t in (blocks, scales)
    ),
)
_slip(
    "The transposed weights were rounded along the wrong dimension: if it was packed as [in, out] "
    "its blocks ran along *out*. Transpose the reference first and round it then.",
    transposed=lambda got, reference: torch.equal(got.T, fake_quantize(reference)),
)
_slip(
    "You say floor only if all blocks are by floor; one is enough: compare block by block.",
    floor=_is_floor_throughout,
)


def _by_error(got: Tensor, right: Tensor) -> bool:
    return bool((got - right).square().mean().sqrt() < 0.1 * right.square().mean().sqrt())


_slip(
    "By its error alone the floor rule looks fine: it is as good as round_up on the average. Equal "
    "means equal here, unpacking is exact: use `torch.equal`.",
    alike=_by_error,
)


def _by_first_row(got: Tensor, right: Tensor) -> bool:
    return torch.equal(got[0], right[0])


_slip(
    "Only the first row was compared, and some damage leaves it as it was: compare all of them.",
    alike=_by_first_row,
)


def _by_values(got: Tensor, right: Tensor) -> bool:
    return torch.equal(got.flatten().sort().values, right.flatten().sort().values)


_slip(
    "Only the values were compared, wherever they stand: nibbles in another order, or rows, leave "
    "them all in place in a histogram. Compare place by place.",
    alike=_by_values,
)


def _as_bytes(blocks: Tensor, scales: Tensor, reference: Tensor, word: str) -> str:
    found = _by_repairs(blocks, scales, reference, word)
    same = all(map(torch.equal, (blocks, scales), quantize(reference)))
    return word if found == "fine" and not same else found


_BYTES = (
    "Bytes were compared where values count: a block of zeros may have any scale, and its zeros "
    "either sign. Unpack first."
)
for _word in ("other", "floor"):

    def _bytes(blocks: Tensor, scales: Tensor, reference: Tensor, word: str = _word) -> str:
        found = _as_bytes(blocks, scales, reference, word)
        return "other" if word != "other" and _two(blocks, scales, reference) else found

    def _two(blocks: Tensor, scales: Tensor, reference: Tensor) -> bool:
        return diagnose.function(blocks, scales, reference) == "other"

    diagnose.mistake(_BYTES)(_bytes)


def _constant(name: str) -> None:
    def wrong(blocks: Tensor, scales: Tensor, reference: Tensor) -> str:
        return name

    wrong.__name__ = f"_always_{name}"
    diagnose.mistake(
        "The answer is the same for all weights: unpack them, and look what is wrong in each."
        + (" Does nothing ever equal what you compare with?" if name == "other" else "")
    )(wrong)


for _name in (*NAMES, "other"):
    _constant(_name)
