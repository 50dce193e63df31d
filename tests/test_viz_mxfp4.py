"""Pictures, widget and tables of chapter 2: they draw what the package computes."""

from __future__ import annotations

import io
import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_components import KEPT, read, words

from labhelpers import preset, viz
from labhelpers.mxfp4 import FP4_VALUES, dequantize, fake_quantize, pack, paths, quantize, to_ggml
from labhelpers.mxfp4.compare import error_table
from labhelpers.mxfp4.hardware import HARDWARE, SOURCES
from labhelpers.viz.mxfp4_bits import formula, line_values
from labhelpers.viz.token_profile import read_profile

CONFIGS = {name: preset(name) for name in ("nano", "gpt-oss-20b", "gpt-oss-120b")}
RECORDED = Path(__file__).parent.parent / "benchmarks" / "recorded"
PROFILE = {
    "model": "gpt-oss-20b", "context": 4096, "batch": 1, "bytes": {"experts": 2_000_000},
    "parts": {"_gate_up": {"launches": 24, "us": 30.0}, "_head": {"launches": 1, "us": 10.0}},
}  # fmt: skip
KERNELS = {
    "rows": [
        {"model": model, "kernel": kernel, "tokens": tokens, "share": share, "limit": limit,
         "us": us, "peer_us": 120.0}
        for model in ("gpt-oss-20b", "gpt-oss-120b")
        for kernel, tokens, share, limit, us in (
            ("dequantize", None, 1.2, "copy", 20.0), ("decode", 1, 0.6, "read", 30.0),
            ("decode", 8, 0.8, "read", 40.0), ("grouped", 4096, 0.4, "matmul", 100.0),
        )
    ]
}  # fmt: skip


def block() -> torch.Tensor:
    """Its largest magnitude is 7 steps of floor's scale, so floor clips it."""
    torch.manual_seed(0)
    values = torch.randn(32).clamp(-1.5, 1.5)
    values[7], values[20] = 7.0, -6.5
    return values / 16


def weight() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(64, 96) * 0.1


