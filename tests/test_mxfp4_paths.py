"""Which path a checkpoint takes: transformers' own decisions, and the bytes behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labhelpers import doctor, preset
from labhelpers.accounting import kv_cache_bytes, weight_bytes
from labhelpers.mxfp4 import hardware, paths
from labhelpers.mxfp4.paths import Machine, choose, need, obstacle

GB = 10**9
LOW, HIGH = paths.KERNELS_RANGE
H100 = Machine("cuda", (9, 0), 84 * GB, 100 * GB, "3.6.0", LOW)
T4 = H100._replace(capability=(7, 5), gpu_free=int(15.5 * GB), memory_free=12 * GB)
CPU = Machine("cpu", memory_free=64 * GB, triton="3.7.1", kernels=LOW)


@pytest.mark.parametrize(
    ("machine", "use_kernels", "words"),
    [
        (H100, False, None),
        (T4, False, None),
        (H100._replace(kind="rocm", capability=(9, 4)), False, None),
        (H100._replace(capability=(7, 0)), False, "capability 7.5"),
        (H100._replace(triton=None), False, "needs Triton"),
        (H100._replace(triton="3.3.1"), False, "needs Triton 3.4.0, found 3.3.1"),
        (H100._replace(triton="3.10.0"), False, None),  # versions are not text
        (H100._replace(kernels=None), False, "needs the package `kernels`"),
        (H100._replace(kernels=HIGH), False, f"below {HIGH}; found {HIGH}"),
        (H100._replace(kernels="0.9.0"), False, "found 0.9.0"),
        (H100, True, "use_kernels=False"),
        (CPU, False, "on a CPU use_kernels=True"),
        (CPU, True, None),
        (CPU._replace(triton="3.4.0"), True, "needs Triton 3.5.0"),
        (Machine("mps", gpu_free=64 * GB, kernels=LOW), False, "an NVIDIA GPU"),
    ],
)
def test_what_stands_in_the_way(machine, use_kernels, words):
    found = obstacle(machine, use_kernels)
    if words is None:
        assert found is None
    else:
        assert found is not None and words in found.needs and found.cure


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 9), (9, 0), (12, 0)])
@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("use_kernels", [True, False])
def test_transformers_decides_the_same(monkeypatch, capability, triton, kernels, use_kernels):
    """Its quantizer itself, told that there is such a GPU."""
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.quantizers.quantizer_mxfp4")
    from transformers import Mxfp4Config

    gpu = torch.device("cuda")
    if hasattr(module, "get_current_accelerator"):  # since transformers 5.20
        monkeypatch.setattr(module, "get_current_accelerator", lambda: gpu)
    else:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(module, "is_triton_available", lambda _: triton)
    monkeypatch.setattr(module, "is_kernels_available", lambda: kernels)
    quantizer = module.Mxfp4HfQuantizer(Mxfp4Config(), pre_quantized=True)
    quantizer.validate_environment()
    packed = not (quantizer.quantization_config.dequantize or use_kernels)

    machine = Machine(
        "cuda", capability, triton="3.6.0" if triton else None, kernels=LOW if kernels else None
    )
    assert (obstacle(machine, use_kernels) is None) == packed


def test_transformers_range_of_kernels():
    pytest.importorskip("transformers")
    low, high = paths.kernels_range()
    assert paths.Version(low) < paths.Version(high)


@pytest.mark.parametrize(
    ("name", "machine", "options", "form", "place", "words"),
    [
        ("gpt-oss-20b", H100, {}, "packed", "GPU", "stays packed, on the GPU: 15.3 GB needed"),
        ("gpt-oss-120b", H100, {}, "packed", "GPU", "72.1 GB needed, 84.0 GB free"),
        ("gpt-oss-120b", H100, {"use_kernels": True}, "bf16", "", "use_kernels=False"),
        ("gpt-oss-20b", H100, {"use_kernels": True}, "bf16", "GPU", "46.2 GB"),
        ("gpt-oss-20b", H100, {"dequantize": True}, "bf16", "GPU", "dequantize=True"),
        ("gpt-oss-20b", T4, {"context": 1024}, "packed", "GPU", "stays packed"),
        ("gpt-oss-20b", T4, {"context": 131072}, "packed", "", "but does not fit"),
        ("gpt-oss-20b", T4._replace(memory_free=64 * GB, gpu_free=8 * GB), {}, "bf16", "memory",
         "packed needs more GPU memory"),
        ("gpt-oss-20b", T4._replace(triton=None), {}, "bf16", "", "(packed needs Triton)"),
        ("gpt-oss-20b", CPU, {}, "bf16", "memory", "in the CPU's memory: 46.2 GB needed, 64.0 GB"),
        ("gpt-oss-20b", CPU, {"use_kernels": True}, "packed", "memory", "stays packed"),
        ("gpt-oss-20b", Machine("mps", gpu_free=50 * GB, memory_free=50 * GB), {}, "bf16", "GPU",
         "becomes bf16 (packed needs an NVIDIA GPU), on the GPU"),
    ],
)  # fmt: skip
def test_choices(name, machine, options, form, place, words):
    found = choose(name, machine, **options)
    assert (found.form, found.place, found.fits) == (form, place, bool(place))
    assert words in found.why and found.why.startswith(name) and found.why.endswith(" free.")


@given(
    st.sampled_from(["gpt-oss-20b", "gpt-oss-120b"]), st.integers(0, 300), st.integers(0, 600),
    st.integers(0, 131072), st.booleans(), st.sampled_from(["cuda", "rocm", "mps", "cpu"]),
)  # fmt: skip
def test_what_fits_has_its_bytes(name, gpu, memory, context, use_kernels, kind):
    machine = H100._replace(kind=kind, gpu_free=gpu * GB, memory_free=memory * GB)
    found = choose(name, machine, context, use_kernels)
    free = {"GPU": machine.gpu_free, "memory": machine.memory_free}
    if found.fits:
        assert free[found.place] >= found.need.total
        more = machine._replace(gpu_free=gpu * GB + GB, memory_free=memory * GB + GB)
        assert choose(name, more, context, use_kernels).fits
    if found.form == "packed":
        assert obstacle(machine, use_kernels) is None


def test_needs_are_the_accounts():
    config = preset("gpt-oss-20b")
    found = need("gpt-oss-20b", "packed", 8192)
    assert found.weights == sum(weight_bytes(config).values())
    assert found.cache == sum(kv_cache_bytes(config, 8192).values())
    assert found.total == int(paths.HEADROOM * found.weights) + found.cache
    assert need("gpt-oss-120b", "bf16").weights > 230 * GB
    with pytest.raises(ValueError, match='"packed" or "bf16"'):
        need("gpt-oss-20b", "int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        need("gpt-oss-7b", "packed")


def test_the_doctor_asks_the_same_questions():
    machine = doctor.this_machine()
    finding = doctor.packed_path(doctor.find_gpu())
    assert finding.ok == (obstacle(machine) is None)
    if machine.kind == "cpu":
        assert machine.gpu_free == 0 and machine.memory_free > 0


def test_every_entry_has_a_source_and_every_source_is_used():
    used = set()
    for row in hardware.HARDWARE:
        for entry in (row.packed, row.flash, row.megablocks, row.otherwise):
            assert entry.sources and set(entry.sources) <= set(hardware.SOURCES)
            assert entry.verdict in ("yes", "no", "?", "bf16")
            used |= set(entry.sources)
    assert used == set(hardware.SOURCES)
    names = [row.name for row in hardware.HARDWARE]
    assert len(set(names)) == len(names)


def test_the_table_and_the_decision_agree():
    for row in hardware.HARDWARE:
        if row.capability is None:
            continue
        packed = obstacle(H100._replace(capability=row.capability)) is None
        assert packed == (row.packed.verdict == "yes"), row.name
        assert hardware.row_of(row.capability) is row
    assert hardware.row_of((8, 6)).name == "Ampere"
    assert hardware.row_of((12, 1)).name == "Blackwell, desktop"
    assert hardware.row_of((6, 0)).capability == (7, 0)
    with pytest.raises(ValueError, match="major, minor"):
        hardware.row_of((3, 0))


def test_cards_are_in_order():
    sizes = [card.gigabytes for card in hardware.CARDS]
    assert sizes == sorted(set(sizes))
