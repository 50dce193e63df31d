"""Triton kernels in Triton's interpreter, on the CPU, against float64; and their fallbacks.

The interpreter has to be switched on before Triton is imported, and a process that has it on
cannot use a GPU: conftest.py switches it on where no GPU is there.
"""

import subprocess
import sys
import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmarks import reading
from labhelpers import kernels
from labhelpers.kernels import decode, grouped, triton_or_not
from labhelpers.kernels.packed import Packed, experts_plain
from labhelpers.mxfp4 import format as mx

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REASON = triton_or_not.why_not(torch.empty(0, device=DEVICE))
needs_triton = pytest.mark.skipif(REASON is not None, reason=REASON or "")
# The interpreter's time goes by programs, not by their size.
SMALL = {
    kernels.experts_decode: decode.Tuning(gate_up_rows=64, down_rows=32),
    kernels.experts_grouped: grouped.Tuning(rows=16, columns=64, depth=64, warps=4, stages=2),
}


class Case:
    """A layer of random experts and some tokens; ids may be given."""

    def __init__(self, tokens: int, hidden: int, inner: int, experts: int, top_k: int,
                 ids: list[list[int]] | None = None, size: float = 1.0):  # fmt: skip
        torch.manual_seed(tokens + hidden + inner)
        self.hidden = torch.randn(tokens, hidden, device=DEVICE)
        order = torch.rand(tokens, experts).argsort(1)[:, :top_k]
        self.ids = (order if ids is None else torch.tensor(ids)).to(DEVICE)
        self.weights = torch.rand(tokens, top_k, device=DEVICE).softmax(1)
        self.gate_up = self.packed(experts, 2 * inner, hidden, size * hidden**-0.5)
        self.down = self.packed(experts, hidden, inner, inner**-0.5)

    @staticmethod
    def packed(experts: int, out: int, inputs: int, size: float) -> Packed:
        blocks, scales = mx.quantize(torch.randn(experts, out, inputs) * size)
        bias = torch.randn(experts, out).bfloat16()
        return Packed(blocks.to(DEVICE), scales.to(DEVICE), bias.to(DEVICE))

    @property
    def rest(self) -> tuple[Tensor, Tensor, Packed, Packed]:
        return self.ids, self.weights, self.gate_up, self.down

    def exact(self) -> Tensor:
        ids, weights, *packed = self.rest
        return experts_plain(self.hidden.double(), ids, weights.double(), *packed)

    def bf16_matmul(self) -> Tensor:
        """What bf16 inputs and fp32 sums make of it: each matrix's input is rounded to bf16."""
        out = torch.zeros_like(self.hidden)
        for token in range(len(out)):
            for expert, weight in zip(self.ids[token], self.weights[token], strict=True):
                x = self.hidden[token].bfloat16().float()
                for part in (self.gate_up, self.down):
                    matrix = mx.dequantize(part.blocks[expert], part.scales[expert], torch.float32)
                    x = matrix @ x + part.bias[expert].float()
                    if part is self.gate_up:
                        gate, up = x[::2].clamp(max=7.0), x[1::2].clamp(-7.0, 7.0)
                        x = (gate * torch.sigmoid(1.702 * gate) * (up + 1)).bfloat16().float()
                out[token] += weight * x
        return out

    def kernel(self, function) -> Tensor:
        hidden, tuning = self.hidden.bfloat16(), SMALL[function]
        return function(hidden, *self.rest, dtype=torch.float32, tuning=tuning)


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


# tokens, hidden, intermediate, experts, top_k. K of 2 to 34 blocks: less than a warp's 32, not a
# multiple of anything, more than one step; rows that no tile divides.
SHAPES = {
    "one token": (1, 64, 96, 4, 2),
    "odd sizes": (3, 160, 32, 5, 3),
    "all experts": (2, 32, 64, 4, 4),
    "top 1": (2, 96, 32, 3, 1),
    "two steps": (1, 1056, 32, 2, 1),
    "most tokens": (8, 64, 64, 6, 2),
}


@needs_triton
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("function", [kernels.experts_decode, kernels.experts_grouped])
def test_error_is_that_of_bf16_inputs(function, name):
    case = Case(*SHAPES[name])
    exact, got = case.exact(), case.kernel(function)
    assert got.shape == exact.shape and got.isfinite().all()
    assert error(got, exact) <= 2 * error(case.bf16_matmul(), exact)


