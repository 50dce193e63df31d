"""The mechanics of exercises, and chapter 1's: every wrong version by its own message."""

from __future__ import annotations

import json
import linecache
import os
from itertools import groupby
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from labhelpers import accounting, exercises, preset
from labhelpers.exercises import architecture as ex
from labhelpers.exercises import core, judge, raised
from labhelpers.exercises.architecture.calls import calls
from labhelpers.exercises.progress import data_folder, read, record

pytestmark = pytest.mark.usefixtures("one_thread")
ALL = exercises.all_exercises()
MISTAKES = [(e, m) for e in ALL for m in e.mistakes]
RAISE = {  # these end in an error, not in a result
    "_no_keepdim", "_no_column", "_no_head_axis", "_no_weight_column", "_too_many",
    "_if", "_loop", "_as_mask", "_floor_of_zero", "_floor_of_torch", "_log_of_zero",
    "_minus_infinity", "_item_of_minus_infinity", "_in_place", "_flat_blocks", "_short_table",
    "_nibbles_as_mask", "_table_as_mask", "_power_too_large", "_lying_table",
    "_not_transposed", "_number_as_slot", "_number_as_slot_twice",
}  # fmt: skip
WRONG = [(e, m) for e, m in MISTAKES if m.function.__name__ not in RAISE]
RAISED = [(e, m) for e, m in MISTAKES if m.function.__name__ in RAISE]


def mistake_names(mistakes):
    return [f"{e.name}-{m.function.__name__}" for e, m in mistakes]


pytestmark = pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LABHELPERS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# -- chapter 1's exercises -----------------------------------------------------------------


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.name)
def test_an_exercise_is_complete(exercise):
    assert exercise.judge(exercise.function).outcome == "right"
    messages = [m.message for m in exercise.mistakes]
    assert len(set(messages)) >= 5 and len(exercise.hints) in (2, 3)
    # Ways to make one mistake stand together: a message that comes back later is a slip of ours.
    assert len(list(groupby(messages))) == len(set(messages))
    assert 1 <= exercise.difficulty <= 3 and 5 <= exercise.minutes <= 30
    assert exercise.function.__doc__


def test_numbers_run_in_order():
    assert [e.number for e in ex.EXERCISES] == [f"1.{i}" for i in range(1, len(ex.EXERCISES) + 1)]


@pytest.mark.parametrize(("exercise", "mistake"), WRONG, ids=mistake_names(WRONG))
def test_a_wrong_version_is_named(exercise, mistake):
    card = exercise.judge(mistake.function)
    assert card.outcome == "wrong"
    assert card.lines[1] == mistake.message, "another mistake's message, or none"
    assert len(card.lines) == 3
    assert repr(card) == repr(exercise.judge(mistake.function))


@pytest.mark.parametrize(("exercise", "mistake"), RAISED, ids=mistake_names(RAISED))
def test_a_wrong_version_that_raises_is_named_beside_its_error(exercise, mistake):
    card = exercise.judge(mistake.function)
    assert card.outcome == "raised" and len(card.lines) == 3
    kinds = ("RuntimeError", "IndexError", "ValueError", "OverflowError")
    assert card.lines[0].startswith(tuple(f"`{kind}: " for kind in kinds))
    assert card.lines[1].startswith("in your line ")
    assert card.lines[2].startswith(mistake.message + " The notebook goes on")
    assert repr(card) == repr(exercise.judge(mistake.function))


def test_every_exercise_names_its_likeliest_slips():
    assert len(MISTAKES) >= 110 and {m.function.__name__ for _, m in RAISED} == RAISE


@pytest.mark.parametrize(("exercise", "mistake"), WRONG, ids=mistake_names(WRONG))
def test_a_wrong_version_misses_the_tolerance_by_far(exercise, mistake):
    errors = []
    for case in exercise.cases:
        got = exercise.outcome(mistake.function, case)
        expected = exercise.outcome(exercise.function, case)
        pairs = (
            zip(got, expected, strict=True) if isinstance(expected, tuple) else [(got, expected)]
        )
        for a, b in pairs:
            if isinstance(b, torch.Tensor) and isinstance(a, torch.Tensor):
                errors.append(judge.largest_error(a, b))
            elif isinstance(b, float) and isinstance(a, int | float):
                errors.append(abs(a - b) / (1 + abs(b)))
            elif isinstance(b, list | torch.Tensor):
                errors.append(0.0 if judge.same(a, b, 0.0) else float("inf"))
            else:
                errors.append(float("inf") if a != b else 0.0)
    assert max(errors) > 100 * exercise.tolerance


