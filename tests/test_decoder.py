"""The whole-model decoder in Triton's interpreter, on the CPU, against labhelpers.model.

On the CPU all that is bf16 on a GPU is fp32 (Triton's interpreter cuts bf16 off), except what
reaches the experts, so results agree closely; `python -m benchmarks.whole_model` repeats the
comparison on a GPU before it measures anything.
"""

import statistics
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import labhelpers
from labhelpers.config import GptOssConfig, preset
from labhelpers.kernels import decode, grouped, linear_decode, triton_or_not
from labhelpers.kernels.attention_decode import Attention
from labhelpers.kernels.decoder import Decoder, Tuning
from labhelpers.kernels.decoder_weights import DecoderWeights, LayerWeights
from labhelpers.kernels.packed import Packed
from labhelpers.kernels.router_decode import Router
from labhelpers.model import GptOss
from labhelpers.model.attention import sink_attention
from labhelpers.model.moe import route
from labhelpers.mxfp4.format import fake_quantize
from labhelpers.mxfp4.packed import PackedExperts

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REASON = triton_or_not.why_not(torch.empty(0, device=DEVICE))
needs_triton = pytest.mark.skipif(REASON is not None, reason=REASON or "")
# The interpreter's time goes by programs, not by their size.
FEW = Tuning(32, 128, 1024, experts=decode.Tuning(gate_up_rows=256, down_rows=256))
FEW = FEW if DEVICE == "cpu" else Tuning()
CLOSE = 4e-3 if DEVICE == "cpu" else 2e-2  # bf16 queries, keys and values on a GPU
# Sizes that no tile divides, more experts than slots, a window that the test outgrows.
SMALL = GptOssConfig(
    vocab_size=500, hidden_size=160, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=6, num_key_value_heads=2, head_dim=64, num_local_experts=5,
    num_experts_per_tok=3, sliding_window=4, max_position_embeddings=8192,
)  # fmt: skip


