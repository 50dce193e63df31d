"""Talk with gpt-oss: one chat for every backend of the course.

    from labhelpers.chat import Chat, connect
    chat = Chat(connect("nano"), effort="low")
    chat.ask("Hello!")

In a notebook `chat_widget(chat)`; in a terminal `python -m labhelpers.chat`. `import
labhelpers.chat` loads neither torch nor ipywidgets; the backends and the widget do when used.
"""

from importlib import import_module
from typing import Any

from labhelpers.chat.backend import Backend, BackendError, Ending, Options, Piece
from labhelpers.chat.connect import connect
from labhelpers.chat.record import Entry
from labhelpers.chat.session import Chat
from labhelpers.chat.transcript import transcript

_LAZY = {
    "LocalBackend": "labhelpers.chat.local",
    "ServerBackend": "labhelpers.chat.server",
    "TransformersBackend": "labhelpers.chat.transformers_backend",
    "chat_widget": "labhelpers.chat.widget",
    "show_tokens": "labhelpers.chat.token_view",
}

__all__ = [
    "Backend",
    "BackendError",
    "Chat",
    "Ending",
    "Entry",
    "LocalBackend",
    "Options",
    "Piece",
    "ServerBackend",
    "TransformersBackend",
    "chat_widget",
    "connect",
    "show_tokens",
    "transcript",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch or ipywidgets when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'labhelpers.chat' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
