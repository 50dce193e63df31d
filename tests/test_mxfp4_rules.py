"""The scale rules: the search against every scale there is, and what all three have in common."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.mxfp4 import RULES, dequantize, fake_quantize, quantize
from labhelpers.mxfp4.grid import FP4_VALUES, round_to_grid

MAGNITUDES = torch.tensor(FP4_VALUES[:8], dtype=torch.float64)

finite = st.floats(-(2.0**120), 2.0**120, width=32, allow_subnormal=False)
near = st.floats(-16, 16, width=32, allow_subnormal=False)
tiny = st.floats(-(2.0**-120), 2.0**-120, width=32, allow_subnormal=False)
# One large weight above many small ones: where a smaller scale that clips it may be the better.
outlier = st.tuples(near, st.lists(st.floats(-3, 3, width=32), min_size=31, max_size=31)).map(
    lambda parts: [parts[0], *parts[1]]
)
blocks_of_32 = st.one_of(
    *(st.lists(numbers, min_size=32, max_size=32) for numbers in (finite, near, tiny)), outlier
).map(torch.tensor)


def errors_by_scale(weight: torch.Tensor) -> torch.Tensor:
    """Squared error in fp64 of weight [32] for each scale byte 0..252: [253]."""
    steps = 2.0 ** (torch.arange(253, dtype=torch.float64) - 127).view(-1, 1, 1)
    nearest = ((MAGNITUDES * steps).unsqueeze(1) - weight.abs().double().view(1, -1, 1)).abs()
    return nearest.amin(-1).square().sum(-1).flatten()


def block_of(*values: float) -> torch.Tensor:
    return torch.tensor(values + (0.0,) * (32 - len(values)))


@settings(max_examples=150, deadline=None)
@given(blocks_of_32)
def test_search_finds_the_best_of_all_scales(weight: torch.Tensor):
    errors = errors_by_scale(weight)
    chosen = errors[int(quantize(weight, "search")[1])]
    assert chosen <= errors.min() * (1 + 1e-5)  # fp32 sums may take the other of two equals


@settings(max_examples=100, deadline=None)
@given(blocks_of_32)
def test_search_is_never_worse_than_a_rule(weight: torch.Tensor):
    errors = errors_by_scale(weight)
    found, *others = (errors[int(quantize(weight, r)[1])] for r in ("search", "floor", "round_up"))
    assert all(found <= other * (1 + 1e-5) for other in others)


@settings(max_examples=100, deadline=None)
@given(blocks_of_32)
def test_search_like_the_others_is_idempotent_symmetric_and_fakeable(weight: torch.Tensor):
    blocks, scales = quantize(weight, "search")
    values = dequantize(blocks, scales, torch.float32)
    assert torch.equal(fake_quantize(weight, "search").view(torch.int32), values.view(torch.int32))
    assert torch.equal(fake_quantize(values, "search"), values)
    negated, same = quantize(-weight, "search")
    assert torch.equal(negated, blocks ^ 0x88) and torch.equal(same, scales)


@settings(max_examples=60, deadline=None)
@given(blocks_of_32, st.sampled_from(RULES), st.sampled_from(RULES))
def test_what_lies_on_the_grid_stays_by_any_rule(weight: torch.Tensor, a: str, b: str):
    once = fake_quantize(weight, a)
    assert torch.equal(fake_quantize(once, b), once)


def test_search_clips_a_lone_outlier_and_leaves_room_for_a_crowd():
    # 6.5 alone: clipping to 6 costs 0.25, rounding to 6 or 8 by the larger scale as much or more.
    assert quantize(block_of(6.5), "search")[1] == 127
    # 7.9 among zeros: 8 is on the larger grid, nothing else suffers.
    assert quantize(block_of(7.9), "search")[1] == 128
    # 31 weights of 0.5 on floor's grid of halves pay more for the larger scale than 7.2 gains.
    assert quantize(block_of(7.2, *[0.5] * 31), "search")[1] == 127
    # 8 clipped to 6 costs 4. Halves, which the larger scale rounds to 0, cost 31 * 0.25 there;
    # quarters are rounded to 0 by both.
    assert quantize(block_of(8.0, *[0.25] * 31), "search")[1] == 128
    assert quantize(block_of(8.0, *[0.5] * 31), "search")[1] == 127
    assert quantize(block_of(8.0, *[0.5] * 31), "floor")[1] == 128


def test_rules_differ_where_they_should():
    weight = block_of(6.5, 0.5)
    scales = {rule: int(quantize(weight, rule)[1]) for rule in RULES}
    assert scales == {"round_up": 128, "floor": 127, "search": 127}
    assert fake_quantize(weight, "floor")[:2].tolist() == [6.0, 0.5]
    assert fake_quantize(weight, "round_up")[:2].tolist() == [6.0, 0.0]


@pytest.mark.parametrize("rule", RULES)
def test_corners(rule: str):
    blocks, scales = quantize(torch.zeros(2, 64), rule)
    assert not scales.any() and not blocks.any()
    largest = torch.full((32,), torch.finfo(torch.float32).max)
    assert quantize(largest, rule)[1] == 252
    assert fake_quantize(largest, rule).isfinite().all()
    smallest = torch.full((32,), 2.0**-149)  # subnormal, far below the smallest step 2**-128
    assert quantize(smallest, rule)[1] == 0 and not fake_quantize(smallest, rule).any()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="NaN or an infinity"):
            quantize(block_of(1.0, bad), rule)
        assert fake_quantize(block_of(1.0, bad), rule).isnan().all()
    for columns in (0, 31, 33, 48):
        with pytest.raises(ValueError, match="multiple of 32"):
            quantize(torch.zeros(3, columns), rule)


def test_round_to_grid_knows_all_its_own_values():
    blocks = torch.tensor([*FP4_VALUES, *FP4_VALUES])
    steps, offset, step = round_to_grid(blocks, torch.tensor([127], dtype=torch.int32))
    assert torch.equal(steps * step, blocks.abs())
    assert (steps + offset).tolist() == [*range(8)] * 4
