"""What a conversation is before it becomes tokens: messages, tools and the two settings texts.

gpt-oss's choice: five roles (system above developer above user above assistant above tool), and
for the assistant three channels: analysis (reasoning), commentary (calls and what is said around
them) and final (the answer). A message with a recipient is a call; a tool's message names its
author and answers "to=assistant".

Source: OpenAI's harmony format guide and openai-harmony 0.0.8. Limits: text only, no images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "developer", "user", "assistant", "tool")
CHANNELS = ("analysis", "commentary", "final")
REASONING_EFFORTS = ("low", "medium", "high")
BUILTIN_TOOLS = ("browser", "python")

DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
DEFAULT_CUTOFF = "2024-06"


class HarmonyError(ValueError):
    """A conversation that harmony cannot express, or tokens that do not follow the format.

    `position` is the index of the token at fault in a stream, and None where there is no stream.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


def check_header_word(word: object, what: str) -> None:
    """Refuse a word that would break a header, or look there like something else.

    Headers are words between marks. A space in a recipient begins the next field, "<|" makes
    parsers that read the header as a string see a mark, and an invisible letter makes two names
    look alike. Raises HarmonyError; `what` names the word in it.
    """
    if not isinstance(word, str) or not word:
        raise HarmonyError(f"{what} must be a word, got {word!r}")
    if " " in word or not word.isprintable():
        raise HarmonyError(
            f"{what} is {word!r}: no spaces and no invisible characters, they break the header"
        )
    if "<|" in word or "|>" in word or word.startswith("to="):
        raise HarmonyError(f"{what} is {word!r}: '<|', '|>' and a leading 'to=' are header syntax")


def check_header(message: Message) -> None:
    """Refuse a message whose name, recipient or content type would break its header.

    Messages may hold such words (a parser reports what a model wrote), but are not rendered.
    Raises HarmonyError.
    """
    if message.recipient is not None:
        check_header_word(message.recipient, f"the recipient of the {message.role} message")
    if message.name is not None:
        check_header_word(message.name, f"the name in the {message.role} message")
        # A tool stands in the header by its name alone: "system" would be the system speaking.
        if message.role == "tool" and message.name.split(":")[0] in ROLES[:-1]:
            raise HarmonyError(f"a tool named {message.name!r} would speak as that role")
    if message.content_type is not None:
        check_header_word(
            message.content_type.removeprefix("<|constrain|>"),
            f"the content type of the {message.role} message",
        )


