"""The chat in a terminal: `python -m labhelpers.chat`.

The idea   one line in, the reply as it comes. Each message begins with its name (analysis,
           final, a call and to whom), so that reasoning is never taken for the answer.
gpt-oss    if the model calls a function, the next line typed is the function's result.
Limits     one line at a time; colours only on a terminal and without NO_COLOR, and they carry
           nothing that the words do not say. Ctrl-C ends the answer, Ctrl-D the chat.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import TextIO

from labhelpers.chat.backend import BackendError, Piece
from labhelpers.chat.session import Chat
from labhelpers.chat.token_view import show_tokens

HELP = """/effort low|medium|high   how hard to think
/tokens                   show or hide the tokens of each reply
/reset                    forget the conversation
/save FILE                keep it as JSON
/quit                     leave (or Ctrl-D); Ctrl-C ends an answer"""

# The terminal's own colours, so that any theme stays readable.
_SGR = {"user": "34;1", "analysis": "35", "commentary": "33", "final": "36;1", "note": "3"}


class Terminal:
    """A chat with lines from `source` and everything else to `out`."""

    def __init__(self, chat: Chat, source: TextIO, out: TextIO, show_tokens: bool = False) -> None:
        self.chat, self.source, self.out, self.show_tokens = chat, source, out, show_tokens
        self.coloured = out.isatty() and "NO_COLOR" not in os.environ

    def run(self) -> int:
        """Until /quit or the end of the input; the exit code."""
        self.say(f"{self.chat.backend.name}, effort {self.chat.effort}. /help lists the commands.")
        while True:
            pending = self.chat.pending
            prompt = f"result of {pending[0].recipient}> " if pending else "you> "
            try:
                line = self._line(self.paint(prompt, "user"))
            except KeyboardInterrupt:  # nothing is being written: a second thought
                self.say("\n(/quit leaves)")
                continue
            if line is None or line.strip() == "/quit":
                return 0
            if line.startswith("/") and not pending:
                self.command(line.strip())
            elif line.strip():
                self.answer(line)

    def _line(self, prompt: str) -> str | None:
        if self.source is sys.stdin and self.source.isatty():
            try:
                return input(prompt)  # with the terminal's editing keys
            except EOFError:
                self.say("")
                return None
        self.out.write(prompt)
        self.out.flush()
        line = self.source.readline()
        if not self.source.isatty():
            self.say(line.rstrip("\n"))  # a log of piped input reads like a conversation
        return line.rstrip("\n") if line else None

    def answer(self, line: str) -> bool:
        """Send a line, or give it as a call's result. False if that failed."""
        try:
            with closing(self._send(line)) as pieces:  # so that Ctrl-C ends the reply at once
                self._print(pieces)
        except KeyboardInterrupt:
            self.say("\n" + self.paint("(Stopped.)", "note"))
        except (BackendError, ValueError) as error:
            self.say(self.paint(f"({error})", "note"))
            return False
        if self.show_tokens:
            self.say(show_tokens(self.chat, prompt=False).plain())
        return True

    def _send(self, line: str) -> Generator[Piece, None, None]:
        pending = self.chat.pending
        if pending:
            return self.chat.send_tool_result(str(pending[0].recipient), line)
        return self.chat.send(line)

    def _print(self, pieces: Iterable[Piece]) -> None:
        where: tuple[str | None, str | None] | None = None
        for piece in pieces:
            if piece.note:
                self.say(("\n" if where else "") + self.paint(f"({piece.note})", "note"))
                where = None
            if piece.channel is not None and piece.text:
                if where != (piece.channel, piece.recipient):
                    to = f" to {piece.recipient}" if piece.recipient else ""
                    title = self.paint(f"{piece.channel}{to}> ", piece.channel)
                    self.out.write(("\n" if where else "") + title)
                    where = (piece.channel, piece.recipient)
                self.out.write(printable(piece.text))
                self.out.flush()
            if piece.finished is not None and where:
                self.say("")
                where = None
        if where:
            self.say("")

    def command(self, line: str) -> None:
        """One line that begins with a slash."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        try:
            if name == "/effort":
                if rest:
                    self.chat.effort = rest
                self.say(f"effort {self.chat.effort}")
            elif name == "/tokens":
                self.show_tokens = not self.show_tokens
                self.say(f"tokens {'shown' if self.show_tokens else 'hidden'}")
            elif name == "/reset":
                self.chat.reset()
                self.say("forgotten")
            elif name == "/save":
                path = Path(rest or "chat.json").expanduser()
                path.write_text(self.chat.to_json(), encoding="utf-8")
                self.say(f"saved as {path}")
            else:
                self.say(HELP)
        except (ValueError, OSError) as error:
            self.say(f"({error})")

    def paint(self, text: str, kind: str) -> str:
        """Text in the terminal's colour of a kind, where there are colours."""
        return f"\x1b[{_SGR.get(kind, '0')}m{text}\x1b[0m" if self.coloured else text

    def say(self, text: str) -> None:
        """A line."""
        self.out.write(text + "\n")
        self.out.flush()


def printable(text: str) -> str:
    """Text without the control characters by which a model could steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
