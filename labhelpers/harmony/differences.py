"""Where OpenAI's library, OpenAI's chat template and this course write different prompts.

`rows()` gives one row for each case: what the library (openai-harmony 0.0.8) renders, what the
official chat template does, what ours renders and why. The library's column and ours are computed;
without the library its column is what a test has checked. The template's is a record.

gpt-oss's choice: the library is the reference; a prompt that differs raises no error, it only
drifts from what the model knows. Source: openai/harmony 0.0.8, and the published text of
openai/gpt-oss-20b's `chat_template.jinja`. Limits: that template may be mended at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .chat import conversation_from_chat
from .messages import HarmonyError, Message, ToolDescription
from .render import render_segments

USER: dict[str, Any] = {"role": "user", "content": "q"}
CALL: dict[str, Any] = {"id": "1", "function": {"name": "f", "arguments": {"t": 20}}}


class Row(NamedTuple):
    """One line of the table; a text is the part of the prompt that matters."""

    case: str
    library: str
    template: str
    ours: str
    why: str


@dataclass(frozen=True)
class Difference:
    """One case. `build` makes the messages, `begin` and `end` frame what is worth showing.

    `library` is None where the library renders what we render.
    """

    case: str
    build: Callable[[], Sequence[Message]]
    begin: str
    end: str
    template: str
    why: str
    library: str | None = None
    for_training: bool = False

    def ours(self) -> str:
        """What ours renders, or the error's words."""
        try:
            segments = render_segments(self.build(), self.for_training)
        except HarmonyError as error:
            return f"refused: {error}"
        return self.excerpt("".join(segment.text for segment in segments))

    def library_now(self) -> str:
        """What the installed library renders. Raises ImportError without it."""
        from labhelpers.tokenizer import o200k_harmony

        from .oracle import load_oracle, to_library

        encoding = load_oracle()
        try:
            conversation = to_library(self.build())
        except HarmonyError as error:  # our messages refuse it before any rendering
            return f"refused: {error}"
        render = encoding.render_conversation
        if self.for_training:
            render = encoding.render_conversation_for_training
        return self.excerpt(o200k_harmony().decode(render(conversation)))

    def excerpt(self, text: str) -> str:
        """What stands between `begin` and `end`."""
        return text.split(self.begin, 1)[-1].split(self.end, 1)[0].strip("\n")


def rows() -> list[Row]:
    """The table, computed."""
    out = []
    for case in DIFFERENCES:
        ours = case.ours()
        try:
            library = case.library_now()
        except ImportError:
            library = ours if case.library is None else case.library
        out.append(Row(case.case, library, case.template, ours, case.why))
    return out


def _property(case: str, schema: Any, template: str, why: str) -> Difference:
    """A case about one optional property `x` of a function."""
    parameters = {"type": "object", "properties": {"x": schema}}
    return _function(case, ToolDescription("f", "", parameters), template, why, "(_: {", "}) =>")


def _function(
    case: str, function: ToolDescription, template: str, why: str, begin: str, end: str
) -> Difference:
    return Difference(
        case, lambda: [Message.developer(None, [function])], begin, end, template, why
    )


def _chat(
    case: str,
    messages: Sequence[dict[str, Any]],
    begin: str,
    template: str,
    why: str,
    end: str = "\0",
) -> Difference:
    """A case about chat messages, as a server gets them."""
    return Difference(
        case, lambda: conversation_from_chat(messages).messages, begin, end, template, why
    )


