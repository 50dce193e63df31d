"""From a name to a folder: the Hugging Face Hub, with its refusals put into plain words.

The idea   fetch config.json first (some kilobytes), so that memory can be judged before gigabytes
           are fetched; then the safetensors and JSON files of one layout.
gpt-oss    openai/gpt-oss-20b keeps Hugging Face's layout at the top and the original one in
           `original/` (and Metal's in `metal/`), the same weights three times: take one.
Source     huggingface_hub's `hf_hub_download`, `snapshot_download` and its errors.
Limits     only *.safetensors and *.json: no pickles, no code. What is cached is not fetched again.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from labhelpers.checkpoint.errors import CheckpointError

SHORT_NAMES = {"gpt-oss-20b": "openai/gpt-oss-20b", "gpt-oss-120b": "openai/gpt-oss-120b"}
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class HubName(NamedTuple):
    """A repository and the subfolder of the layout that is wanted ("" or "original")."""

    repo: str
    subfolder: str = ""


def hub_name(name: str) -> HubName | None:
    """Understand "gpt-oss-20b", "owner/name" or "owner/name/original"; None for anything else."""
    name = SHORT_NAMES.get(name, name)
    match = re.fullmatch(rf"({_PART}/{_PART})(/original)?", name)
    return HubName(match[1], (match[2] or "").removeprefix("/")) if match else None


def fetch_config(name: HubName) -> Path:
    """The folder (in the cache) with config.json alone. Raises CheckpointError."""
    import huggingface_hub

    file = f"{name.subfolder}/config.json".removeprefix("/")
    return Path(_ask(name, lambda: huggingface_hub.hf_hub_download(name.repo, file))).parent


def fetch_all(name: HubName) -> Path:
    """The folder (in the cache) with the whole checkpoint. Raises CheckpointError."""
    import huggingface_hub

    prefix = f"{name.subfolder}/" if name.subfolder else ""
    root = _ask(
        name,
        lambda: huggingface_hub.snapshot_download(
            name.repo,
            allow_patterns=[f"{prefix}*.safetensors", f"{prefix}*.json"],
            # Their * matches a slash too.
            ignore_patterns=None if prefix else ["*/*"],
        ),
    )
    return Path(root) / name.subfolder


def _ask(name: HubName, request: Callable[[], str]) -> str:
    """Do the request; raise CheckpointError saying why not and what to do."""
    from huggingface_hub import errors

    repo = name.repo
    try:
        return request()
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repo} is gated: accept its conditions on its page, then run `hf auth login` (or set "
            "HF_TOKEN)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the Hub shows no {repo}: check the spelling; if it is private, run `hf auth login` "
            "(or set HF_TOKEN) with a token that may read it"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{repo} is not in the local cache and the Hub cannot be reached (no network, or "
            "HF_HUB_OFFLINE is set): go online once, or give a folder that holds the checkpoint"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(
            f"{'/'.join(name).rstrip('/')} has no config.json: is it a transformers model?"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "an error")
        cure = "try later"
        if status in (401, 403):
            cure = "run `hf auth login` (or set HF_TOKEN) with a token that may read it"
        raise CheckpointError(f"the Hub answered {status} for {repo}: {cure}") from error
    except (OSError, errors.HFValidationError) as error:
        raise CheckpointError(f"cannot fetch {repo}: {error}") from error