# Other ways to write the same: all must pass.


def layer_norm_free(x, weight, eps):
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


def norm_by_division(x, weight, eps):
    wide = x.double()
    root = (wide.pow(2).sum(-1, keepdim=True) / x.shape[-1] + eps).sqrt()
    return (wide / root * weight.double()).to(x.dtype)


def angles_by_outer(positions, head_dim, theta):
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
    return torch.outer(positions.float(), frequencies)


def rope_by_rotate_half(x, cos, sin):
    cos, sin = (torch.cat((t, t), -1)[:, None] for t in (cos, sin))
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def rope_by_complex(x, cos, sin):
    a, b = x.chunk(2, -1)
    turned = torch.complex(a, b) * torch.complex(cos, sin)[:, None]
    return torch.cat((turned.real, turned.imag), -1)


def kv_by_expand(kv, groups):
    return kv[:, None].expand(-1, groups, -1, -1).flatten(0, 1)


def kv_by_index(kv, groups):
    return kv[torch.arange(len(kv) * groups) // groups]


def route_softmax_first(hidden, weight, bias, top_k):
    values, ids = F.linear(hidden, weight, bias).softmax(-1).topk(top_k)
    return ids, values / values.sum(-1, keepdim=True)


def route_by_sort(hidden, weight, bias, top_k):
    logits, ids = F.linear(hidden, weight, bias).sort(descending=True)
    return [ids[:, :top_k], logits[:, :top_k].softmax(-1)]


def route_by_take(hidden, weight, bias, top_k):
    logits = torch.addmm(bias, hidden, weight.T)
    ids = logits.argsort(-1, descending=True)[:, :top_k]
    exps = logits.gather(-1, ids).exp()
    return ids, exps / exps.sum(-1, keepdim=True)


def route_by_torch_topk(hidden, weight, bias, top_k):
    best = torch.topk(F.linear(hidden, weight, bias), top_k, sorted=True)
    return best.indices, F.softmax(best.values, dim=1)


def swiglu_by_silu(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return F.silu(gate * alpha) / alpha * (up + 1)


def swiglu_by_three_terms(gate_up, alpha, limit):
    gate, up = gate_up[..., 0::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    glu = gate * torch.sigmoid(gate * alpha)
    return glu * up + glu


def swiglu_by_shape(gate_up, alpha, limit):
    gate, up = gate_up.unflatten(-1, (-1, 2)).unbind(-1)
    gate, up = torch.minimum(gate, torch.tensor(limit)), up.clip(-limit, limit)
    return gate / (1 + torch.exp(-alpha * gate)) * (1 + up)


def mix_by_loops(hidden, expert_ids, weights, expert):
    out = torch.zeros_like(hidden)
    for t in range(len(hidden)):
        for j in range(expert_ids.shape[1]):
            out[t] = out[t] + weights[t, j] * expert(expert_ids[t, j], hidden[t])
    return out


def mix_all_experts(hidden, expert_ids, weights, expert):
    share = torch.zeros(len(hidden), int(expert_ids.max()) + 1).scatter(1, expert_ids, weights)
    return sum(share[:, e, None] * expert(e, hidden) for e in range(share.shape[1]))


def mix_by_range(hidden, expert_ids, weights, expert):
    out = torch.zeros_like(hidden)
    for e in range(int(expert_ids.max()) + 1):
        token, slot = (expert_ids == e).nonzero(as_tuple=True)
        if len(token):
            out.index_add_(0, token, weights[token, slot].unsqueeze(-1) * expert(e, hidden[token]))
    return out


def block_in_one_line(x, norm_1, attention, norm_2, mlp):
    return (y := x + attention(norm_1(x))) + mlp(norm_2(y))


def block_by_clone(x, norm_1, attention, norm_2, mlp):
    x = x.clone()
    x += attention(norm_1(x))
    x += mlp(norm_2(x))
    return x


def block_with_residual(x, norm_1, attention, norm_2, mlp):
    residual = x
    x = torch.add(residual, attention(norm_1(x)))
    residual = x
    return torch.add(residual, mlp(norm_2(x)))


def block_with_names(x, norm_1, attention, norm_2, mlp):
    after = attention(norm_1(x)) + x
    return mlp(norm_2(after)).add(after)


def greedy_token_by_token(step, prompt, stop, max_new_tokens):
    for token in prompt[:-1]:
        step([token])
    out, last = [], prompt[-1]
    for _ in range(max_new_tokens):
        last = step([last]).argmax().item()
        out += [last]
        if last in stop:
            return out
    return out


def greedy_by_item(step, prompt, stop, max_new_tokens):
    out = [torch.argmax(step(prompt)).item()]
    while out[-1] not in stop and len(out) < max_new_tokens:
        out.append(step([out[-1]]).argmax(-1).item())
    return out


def greedy_feeding_tensors(step, prompt, stop, max_new_tokens):
    out, new = [], prompt
    while len(out) < max_new_tokens:
        new = [step(new).argmax()]  # a tensor may be fed, as long as ints come back
        out.append(int(new[0]))
        if out[-1] in stop:
            break
    return out


def active_by_package(config):
    from labhelpers.accounting import count_active_parameters

    return sum(count_active_parameters(config).values())


def active_by_hand(c):
    q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    attention = c.hidden_size * (2 * q + 2 * kv) + q + 2 * kv + c.hidden_size
    attention += c.num_attention_heads
    expert = 3 * c.hidden_size * c.intermediate_size + 2 * c.intermediate_size + c.hidden_size
    router = c.num_local_experts * (c.hidden_size + 1)
    layer = attention + router + c.num_experts_per_tok * expert + 2 * c.hidden_size
    return c.num_hidden_layers * layer + c.hidden_size + c.vocab_size * c.hidden_size


def flat(value):
    """All tensors in what a part was given or returned."""
    if isinstance(value, tuple | list):
        return [t for item in value for t in flat(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def far(got, right):
    pairs = zip(flat(got), flat(right), strict=True)
    return any(not (a - b).abs().max() / b.abs().max().clamp(1e-30) < 1e-4 for a, b in pairs)


def hunt_by_parity_card(suspect, reference, ids):
    from labhelpers.viz import parity

    for name, (fed, right) in calls(reference, ids).items():
        pairs = zip(flat(suspect.get_submodule(name)(*fed)), flat(right), strict=True)
        if not all(parity(name, a, b) for a, b in pairs):
            return name


def hunt_by_two_passes(suspect, reference, ids):
    ours = calls(suspect, ids)
    for name, (fed, right) in calls(reference, ids).items():
        if far(ours[name][1], right) and not far(ours[name][0], fed):
            return name
    return None


def hunt_the_other_way_round(suspect, reference, ids):
    guilty = [
        name
        for name, (fed, got) in calls(suspect, ids).items()
        if far(got, dict(reference.named_modules())[name](*fed))
    ]
    return guilty[0] if guilty else None


VARIANTS = {
    "rms_norm": (layer_norm_free, norm_by_division),
    "rope_angles": (angles_by_outer,),
    "apply_rope": (rope_by_rotate_half, rope_by_complex),
    "repeat_kv": (kv_by_expand, kv_by_index),
    "route": (route_softmax_first, route_by_sort, route_by_take, route_by_torch_topk),
    "swiglu": (swiglu_by_shape, swiglu_by_silu, swiglu_by_three_terms),
    "mix_experts": (mix_by_loops, mix_all_experts, mix_by_range),
    "block": (block_with_names, block_in_one_line, block_by_clone, block_with_residual),
    "greedy": (greedy_token_by_token, greedy_by_item, greedy_feeding_tensors),
    "active_parameters": (active_by_hand, active_by_package),
    "first_wrong_part": (hunt_by_parity_card, hunt_by_two_passes, hunt_the_other_way_round),
}


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n, vs in VARIANTS.items() for v in vs],
    ids=lambda x: getattr(x, "__name__", x),
)  # fmt: skip
def test_correct_variants_pass(name, variant):
    card = getattr(ex, name).judge(variant)
    assert card.outcome == "right", repr(card)


def test_every_exercise_has_a_variant():
    assert set(VARIANTS) == {e.name for e in ex.EXERCISES}


def test_solutions_equal_the_package():
    from labhelpers.model.attention import sink_attention, visible
    from labhelpers.model.moe import MLP, route, swiglu
    from labhelpers.model.norm import RMSNorm
    from labhelpers.model.rope import apply_rope, inverse_frequencies

    torch.manual_seed(0)
    config = preset("nano")
    norm = RMSNorm(16, 1e-5)
    torch.nn.init.normal_(norm.weight)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(5, 16, dtype=dtype)
        assert torch.equal(ex.rms_norm.function(x, norm.weight, 1e-5), norm(x))
    plain = type(config)(**{**vars(config), "rope_scaling": None})
    angles = ex.rope_angles.function(torch.arange(40), config.head_dim, config.rope_theta)
    theirs = torch.arange(40)[:, None] * inverse_frequencies(plain)
    assert torch.allclose(angles, theirs, rtol=1e-6)
    q = torch.randn(7, 6, 8)
    cos, sin = torch.randn(7, 4), torch.randn(7, 4)
    package = apply_rope(q.transpose(0, 1)[None], cos[None], sin[None])[0].transpose(0, 1)
    assert torch.equal(ex.apply_rope.function(q, cos, sin), package)
    heads, kv = torch.randn(1, 6, 7, 8), torch.randn(1, 3, 7, 8)
    seen = visible(torch.arange(7)[None], torch.arange(7)[None], None)
    full = ex.repeat_kv.function(kv[0], 2)[None]
    sinks = torch.randn(6)
    shared, repeated = (sink_attention(heads, k, k, sinks, seen) for k in (kv, full))
    assert torch.allclose(shared, repeated, atol=1e-6)
    hidden, weight, bias = torch.randn(9, 16), torch.randn(8, 16), torch.randn(8)
    ids, weights = ex.route.function(hidden, weight, bias, 4)
    reference = route(hidden, weight, bias, 4)
    assert torch.equal(ids, reference.expert_ids)
    assert torch.allclose(weights, reference.weights, atol=1e-6)
    gate_up = 8 * torch.randn(9, 12)
    assert torch.equal(ex.swiglu.function(gate_up, 1.702, 7.0), swiglu(gate_up))
    small = type(config)(**{**vars(config), "hidden_size": 16, "intermediate_size": 6})
    mlp = MLP(small)
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        routing = mlp.router(hidden)
        mixed = ex.mix_experts.function(
            hidden, routing.expert_ids, routing.weights, mlp.experts.expert
        )
        assert torch.allclose(mixed, mlp(hidden[None])[0], atol=1e-5)


def test_greedy_equals_the_package():
    from labhelpers.model import GptOss

    config = type(preset("nano"))(
        vocab_size=60, hidden_size=32, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=4,
    )  # fmt: skip
    torch.manual_seed(1)
    model = GptOss(config).eval()
    model.reset_parameters(std=0.3)
    expected = list(model.generate([3, 5, 7], max_new_tokens=12, stop=set(), fast=False))
    cache = model.new_cache()
    with torch.no_grad():
        ours = ex.greedy.function(
            lambda ids: model(torch.tensor([ids]), cache=cache)[0, -1], [3, 5, 7], set(), 12
        )
    assert ours == expected


# -- the mechanics ---------------------------------------------------------------------------


def define(source: str, name: str = "reader_cell.py"):
    """A function as a notebook defines it: its source is known to linecache only."""
    scope: dict = {"torch": torch}
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), scope)
    return next(v for k, v in scope.items() if k not in ("torch", "__builtins__"))


@pytest.mark.parametrize("body", [
    "...", '"""Doc."""\n    ...', '"""Doc."""', "pass", "# to do\n    ...",
    '"""Doc."""\n    raise NotImplementedError', "raise NotImplementedError()",
])  # fmt: skip
def test_untouched_bodies(body, home, capsys):
    stub = define(f"def rms_norm(x, weight: int, eps=1e-5, *, more=2):\n    {body}\n")
    assert core.is_untouched(stub)
    assert ex.rms_norm.check(stub) is ex.rms_norm.function
    assert capsys.readouterr().out == (
        "○ not attempted  exercise 1.1 rms_norm\n"
        "Fill in the body, then run this cell again. "
        "The notebook goes on with the course's version.\n"
    )
    assert not home.exists(), "an untouched notebook writes no file"


@pytest.mark.parametrize("body", ["return x", "x = 1\n    ...", "return None or x", "x.float()"])
def test_touched_bodies(body):
    assert not core.is_untouched(define(f"def rms_norm(x, weight, eps):\n    {body}\n"))
    assert not core.is_untouched(torch.relu)


@pytest.mark.parametrize(("body", "words"), [
    ("y = x.float()\n    return None", "it returned `None`, as a `return` in it says"),
    ("y = x.float()\n    return", "it returned `None`, as a `return` in it says"),
    ("print(eps, end='')", "`print` shows a value, `return` hands it"),
    ("y = x.float()", "does the function end with `return`?"),
])  # fmt: skip
def test_nothing_is_told_by_how_it_came(body, words):
    cell = define(f"def rms_norm(x, weight, eps):\n    {body}\n")
    card = ex.rms_norm.judge(cell)
    assert card.outcome == "wrong" and words in card.lines[0] and len(card.lines) == 2


def test_right_returns_the_readers_function(capsys):
    assert ex.route.check(route_softmax_first) is route_softmax_first
    assert capsys.readouterr().out == (
        "✓ right  exercise 1.5 route\nAll 2 inputs agree: 7 experts, 3 a token, 1 expert a token.\n"
    )
    assert read()[0]["architecture.route"]["outcome"] == "right"


def test_wrong_text(capsys):
    mistake = next(m for m in ex.greedy.mistakes if "left out" in m.message)
    assert ex.greedy.check(mistake.function) is ex.greedy.function
    assert capsys.readouterr().out == (
        "✗ wrong  exercise 1.9 greedy\n"
        "Input with one stop token: expected [8, 0, 7, 0, 1, 6], got [8, 0, 7, 0, 1].\n"
        "The stop token is left out: whoever reads the turn needs it.\n"
        "The notebook goes on with the course's version. Next: ex.greedy.hint()\n"
    )


@pytest.mark.parametrize(("change", "words"), [
    (torch.tensor, "got a tensor: `.tolist()` makes a list"),
    (lambda out: [torch.tensor(t) for t in out], "got a list of tensors: `int(...)` makes an int"),
    (lambda out: [*out[:-1], torch.tensor([out[-1]])], "got a list of tensors"),
    (tuple, "got `tuple`"),
    (lambda out: [float(t) for t in out], "but it holds a `float`"),
    (lambda out: [list(out)], "but it holds a `list`"),
    (lambda out: None, "returned nothing"),
])  # fmt: skip
def test_greedy_must_return_plain_ints(change, words):
    card = ex.greedy.judge(lambda *a: change(ex.greedy.function(*a)))
    assert card.outcome == "wrong" and len(card.lines) == 2 and words in card.lines[0]
    assert "plain ints" in card.lines[0] or change(()) is None
    assert "a list of plain ints" in ex.greedy.function.__doc__


def test_a_tensor_is_never_found_in_the_stop_tokens():
    def looked_up_as_a_tensor(step, prompt, stop, max_new_tokens):
        out, new = [], list(prompt)
        while len(out) < max_new_tokens:
            token = step(new).argmax()
            out.append(token.item())
            if token in stop:
                break
            new = [token]
        return out

    card = ex.greedy.judge(looked_up_as_a_tensor)  # by its numbers as if nothing were looked up
    assert card.outcome == "wrong" and "never found in a set of ints" in card.lines[1]


def test_a_float_is_judged_within_the_tolerance():
    for got in (13.76, 13.7601, torch.tensor(13.76)):
        assert judge.difference(got, 13.76, 1e-3) == "" and judge.same(got, 13.76, 1e-3)
    assert judge.difference(13.9, 13.76, 1e-3) == "Expected `13.76`, got `13.90`."
    for got in (float("nan"), float("inf"), "13.76", True, None, [13.76], torch.zeros(1)):
        assert judge.difference(got, 13.76, 1e-3) and not judge.same(got, 13.76, 1e-3)


def test_what_is_not_a_number_equals_itself_only():
    odd = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf])
    assert judge.same(odd, odd.clone(), 0.0) and judge.largest_error(odd, odd.clone()) == 0.0
    for place in range(4):
        for value in (2.0, torch.nan, torch.inf, -torch.inf):
            other = odd.clone()
            other[place] = value
            alike = torch.equal(other.nan_to_num(7, 8, 9), odd.nan_to_num(7, 8, 9))
            assert judge.same(other, odd, 1e-5) is alike
            assert judge.same(odd, other, 1e-5) is alike


