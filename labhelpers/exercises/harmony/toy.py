"""A tokenizer for paper: every byte of a text is a token, and the seven marks come after them.

Real tokenizers join bytes to longer pieces; the rules of harmony are the same. An "é" is two
bytes here, so that characters split over tokens can be seen without looking for rare ones.
"""

from __future__ import annotations

from collections.abc import Iterable

MARKS = (
    "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>",
)  # fmt: skip


class ByteTokenizer:
    """Ids 0 to 255 are bytes, 256 to 262 are the marks of harmony in the order of MARKS."""

    def encode(self, text: str) -> list[int]:
        """One id for each byte of text. A mark that is typed stays text."""
        return list(text.encode())

    def encode_cached(self, text: str) -> tuple[int, ...]:
        """The same as a tuple: what `labhelpers.harmony.render` asks for."""
        return tuple(text.encode())

    def special_id(self, name: str) -> int:
        """The id of a mark. Raises ValueError if there is no such mark."""
        if name not in MARKS:
            raise ValueError(f"there is no mark {name!r}; there are {', '.join(MARKS)}")
        return 256 + MARKS.index(name)

    def special_name(self, token_id: int) -> str | None:
        """The mark with this id, or None for a byte."""
        return MARKS[token_id - 256] if 256 <= token_id < 256 + len(MARKS) else None

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, marks by their names."""
        return b"".join((self.special_name(i) or "").encode() or bytes([i]) for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, marks by their names."""
        return self.decode_bytes(ids).decode("utf-8", "replace")


_JOINING = {ord(" "): 512, ord("="): 768}


class JoiningTokenizer(ByteTokenizer):
    """The same, but a space and the byte behind it are one token (512 + the byte), and so are
    an equals sign and the byte behind it (768 + the byte).

    Real tokenizers do so too: " code" is not a space and then "code".
    """

    def encode(self, text: str) -> list[int]:
        """Ids of text; the greedy choice, from left to right."""
        ids: list[int] = []
        for byte in text.encode():
            if ids and byte != 32 and ids[-1] in _JOINING:
                ids[-1] = _JOINING[ids[-1]] + byte
            else:
                ids.append(byte)
        return ids

    def encode_cached(self, text: str) -> tuple[int, ...]:
        """The same as a tuple."""
        return tuple(self.encode(text))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, marks by their names."""
        first = {base: sign for sign, base in _JOINING.items()}
        split = ([first[i // 256 * 256], i % 256] if i >= 512 else [i] for i in ids)
        return super().decode_bytes(i for pair in split for i in pair)
