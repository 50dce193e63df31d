"""Widgets: what their parts do, and how a notebook shows them; core ipywidgets 7.7 and 8."""

from __future__ import annotations

import io
import os
import textwrap

import pytest
import torch
from PIL import Image

from labhelpers import viz
from labhelpers.config import GptOssConfig
from labhelpers.exercises import architecture as ex
from labhelpers.model import GptOss
from labhelpers.tokenizer import nano
from labhelpers.viz import look

w = pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=nano().vocab_size, hidden_size=32, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=8,
        num_experts_per_tok=2, sliding_window=8,
    )  # fmt: skip
    return GptOss(config).eval()


def drawing(calls: list):
    def draw(**values):
        calls.append(values)
        if values.get("size") == 9:
            raise ValueError("`9` is too <large>.")
        with look.style():
            fig, axes = look.figure(height=1.6)
            axes.plot([0, values["size"]])
        return look.Picture(fig, f"Size `{values['size']}`.", values)

    return draw


def explorer(calls: list) -> viz.Explorer:
    controls = {
        "size": w.IntSlider(value=3, min=0, max=9, description="size", continuous_update=False),
        "name": w.Text(value="a", description="name", continuous_update=False),
    }
    return viz.Explorer(drawing(calls), controls, "size and name")


def test_an_explorer_draws_on_change_and_on_reset_once():
    calls: list = []
    view = explorer(calls)
    assert calls == [{"size": 3, "name": "a"}]
    assert view.sentence.value == 'Size <code style="white-space:nowrap">3</code>.'
    first = view.image.value
    assert Image.open(io.BytesIO(first)).width == 1440 and view.image.width == "720"
    view.controls["size"].value = 5
    view.controls["name"].value = "b"
    assert calls[1:] == [{"size": 5, "name": "a"}, {"size": 5, "name": "b"}]
    assert view.image.value != first
    view.reset_button.click()
    assert calls[3:] == [{"size": 3, "name": "a"}] and view.image.value == first


def test_a_refused_value_is_explained_and_the_picture_stays():
    view = explorer([])
    before = view.image.value
    view.controls["size"].value = 9
    assert view.sentence.value == '<code style="white-space:nowrap">9</code> is too &lt;large&gt;.'
    assert view.image.value == before


def test_order_from_cause_to_picture():
    view = explorer([])
    kinds = [type(c).__name__ for c in view.box.children]
    assert kinds == ["IntSlider", "Text", "Button", "HTML", "Image"]
    assert all(c.continuous_update is False for c in view.controls.values())
    assert all(c.description and c.layout.max_width == "520px" for c in view.controls.values())
    assert view.box.layout.max_width == "760px"


def test_at_most_four_controls():
    controls = {str(i): w.IntSlider() for i in range(5)}
    with pytest.raises(ValueError, match="at most 4"):
        viz.Explorer(lambda **_: None, controls, "too much")


def test_the_routing_widget_follows_the_sentence(model):
    view = viz.routing_widget(model, nano(), "How many?")
    static = viz.sentence_routing(model, nano(), "How many?", 0)
    assert view.image.value == static.png(), "the figure below shows the first setting"
    assert view.sentence.value == static.text.replace("<", "&lt;")
    view.controls["layer"].value = 2
    view.controls["sentence"].value = "<|end|> raw berry"
    assert "Layer 2: the first token, &lt;, goes" in view.sentence.value, "typed text is text"
    view.controls["sentence"].value = ""
    assert view.sentence.value == "Type at least one letter."
    view.controls["sentence"].value = "raw " * 400
    assert "The first 48 of 512 tokens" in view.sentence.value


def test_help_buttons(tmp_path, monkeypatch):
    monkeypatch.setenv("LABHELPERS_HOME", str(tmp_path))
    ex.route._hints_given = 0
    buttons = ex.route.buttons()
    buttons.hint.click()
    assert "Hint 1 of 2" in buttons.answer.value
    buttons.hint.click()
    assert "Hint 2 of 2" in buttons.answer.value
    buttons.solution.click()
    assert "def route(hidden, weight, bias, top_k):" in buttons.answer.value