def test_a_tensor_without_numbers_is_told_plainly():
    for got, kind in (
        (torch.zeros(3, device="meta"), "meta"),
        (torch.eye(3).to_sparse(), "sparse"),
    ):
        assert f"got a {kind} one" in judge.difference(got, torch.eye(3), 0.0)


def test_an_error_is_named_only_if_it_is_alike():
    def mean_first(x, weight, eps):  # the same shapes meet, the other way round
        root = torch.rsqrt(x.float().square().mean(-1) + eps)
        return (root * x.float() * weight).to(x.dtype)

    def elsewhere(x, weight, eps):
        return weight * x.float().mean(-1)

    assert "keepdim=True" in ex.rms_norm.judge(mean_first).lines[2]
    for other in (elsewhere, lambda *a: 1 / 0, lambda x: x):
        card = ex.rms_norm.judge(other)
        assert card.outcome == "raised" and card.lines[-1].startswith("The notebook goes on")
    # Where the named version raises, a result of None is another thing.
    assert len(ex.rms_norm.judge(lambda x, weight, eps: x.float() is x or None).lines) == 2


def test_errors_are_alike_by_type_and_numbers():
    one, two = raised.Raised(ValueError("3 and 8")), raised.Raised(ValueError("8, then 3"))
    assert raised.alike(one, two, 0.0)
    deaf, dumb = raised.Raised(ValueError("deaf")), raised.Raised(ValueError("dumb"))
    assert not raised.alike(deaf, dumb, 0.0)  # without numbers the text decides
    assert raised.alike(deaf, raised.Raised(ValueError("deaf")), 0.0)
    for other in (raised.Raised(ValueError("3 and 9")), raised.Raised(TypeError("3 and 8")), None):
        assert not raised.alike(one, other, 0.0) and not raised.alike(other, one, 0.0)


