"""placeholder: the lean decode path for one sequence on the CPU (being written)."""
from labhelpers.model.cache import KVCache
from labhelpers.model.transformer import GptOss

def suits(model: GptOss) -> bool:
    return False

def unsuited(model: GptOss) -> str:
    return "not built yet"

def start(model: GptOss, cache: KVCache, max_new_tokens: int):  # type: ignore[no-untyped-def]
    raise NotImplementedError