def test_outside_a_notebook_a_sentence_stands_for_the_widget(capsys):
    explorer([])._ipython_display_()
    ex.route.buttons()._ipython_display_()
    assert capsys.readouterr().out == (
        "Interactive: size and name. Run this cell to use it. "
        "The figure below shows the first\n  setting.\n"
        "Interactive: hint and solution of exercise 1.5 route. Run this cell to use it.\n"
    )


CELLS = [
    """
    import matplotlib.pyplot as plt, torch
    from labhelpers import viz, preset
    viz.use()
    fig, axes = plt.subplots()
    axes.plot([1, 2]); axes.set_title("Up")
    plt.show()
    """,
    "viz.byte_bars({'20b': preset('gpt-oss-20b')})",
    """
    import ipywidgets as w
    with viz.look.style():
        fig, _ = viz.look.figure(1.6)
    viz.Explorer(lambda size: viz.Picture(fig, "A."), {"size": w.IntSlider()}, "size")
    """,
    """
    from labhelpers.exercises import architecture as ex
    @ex.rms_norm.check
    def rms_norm(x, weight, eps):
        '''Doc.'''
        ...
    """,
    """
    from labhelpers.harmony import Message, render
    from labhelpers.tokenizer import nano
    ids = render([Message.user("?"), Message.final("Yes. No.")], nano(), for_training=True)
    at = [i for i, t in enumerate(ids) if t == nano().special_id("<|start|>")][1]
    class Writer:
        def generate(self, prompt, **options):
            return iter(ids[at + 1 + len(nano().encode("assistant")):])
    reply = viz.stream(Writer(), [Message.user("?")], nano())
    """,
]


@pytest.mark.parametrize("static", ["1", "0"])
def test_in_a_real_kernel(static, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(textwrap.dedent(c).strip()) for c in CELLS]
    here = str(viz.__file__).rsplit("labhelpers", 1)[0]
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    env = dict(os.environ, LABHELPERS_STATIC=static, LABHELPERS_HOME=str(tmp_path),
               IPYTHONDIR=str(tmp_path), PYTHONPATH=path)  # fmt: skip
    client = nbclient.NotebookClient(book, timeout=120, kernel_name="python3")
    client.execute(env=env)
    outputs = [cell.outputs for cell in book.cells]
    assert not [o for cell in outputs for o in cell if o.get("name") == "stderr"]

    own, picture, widget, card, stream = outputs
    assert own[0].metadata["image/png"] == {"width": 720, "height": 280}
    assert own[0].data["text/plain"] == "<Figure size 720x280 with 1 Axes>"
    assert picture[0].metadata["image/png"]["width"] == 720
    assert (
        picture[0].data["text/plain"] == "Figure: Bytes as stored: experts at 4.25 bits, all "
        "else at 16"
    )
    assert picture[1].text.startswith("20b, 13.8 GB: embedding, output head")
    view = "application/vnd.jupyter.widget-view+json"
    if static == "1":
        assert len(widget) == 1 and widget[0].text == (
            "Interactive: size. Run this cell to use it. "
            "The figure below shows the first setting.\n"
        )
    else:
        assert set(widget[0].data) == {"text/plain", view}
        assert widget[0].data["text/plain"] == (
            "Interactive: size. The figure below shows the first setting."
        )
    assert len(card) == 1 and set(card[0].data) == {"text/plain", "text/html"}
    assert card[0].data["text/plain"].startswith("○ not attempted  exercise 1.1 rms_norm")
    assert not list(tmp_path.glob("*.json"))
    assert len(stream) == 1 and stream[0].data["text/plain"] == (
        "user\n    ?\nassistant · final\n    Yes. No."
    )
    assert ("display_id" in str(stream[0].get("transient", ""))) is False