def test_stacked_halves_are_named_after_the_shape():
    card = ex.apply_rope.judge(
        lambda x, cos, sin: torch.stack(ex.apply_rope.function(x, cos, sin).chunk(2, -1), -1)
    )
    assert "expected shape `[5, 3, 8]`, got `[5, 3, 4, 2]`" in card.lines[0]
    assert "torch.stack" in card.lines[1] and "torch.cat" in card.lines[1]


def test_an_unknown_mistake_gets_no_name():
    card = ex.swiglu.judge(lambda gate_up, alpha, limit: gate_up[..., ::2] * 3.14)
    assert card.outcome == "wrong" and len(card.lines) == 2


def test_raised_names_the_readers_line(capsys):
    cell = define("def rms_norm(x, weight, eps):\n    y = x.float()\n    return y[99] * weight\n")
    assert ex.rms_norm.check(cell) is ex.rms_norm.function
    assert capsys.readouterr().out == (
        "! raised  exercise 1.1 rms_norm\n"
        "IndexError: an index is out of bounds for dimension 0 with size 3\n"
        "in your line 3, on the input with 3 tokens of width 8: return y[99] * weight\n"
        "The notebook goes on with the course's version. Next: ex.rms_norm.hint()\n"
    )


def test_raised_is_the_same_on_every_run():
    cell = define("def rms_norm(x, weight, eps):\n    raise ValueError(f'no {object()} `here`')\n")
    first, second = (repr(ex.rms_norm.judge(cell)) for _ in range(2))
    assert first == second and " at 0x" not in first
    too_few = ex.rms_norm.judge(lambda x: x)
    assert too_few.outcome == "raised" and "argument" in too_few.lines[0]


