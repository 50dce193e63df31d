"""The other quantisers by arithmetic on paper, and what the table says of nano."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import labhelpers
from labhelpers.mxfp4 import dequantize
from labhelpers.mxfp4.compare import (
    SCHEMES,
    error_table,
    int4,
    nf4,
    nf4_values,
    nvfp4,
    round_e4m3,
)

NANO = Path(labhelpers.__file__).parent / "nano" / "model.safetensors"
# As bitsandbytes publishes them, to four decimals.
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0,
       0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]  # fmt: skip


def test_nf4_values_are_the_published_ones():
    assert torch.allclose(nf4_values(), torch.tensor(NF4), atol=1e-4)


def test_int4_has_seven_even_steps_a_side():
    weight = torch.zeros(64)
    weight[:5] = torch.tensor([14.0, -14.0, 3.0, 2.9, -7.2])  # the step is 2
    weight[32] = 0.7  # the step of the second block is 0.1
    values = int4(weight)
    assert values[:5].tolist() == [14.0, -14.0, 4.0, 2.0, -8.0]
    assert values[32].item() == pytest.approx(0.7, rel=1e-3)
    assert not values[5:32].any()


def test_nf4_takes_the_nearest_value_for_each_64():
    weight = torch.zeros(128)
    weight[:4] = torch.tensor([-4.0, 2.0, 1.0, 0.1])
    weight[64] = 8.0
    expected = torch.tensor([-1.0, 0.4407, 0.2461, 0.0]) * 4
    assert torch.allclose(nf4(weight)[:4], expected, atol=1e-3)
    assert nf4(weight)[64] == 8.0 and not nf4(weight)[4:64].any()
    random = torch.randn(6, 128)
    grid = nf4_values() * random.view(6, 2, 64).abs().amax(-1).view(6, 2, 1, 1)
    nearest = (grid - random.view(6, 2, 64, 1)).abs().amin(-1)
    assert torch.allclose((nf4(random) - random).abs(), nearest.flatten(1), atol=1e-6)


def test_e4m3_is_torchs():
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert torch.equal(round_e4m3(codes), codes) and codes[-1] == 448
    middles = (codes[1:] + codes[:-1]) / 2
    around = torch.cat([middles, middles.nextafter(codes[1:]), middles.nextafter(codes[:-1])])
    torch.manual_seed(0)
    spread = torch.exp2(torch.rand(50_000) * 20 - 12).clamp_max(463)
    for values in (around, spread, torch.tensor([0.0, 2.0**-10, 2.0**-11, 463.9, 1e-30])):
        assert torch.equal(round_e4m3(values), values.to(torch.float8_e4m3fn).float())
    assert round_e4m3(torch.tensor([465.0, 1e9])).tolist() == [448.0, 448.0]


def test_nvfp4_has_a_scale_for_each_16_and_one_for_all():
    weight = torch.zeros(3, 32)
    weight[0, :3] = torch.tensor([6 * 448.0, 2000.0, -700.0])  # the tensor's scale is 1
    weight[1, :4] = torch.tensor([6 * 1.125, 1.0, -2.0, -0.2])  # a scale that no power of two is
    weight[1, 16], weight[2, 0] = 12.0, 6 * 2.0**-11  # the last is below half of 2**-9: lost
    values = nvfp4(weight)
    assert values[0, :3].tolist() == [2688.0, 1792.0, -672.0]
    assert values[1, :4].tolist() == pytest.approx([6.75, 1.125, -2.25, 0.0])
    assert values[1, 16] == 12 and not values[2].any() and torch.signbit(values[1, 3])
    random = torch.randn(64, 128)
    tensor_scale = random.abs().max() / (6 * 448)
    wanted = random.view(64, 8, 16).abs().amax(-1, keepdim=True) / 6 / tensor_scale
    scale = wanted.to(torch.float8_e4m3fn).float() * tensor_scale  # [64, 8, 1], torch's rounding
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6]) * scale
    nearest = (random.view(64, 8, 16).abs()[..., None] - grid[..., None, :]).abs().amin(-1)
    assert torch.allclose((nvfp4(random) - random).abs(), nearest.flatten(1), atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_zeros_signs_and_a_second_time(scheme: str):
    apply = SCHEMES[scheme].apply
    assert torch.equal(apply(torch.zeros(3, 64)), torch.zeros(3, 64))
    weight = torch.randn(8, 128)
    if scheme != "nf4":  # its two sides differ
        assert torch.equal(apply(-weight), -apply(weight))
    assert torch.allclose(apply(apply(weight)), apply(weight), atol=1e-5)


def test_a_normal_tensor_ranks_the_schemes():
    torch.manual_seed(0)
    table = {row.scheme: row for row in error_table([torch.randn(256, 1024)])}
    rms = {name: row.rms for name, row in table.items()}
    assert rms["bf16"] < 0.01 < rms["nf4"] < rms["int4"] < rms["mxfp4 search"]
    assert rms["mxfp4 search"] < min(rms["mxfp4 floor"], rms["mxfp4 round_up"]) < 0.13
    assert rms["nvfp4"] < 0.1 < rms["mxfp4 search"] and table["nvfp4"].bits == 4.5
    wide = torch.randn(64, 1024)  # at 4.25 bits: a finer scale gains, a smaller block gains too
    ways = (nvfp4, lambda w: nvfp4(w, 32), SCHEMES["mxfp4 search"].apply)
    errors = [(way(wide) - wide).square().mean() for way in ways]
    assert errors[0] < errors[1] < errors[2]
    assert table["mxfp4 floor"].bits == 4.25 and table["nf4"].bits == table["int4"].bits == 4.5


def test_nanos_experts_lie_on_the_grid_and_its_attention_does_not():
    with safe_open(NANO, framework="pt") as file:
        layer = "model.layers.2."
        packed = [
            [file.get_tensor(f"{layer}mlp.experts.{name}_{part}") for part in ("blocks", "scales")]
            for name in ("gate_up_proj", "down_proj")
        ]
        attention = [file.get_tensor(f"{layer}self_attn.{n}_proj.weight") for n in "qkvo"]
    experts = {row.scheme: row for row in error_table([dequantize(*pair) for pair in packed])}
    for rule in ("floor", "round_up", "search"):
        assert experts[f"mxfp4 {rule}"].rms == 0.0 and experts[f"mxfp4 {rule}"].exact == 1.0
    assert experts["bf16"].exact == 1.0 and experts["nf4"].rms > 0.05 < experts["int4"].rms
    rms = {row.scheme: row.rms for row in error_table(attention)}
    assert 0.05 < rms["nf4"] < rms["mxfp4 search"] < rms["mxfp4 round_up"] < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nf4(torch.zeros(2, 32)), "multiple of 64"),
        (lambda: nvfp4(torch.zeros(2, 40)), "multiple of 16"),
        (lambda: int4(torch.zeros(2, 40)), "multiple of 32"),
        (lambda: error_table([]), "at least one tensor"),
        (lambda: error_table([torch.zeros(64)], ["int5"]), "unknown scheme 'int5'"),
    ],
)
def test_bad_input(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
