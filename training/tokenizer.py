"""Choose nano's vocabulary: a few thousand of o200k's pieces, closed under its merges.

A small model cannot afford 201,088 embeddings, but text should split as it does in gpt-oss. So
the real merges are run over the training text and every piece that appears on the way is
counted, the intermediate ones too. Whoever keeps a piece keeps the pieces that it is merged
from, hence any text whose o200k pieces are all kept splits exactly as in o200k; other words fall
back to smaller pieces, at worst to bytes. Kept pieces are numbered anew in the order of their
ranks (a lower rank still merges first); the ten named special tokens come last.

Limits: written for o200k's cutting pattern; the counted text should look like what nano will
read. `python -m training.tokenizer --out FOLDER TEXT_FILE ...` builds a folder by hand.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import regex

from labhelpers.harmony import Message, render_segments
from labhelpers.tokenizer import (
    HARMONY_SPECIALS,
    O200K_PATTERN,
    Tokenizer,
    byte_characters,
    from_folder,
    o200k_ranks,
)

DEFAULT_SIZE = 6144
_PIECES = regex.compile(O200K_PATTERN)
_ranks = lru_cache(maxsize=1)(o200k_ranks)


def merge_steps(piece: bytes, ranks: dict[bytes, int]) -> tuple[list[bytes], list[bytes]]:
    """Byte-pair encoding of one pre-token: (its final pieces, every piece merged on the way)."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    made: list[bytes] = []
    while len(parts) > 1:
        candidates = [ranks.get(a + b) for a, b in zip(parts, parts[1:], strict=False)]
        best = min((rank for rank in candidates if rank is not None), default=None)
        if best is None:
            break
        at = candidates.index(best)  # the leftmost of equals, as tiktoken does
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        made.append(parts[at])
    return parts, made


@lru_cache(maxsize=500_000)
def pieces_of(pretoken: str) -> tuple[bytes, ...]:
    """All pieces that o200k needs for a pre-token: what it ends with and what leads there."""
    raw, ranks = pretoken.encode(), _ranks()
    parts, made = merge_steps(raw, ranks)
    if raw in ranks and parts != [raw]:
        return (raw,)  # known as a whole, so looked up and never merged
    return tuple(parts) + tuple(made)


def count_pieces(texts: Iterable[str]) -> Counter[bytes]:
    """How often each o200k piece appears while the texts are tokenised."""
    pretokens: Counter[str] = Counter()
    for text in texts:
        pretokens.update(_PIECES.findall(text))
    counts: Counter[bytes] = Counter()
    for pretoken, times in pretokens.items():
        for piece in set(pieces_of(pretoken)):
            counts[piece] += times
    return counts


def always_kept() -> set[bytes]:
    """The 256 bytes and the numbers of one to three digits (o200k cuts numbers by threes)."""
    kept = {bytes([byte]) for byte in range(256)}
    for digits in (1, 2, 3):
        for number in range(10**digits):
            kept |= set(pieces_of(f"{number:0{digits}}"))
    return kept


def harmony_texts() -> list[str]:
    """Texts that every conversation may hold: settings, tool sections, headers, strawberry."""
    words = [
        Message.system(tools=("browser", "python"), conversation_start_date="2026-01-01"),
        Message.developer("You are"),
        Message.user("'strawberry' \"strawberry\" the word strawberry (strawberry"),
        Message.analysis("Reasoning: low, medium, high"),
        Message.call("python", "print(1)"),
        Message.tool("python", "1"),
        Message.call("browser.search", '{"query": "x"}'),
        Message.tool("browser.search", "[0] L0:"),
        Message.call("functions.get", '{"a": 1}'),
        Message.tool("functions.get", '{"a": 1}'),
        Message.final("【0†L1】"),
    ]
    settings = [s.text for s in render_segments(words, for_training=True) if not s.special]
    return [*settings, *HARMONY_SPECIALS]