def test_a_bare_token_is_told_from_a_list():
    def bare(step, prompt, stop, max_new_tokens):
        token = int(step(prompt).argmax())
        return [token, int(step(token).argmax())]

    assert "step([token])" in ex.greedy.judge(bare).lines[0]
    tensor = ex.greedy.judge(lambda step, *rest: [int(step(torch.tensor(3)).argmax())])
    assert "step([token])" in tensor.lines[0]


def test_a_prompt_in_pieces_is_right_and_remarked_on():
    card = ex.greedy.judge(greedy_token_by_token)
    assert card.outcome == "right" and "piece by piece" in card.lines[-1]
    for function in (greedy_by_item, greedy_feeding_tensors, ex.greedy.function):
        assert len(ex.greedy.judge(function).lines) == 1


def test_embedding_and_head_are_told_apart_by_a_remark():
    source = (
        "def active_parameters(config):\n"
        "    parts = count_parameters(config)\n"
        "    parts['experts'] = parts['experts'] * config.num_experts_per_tok\n"
        "    parts['experts'] //= config.num_local_experts\n"
        "    return sum(n for name, n in parts.items() if name != '{}')\n"
    )
    for left_out, lines in (("unembedding", 2), ("embedding", 1)):
        scope = {"count_parameters": accounting.count_parameters}
        exec(source.format(left_out), scope)
        card = ex.active_parameters.judge(scope["active_parameters"])
        assert card.outcome == "right" and len(card.lines) == lines
        assert scope["count_parameters"] is accounting.count_parameters
    for function in (active_by_hand, active_by_package, ex.active_parameters.function):
        assert len(ex.active_parameters.judge(function).lines) == 1


