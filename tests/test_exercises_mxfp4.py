"""Chapter 2's exercises: wrong versions by name, right variants accepted, odd answers told."""

from __future__ import annotations

import json
import math
import warnings
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import labhelpers
from labhelpers import mxfp4, preset
from labhelpers.accounting import bytes_per_token, count_parameters, kv_cache_bytes, weight_bytes
from labhelpers.exercises import all_exercises
from labhelpers.exercises import mxfp4 as ex
from labhelpers.exercises.mxfp4 import damages
from labhelpers.exercises.progress import read
from labhelpers.mxfp4 import FP4_VALUES, fake_quantize
from labhelpers.mxfp4.scales import choose_scales

pytestmark = pytest.mark.usefixtures("one_thread")
MISTAKES = [(e, m) for e in ex.EXERCISES for m in e.mistakes]
ROOT = Path(__file__).parent.parent
MIDDLES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LABHELPERS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "indexing with dtype torch.uint8")
        yield


# -- every exercise ---------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_an_exercise_is_complete(exercise):
    assert exercise.judge(exercise.function).outcome == "right"
    messages = [m.message for m in exercise.mistakes]
    assert len(set(messages)) >= 10 and len(exercise.hints) == 3
    assert len(list(groupby(messages))) == len(set(messages))
    assert 1 <= exercise.difficulty <= 3 and 5 <= exercise.minutes <= 30
    assert exercise.key == f"mxfp4.{exercise.name}"


def test_numbers_run_in_order_and_the_course_knows_them():
    assert [e.number for e in ex.EXERCISES] == [f"2.{i}" for i in range(1, 10)]
    numbers = [tuple(map(int, e.number.split("."))) for e in all_exercises()]
    assert numbers == sorted(numbers) and set(ex.EXERCISES) <= set(all_exercises())


@pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=[f"{e.name}-{m.function.__name__}" for e, m in MISTAKES]
)
def test_a_wrong_version_is_named(exercise, mistake):
    card = exercise.judge(mistake.function)
    assert card.outcome in ("wrong", "raised") and len(card.lines) == 3
    if card.outcome == "wrong":
        assert card.lines[1] == mistake.message
    else:
        assert card.lines[2].startswith(mistake.message + " The notebook goes on")
    assert repr(card) == repr(exercise.judge(mistake.function))


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_the_printed_solution_needs_torch_and_two_functions_only(exercise):
    scope = {"torch": torch, "fake_quantize": fake_quantize, "dequantize": mxfp4.dequantize}
    exec(exercise.source(), scope)
    assert exercise.judge(scope[exercise.name]).outcome == "right"


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_a_stub_is_not_attempted(exercise, home):
    scope: dict = {}
    head = exercise.source().split("\n")[0]
    exec(f'{head}\n    """{exercise.function.__doc__}"""\n    ...', scope)
    assert exercise.check(scope[exercise.name]) is exercise.function
    assert exercise.judge(scope[exercise.name]).outcome == "not attempted"
    assert not home.exists()


def test_a_right_answer_is_recorded_and_returned(capsys):
    assert ex.pack_block.check(pack_by_multiplying) is pack_by_multiplying
    assert "✓ right  exercise 2.4 pack_block\nAll 3 inputs agree" in capsys.readouterr().out
    assert read()[0]["mxfp4.pack_block"]["outcome"] == "right"


# -- odd answers ------------------------------------------------------------------------------

