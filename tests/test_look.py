"""One palette, one figure style: held for every picture that the package can draw."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image

import labhelpers
from labhelpers import preset, viz
from labhelpers.viz import look
from labhelpers.viz.attention import attention_row
from labhelpers.viz.curves import swiglu_curve
from labhelpers.viz.heads import head_map

PACKAGE = Path(labhelpers.__file__).parent
COLOURED = [p for d in ("viz", "exercises", "chat") for p in sorted((PACKAGE / d).rglob("*.py"))]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("path", COLOURED, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_colour_outside_the_palette(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"#[0-9a-fA-F]{3}(?:[0-9a-fA-F]{3,5})?\b", text)
    assert not re.findall(r"\b(?:rgba?|hsla?)\(", text)
    assert not re.findall(r"\b(?:tab|xkcd|C\d):", text)


def test_something_was_looked_at():
    assert {"viz", "exercises"} <= {p.relative_to(PACKAGE).parts[0] for p in COLOURED}


@pytest.mark.parametrize("hue", list(look.palette()["hues"]))
def test_contrasts_are_what_the_palette_says(hue):
    tones = look.palette()["hues"][hue]
    said = tones["contrast"]
    text, pages = look.neutral("text"), said["line_on"]
    assert contrast(text, tones["fill"]) >= 11.75
    assert contrast(text, tones["line"]) == pytest.approx(said["text_on_line"], abs=0.06)
    assert contrast(text, tones["line"]) >= 4.5 and contrast(tones["line"], "#ffffff") >= 3
    assert contrast(tones["line"], "#ffffff") == pytest.approx(pages["white"], abs=0.06)
    assert contrast(tones["line"], "#111111") == pytest.approx(pages["jupyterlab_dark"], abs=0.06)
    assert contrast(tones["ink"], "#ffffff") >= 6.9 - 0.05


def test_every_concept_has_a_hue_of_the_palette():
    hues = look.palette()["hues"]
    for group in look.palette()["concepts"].values():
        for kind in group.values():
            if isinstance(kind, dict) and "hue" in kind:
                assert kind["hue"] in hues and kind["tone"] in ("fill", "line", "ink")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="hues: slate"):
        look.tone("pink")
    with pytest.raises(ValueError, match="no concept"):
        look.concept("channel", "thoughts")
    with look.style(), pytest.raises(ValueError, match="1.6 to 4"):
        look.figure(height=5)


@pytest.mark.parametrize("name", ["load", "signed"])
def test_words_on_a_map_are_readable(name):
    colours = look.colormap(name)
    for step in range(101):
        rgb = colours(step / 100)
        word = {"black": "#000000", "white": "#ffffff"}[look.text_on(rgb)]
        cell = "#" + "".join(f"{round(255 * c):02x}" for c in rgb[:3])
        assert contrast(word, cell) >= 4.5


def test_load_only_gets_darker_and_starts_at_paper():
    colours = look.colormap("load")
    steps = [sum(colours(i / 50)[:3]) for i in range(51)]
    assert steps == sorted(steps, reverse=True) and colours(0.0)[:3] == (1.0, 1.0, 1.0)


# -- pictures --------------------------------------------------------------------------------


class Alphabet:
    """A tokenizer for pictures: every id is a short word; id 0 is special."""

    def decode_bytes(self, ids):
        return b"".join(f" w{int(i)}".encode() for i in ids)

    def special_name(self, token_id):
        return "<|start|>" if token_id == 0 else None

    def encode(self, text):
        return list(range(len(text) % 60))


def routings(tokens: int, experts: int, layers: int = 8, top_k: int = 4) -> viz.Routings:
    torch.manual_seed(0)
    logits = torch.randn(layers, tokens, experts)
    values, ids = logits.topk(top_k)
    return viz.Routings(list(range(tokens)), ids, values.softmax(-1), experts)


def small_model():
    from labhelpers.config import GptOssConfig
    from labhelpers.model import GptOss

    torch.manual_seed(0)
    return GptOss(GptOssConfig(
        vocab_size=80, hidden_size=32, intermediate_size=16, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=8,
        num_experts_per_tok=2, sliding_window=8,
    )).eval()  # fmt: skip


CONFIGS = {name: preset(name) for name in ("nano", "gpt-oss-20b", "gpt-oss-120b")}
LARGE = {name: c for name, c in CONFIGS.items() if name != "nano"}
WORDS = Alphabet()
PICTURES = {
    "load": lambda: viz.expert_load(routings(20, 8)),
    "load of 36 x 128": lambda: viz.expert_load(routings(90, 128, layers=36)),
    "weights": lambda: viz.expert_load(routings(20, 8), by="weight"),
    "bars": lambda: viz.expert_bars(routings(20, 8), 3),
    "bars of weights": lambda: viz.expert_bars(routings(20, 8), 3, by="weight"),
    "bars of 128": lambda: viz.expert_bars(routings(20, 128), 3),
    "pairs": lambda: viz.expert_pairs(routings(20, 8), 3),
    "pairs of 32": lambda: viz.expert_pairs(routings(60, 32), 3),
    "tokens": lambda: viz.token_routing(routings(20, 8), 3, WORDS),
    "many tokens": lambda: viz.token_routing(routings(90, 8), 3, WORDS),
    "tokens, 32 experts": lambda: viz.token_routing(routings(30, 32), 3, WORDS),
    "one token": lambda: viz.token_routing(routings(1, 8), 3, WORDS),
    "favourites": lambda: viz.token_experts(routings(20, 8), WORDS),
    "favourites of many": lambda: viz.token_experts(routings(90, 8), WORDS),
    "parameters": lambda: viz.parameter_bars(CONFIGS),
    "bytes": lambda: viz.byte_bars(CONFIGS),
    "bytes in bfloat16": lambda: viz.byte_bars(CONFIGS, mxfp4=False),
    "active": lambda: viz.active_bars(LARGE),
    "angles": lambda: viz.rope_angles(CONFIGS["nano"]),
    "many angles": lambda: viz.rope_angles(CONFIGS["nano"], range(0, 4096, 16)),
    "dials": lambda: viz.rope_dials(torch.arange(8)[:, None] * torch.tensor([1.0, 0.3, 0.1])),
    "lens": lambda: viz.logit_lens(small_model(), list(range(20)), WORDS),
    "attention": lambda: attention_row(
        torch.full((12,), 0.05), [f"␣w{i}" for i in range(12)], 11, window=8
    ),
    "curve": swiglu_curve,
    "heads": lambda: head_map(torch.linspace(-1, 2, 64).reshape(8, 8), "nats"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_keeps_the_rules(name):
    picture = PICTURES[name]()
    width, height = picture.figure.get_size_inches()
    assert width == 7.2 and 1.6 <= height <= 4
    assert picture.text and repr(picture) == picture.text and picture.data is not None
    axes = [a for a in picture.figure.axes if a.get_label() != "<colorbar>"]
    assert all(a.get_title(loc="left") for a in axes), "the title says what to see"
    assert all(a.get_xlabel() or a.get_ylabel() for a in axes)
    data = picture.png()
    assert len(data) < 60_000
    image = Image.open(io.BytesIO(data))
    assert image.width == 1440 and image.mode == "P"
    assert "transparency" not in image.info
    rgb = image.convert("RGB")
    corners = itertools.product((0, image.width - 1), (0, image.height - 1))
    assert all(rgb.getpixel(c) == (255, 255, 255) for c in corners)
    sizes = [t.get_fontsize() for a in picture.figure.axes for t in a.texts]
    assert min([*sizes, 9]) >= 8


def test_pictures_do_not_depend_on_look_use_nor_change_settings():
    before = dict(matplotlib.rcParams)
    first = viz.byte_bars(CONFIGS).png()
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert viz.byte_bars(CONFIGS).png() == first


def test_flat_colours_survive_the_256_colours():
    hues = look.palette()["hues"]
    colours = [tones[t] for tones in hues.values() for t in ("fill", "line", "ink")]
    with look.style():
        fig, axes = look.figure(height=3)
        for place, colour in enumerate(colours):
            axes.add_patch(matplotlib.patches.Rectangle((place, 0), 1, 1, color=colour))
        axes.set(xlim=(0, len(colours)), ylim=(0, 1))
        axes.set_axis_off()
    data, size = look.png(fig)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert size == {"width": 720, "height": 300} and image.size == (1440, 600)
    to_pixels = axes.transData.transform
    for place, colour in enumerate(colours):
        x, y = to_pixels((place + 0.5, 0.5)) * look.DPI / fig.dpi
        seen = image.getpixel((int(x), int(image.height - y)))
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 2, colour


def test_use_sets_the_style():
    with matplotlib.rc_context():
        look.use()
        assert matplotlib.rcParams["axes.titlelocation"] == "left"
        assert matplotlib.rcParams["figure.figsize"] == [7.2, 2.8]


# -- what is drawn ---------------------------------------------------------------------------


def test_loads_and_weights_add_up():
    seen = routings(20, 8)
    assert torch.allclose(seen.load.sum(1), torch.ones(8))
    assert torch.allclose(seen.weight_table(2).sum(0), torch.ones(20))
    twice = viz.Routings.join([seen, routings(5, 8)])
    assert len(twice.ids) == 25 and twice.weights.shape == (8, 25, 4)
    assert torch.equal(twice.expert_ids[:, :20], seen.expert_ids)
    rest = twice.after(20)
    assert rest.ids == twice.ids[20:] and torch.equal(rest.weights, twice.weights[:, 20:])
    assert torch.equal(rest.expert_ids, twice.expert_ids[:, 20:])
    with pytest.raises(ValueError, match="nothing to join"):
        viz.Routings.join([])
    assert torch.allclose(seen.shares[2], seen.weight_table(2).mean(1))
    assert torch.allclose(seen.by_expert.mean(1), seen.shares)
    # The tokens that chose expert 5 of layer 6 choose nothing more, above the others, than it.
    chosen = (seen.expert_ids == 5).any(-1)[6]
    more, layer, expert = seen.preferred(chosen)
    assert (layer, expert) == (6, 5) and more == pytest.approx(1 - chosen.float().mean().item())
    # One expert with all of the weight: a quarter of the choices, all of what counts.
    one_hot = seen._replace(weights=torch.eye(4)[0].expand(8, 20, 4), ids=list(range(20)))
    favourites = torch.bincount(seen.expert_ids[3, :, 0], minlength=8) / 20
    bars = viz.expert_bars(one_hot, 3, by="weight").data
    assert bars == pytest.approx((100 * favourites).tolist())
    assert torch.equal(one_hot.by("choices"), seen.load)
    assert not torch.equal(viz.expert_load(seen, by="weight").data, viz.expert_load(seen).data)
    with pytest.raises(ValueError, match='"choices" or "weight"'):
        viz.expert_load(seen, by="tokens")
    pairs = viz.expert_pairs(seen, 3).data
    assert torch.equal(pairs, pairs.T) and pairs.diagonal().sum() == pytest.approx(400)


def test_recorded_routing_is_what_the_routers_did():
    model = small_model()
    ids = torch.arange(10)
    seen = viz.record_routing(model, ids)
    assert seen.expert_ids.shape == (6, 10, 2) and seen.ids == list(range(10))
    with torch.no_grad():
        first = model.model.layers[0]
        rope = model.model.rope(ids[None], torch.float32)
        hidden = model.model.embed_tokens(ids[None])
        hidden = hidden + first.self_attn(first.input_layernorm(hidden), rope, ids[None])
        expected = first.mlp.router(first.post_attention_layernorm(hidden)[0])
    assert torch.equal(seen.expert_ids[0], expected.expert_ids)
    assert not any(m._forward_hooks for m in model.modules()), "hooks are taken off again"
    with pytest.raises(ValueError, match="one sequence"):
        viz.record_routing(model, torch.zeros(2, 3, dtype=torch.int64))
    for draw in (viz.expert_bars, viz.expert_pairs):
        with pytest.raises(ValueError, match="has layers 0 to"):
            draw(seen, 99)


def test_the_lens_ends_in_the_models_own_answer():
    model, ids = small_model(), list(range(12))
    lens = viz.lens_table(model, ids)
    with torch.no_grad():
        likely = model(torch.tensor([ids]))[0].softmax(-1)
    assert torch.equal(lens.favourites[-1], likely.argmax(-1))
    assert torch.allclose(lens.probabilities[-1], likely.max(-1).values)
    assert lens.favourites.shape == (7, 12)


def test_bars_add_up_to_the_published_totals():
    parts = viz.parameter_bars(CONFIGS).data
    assert sum(parts["gpt-oss-20b"].values()) == 20_914_757_184
    assert "gpt-oss-120b, 116.8B:" in repr(viz.parameter_bars(CONFIGS))
    assert "gpt-oss-120b: 5.1B of 116.8B (4.4%)" in repr(viz.active_bars(LARGE))
    from labhelpers.accounting import weight_bytes

    for name, row in viz.byte_bars(CONFIGS).data.items():
        assert sum(row.values()) == sum(weight_bytes(CONFIGS[name]).values())
        ratio = row["expert scales"] / row["experts"]  # biases are among the experts
        assert ratio == pytest.approx(8 / 128, rel=0.03)


def test_angles_are_the_models():
    config = CONFIGS["nano"]
    angles = viz.rope_angles(config, range(5, 9)).data
    from labhelpers.model.rope import RotaryEmbedding

    cos, _ = RotaryEmbedding(config)(torch.arange(5, 9)[None], torch.float32)
    factor = config.rope_scaling.attention_factor
    assert torch.allclose(angles.cos() * factor, cos[0], atol=1e-6)
    with pytest.raises(ValueError, match="rows of angles"):
        viz.rope_angles(angles, range(3))


def test_importing_viz_is_light():
    import subprocess
    import sys

    code = (
        "import sys, labhelpers.viz\n"
        "print([m for m in ('torch', 'matplotlib', 'IPython', 'ipywidgets', 'PIL') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