def test_a_list_of_tensors_is_to_be_stacked():
    cards = [
        ex.repeat_kv.judge(lambda kv, groups: list(ex.repeat_kv.function(kv, groups))),
        ex.mix_experts.judge(lambda *a: list(ex.mix_experts.function(*a))),
    ]
    for card in cards:
        assert "got `list`. Of a list of tensors `torch.stack(...)` makes one" in card.lines[0]
    numbers = ex.rope_angles.judge(lambda *a: ex.rope_angles.function(*a).tolist())
    assert "`torch.tensor(...)` makes one of it" in numbers.lines[0]


def test_an_endless_loop_is_reported():
    def rms(step, prompt, stop, max_new_tokens):
        while True:
            step(prompt)

    assert "does the loop ever end" in repr(ex.greedy.judge(rms))


def test_changing_the_input_is_wrong():
    def in_place(x, norm_1, attention, norm_2, mlp):
        x += attention(norm_1(x))
        return x + mlp(norm_2(x))

    card = ex.block.judge(in_place)
    assert card.outcome == "wrong" and "in place" in card.lines[0]


@pytest.mark.parametrize(("answer", "words"), [
    (lambda h, *a: h.float() is None or None, "returned nothing"),
    (lambda *a: torch.zeros(6, 3), "must return 2 things: `expert_ids, weights`"),
    (lambda h, w, b, k: (torch.zeros(6, 2, dtype=torch.int64), torch.zeros(6, 3)),
     "in `expert_ids`: expected shape `[6, 3]`, got `[6, 2]`"),
    (lambda h, w, b, k: ex.route.function(h.double(), w.double(), b.double(), k),
     "in `weights`: expected dtype `float32`, got `float64`"),
    (lambda *a: ("ids", "weights"), "expected a tensor, got `str`"),
    (lambda h, w, b, k: (ex.route.function(h, w, b, k)[0], torch.full((6, 3), torch.nan)),
     "token 0: expected"),
])  # fmt: skip
def test_diagnosis_comes_in_order(answer, words):
    card = ex.route.judge(answer)
    assert card.outcome == "wrong" and words in card.lines[0], card.lines