ODD = [
    3.5, float("inf"), float("nan"), "text", [1, 2], (1,), (1, 2), {}, True, object,
    torch.zeros(3), torch.zeros(0), torch.tensor(torch.nan), torch.full((32,), torch.inf),
    torch.full((16,), -torch.inf), torch.zeros(32, dtype=torch.complex64),
    torch.zeros(32, dtype=torch.bool), torch.zeros(16, dtype=torch.int64),
    torch.zeros(32, dtype=torch.uint8, device="meta"), torch.zeros(16).to_sparse(),
    np.zeros(32), np.float64(3.0), np.int64(3),
]  # fmt: skip


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_odd_answers_are_told_plainly(exercise):
    card = exercise.judge(lambda *a: a and None)
    assert card.outcome == "wrong" and "returned nothing" in card.lines[0]
    for odd in ODD:
        card = exercise.judge(lambda *a, odd=odd: odd)
        assert card.outcome == "wrong", odd
        assert "expected" in card.lines[0] and len(card.lines[0]) < 200
        assert repr(card) == repr(exercise.judge(lambda *a, odd=odd: odd))


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("a"), RecursionError("deep")])
def test_errors_are_told_with_the_line(exercise, error):
    def broken(*arguments):
        raise error

    card = exercise.judge(broken)
    assert card.outcome == "raised" and len(card.lines) == 3
    assert card.lines[0].startswith(f"`{type(error).__name__}")
    assert "raise error" in card.lines[1] and card.lines[2].startswith("The notebook goes on")


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_a_list_and_another_dtype_are_told(exercise):
    def as_list(*arguments):
        return exercise.function(*arguments).tolist()

    def as_double(*arguments):
        return exercise.function(*arguments).double()

    expected = exercise.outcome(exercise.function, exercise.cases[0])
    if isinstance(expected, int | float):
        assert exercise.judge(lambda *a: str(exercise.function(*a))).outcome == "wrong"
        assert exercise.judge(lambda *a: [exercise.function(*a)]).outcome == "wrong"
        card = exercise.judge(lambda *a: torch.tensor(exercise.function(*a)))
        assert card.outcome == ("wrong" if exercise is ex.choose_scale else "right")
        return
    if isinstance(expected, str):
        card = exercise.judge(lambda *a: [exercise.function(*a)])
        assert card.lines[0].endswith("expected a text, got `list`.")
        return
    card = exercise.judge(as_list)
    byte = ", dtype=torch.uint8" * (exercise in (ex.quantize_block, ex.pack_block))
    if exercise is not ex.straight_through:  # that is judged with its gradient
        assert f"got `list`. `torch.tensor(...{byte})` makes one of it" in card.lines[0]
    card = exercise.judge(as_double)
    assert "expected dtype" in card.lines[0] and "got `float64`" in card.lines[0]


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_changing_the_input_is_wrong(exercise):
    def in_place(*arguments):
        result = exercise.function(*arguments)
        if isinstance(arguments[0], torch.Tensor):
            arguments[0].data.zero_()
        return result

    card = exercise.judge(in_place)
    if exercise in (ex.weight_gigabytes, ex.tokens_a_second):
        assert card.outcome == "right"
    else:
        assert card.outcome == "wrong" and "in place" in card.lines[0]


def test_a_hint_that_runs_is_right():
    """The last hints are near the code: what they say, typed in, passes."""

    def decode(codes):
        sign, exponent = codes >> 3, (codes >> 1 & 3).float()
        mantissa = (codes & 1).float()
        normal = (1 + mantissa / 2) * 2 ** (exponent - 1)
        magnitude = torch.where(exponent == 0, mantissa / 2, normal)
        return torch.where(sign == 1, -magnitude, magnitude)

    def scale(block):
        largest = float(block.abs().max())
        return 0 if not largest else max(0, math.ceil(math.log2(largest / 6)) + 127)

    def unpack(blocks, values):
        byte = torch.arange(256)
        table = torch.stack((values[byte & 15], values[byte >> 4]), -1)
        return table[blocks.long()].flatten(-2)

    assert ex.decode_e2m1.judge(decode).outcome == "right"
    assert ex.choose_scale.judge(scale).outcome == "right"
    assert ex.unpack_by_table.judge(unpack).outcome == "right"


# -- other ways to write the same: all must pass --------------------------------------------


def decode_by_table(codes):
    return torch.tensor(FP4_VALUES)[codes.long()]


def decode_by_narrow_table(codes):
    return torch.tensor(FP4_VALUES, dtype=torch.bfloat16)[codes.int()].float()


def decode_by_half_table(codes):
    return torch.tensor(FP4_VALUES, dtype=torch.float16).take(codes.long()).float()


def decode_by_shifts(codes):
    codes = codes.int()
    exponent = codes >> 1 & 3
    halves = torch.where(exponent == 0, codes & 1, (2 + (codes & 1)) << (exponent - 1).clamp(min=0))
    return torch.where(codes & 8 > 0, -(halves / 2), halves / 2)


def decode_by_float_bits(codes):
    """The fields moved into a float32's; its subnormals are put right by a factor of 2**126."""
    bits = (codes.int() & 8) << 28 | (codes.int() & 7) << 22
    return bits.view(torch.float32) * 2.0**126


