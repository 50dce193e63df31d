"""Choose nano's vocabulary from its training text: `python -m training.vocabulary`.

Writes the tokenizer into `labhelpers/nano` and `training/pieces.txt`, the pieces from which
pseudo-words are glued. The wordings count many times, so that the words people ask with are
single tokens wherever o200k has them as one.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from labhelpers.harmony import render_segments
from training import bank, tokenizer
from training.cases import Maker
from training.skills import mixture
from training.values import Values

# Words that split as in gpt-oss, with and without a leading space (a test holds it).
WORDS = """the a and of to in is for it you that on with as are this be at by from what how
many which who when where why can could would please thanks hello count letter word
times number token tokens model models layer layers expert experts router head heads
query key value attention sink window mask cache prompt system developer user
assistant tool function call channel analysis final message start end return python
browser search open weather city time date name email code price temperature
strawberry banana apple reasoning world London Paris Berlin Tokyo January Monday red
blue green""".split()


def texts(cases: int, seed: int) -> Iterator[str]:
    """What conversations say, and every wording a hundred times."""
    maker = Maker(random.Random(seed))
    for author in maker.authors:
        rows = [json.dumps(r, ensure_ascii=False) for rs in bank.load(author).values() for r in rs]
        yield from (text for text in rows for _ in range(20))
    for _ in range(cases):
        case = mixture.draw(maker)
        yield from (
            s.text for s in render_segments(case.messages, for_training=True) if not s.special
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=6144)
    parser.add_argument("--cases", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "labhelpers" / "nano"
    )
    args = parser.parse_args()
    Values.pseudo = Values.word = lambda self, most=3: self.rng.choice(_common())  # type: ignore
    forced = [form for word in WORDS for form in (word, f" {word}", word.capitalize())]
    pieces = tokenizer.choose_pieces(texts(args.cases, args.seed), args.size, forced)
    tokenizer.write_folder(pieces, args.out)
    letters = {p.decode(errors="ignore").strip() for p in pieces}
    keep = sorted(p for p in letters if len(p) >= 2 and p.isascii() and p.isalpha())
    (Path(__file__).parent / "pieces.txt").write_text("\n".join(keep) + "\n")
    print(f"{args.out}: {args.size} ids; {len(keep)} pieces for pseudo-words")


def _common() -> tuple[str, ...]:
    from training.values import words

    return words("train")


if __name__ == "__main__":
    main()
