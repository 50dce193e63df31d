"""GGML's order: examples made by hand, round trips, and the gguf package where there is one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.mxfp4 import dequantize, from_ggml, pack, quantize, to_ggml, unpack

# Codes 0..15 twice, but the second half reversed, so that no two orders give the same bytes.
CODES = torch.tensor([*range(16), *reversed(range(16))], dtype=torch.uint8)
HUGGING_FACE = [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
                0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01]  # fmt: skip
GGML = [0xF0, 0xE1, 0xD2, 0xC3, 0xB4, 0xA5, 0x96, 0x87,
        0x78, 0x69, 0x5A, 0x4B, 0x3C, 0x2D, 0x1E, 0x0F]  # fmt: skip


def test_a_block_by_hand():
    blocks, scales = torch.tensor([HUGGING_FACE]).byte(), torch.tensor([118]).byte()
    assert torch.equal(unpack(blocks), CODES) and torch.equal(pack(CODES), blocks)
    rows = to_ggml(blocks, scales)
    assert rows.tolist() == [118, *GGML]
    back, back_scales = from_ggml(rows)
    assert back.tolist() == [HUGGING_FACE] and back_scales.tolist() == [118]


def test_value_j_and_value_j_plus_16_share_a_byte():
    weight = torch.zeros(32)
    weight[3], weight[19] = 6.0, -0.5
    scale, *nibbles = to_ggml(*quantize(weight)).tolist()
    assert scale == 127 and nibbles[3] == 0x97  # -0.5 is code 9, 6 is code 7
    assert not any(nibbles[:3] + nibbles[4:])


def test_blocks_of_a_row_follow_one_another():
    blocks = torch.randint(0, 256, (3, 5, 4, 16), dtype=torch.uint8)
    scales = torch.randint(0, 255, (3, 5, 4), dtype=torch.uint8)
    rows = to_ggml(blocks, scales)
    assert rows.shape == (3, 5, 4 * 17) and rows.dtype == torch.uint8 and rows.is_contiguous()
    assert torch.equal(rows[..., ::17], scales)
    alone = to_ggml(blocks[2, 1, 3:], scales[2, 1, 3:])
    assert torch.equal(rows[2, 1, 51:], alone)


byte = st.integers(0, 255)
block = st.tuples(st.lists(byte, min_size=16, max_size=16), st.integers(0, 254))


@settings(max_examples=60, deadline=None)
@given(st.lists(block, min_size=1, max_size=4))
def test_there_and_back(parts: list[tuple[list[int], int]]):
    blocks = torch.tensor([b for b, _ in parts], dtype=torch.uint8)
    scales = torch.tensor([s for _, s in parts], dtype=torch.uint8)
    rows = to_ggml(blocks, scales)
    back, back_scales = from_ggml(rows)
    assert torch.equal(back, blocks) and torch.equal(back_scales, scales)
    assert torch.equal(to_ggml(back, back_scales), rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_ggml(torch.zeros(2, 16).byte()), "takes 17: if they come from a Hugging"),
        (lambda: from_ggml(torch.zeros(17)), "uint8"),
        (lambda: from_ggml(torch.tensor(0).byte()), r"17 G\], got"),
        (lambda: from_ggml(torch.full((2, 34), 255).byte()), r"255 \(NaN\) at \[0, 0\]"),
        (lambda: to_ggml(torch.zeros(2, 16).byte(), torch.zeros(3).byte()), "belong together"),
        (lambda: to_ggml(torch.zeros(2, 16).byte(), torch.tensor([0, 255]).byte()), r"at \[1\]"),
    ],
)
def test_bad_input(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_gguf_package_reads_and_writes_the_same():
    gguf = pytest.importorskip("gguf", reason="pip install gguf, to compare with llama.cpp's own")
    kind = gguf.GGMLQuantizationType.MXFP4
    blocks = torch.randint(0, 256, (64, 8, 16), dtype=torch.uint8)
    scales = torch.randint(0, 255, (64, 8), dtype=torch.uint8)
    theirs = torch.from_numpy(gguf.dequantize(to_ggml(blocks, scales).numpy(), kind))
    assert torch.equal(dequantize(blocks, scales, torch.float32), theirs)
    weight = torch.randn(64, 256) * torch.exp(3 * torch.randn(64, 1))
    packed = from_ggml(torch.from_numpy(gguf.quantize(weight.numpy(), kind)))
    ours = quantize(weight, "floor")  # llama.cpp's rule
    assert torch.equal(packed[1], ours[1])
    assert torch.equal(dequantize(*packed), dequantize(*ours))
