"""labhelpers: gpt-oss from the inside, in modules small enough to read.

`import labhelpers` costs milliseconds: it loads neither torch nor transformers. The names
below load their module at first use, so `labhelpers.load` and `labhelpers.GptOss` work
without another import.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that holds it. Nothing here may be imported at the top.
_LAZY = {
    "load": "labhelpers.loading",
    "setup": "labhelpers.doctor",
    "ConfigError": "labhelpers.config",
    "GptOssConfig": "labhelpers.config",
    "YarnConfig": "labhelpers.config",
    "preset": "labhelpers.config",
    "GptOss": "labhelpers.model",
    "Tokenizer": "labhelpers.tokenizer",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    """Import the module behind a public name when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'labhelpers' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value  # the next access skips this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
