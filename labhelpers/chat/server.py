"""Chat with a server that speaks OpenAI's /v1/chat/completions: vLLM, Ollama, transformers serve.

The idea   the server renders and parses harmony by itself and sends JSON: reasoning, content and
           tool calls as they come, one "data: {...}" line each (server-sent events). Here they
           become the same pieces as tokens do: analysis, final, a call in commentary.
gpt-oss    reasoning travels as `reasoning` or `reasoning_content`; both are read, and the
           server's own word is used to send it back with a tool's result, without which the
           model would start its thought again. Effort goes as `reasoning_effort`. The
           instructions go as role "system", which every such server takes for the developer's.
Source     OpenAI's API reference and its guide to raw reasoning; vLLM's and Ollama's fields.
Limits     text, not tokens: no reasoning budget, no token view, no `top_k`. No proxies.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labhelpers.chat.backend import BackendError, Ending, Options, Piece
from labhelpers.chat.server_messages import CHAT_PATH, request_body
from labhelpers.harmony import Conversation, Message

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer

RAW_MARKS = ("<|channel|>", "<|message|>", "<|start|>")
REASONS = {"stop": "return", "tool_calls": "call", "function_call": "call", "length": "length"}


class ServerBackend:
    """A model behind base_url ("http://localhost:8000/v1"; "/v1" is added if no path is given).

    api_key goes into the Authorization header. timeout: seconds without a sign of life.
    effort_in_template: send the effort as an argument of the chat template too, for servers that
    pass over `reasoning_effort` (transformers serve does).
    Raises ValueError for a URL that is none; `stream` raises BackendError with what to do.
    """

    tokenizer: Tokenizer | None = None

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        effort_in_template: bool = False,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no URL of a server: http://localhost:8000/v1")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the API key holds characters that no HTTP header can carry")
        self.base_url, self.name, self.model = base_url, model, model
        self.api_key, self.timeout, self.effort_in_template = api_key, timeout, effort_in_template
        path = parts.path.rstrip("/").removesuffix(CHAT_PATH) or "/v1"
        self._host, self._path, self._scheme = parts.netloc.split("@")[-1], path, parts.scheme
        self._socket: socket.socket | None = None
        self._reasoning_field = "reasoning_content"

    def interrupt(self) -> None:
        """Hang up, so that a thread that waits for the server wakes."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was closed already

    def stream(self, conversation: Conversation, options: Options) -> Iterator[Piece | Ending]:
        """The assistant's next turn. Raises BackendError, or ValueError for a reasoning budget."""
        if options.reasoning_budget is not None:
            raise ValueError("a server gives no hold on tokens: lower the effort instead")
        body = request_body(self.model, conversation, options, self._reasoning_field)
        if self.effort_in_template:
            body["chat_template_kwargs"] = {"reasoning_effort": options.effort}
        connection = self._connect()
        try:
            response = self._post(connection, body)
            yield from self._read(response, options)
        except (OSError, http.client.HTTPException) as error:
            if not options.stopped.is_set():
                raise BackendError(_network_trouble(error, self.base_url, self.timeout)) from error
            yield Ending("stopped")
        finally:
            self._socket = None
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(self._host, timeout=self.timeout)

    def _post(
        self, connection: http.client.HTTPConnection, body: dict[str, Any]
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        connection.request("POST", self._path + CHAT_PATH, data, headers)
        self._socket = connection.sock
        response = connection.getresponse()
        if response.status != 200:
            raise BackendError(self._refusal(response))
        return response

    def _refusal(self, response: http.client.HTTPResponse) -> str:
        """What an HTTP error means here, and the server's own words."""
        url = f"{self._scheme}://{self._host}{self._path}{CHAT_PATH}"
        said = _message_of(response.read(4000).decode("utf-8", "replace"))
        status = response.status
        if status in (401, 403):
            cure = "another API key?" if self.api_key else "an API key: ServerBackend(api_key=...)"
            hint = f"the server wants {cure}"
        elif status == 404:
            hint = f"is the address right ({url}), and is a model called {self.model!r} served?"
        elif status == 429:
            hint = "too many requests; wait a little"
        elif status < 400:
            hint = f"the server sends us elsewhere: {response.getheader('Location', 'no address')}"
        elif status < 500:
            hint = "the server did not understand the request"
        else:
            hint = "the server failed; its own log says why"
        end = "" if hint.endswith("?") else "."
        return f"HTTP {status} {response.reason}: {hint}{end}" + (
            f" It said: {said}" if said else ""
        )

    def _read(
        self, response: http.client.HTTPResponse, options: Options
    ) -> Iterator[Piece | Ending]:
        assembler, finish = _Assembler(), None
        for event in _events(response):
            if options.stopped.is_set():
                break
            if "error" in event:
                raise BackendError(f"the server broke off: {_message_of(json.dumps(event))}")
            for choice in (event.get("choices") or [])[:1]:
                delta = choice.get("delta") or choice.get("message") or {}
                for field in ("reasoning_content", "reasoning"):
                    if delta.get(field):
                        self._reasoning_field = field
                        break
                yield from assembler.push(delta)
                finish = choice.get("finish_reason") or finish
        reason = "stopped" if options.stopped.is_set() else REASONS.get(finish or "", "lost")
        if reason == "return" and assembler.has_calls:
            reason = "call"  # some servers say "stop" after a call
        yield from assembler.finish(partial=reason not in ("return", "call"))
        yield Ending(reason, note=assembler.remark())


class _Assembler:
    """Deltas of one reply to pieces: a message ends where another kind of text begins."""

    def __init__(self) -> None:
        self.kind: tuple[str, str | None, int] | None = None  # channel, recipient, call's index
        self.text = ""
        self.all_content = ""
        self.has_calls = False

    def push(self, delta: dict[str, Any]) -> Iterator[Piece]:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield from self._add(("analysis", None, 0), reasoning)
        content = delta.get("content")
        if isinstance(content, str) and content:
            self.all_content += content
            yield from self._add(("final", None, 0), content)
        for call in delta.get("tool_calls") or []:
            self.has_calls = True
            function, index = call.get("function") or {}, call.get("index") or 0
            if function.get("name"):
                name = _recipient(function["name"])
                yield from self._add(("commentary", name, index), function.get("arguments") or "")
            elif self.kind is not None and self.kind[1]:
                yield from self._add(self.kind, function.get("arguments") or "")

    def _add(self, kind: tuple[str, str | None, int], text: str) -> Iterator[Piece]:
        if kind != self.kind:
            yield from self.finish(before_call=kind[1] is not None)
            self.kind = kind
        self.text += text
        yield Piece(kind[0], kind[1], text)

    def finish(self, partial: bool = False, before_call: bool = False) -> Iterator[Piece]:
        """The message that is open, whole. What was said before a call was a preamble."""
        if self.kind is None:
            return
        (channel, recipient, _), text = self.kind, self.text
        self.kind, self.text = None, ""
        if recipient:
            message = Message.call(recipient, text)
        elif channel == "final":
            message = Message.preamble(text) if before_call else Message.final(text)
        else:
            message = Message.analysis(text)
        yield Piece(message.channel, recipient, "", message, partial=partial)

    def remark(self) -> str:
        """Harmony's marks in the content: the server did not parse them."""
        if any(mark in self.all_content for mark in RAW_MARKS):
            return (
                "The server passes harmony's marks on as text: it does not parse gpt-oss's format "
                "(an old version, or a wrong template?)."
            )
        return ""


def _recipient(name: str) -> str:
    builtin = name == "python" or name.startswith(("browser.", "functions."))
    return name if builtin else f"functions.{name}"


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of "data:" lines; a whole JSON answer counts as one event."""
    if "json" in response.getheader("Content-Type", ""):
        yield _object(response.read().decode("utf-8", "replace"))
        return
    waiting: list[str] = []  # an event may be spread over several data lines
    while raw := response.readline():
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("data:"):
            waiting.append(line[5:].removeprefix(" "))
        elif not line and waiting:
            text, waiting = "\n".join(waiting), []
            if text.strip() == "[DONE]":
                return
            yield _object(text)
    if waiting and "".join(waiting).strip() != "[DONE]":
        yield _object("\n".join(waiting))


def _object(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise BackendError(
            f"the answer is no chat stream: {text[:80]!r}. Is this address a model server's?"
        )
    return event


def _message_of(text: str) -> str:
    """The readable part of an error body: OpenAI's {"error": {"message"}}, or what there is."""
    try:
        found = json.loads(text)
    except ValueError:
        return "" if "<html" in text.lower() else text.strip()[:300]
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return (found if isinstance(found, str) else json.dumps(found))[:300]


def _network_trouble(error: Exception, url: str, timeout: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {url}: start the server, or mend the port"
    if isinstance(error, socket.gaierror):
        return f"{url}: there is no machine of that name"
    if isinstance(error, TimeoutError):
        return f"{url} gave no sign of life for {timeout:g} seconds"
    if isinstance(error, ssl.SSLError):
        return f"no safe connection to {url} ({error.reason or error}): http instead of https?"
    if isinstance(error, http.client.HTTPException):
        return f"{url} does not speak HTTP as expected ({type(error).__name__}): http or https?"
    return f"the connection to {url} broke: {error}"
