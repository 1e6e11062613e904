"""The `engines` fixture: what goes wrong becomes one verdict, and what is built is counted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite import tiny
from tests.suite.engines.counting import FP32, Counting
from trtverify.fixtures.backends.base import Backend
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.engines.engine_cache import EngineCache
from trtverify.fixtures.engines.plugin import Engines
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.words.terms import BuildOptions, Layer, Precision

ROOT = Path(__file__).resolve().parents[3]


def verdict(engines: Engines, model: Path, backend: Backend, options: BuildOptions = FP32) -> tuple[str, str]:
    try:
        engines.build(model, backend, options)
    except pytest.fail.Exception as outcome:
        return "failed", str(outcome)
    except pytest.skip.Exception as outcome:
        return "skipped", str(outcome)
    return "built", ""


@pytest.mark.parametrize(
    ("error", "outcome", "says"),
    [
        (
            ValueError("node x (operator Foo)"),
            "failed",
            ("node x (operator Foo)", "polygraphy inspect model tiny.onnx"),
        ),
        (RuntimeError("builder crashed"), "failed", ("builder crashed", "run this test alone")),
        (OSError(errno.ENOSPC, "full"), "failed", ("full", "--suite-cache DIR")),
        (MemoryError("no room"), "skipped", ("not gradable: out of memory", "no room", "less workspace")),
    ],
    ids=["value", "runtime", "disk", "memory"],
)
def test_what_goes_wrong_becomes_a_verdict_once(
    cache: EngineCache, model: Path, error: Exception, outcome: str, says: tuple[str, ...]
) -> None:
    engines, backend = Engines(cache), Counting(error)
    found, message = verdict(engines, model, backend)
    assert found == outcome
    for part in (*says, "tiny.onnx as an fp32 engine of counting"):
        assert part in message
    again, message = verdict(engines, model, backend)
    assert again == "skipped"
    assert "not gradable: an earlier step failed: tiny.onnx as an fp32 engine of counting" in message
    assert backend.builds == 1, "it is not tried again"


def test_a_failure_is_remembered_for_that_engine_alone(cache: EngineCache, model: Path, tmp_path: Path) -> None:
    engines = Engines(cache)
    assert verdict(engines, model, Counting(ValueError("no")))[0] == "failed"
    assert verdict(engines, tiny.network(tmp_path / "other.onnx", opset=13), Counting())[0] == "built"


def test_a_missing_model_fails_with_its_reason(cache: EngineCache, tmp_path: Path) -> None:
    found, message = verdict(Engines(cache), tmp_path / "none.onnx", Counting())
    assert found == "failed"
    assert "there is no model" in message


def test_an_engine_is_read_from_disk_once_a_session(cache: EngineCache, model: Path) -> None:
    engines, backend = Engines(cache), Counting()
    first = engines.build(model, backend, FP32)
    assert engines.build(model, backend, FP32) is first
    assert cache.statistics.hits == 0
    first.path.unlink()
    assert engines.build(model, backend, FP32).path.is_file()
    assert backend.builds == 2


def test_the_summary_counts_hits_and_builds(tmp_path: Path, model: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "pytest_plugins = ('trtverify.fixtures.engines.plugin',)\n"
        "import pathlib\n"
        "def pytest_addoption(parser):\n    parser.addoption('--suite-cache', type=pathlib.Path)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "from trtverify.fixtures.words.terms import BuildOptions, Precision\n"
        "from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend\n"
        "def test_it(engines):\n"
        f"    engines.build(Path({str(model)!r}), OnnxRuntimeBackend(), BuildOptions(Precision.FP32))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "--suite-cache", "cache"]
    environment = {**os.environ, "LANGUAGE": "en", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    runs = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
        for _ in range(2)
    ]
    assert "engines: 0 from the cache, 1 built in" in runs[0], runs[0]
    assert "engines: 1 from the cache, 0 built in 0.0 s" in runs[1], runs[1]


class Refusing(OnnxRuntimeBackend):
    """Takes no FP16 graph, as a builder does that meets what the suite's conversion made ill."""

    def build(self, onnx: Path, options: BuildOptions, out: Path) -> tuple[Layer, ...]:
        if options.precision is Precision.FP16:
            raise ValueError("node y (operator Bar)")
        return super().build(onnx, options, out)


def test_what_only_the_converted_graph_fails_at_is_the_suites_own_fault(
    cache: EngineCache, model: Path, tmp_path: Path
) -> None:
    fp16 = BuildOptions(Precision.FP16)
    found, message = verdict(Engines(cache), model, Refusing(), fp16)
    assert found == "skipped"
    for part in ("not gradable: the suite's own fault: ", "builds as it is: node y (operator Bar)", "makers"):
        assert part in message
    # A graph that was handed in as FP16, or that does not build in FP32 either, is the student's.
    convert.to_fp16(model, tmp_path / "half.onnx")
    assert verdict(Engines(cache), tmp_path / "half.onnx", Refusing(), fp16)[0] == "failed"
    assert verdict(Engines(cache), model, Counting(ValueError("node y")), fp16)[0] == "failed"


def test_a_conversion_that_fails_is_the_suites_own_fault(
    cache: EngineCache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_model: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(convert, "to_half", broken)
    engines, fp16 = Engines(cache), BuildOptions(Precision.FP16)
    found, message = verdict(engines, model, OnnxRuntimeBackend(), fp16)
    assert found == "skipped"
    assert "not gradable: the suite's own fault: " in message
    assert "failed on a sound graph: IndexError: list index out of range" in message
    assert "an earlier step failed" in verdict(engines, model, OnnxRuntimeBackend(), fp16)[1]