PICTURES = {
    **{f"number {code}": lambda code=code: viz.one_number(code) for code in (0, 7, 8, 9, 15)},
    "line": viz.number_line,
    "lines": lambda: viz.number_line((126, 127, 128), mark=4.6),
    "six lines": lambda: viz.number_line(tuple(range(120, 126)), mark=-0.01),
    "block": lambda: viz.one_block(block()),
    "block of a list": lambda: viz.one_block(block().tolist(), ("search",)),
    "block, three rules": lambda: viz.one_block(block(), ("floor", "round_up", "search")),
    "zero block": lambda: viz.one_block(torch.zeros(32), title="Nothing"),
    "nibbles": viz.nibble_orders,
    "histogram": lambda: viz.weight_histogram(weight()),
    "histogram of zeros": lambda: viz.weight_histogram(torch.zeros(2, 32)),
    "errors": lambda: viz.scheme_errors(error_table([weight()[:, :64]])),
    "shares": lambda: viz.byte_shares(CONFIGS),
    "fits": viz.fits,
    "fits, long": lambda: viz.fits(131072),
    "staircase": viz.staircase,
    "recovery": lambda: viz.recovery({"as it is": 0.98, "rounded": 0.0, "fine-tuned": 1.0}),
    "recovery, losses": lambda: viz.recovery(
        {"as it is": 0.98, "rounded": 0.31, "fine-tuned": 0.9}, [2.0, 1.0, 0.5], 100
    ),
    "recovery, three runs": lambda: viz.recovery(
        {f"rounded, plain steps, rounded for time {i}": i / 10 for i in range(7)},
        {"plain": [0.01, 0.01], "plain, from rounded": [2.0, 0.4], "fake-quantised": [2.0, 0.3]},
        text="It learns.",
    ),
    "recovery, two runs": lambda: viz.recovery(
        {
            "as it was": 1.0,
            "rounded": 0.0,
            "plain steps": 1.0,
            "plain steps, rounded": 0.0,
            "fake-quantised steps, rounded": 0.8,
        },
        {"plain": [0.01, 0.01], "fake-quantised": [2.0, 0.3]},
        text="It learns.",
    ),  # fmt: skip
    "two ways": viz.two_ways,
    "kernels": lambda: viz.kernel_limits(KERNELS),
    "profile": lambda: viz.token_profile(PROFILE, "one H100", 3000),
    "profile, limits": lambda: viz.token_profile(
        {"parts": {"experts": 700, "head": 360}, "limits": {"experts": 430}, "machine": "a card"}
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_keeps_the_rules(name):
    picture = PICTURES[name]()
    width, height = picture.figure.get_size_inches()
    assert width == 7.2 and 1.6 <= height <= 4
    assert picture.text and repr(picture) == picture.text and picture.data is not None
    assert all(a.get_title(loc="left") for a in picture.figure.axes), "the title says what to see"
    assert all(a.get_xlabel() or a.get_ylabel() for a in picture.figure.axes)
    data = picture.png()
    assert len(data) < 60_000
    image = Image.open(io.BytesIO(data))
    assert image.width == 1440 and image.mode == "P" and "transparency" not in image.info
    rgb = image.convert("RGB")
    # White all around: nothing touches the edge of the card, so nothing is cut off.
    frame = [(x, y) for x in range(rgb.width) for y in (0, 3, rgb.height - 4, rgb.height - 1)]
    frame += [(x, y) for y in range(rgb.height) for x in (0, 3, rgb.width - 4, rgb.width - 1)]
    assert all(rgb.getpixel(p) == (255, 255, 255) for p in frame)
    texts = itertools.chain.from_iterable(a.texts for a in picture.figure.axes)
    assert min([*(t.get_fontsize() for t in texts), 9]) >= 8


def test_pictures_are_the_same_on_every_run():
    for name in ("block", "histogram", "fits", "profile"):
        first, second = PICTURES[name](), PICTURES[name]()
        assert first.png() == second.png() and first.text == second.text


# -- bits ------------------------------------------------------------------------------------


def test_every_formula_computes_its_value():
    for code, value in enumerate(FP4_VALUES):
        left, right = formula(code).replace("×", "*").replace("^", "**").split(" = ")
        assert eval(left) == value == float(right)  # noqa: S307
        assert f"{code:04b}" in viz.one_number(code).text
    with pytest.raises(ValueError, match="0 to 15"):
        viz.one_number(16)


def test_number_line_rounds_as_the_package_does():
    assert len(line_values()) == 15
    for mark in (4.6, -2.5, 0.2, 5.0, -0.25, 100.0):
        data = viz.number_line((125, 127, 130), mark=mark).data
        for byte, nearest in data["nearest"].items():
            assert nearest in data["rows"][byte]
            assert abs(nearest - mark) == min(abs(v - mark) for v in data["rows"][byte])
    # 5 lies between 4 (even code) and 6 (odd code)
    assert viz.number_line((127,), mark=5.0).data["nearest"][127] == 4.0
    with pytest.raises(ValueError, match="1 to 6 scale bytes"):
        viz.number_line((255,))


def test_the_widget_follows_its_four_bits():
    pytest.importorskip("ipywidgets")
    view = viz.bits_of_one_number()
    assert view.image.value == viz.one_number().png(), "the still picture shows the first setting"
    assert list(view.controls) == ["sign", "exponent2", "exponent1", "mantissa"]
    names = [bit.description for bit in view.controls.values()]
    for code in range(16):
        for place, bit in enumerate(view.controls.values()):
            bit.value = bool(code >> (3 - place) & 1)
        assert view.sentence.value == viz.one_number(code).text
    assert [bit.description for bit in view.controls.values()] == names, "a name is not a state"
    assert view.image.value == viz.one_number(15).png()
    view.reset_button.click()
    assert view.image.value == viz.one_number().png()
    assert [bit.value for bit in view.controls.values()] == [False, True, True, True]


def test_the_widget_is_core_and_goes_from_cause_to_picture():
    pytest.importorskip("ipywidgets")
    view = viz.bits_of_one_number(0b1010)
    row, *rest = view.box.children
    kinds = [type(w).__name__ for w in (*row.children, *rest)]
    # A checkbox tells a screen reader whether it is ticked; ToggleButton sets no aria-pressed.
    assert kinds == ["Checkbox"] * 4 + ["Button", "HTML", "Image"]
    assert all(w.description for w in row.children) and view.box.layout.max_width == "760px"
    assert "1010" in view.sentence.value


@pytest.mark.parametrize("static", [True, False])
def test_the_widget_is_seen_once(static, monkeypatch, capsys):
    pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setenv("LABHELPERS_STATIC", str(int(static)))
    monkeypatch.setattr("IPython.display.display", lambda what, **_: shown.append(what))
    for module in ("mxfp4_bits", "widgets"):
        monkeypatch.setattr(f"labhelpers.viz.{module}.in_notebook", lambda: True)
    viz.bits_of_one_number(0b1010)._ipython_display_()
    printed = capsys.readouterr().out
    assert len(shown) == 1
    view = "application/vnd.jupyter.widget-view+json"
    assert (view in shown[0], "image/png" in shown[0]) == (not static, static)
    if static:
        assert printed.startswith("Interactive: tick the four bits of a number")
        assert "below" not in printed and viz.one_number(0b1010).text in printed


def test_the_widget_in_a_terminal_says_its_sentence(capsys):
    pytest.importorskip("ipywidgets")
    viz.bits_of_one_number(0b1010)._ipython_display_()  # conftest.py sets LABHELPERS_STATIC=1
    assert viz.one_number(0b1010).text in capsys.readouterr().out


# -- blocks and tensors ----------------------------------------------------------------------


def test_a_block_is_what_quantize_makes_of_it():
    values = block()
    data = viz.one_block(values, ("floor", "round_up", "search")).data
    for rule, found in data.items():
        blocks, scales = quantize(values[None], rule)
        assert found["scale"] == int(scales)
        expected = dequantize(blocks, scales, torch.float32)[0]
        assert torch.equal(torch.tensor(found["rounded"]), expected)
    assert data["floor"]["clipped"] == 2 and data["round_up"]["clipped"] == 0
    assert data["round_up"]["scale"] == data["floor"]["scale"] + 1
    assert data["search"]["rms"] <= min(data["floor"]["rms"], data["round_up"]["rms"])
    for found in data.values():
        back = torch.tensor(found["rounded"]) + torch.tensor(found["errors"])
        assert torch.allclose(back, values), "an error is the weight less what it became"
        assert found["largest"] == max(map(abs, found["errors"]))
        half = 2.0 ** (found["scale"] - 127) / 4
        small = values.abs() <= 8 * half  # two steps of the scale: the finest part of the ruler
        assert torch.tensor(found["errors"])[small].abs().max() <= half + 1e-7
    assert "2 clipped" in viz.one_block(values).text
    with pytest.raises(ValueError, match="32 weights, got 31"):
        viz.one_block(values[:31])
    with pytest.raises(ValueError, match="1 to 3 rules"):
        viz.one_block(values, ())


def test_a_block_draws_its_errors_on_one_axis():
    figure = viz.one_block(block(), ("floor", "round_up"), "My block").figure
    weights, *errors = figure.axes
    assert weights.get_title(loc="left") == "My block" and len(errors) == 2
    assert errors[0].get_ylim() == errors[1].get_ylim()
    assert [t.get_text() for t in errors[0].texts] == ["✗ clipped"] * 2 and not errors[1].texts
    heights = [p.get_height() for p in errors[0].containers[0]]
    assert heights == pytest.approx(viz.one_block(block()).data["floor"]["errors"])


def test_nibbles_do_not_touch():
    figure = viz.nibble_orders().figure
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) == 64
    for one, other in itertools.combinations(boxes, 2):
        assert one.x1 + 4 < other.x0 or other.x1 + 4 < one.x0 or not one.overlaps(other)


def test_nibble_orders_hold_each_value_once():
    orders = viz.nibble_orders().data
    for pairs in orders.values():
        assert sorted(itertools.chain(*pairs)) == list(range(32)) and len(pairs) == 16
    codes = torch.arange(32, dtype=torch.uint8) % 16
    codes[16:] = codes[16:].flip(0)  # so that j and j + 16 differ
    blocks = pack(codes[None])  # [1, 1, 16]
    ggml = to_ggml(blocks, torch.full((1, 1), 127, dtype=torch.uint8))
    stored = {"Hugging Face": blocks.flatten().tolist(), "GGML": ggml.flatten().tolist()[1:]}
    for name, pairs in orders.items():
        for byte, (low, high) in enumerate(pairs):
            assert stored[name][byte] == int(codes[low]) | int(codes[high]) << 4


def test_a_histogram_counts_rounded_weights():
    data = viz.weight_histogram(weight(), "floor").data
    assert sum(data["shares"].values()) == pytest.approx(100, abs=1e-3)
    assert list(data["shares"]) == line_values()
    zeros = (fake_quantize(weight(), "floor") == 0).float().mean().item()
    assert data["shares"][0.0] == pytest.approx(100 * zeros, abs=1e-4)
    with pytest.raises(ValueError, match="multiple of 32"):
        viz.weight_histogram(torch.randn(3, 33))


def test_scheme_errors_says_every_scheme():
    errors = error_table([weight()[:, :64]])
    picture = viz.scheme_errors(errors)
    assert all(f"{e.scheme} " in picture.text for e in errors) and picture.data == errors
    with pytest.raises(ValueError, match="error_table"):
        viz.scheme_errors([])


# -- bytes and cards -------------------------------------------------------------------------


def test_byte_shares():
    picture = viz.byte_shares(CONFIGS)
    assert sum(picture.data["gpt-oss-20b, all bf16"].values()) == pytest.approx(100)
    assert 32 < sum(picture.data["gpt-oss-20b, experts packed"].values()) < 34
    assert sum(picture.data["nano, all packed"].values()) == pytest.approx(100 * 4.25 / 16, abs=0.1)
    assert "gpt-oss-20b: 41.8 GB in bf16, 13.8 GB" in picture.text


def test_fits_and_the_table_say_the_same():
    picture = viz.fits(8192)
    wanted = paths.need("gpt-oss-20b", "packed", 8192).total
    assert picture.data[16]["20b packed"] == pytest.approx(16 - wanted / 1e9)
    assert picture.data[16]["20b packed"] > 0 > picture.data[12]["20b packed"]
    assert picture.data[80]["120b packed"] > 0 > picture.data[48]["120b packed"]
    assert picture.data[40]["20b bf16"] < 0 < picture.data[48]["20b bf16"]
    assert "20b packed: 15.3 GB, fits from 16 GB up" in picture.text
    for row in viz.memory_table(8192).rows:
        name, total = row[0].removeprefix("gpt-oss-").replace(",", ""), row[-1]
        assert f"{name}: {total} GB, fits" in picture.text
    longer = viz.memory_table(131072).rows
    assert float(longer[0][2]) > float(viz.memory_table(0).rows[0][2]) == 0


@pytest.mark.parametrize("sources", [True, False])
def test_hardware_paths_read_the_same_without_styles(sources):
    component = viz.hardware_paths(sources)
    reader = read(component)
    assert words(reader.words) == words(repr(component)) and reader.tags <= KEPT
    text = repr(component)
    assert all(row.name in text and row.examples in text for row in HARDWARE)
    assert all((source in text) == sources for source in SOURCES.values())


# -- training, profile -----------------------------------------------------------------------


def test_the_staircase_is_fake_quantize_at_scale_1():
    data = viz.staircase().data
    rows = torch.cat((data["weight"][:, None], torch.full((1600, 31), 6.0)), 1)
    inside = data["weight"].abs() <= 6  # beyond, a weight of 7 would move the scale
    expected = fake_quantize(rows, "round_up")[:, 0]
    assert torch.equal(data["rounded"][inside], expected[inside])
    assert data["rounded"].abs().max() == 6
    with pytest.raises(ValueError, match="between 1 and 20"):
        viz.staircase(0.5)


def test_recovery_says_its_numbers():
    picture = PICTURES["recovery, losses"]()
    assert picture.text == (
        "Right answers of 100 questions: as it is 98%; rounded 31%; fine-tuned 90%. "
        "Loss from 2.00 to 0.50 in 3 steps."
    )
    both = PICTURES["recovery, two runs"]()
    assert both.text == "It learns." and list(both.data["losses"]) == ["plain", "fake-quantised"]
    for wrong in ({}, {"percent": 98.0}):
        with pytest.raises(ValueError, match="share between 0 and 1"):
            viz.recovery(wrong)
    with pytest.raises(ValueError, match="three runs"):
        viz.recovery({"a": 1.0}, {name: [1.0] for name in "abcd"})


def test_two_ways_counts_bytes():
    assert list(viz.two_ways().data.values()) == [0.53125 + 2 + 2, 0.53125]


def test_a_profile_is_read_from_a_file_and_from_a_dictionary(tmp_path):
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(PROFILE), encoding="utf-8")
    picture = viz.token_profile(str(file), "one H100", 100.0)
    assert picture.data["parts"] == {"experts: gate, up": 30.0, "output head": 10.0}
    assert picture.text.startswith("gpt-oss-20b's shape, batch 1, 4,096 tokens in the cache, one")
    assert "40 µs a token (25,000 a second)" in picture.text
    assert picture.text.endswith("Reading the bytes alone: 20 µs, 50% of it.")
    simple = read_profile({"parts": {"a": 1}})
    assert simple["parts"] == {"a": 1.0} and simple["launches"] == {"a": 1}
    for wrong in ({}, {"parts": {}}, {"parts": {"a": -1}}):
        with pytest.raises(ValueError, match="none of them negative"):
            viz.token_profile(wrong)
    with pytest.raises(ValueError, match="at most 12"):
        viz.token_profile({"parts": {str(i): 1 for i in range(13)}})