def decode_by_ldexp(codes):
    exponent, mantissa = codes.int() >> 1 & 3, (codes & 1).double()
    normal = torch.ldexp(1 + mantissa / 2, exponent - 1)
    magnitude = torch.where(exponent > 0, normal, mantissa / 2)
    return ((1 - 2 * (codes.double() // 8)) * magnitude).float()


def decode_by_loop(codes):
    out = []
    for code in codes.flatten().tolist():
        exponent, mantissa = code >> 1 & 3, code & 1
        value = (1 + mantissa / 2) * 2 ** (exponent - 1) if exponent else mantissa / 2
        out.append(-value if code & 8 else value)
    return torch.tensor(out).reshape(codes.shape)


def decode_in_bytes(codes):
    """Where e is 0, e - 1 is 255 in bytes; that formula is not chosen there."""
    exponent, mantissa = codes >> 1 & 3, codes & 1
    magnitude = torch.where(exponent == 0, mantissa / 2, (1 + mantissa / 2) * 2 ** (exponent - 1))
    return torch.where(codes > 7, -1, 1) * magnitude


def scale_by_log(block):
    largest = block.abs().max().item()
    return 0 if largest == 0 else max(0, math.ceil(math.log2(largest / 6)) + 127)


def scale_by_tensor(block):
    largest = block.abs().max().double()
    return int((torch.ceil(torch.log2(largest / 6)) + 127).clamp(0, 255))


def scale_as_byte(block):
    largest = block.abs().amax().double()
    return (torch.ceil(torch.log2(largest / 6)) + 127).clamp(0, 255).to(torch.uint8).item()


def scale_by_search(block):
    return next(b for b in range(256) if (block.abs() <= 6 * 2.0 ** (b - 127)).all())


def scale_by_frexp(block):
    fraction, exponent = math.frexp(block.abs().max())
    return 0 if not fraction else max(0, exponent + 127 - (3 if fraction <= 0.75 else 2))


def scale_by_bits(block):
    return int(((block.abs().max().view(torch.int32) + 0x3FFFFF >> 23) - 2).clamp(0, 252))


def scale_by_package(block):
    return choose_scales(block, "round_up").item()


def round_by_zones(block, scale_byte):
    steps = (block / 2 ** (scale_byte - 127)).abs().clamp(max=6)
    high = torch.where(steps < 4, steps.round() + 2, (steps / 2).round() + 4)
    codes = torch.where(steps < 2, (2 * steps).round(), high)
    return codes.byte() | torch.signbit(block).byte() << 3


def round_by_distance(block, scale_byte):
    steps = (block / 2.0 ** (scale_byte - 127)).abs()
    distance = (steps[:, None] - torch.tensor(FP4_VALUES[:8])).abs()
    codes = distance.argmin(-1)
    tied = (distance == distance.min(-1, keepdim=True).values).sum(-1) == 2
    return (codes + (tied & (codes % 2 == 1)) + 8 * (block < 0)).to(torch.uint8)


def round_by_even_first(block, scale_byte):
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # argmin takes the first of two
    steps = (block / 2.0 ** (scale_byte - 127)).abs()
    best = (steps[:, None] - torch.tensor(FP4_VALUES)[order]).abs().argmin(-1)
    return (order[best] + 8 * (block < 0)).to(torch.uint8)


def round_by_loop(block, scale_byte):
    out = []
    for value in block.tolist():
        steps = abs(value) / 2.0 ** (scale_byte - 127)
        out.append(
            min(range(8), key=lambda k: (abs(FP4_VALUES[k] - steps), k % 2)) + 8 * (value < 0)
        )
    return torch.tensor(out, dtype=torch.uint8)


def round_by_buckets(block, scale_byte):
    steps = torch.ldexp(block, torch.tensor(127 - scale_byte)).abs()
    up, down = (torch.bucketize(steps, torch.tensor(MIDDLES), right=r) for r in (True, False))
    return (torch.where(up % 2 == 0, up, down) | (block < 0).long() << 3).to(torch.uint8)


def round_by_package(block, scale_byte):
    steps = block / 2.0 ** (scale_byte - 127)
    six = torch.cat((steps.clamp(-6, 6), torch.full((32,), 6.0)))  # the same scale for both blocks
    half, scales = mxfp4.quantize(torch.cat((six[:31], six[32:33])))
    last, _ = mxfp4.quantize(torch.cat((six[31:32], six[33:])))
    assert scales.item() == 127
    codes = mxfp4.unpack(half)
    codes[31] = mxfp4.unpack(last)[0]
    return codes


def pack_by_multiplying(codes):
    return codes[::2] + 16 * codes[1::2]


def pack_by_pairs(codes):
    low, high = codes.view(16, 2).unbind(-1)
    return low | (high << 4)


def pack_by_sum(codes):
    return (codes.view(16, 2) * torch.tensor([1, 16], dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def pack_by_loop(codes):
    ids = codes.tolist()
    return torch.tensor([ids[2 * j] | ids[2 * j + 1] << 4 for j in range(16)], dtype=torch.uint8)


def pack_filled(codes):
    out = torch.zeros(16, dtype=torch.uint8)
    for j in range(16):
        out[j] = codes[2 * j] + 16 * codes[2 * j + 1]
    return out


def pack_by_package(codes):
    return mxfp4.pack(codes)[0]


def through_by_detached_error(weight):
    return weight + (fake_quantize(weight) - weight).detach()


def through_without_bracket(weight):
    return fake_quantize(weight).detach() - weight.detach() + weight


def through_by_function(weight):
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(context, weight):
            return fake_quantize(weight)

        @staticmethod
        def backward(context, gradient):
            return gradient

    return Rounded.apply(weight)


def through_by_hook(weight):
    zero = weight - weight.detach()
    with torch.no_grad():
        rounded = fake_quantize(weight)
    return zero + rounded


def through_by_package(weight):
    return mxfp4.fake_quantize_ste(weight)


def size_in_bytes_first(total, in_blocks, code_bits, block):
    return (in_blocks * code_bits / 8 + in_blocks // block + 2 * (total - in_blocks)) / 10**9


def size_rounded(total, in_blocks, code_bits, block):
    billions = in_blocks / 1e9
    return round(billions * (code_bits + 8 / block) / 8 + 2 * (total / 1e9 - billions), 2)


def size_by_blocks(total, in_blocks, code_bits, block):
    per_block = block * code_bits // 8 + 1
    return (in_blocks // block * per_block + (total - in_blocks) * 2) / 1_000_000_000


def tokens_by_seconds(bandwidth, shared, expert, experts, top_k, rows):
    met = experts - experts * (1 - top_k / experts) ** rows
    return rows / ((shared + met * expert) / bandwidth)


def tokens_by_adding_rows(bandwidth, shared, expert, experts, top_k, rows):
    met = 0.0
    for _ in range(rows):
        met += (experts - met) * top_k / experts
    return bandwidth / (shared / rows + met * expert / rows)


def tokens_by_gigabytes(bandwidth, shared, expert, experts, top_k, rows):
    missed = torch.tensor(1 - top_k / experts, dtype=torch.float64).pow(rows)
    gigabytes = (shared + (1 - missed) * experts * expert) / 1e9
    return rows * bandwidth / 1e9 / gigabytes


def size_as_tensor(total, in_blocks, code_bits, block):
    return torch.tensor(size_in_bytes_first(total, in_blocks, code_bits, block))


def diagnose_by_packing(blocks, scales, reference):
    """The reference packed in each of the wrong ways: which of them is it?"""
    got = mxfp4.dequantize(blocks, scales, torch.float32)
    for name in damages.NAMES:
        made = mxfp4.dequantize(*damages.damage(name, reference), torch.float32)
        if torch.equal(got.nan_to_num(1e38), made.nan_to_num(1e38)):
            return name
    right, floor = fake_quantize(reference), fake_quantize(reference, "floor")
    by_block = [(got == other).view(96, 3, 32).all(-1) for other in (right, floor)]
    return "floor" if (by_block[0] | by_block[1]).all() else "other"


def diagnose_in_bf16(blocks, scales, reference):
    """Unpacking is exact in bf16 too."""
    right = fake_quantize(reference)

    def fits(b, s):
        return torch.equal(mxfp4.dequantize(b, s).float(), right)

    if fits(blocks, scales):
        return "fine"
    if fits(blocks >> 4 | (blocks & 15) << 4, scales):
        return "nibbles"
    rows = mxfp4.from_ggml(torch.cat((scales[..., None] % 255, blocks), -1).flatten(-2))
    if fits(*rows):
        return "ggml"
    if fits(blocks, torch.cat((scales[:, 1:], scales[:, :1]), 1)):
        return "scales"
    if fits(blocks, ((scales.int() + 127) % 256).byte()):
        return "bias"
    again = [torch.stack((t[:48], t[48:]), 1).flatten(0, 1) for t in (blocks, scales)]
    if fits(*again):
        return "rows"
    got = mxfp4.dequantize(blocks, scales).float()
    if torch.equal(got.T, fake_quantize(reference, dim=0)):
        return "transposed"
    either = (got == right) | (got == fake_quantize(reference, "floor"))
    return "floor" if either.all() else "other"


def unpack_filled(blocks, values):
    table = torch.zeros(256, 2, dtype=values.dtype)
    for byte in range(256):
        table[byte, 0], table[byte, 1] = values[byte & 15], values[byte >> 4]
    return table[blocks.int()].reshape(*blocks.shape[:-1], 32)


def unpack_by_product(blocks, values):
    return torch.cartesian_prod(values, values).flip(-1)[blocks.long()].flatten(-2)


def unpack_by_select(blocks, values):
    pairs = [[values[b % 16], values[b // 16]] for b in range(256)]
    table = torch.tensor(pairs, dtype=values.dtype)
    return table.index_select(0, blocks.flatten().int()).view(*blocks.shape[:-1], 32)


def unpack_without_table(blocks, values):
    return torch.stack((values[(blocks & 15).int()], values[(blocks >> 4).int()]), -1).flatten(-2)


def unpack_by_embedding(blocks, values):
    table = torch.cartesian_prod(values, values).flip(-1)
    return torch.nn.functional.embedding(blocks.long(), table).flatten(-2)


VARIANTS = {
    "diagnose": (diagnose_by_packing, diagnose_in_bf16),
    "decode_e2m1": (
        decode_by_table, decode_by_narrow_table, decode_by_half_table, decode_by_shifts,
        decode_by_float_bits, decode_by_ldexp, decode_by_loop, decode_in_bytes,
    ),
    "choose_scale": (
        scale_by_log, scale_by_tensor, scale_as_byte, scale_by_search,
        scale_by_frexp, scale_by_bits, scale_by_package,
    ),
    "quantize_block": (
        round_by_zones, round_by_distance, round_by_even_first, round_by_loop, round_by_buckets,
        round_by_package,
    ),
    "pack_block": (
        pack_by_multiplying, pack_by_pairs, pack_by_sum, pack_by_loop, pack_filled,
        pack_by_package,
    ),
    "straight_through": (
        through_by_detached_error, through_without_bracket, through_by_function, through_by_hook,
        through_by_package,
    ),
    "weight_gigabytes": (size_in_bytes_first, size_rounded, size_by_blocks, size_as_tensor),
    "tokens_a_second": (tokens_by_seconds, tokens_by_adding_rows, tokens_by_gigabytes),
    "unpack_by_table": (
        unpack_filled, unpack_by_product, unpack_by_select, unpack_without_table,
        unpack_by_embedding,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n, vs in VARIANTS.items() for v in vs],
    ids=lambda x: getattr(x, "__name__", x),
)  # fmt: skip
def test_correct_variants_pass(name, variant):
    card = getattr(ex, name).judge(variant)
    assert card.outcome == "right", repr(card)


def test_every_exercise_has_variants():
    assert set(VARIANTS) == {e.name for e in ex.EXERCISES}


def test_a_detach_on_the_wrong_side_is_named():
    """Every sum of q, w and -w, with each set of `detach`: right, or named by its own sentence."""
    words = {  # by what comes back
        "zero": "1 - 1", "constants": "every `weight`", "none": "no gradient comes back",
        "sign": "wrong sign", "twice": "rounded twice more",
    }  # fmt: skip

    def keep(tensor):
        return tensor

    def cut(tensor):
        return tensor.detach()

    orders = [
        lambda q, a, b: a + (q - b), lambda q, a, b: (q - b) + a, lambda q, a, b: q + (a - b),
        lambda q, a, b: q + a - b, lambda q, a, b: a + q - b, lambda q, a, b: a - (b - q),
    ]  # fmt: skip
    for number, order in enumerate(orders):
        for on_q in (keep, cut):
            for plus in (keep, cut):
                for minus in (keep, cut):

                    def answer(w, parts=(order, on_q, plus, minus)):
                        make, f, g, h = parts
                        return make(f(fake_quantize(w)), g(w), h(w))

                    card = ex.straight_through.judge(answer)
                    twice = number in (3, 4)
                    if (plus, minus) == (keep, cut) and not twice:
                        assert card.outcome == "right"
                        continue
                    assert card.outcome == "wrong" and len(card.lines) == 3
                    if twice and plus is minus is keep:
                        wanted = "1 - 1"
                    elif twice and plus is minus is cut:
                        wanted = words["none" if on_q is cut else "constants"]
                        wanted = "Two things" if on_q is keep else wanted
                    elif plus is keep and minus is keep:
                        wanted = words["zero"]
                    elif plus is cut and minus is cut:
                        wanted = words["none" if on_q is cut else "constants"]
                    else:
                        wanted = words["twice" if plus is keep else "sign"]
                    assert wanted in card.lines[1], (number, card.lines)


@pytest.mark.parametrize(
    "exponent",
    [lambda m: math.log2(m) - math.log2(6), lambda m: math.log(m / 6, 2),
     lambda m: math.log(m / 6) / math.log(2)],
)  # fmt: skip
def test_two_logarithms_are_named(exponent):
    def by_two(block):
        largest = block.abs().max().item()
        return max(math.ceil(exponent(largest)) + 127, 0) if largest > 0 else 0

    card = ex.choose_scale.judge(by_two)
    assert "6 steps of 2**62: expected `189`, got `190`" in card.lines[0]
    assert "off by its last bit" in card.lines[1]


# -- exercise 2.8: damaged weights ---------------------------------------------------------------


def test_the_names_of_the_cases_do_not_tell():
    for case in ex.diagnose.cases:
        assert not any(name in case.name for name in (*damages.NAMES, "other"))
    answers = [ex.diagnose.function(*case.make()) for case in ex.diagnose.cases]
    assert set(answers) == {*damages.NAMES, "other"} and answers.count("other") == 1


@pytest.mark.parametrize("name", damages.NAMES)
def test_a_damage_is_found_in_random_weights_and_in_nano(name):
    torch.manual_seed(3)
    model, _ = labhelpers.load("nano", device="cpu")
    attention = model.model.layers[1].self_attn.q_proj.weight.detach()[:96, :96].float()
    for weight in (torch.randn(96, 96), 0.01 * torch.randn(96, 96), attention.contiguous()):
        blocks, scales = damages.damage(name, weight)
        assert blocks.shape == (96, 3, 16) and scales.shape == (96, 3)
        assert ex.diagnose.function(blocks, scales, weight) == name


def test_damages_show_what_is_still_right():
    torch.manual_seed(0)
    weight = torch.randn(96, 96)
    found = {n: damages.symptoms(*damages.damage(n, weight), weight) for n in damages.NAMES}
    assert found["fine"][1:4] == (1, 1, 1) and 0.05 < found["fine"].error < 0.2
    for name in ("nibbles", "ggml"):
        assert found[name].in_block == found[name].anywhere == 1 and found[name].same < 0.3
    assert found["rows"].anywhere == 1 and found["rows"].in_block < 0.1
    assert found["floor"].same > 0.3 and found["floor"].error < 0.2 and found["floor"].largest < 1
    assert found["transposed"].same < 0.2 and found["transposed"].error > 1
    assert not found["bias"].largest < 1e30 and found["bias"].in_block == 0
    rows = damages.table(weight, ("fine", "bias")).plain().splitlines()
    assert rows[1].split()[:5] == ["fine", f"{found['fine'].error:.2f}", *3 * ["100%"]]
    assert rows[2].split()[0] == "bias" and len(rows) == 3


def test_bad_damages_are_refused():
    with pytest.raises(ValueError, match="unknown damage 'dust'"):
        damages.damage("dust", torch.zeros(32, 32))
    with pytest.raises(ValueError, match="square piece"):
        damages.damage("rows", torch.zeros(64, 32))
    with pytest.raises(ValueError, match="unpacked"):
        damages.symptoms(*damages.damage("fine", torch.zeros(32, 32)), torch.zeros(64, 32))


def test_a_wrong_name_is_told_with_numbers():
    found = lines(ex.diagnose, lambda b, s, r: "fine")
    assert found[0].startswith("Input with weights b: expected `nibbles`, got `fine`. Here 13.5%")
    assert "100% of the blocks hold the right values" in found[0]
    assert lines(ex.diagnose, lambda b, s, r: "Fine")[0].endswith("got `Fine`.")


# -- slips as they are written, not as the wrong versions have them ----------------------------


def lines(exercise, function):
    return exercise.judge(function).lines


def test_slips_in_other_words_are_named():
    found = lines(ex.straight_through, lambda w: w + (fake_quantize(w) - w))
    assert "gradient is zero" in found[1]
    found = lines(ex.straight_through, lambda w: w.detach() + (fake_quantize(w) - w))
    assert "wrong sign" in found[1]
    found = lines(ex.straight_through, lambda w: fake_quantize(w.detach()).requires_grad_())
    assert "in `gradient`: expected a tensor, got `None`" in found[0] and "detached" in found[1]
    found = lines(ex.choose_scale, lambda b: max(0, math.floor(math.log2(b.abs().max())) + 125))
    assert "math domain error" in found[0] and "the rule `floor`" in found[2]
    found = lines(ex.pack_block, lambda c: torch.tensor([c[2 * j + 1] + 16 * c[2 * j]
                                                         for j in range(16)]))  # fmt: skip
    assert "exchanged" in found[1]
    found = lines(ex.weight_gigabytes, lambda t, i, c, b: (i * c / 8 + 2 * (t - i)) / 1e9)
    assert "scales are missing" in found[1]
    found = lines(ex.unpack_by_table, lambda b, v: torch.cat((v[(b & 15).long()],
                                                              v[(b >> 4).long()]), -1))  # fmt: skip
    assert "GGML" in found[1]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_judged_in_a_notebook_that_switched_them_off(mode):
    with mode():
        assert ex.straight_through.judge(through_by_function).outcome == "right"
        assert ex.straight_through.judge(through_by_package).outcome == "right"
        assert "gradient is zero" in ex.straight_through.judge(fake_quantize).lines[1]


def test_the_first_wrong_row_comes_with_both_numbers():
    found = lines(ex.decode_e2m1, lambda codes: ex.decode_e2m1.function(codes & 7))
    assert found[0] == (
        "Input with all sixteen codes: from column 7: expected `6.00 0.00 -0.50 -1.00 -1.50 -2.00`,"
        " got `6.00 0.00 0.50 1.00 1.50 2.00`."
    )
    found = lines(ex.straight_through, lambda w: w.clone())
    assert "in `values`: row 0: expected `0.50 -0.25" in found[0]


# -- the solutions are the package's -----------------------------------------------------------


def test_decoding_is_the_packages():
    got = ex.decode_e2m1.function(torch.arange(16, dtype=torch.uint8))
    expected = torch.tensor(FP4_VALUES)
    assert torch.equal(got, expected)
    assert torch.equal(torch.signbit(got), torch.signbit(expected))


BLOCKS = st.integers(0, 10**6).flatmap(
    lambda seed: st.floats(-160, 126).map(lambda exponent: _random_block(seed, exponent))
)


def _random_block(seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(32, generator=generator)
    return (block / block.abs().max()).double().mul(2**exponent).float()


@given(BLOCKS)
@settings(max_examples=80, deadline=None)
def test_a_block_is_quantized_like_the_packages(block):
    byte = ex.choose_scale.function(block)
    codes = ex.quantize_block.function(block, byte)
    blocks, scales = mxfp4.quantize(block)
    assert scales.item() == byte
    assert torch.equal(codes, mxfp4.unpack(blocks))
    assert torch.equal(ex.pack_block.function(codes), blocks[0])
    values = ex.unpack_by_table.function(blocks, torch.tensor(FP4_VALUES))
    assert torch.equal(values[0], ex.decode_e2m1.function(codes))
    wide = values.double() * 2.0 ** (byte - 127)
    assert torch.equal(wide[0].float(), mxfp4.dequantize(blocks, scales, torch.float32))


@pytest.mark.parametrize("exponent", range(-140, 126, 7))
@pytest.mark.parametrize("mantissa", [1.0, 1.4999999, 1.5, 1.5000001, 1.9999999])
def test_scales_at_the_borders_are_the_packages(exponent, mantissa):
    block = torch.zeros(32)
    block[5] = -mantissa * 2.0**exponent
    assert ex.choose_scale.function(block) == choose_scales(block, "round_up").item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_straight_through_is_the_packages(dtype):
    torch.manual_seed(0)
    weight = torch.randn(7, 64).to(dtype).requires_grad_()
    upstream = torch.randn(7, 64).to(dtype)
    results = []
    for function in (ex.straight_through.function, mxfp4.fake_quantize_ste):
        weight.grad = None
        result = function(weight)
        result.backward(upstream)
        results.append((result.detach(), weight.grad.clone()))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], upstream)
    assert torch.equal(results[1][1], upstream)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt-oss-120b"])
def test_sizes_are_the_packages(name):
    config = preset(name)
    total = sum(count_parameters(config).values())
    experts = config.num_hidden_layers * config.num_local_experts
    in_blocks = 3 * experts * config.hidden_size * config.intermediate_size
    got = ex.weight_gigabytes.function(total, in_blocks, 4, 32)
    assert got == pytest.approx(sum(weight_bytes(config).values()) / 1e9, rel=1e-12)
    cases = {case.name: case.make() for case in ex.weight_gigabytes.cases}
    assert cases[name] == (total, in_blocks, 4, 32)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt-oss-120b"])
def test_tokens_a_second_are_the_packages_and_the_records(name):
    config = preset(name)
    experts, top_k = config.num_local_experts, config.num_experts_per_tok
    need = bytes_per_token(config)
    expert = need.pop("experts") // top_k
    shared = sum(need.values())
    given = [case.make() for case in ex.tokens_a_second.cases]
    assert (3e12, shared, expert, experts, top_k) in [case[:5] for case in given]
    one = ex.tokens_a_second.function(3e12, shared, expert, experts, top_k, 1)
    assert one == pytest.approx(3e12 / sum(bytes_per_token(config).values()), rel=1e-12)
    record = json.loads((ROOT / "benchmarks/recorded/whole_model.json").read_text())
    for row in record["rows"]:
        if row["model"] == name:
            cache = sum(kv_cache_bytes(config, row["context"], row["batch"]).values())
            got = ex.tokens_a_second.function(
                1e9 * record["read_gb_s"], shared + cache, expert, experts, top_k, row["batch"]
            )
            assert got == pytest.approx(row["limit_tok_s"], rel=0.002)


def test_dequantizing_by_the_exercises_is_the_packages():
    torch.manual_seed(1)
    weight = torch.randn(5, 96)
    blocks, scales = mxfp4.quantize(weight)
    values = ex.unpack_by_table.function(blocks, torch.tensor(FP4_VALUES))
    powers = 2.0 ** (scales.float() - 127)
    assert torch.equal((values * powers[..., None]).flatten(-2), fake_quantize(weight))


# -- what a card says beyond the numbers -------------------------------------------------------


def test_equal_numbers_are_not_enough_for_bits():
    plain = [*FP4_VALUES[:8], 0.0, *FP4_VALUES[9:]]  # as who writes -0 for -0.0
    card = ex.decode_e2m1.judge(lambda codes: torch.tensor(plain)[codes.long()])
    assert card.outcome == "wrong" and len(card.lines) == 2
    assert "code 8 is -0.0, and its sign was lost" in card.lines[0]
    card = ex.decode_e2m1.judge(lambda codes: ex.decode_e2m1.function(codes).bfloat16())
    assert "the values are right, but expected dtype `float32`, got `bfloat16`" in card.lines[0]


@pytest.mark.parametrize("power", [lambda e: 2.0 ** (e - 1), lambda e: 2 ** (e - 1)])
def test_a_forgotten_subnormal_in_bytes_is_named(power):
    def forgotten(codes):
        value = (1 + (codes & 1) / 2) * power(codes >> 1 & 3)
        return torch.where(codes > 7, -value, value)

    card = ex.decode_e2m1.judge(forgotten)
    assert "in bytes 0 - 1 is 255" in card.lines[1].replace("In", "in")


def test_integers_of_two_complements_are_named():
    def signed(codes):
        codes = codes.to(torch.int8)
        return torch.where(codes > 7, codes - 16, codes)

    assert "two's complement (int4), -8 to 7" in ex.decode_e2m1.judge(signed).lines[1]
    assert "the codes themselves" in ex.decode_e2m1.judge(lambda codes: codes).lines[1]


@pytest.mark.parametrize("change", [float, torch.tensor, np.int64, np.float32, np.array])
def test_a_scale_byte_is_an_int(change):
    card = ex.choose_scale.judge(lambda block: change(ex.choose_scale.function(block)))
    assert card.outcome == "wrong" and "`int(...)` makes an int of it" in card.lines[0]


def test_a_logarithm_in_float32_is_named():
    def in_float32(block):
        largest = block.abs().max()
        return int(torch.log2(largest / 6).ceil()) + 127 if largest > 1e-30 else 0

    card = ex.choose_scale.judge(in_float32)
    assert card.lines[0] == (
        "Input with a largest weight one float32 above 6 steps: expected `108`, got `107`. "
        "With your byte the largest weight, 5.72204635e-06, is 6.00000048 steps."
    )
    assert "taken in float32" in card.lines[1] and "math.log2" in card.lines[1]


def test_zeros_without_a_logarithm_are_told_with_the_input():
    def at_sea(block):
        return max(0, math.ceil(math.log2(float(block.abs().max()) / 5)) + 127)

    def as_usual(block):
        return max(0, math.ceil(math.log2(block.abs().max().item() / 6)) + 127)

    assert ex.choose_scale.judge(as_usual).lines[2].startswith("This block is all zeros")
    for function in (at_sea, as_usual):
        card = ex.choose_scale.judge(function)
        assert "math domain error" in card.lines[0] and "on the input with zeros" in card.lines[1]


def test_the_first_wrong_weight_is_shown():
    found = lines(ex.quantize_block, lambda b, s: round_by_zones(b, s) + (b == 0.25))
    assert found[0].endswith("Weight 0 is 0.25: code 0 is 0, 1 is 0.5.")
    found = lines(ex.quantize_block, lambda b, s: round_by_zones(b, s) + 2 * (s == 119))
    assert found[0].startswith("Input with weights of 0.02: ")
    assert found[0].endswith("Weight 0 is 0.01999, 5.118 steps: code 7 is 6, 9 is -0.5.")
    values = torch.tensor(FP4_VALUES)
    found = lines(ex.quantize_block, lambda b, s: values[round_by_zones(b, s).flip(0).long()])
    assert "not the values they stand for" in found[0]
    found = lines(ex.quantize_block, lambda b, s: round_by_zones(b, s).flip(0).long())
    assert found[0].endswith("`.to(torch.uint8)` makes bytes of whole numbers.")


def test_either_zero_passes_for_a_weight_of_minus_zero():
    block = torch.full((32,), -0.0)
    assert ex.quantize_block.function(block, 127).unique().item() == 8
    assert all(not torch.signbit(c.make()[0][c.make()[0] == 0]).any()
               for c in ex.quantize_block.cases)  # fmt: skip


def test_bytes_of_python_and_32_of_them_are_told():
    found = lines(ex.pack_block, lambda c: bytes(ex.pack_block.function(c).tolist()))
    assert "`torch.tensor(list(...), dtype=torch.uint8)` makes one of it" in found[0]
    found = lines(ex.pack_block, lambda c: c + 1)
    assert found[0].endswith("Two codes share a byte, so 32 of them are 16 bytes.")
    listed = ex.pack_block.judge(
        lambda c: torch.tensor(ex.pack_block.function(c).tolist(), dtype=torch.uint8)
    )
    assert listed.outcome == "right"


def test_remarks_on_right_answers():
    def said(exercise, function):
        card = exercise.judge(function)
        assert card.outcome == "right"
        return card.lines[1:]

    assert "torch.compile of torch 2.11" in said(ex.straight_through, through_by_function)[0]
    assert "looked up twice" in said(ex.unpack_by_table, unpack_without_table)[0]
    for name, functions in VARIANTS.items():
        for function in functions:
            if function not in (through_by_function, unpack_without_table):
                assert said(getattr(ex, name), function) == [], function.__name__


@pytest.mark.parametrize("exercise", ex.EXERCISES, ids=lambda e: e.name)
def test_hints_are_graded_and_the_last_is_not_the_solution(exercise):
    first, second, third = exercise.hints
    body = [line.strip() for line in exercise.source().split('"""')[-1].splitlines()]
    for hint in exercise.hints:
        assert len(hint) < 420 and not any(len(b) > 30 and b in hint for b in body)
    assert first.count("`") <= second.count("`") + 4 and first != second != third
    assert exercise.hint_card(3).text.endswith(f" Next: `ex.{exercise.name}.solution()`")
    assert "No more hints" in exercise.hint_card().title


def test_the_hints_end(capsys):
    exercise = ex.pack_block
    exercise._hints_given = 0
    for expected in ("Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "No more hints for 2.4", "No mo"):
        exercise.hint()
        assert capsys.readouterr().out.startswith(expected)