@needs_triton
@pytest.mark.parametrize("function", [kernels.experts_decode, kernels.experts_grouped])
def test_inputs_that_bf16_holds_come_out_nearly_exact(function):
    """decode sums blocks in fp16 (a quarter of the error of bf16 inputs), the rest in fp32."""
    case = Case(2, 128, 64, 4, 2)
    case.hidden = case.hidden.bfloat16().float()
    exact_dot = DEVICE == "cpu"  # the interpreter multiplies in fp32
    bound = 1e-3 if function is kernels.experts_decode else 2e-6 if exact_dot else 4e-3
    assert error(case.kernel(function), case.exact()) < bound


@needs_triton
@pytest.mark.parametrize("function", [kernels.experts_decode, kernels.experts_grouped])
def test_tokens_that_share_experts_and_experts_without_tokens(function):
    # Expert 2 sees four tokens, in every slot; experts 0 and 5, the first and last, see nobody.
    case = Case(5, 64, 32, 6, 2, ids=[[2, 1], [4, 2], [2, 3], [1, 4], [3, 2]])
    assert error(case.kernel(function), case.exact()) < 4e-3


@needs_triton
@pytest.mark.parametrize("function", [kernels.experts_decode, kernels.experts_grouped])
def test_clamp_is_reached_on_both_sides(function):
    case = Case(2, 64, 32, 3, 2, size=12.0)
    first = mx.dequantize(case.gate_up.blocks, case.gate_up.scales, torch.float32)[case.ids]
    value = torch.einsum("tkoh,th->tko", first, case.hidden)
    gate, up = value[..., ::2], value[..., 1::2]
    for part in (gate > 9, gate < -9, up > 9, up < -9):
        assert part.float().mean() > 0.1
    exact = case.exact()
    assert error(case.kernel(function), exact) <= 2 * error(case.bf16_matmul(), exact)


@needs_triton
@pytest.mark.parametrize("function", [kernels.experts_decode, kernels.experts_grouped])
def test_nan_scale_reaches_only_its_expert(function):
    case = Case(2, 64, 32, 4, 2, ids=[[0, 1], [2, 3]])
    case.gate_up.scales[1, 5, 1] = 255
    got = case.kernel(function)
    assert got[0].isnan().all() and got[1].isfinite().all()


@needs_triton
def test_extreme_scales_and_activations():
    """Subnormal weights (scale 0) and activations of a million: prescaling must not spoil them."""
    case = Case(1, 64, 32, 2, 1)
    case.hidden *= 1e6
    case.gate_up.scales[:] = 100
    case.down.scales[:, ::2] = 0
    case.down.bias[:] = 0
    exact, got = case.exact(), case.kernel(kernels.experts_decode)
    assert error(got[:, 1::2], exact[:, 1::2]) < 5e-3
    assert (got[:, ::2].double() - exact[:, ::2]).abs().max() <= 0.01 * exact[:, ::2].abs().max()


@needs_triton
def test_same_bits_every_time_and_ids_of_either_width():
    case = Case(2, 64, 32, 4, 2)
    for function in (kernels.experts_decode, kernels.experts_grouped):
        first = case.kernel(function)
        assert torch.equal(first, case.kernel(function))
        case.ids = case.ids.int()
        assert torch.equal(first, case.kernel(function))
        case.ids = case.ids.long()


@needs_triton
@pytest.mark.parametrize("rows", [4, 8])  # 4: the default
def test_tuning_changes_no_result(rows):
    case = Case(1, 32, 32, 2, 1)
    tuned = kernels.experts_decode(case.hidden.bfloat16(), *case.rest, dtype=torch.float32,
                                   tuning=decode.Tuning(rows, rows))  # fmt: skip
    torch.testing.assert_close(tuned, case.kernel(kernels.experts_decode), rtol=1e-5, atol=1e-6)


@needs_triton
def test_an_outlier_leaves_the_others_their_bits():
    """fp16 scaled by the largest activation: gpt-oss has some a thousand times the others."""
    case = Case(2, 256, 64, 3, 2)
    case.hidden[:, 77] *= 3000
    first = mx.dequantize(case.gate_up.blocks, case.gate_up.scales, torch.float32)
    # The outlier meets weights of 0, so that what is left comes from the others alone.
    first[:, :, 64:96] = 0
    blocks, scales = mx.quantize(first)
    case.gate_up = Packed(blocks, scales, case.gate_up.bias)
    exact = case.exact()
    assert error(case.kernel(kernels.experts_decode), exact) <= 2 * error(case.bf16_matmul(), exact)


