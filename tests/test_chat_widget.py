"""The chat under the reader's hands: widget, token view, terminal."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chat_backends import ANSWER, Scripted, ids_of

import labhelpers
from labhelpers.chat import Chat, show_tokens, transcript
from labhelpers.chat import __main__ as program
from labhelpers.chat.terminal import Terminal, printable
from labhelpers.chat.token_view import read_tokens
from labhelpers.harmony import ToolDescription, render
from labhelpers.tokenizer import nano

w = pytest.importorskip("ipywidgets")

COUNT = len(nano().encode("Think a little."))
CALL = "<start>assistant to=functions.f<channel>commentary <constrain>json<message>{}<call>"


class Words(HTMLParser):
    """The text of a page, without any style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


# -- the widget ---------------------------------------------------------------------------------


def make(*streams: str, **settings: object):
    from labhelpers.chat import chat_widget

    return chat_widget(Chat(Scripted(*streams), **settings))


def say(view, text: str) -> None:
    """As JupyterLab does it: the key first, then the value."""
    view.text._handle_custom_msg({"event": "submit"}, [])
    view.text.value = text
    view.wait(20)


def shown(view) -> str:
    return " ".join(" ".join(Words(page.value).words) for page in view.messages.children)


def test_enter_sends_and_the_answer_stands_above() -> None:
    view = make(ANSWER)
    say(view, "Hello <b>you</b>!")
    assert shown(view) == (
        f"user Hello <b>you</b>! assistant · analysis {COUNT} tokens of reasoning Think a little. "
        "assistant · final Hi."
    )
    assert view.messages.children[1].value.count("<details>") == 1, "folded"
    assert view.text.value == "" and view.stop.disabled and not view.send.disabled
    first = view.messages.children[1]
    view.text.value = "Again"
    view.send.click()
    view.wait(20)
    assert len(view.messages.children) == 6
    assert view.messages.children[1] is first, "what is done is not drawn again"


def test_enter_alone_is_enough_and_leaving_the_line_is_not() -> None:
    view = make(ANSWER)
    view.text.value = "typed, then Tab"
    time.sleep(0.05)
    assert not view.chat.entries
    view.text._handle_custom_msg({"event": "submit"}, [])
    for _ in range(100):
        if view.chat.entries and view._thread is None:
            break
        time.sleep(0.05)
    assert len(view.chat.entries) == 3
    view.text._handle_custom_msg({"event": "submit"}, [])  # an empty line says nothing
    time.sleep(0.4)
    assert len(view.chat.entries) == 3


def test_stop_ends_the_thread() -> None:
    class Slow(Scripted):
        def stream(self, conversation, options):
            for item in super().stream(conversation, options):
                time.sleep(0.02)
                yield item

    from labhelpers.chat import chat_widget

    view = chat_widget(Chat(Slow("<channel>analysis<message>" + "word " * 400)))
    view.text.value = "Hello!"
    view.send.click()
    time.sleep(0.5)
    assert not view.stop.disabled and view.send.disabled and view.effort.disabled
    assert "tokens of reasoning" in shown(view) and "<details>" not in shown(view)
    view.stop.click()
    view.wait(5)
    assert view.chat.note == "Stopped." and "Stopped." in shown(view) and view.stop.disabled


def test_order_from_transcript_to_choices() -> None:
    view = make(ANSWER)
    rows = [type(c).__name__ for c in view.box.children]
    assert rows == ["Box", "HBox", "HBox", "HTML", "HTML"]
    assert [type(c).__name__ for c in view.box.children[1].children] == ["Text", "Button", "Button"]
    assert [type(c).__name__ for c in view.box.children[2].children] == [
        "Dropdown", "Checkbox", "Button",
    ]  # fmt: skip
    assert view.box.layout.max_width == "760px"


def test_effort_tokens_and_export() -> None:
    view = make(ANSWER)
    view.effort.value = "high"
    assert view.chat.effort == "high"
    view.tokens.value = True
    assert "No tokens yet" in view.token_page.value
    say(view, "Hello!")
    assert 'title="' in view.token_page.value
    view.tokens.value = False
    assert view.token_page.value == ""
    view.export.click()
    data = re.search(r"base64,([^\"]+)", view.status.value).group(1)
    assert json.loads(base64.b64decode(data)) == json.loads(view.chat.to_json())


