"""The chat in a notebook: transcript, a line to type in, Stop, effort, tokens, export.

    chat_widget(Chat(connect("nano")))

The idea   the reply is written by a thread, so that the kernel stays free to hear Stop. Each
           message is an HTML widget of its own: one that is finished is never drawn again, so a
           fold that the reader has opened stays open while the next answer comes.
gpt-oss    reasoning is open while it is written and folded when it is done. If the model calls
           a function, the line asks for the result: the reader is the tool.
Source     core ipywidgets of 7.7 and 8. Limits: a page without a kernel shows the transcript of
           `labhelpers.chat.transcript` instead; one widget, one chat.
"""

from __future__ import annotations

import base64
import threading
import time
from typing import TYPE_CHECKING, Any

from labhelpers.chat.backend import Piece
from labhelpers.chat.record import Entry
from labhelpers.chat.token_view import show_tokens
from labhelpers.chat.transcript import EntryView, transcript
from labhelpers.harmony import CHANNELS, Message
from labhelpers.viz.components import escape, in_notebook
from labhelpers.viz.conversation import ConversationView
from labhelpers.viz.stream import is_static
from labhelpers.viz.widgets import show

if TYPE_CHECKING:
    from labhelpers.chat.session import Chat

SECONDS_BETWEEN_DRAWINGS = 0.1
ENTER_WAITS = 0.25  # seconds: the text may come a moment after the key ...
ENTER_COUNTS = 2.0  # ... or, over a slow line, this much later