@needs_triton
def test_planes_are_pairs_of_values_four_apart():
    x = torch.randn(3, 96, device=DEVICE).bfloat16()
    x[1] *= 1e-20
    x[2] = 0
    pairs, unscale = decode.to_planes(x)
    largest = x.abs().amax(1).float()
    assert torch.equal(unscale[:2], torch.exp2(largest[:2].log2().floor()))
    back = pairs.permute(0, 2, 3, 1).reshape(3, 96).double() * unscale[:, None].double() / 2**14
    torch.testing.assert_close(back, x.double(), rtol=2**-11, atol=0)


@needs_triton
def test_residual_is_added_in_place():
    case = Case(2, 64, 32, 4, 2)
    residual = torch.randn(2, 64, device=DEVICE)
    want = case.kernel(kernels.experts_decode) + residual
    case.ids = case.ids.contiguous()
    tuning = SMALL[kernels.experts_decode]
    planes = decode.to_planes(case.hidden.bfloat16())
    inner = decode.launch_gate_up(planes, case.ids, case.gate_up, 1.702, 7.0, tuning)
    out = decode.launch_down(inner, case.ids, case.weights, case.down, 7.0, torch.float32, tuning,
                             residual=residual, out=residual)  # fmt: skip
    assert out is residual
    torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(DEVICE == "cpu", reason="a race needs a GPU")
@pytest.mark.parametrize(
    "tuning",
    [(16, 128, 128, 4, 4), (64, 128, 128, 4, 3), (128, 128, 64, 8, 3), (256, 128, 64, 8, 3)],
)
def test_large_tiles_do_not_race(tuning):
    """Registers that tensor cores still read must not be written: seen as NaN on an H100."""
    case = Case(1024, 1024, 512, 4, 2)
    exact = case.exact()
    for _ in range(3):
        got = kernels.experts_grouped(case.hidden.bfloat16(), *case.rest, dtype=torch.float32,
                                      tuning=grouped.Tuning(*tuning))  # fmt: skip
        assert error(got, exact) < 8e-3


# dequantize --------------------------------------------------------------------------------


def same(got: Tensor, want: Tensor) -> bool:
    """Bit for bit, but for what a NaN looks like."""
    bits = got.view(torch.int16) == want.view(torch.int16)
    return got.shape == want.shape and bool((bits | (got.isnan() & want.isnan())).all())


@needs_triton
@pytest.mark.filterwarnings("ignore:overflow encountered")  # that is what scale 254 is for
def test_dequantize_every_byte_with_every_scale():
    byte = torch.arange(256, dtype=torch.uint8, device=DEVICE)
    blocks = byte.view(1, 16, 16).repeat(256, 1, 1)  # row = scale, all bytes in its 16 blocks
    scales = byte.view(256, 1).repeat(1, 16)
    assert same(kernels.dequantize(blocks, scales, words=4096), mx.dequantize(blocks, scales))


@needs_triton
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 7, 9), (0, 4)])
def test_dequantize_odd_shapes(shape):
    blocks = torch.randint(256, (*shape, 16), dtype=torch.uint8, device=DEVICE)
    scales = torch.randint(253, shape, dtype=torch.uint8, device=DEVICE)
    assert same(kernels.dequantize(blocks, scales), mx.dequantize(blocks, scales))


@needs_triton
def test_dequantize_of_a_view():
    blocks = torch.randint(256, (4, 6, 17), dtype=torch.uint8, device=DEVICE)[..., 1:]
    scales = torch.randint(253, (6, 4), dtype=torch.uint8, device=DEVICE).T
    assert same(kernels.dequantize(blocks, scales), mx.dequantize(blocks, scales))


# The plan of tiles -------------------------------------------------------------------------


@needs_triton
@pytest.mark.parametrize(
    "tokens,experts,top_k,rows", [(1, 4, 2, 16), (37, 5, 3, 4), (64, 8, 2, 16)]
)
def test_plan_covers_each_pair_once(tokens, experts, top_k, rows):
    ids = torch.rand(tokens, experts).argsort(1)[:, :top_k]
    ids[ids == 1] = 0  # an expert without tokens, another with many
    tiles = grouped.plan(ids.to(DEVICE), experts, rows)
    seen = []
    for expert, start in zip(tiles.tile_expert.tolist(), tiles.tile_start.tolist(), strict=True):
        if expert < experts:
            end = min(start + rows, tiles.expert_end[expert].item())
            assert start < end
            part = tiles.order[start:end].cpu()
            assert (ids.flatten()[part] == expert).all()
            seen += part.tolist()
    assert sorted(seen) == list(range(tokens * top_k))


