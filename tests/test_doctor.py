"""The doctor's judgements on machines that this one is not."""

import pytest

from labhelpers import doctor, machine
from labhelpers.doctor import Gpu
from labhelpers.mxfp4.paths import kernels_range

GB = 10**9
T4 = Gpu("cuda", "Tesla T4", (7, 5), 16 * GB, int(15.5 * GB))
H100 = Gpu("cuda", "NVIDIA H100", (9, 0), 85 * GB, 84 * GB)
V100 = Gpu("cuda", "Tesla V100", (7, 0), 34 * GB, 33 * GB)
NONE = Gpu("")


@pytest.fixture
def with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"triton": "3.7.1", "kernels": kernels_range()[0]}
    monkeypatch.setattr(machine, "version", versions.get)


@pytest.mark.usefixtures("with_triton")
@pytest.mark.parametrize(
    ("name", "gpu", "memory", "ok", "words"),
    [
        ("gpt-oss-20b", T4, 12 * GB, True, "packed, on the GPU: 15.1 GB needed, 15.5 GB free"),
        ("gpt-oss-120b", T4, 12 * GB, False, "does not fit"),
        ("gpt-oss-120b", H100, 12 * GB, True, "packed, on the GPU: 71.8 GB"),
        ("gpt-oss-20b", V100, 12 * GB, False, "46.0 GB as bf16"),  # too old to stay packed
        ("gpt-oss-20b", V100, 64 * GB, True, "in the CPU's memory: 46.0 GB"),
        ("gpt-oss-20b", NONE, 64 * GB, True, "in the CPU's memory: 46.0 GB"),
        ("gpt-oss-20b", NONE, 24 * GB, False, "does not fit"),
        ("gpt-oss-20b", Gpu("mps", "Apple GPU", (0, 0), 64 * GB, 50 * GB), 0, True, "becomes bf16"),
    ],
)
def test_what_fits(name: str, gpu: Gpu, memory: int, ok: bool, words: str) -> None:
    finding = doctor.real_model(name, gpu, memory)
    assert finding.ok is ok and words in finding.text
    assert finding.ok or (finding.cure and finding.optional)


@pytest.mark.usefixtures("with_triton")
def test_packed_path() -> None:
    assert doctor.packed_path(T4).ok
    assert "capability 7.5" in doctor.packed_path(V100).text
    assert "NVIDIA" in doctor.packed_path(NONE).text


def test_packed_path_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda name: None)
    assert "Triton" in doctor.packed_path(T4).text


def test_widget_versions_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"jupyterlab": "4.6.6", "ipywidgets": "8.1.9", "jupyterlab_widgets": "1.1.11"}
    monkeypatch.setattr(doctor, "version", versions.get)
    assert not list(doctor.widgets())[-1].ok
    versions["jupyterlab_widgets"] = "3.0.17"
    assert list(doctor.widgets())[-1].ok
    del versions["jupyterlab"]
    assert [finding.what for finding in doctor.widgets()] == ["JupyterLab"]


def test_report_has_one_line_each_and_a_cure(capsys: pytest.CaptureFixture[str]) -> None:
    failures = doctor.main()
    *lines, blank, verdict = capsys.readouterr().out.splitlines()
    assert blank == "" and verdict == (
        f"{failures} to mend." if failures else "The course runs here."
    )
    assert len(lines) > 10
    for line in lines:
        assert line.startswith("OK    ") or (line.startswith("FAIL  ") and "Cure: " in line), line


@pytest.mark.parametrize("missing", ["torch", "psutil", "huggingface_hub"])
def test_a_missing_package_is_named_and_ends_the_report(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    found = doctor.version
    monkeypatch.setattr(doctor, "version", lambda n: None if n == missing else found(n))
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["torch", "psutil"])
    findings = list(doctor.examine())
    assert findings[-1].what != "C++ compiler"
    assert missing == "huggingface_hub" or not {f.what: f.ok for f in findings}[missing]


def test_setup_says_the_same_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """conftest.py sets LABHELPERS_STATIC=1, as `make notebooks` does."""
    found = doctor.nano()
    doctor.setup()
    line = capsys.readouterr().out
    expected = "labhelpers is ready: gpt-oss-nano runs on this CPU.\n"
    assert line == expected or (not found.ok and line.startswith("labhelpers found: "))


def test_setup_names_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABHELPERS_STATIC", "")
    monkeypatch.setattr(doctor, "nano", lambda: doctor.Finding(True, "gpt-oss-nano", ""))
    doctor.setup()
    line = capsys.readouterr().out
    assert line.startswith("labhelpers is ready: torch ") and line.count("\n") == 1
