"""Twenty words whose letters nano counts: the test set behind chapter 1's sentences.

    prompts = questions(tokenizer)             # one prompt a word
    replies = write(model, prompts)            # nano's ids for each, greedy, all at once
    how_many_right(tokenizer, replies)         # 20, while the model is whole

gpt-oss's choice: none. What a head or an expert is needed for shows when it is taken away and
nano has to count letters again; with a fixed list of words such a number can be checked.
`python -m scripts.twenty_words` measures all that the chapter says about these words.

Source: this course; common words, with one to four of the letter that is asked for. Limits: a
single kind of question, and words that nano may have met in training: a difference of one or two
of the twenty says little, and all twenty right does not mean that it counts every word.
"""

from __future__ import annotations

from collections.abc import Sequence

from labhelpers.harmony import Message, render_for_completion
from labhelpers.model import GptOss
from labhelpers.model.generate import complete_batch
from labhelpers.tokenizer import Tokenizer

Pairs = Sequence[tuple[str, str]]

# A word, and the letter to count in it.
WORDS: tuple[tuple[str, str], ...] = (
    ("strawberry", "r"), ("banana", "a"), ("mississippi", "s"), ("committee", "t"),
    ("bookkeeper", "e"), ("apple", "p"), ("letter", "t"), ("pepper", "p"), ("balloon", "l"),
    ("coffee", "f"), ("butter", "t"), ("summer", "m"), ("cherry", "r"), ("orange", "o"),
    ("potato", "o"), ("tomato", "o"), ("window", "w"), ("rabbit", "b"), ("school", "o"),
    ("garden", "a"),
)  # fmt: skip
IDENTITY = "You are gpt-oss-nano, a tiny language model."


def prompt(question: str, tokenizer: Tokenizer) -> list[int]:
    """The ids that nano reads before it answers a question, at medium effort."""
    system = Message.system(model_identity=IDENTITY, reasoning_effort="medium")
    return render_for_completion([system, Message.user(question)], tokenizer)


def questions(tokenizer: Tokenizer, pairs: Pairs = WORDS) -> list[list[int]]:
    """A prompt for each word: how many of this letter are in it?"""
    asked = (f"How many {letter}s are in the word '{word}'?" for word, letter in pairs)
    return [prompt(question, tokenizer) for question in asked]


def write(model: GptOss, prompts: Sequence[Sequence[int]], limit: int = 80) -> list[list[int]]:
    """What the model writes after each prompt, its stop token included, `limit` ids at most."""
    return complete_batch(model, prompts, max_new_tokens=limit)


def is_right(word: str, letter: str, reply: str) -> bool:
    """Does the final message of a reply give the number of letters in the word?"""
    return f" {word.count(letter)} " in reply.rpartition("<|message|>")[2]


def how_many_right(
    tokenizer: Tokenizer, replies: Sequence[Sequence[int]], pairs: Pairs = WORDS
) -> int:
    """How many replies, one for each pair, end with the right number."""
    decoded = map(tokenizer.decode, replies)
    return sum(is_right(*pair, text) for pair, text in zip(pairs, decoded, strict=True))


def kind(token: int, tokenizer: Tokenizer) -> str:
    """What sort of token this is: "single letter", "word", "number", "space" ..."""
    text = tokenizer.decode([token])
    if tokenizer.is_special(token):
        return "special token"
    if text.strip().isalpha():
        return "single letter" if len(text.strip()) == 1 else "word"
    return "number" if text.strip().isdigit() else "space" if text == " " else "other"