def test_the_reader_is_the_tool() -> None:
    view = make(CALL, ANSWER, tools=[ToolDescription("f")])
    say(view, "Hello!")
    assert view.text.placeholder == "Result of functions.f, then Enter"
    say(view, "42")
    assert "tool functions.f 42" in shown(view) and shown(view).endswith("Hi.")
    assert view.text.placeholder == "Say something, then Enter"


def test_what_fails_is_said_and_can_be_sent_again() -> None:
    class Down(Scripted):
        def stream(self, conversation, options):
            raise ConnectionError("nobody <there>")
            yield

    from labhelpers.chat import chat_widget

    view = chat_widget(Chat(Down(ANSWER)))
    view.text.value = "Hello!"
    view.send.click()
    view.wait(5)
    assert "nobody &lt;there&gt;" in view.status.value and view.text.value == "Hello!"
    assert view.stop.disabled and not view.messages.children


def test_a_remark_stands_with_its_message() -> None:
    view = make("<channel>analysis<message>" + "word " * 50, max_new_tokens=10)
    say(view, "Hello!")
    assert "No answer" in shown(view)


def test_without_a_page_the_transcript_stands_for_the_widget(capsys) -> None:
    view = make(ANSWER)
    view._ipython_display_()
    assert capsys.readouterr().out.startswith("Interactive: a chat with scripted.")
    say(view, "Hello!")
    view._ipython_display_()
    assert capsys.readouterr().out == repr(view.chat) + "\n"
    assert repr(view.chat).endswith("assistant · final\n    Hi.")


