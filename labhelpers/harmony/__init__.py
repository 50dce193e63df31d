"""Harmony, the format in which gpt-oss reads and writes conversations.

`messages` says what a conversation is, `render` turns it into tokens, `parse` reads tokens back;
`system_text` and `typescript` write the two settings messages, `chat` reads OpenAI-style dicts.
Needs neither torch nor a model.
"""

from .faults import KINDS, Fault
from .header import Delta
from .lenient import LenientParser
from .messages import (
    CHANNELS,
    ROLES,
    Conversation,
    DeveloperContent,
    HarmonyError,
    Message,
    SystemContent,
    ToolDescription,
    ToolNamespace,
)
from .parse import Parsed, parse, parse_lenient
from .render import (
    Segment,
    assemble,
    render,
    render_for_completion,
    render_segments,
    render_with_mask,
)
from .renderable import renderable
from .safe_template import render_chat
from .stream import StreamParser

# What ends the model's turn. <|end|> is not among them: the model writes its next message.
STOP_TOKENS = ("<|return|>", "<|call|>")

__all__ = [
    "CHANNELS",
    "ROLES",
    "STOP_TOKENS",
    "Conversation",
    "Delta",
    "DeveloperContent",
    "Fault",
    "HarmonyError",
    "LenientParser",
    "KINDS",
    "Message",
    "Parsed",
    "Segment",
    "StreamParser",
    "SystemContent",
    "ToolDescription",
    "ToolNamespace",
    "assemble",
    "parse",
    "parse_lenient",
    "render",
    "render_chat",
    "render_for_completion",
    "render_segments",
    "render_with_mask",
    "renderable",
]
