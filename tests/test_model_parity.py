"""Our model against transformers' GptOssForCausalLM, by comparing logits as numbers.

Random weights with random biases, norms and sinks (zeros would hide a forgotten one), small
configs in which every size differs, lengths on both sides of the window.
"""

import copy
from dataclasses import replace

import pytest
import torch

from labhelpers.config import GptOssConfig, YarnConfig
from labhelpers.model import GptOss, KVCache
from labhelpers.model.attention import visible
from labhelpers.model.rope import correction_range, inverse_frequencies

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5  # largest difference over largest logit, float32

BASE = GptOssConfig(
    vocab_size=97, hidden_size=48, intermediate_size=40, num_hidden_layers=4,
    num_attention_heads=6, num_key_value_heads=2, head_dim=16, num_local_experts=5,
    num_experts_per_tok=3, sliding_window=128, max_position_embeddings=4096,
    rope_scaling=YarnConfig(original_max_position_embeddings=128),
)  # fmt: skip
CONFIGS = {
    "base": BASE,
    "one expert": replace(BASE, num_local_experts=1, num_experts_per_tok=1),
    "8 experts, 4 active": replace(BASE, num_local_experts=8, num_experts_per_tok=4),
    "all of 2 experts": replace(BASE, num_local_experts=2, num_experts_per_tok=2),
    "8 heads on 2": replace(BASE, num_attention_heads=8),  # Hq / Hkv = 4 is not Hkv = 2
    "12 heads on 3": replace(BASE, num_attention_heads=12, num_key_value_heads=3),
    "5 heads on 5": replace(BASE, num_attention_heads=5, num_key_value_heads=5),
    "4 heads on 1": replace(BASE, num_attention_heads=4, num_key_value_heads=1),
    "no YaRN": replace(BASE, rope_scaling=None),
    "gpt-oss's YaRN": replace(BASE, head_dim=64, rope_scaling=YarnConfig()),
    "YaRN truncated": replace(BASE, head_dim=64, rope_scaling=YarnConfig(truncate=True)),
    "YaRN low border below 0": replace(
        BASE,
        max_position_embeddings=256,
        rope_scaling=YarnConfig(4.0, original_max_position_embeddings=64, truncate=True),
    ),  # fmt: skip
    "window 7": replace(BASE, sliding_window=7),
    "window 1": replace(BASE, sliding_window=1),
    "window 1000": replace(BASE, sliding_window=1000),
    "no attention bias": replace(BASE, attention_bias=False),
    "full first, odd count": replace(
        BASE,
        num_hidden_layers=3,
        layer_types=("full_attention", "sliding_attention", "full_attention"),
    ),  # fmt: skip
    "tight SwiGLU": replace(BASE, swiglu_limit=0.5),
}


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter random and nonzero, large enough that clamps, sinks and routing matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("norm.weight"):
            p.data = 1 + 0.3 * noise
        elif name.endswith("sinks"):
            p.data = noise
        elif name.endswith("bias"):
            p.data = 0.3 * noise
        elif "embed_tokens" in name:
            p.data = noise
        else:
            p.data = noise * (2.0 if "router" in name else 1.5) / p.shape[-1] ** 0.5


