"""`python -m labhelpers.chat`: talk with nano, a model folder, a Hub id or a server.

    python -m labhelpers.chat --effort low --once "How many rs are in the word 'strawberry'?"
    python -m labhelpers.chat --model http://localhost:8000/v1 --name openai/gpt-oss-20b

Exit code 0 if it went well, 1 if the model could not be asked or gave no answer (--once).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from labhelpers.chat.backend import BackendError
from labhelpers.chat.connect import connect
from labhelpers.chat.session import Chat
from labhelpers.chat.terminal import Terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, connect, talk. Returns the exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    try:
        key = os.environ.get("OPENAI_API_KEY")
        is_server = options.model.startswith(("http://", "https://"))
        backend = connect(options.model, options.name, key if is_server else None, options.via)
        chat = Chat(
            backend,
            instructions=options.instructions,
            effort=options.effort,
            reasoning_budget=options.budget,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed,
        )
    except (BackendError, ValueError, OSError, ImportError) as error:
        print(f"python -m labhelpers.chat: {error}", file=sys.stderr)
        return 1
    terminal = Terminal(chat, sys.stdin, sys.stdout, options.show_tokens)
    if options.once is None:
        return terminal.run()
    done = terminal.answer(options.once)
    last = chat.entries[-1].message if chat.entries else None
    answered = last is not None and (last.channel == "final" or last.recipient)
    return 0 if done and answered else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m labhelpers.chat",
        description="Talk with gpt-oss-nano, a model folder, a Hub id or a server.",
        epilog="A server's key is read from OPENAI_API_KEY.",
    )
    add = parser.add_argument
    add("--model", default="nano", help='"nano", a folder, a Hub id, or http://host:port/v1')
    add("--name", help="the model's name on the server")
    add("--via", choices=("local", "transformers"), help="who computes, if not a server")
    add("--effort", default="medium", choices=("low", "medium", "high"))
    add("--budget", type=int, metavar="N", help="reasoning tokens before the answer is opened")
    add("--instructions", help="the developer's instructions")
    add("--max-new-tokens", type=int, default=1024, metavar="N")
    add("--temperature", type=float, default=0.0, help="0 (the default) always gives the same")
    add("--seed", type=int)
    add("--show-tokens", action="store_true", help="the tokens of each reply, with their kinds")
    add("--once", metavar="TEXT", help="ask this, print the reply, leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
