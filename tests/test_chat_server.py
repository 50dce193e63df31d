"""The server backend against a small server of our own: streams, tools, refusals, hanging up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labhelpers.chat import BackendError, Chat, Options, ServerBackend
from labhelpers.chat.server_messages import chat_messages, request_body
from labhelpers.harmony import Conversation, Message, ToolDescription

WEATHER = ToolDescription("get_weather", "Weather.", {"type": "object", "properties": {}})


def event(finish: str | None = None, **delta: object) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}) + "\n\n"


ANSWER = [
    event(role="assistant"),
    event(reasoning_content="Think "),
    event(reasoning_content="a little."),
    event(content="Hi "),
    event(content="there 🌦."),
    event("stop"),
    "data: [DONE]\n\n",
]
CALL = [
    ": a comment keeps the line open\n\n",
    event(reasoning="Look it up."),
    event(content="One moment."),
    event(tool_calls=[{"index": 0, "id": "a", "function": {"name": "get_weather"}}]),
    event(tool_calls=[{"index": 0, "function": {"arguments": '{"city":'}}]),
    event(tool_calls=[{"index": 0, "function": {"arguments": ' "Paris"}'}}]),
    event("tool_calls"),
    "data: [DONE]\n\n",
]


class Server:
    """Answers each POST with the next of `replies`: lists of lines, (status, body), or a pause."""

    def __init__(self) -> None:
        self.replies: list[object] = [ANSWER]
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.requests.append(json.loads(self.rfile.read(length)))
                outer.headers.append(dict(self.headers))
                outer.paths.append(self.path)
                reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                if isinstance(reply, tuple):
                    status, body = reply
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.end_headers()
                    self.wfile.write(body.encode())
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.end_headers()
                for line in reply:
                    if isinstance(line, float):
                        time.sleep(line)
                        continue
                    try:
                        self.wfile.write(line.encode())
                        self.wfile.flush()
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def chat(server: Server, **settings: object) -> Chat:
    return Chat(ServerBackend(server.url, "gpt-oss-20b", timeout=5), **settings)


def test_reasoning_and_answer_come_as_pieces(server: Server) -> None:
    talk = chat(server, instructions="Be brief.", effort="high", seed=3, max_new_tokens=50)
    pieces = list(talk.send("Hello!"))
    texts = [(p.channel, p.text) for p in pieces if p.text]
    assert texts == [
        ("analysis", "Think "), ("analysis", "a little."), ("final", "Hi "), ("final", "there 🌦."),
    ]  # fmt: skip
    assert [p.finished for p in pieces if p.finished] == [
        Message.analysis("Think a little."),
        Message.final("Hi there 🌦."),
    ]
    assert talk.note == "" and talk.ending is not None and talk.ending.reason == "return"
    request = server.requests[0]
    assert request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
    ]
    settings = {k: request[k] for k in ("model", "stream", "max_tokens", "reasoning_effort")}
    assert settings == {
        "model": "gpt-oss-20b", "stream": True, "max_tokens": 50, "reasoning_effort": "high",
    }  # fmt: skip
    assert request["temperature"] == 0 and request["seed"] == 3
    assert server.paths == ["/v1/chat/completions"] and "Authorization" not in server.headers[0]
    talk.ask("And?")
    assert "reasoning_content" not in server.requests[1]["messages"][2], "over, so dropped"


def test_a_call_its_reasoning_and_its_result(server: Server) -> None:
    server.replies = [CALL, ANSWER]
    talk = chat(server, tools=[WEATHER])
    list(talk.send("Weather?"))
    said = [e.message for e in talk.entries[1:]]
    assert said == [
        Message.analysis("Look it up."),
        Message.preamble("One moment."),
        Message.call("functions.get_weather", '{"city": "Paris"}'),
    ]
    assert server.requests[0]["tools"][0]["function"]["name"] == "get_weather"
    assert talk.pending == said[2:]
    list(talk.send_tool_result("get_weather", "sunny"))
    assert server.requests[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": "One moment.",
            "reasoning": "Look it up.",  # under the name that this server uses
            "tool_calls": [{
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
            }],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]  # fmt: skip


def test_several_calls_keep_their_ids() -> None:
    messages = chat_messages(Conversation((
        Message.user("x"),
        Message.call("functions.a", "{}"), Message.call("functions.b", "{}"),
        Message.tool("functions.b", "2"), Message.tool("functions.a", "1"),
        Message.final("Done."), Message.user("y"),
    )))  # fmt: skip
    calls = {c["function"]["name"]: c["id"] for c in messages[1]["tool_calls"]}
    results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    assert results == {calls["a"]: "1", calls["b"]: "2"}
    assert [m["role"] for m in messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        ([event(reasoning="Hm"), event("length"), "data: [DONE]\n\n"], "No answer"),
        ([event(content="Hm"), event("length")], "cut off after"),
        ([event(reasoning="Hm"), event("stop"), "data: [DONE]\n\n"], "without an answer"),
        ([event("stop"), "data: [DONE]\n\n"], "without an answer"),
        ([event(content="Half an ans")], "connection ended before"),
        ([event(content="<|channel|>analysis<|message|>Hm"), event("stop")], "marks on as text"),
    ],
)
def test_ends_that_are_no_answer_are_said(server: Server, lines: list[str], note: str) -> None:
    server.replies = [lines]
    talk = chat(server)
    list(talk.send("Hello!"))
    assert note in talk.note


def test_a_whole_json_answer_will_do(server: Server) -> None:
    message = {"role": "assistant", "content": "Hi.", "reasoning": "Hm."}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    server.replies = [(200, json.dumps(body))]
    talk = chat(server)
    assert talk.ask("Hello!") == "Hi." and talk.entries[1].message.text == "Hm."


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((401, '{"error": {"message": "no key given"}}'), ["401", "API key", "no key given"]),
        ((404, '{"detail": "Not Found"}'), ["404", "/v1/chat/completions", "gpt-oss-20b"]),
        ((400, '{"message": "bad role"}'), ["400", "did not understand", "bad role"]),
        ((429, ""), ["429", "too many"]),
        ((500, "<html>oops</html>"), ["500", "its own log"]),
        ((503, "busy"), ["503", "busy"]),
        ((302, ""), ["302", "elsewhere"]),
        ((200, "<html>a web page</html>"), ["no chat stream", "web page"]),
        (['data: {"error": {"message": "out of memory"}}\n\n'], ["broke off", "out of memory"]),
        (["data: {oops\n\n"], ["no chat stream", "oops"]),
    ],
)
def test_refusals_say_what_to_do(server: Server, reply: object, words: list[str]) -> None:
    server.replies = [reply]
    talk = chat(server)
    with pytest.raises(BackendError) as caught:
        talk.ask("Hello!")
    assert all(word in str(caught.value) for word in words), caught.value
    assert talk.entries == [], "it can be said again"


def test_a_wrong_key_and_a_right_one(server: Server) -> None:
    talk = Chat(ServerBackend(server.url + "/chat/completions", "m", api_key="secret"))
    assert talk.ask("Hello!") == "Hi there 🌦."
    assert server.headers[0]["Authorization"] == "Bearer secret"
    server.replies = [(401, "")]
    with pytest.raises(BackendError, match="another API key") as caught:
        talk.ask("Hello!")
    assert "secret" not in str(caught.value)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(BackendError, match="nobody listens"):
        Chat(ServerBackend(url, "m")).ask("Hello!")
    with pytest.raises(BackendError, match="no machine of that name"):
        Chat(ServerBackend("http://nowhere.invalid/v1", "m")).ask("Hello!")


def test_https_where_http_is_spoken(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(BackendError, match="http instead of https"):
        Chat(ServerBackend(url, "m")).ask("Hello!")


def test_a_server_that_falls_silent(server: Server) -> None:
    server.replies = [[event(content="Hi"), 3.0]]
    talk = Chat(ServerBackend(server.url, "m", timeout=0.3))
    with pytest.raises(BackendError, match="no sign of life"):
        talk.ask("Hello!")
    assert talk.entries[-1].message == Message.final("Hi"), "what came is kept"
    assert "connection ended" in talk.note and not talk.running


def test_stop_wakes_a_reader_that_waits(server: Server) -> None:
    server.replies = [[event(content="Hi"), 20.0]]
    talk = Chat(ServerBackend(server.url, "m", timeout=30))
    threading.Timer(0.3, talk.stop).start()
    began = time.monotonic()
    assert talk.ask("Hello!") == "Hi"
    assert time.monotonic() - began < 3 and talk.note == "Stopped."


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "", "http://"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="no URL"):
        ServerBackend(url, "m")


def test_a_budget_needs_tokens(server: Server) -> None:
    with pytest.raises(ValueError, match="takes only text"):
        chat(server, reasoning_budget=5)
    with pytest.raises(ValueError, match="functions only"):
        chat(server, tools=["python"])
    body = request_body("m", Conversation((Message.user("x"),)), Options(), "reasoning")
    assert "tools" not in body and "seed" not in body
    backend = ServerBackend(server.url, "m", effort_in_template=True)
    Chat(backend, effort="low").ask("x")
    assert server.requests[0]["chat_template_kwargs"] == {"reasoning_effort": "low"}