def pair(config: GptOssConfig) -> tuple[GptOss, torch.nn.Module]:
    """Our model and transformers' with the same weights, in float32."""
    theirs = transformers.GptOssForCausalLM(
        transformers.GptOssConfig.from_dict(config.to_dict() | {"attn_implementation": "eager"})
    ).eval()
    randomise(theirs)
    ours = GptOss(config).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=True)
    assert not missing and not unexpected
    return ours, theirs


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert ours.isfinite().all() and theirs.isfinite().all()
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def random_ids(config: GptOssConfig, batch: int, length: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


def skip_if_ignored(config: GptOssConfig, theirs: torch.nn.Module) -> None:
    """transformers up to 5.15 reads the clamp from no config."""
    if theirs.model.layers[0].mlp.experts.limit != config.swiglu_limit:
        pytest.skip("this transformers hard-codes the SwiGLU limit")


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_equal_for_every_config(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = pair(config)
    skip_if_ignored(config, theirs)
    ids = random_ids(config, 2, 150)
    assert relative(ours(ids), theirs(ids).logits) < TOLERANCE


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
@torch.no_grad()
def test_logits_equal_around_the_window(length: int) -> None:
    ours, theirs = pair(CONFIGS["gpt-oss's YaRN"])
    ids = random_ids(ours.config, 1, length)
    assert relative(ours(ids), theirs(ids).logits) < TOLERANCE


@pytest.mark.parametrize("chunks", [[120] + [1] * 20, [1, 126, 1, 1, 1, 40], [129, 5, 128, 38]])
@pytest.mark.parametrize("name", ["8 heads on 2", "window 7"])
@torch.no_grad()
def test_cached_chunks_equal_one_pass(name: str, chunks: list[int]) -> None:
    ours, theirs = pair(CONFIGS[name])
    ids = random_ids(ours.config, 1, sum(chunks))
    reference = theirs(ids).logits
    cache = KVCache(ours.config)
    steps = [ours(piece, cache=cache) for piece in ids.split(chunks, dim=1)]
    assert relative(torch.cat(steps, dim=1), reference) < TOLERANCE
    kept = [len(layer) for layer in cache.layers]
    window = min(ours.config.sliding_window, sum(chunks))
    assert kept == [window, sum(chunks)] * 2  # sliding layers keep their window and no more


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_batch_equals_each_row_alone(side: str) -> None:
    ours, theirs = pair(CONFIGS["8 heads on 2"])
    lengths = [170, 1, 131, 40]
    width = max(lengths)
    ids, mask = random_ids(ours.config, 4, width), torch.zeros(4, width, dtype=torch.int64)
    for row, n in enumerate(lengths):
        mask[row, slice(width - n, None) if side == "left" else slice(n)] = 1
    batched, reference = ours(ids, mask), theirs(ids, attention_mask=mask).logits
    real = mask.bool()
    assert batched.isfinite().all()
    assert relative(batched[real], reference[real]) < TOLERANCE
    for row in range(4):
        alone = theirs(ids[row, real[row]][None]).logits[0]
        assert relative(batched[row, real[row]], alone) < TOLERANCE


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_batch_goes_on_from_its_cache(side: str) -> None:
    """After a padded prompt, both rows continue as if they had stood alone."""
    ours, theirs = pair(CONFIGS["window 7"])
    lengths, width, more = [30, 4], 30, 12
    ids, mask = random_ids(ours.config, 2, width), torch.zeros(2, width, dtype=torch.int64)
    for row, n in enumerate(lengths):
        mask[row, slice(width - n, None) if side == "left" else slice(n)] = 1
    new = random_ids(ours.config, 2, more, seed=5)
    cache = KVCache(ours.config)
    for piece, piece_mask in zip(ids.split(11, 1), mask.split(11, 1), strict=True):
        ours(piece, piece_mask, cache)
    steps = torch.cat([ours(piece, cache=cache) for piece in new.split(5, 1)], dim=1)
    assert cache.lengths is not None and cache.lengths.tolist() == [n + more for n in lengths]
    for row in range(2):
        alone = torch.cat((ids[row, mask[row].bool()], new[row]))[None]
        assert relative(steps[row], theirs(alone).logits[0, -more:]) < TOLERANCE


@torch.no_grad()
def test_bfloat16_agrees_in_distribution() -> None:
    """bf16 cannot be bit-equal: ask for a small KL and the same favourite token.

    The bound is set by transformers itself: our bf16 lies no further from our float32 than
    1.5 times what its bf16 lies from its float32.
    """
    ours, theirs = pair(replace(BASE, num_attention_heads=8, vocab_size=257))
    ids = random_ids(ours.config, 2, 200)
    exact = theirs(ids).logits.log_softmax(-1)
    # Not .to(bfloat16) alone: that would round transformers' RoPE frequencies as well.
    rotary = copy.deepcopy(theirs.model.rotary_emb)
    theirs = theirs.to(torch.bfloat16)
    theirs.model.rotary_emb = rotary
    ours_bf16 = ours.to(torch.bfloat16)(ids).float().log_softmax(-1)
    theirs_bf16 = theirs(ids).logits.float().log_softmax(-1)

    def kl(p: torch.Tensor, q: torch.Tensor) -> float:
        return (p.exp() * (p - q)).sum(-1).mean().item()

    agree = (ours_bf16.argmax(-1) == theirs_bf16.argmax(-1)).float().mean().item()
    print(f"bf16: KL(theirs|ours) {kl(theirs_bf16, ours_bf16):.2e}, to float32: "
          f"ours {kl(exact, ours_bf16):.2e}, theirs {kl(exact, theirs_bf16):.2e}; "
          f"argmax agreement {agree:.3f}")  # fmt: skip
    assert kl(theirs_bf16, ours_bf16) < 0.02
    assert kl(exact, ours_bf16) < 1.5 * kl(exact, theirs_bf16) + 1e-4
    assert agree > 0.9


@pytest.mark.parametrize("name", ["base", "no YaRN", "gpt-oss's YaRN", "YaRN truncated"])
def test_rope_frequencies_are_bit_equal(name: str) -> None:
    _, theirs = pair(CONFIGS[name])
    assert torch.equal(inverse_frequencies(CONFIGS[name]), theirs.model.rotary_emb.inv_freq)


def test_yarn_borders() -> None:
    low, high = correction_range(YarnConfig(), 64, 150_000.0)
    assert (round(low, 2), round(high, 2)) == (8.09, 17.40)
    assert correction_range(YarnConfig(truncate=True), 64, 150_000.0) == (8, 18)
    # Below about 201 tokens the low border would be negative.
    low, _ = correction_range(YarnConfig(original_max_position_embeddings=201), 64, 150_000.0)
    assert low == 0


def test_window_is_oneself_and_the_ones_before() -> None:
    positions = torch.arange(5)[None]
    assert visible(positions, positions, 2)[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]


@torch.no_grad()
def test_every_parameter_matters() -> None:
    """A parameter that parity would not notice is one that parity does not test."""
    ours = GptOss(BASE)
    randomise(ours)
    ids = random_ids(BASE, 1, 140)
    before = ours(ids)
    generator = torch.Generator().manual_seed(3)
    for name, p in ours.named_parameters():
        kept = p.clone()
        p.add_(0.02 * torch.randn(p.shape, generator=generator))
        assert relative(ours(ids), before) > 10 * TOLERANCE, name
        p.copy_(kept)


def test_float16_is_refused_with_its_reason() -> None:
    model = GptOss(BASE)
    with pytest.raises(ValueError, match="65,504"):
        model.half()
    with pytest.raises(ValueError, match="65,504"):
        model.to(torch.float16)(random_ids(BASE, 1, 3))


def test_meta_device_then_assign() -> None:
    source = GptOss(BASE).eval()
    randomise(source)
    with torch.device("meta"):
        model = GptOss(BASE)
    assert all(p.is_meta for p in model.parameters())
    model.load_state_dict(source.state_dict(), assign=True)
    ids = random_ids(BASE, 1, 20)
    assert torch.equal(model(ids), source(ids))


def test_wrong_inputs_say_what_to_do() -> None:
    model = GptOss(BASE)
    with pytest.raises(ValueError, match=r"\[batch, tokens\]"):
        model(torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="another tokenizer"):
        model(torch.tensor([[BASE.vocab_size]]))
    with pytest.raises(ValueError, match="new tokens only"):
        model(torch.tensor([[1, 2]]), torch.ones(1, 3))
    cache = KVCache(BASE)
    model(torch.tensor([[1, 2]]), cache=cache)
    with pytest.raises(ValueError, match="new KVCache"):
        model(torch.tensor([[1], [2]]), cache=cache)


@torch.no_grad()
def test_against_openais_own_torch_model() -> None:
    """gpt_oss.torch.model (openai/gpt-oss), where installed: it loops over all of a prompt."""
    reference = pytest.importorskip("gpt_oss.torch.model")
    config = replace(BASE, num_attention_heads=8, rope_scaling=YarnConfig(), head_dim=64)
    ours = GptOss(config)
    randomise(ours)
    theirs = reference.Transformer(
        reference.ModelConfig(
            num_hidden_layers=config.num_hidden_layers, num_experts=config.num_local_experts,
            experts_per_token=config.num_experts_per_tok, vocab_size=config.vocab_size,
            hidden_size=config.hidden_size, intermediate_size=config.intermediate_size,
            head_dim=config.head_dim, num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads, sliding_window=config.sliding_window,
        ),
        device=torch.device("cpu"),
    ).float()  # fmt: skip
    weights = ours.state_dict()
    state = {
        "embedding.weight": weights["model.embed_tokens.weight"],
        "norm.scale": weights["model.norm.weight"],
        "unembedding.weight": weights["lm_head.weight"],
    }
    for n in range(config.num_hidden_layers):
        layer = {k.removeprefix(f"model.layers.{n}."): v for k, v in weights.items()
                 if k.startswith(f"model.layers.{n}.")}  # fmt: skip
        qkv = [[layer[f"self_attn.{p}_proj.{kind}"] for p in "qkv"] for kind in ("weight", "bias")]
        experts = {k.removeprefix("mlp.experts."): v for k, v in layer.items() if "experts" in k}
        block = {
            "attn.norm.scale": layer["input_layernorm.weight"],
            "attn.sinks": layer["self_attn.sinks"],
            "attn.qkv.weight": torch.cat(qkv[0]), "attn.qkv.bias": torch.cat(qkv[1]),
            "attn.out.weight": layer["self_attn.o_proj.weight"],
            "attn.out.bias": layer["self_attn.o_proj.bias"],
            "mlp.norm.scale": layer["post_attention_layernorm.weight"],
            "mlp.gate.weight": layer["mlp.router.weight"],
            "mlp.gate.bias": layer["mlp.router.bias"],
            "mlp.mlp1_weight": experts["gate_up_proj"].transpose(1, 2),
            "mlp.mlp1_bias": experts["gate_up_proj_bias"],
            "mlp.mlp2_weight": experts["down_proj"].transpose(1, 2),
            "mlp.mlp2_bias": experts["down_proj_bias"],
        }  # fmt: skip
        state |= {f"block.{n}.{k}": v for k, v in block.items()}
    theirs.load_state_dict(state)
    ids = random_ids(config, 1, 300)
    assert relative(ours(ids)[0], theirs(ids[0])) < TOLERANCE