def test_numbers_get_as_many_decimals_as_they_need():
    a = torch.tensor([[1.0, 2.0], [3.0, -1e-9]])
    b = a.clone()
    b[1, 0] += 0.0004
    assert judge.difference(b, a, 1e-6, ("token",)) == (
        "Token 1: expected `3.0000 0.0000`, got `3.0004 0.0000`."
    )
    assert judge.difference(a, a.clone(), 0.0) == ""


@given(st.integers(0, 29), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_any_changed_number_is_found(place, change):
    expected = torch.linspace(-3, 3, 30).reshape(2, 3, 5)
    got = expected.clone()
    got.view(-1)[place] += change
    text = judge.difference(got, expected, 1e-5, ("head", "token"))
    assert text.startswith(f"Head {place // 15}, token {place % 15 // 5}: expected")


# -- hints and solutions ---------------------------------------------------------------------


def test_hints_come_one_by_one(capsys):
    exercise = core.Exercise(
        "9.9", ex.route.function, ex.route.cases, ("one", "two"), 5, 1, (), (), 1e-5
    )
    for expected in ("Hint 1 of 2", "Hint 2 of 2", "No more hints", "No more hints"):
        exercise.hint()
        said = capsys.readouterr().out
        assert expected in said and ("ex.route.solution()" in said) is (expected != "Hint 1 of 2")
    assert "there are 2" in said and "ex.route.hint(1)" in said
    exercise.hint(1)
    assert "one" in capsys.readouterr().out
    exercise.hint()
    assert "No more hints" in capsys.readouterr().out
    with pytest.raises(ValueError, match="hints 1 to 2"):
        exercise.hint(3)
    assert read()[0]["architecture.route"]["hints"] == 2


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.name)
def test_the_printed_solution_is_the_tested_function(exercise, capsys):
    exercise.solution()
    printed = capsys.readouterr().out.split("\n", 1)[1]
    assert printed.startswith(f"def {exercise.name}(")
    scope = dict(exercise.function.__globals__)
    exec(printed, scope)
    assert exercise.judge(scope[exercise.name]).outcome == "right"
    printed_code, tested = (f.__code__ for f in (scope[exercise.name], exercise.function))
    # Inner functions (and, before Python 3.12, comprehensions) are objects of their own.
    plain = [[c for c in code.co_consts if not hasattr(c, "co_consts")]
             for code in (printed_code, tested)]  # fmt: skip
    assert plain[0] == plain[1] and printed_code.co_names == tested.co_names