def choose_pieces(
    texts: Iterable[str], size: int = DEFAULT_SIZE, forced: Iterable[str] = ()
) -> list[bytes]:
    """`size - 10` pieces in the order of their o200k ranks; the ten specials take the rest.

    Every piece of the `forced` texts is kept (give a word with and without its leading space),
    then what `texts` use most. Raises ValueError if the forced pieces do not fit, or if the
    texts do not hold enough different pieces.
    """
    ranks, room = _ranks(), size - len(HARMONY_SPECIALS)
    kept = always_kept()
    for text in [*harmony_texts(), *forced]:
        for pretoken in _PIECES.findall(text):
            kept.update(pieces_of(pretoken))
    if len(kept) > room:
        raise ValueError(f"{len(kept)} pieces are forced, but only {room} fit; raise size")
    counts = count_pieces(texts)
    # By count, then by rank: what a piece is merged from is never rarer and has a lower rank.
    for piece in sorted(counts, key=lambda p: (-counts[p], ranks[p])):
        if len(kept) == room:
            break
        needed = set(pieces_of_bytes(piece)) - kept
        if len(kept) + len(needed) <= room:
            kept |= needed
    if len(kept) < room:
        raise ValueError(f"the texts hold {len(kept)} different pieces, fewer than {room}")
    return sorted(kept, key=ranks.__getitem__)


def pieces_of_bytes(piece: bytes) -> set[bytes]:
    """A piece and all pieces that it is merged from (bytes may be half a letter)."""
    parts, made = merge_steps(piece, _ranks())
    return {piece} | (set(made) if parts == [piece] else set())


# -- writing ------------------------------------------------------------------------------


def write_folder(pieces: Sequence[bytes], folder: str | Path) -> Tokenizer:
    """Write tokenizer.json, tokenizer_config.json and o200k_ids.json; return the tokenizer.

    transformers' AutoTokenizer and labhelpers read the same file and give the same ids.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    specials = {name: len(pieces) + n for n, name in enumerate(HARMONY_SPECIALS)}
    _write_json(folder / "tokenizer.json", tokenizer_json(pieces, specials))
    _write_json(folder / "tokenizer_config.json", tokenizer_config())
    ids = [_ranks()[piece] for piece in pieces] + list(HARMONY_SPECIALS.values())
    (folder / "o200k_ids.json").write_text(json.dumps(ids) + "\n")
    return from_folder(folder)


def tokenizer_json(pieces: Sequence[bytes], specials: dict[str, int]) -> dict:
    """The file of the `tokenizers` library: byte-level BPE, o200k's pattern, special tokens."""
    ids = {piece: n for n, piece in enumerate(pieces)}
    letters = byte_characters()

    def written(piece: bytes) -> str:
        return "".join(letters[byte] for byte in piece)

    # tiktoken merges any two neighbours whose union is a piece; this library only listed pairs.
    merges = [
        [written(piece[:cut]), written(piece[cut:])]
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    vocab = {written(piece): n for piece, n in ids.items()}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": n,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, n in specials.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": O200K_PATTERN},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab | specials,
            "merges": merges,
        },
    }


def tokenizer_config() -> dict:
    """tokenizer_config.json: what transformers asks for beside the file above."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|return|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "response_template": response_template(),
    }


def response_template() -> dict:
    """How `transformers serve` and `parse_response` read an answer: regions of harmony by field.

    Text beside calls (commentary without a recipient) is part of the content. A call's recipient
    may stand in front of the channel or behind it, and python's code is passed on as it is.
    `join` makes one text of several messages; transformers knows it since 5.16.
    """
    channel = r"<\|channel\|>(?:analysis|commentary)"
    to = r"\s*to=(?:functions\.)?(?P<name>[\w.\-]+)"
    return {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|start|>assistant",
        "fields": {
            "reasoning_content": {
                "open": "<|channel|>analysis<|message|>",
                "close": ["<|end|>", "<|return|>"],
                "content": "text",
                "content_args": {"strip": False},
                "repeats": True,
                "join": "\n",
            },
            "content": {
                "open": ["<|channel|>final<|message|>", "<|channel|>commentary<|message|>"],
                "close": ["<|return|>", "<|end|>"],
                "content": "text",
                "content_args": {"strip": False},
                "repeats": True,
                "join": "\n\n",
            },
            "tool_calls": {
                "open_pattern": rf"(?:{channel}{to}|{to}{channel})"
                r"\s*(?:<\|constrain\|>)?\s*\w*<\|message\|>",
                "close": ["<|call|>", "<|end|>"],
                "content": "json",
                "content_args": {"allow_non_json": True},
                "repeats": True,
                "transform": {
                    "type": "function",
                    "function": {"name": "{name}", "arguments": "{content}"},
                },
            },
        },
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Build a tokenizer folder from text files (each file is one text)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE)
    args = parser.parse_args()
    texts = [path.read_text(encoding="utf-8") for path in args.texts]
    tokenizer = write_folder(choose_pieces(texts, args.size), args.out)
    print(f"{args.out}: {tokenizer.vocab_size} ids")


if __name__ == "__main__":
    main()
