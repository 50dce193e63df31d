"""Measure what chapter 1 says about its twenty words: `python -m scripts.twenty_words`.

In a dozen places the chapter says what nano does with the words of `labhelpers.counting` when its
thought is changed, a head or an expert is missing, or a layer is read half-way. Each of these
numbers is a line here; together they take two minutes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

import labhelpers
from labhelpers.ablation import expert_off, heads_off, sinks_shut
from labhelpers.counting import how_many_right, kind, prompt, questions, write
from labhelpers.model import GptOss
from labhelpers.model.moe import Router, Routing
from labhelpers.tokenizer import Tokenizer
from labhelpers.viz.lens import lens_table

# Twenty questions of other kinds, for "does nano write the same?"
OTHERS = """What is a router?|What is a KV cache?|Hello!|Who are you?
How many layers does gpt-oss-120b have?|What is MXFP4?|What is the capital of France?
How many tokens does the window hold?|Can you help me?|What is 12 plus 30?|Write a poem.
What is RMSNorm?|What is a token?|Spell the word window.|What is the weather in Paris?
What does RoPE do?|Why does attention need a sink?|Goodbye.|What can you do?
How does a logit become a probability?""".replace("\n", "|").split("|")

# The heads of layers 2 and 3 that look from the full stop behind the letter to the letter.
NOTE = [(3, 0), (3, 2), (3, 6), (2, 1), (2, 3)]


class Trial:
    """nano, its prompts, and what it writes while nothing is changed."""

    def __init__(self, model: GptOss, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.prompts = questions(tokenizer)
        self.others = [prompt(question, tokenizer) for question in OTHERS]
        self.replies, self.other_replies = write(model, self.prompts), write(model, self.others)
        end = tokenizer.special_id("<|end|>")
        self.thoughts = [reply[: reply.index(end)] for reply in self.replies]
        message = tokenizer.special_id("<|message|>")
        after = self.replies[0][len(self.thoughts[0]) :]
        self.opening = after[: after.index(message) + 1]  # from <|end|> to the final's <|message|>

    def report(self, name: str, others: bool = False) -> None:
        """Ask all words again, in whatever state the model is now, and print what has changed."""
        replies = write(self.model, self.prompts)
        same = sum(a == b for a, b in zip(replies, self.replies, strict=True))
        line = f"{name}: {how_many_right(self.tokenizer, replies)} right, {same} word for word"
        if others:
            pairs = zip(write(self.model, self.others), self.other_replies, strict=True)
            line += f"; {sum(a == b for a, b in pairs)} of {len(OTHERS)} other answers unchanged"
        print(line, flush=True)

    def numbers(self, ids: Sequence[int]) -> list[int]:
        """The places of the numbers."""
        return [i for i, token in enumerate(ids) if self.tokenizer.decode([token]).isdigit()]

    def stops(self, ids: Sequence[int]) -> list[int]:
        """The places of the full stops; the spelled line begins behind the second."""
        return [i for i, token in enumerate(ids) if self.tokenizer.decode([token]) == "."]


def thought_changed(trial: Trial) -> None:
    """Section 1: a 7 in place of the last count, of the number after "So", of both."""
    tokenizer, seven = trial.tokenizer, trial.tokenizer.encode("7")[-1]
    for name, places in [("the count and So", (-2, -1)), ("So alone", (-1,)), ("the count", (-2,))]:
        changed = [list(thought) for thought in trial.thoughts]
        for thought in changed:
            for place in places:
                thought[trial.numbers(thought)[place]] = seven
        starts = [a + b for a, b in zip(trial.prompts, changed, strict=True)]
        said = [tokenizer.decode(ids) for ids in write(trial.model, starts)]
        print(f"a 7 for {name}: {sum(' 7 ' in text for text in said)} say 7", flush=True)
    for name in ("with", "without"):
        starts = []
        for start, thought in zip(trial.prompts, trial.thoughts, strict=True):
            cut = thought[: trial.stops(thought)[1] + 1]  # "Word: strawberry. Letter: r."
            kept = thought if name == "with" else cut
            starts.append(start + kept + trial.opening)
        replies = [trial.opening + ids for ids in write(trial.model, starts)]
        zero = sum(" 0 " in tokenizer.decode(ids) for ids in replies)
        right = how_many_right(tokenizer, replies)
        print(f"final message {name} the spelled line: {right} right, {zero} say 0", flush=True)


@contextmanager
def first_two_experts(model: GptOss) -> Iterator[None]:
    """Every router hands its tokens to the first two of its four choices only."""

    def hook(_router: Router, _given: object, routing: Routing) -> Routing:
        two = routing.weights[:, :2]
        return routing._replace(
            expert_ids=routing.expert_ids[:, :2], weights=two / two.sum(-1, keepdim=True)
        )

    routers = [module for module in model.modules() if isinstance(module, Router)]
    hooks = [router.register_forward_hook(hook) for router in routers]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def experts(trial: Trial) -> None:
    """Section 12."""
    with first_two_experts(trial.model):
        trial.report("the first two experts of each token", others=True)
    for layer, expert in [(2, 4), (2, 0)]:
        with expert_off(trial.model, layer, expert):
            trial.report(f"without expert {expert} of layer {layer}")


def lens(trial: Trial) -> None:
    """Go further: is the favourite right after each layer, within the spelled line?"""
    decode = trial.tokenizer.decode
    hits: dict[str, list[Tensor]] = {}
    ones: dict[str, list[bool]] = {}
    for start, thought in zip(trial.prompts, trial.thoughts, strict=True):
        ids, line = start + thought, len(start) + trial.stops(thought)[1] + 1
        favourites = lens_table(trial.model, ids).favourites[1:]  # [L, T]
        for t in range(line, len(ids) - 1):
            read, follows = decode([ids[t]]).strip(), decode([ids[t + 1]])
            sort, next_sort = (kind(i, trial.tokenizer) for i in ids[t : t + 2])
            if sort == "single letter":
                name = "a letter that counts" if follows == " " else "a letter that does not"
            elif read == "," and next_sort == "single letter":
                name = "a comma before a letter"
            elif follows.isdigit():
                name = "whatever stands before a number"
            else:
                continue
            hits.setdefault(name, []).append((favourites[:, t] == ids[t + 1]).int())
            ones.setdefault(name, []).append(decode([int(favourites[4, t])]) == "1")
    for name, found in hits.items():
        right = torch.stack(found).sum(0).tolist()
        print(f"after {name} ({len(found)}): right after layers 0 to 7 {right}, ", end="")
        print(f"a 1 after layer 4: {sum(ones[name])}", flush=True)


def heads(trial: Trial) -> None:
    """Go further: which heads it cannot do without."""
    cases = [[(4, 2)], [(4, 3)], [(4, 2), (4, 3)], [(0, 0)], [(0, 1)], [(0, 2)], [(5, 4)]]
    cases += [[(5, a), (5, b)] for a, b in ((0, 1), (0, 3), (1, 3))]
    cases += [[(5, 0), (5, 1), (5, 3)], *([head] for head in NOTE), NOTE[:3], NOTE]
    for case in cases:
        with heads_off(trial.model, case):
            named = ", ".join(f"{layer}.{head}" for layer, head in case)
            trial.report(f"heads off (layer.head): {named}")
    # A control for the last line: as many other heads of the same layers.
    rng, others = random.Random(0), [(n, h) for n in (3, 2) for h in range(8) if (n, h) not in NOTE]
    for _ in range(8):
        case = rng.sample(others[:5], 3) + rng.sample(others[5:], 2)
        with heads_off(trial.model, case):
            trial.report(f"others off: {', '.join(f'{layer}.{head}' for layer, head in case)}")


def sinks(trial: Trial) -> None:
    """Go further: sinks shut."""
    with sinks_shut(trial.model, [(3, 0)]):
        trial.report("the sink of head 0 of layer 3 shut")
    with sinks_shut(trial.model):
        trial.report("all sinks shut", others=True)


def main() -> None:
    torch.set_grad_enabled(False)
    trial = Trial(*labhelpers.load("nano", device="cpu"))
    trial.report("nothing changed")
    for part in (thought_changed, experts, lens, heads, sinks):
        part(trial)


if __name__ == "__main__":
    main()