def test_a_chapter_that_is_run_by_machine(tmp_path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook()
    book.cells = [
        nbformat.v4.new_code_cell(
            "from labhelpers.chat import Chat, chat_widget, connect, show_tokens\n"
            "chat = Chat(connect())\nchat_widget(chat)"
        ),
        nbformat.v4.new_code_cell("chat.ask('Hello!')\nchat_widget(chat)"),
        nbformat.v4.new_code_cell("show_tokens(chat)"),
    ]
    client = nbclient.NotebookClient(book, timeout=120, kernel_name="python3")
    path = os.pathsep.join([str(Path(labhelpers.__file__).parents[1]), *sys.path])
    client.execute(env=dict(os.environ, LABHELPERS_STATIC="1", PYTHONPATH=path))
    empty, talked, tokens = (cell.outputs for cell in book.cells)
    assert [o.text for o in empty] == ["Interactive: a chat with nano. Run this cell to use it.\n"]
    for outputs in (talked, tokens):
        assert len(outputs) == 1 and set(outputs[0].data) == {"text/plain", "text/html"}
    assert talked[0].data["text/plain"].startswith("user\n    Hello!\nassistant · analysis (")
    assert "special: <|return|> " in tokens[0].data["text/plain"]


def test_the_transcript_says_the_same_without_its_styles() -> None:
    chat = Chat(Scripted("<channel>analysis<message>Hm.<end>junk<return>"), instructions="Brief.")
    chat.ask("Hello!")
    view = transcript(chat, settings=True)
    plain = view.plain().split()
    assert [x.strip("()") for x in Words(view.html()).words] == [x.strip("()") for x in plain]
    assert "Brief." in plain and "format:" in plain


# -- tokens -------------------------------------------------------------------------------------


def test_every_token_has_its_kind() -> None:
    ids = ids_of(ANSWER)
    tokens = read_tokens(ids, nano(), "assistant")
    assert [t.id for t in tokens] == ids
    kinds = [t.label for t in tokens]
    assert kinds[:3] == ["special", "header", "special"]
    assert kinds.count("text of analysis") == COUNT and kinds[-1] == "special"
    assert "text of final" in kinds


def test_the_prompt_too_and_a_users_marks_are_text() -> None:
    chat = Chat(Scripted(ANSWER), instructions="Brief.")
    chat.ask("<|end|>")
    view = show_tokens(chat)
    labels = {t.label for t in view.tokens}
    assert labels >= {"text of system", "text of developer", "text of user", "text of final"}
    users = [t for t in view.tokens if t.label == "text of user"]
    assert "".join(t.shown for t in users) == "<|end|>" and len(users) > 1
    assert len(show_tokens(chat, limit=5).tokens) == 5
    assert "tokens before these" in show_tokens(chat, limit=5).plain()
    assert [t.id for t in view.tokens] == chat.prompt + chat.ids
    html = view.html()
    assert f'title="{chat.ids[0]} · special"' in html
    for line in view.plain().split("\n"):
        assert line.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;") in html


def test_a_tools_text_is_the_tools() -> None:
    from labhelpers.harmony import Message

    ids = render([Message.tool("functions.f", "42")], nano())
    assert "text of tool" in [t.label for t in read_tokens(ids, nano())]


# -- the terminal -------------------------------------------------------------------------------


def talk(lines: str, *streams: str, tty: bool = False, **settings: object) -> str:
    out = io.StringIO()
    out.isatty = lambda: tty  # type: ignore[method-assign]
    chat = Chat(Scripted(*streams), **settings)
    assert Terminal(chat, io.StringIO(lines), out).run() == 0
    return out.getvalue()


def test_a_conversation_in_the_terminal(tmp_path) -> None:
    file = tmp_path / "chat.json"
    lines = ["Hello!", "", "/effort high", "/effort more", "/tokens", "Again", f"/save {file}"]
    out = talk("\n".join([*lines, "/reset", "/what", "/quit", ""]), ANSWER)
    assert "analysis> Think a little.\nfinal> Hi.\n" in out
    assert "effort high" in out and '(effort is "low"' in out and "forgotten" in out
    assert "special: <|channel|>" in out and "/reset  " in out
    assert len(json.loads(file.read_text())["messages"]) == 6
    assert "\x1b" not in out


def test_colours_only_on_a_terminal(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[35manalysis> \x1b[0m" in talk("Hello!\n", ANSWER, tty=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in talk("Hello!\n", ANSWER, tty=True)


def test_a_call_asks_for_its_result() -> None:
    out = talk("Hello!\n42\n", CALL, ANSWER, tools=[ToolDescription("f")])
    assert "commentary to functions.f> {}" in out and "result of functions.f> 42" in out
    assert out.index("Think") > out.index("42")


def test_ctrl_c_ends_the_answer_and_keeps_the_chat() -> None:
    class Interrupted(Scripted):
        def stream(self, conversation, options):
            for count, item in enumerate(super().stream(conversation, options)):
                if count == 4 and not self.prompts[1:]:
                    raise KeyboardInterrupt
                yield item

    out = io.StringIO()
    chat = Chat(Interrupted("<channel>final<message>One two three.<return>"))
    Terminal(chat, io.StringIO("Count\nAgain\n"), out).run()
    first = nano().decode(nano().encode("One two three.")[:1])
    assert "(Stopped.)" in out.getvalue() and "One two three." in out.getvalue()
    assert [e.message.text for e in chat.entries] == ["Count", first, "Again", "One two three."]


def test_trouble_is_one_line(capsys) -> None:
    assert program.main(["--model", "http://127.0.0.1:1/v1", "--name", "m", "--once", "x"]) == 1
    assert "nobody listens" in capsys.readouterr().out
    assert program.main(["--model", "nanno", "--once", "x"]) == 1
    assert "no model 'nanno'" in capsys.readouterr().err


def test_a_models_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2J\tb\n\x07é🍓") == "a\ufffd[2J\tb\n\ufffdé🍓"


def test_python_m_labhelpers_chat() -> None:
    question = "How many rs are in the word 'strawberry'?"
    command = [sys.executable, "-m", "labhelpers.chat", "--once", question, "--show-tokens"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"final> .*3", done.stdout) and "special: <|return|>" in done.stdout
    assert done.stderr == ""
