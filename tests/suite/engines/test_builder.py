"""What TensorRT's builder can be asked besides: told wherever figures are, refused where it cannot be done."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.suite.sample_evidence import pack, sound
from trtverify.fixtures.backends.tensorrt import build
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.claims import judge
from trtverify.fixtures.engines import builder
from trtverify.fixtures.measuring.latency import Ratio
from trtverify.fixtures.words.terms import BuildOptions, Precision
from trtverify.fixtures.words.verdict import Verdict

ROOT = Path(__file__).resolve().parents[3]
GIVEN = {
    "workspace": 512,
    "optimization_level": 5,
    "tactic_sources": ("CUBLAS", "CUDNN"),
    "hardware_compatible": True,
    "dla_core": 0,
}
NOT_GIVEN = dict.fromkeys(GIVEN) | {"hardware_compatible": False}
BUILT = BuildOptions(
    Precision.FP32,
    workspace_bytes=512 << 20,
    optimization_level=5,
    tactic_sources=("CUBLAS", "CUDNN"),
    hardware_compatible=True,
    dla_core=0,
)


def config(**given: Any) -> Any:
    return types.SimpleNamespace(getoption={**NOT_GIVEN, **given}.get)


def test_what_is_asked_reaches_tensorrt_alone() -> None:
    assert builder.asked(config(**GIVEN), "tensorrt") == BUILT
    assert builder.flags(BUILT) == (
        "--workspace=512 --optimization-level=5 --tactic-sources=CUBLAS,CUDNN --hardware-compatible --dla-core=0"
    )
    assert builder.pytest_report_header(config(**GIVEN)) == f"tensorrt builds with {builder.flags(BUILT)}"
    for plain in (builder.asked(config(**GIVEN), "onnxruntime"), builder.asked(config(), "tensorrt")):
        assert plain == BuildOptions(Precision.FP32)
        assert builder.flags(plain) == ""
    assert builder.pytest_report_header(config()) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--workspace=512",), "--workspace=512: TensorRT's builder is asked that; add --backend tensorrt"),
        (("--dla-core=0", "--backend=onnxruntime"), "--dla-core=0: TensorRT's builder is asked that"),
        (("--hardware-compatible", "--from-evidence={sound}"), "--hardware-compatible: nothing is built from evidence"),
        (("--workspace=0",), "expected a whole number from 1 on, found 0"),
        (("--dla-core=-1",), "expected a whole number from 0 on, found -1"),
        (("--optimization-level=6",), "invalid choice: 6"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_would_be_ignored_is_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    evidence = pack(sound(), tmp_path / "e.zip")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "lab1", "-q", *(flag.format(sound=evidence) for flag in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def stand_in(monkeypatch: pytest.MonkeyPatch, version: str, cores: int = 0) -> None:
    """A `tensorrt` that has tactic sources, and so many DLA cores."""
    sources = types.SimpleNamespace(__members__={"CUBLAS": 0, "EDGE_MASK_CONVOLUTIONS": 1, "JIT_CONVOLUTIONS": 2})
    made = types.SimpleNamespace(
        __version__=version,
        TacticSource=sources,
        Builder=lambda _logger: types.SimpleNamespace(num_DLA_cores=cores),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setattr(build, "logger", lambda: None)


@pytest.mark.parametrize(
    ("version", "cores", "options", "says"),
    [
        ("10.3.0", 0, {"dla_core": 0}, "DLA core 0 was asked for; this device has 0"),
        ("10.3.0", 2, {"dla_core": 2}, "DLA core 2 was asked for; this device has 2"),
        ("10.3.0", 2, {"dla_core": 1}, None),
        ("11.0.0", 0, {"dla_core": 0}, "DLA core 0 was asked for; this device has 0"),
        # With 11.4.1 an AGX Orin has its DLA: the builder knows, no version tells.
        ("11.4.1", 2, {"dla_core": 0}, None),
        ("10.3.0", 0, {"tactic_sources": ("CUBLAS",)}, None),
        ("10.3.0", 0, {"tactic_sources": ()}, None),
        (
            "10.3.0",
            0,
            {"tactic_sources": ("CUBLAS", "CUDNN")},
            "knows no tactic source CUDNN; it has CUBLAS, EDGE_MASK",
        ),
        ("8.6.0", 0, {"workspace_bytes": 1, "optimization_level": 0, "hardware_compatible": True}, None),
    ],
)
def test_what_this_device_cannot_do_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, version: str, cores: int, options: dict[str, Any], says: str | None
) -> None:
    stand_in(monkeypatch, version, cores)
    asked = BuildOptions(Precision.FP16, **options)
    found = TensorRTBackend().refuses(asked)
    assert (found is None) if says is None else says in (found or "")
    if says is not None:
        with pytest.raises(ValueError, match=r"DLA|tactic source"):
            build.build(build.Plan(Path("m.onnx"), strongly_typed=False, flags={}), asked, Path("t.cache"))


@pytest.mark.parametrize(
    ("built_with", "verdict"),
    [
        ("", Verdict.PASSED),
        ("--workspace=512 --optimization-level=5 --tactic-sources=CUBLAS", Verdict.PASSED),
        ("--dla-core=0", Verdict.NOT_GRADABLE),
        ("--workspace=512 --hardware-compatible", Verdict.NOT_GRADABLE),
    ],
)
def test_a_range_is_of_engines_on_the_gpu_that_they_were_built_for(built_with: str, verdict: Verdict) -> None:
    subject = judge.Subject(
        "lab2", "yolov8n", "tensorrt", Precision.FP16, 1, "TensorRT 10.3.0", "Orin Nano", "15W", built_with
    )
    ratio = Ratio(1.9, 1.88, 1.92)
    band, found = judge.speedup(subject, Precision.TF32, ratio)
    assert found is verdict
    if band is None:
        with pytest.raises(pytest.skip.Exception, match=f"no range is known for Orin Nano {built_with}"):
            judge.conclude(subject, Precision.TF32, ratio, band, found)