# Without Triton ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["experts_decode", "experts_grouped", "dequantize"])
def test_fallback_says_why_and_computes_the_same(monkeypatch, name):
    monkeypatch.setattr(triton_or_not, "triton", None)
    case = Case(2, 64, 32, 3, 2)
    part = case.gate_up
    with pytest.warns(RuntimeWarning, match=f"{name}: Triton is not installed"):
        if name == "dequantize":
            got = kernels.dequantize(part.blocks, part.scales)
            assert same(got, mx.dequantize(part.blocks, part.scales))
        else:
            got = getattr(kernels, name)(case.hidden.bfloat16(), *case.rest)
            assert got.dtype == torch.bfloat16 and error(got, case.exact()) < 2e-2


def test_gpus_that_are_refused(monkeypatch):
    """On machines that this one is not: AMD's, an old one, one of several."""
    first, second = (
        SimpleNamespace(is_cuda=True, device=torch.device("cuda", i)) for i in range(2)
    )
    monkeypatch.setattr(triton_or_not, "triton", object())
    monkeypatch.setattr(triton_or_not, "INTERPRETED", False)
    monkeypatch.setattr(triton_or_not, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert "capability 7.5" in triton_or_not.why_not(first)
    assert "cuda:1" in triton_or_not.why_not(second)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert "AMD" in triton_or_not.why_not(first)


def test_modules_import_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from labhelpers import kernels; import torch\n"
        "print(kernels.why_not(torch.empty(1)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("Triton is not installed")


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_importing_the_package_leaves_triton_alone():
    code = "import sys, labhelpers, labhelpers.config; print('triton' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# Errors ------------------------------------------------------------------------------------


def test_bad_input_is_refused():
    case = Case(2, 64, 96, 3, 2)
    hidden, (ids, weights, gate_up, down) = case.hidden.bfloat16(), case.rest
    for arguments, text in (
        ((hidden.float(), ids, weights, gate_up, down), "bfloat16"),
        ((hidden[:, :32], ids, weights, gate_up, down), r"expected \[T, 64\]"),
        ((hidden, ids[:1], weights, gate_up, down), r"\[2, k\]"),
        ((hidden, ids.float(), weights, gate_up, down), "int32 or int64"),
        ((hidden, ids[:, :0], weights[:, :0], gate_up, down), "at least one expert"),
        ((hidden, ids, weights, down, gate_up), "expected|but down"),
        ((hidden, ids, weights, gate_up._replace(bias=down.bias), down), "belong together"),
        ((hidden, ids, weights, gate_up._replace(scales=gate_up.scales.int()), down), "uint8"),
    ):
        for function in (kernels.experts_decode, kernels.experts_grouped):
            with pytest.raises(ValueError, match=text):
                function(*arguments)
    nine = [torch.cat([t] * 5)[:9] for t in (hidden, ids, weights)]
    with pytest.raises(ValueError, match="experts_grouped"):
        kernels.experts_decode(*nine, gate_up, down)
    for alpha, limit in ((1.702, 0.1), (0.01, 7.0), (1.702, float("inf")), (-1.0, 7.0)):
        with pytest.raises(ValueError, match="0.279 / alpha"):  # SwiGLU would leave fp16
            kernels.experts_decode(hidden, *case.rest, alpha=alpha, limit=limit)


def test_no_tokens():
    case = Case(2, 64, 32, 3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function in (kernels.experts_decode, kernels.experts_grouped):
            got = function(case.hidden[:0].bfloat16(), case.ids[:0], case.weights[:0],
                           case.gate_up, case.down)  # fmt: skip
            assert got.shape == (0, 64)


@needs_triton
def test_the_yardstick_reads_every_byte():
    """A read that an optimiser dropped, or that skips a part, would make the limit too high."""
    threads, steps, programs = 128, 2, 3
    lanes = threads * reading.WORDS
    source = torch.randint(2**20, (programs * steps * lanes + 5,), dtype=torch.int32, device=DEVICE)
    found = torch.empty(programs, dtype=torch.int32, device=DEVICE)
    reading._read[(programs,)](source, found, steps, lanes, num_warps=threads // 32)
    parts = source[: programs * steps * lanes].view(programs, steps, lanes)
    assert torch.equal(found, (parts[:, 0] ^ parts[:, 1]).sum(-1, dtype=torch.int32))
    assert reading.read(source, threads, steps) == programs * steps * lanes * 4