class ChatWidget:
    """`box` is the whole; `text`, `send`, `stop`, `effort`, `tokens`, `export` are its controls.

    `wait(seconds)` returns when the reply is over (for tests and scripts).
    """

    def __init__(self, chat: Chat) -> None:
        import ipywidgets as w

        self.chat = chat
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # Enter, its timer and Send may all want to start it
        self._entered_at = -ENTER_COUNTS
        self._drawn = 0  # entries of the chat that have their widget
        wide = w.Layout(width="90px")
        # (Not to be shrunk: it is the box around it that scrolls.)
        self.messages = w.VBox(
            [], layout=w.Layout(width="100%", flex="0 0 auto", overflow="visible")
        )
        # A column from below: it stays scrolled to the newest message without any script.
        self.scroll = w.Box(
            [self.messages],
            layout=w.Layout(display="flex", flex_flow="column-reverse", overflow="auto",
                            max_height="480px", width="100%"),
        )  # fmt: skip
        self.text = w.Text(
            placeholder="Say something, then Enter", continuous_update=False,
            layout=w.Layout(flex="1 1 auto", width="auto"),
        )  # fmt: skip
        self.send = w.Button(description="Send", layout=wide)
        self.stop = w.Button(description="Stop", layout=wide, disabled=True)
        self.effort = w.Dropdown(
            options=["low", "medium", "high"], value=chat.effort, description="effort",
            layout=w.Layout(width="180px"), style={"description_width": "50px"},
        )  # fmt: skip
        self.tokens = w.Checkbox(
            value=False, description="show tokens", indent=False, layout=w.Layout(width="130px")
        )
        self.export = w.Button(description="Export", layout=wide)
        self.status = w.HTML()
        self.token_page = w.HTML(layout=w.Layout(width="100%"))
        self.box = w.VBox(
            [
                self.scroll,
                w.HBox([self.text, self.send, self.stop], layout=w.Layout(width="100%")),
                w.HBox([self.effort, self.tokens, self.export]),
                self.status,
                self.token_page,
            ],
            layout=w.Layout(width="100%", max_width="760px"),
        )
        self._connect()
        self._draw_entries()
        self._ask()

    def _connect(self) -> None:
        self.send.on_click(lambda _: self.submit())
        self.stop.on_click(lambda _: self.chat.stop())
        self.export.on_click(lambda _: self._export())
        self.effort.observe(self._set_effort, names="value")
        self.tokens.observe(lambda _: self._draw_tokens(), names="value")
        # Enter comes as a message, the text as a value: in either order, or Enter alone.
        self.text.on_msg(self._on_text_message)
        self.text.observe(self._on_text_value, names="value")

    # -- from the reader ----------------------------------------------------------------------

    def _on_text_message(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("event") == "submit":
            self._entered_at = time.monotonic()
            timer = threading.Timer(ENTER_WAITS, self.submit)
            timer.daemon = True
            timer.start()

    def _on_text_value(self, _: Any) -> None:
        # Leaving the line with Tab changes the value too, and must not send it.
        if time.monotonic() - self._entered_at < ENTER_COUNTS:
            self.submit()

    def submit(self) -> None:
        """Send what stands in the line."""
        with self._lock:
            said = self.text.value
            if self._thread is not None or not said.strip():
                return
            self._entered_at = -ENTER_COUNTS
            pending = self.chat.pending
            self._thread = threading.Thread(target=self._run, args=(said, pending), daemon=True)
        self.stop.disabled, self.send.disabled = False, True
        self.effort.disabled = self.export.disabled = True
        self.text.value = ""
        self.status.value = ""
        self._thread.start()

    def wait(self, seconds: float = 60.0) -> None:
        """Block until the reply is over. Raises TimeoutError."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
            if thread.is_alive():
                raise TimeoutError(f"the reply was not over after {seconds:g} s")

    def _set_effort(self, change: Any) -> None:
        self.chat.effort = change["new"]

    def _export(self) -> None:
        data = base64.b64encode(self.chat.to_json().encode()).decode()
        link = f'href="data:application/json;base64,{data}" download="chat.json"'
        size = len(data) * 3 / 4 / 1000
        self.status.value = (
            f'<a {link} style="text-decoration:underline">chat.json</a> ({size:.1f} kB; the same '
            "text: <code>chat.to_json()</code>)"
        )

    # -- the reply ----------------------------------------------------------------------------

    def _run(self, said: str, pending: list[Message]) -> None:
        """In a thread: nothing may be raised here, everything is said."""
        trouble = ""
        try:
            if pending:
                pieces = self.chat.send_tool_result(str(pending[0].recipient), said)
            else:
                pieces = self.chat.send(said)
            self._draw(pieces)
        except Exception as error:  # noqa: BLE001  (whatever it is, the reader must see it)
            trouble = f"{type(error).__name__}: {error}"
            if not any(e.message.text == said for e in self.chat.entries[-2:]):
                self.text.value = said  # the chat took it back: so that it can be sent again
        self._live(None)
        self._draw_entries()
        self._draw_tokens()
        self.status.value = f"<b>{escape(trouble)}</b>" if trouble else ""
        self.stop.disabled, self.send.disabled = True, False
        self.effort.disabled = self.export.disabled = False
        self._ask()
        self._thread = None

    def _draw(self, pieces: Any) -> None:
        """The message being written is drawn ten times a second, the others once."""
        text, count, drawn_at, where = "", 0, 0.0, ("", "")
        for piece in pieces:
            if piece.finished is not None or self._drawn < len(self.chat.entries):
                self._live(None)
                self._draw_entries()
                text, count, where = "", 0, ("", "")
            if piece.finished is not None or piece.channel not in CHANNELS:
                continue
            if where != (piece.channel, piece.recipient):
                text, count, where = "", 0, (piece.channel, piece.recipient)
            text, count = text + piece.text, count + bool(piece.text)
            if text and time.monotonic() - drawn_at >= SECONDS_BETWEEN_DRAWINGS:
                self._live(_unfinished(piece, text, count if piece.ids else None))
                drawn_at = time.monotonic()

    def _draw_entries(self) -> None:
        """A page for each entry; one that says what it said before is left alone, fold and all."""
        import ipywidgets as w

        pages = [ConversationView([EntryView(entry)]).html() for entry in self.chat.entries]
        done = list(self.messages.children)[: len(pages)]
        for child, page in zip(done, pages, strict=False):
            if child.value != page:
                child.value = page
        done += [w.HTML(p, layout=w.Layout(width="100%")) for p in pages[len(done) :]]
        self._drawn = len(done)
        self.messages.children = tuple(done)

    def _live(self, view: ConversationView | None) -> None:
        """The message being written, below the finished ones; None takes it away."""
        import ipywidgets as w

        children = self.messages.children
        if view is None:
            self.messages.children = children[: self._drawn]
        elif len(children) > self._drawn:
            children[-1].value = view.html()
        else:
            live = w.HTML(view.html(), layout=w.Layout(width="100%"))
            self.messages.children = (*children, live)

    def _draw_tokens(self) -> None:
        self.token_page.value = show_tokens(self.chat).html() if self.tokens.value else ""

    def _ask(self) -> None:
        """What the line is for now: the user's words, or a tool's result."""
        pending = self.chat.pending
        wanted = f"Result of {pending[0].recipient}, then Enter" if pending else ""
        self.text.placeholder = wanted or "Say something, then Enter"

    def _ipython_display_(self) -> None:
        if is_static() or not in_notebook():
            from labhelpers.viz.components import show as show_component

            if self.chat.entries:
                show_component(transcript(self.chat))
            else:
                show(self.box, f"a chat with {self.chat.backend.name}", below="")
        else:
            show(self.box, f"a chat with {self.chat.backend.name}", below="")

    def __repr__(self) -> str:
        return f"Interactive: a chat with {self.chat.backend.name}."


def _unfinished(piece: Piece, text: str, count: int | None) -> ConversationView:
    message = Message("assistant", text, piece.channel, piece.recipient)
    return ConversationView([EntryView(Entry(message, count), folded=False)])


def chat_widget(chat: Chat) -> ChatWidget:
    """The widget of a chat; the last value of a cell shows it."""
    return ChatWidget(chat)
