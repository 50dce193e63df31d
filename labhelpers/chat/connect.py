"""One word to a backend: "nano", a folder, a Hub id, or the address of a server.

The idea   whoever only wants to talk should not choose classes. nano and folders go to this
           package's own model, which is what the chapters take apart. A Hub id goes to
           transformers, which keeps the experts packed in MXFP4 where the GPU can run them:
           13 GB for gpt-oss-20b, against 42 GB unpacked.
Limits     `via` overrides the choice; nothing is fetched before `labhelpers.load` has said what
           it needs (via="local"), and transformers shows its own progress.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labhelpers.chat.backend import Backend

SHORT_NAMES = {"gpt-oss-20b": "openai/gpt-oss-20b", "gpt-oss-120b": "openai/gpt-oss-120b"}


def connect(
    name: str = "nano",
    model: str | None = None,
    api_key: str | None = None,
    via: str | None = None,
) -> Backend:
    """The backend for "nano", a folder, a Hub id, or "http://..." with the model's name there.

    via: "local" or "transformers" to choose who computes. Raises ValueError for a name that is
    nothing of the kind, and what `labhelpers.load` or transformers raise.
    """
    if via not in (None, "local", "transformers"):
        raise ValueError(f'via is "local" or "transformers", got {via!r}')
    if name.startswith(("http://", "https://")):
        from labhelpers.chat.server import ServerBackend

        if not model:
            raise ValueError(
                'which model of the server? Give its name: connect("http://...", model="name"), '
                "in a terminal --name NAME"
            )
        return ServerBackend(name, model, api_key)
    is_local = name == "nano" or Path(name).expanduser().exists()
    if via == "local" or (via is None and is_local):
        import labhelpers
        from labhelpers.chat.local import LocalBackend

        model_here, tokenizer = labhelpers.load(name)
        return LocalBackend(model_here, tokenizer, Path(name).name)
    return _transformers(name)


def _transformers(name: str) -> Backend:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import labhelpers
    from labhelpers.chat.transformers_backend import TransformersBackend

    if name == "nano":
        name = str(Path(labhelpers.__file__).parent / "nano")
    name = SHORT_NAMES.get(name, name)
    if "/" not in name and not Path(name).exists():
        raise ValueError(f'no model {name!r}: "nano", a folder, "owner/name", or "http://..."')
    model = AutoModelForCausalLM.from_pretrained(name, device_map="auto", dtype="auto").eval()
    return TransformersBackend(model, AutoTokenizer.from_pretrained(name), Path(name).name)
