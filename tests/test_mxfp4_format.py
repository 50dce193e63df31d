"""MXFP4 format: against transformers bit for bit, against arithmetic on paper, and by property."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.mxfp4 import format as mx

BFLOAT16 = torch.bfloat16
RULES = ["round_up", "floor"]
MAGNITUDES = torch.tensor(mx.FP4_VALUES[:8])


def block_of(*values: float) -> torch.Tensor:
    return torch.tensor(values + (0.0,) * (32 - len(values)))


def nearest_even(x: float) -> float:
    """The slow, obvious rounding of a magnitude to E2M1: nearest, ties to the even code."""
    gaps = [abs(x - v) for v in mx.FP4_VALUES[:8]]
    best = [i for i, gap in enumerate(gaps) if gap == min(gaps)]
    return mx.FP4_VALUES[next(i for i in best if i % 2 == 0) if len(best) == 2 else best[0]]


def test_every_byte_with_every_scale_equals_transformers():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    byte = torch.arange(256, dtype=torch.uint8)
    blocks = byte.view(1, 1, 16, 16).repeat(1, 256, 1, 1)  # row = scale, all bytes in 16 blocks
    scales = byte.view(1, 256, 1).repeat(1, 1, 16)
    theirs = convert_moe_packed_tensors(blocks, scales).transpose(1, 2)
    ours = mx.dequantize(blocks, scales)
    same_bits = ours.view(torch.int16) == theirs.view(torch.int16)
    assert same_bits[0, :255].all()
    assert ours[0, 255].isnan().all()  # OCP: scale 255 is NaN, for zeros too
    for dtype, scale in ((torch.float32, 255), (torch.float64, 253)):
        wider = mx.dequantize(blocks, scales, dtype)[0, :scale]
        assert torch.equal(ours[0, :scale].to(dtype), wider)


def test_value_by_the_definition():
    blocks = torch.zeros(1, 16, dtype=torch.uint8)
    blocks[0, 0], blocks[0, 15] = 0x7A, 0x0D  # low nibble first: -1 and 6; -3 and 0
    values = mx.dequantize(blocks, torch.tensor([130], dtype=torch.uint8), torch.float32)
    assert values[[0, 1, 30, 31]].tolist() == [-8.0, 48.0, -24.0, 0.0]


def test_layout_of_an_expert():
    weight = torch.randn(3, 64, 96)
    blocks, scales = mx.quantize(weight)
    assert (blocks.shape, scales.shape) == ((3, 64, 3, 16), (3, 64, 3))
    assert blocks.dtype == scales.dtype == torch.uint8
    alone = mx.quantize(weight[1, 7, 32:64])
    assert torch.equal(alone[0][0], blocks[1, 7, 1]) and alone[1][0] == scales[1, 7, 1]


def test_pack_and_unpack_are_inverse():
    codes = torch.randint(0, 16, (5, 64), dtype=torch.uint8)
    assert torch.equal(mx.unpack(mx.pack(codes)), codes)
    assert mx.pack(codes)[0, 0, 0] == codes[0, 0] + 16 * codes[0, 1]
    with pytest.raises(ValueError, match="30 columns"):
        mx.pack(codes[:, :30])


@pytest.mark.parametrize(
    ("largest", "up", "floor"),
    [(6.0, 0, 0), (4.0, 0, 0), (3.0, -1, -1), (3.1, 0, -1), (6.01, 1, 0), (7.9, 1, 0), (8.0, 1, 1)],
)
def test_the_two_scale_rules(largest: float, up: int, floor: int):
    weight = block_of(largest, 0.4)
    assert mx.quantize(weight, "round_up")[1].item() - 127 == up
    assert mx.quantize(weight, "floor")[1].item() - 127 == floor


def test_floor_clips_and_round_up_does_not():
    weight = block_of(7.9, -7.9)
    assert mx.fake_quantize(weight, "floor")[:2].tolist() == [6.0, -6.0]
    assert mx.fake_quantize(weight, "round_up")[:2].tolist() == [8.0, -8.0]


def test_round_up_just_above_six_steps():
    above = torch.nextafter(torch.tensor(6.0), torch.tensor(7.0))
    assert mx.quantize(block_of(above.item()))[1].item() == 128
    assert mx.quantize(block_of(6.0))[1].item() == 127


def test_ties_go_to_the_even_code():
    ties = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
    rounded = mx.fake_quantize(block_of(6.0, *ties))[1:8]
    assert rounded.tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize("rule", RULES)
def test_zero_block_and_negative_zero(rule: str):
    blocks, scales = mx.quantize(torch.zeros(32), rule)
    assert scales.item() == 0 and not blocks.any()
    weight = block_of(-0.0, -0.1, 6.0)
    codes = mx.unpack(mx.quantize(weight, rule)[0])
    assert codes[:4].tolist() == [8, 8, 7, 0]
    for values in (mx.fake_quantize(weight, rule), mx.dequantize(*mx.quantize(weight, rule))):
        assert values.signbit()[:4].tolist() == [True, True, False, False]


@pytest.mark.parametrize("rule", RULES)
def test_the_ends_of_the_range(rule: str):
    tiny = block_of(2.0**-126, -(2.0**-149), 2.0**-128, 3 * 2.0**-128)
    assert mx.quantize(tiny, rule)[1].item() == 0
    expected = [2.0**-126, -0.0, 2.0**-128, 3 * 2.0**-128]
    assert mx.dequantize(*mx.quantize(tiny, rule))[:4].tolist() == expected
    assert mx.fake_quantize(tiny, rule)[:4].tolist() == expected
    huge = block_of(torch.finfo(torch.float32).max, 2.0**127, -(2.0**126))
    blocks, scales = mx.quantize(huge, rule)
    assert scales.item() <= 252
    assert mx.dequantize(blocks, scales)[:3].tolist() == [1.5 * 2.0**127, 2.0**127, -(2.0**126)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_named(bad: float):
    weight = torch.randn(2, 64)
    weight[1, 40] = bad
    with pytest.raises(ValueError, match=r"at \[1, 40\]"):
        mx.quantize(weight)
    faked = mx.fake_quantize(weight)
    assert faked[1, 32:].isnan().all()
    assert faked[0].isfinite().all() and faked[1, :32].isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mx.quantize(torch.zeros(2, 33)), "multiple of 32: pad"),
        (lambda: mx.quantize(torch.zeros(2, 0)), "multiple of 32"),
        (lambda: mx.quantize(torch.tensor(1.0)), "multiple of 32"),
        (lambda: mx.quantize(torch.zeros(32, dtype=torch.int32)), "floating point"),
        (lambda: mx.quantize(torch.zeros(32), "nearest"), r"'round_up', 'floor'"),
        (lambda: mx.fake_quantize(torch.zeros(32).half()), "fp32 or bf16"),
        (lambda: mx.fake_quantize(torch.zeros(64, 48)), "multiple of 32"),
        (lambda: mx.dequantize(*mx.quantize(torch.zeros(32)), dtype=torch.float16), "range"),
        (lambda: mx.dequantize(torch.zeros(1, 16), torch.zeros(1)), "uint8"),
        (
            lambda: mx.dequantize(torch.zeros(2, 16).byte(), torch.zeros(1).byte()),
            r"\[2, 16\] and scales \[1\]",
        ),
        (lambda: mx.dequantize(torch.zeros(2, 8).byte(), torch.zeros(2).byte()), "belong together"),
    ],
)
def test_bad_input(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_gradient_goes_straight_through():
    weight = torch.randn(4, 64, 8, requires_grad=True)
    factor = torch.randn(4, 64, 8)
    quantized = mx.fake_quantize_ste(weight, "floor", dim=-2)
    assert torch.equal(quantized, mx.fake_quantize(weight.detach(), "floor", dim=-2))
    (quantized * factor).sum().backward()
    assert torch.equal(weight.grad, factor)


# A weight is drawn by magnitude over the whole useful range, so that no exponent is special.
finite = st.floats(-(2.0**120), 2.0**120, width=32, allow_subnormal=False)
near = st.floats(-16, 16, width=32, allow_subnormal=False)
blocks_of_32 = st.one_of(
    st.lists(finite, min_size=32, max_size=32), st.lists(near, min_size=32, max_size=32)
).map(torch.tensor)
rules = st.sampled_from(RULES)


@settings(max_examples=150, deadline=None)
@given(blocks_of_32, rules)
def test_fake_is_quantize_then_dequantize(weight: torch.Tensor, rule: str):
    real = mx.dequantize(*mx.quantize(weight, rule), dtype=torch.float32)
    assert torch.equal(real.view(torch.int32), mx.fake_quantize(weight, rule).view(torch.int32))


@settings(max_examples=150, deadline=None)
@given(blocks_of_32, rules)
def test_idempotent(weight: torch.Tensor, rule: str):
    once = mx.fake_quantize(weight, rule)
    assert torch.equal(mx.fake_quantize(once, rule), once)
    assert torch.equal(mx.dequantize(*mx.quantize(once, rule)).float(), once)


@settings(max_examples=100, deadline=None)
@given(blocks_of_32, rules, rules)
def test_trained_by_one_rule_saved_by_the_other(weight: torch.Tensor, a: str, b: str):
    trained = mx.fake_quantize(weight, a)
    assert torch.equal(mx.fake_quantize(trained, b), trained)


@settings(max_examples=150, deadline=None)
@given(blocks_of_32, rules)
def test_sign_symmetry(weight: torch.Tensor, rule: str):
    blocks, scales = mx.quantize(weight, rule)
    negated, negated_scales = mx.quantize(-weight, rule)
    assert torch.equal(negated, blocks ^ 0x88) and torch.equal(negated_scales, scales)


@settings(max_examples=150, deadline=None)
@given(blocks_of_32, rules)
def test_rounding_is_the_nearest_of_the_grid(weight: torch.Tensor, rule: str):
    blocks, scales = mx.quantize(weight, rule)
    step = 2.0 ** (scales.item() - 127)
    values = mx.dequantize(blocks, scales, torch.float64)
    for w, value in zip(weight.tolist(), values.tolist(), strict=True):
        assert abs(value) == nearest_even(min(abs(w) / step, 6.0)) * step
        # The widest gap is 4 to 6, so the error is at most one step, unless floor clips.
        clipped = max(0.0, abs(w) - 6 * step)
        assert abs(w - value) <= step + clipped
        assert clipped == 0.0 or rule == "floor"


@settings(max_examples=50, deadline=None)
@given(blocks_of_32, rules, st.integers(-5, 5))
def test_a_power_of_two_moves_only_the_scale(weight: torch.Tensor, rule: str, power: int):
    weight = weight.where(weight.abs() > 2.0**-100, torch.zeros(()))
    blocks, scales = mx.quantize(weight, rule)
    moved, moved_scales = mx.quantize(weight * 2.0**power, rule)
    assert torch.equal(moved, blocks)
    assert torch.equal(moved_scales.int(), scales.int() + power * bool(weight.any()))


def test_bf16_weights_and_other_dimensions():
    weight = (torch.randn(2, 64, 5) * 3).to(BFLOAT16)
    faked = mx.fake_quantize(weight, dim=1)
    assert faked.dtype == BFLOAT16 and faked.shape == weight.shape
    packed = mx.quantize(weight.transpose(1, 2))
    assert torch.equal(mx.dequantize(*packed), faked.transpose(1, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rule", RULES)
def test_compiled_on_a_gpu_gives_the_same_bits(rule: str):
    weight = (torch.randn(4, 256, 64) * torch.exp(3 * torch.randn(4, 256, 1))).cuda()
    compiled = torch.compile(mx.fake_quantize)(weight, rule, -2)
    assert torch.equal(compiled.cpu(), mx.fake_quantize(weight.cpu(), rule, -2))


@pytest.mark.parametrize("backend", [None, "eager", "aot_eager"])
def test_the_straight_gradient_survives_compiling(backend):
    """torch 2.11 compiled the gradient of an autograd.Function to 0, and nobody noticed."""

    def loss(weight):
        return (mx.fake_quantize_ste(weight) * torch.arange(64.0)).sum()

    weight = torch.randn(4, 64, requires_grad=True)
    torch._dynamo.reset()
    (loss if backend is None else torch.compile(loss, backend=backend))(weight).backward()
    assert torch.equal(weight.grad, torch.arange(64.0).expand(4, 64))


def test_straight_through_gives_exactly_the_rounded_values():
    weight = torch.randn(8, 64) * 10.0 ** torch.randint(-6, 6, (8, 1))
    assert torch.equal(mx.fake_quantize_ste(weight), mx.fake_quantize(weight))