def random_model(config: GptOssConfig, seed: int = 0) -> GptOss:
    """Weights large enough that routing, sinks and RoPE matter; experts on MXFP4's grid."""
    torch.manual_seed(seed)
    model = GptOss(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith(("gate_up_proj", "down_proj")):
            parameter.copy_(fake_quantize(torch.randn_like(parameter) * 0.1, dim=1))
        elif "bias" in name or "sinks" in name or "norm" in name:
            parameter.add_(torch.randn_like(parameter) * 0.3)
        else:
            parameter.copy_(torch.randn_like(parameter) * 0.08)
    return model


def decoder_of(model: GptOss, **options) -> Decoder:
    model = model.to(DEVICE)
    return Decoder(model.config, DecoderWeights.of(model), tuning=FEW, **options)


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


@needs_triton
@pytest.mark.parametrize("batch", [1, 2])
def test_logits_and_tokens_are_the_models(batch):
    """Past the window twice over, so that the ring has turned."""
    model = random_model(SMALL)
    ids = torch.randint(SMALL.vocab_size, (batch, 7), device=DEVICE)
    decoder = decoder_of(model, max_context=24, batch=batch)
    cache = model.new_cache()
    errors, best = [], []
    for step in range(ids.shape[1]):
        logits = decoder.prefill(ids[:, step : step + 1])
        want = model(ids[:, step : step + 1], cache=cache)[:, -1]
        errors.append(error(logits, want))
        best.append(decoder.token.tolist() == want.argmax(-1).tolist())
        assert decoder.token.tolist() == logits.argmax(-1).tolist(), step
    assert decoder.position.tolist() == [7] * batch
    if DEVICE == "cpu":
        assert max(errors) < CLOSE and all(best), errors
    else:  # in bf16 a near-tie of experts may go the other way, and then that step is far off
        assert statistics.median(errors) < CLOSE and sum(best) >= 5, errors


def test_weights_of_a_packed_model_are_those_of_the_unpacked_one():
    model = random_model(replace(SMALL, num_hidden_layers=1, layer_types=()))
    want = DecoderWeights.of(model).layers[0]
    packed = PackedExperts(model.config)
    for name, part in (("gate_up", want.gate_up), ("down", want.down)):
        # As from a file: in the middle of other bytes, so that blocks begin anywhere.
        raw = torch.empty(part.blocks.numel() + 8, dtype=torch.uint8)[8:].view(part.blocks.shape)
        setattr(packed, f"{name}_proj_blocks", raw.copy_(part.blocks))
        setattr(packed, f"{name}_proj_scales", part.scales)
        getattr(packed, f"{name}_proj_bias").copy_(part.bias)
    model.model.layers[0].mlp.experts = packed
    got = DecoderWeights.of(model).layers[0]
    for ours, theirs in ((got.gate_up, want.gate_up), (got.down, want.down)):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    packed.down_proj_scales = packed.down_proj_scales[:, 1:]
    with pytest.raises(ValueError, match="down: .*belong together"):
        DecoderWeights.of(model)


@needs_triton
def test_nano_writes_what_nano_writes():
    model, tokenizer = labhelpers.load("nano", torch.float32, DEVICE)
    prompt = tokenizer.encode("What is a token?")[:3]
    decoder = decoder_of(model, max_context=64)
    written = [ids[0] for ids in decoder.generate(prompt, 3)]
    logits = model(torch.tensor([prompt + written], device=DEVICE))[0, len(prompt) - 1 :]  # [4, V]
    assert error(decoder.logits[0], logits[2]) < CLOSE
    for chosen, wanted in zip(written, logits, strict=False):  # the same, or as good as tied
        assert wanted[chosen] >= wanted.max() - 5 * CLOSE


@needs_triton
@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("position", [0, 15, 39, 63, 200])
def test_attention_with_splits_and_a_ring(splits, position):
    batch, kv_heads, groups, places, dim = 2, 2, 3, 64, 32
    torch.manual_seed(position)
    q = torch.randn(batch, kv_heads * groups, dim, device=DEVICE)
    keys, values = torch.randn(2, batch, kv_heads, places, dim, device=DEVICE)
    sinks = torch.randn(kv_heads * groups, device=DEVICE)
    where = torch.tensor([position, position // 2], dtype=torch.int32, device=DEVICE)
    attend = Attention(keys, groups, splits)
    attend.block = 16
    out = torch.full_like(q, torch.nan)
    for _ in range(2):  # the second time the counters must stand at 0 again
        attend(q, keys, values, sinks, where, out)
        real = (torch.arange(places, device=DEVICE)[None] <= where[:, None])[:, None]  # [B, 1, S]
        want = sink_attention(q[:, :, None], keys, values, sinks, real)[:, :, 0]
        assert error(out, want) < (1e-5 if DEVICE == "cpu" else 1e-2)
        out.fill_(torch.nan)


@needs_triton
@pytest.mark.parametrize("experts", [5, 8, 40])
def test_router_chooses_as_the_model_and_lays_planes_out(experts):
    hidden, top_k, eps = 96, 4, 1e-5
    torch.manual_seed(experts)
    x = torch.randn(1, hidden, device=DEVICE) * 30
    norm, weight = torch.rand(hidden, device=DEVICE), torch.randn(experts, hidden, device=DEVICE)
    bias = torch.randn(experts, device=DEVICE)
    weight[3] = weight[1]  # equal logits: the lower id first
    bias[3] = bias[1] = 100.0
    router = Router(hidden, experts, top_k, torch.device(DEVICE))
    router(x, norm, eps, weight, bias)
    normed = torch.nn.functional.rms_norm(x, (hidden,), norm, eps)
    want = route(normed, weight, bias, top_k)
    assert router.ids[0, :2].tolist() == [1, 3]
    assert router.ids[0, 2:].tolist() == want.expert_ids[0, 2:].tolist()
    assert torch.allclose(router.weights, want.weights, atol=1e-5)
    planes = decode.to_planes(normed)
    assert torch.equal(router.planes.unscale, planes.unscale)
    assert error(router.planes.pairs, planes.pairs) < 1e-3


@needs_triton
def test_the_lowest_of_equal_logits_is_chosen():
    weight = torch.zeros(70, 64, device=DEVICE)
    weight[[40, 69]] = 1.0
    head = linear_decode.Head(weight, rows=16)
    token, position = torch.zeros(1, dtype=torch.int64), torch.tensor([6], dtype=torch.int32)
    token, position = token.to(DEVICE), position.to(DEVICE)
    head(torch.ones(1, 64, device=DEVICE), torch.ones(64, device=DEVICE), 1e-5)
    head.choose(token, position)
    assert (token.item(), position.item()) == (40, 7)


@needs_triton
def test_more_rows_than_decode_takes_go_through_grouped():
    small = grouped.Tuning(rows=16, columns=64, depth=64, warps=4, stages=2)
    model = random_model(replace(SMALL, num_hidden_layers=1, layer_types=()))
    tuning = FEW._replace(grouped=small)
    decoder = Decoder(model.config, DecoderWeights.of(model.to(DEVICE)), 8, batch=9, tuning=tuning)
    ids = torch.randint(SMALL.vocab_size, (9, 2), device=DEVICE)
    assert error(decoder.prefill(ids), model(ids)[:, -1]) < CLOSE


@needs_triton
def test_reset_starts_anew_and_a_full_cache_says_so():
    model = random_model(replace(SMALL, num_hidden_layers=1, layer_types=()))
    decoder = decoder_of(model, max_context=3)
    first = decoder.prefill([7, 8, 9]).clone()
    with pytest.raises(ValueError, match="3 places"):
        decoder.step()
    decoder.reset()
    assert torch.equal(decoder.prefill([7, 8, 9]), first)  # and the same bits again


def test_what_the_decoder_refuses():
    model = random_model(replace(SMALL, num_hidden_layers=1, layer_types=()))
    weights = DecoderWeights.of(model)
    if REASON is not None:
        with pytest.raises(ValueError, match="GptOss.generate"):
            Decoder(model.config, weights)
        return
    for options in ({"batch": 0}, {"max_context": 0}, {"max_context": 10_000}):
        with pytest.raises(ValueError, match="max_position_embeddings"):
            Decoder(model.config, weights, **options)
    one, two = (Decoder(model.config, weights, 8, batch=b) for b in (1, 2))
    for decoder, prompt, text in (
        (one, [], "empty"),
        (one, [1, SMALL.vocab_size], "vocab_size"),
        (one, [-1], "vocab_size"),
        (one, [1] * 9, "8 places.* 0 are taken, and 9"),
        (one, [[1, 2], [3, 4]], r"expected \[1, T\]"),
        (two, [1, 2, 3, 4], r"expected \[2, T\]"),  # not two rows of two
    ):
        with pytest.raises(ValueError, match=text):
            decoder.prefill(prompt)
    with pytest.raises(ValueError, match="0..8"):
        one.reset(9)
    for change, text in (
        ({"head_dim": 48}, "head_dim=48"),
        ({"swiglu_limit": 0.1}, "0.279 / alpha"),
    ):
        with pytest.raises(ValueError, match=text):
            Decoder(replace(model.config, **change), weights)
    with pytest.raises(ValueError, match="qkv_pairs=3"):
        Decoder(model.config, weights, tuning=Tuning(qkv_pairs=3))
    model.model.layers[0].mlp.experts.down_proj.mul_(1.1)
    with pytest.raises(ValueError, match="fake_quantize"):
        DecoderWeights.of(model)


@pytest.mark.parametrize(("name", "read", "all_of_it"), [
    ("gpt-oss-20b", 3.7e9, 13.8e9), ("gpt-oss-120b", 5.0e9, 65.2e9),
])  # fmt: skip
def test_bytes_a_token_are_those_of_the_facts(name, read, all_of_it):
    """Counted on meta tensors of the real shapes."""
    config = preset(name)
    hidden, inner, experts = config.hidden_size, config.intermediate_size, config.num_local_experts
    width, rows = config.num_attention_heads * config.head_dim, config.num_key_value_heads
    rows = width + 2 * rows * config.head_dim

    def bf16(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    def packed(out: int, inputs: int) -> Packed:
        scales = torch.empty(experts, out, inputs // 32, dtype=torch.uint8, device="meta")
        return Packed(scales.new_empty(*scales.shape, 16), scales, bf16(experts, out))

    layer = LayerWeights(
        bf16(hidden), bf16(rows, hidden), bf16(rows), bf16(config.num_attention_heads),
        bf16(hidden, width), bf16(hidden), bf16(hidden), bf16(experts, hidden), bf16(experts),
        packed(2 * inner, hidden), packed(hidden, inner),
    )  # fmt: skip
    vocabulary = bf16(config.vocab_size, hidden)
    weights = DecoderWeights(
        vocabulary, [layer] * config.num_hidden_layers, bf16(hidden), vocabulary
    )
    parts = weights.bytes_a_token(config.num_experts_per_tok)
    assert sum(parts.values()) == pytest.approx(read, rel=0.01)
    assert weights.nbytes() == pytest.approx(all_of_it, rel=0.01)