def test_kernel_limits_says_its_spans():
    picture = viz.kernel_limits(KERNELS)
    assert picture.text.splitlines()[0] == (
        "gpt-oss-20b: dequantize 120% of copy (6.0x); decode 60 to 80% of read (3.0 to 4.0x); "
        "grouped 40% of matmul (1.2x)."
    )
    assert list(picture.data["gpt-oss-120b"])[1:3] == ["decode, 1 token", "decode, 8 tokens"]
    for wrong in ({}, {"rows": []}, {"rows": [{**r, "model": f"m{i}"} for i, r in
                                              enumerate(KERNELS["rows"])]}):  # fmt: skip
        with pytest.raises(ValueError, match="1 or 2 models"):
            viz.kernel_limits(wrong)


def test_token_limits_divide_bytes_by_bandwidth():
    rows = viz.token_limits(PROFILE, 100.0).rows
    assert rows[0] == ["experts", "2 MB", "30 µs", "20 µs", "67%"]
    assert rows[3][:4] == ["output head", "0 MB", "10 µs", "0 µs"]
    assert rows[-1] == ["a token", "2 MB", "40 µs", "20 µs", "50%"]
    for profile, bandwidth in ((PROFILE, 0), ({"parts": {"a": 1}}, 100)):
        with pytest.raises(ValueError, match="bandwidth above 0"):
            viz.token_limits(profile, bandwidth)


def test_the_recorded_kernels_draw():
    record = json.loads((RECORDED / "kernels.json").read_text(encoding="utf-8"))
    picture = viz.kernel_limits(record)
    assert sum(map(len, picture.data.values())) == len(record["rows"])
    assert len(picture.png()) < 60_000


@pytest.mark.parametrize("file", sorted(RECORDED.glob("profile-*.json")), ids=lambda p: p.stem)
def test_recorded_profiles_draw(file):
    picture = viz.token_profile(file, "one H100")
    total = json.loads(file.read_text(encoding="utf-8"))["us_total"]
    assert picture.data["total"] == pytest.approx(total, rel=0.01)
    assert not any(name.startswith("_") for name in picture.data["parts"]), "a kernel has no name"
    assert os.path.basename(str(file)) and len(picture.png()) < 60_000
