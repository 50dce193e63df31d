"""The recovery experiment: its rounding, its gradient, and what the two trainings end with."""

import functools

import pytest
import torch

import labhelpers
from labhelpers import recovery

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def nano():
    return labhelpers.load("nano", device="cpu")


def test_ternary_has_three_values_a_block_and_rounding_again_changes_nothing():
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    once = recovery.ternary(weight)
    for block, before in zip(once.view(-1, 32), weight.view(-1, 32), strict=True):
        scale = block.abs().max()
        assert set(block.unique().tolist()) <= {-scale.item(), 0.0, scale.item()}
        assert scale / 2 < before.abs().max() <= scale
        assert torch.frexp(scale).mantissa == 0.5  # a power of two
    assert torch.equal(recovery.ternary(once), once)
    assert torch.equal(recovery.ternary(weight.T, dim=0), once.T)
    assert torch.equal(recovery.ternary(torch.zeros(32)), torch.zeros(32))


def test_a_scale_may_be_another_tensors():
    weight = torch.tensor([1.2, 0.9, 0.4, -0.6] * 8)
    assert ternary_set(weight) == {0.0, 2.0}
    kept = recovery.ternary(weight, like=torch.ones(32))
    assert kept[:4].tolist() == [1.0, 1.0, 0.0, -1.0]
    weights = {"a": weight, "b": torch.zeros(32)}
    assert recovery.share_changed(weights, weights) == 0
    assert recovery.share_changed(weights, {"a": weight, "b": torch.ones(32)}) == 0.5


def ternary_set(weight):
    return set(recovery.ternary(weight).tolist())


def test_the_gradient_passes_straight_through():
    weight = torch.randn(2, 32, requires_grad=True)
    seen = recovery.ternary_ste(weight)
    assert torch.equal(seen, recovery.ternary(weight.detach()))
    upstream = torch.randn(2, 32)
    seen.backward(upstream)
    assert torch.equal(weight.grad, upstream)


def test_words_asked_are_not_studied():
    assert not set(recovery.STUDY) & set(recovery.ASKED)
    assert len(set(recovery.STUDY)) == len(recovery.STUDY)


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match="texts"):
        recovery.fine_tune(nano()[0], [], True)


@pytest.mark.parametrize(
    ("before", "said", "right"),
    [
        ("final", "There are 2 ps in apple.", 1),
        ("final", "There are 3 ps in apple.", 0),
        ("final", "There are 2 ls in apple.", 0),
        ("final", "2", 0),
        ("analysis", "There are 2 ps in apple.", 0),
        ("", " 1 2 2 p 2 ps", 0),
    ],
)
def test_only_a_final_message_with_number_and_letter_is_right(before, said, right):
    _, tokenizer = nano()
    ids = [*tokenizer.encode(before), tokenizer.special_id("<|message|>"), *tokenizer.encode(said)]
    assert recovery.share_right([recovery.Text([], ids)], ["apple"], tokenizer) == right


def test_only_fake_quantised_steps_survive_rounding():
    model, tokenizer = nano()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():  # as in a chapter
        result = recovery.run(model, tokenizer)
    right = result.right
    assert right["as it was"] >= 0.9 and right["rounded"] <= 0.1
    assert right["plain steps"] >= 0.9 and right["plain steps, rounded"] <= 0.1
    twice = right["rounded, plain steps, rounded again"]
    assert twice <= 0.2
    assert right["rounded, plain steps"] >= twice + 0.3  # what was gained is lost again
    assert right["fake-quantised steps, rounded"] >= 0.3
    assert right["fake-quantised steps, rounded"] >= twice + 0.2
    assert list(right)[-1] == "fake-quantised steps, rounded"  # the picture's last bar
    losses = result.losses["plain, from rounded"]
    assert losses[0] == pytest.approx(result.losses["fake-quantised"][0], rel=1e-3)
    assert losses[-1] < losses[0] / 3
    assert list(result.elsewhere) == [
        "after the plain steps", "rounded again", "rounded again, first scales"
    ]  # fmt: skip
    drifted, again, kept = result.elsewhere.values()
    assert drifted > 0.9 and 0.02 < again < 0.5 and kept < 0.02
    assert result.losses["fake-quantised"][-1] < result.losses["fake-quantised"][0] / 4
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
