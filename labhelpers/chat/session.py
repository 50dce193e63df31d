"""A conversation that goes on: what was said, what the model may read of it, what went wrong.

    chat = labhelpers.chat.Chat(connect("nano"), effort="high")
    for piece in chat.send("How many rs are in the word 'strawberry'?"):
        print(piece.text, end="")
    chat.ask("Hello!")            # the same without the stream: the answer's text

The idea   a turn ends in one of four ways: with an answer, with a call that somebody must
           carry out (`send_tool_result`), cut off (too many tokens, or stopped), or broken.
           Each is kept and said (`note`, `faults`); none is passed off as an answer.
gpt-oss    the trap is the third: a reply may spend all its tokens on reasoning, and then the
           final channel is empty. Half a thought is shown, but not sent back to the model.
Source     OpenAI's harmony format guide. Limits: this module runs no tool, and it drops nothing
           of a long conversation: past `max_position_embeddings` it refuses.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from typing import Any

from labhelpers.chat.backend import Backend, Ending, Options, Piece
from labhelpers.chat.budget import check_budget
from labhelpers.chat.record import Entry, Record
from labhelpers.harmony import (
    Conversation,
    Message,
    SystemContent,
    ToolDescription,
    render_for_completion,
)
from labhelpers.harmony.chat import function_from_tool
from labhelpers.harmony.messages import BUILTIN_TOOLS


class Chat:
    """A conversation with a backend. Not for two threads at once (but `stop` may come from any).

    instructions: the developer's ("Answer in capitals."). tools: ToolDescription, OpenAI-style
    dicts, or the built-in "python" and "browser". effort: "low", "medium" or "high", may be
    changed between turns. reasoning_budget: analysis tokens a turn before the answer is opened.
    system: further fields of SystemContent (model_identity, conversation_start_date ...).
    Raises ValueError for settings that the backend or the format does not know.
    """

    def __init__(
        self,
        backend: Backend,
        instructions: str | None = None,
        tools: Iterable[ToolDescription | dict[str, Any] | str] = (),
        effort: str = "medium",
        reasoning_budget: int | None = None,
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        system: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int):
            raise ValueError(f"max_new_tokens is a whole number, got {max_new_tokens!r}")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        if check_budget(reasoning_budget) is not None and backend.tokenizer is None:
            raise ValueError(
                f"a reasoning budget forces tokens, and {backend.name} sits behind a server that "
                'takes only text: use effort="low" instead'
            )
        tools = list(tools)
        builtin = tuple(tool for tool in tools if isinstance(tool, str))
        if builtin and backend.tokenizer is None:
            raise ValueError("a server has its own built-in tools: give it functions only")
        self.backend, self.instructions = backend, instructions
        self.functions = tuple(_function(tool) for tool in tools if not isinstance(tool, str))
        self.system = {"tools": builtin, **(system or {})}
        self.effort = effort
        self.reasoning_budget, self.max_new_tokens = reasoning_budget, max_new_tokens
        self.temperature, self.top_p, self.top_k, self.seed = temperature, top_p, top_k, seed
        self.entries: list[Entry] = []  # all that was said, in order
        self.faults: list[Any] = []  # of the last turn, as harmony's parser names them
        self.ending: Ending | None = None  # of the last turn
        self.ids: list[int] = []  # tokens of the last reply
        self.prompt: list[int] = []  # and of the prompt before it
        self.note = ""  # what is to be said about the last turn
        self._stopped = threading.Event()
        self._running = False
        self._spent = 0  # reasoning tokens of this turn, over all its calls

    # -- settings -----------------------------------------------------------------------------

    @property
    def effort(self) -> str:
        """How hard the model is asked to think."""
        return self._effort

    @effort.setter
    def effort(self, effort: str) -> None:
        if effort not in ("low", "medium", "high"):
            raise ValueError(f'effort is "low", "medium" or "high", got {effort!r}')
        SystemContent(reasoning_effort=effort, **self.system)  # it checks the other fields
        self._effort = effort

    @property
    def conversation(self) -> Conversation:
        """What the model is given to read: the settings, then every message that is kept."""
        settings = [Message.system(reasoning_effort=self.effort, **self.system)]
        if self.instructions or self.functions:
            settings.append(Message.developer(self.instructions or None, self.functions))
        return Conversation((*settings, *(e.message for e in self.entries if e.kept)))

    @property
    def running(self) -> bool:
        """True while a reply is being written."""
        return self._running

    @property
    def pending(self) -> list[Message]:
        """Calls that wait for their result."""
        calls: list[Message] = []
        answered: list[str | None] = []
        for entry in reversed([e for e in self.entries if e.kept]):
            message = entry.message
            if message.role == "tool":
                answered.append(message.name)
            elif message.role == "assistant" and message.recipient:
                if message.recipient in answered:
                    answered.remove(message.recipient)
                else:
                    calls.insert(0, message)
            else:
                break
        return calls

    # -- talking ------------------------------------------------------------------------------

    def send(self, text: str) -> Generator[Piece, None, None]:
        """Say something; the reply streams while you iterate.

        The last piece may carry a `note`. Raises ValueError at once if there is nothing to say,
        if a reply is still being written, or if a call waits for its result.
        """
        if not isinstance(text, str) or not text.strip():
            raise ValueError("say something: text that is not empty")
        if self.pending:
            name = self.pending[0].recipient
            raise ValueError(
                f'the model waits for the result of {name}: chat.send_tool_result("{name}", text)'
            )
        self._check_free()
        return self._turn(Message.user(_whole_letters(text)), 0)

    def send_tool_result(self, name: str, text: str) -> Generator[Piece, None, None]:
        """Give the result of a call that waits, and go on. "functions." may be left out.

        With several calls the model goes on once all have their results. Raises ValueError if
        no such call waits.
        """
        wanted = (name, f"functions.{name}")
        call = next((c for c in self.pending if c.recipient in wanted), None)
        if call is None:
            waiting = ", ".join(str(c.recipient) for c in self.pending) or "none"
            raise ValueError(f"no call of {name!r} waits for a result; waiting: {waiting}")
        if not isinstance(text, str):
            raise ValueError(f"a result is text, got {type(text).__name__} (json.dumps makes some)")
        self._check_free()
        # In the channel of the call: a result belongs where the question was asked.
        channel = call.channel or "commentary"
        text = _whole_letters(text)
        result = Message("tool", text, channel, "assistant", None, call.recipient)
        if len(self.pending) > 1:
            self.entries.append(Entry(result))
            return _nothing()
        return self._turn(result, self._spent)

    def ask(self, text: str) -> str:
        """Say something, wait, and get the text of the final channel ("" if there is none)."""
        first = len(self.entries)
        for _ in self.send(text):
            pass
        finals = [e.message for e in self.entries[first:] if e.message.channel == "final"]
        return "\n".join(message.text for message in finals)

    def stop(self) -> None:
        """End the reply that is being written; what has come is kept."""
        self._stopped.set()
        self.backend.interrupt()

    def reset(self) -> None:
        """Forget what was said; the settings stay. Raises ValueError during a reply."""
        self._check_free()
        self.entries, self.faults, self.ids, self.prompt = [], [], [], []
        self.ending, self.note, self._spent = None, "", 0

    def _check_free(self) -> None:
        if self._running:
            raise ValueError("a reply is still being written: chat.stop() ends it")

    # -- one turn -----------------------------------------------------------------------------

    def _turn(self, message: Message, spent: int) -> Generator[Piece, None, None]:
        """Nothing happens before the first `next`. A failure that brought no text undoes itself."""
        self._check_free()
        self._running = True
        self._stopped.clear()
        self.entries.append(Entry(message))
        record = Record(self.entries, self.backend.tokenizer, spent)
        self.ids, self.faults, self.note, self.ending = record.ids, [], "", None
        ending, closing, failed = Ending("stopped"), "", False
        try:
            self.prompt = self._rendered()
            for item in self.backend.stream(self.conversation, self._options(spent)):
                if isinstance(item, Ending):
                    ending = item
                else:
                    record.take(item)
                    yield item
        except Exception:
            ending, failed = Ending("lost"), True
            raise
        finally:  # also if the reader of the stream went away, or pressed Ctrl-C
            closing = record.close(ending, self.max_new_tokens)
            if failed and len(self.entries) == record.first:
                self.entries.pop()  # nothing came: so that it can be said again
            self.ending, self.faults, self.note = ending, list(ending.faults), record.note
            self._spent, self._running = record.spent, False
        if closing:
            yield Piece(None, None, "", note=closing)

    def _rendered(self) -> list[int]:
        tokenizer = self.backend.tokenizer
        return render_for_completion(self.conversation, tokenizer) if tokenizer else []

    def _options(self, spent: int) -> Options:
        budget = self.reasoning_budget
        return Options(
            self.max_new_tokens, self.temperature, self.top_p, self.top_k, self.seed,
            None if budget is None else max(0, budget - spent), self.effort, self._stopped,
        )  # fmt: skip

    # -- keeping and showing ------------------------------------------------------------------

    def to_json(self) -> str:
        """Settings and messages as JSON (`labhelpers.chat.export`)."""
        from labhelpers.chat.export import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str, backend: Backend) -> Chat:
        """A chat from `to_json`'s text, to go on with any backend. Raises ValueError."""
        from labhelpers.chat.export import from_json

        return from_json(text, backend)

    def _repr_html_(self) -> str:
        from labhelpers.chat.transcript import transcript

        return transcript(self).html()

    def __repr__(self) -> str:
        from labhelpers.chat.transcript import transcript

        return transcript(self).plain() or f"an empty chat with {self.backend.name}"


def _whole_letters(text: str) -> str:
    """Lone halves of a letter (surrogates, from a bad paste), which UTF-8 lacks, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _nothing() -> Generator[Piece, None, None]:
    yield from ()


def _function(tool: ToolDescription | dict[str, Any]) -> ToolDescription:
    if isinstance(tool, ToolDescription):
        return tool
    if isinstance(tool, dict):
        return function_from_tool(tool)
    known = ", ".join(BUILTIN_TOOLS)
    raise ValueError(f"a tool is a ToolDescription, a dict, or one of {known}; got {tool!r}")
