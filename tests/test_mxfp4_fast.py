"""Fast dequantising: the same bits as the readable version and as transformers, in any shape."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.mxfp4 import (
    dequantize,
    dequantize_fast,
    dequantize_transposed,
    fast,
    pages,
    transposed,
)

DTYPES = [torch.bfloat16, torch.float32]
BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


def packed(*shape: int, top: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
    return blocks, torch.randint(0, top, shape, dtype=torch.uint8)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit, except that one NaN is as good as another."""
    assert a.dtype == b.dtype and a.shape == b.shape
    return bool(((a.view(BITS[a.dtype]) == b.view(BITS[a.dtype])) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_byte_with_every_scale(dtype: torch.dtype):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    byte = torch.arange(256, dtype=torch.uint8)
    blocks = byte.view(1, 1, 16, 16).repeat(1, 256, 1, 1)  # row = scale, all bytes in 16 blocks
    scales = byte.view(1, 256, 1).repeat(1, 1, 16)
    plain = dequantize(blocks, scales, dtype)
    quick = dequantize_fast(blocks, scales, dtype)
    turned = dequantize_transposed(blocks, scales, dtype)
    assert same_bits(quick, plain) and same_bits(turned, plain.mT.contiguous())
    assert quick[0, 255].isnan().all() and turned[0, :, 255].isnan().all()
    theirs = convert_moe_packed_tensors(blocks[:, :255], scales[:, :255]).to(dtype)
    assert torch.equal(turned[:, :, :255].contiguous().view(BITS[dtype]), theirs.view(BITS[dtype]))
    # Without the largest scales the other, shorter way through the exponents is taken.
    for end in (241, 242):  # on both sides of where the ways part
        low = dequantize_transposed(blocks[:, :end], scales[:, :end], dtype)
        assert same_bits(low, plain[:, :end].mT.contiguous())


def test_every_pair_of_bytes():
    word = torch.arange(2**16).to(torch.uint16).view(torch.uint8)
    blocks = word.view(-1, 16)
    scales = torch.full((len(blocks),), 127, dtype=torch.uint8)
    assert same_bits(dequantize_fast(blocks, scales), dequantize(blocks, scales))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.integers(1, 3),
    st.integers(0, 2**32),
)
def test_any_shape_in_any_number_of_threads(
    shape: list[int], dtype: torch.dtype, threads: int, seed: int
):
    torch.manual_seed(seed)
    blocks, scales = packed(*shape)
    plain = dequantize(blocks, scales, dtype)
    with pytest.MonkeyPatch.context() as patch:  # many chunks and ragged tiles, though all is small
        patch.setattr(fast, "CHUNK", 7)
        patch.setattr(transposed, "TILE_ROWS", 3)
        patch.setattr(transposed, "TILE_GROUPS", 2)
        assert same_bits(dequantize_fast(blocks, scales, dtype, threads=threads), plain)
        if len(shape) > 1:
            turned = dequantize_transposed(blocks, scales, dtype, threads=threads)
            assert turned.is_contiguous() and same_bits(turned, plain.mT.contiguous())


def test_sizes_beyond_a_chunk():
    blocks, scales = packed(2, 1000, 33, top=255)  # two row tiles, two group tiles, five chunks
    plain = dequantize(blocks, scales)
    for threads in (1, 2):
        assert same_bits(dequantize_fast(blocks, scales, threads=threads), plain)
        turned = dequantize_transposed(blocks, scales, threads=threads)
        assert same_bits(turned, plain.mT.contiguous())


def test_views_that_lie_askew():
    blocks, scales = packed(6, 4, 8)
    for part in (slice(1, 5), slice(0, 6, 2)):
        views = blocks[part].transpose(0, 1), scales[part].transpose(0, 1)
        assert same_bits(dequantize_fast(*views), dequantize(*views))
        assert same_bits(dequantize_transposed(*views), dequantize(*views).mT.contiguous())
    odd = torch.randint(0, 256, (16 * 8 + 1,), dtype=torch.uint8)[1:].view(8, 16)
    assert same_bits(dequantize_fast(odd, scales[0, 0]), dequantize(odd, scales[0, 0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_is_filled_and_returned(dtype: torch.dtype):
    blocks, scales = packed(3, 8, 4)
    for call, shape in ((dequantize_fast, (3, 8, 128)), (dequantize_transposed, (3, 128, 8))):
        out = torch.full(shape, torch.nan, dtype=dtype)
        assert call(blocks, scales, dtype, out=out) is out
        assert same_bits(out, call(blocks, scales, dtype))


def test_nothing_in_nothing_out():
    empty = torch.zeros(0, 4, 16, dtype=torch.uint8), torch.zeros(0, 4, dtype=torch.uint8)
    assert dequantize_fast(*empty).shape == (0, 128)
    assert dequantize_transposed(*empty).shape == (128, 0)


def test_threads_leave_torch_as_it_was():
    blocks, scales = packed(4, 2000, 8)
    before, seen = torch.get_num_threads(), []
    dequantize_fast(blocks, scales, threads=3)
    late = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert [torch.get_num_threads(), *seen] == [before, before]


def test_an_error_in_a_worker_is_not_lost():
    def worker():
        def run(job):
            raise ArithmeticError(str(job))

        return run

    for threads in (1, 2):
        with pytest.raises(ArithmeticError, match="slice"):
            fast.share_out([(slice(0, 1),)] * 4, worker, threads)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_large_pages_are_ordinary_memory(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "WORTH_IT", 1)
    monkeypatch.setattr(pages.sys, "platform", platform)
    pages._madvise.cache_clear()
    for size in (1, 1000, 2**21, 2**22 + 5):
        new = pages.empty((size, 3), torch.bfloat16)
        assert new.shape == (size, 3) and new.dtype == torch.bfloat16 and new.is_contiguous()
        assert not new.fill_(0).any()
    pages._madvise.cache_clear()


BLOCKS, SCALES = torch.zeros(4, 2, 16).byte(), torch.zeros(4, 2).byte()


@pytest.mark.parametrize("call", [dequantize_fast, dequantize_transposed])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BLOCKS, SCALES[:3]), "belong together"),
        ((BLOCKS.int(), SCALES), "uint8"),
        ((BLOCKS, SCALES, torch.float16), "torch.bfloat16 or torch.float32"),
        ((BLOCKS, SCALES, torch.float64), "torch.bfloat16 or torch.float32"),
        ((BLOCKS.to("meta"), SCALES), "CPU: use labhelpers.mxfp4.dequantize"),
        ((BLOCKS, SCALES, torch.bfloat16, torch.zeros(5, 5)), "expected a contiguous"),
        ((BLOCKS, SCALES, torch.bfloat16, torch.zeros(4, 64)), "expected a contiguous"),
    ],
)
def test_bad_input(call, arguments: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        call(*arguments)


def test_bad_shapes_of_their_own():
    with pytest.raises(ValueError, match="no rows to turn"):
        dequantize_transposed(BLOCKS[0], SCALES[0])
    with pytest.raises(ValueError, match="contiguous: False"):
        dequantize_fast(BLOCKS, SCALES, out=torch.zeros(64, 4, dtype=torch.bfloat16).T)
    askew = torch.zeros(4 * 64 + 1, dtype=torch.bfloat16)[1:].view(4, 64)
    with pytest.raises(ValueError, match="multiple of four"):
        dequantize_fast(BLOCKS, SCALES, out=askew)