SEEN = "the library is OpenAI's reference for what the model was trained on"
POINT = {"type": "object", "properties": {"y": {"type": "number", "description": "Up"}}}
LONG = {"type": "object", "properties": {f"coordinate_{c}": {"type": "number"} for c in "xyz"}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
OLD = [Message.user("q"), Message.analysis("OLD"), Message.final("a")]
NEW = [Message.user("q"), Message.analysis("NEW"), Message.final("b")]
CALLING = [Message.user("q"), Message.analysis("NEW"), Message.call("functions.f", "{}")]

DIFFERENCES: tuple[Difference, ...] = (
    # -- functions as TypeScript ----------------------------------------------------------
    _property("default", {"type": "string", "default": "a"}, 'x?: string, // default: "a",', SEEN),
    _property(
        "default of an integer enum",
        {"type": "integer", "enum": [1, 2], "default": 1},
        "TypeError: the prompt is never made",
        SEEN,
    ),
    _property("nullable number", {"type": "number", "nullable": True}, "x?: number,", SEEN),
    _property("list of types", {"type": ["integer", "null"]}, "x?: integer | null,", SEEN),
    _property(
        "oneOf",
        {"oneOf": [{"type": "string", "description": "a name"}, {"type": "number"}]},
        "all on one line, with odd spaces; variants that are objects become any",
        SEEN,
    ),
    _property("object in an object", POINT, "one line, no descriptions, stray spaces", SEEN),
    _property("array of objects", {"type": "array", "items": LONG}, "x?: any[],", SEEN),
    _property("array of anything", {"type": "array"}, "x?: any[],", SEEN),
    _property(
        "array of an enum",
        {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "x?: string[],",
        "as the library, which leaves out the brackets that TypeScript wants",
    ),
    _property(
        "title and examples",
        {"type": "string", "title": "City", "examples": ["Lyon"]},
        "x?: string,",
        SEEN,
    ),
    _function(
        "function without parameters",
        ToolDescription("f", "", {"type": "object"}),
        "type f = () => any;",
        SEEN,
        "{\n\n",
        "\n\n} //",
    ),
    _function(
        "description of two lines",
        ToolDescription("f", "One.\nTwo."),
        "// One.\nTwo.\ntype f = () => any;",
        SEEN,
        "{\n\n",
        "\n\n} //",
    ),
    # -- chat messages ----------------------------------------------------------------------
    _chat(
        "instructions without tools",
        [{"role": "system", "content": "Be brief."}],
        "<|start|>developer",
        "<|message|># Instructions\n\nBe brief.\n\n<|end|>",
        "nothing is added to what the developer wrote",
    ),
    _chat(
        "result of a tool",
        [USER, CALLED, {"role": "tool", "content": '{"t":20}'}],
        "<|start|>functions.f",
        ' to=assistant<|channel|>commentary<|message|>"{\\"t\\":20}"<|end|>',
        "a text is a text: quoting it again shows the model marks that the tool never wrote",
    ),
    _chat(
        "arguments as a JSON text",
        [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"t":20}'}]}],
        "<|start|>assistant",
        ' to=functions.f<|channel|>commentary json<|message|>"{\\"t\\":20}"<|call|>',
        "the model's own words come back as it wrote them",
    ),
    _chat(
        "content type of a call",
        [USER, CALLED],
        "<|start|>assistant",
        ' to=functions.f<|channel|>commentary json<|message|>{"t": 20}<|call|>',
        "<|constrain|> is a token, and the model writes it itself",
    ),
    _chat(
        "words beside a call",
        [USER, CALLED | {"content": "Let me look."}],
        "<|start|>assistant",
        "<|channel|>analysis<|message|>Let me look.<|end|>, and later dropped",
        "a preamble was said to the user, so it belongs in commentary and stays",
        "<|start|>",
    ),
    _chat(
        "second call in one message",
        [USER, CALLED | {"tool_calls": [CALL, {"function": {"name": "g"}}]}],
        "<|call|><|start|>",
        "dropped in silence, and both results get the first one's name",
        "harmony has one call a message: two calls are two messages",
    ),
    _chat(
        "later system message",
        [USER, {"role": "system", "content": "In French."}],
        "q<|end|>",
        "dropped in silence",
        "instructions that vanish are worse than an error",
    ),
    _chat(
        "content in parts",
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            }
        ],
        "<|start|>user",
        "TypeError: the prompt is never made",
        "the parts are joined, as in OpenAI's API",
    ),
    _chat(
        "date",
        [USER],
        "OpenAI.\n",
        "Knowledge cutoff: 2024-06\nCurrent date: (today)",
        "a prompt that changes at midnight cannot be tested or cached",
        "\n\n",
    ),
    # -- reasoning that is over ---------------------------------------------------------------
    Difference(
        "reasoning at the third question",
        lambda: [*OLD, *NEW, Message.user("q")],
        "<|start|>user<|message|>q<|end|>",
        "\0",
        "no reasoning of past turns",
        "the written rule: it goes up to the last final; the library stops at the first",
        "<|start|>assistant<|channel|>final<|message|>a<|end|><|start|>user<|message|>q<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>NEW<|end|>"
        "<|start|>assistant<|channel|>final<|message|>b<|end|><|start|>user<|message|>q<|end|>",
    ),
    Difference(
        "reasoning of turn 1 while turn 2 calls",
        lambda: [*OLD, *CALLING],
        "<|start|>user<|message|>q<|end|>",
        "<|start|>user",
        "no reasoning of past turns",
        "the written rule; the library drops nothing unless the last assistant message is a final",
        "<|start|>assistant<|channel|>analysis<|message|>OLD<|end|>"
        "<|start|>assistant<|channel|>final<|message|>a<|end|>",
    ),
    Difference(
        "reasoning of the answer being trained",
        lambda: OLD,
        "<|start|>user<|message|>q<|end|>",
        "\0",
        "the last message's thinking is kept",
        "training has to show the reasoning that leads to the answer",
        "<|start|>assistant<|channel|>final<|message|>a<|return|>",
        for_training=True,
    ),
    # -- what cannot be read back ------------------------------------------------------------
    Difference(
        "space in a recipient",
        lambda: [Message("assistant", "{}", "commentary", "functions.f json")],
        "<|start|>assistant",
        "\0",
        "written as it is",
        "the word behind the space would be read as the next field",
        " to=functions.f json<|channel|>commentary<|message|>{}<|call|>",
    ),
    Difference(
        "result without to=assistant",
        lambda: [Message("tool", "1", "commentary", None, None, "functions.f")],
        "<|start|>",
        "\0",
        "always written with to=assistant",
        "its own parser answers: unknown role functions.f",
        "functions.f<|channel|>commentary<|message|>1<|end|>",
    ),
)
