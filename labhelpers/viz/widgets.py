"""Interactive views, from core ipywidgets that exist in version 7.7 (Colab) and 8.

A widget is never the only carrier: one plain function draws from arguments, the widget calls
it, and the same picture at the first setting stands below it in the notebook. So a page without
a kernel (GitHub, exported HTML) loses the controls and nothing else.

Choices: sliders in order of cause, Reset, one sentence with the key number, then the picture as
an Image (no Output widget: its prints cannot be compared). Everything works by Tab, arrows,
Enter and Space. Limits: one widget, one model; the kernel must be running.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labhelpers.viz.components import in_notebook, inline
from labhelpers.viz.look import wrapped
from labhelpers.viz.routing import record_routing, token_routing
from labhelpers.viz.stream import is_static

if TYPE_CHECKING:
    from labhelpers.model import GptOss
    from labhelpers.tokenizer import Tokenizer
    from labhelpers.viz.look import Picture

MOST_READ = 512  # tokens of a typed text; more would make a reader wait
_VIEW = "application/vnd.jupyter.widget-view+json"
CONTROL = {"description_width": "110px"}


BELOW = "The figure below shows the first setting."


def show(widget: Any, what: str, below: str = BELOW) -> None:
    """Display a widget with a text that stands for it where widgets cannot be shown.

    what: "window and sink logit". below: what the page shows instead. With LABHELPERS_STATIC=1
    only the text comes, so that a stored notebook holds no view whose state is gone.
    """
    from IPython.display import display

    if is_static() or not in_notebook():
        print(wrapped(f"Interactive: {what}. Run this cell to use it. {below}".rstrip()))
        return
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    text = f"Interactive: {what}. {below}".rstrip()
    display({"text/plain": text, _VIEW: view}, raw=True)


class Explorer:
    """Controls, Reset, a sentence and a picture; `draw(**values)` gives the Picture.

    `controls` maps the names of draw's arguments to widgets, in order of cause. `box` is the
    whole, `sentence` and `image` its output parts. A ValueError from draw becomes the sentence,
    and the last picture stays.
    """

    def __init__(self, draw: Callable[..., Picture], controls: dict[str, Any], what: str) -> None:
        import ipywidgets as w

        if len(controls) > 4:
            raise ValueError(f"at most 4 controls a widget, got {len(controls)}")
        self.draw, self.controls, self.what = draw, controls, what
        self._first = {name: c.value for name, c in controls.items()}
        self._resetting = False
        self.sentence = w.HTML()
        self.image = w.Image(format="png", layout=w.Layout(max_width="100%"))
        self.reset_button = w.Button(description="Reset", layout=w.Layout(width="110px"))
        self.reset_button.on_click(lambda _: self.reset())
        for control in controls.values():
            control.style.description_width = CONTROL["description_width"]
            control.layout.width = "100%"
            control.layout.max_width = "520px"
            control.observe(lambda _: self.update(), names="value")
        self.box = w.VBox(
            [*controls.values(), self.reset_button, self.sentence, self.image],
            layout=w.Layout(max_width="760px"),
        )
        self.update()

    def update(self) -> None:
        """Draw for the present values."""
        if self._resetting:
            return
        try:
            picture = self.draw(**{name: c.value for name, c in self.controls.items()})
        except ValueError as error:
            self.sentence.value = inline(str(error))
            return
        from labhelpers.viz import look

        data, size = look.png(picture.figure)
        self.sentence.value = inline(picture.text)
        self.image.width = str(size["width"])
        self.image.value = data

    def reset(self) -> None:
        """Back to the first setting, drawn once."""
        self._resetting = True
        for name, control in self.controls.items():
            control.value = self._first[name]
        self._resetting = False
        self.update()

    def _ipython_display_(self) -> None:
        show(self.box, self.what)

    def __repr__(self) -> str:
        return f"Interactive: {self.what}."


def routing_widget(
    model: GptOss,
    tokenizer: Tokenizer,
    sentence: str = "How many rs are in the word 'strawberry'?",
    layer: int = 0,
) -> Explorer:
    """Type a sentence, choose a layer, and see which experts each token goes to.

    The figure for the cell below: `sentence_routing(model, tokenizer, sentence, layer)`.
    """
    import ipywidgets as w

    layers = model.config.num_hidden_layers
    controls = {
        "sentence": w.Text(value=sentence, description="sentence", continuous_update=False),
        "layer": w.IntSlider(
            value=layer, min=0, max=layers - 1, description="layer", continuous_update=False
        ),
    }
    return Explorer(
        lambda sentence, layer: sentence_routing(model, tokenizer, sentence, layer),
        controls,
        "type a sentence, choose a layer, see where its tokens go",
    )


def sentence_routing(model: GptOss, tokenizer: Tokenizer, sentence: str, layer: int = 0) -> Picture:
    """The picture of `routing_widget` for one sentence. Raises ValueError for an empty one."""
    ids = tokenizer.encode(sentence)[:MOST_READ]
    if not ids:
        raise ValueError("Type at least one letter.")
    return token_routing(record_routing(model, ids), layer, tokenizer)