def test_price_label():
    assert repr(ex.route) == "Exercise 1.5 route\n15 minutes, middling"


# -- the record ------------------------------------------------------------------------------


def test_the_best_outcome_stays(home):
    for outcome in ("raised", "wrong", "right", "wrong"):
        assert record("architecture.route", outcome) == ""
    entry = json.loads((home / "progress.json").read_text())["exercises"]["architecture.route"]
    assert entry == {"outcome": "right", "tries": 4, "hints": 0, "solution": False}
    assert [p.name for p in home.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"exercises": []}',
    '{"exercises": {"a": {"outcome": "?", "tries": 1}}}',
    '{"exercises": {"a": 3}}', '{"exercises": {"a": {"outcome": "right", "tries": null}}}',
    "[" * 100_000, "\udcff",
])  # fmt: skip
def test_a_damaged_file_is_kept_aside(home, text):
    home.mkdir()
    raw = text.encode("utf-8", "surrogateescape")
    (home / "progress.json").write_bytes(raw)
    (home / "progress.damaged-1.json").write_text("an older one")
    note = record("architecture.route", "right")
    assert note == (
        "The progress file was damaged: it is kept as progress.damaged-2.json, a new one begins."
    )
    assert (home / "progress.damaged-2.json").read_bytes() == raw
    assert (home / "progress.damaged-1.json").read_text() == "an older one"
    assert read()[0]["architecture.route"]["outcome"] == "right"


def test_a_crash_while_writing_leaves_the_old_file(home, monkeypatch):
    record("architecture.route", "wrong")
    before = (home / "progress.json").read_bytes()

    def crash(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", crash)
    assert "No space left" in record("architecture.route", "right")
    assert (home / "progress.json").read_bytes() == before
    assert [p.name for p in home.iterdir()] == ["progress.json"]


def test_no_place_to_write_is_said_and_survived(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABHELPERS_HOME", str(tmp_path / "file" / "below"))
    assert ex.route.check(route_by_sort) is route_by_sort
    assert "Progress is not saved" in capsys.readouterr().out


def test_under_pytest_the_folder_is_temporary(monkeypatch):
    monkeypatch.delenv("LABHELPERS_HOME")
    assert Path.home() not in data_folder().parents or "tmp" in str(data_folder())


def test_progress_as_picture_and_text():
    ex.route.check(route_by_sort)
    ex.swiglu.check(lambda gate_up, *a: gate_up)
    picture = exercises.progress()
    lines = repr(picture).split("\n")
    assert lines[4] == "✓ right          1.5 route" and lines[5] == "✗ wrong          1.6 swiglu"
    assert lines[0] == "○ not attempted  1.1 rms_norm" and len(lines) == len(ALL)
    assert picture.figure.axes[0].get_title(loc="left") == f"1 of {len(ALL)} exercises are right"
    assert len(picture.png()) < 60_000
