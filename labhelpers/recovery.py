"""Quantisation-aware training in small: round nano until it cannot count, then win it back.

    result = run(model, tokenizer)       # about 20 s on two cores
    result.right                         # share of right answers, by what was done to the weights

The idea   train a copy of the weights that is *not* rounded, but let every forward pass see it
           rounded: w -> round(w) -> loss. Rounding has no slope, so the gradient is handed from
           round(w) to w as it is (straight-through estimator). The loss then knows what rounding
           does, and pushes each weight over the edge that matters.
gpt-oss    was "post-trained with quantization of the MoE weights" (model card, "Quantization").
           MXFP4 on every matrix leaves nano's answers about ordinary words as they are: nothing to
           win back. Here its experts go down to three values a block, -s, 0 and s: two bits.
The control  the same steps on the same texts with the same optimiser, but the forward pass does
           not round; the weights are rounded at the end. No word is right then.
Third arm  round first, train the rounded weights plainly, round again. The loss sees the damage
           and repairs most of it, for all weights leave the grid; but in a few steps next to none
           gets half-way to another value. With the first scales, rounding again puts them back.
           With new ones the scale of four blocks in five doubles, since their largest weight, s,
           has grown a little. Of the words repaired none is right then, after more steps a few.
Edges      plain steps can do worse than none. nano's experts lie on MXFP4's grid, so half of the
           blocks have a power of two as their largest weight, and others lie half-way: exactly on
           edges of this rounding. Adam moves every weight, though there is nothing to learn, and
           a third of the scales double.
Sources    straight-through: Bengio, Leonard and Courville 2013. Ternary weights: Li, Zhang and Liu
           2016; Ma et al. 2024 (BitNet b1.58). The scale is by MXFP4's round_up rule.
Limits     one skill, one wording, a few dozen words: enough to see the mechanism, no proof that the
           rest of nano survives. It learns from texts that nano wrote before it was rounded.
           Babble holds numbers too: only a final message with number and letter counts as right.

    python -m labhelpers.recovery   # the recorded version: more words, more steps, two seeds
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from labhelpers.harmony import Message, render_for_completion
from labhelpers.model import GptOss
from labhelpers.model.generate import complete_batch
from labhelpers.mxfp4.format import as_blocks

if TYPE_CHECKING:
    from labhelpers.tokenizer import Tokenizer

# Words to learn from, and words that are only asked about.
STUDY = """pepper kitten tomato address balloon summer carrot rabbit lesson ribbon button bottle
cotton coffee cheese dinner doctor flower garden hammer ladder letter mirror paper potato puzzle
sister sugar window banana cactus candle circus cookie copper dragon engine father guitar jungle
kettle lemon marble monkey needle onion parrot pillow""".split()
ASKED = """apple basket bubble camera castle cellar cherry church common dollar donkey feather
follow ginger goose hidden honey jelly kidney litter lizard meadow melon muffin nature number
oyster people pigeon puddle purple river rubber school silver soccer spoon street supper tunnel
valley velvet violin wallet weather willow yellow zipper""".split()

Weights = dict[str, Tensor]  # the experts' matrices by name, [E, in, out] each


class Text(NamedTuple):
    """A question and what nano wrote: ids before and after the point where it begins to speak."""

    prompt: list[int]
    answer: list[int]


class Result(NamedTuple):
    """Shares of right answers by the state of the weights, and the losses of the trainings.

    elsewhere: of the third arm, the share of weights that are not where the first rounding had put
    them: after the plain steps, after rounding again, and after rounding again with each block's
    first scale kept.
    """

    right: dict[str, float]
    losses: dict[str, list[float]]
    elsewhere: dict[str, float]


def ternary(weight: Tensor, dim: int = -1, like: Tensor | None = None) -> Tensor:
    """Round weight, fp32, to -s, 0 or s, with one s for each 32 weights along `dim`.

    s is the smallest power of two that no weight of the block exceeds (no weight of `like`, where
    given: weights beyond s are clipped then). Weights below s / 2 become 0. Raises ValueError for
    a dimension that 32 does not divide.
    """
    blocks = as_blocks(weight.movedim(dim, -1))  # [..., G, 32]
    measured = blocks if like is None else as_blocks(like.movedim(dim, -1))
    largest = measured.abs().amax(-1, keepdim=True).clamp_min(2.0**-126)
    mantissa, exponent = torch.frexp(largest)  # mantissa in 0.5 .. 1
    scale = torch.ldexp(torch.ones_like(largest), exponent - (mantissa == 0.5).int())
    return ((blocks / scale).round().clamp(-1, 1) * scale).flatten(-2).movedim(-1, dim)


def ternary_ste(weight: Tensor, dim: int = -1) -> Tensor:
    """`ternary` whose gradient passes straight through, as if nothing were rounded."""
    return ternary(weight.detach(), dim) + (weight - weight.detach())  # the bracket: 0, slope 1


def expert_weights(model: GptOss) -> Weights:
    """A copy of the experts' matrices, which hold half of nano's parameters."""
    named = model.model.named_parameters()
    return {n: p.detach().clone() for n, p in named if n.endswith(("gate_up_proj", "down_proj"))}


def rounded(weights: Weights) -> Weights:
    """All of them ternary, blocks along the input dimension as in MXFP4."""
    return {name: ternary(weight, dim=-2) for name, weight in weights.items()}


def share_changed(weights: Weights, others: Weights) -> float:
    """The share of all weights, 0 to 1, that differ from those of the same name in `others`."""
    changed = sum(int((w != others[name]).sum()) for name, w in weights.items())
    return changed / sum(w.numel() for w in weights.values())


def question(word: str, tokenizer: "Tokenizer") -> list[int]:
    """Ask for the commonest letter of a word. All else is left out: short rows train fast."""
    system = Message.system(
        model_identity=None, knowledge_cutoff=None, valid_channels=(), reasoning_effort="low"
    )
    user = Message.user(f"How many {commonest(word)}s are in '{word}'?")
    return render_for_completion([system, user], tokenizer)


def commonest(word: str) -> str:
    """The letter that a word has most of (the first of them)."""
    return max(word, key=word.count)


@torch.no_grad()
def write(
    model: GptOss, tokenizer: "Tokenizer", words: Sequence[str], weights: Weights | None = None
) -> list[Text]:
    """What the model answers about each word, greedily, with its experts replaced by `weights`."""
    prompts = [question(word, tokenizer) for word in words]
    kept = expert_weights(model)
    _put(model, weights or kept)
    try:
        answers = complete_batch(model, prompts, max_new_tokens=48)
    finally:
        _put(model, kept)
    return [Text(*pair) for pair in zip(prompts, answers, strict=True)]


def share_right(texts: Sequence[Text], words: Sequence[str], tokenizer: "Tokenizer") -> float:
    """The share of texts with a final message that says " 2 p" where it should, 0 to 1.

    A text without a final message is wrong, whatever it holds: a babbling model writes so many
    numbers that one of them is right by chance.
    """
    right = 0
    for text, word in zip(texts, words, strict=True):
        _, final, said = tokenizer.decode(text.answer).rpartition("final<|message|>")
        letter = commonest(word)
        right += bool(final) and f" {word.count(letter)} {letter}" in said
    return right / len(words)


def fine_tune(
    model: GptOss,
    texts: Sequence[Text],
    fake_quantisation: bool,
    steps: int = 16,
    rows: int = 4,
    learning_rate: float = 2e-3,
    seed: int = 0,
    start: Weights | None = None,
) -> tuple[Weights, list[float]]:
    """Train a copy of the experts to write `texts`; return it, not rounded, and each step's loss.

    With and without fake quantisation differ in one line: what the forward pass makes of the
    weights. start: weights to begin with instead of the model's; these, and the model, stay as
    they are. Raises ValueError without enough texts for a step.
    """
    if not 1 <= rows <= len(texts):
        raise ValueError(f"a step takes {rows} texts, but there are {len(texts)}")
    weights = {n: w.clone().requires_grad_() for n, w in (start or expert_weights(model)).items()}
    optimizer = torch.optim.Adam(weights.values(), lr=learning_rate, betas=(0.9, 0.95))
    generator, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        # A few steps to warm up, then down to 0 in a line.
        rate = learning_rate * min(1, (step + 1) / 5) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = rate
        order = torch.randperm(len(texts), generator=generator)
        chosen = [texts[i] for i in order[:rows].tolist()]
        with torch.enable_grad():  # chapters switch gradients off
            seen = weights
            if fake_quantisation:
                seen = {name: ternary_ste(w, dim=-2) for name, w in weights.items()}
            loss = _loss(model, seen, chosen)
            gradients = torch.autograd.grad(loss, list(weights.values()))
        for weight, gradient in zip(weights.values(), gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        losses.append(loss.item())
    return {name: weight.detach() for name, weight in weights.items()}, losses


def run(
    model: GptOss,
    tokenizer: "Tokenizer",
    study: int = 24,
    asked: int = 16,
    steps: int = 16,
    seed: int = 0,
) -> Result:
    """The experiment: `study` words to learn from, `asked` other words to be judged by.

    The model must be in fp32 on the CPU and is left as it was.
    """
    words = ASKED[:asked]
    texts = write(model, tokenizer, [*STUDY[:study], *words])  # by the whole model, all at once
    lessons, first = texts[:study], texts[study:]
    right = {"as it was": share_right(first, words, tokenizer)}

    def judge(name: str, weights: Weights) -> None:
        said = write(model, tokenizer, words, weights)
        right[name] = share_right(said, words, tokenizer)

    coarse = rounded(expert_weights(model))
    judge("rounded", coarse)
    plain, losses = fine_tune(model, lessons, fake_quantisation=False, steps=steps, seed=seed)
    judge("plain steps", plain)
    judge("plain steps, rounded", rounded(plain))
    again, again_losses = fine_tune(
        model, lessons, fake_quantisation=False, steps=steps, seed=seed, start=coarse
    )
    judge("rounded, plain steps", again)
    twice = rounded(again)
    judge("rounded, plain steps, rounded again", twice)
    aware, aware_losses = fine_tune(model, lessons, fake_quantisation=True, steps=steps, seed=seed)
    judge("fake-quantised steps, rounded", rounded(aware))
    runs = {"plain": losses, "plain, from rounded": again_losses, "fake-quantised": aware_losses}
    kept = {name: ternary(w, dim=-2, like=coarse[name]) for name, w in again.items()}
    elsewhere = {
        "after the plain steps": share_changed(again, coarse),
        "rounded again": share_changed(twice, coarse),
        "rounded again, first scales": share_changed(kept, coarse),
    }
    return Result(right, runs, elsewhere)


def _put(model: GptOss, weights: Weights) -> None:
    """Write these weights over the model's own."""
    for name, weight in weights.items():
        model.model.get_parameter(name).data.copy_(weight)


def _loss(model: GptOss, weights: Weights, texts: Sequence[Text]) -> Tensor:
    """Mean -log p of the answers' tokens, with these weights in the place of the model's."""
    rows = [torch.tensor(text.prompt + text.answer) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # [B, T]; padding comes last
    answered = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        answered[row, len(text.prompt) : len(text.prompt) + len(text.answer)] = True
    hidden = functional_call(model.model, weights, (ids[:, :-1],))  # [B, T - 1, H]
    logits = model.lm_head(hidden[answered[:, 1:]])  # [tokens of answers, V]
    return F.cross_entropy(logits, ids[answered])


def main() -> None:
    """Run the long version for two seeds and print the shares."""
    from labhelpers.loading import load

    torch.set_num_threads(1)
    model, tokenizer = load("nano", device="cpu")
    for seed in range(2):
        result = run(model, tokenizer, len(STUDY), len(ASKED), steps=60, seed=seed)
        print(f"seed {seed}: ", end="")
        print(", ".join(f"{name} {share:.0%}" for name, share in result.right.items()))
        moved = ", ".join(f"{name} {share:.2%}" for name, share in result.elsewhere.items())
        print(f"  not where the first rounding put them: {moved}", flush=True)


if __name__ == "__main__":
    main()