@dataclass(frozen=True)
class ToolDescription:
    """One function: name, what it does, and a JSON schema of its parameters (None: takes none)."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise HarmonyError(f"a function needs a name, got {self.name!r}")
        check_header_word(self.name, "the name of a function")  # a call's header holds it
        if not isinstance(self.description, str):
            raise HarmonyError(f"the description of {self.name} must be text (it may be empty)")


@dataclass(frozen=True)
class ToolNamespace:
    """A named group of functions, or a tool that takes plain text (python: no functions)."""

    name: str
    description: str | None = None
    functions: tuple[ToolDescription, ...] = ()

    def __post_init__(self) -> None:
        check_header_word(self.name, "the name of a tool namespace")
        object.__setattr__(self, "functions", _descriptions(self.functions))


@dataclass(frozen=True)
class SystemContent:
    """The system message: who the model is, today's date, how hard to think, built-in tools.

    `conversation_start_date` is left out unless given: a date of today would make every rendered
    conversation change at midnight. `tools` holds "browser", "python" or a ToolNamespace.
    """

    model_identity: str | None = DEFAULT_IDENTITY
    knowledge_cutoff: str | None = DEFAULT_CUTOFF
    conversation_start_date: str | None = None
    reasoning_effort: str | None = "medium"
    valid_channels: tuple[str, ...] = CHANNELS
    channel_required: bool = True
    tools: tuple[ToolNamespace | str, ...] = ()

    def __post_init__(self) -> None:
        if self.reasoning_effort not in (None, *REASONING_EFFORTS):
            raise HarmonyError(
                f"reasoning_effort is {self.reasoning_effort!r}; use low, medium or high"
            )
        for tool in self.tools:
            if isinstance(tool, str) and tool not in BUILTIN_TOOLS:
                raise HarmonyError(f"no built-in tool {tool!r}; there are {BUILTIN_TOOLS}")
        names = [tool if isinstance(tool, str) else tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise HarmonyError(f"a tool is listed twice: {', '.join(names)}")


@dataclass(frozen=True)
class DeveloperContent:
    """The developer message: instructions (what others call a system prompt) and functions."""

    instructions: str | None = None
    functions: tuple[ToolDescription, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "functions", _descriptions(self.functions))


def _descriptions(functions: Iterable[ToolDescription]) -> tuple[ToolDescription, ...]:
    functions = tuple(functions)
    for function in functions:
        if not isinstance(function, ToolDescription):
            raise HarmonyError(
                f"functions are ToolDescription objects, got a {type(function).__name__}; "
                "labhelpers.harmony.chat.function_from_tool reads OpenAI-style dicts"
            )
    return functions


Content = str | SystemContent | DeveloperContent


@dataclass(frozen=True)
class Message:
    """One message. `content` is a text, one of the settings contents, or several parts of them.

    `name` is a tool's name ("functions.get_weather", "python"), and optional for others.
    `recipient` makes an assistant message a call. `content_type` stands at the end of the header:
    "<|constrain|>json" for function calls, "code" for python.
    Raises HarmonyError for an unknown role or channel, or content that is None.
    """

    role: str
    content: Content | tuple[Content, ...]
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise HarmonyError(f"unknown role {self.role!r}; harmony has {', '.join(ROLES)}")
        if self.channel is not None and self.channel not in CHANNELS:
            raise HarmonyError(
                f"unknown channel {self.channel!r}; harmony has {', '.join(CHANNELS)}"
            )
        if isinstance(self.content, list):
            object.__setattr__(self, "content", tuple(self.content))
        for part in self.parts:
            if isinstance(part, str):
                continue
            wanted = {SystemContent: "system", DeveloperContent: "developer"}.get(type(part))
            if wanted is None:
                hint = " (use '' for an empty message)" if part is None else ""
                raise HarmonyError(
                    f"the content of a {self.role} message is {type(part).__name__}, not text{hint}"
                )
            if wanted != self.role:
                raise HarmonyError(
                    f"{type(part).__name__} belongs in a {wanted} message, not in a "
                    f"{self.role} message"
                )
        if self.role == "tool" and not self.name:
            raise HarmonyError(
                "a tool message needs a name: it is the author that the model reads, such as "
                "'functions.get_weather'"
            )

    @property
    def parts(self) -> tuple[Content, ...]:
        """The content as a tuple of parts; each part is tokenised by itself."""
        return self.content if isinstance(self.content, tuple) else (self.content,)

    @property
    def text(self) -> str:
        """The parts that are text, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))

    # Short ways to write the messages of an ordinary conversation.

    @classmethod
    def system(cls, **settings: Any) -> Message:
        """System message; the settings are SystemContent's fields."""
        return cls("system", SystemContent(**settings))

    @classmethod
    def developer(
        cls, instructions: str | None = None, functions: Iterable[ToolDescription] = ()
    ) -> Message:
        """Developer message from instructions and functions."""
        return cls("developer", DeveloperContent(instructions, tuple(functions)))

    @classmethod
    def user(cls, text: str) -> Message:
        """What the user says."""
        return cls("user", text)

    @classmethod
    def analysis(cls, text: str) -> Message:
        """The assistant's reasoning."""
        return cls("assistant", text, "analysis")

    @classmethod
    def preamble(cls, text: str) -> Message:
        """What the assistant tells the user before or between calls (commentary)."""
        return cls("assistant", text, "commentary")

    @classmethod
    def final(cls, text: str) -> Message:
        """The assistant's answer."""
        return cls("assistant", text, "final")

    @classmethod
    def call(cls, recipient: str, arguments: str) -> Message:
        """A call. `arguments` goes out as it is: a JSON text stays the text that was given.

        Functions are called in commentary; python (code) and browser (JSON) in analysis, so
        that their calls and results leave the history together with the reasoning.
        """
        if recipient.startswith("functions."):
            return cls("assistant", arguments, "commentary", recipient, "<|constrain|>json")
        return cls("assistant", arguments, "analysis", recipient, "code")

    @classmethod
    def tool(cls, name: str, text: str) -> Message:
        """A tool's result for the assistant, in the channel in which such a tool is called."""
        channel = "commentary" if name.startswith("functions.") else "analysis"
        return cls("tool", text, channel, "assistant", None, name)


@dataclass(frozen=True)
class Conversation:
    """Messages in order. Iterates over them; `with_messages` gives a longer copy."""

    messages: tuple[Message, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(self.messages))
        for message in self.messages:
            if not isinstance(message, Message):
                raise HarmonyError(f"a Conversation holds Message objects, got {message!r}")

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)

    def with_messages(self, *messages: Message) -> Conversation:
        """A copy with more messages at its end."""
        return Conversation(self.messages + messages)
