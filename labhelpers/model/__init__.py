"""The gpt-oss architecture in plain PyTorch, one idea a module."""

from labhelpers.model.attention import Attention
from labhelpers.model.cache import KVCache
from labhelpers.model.moe import MLP, Experts, Router
from labhelpers.model.norm import RMSNorm
from labhelpers.model.rope import RotaryEmbedding
from labhelpers.model.transformer import DecoderLayer, GptOss, GptOssModel, check_dtype

__all__ = [
    "MLP",
    "Attention",
    "DecoderLayer",
    "Experts",
    "GptOss",
    "GptOssModel",
    "KVCache",
    "RMSNorm",
    "RotaryEmbedding",
    "Router",
    "check_dtype",
]
