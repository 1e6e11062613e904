"""The engine cache under several processes: one builds, one waits, one is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.suite import tiny
from tests.suite.engines.counting import FP32
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.engines.engine_cache import EngineCache

ROOT = Path(__file__).resolve().parents[3]


BUILDER = """
import sys, time
from pathlib import Path
from trtverify.fixtures.words.terms import BuildOptions, Precision
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.engines.engine_cache import EngineCache

class Slow(OnnxRuntimeBackend):
    def build(self, onnx, options, out):
        out.write_bytes(b"half of an engine")
        with open(sys.argv[3], "a") as log:
            log.write("built\\n")
        time.sleep(float(sys.argv[4]))
        return super().build(onnx, options, out)

engine = EngineCache(Path(sys.argv[1])).build(Path(sys.argv[2]), Slow(), BuildOptions(Precision.FP32))
print(engine.sha256)
"""


def start(cache: EngineCache, model: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(cache.root), str(model), str(log), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_two_processes_build_it_once(cache: EngineCache, model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = [start(cache, model, log, 1.0) for _ in range(2)]
    digests = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert log.read_text() == "built\n"
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64


@pytest.fixture
def killed(cache: EngineCache, model: Path, tmp_path: Path) -> Iterator[None]:
    """A build that was killed in the middle, with half of an engine written."""
    log = tmp_path / "log"
    process = start(cache, model, log, 600)
    wait_for(lambda: log.exists() and log.read_text() == "built\n")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(cache.root.glob("*.part/engine"))
    yield
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.usefixtures("killed")
def test_a_killed_build_leaves_nothing_that_is_trusted(cache: EngineCache, model: Path) -> None:
    backend = OnnxRuntimeBackend()
    engine = cache.build(model, backend, FP32)
    assert cache.statistics.misses == 1
    assert engine.path.read_bytes() != b"half of an engine"
    assert not list(cache.root.glob("*.part"))


@pytest.mark.usefixtures("killed")
def test_a_sweep_removes_what_was_killed_and_spares_what_runs(cache: EngineCache, model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    other = tiny.network(tmp_path / "other.onnx", opset=13)
    process = start(cache, other, log, 2.0)
    wait_for(lambda: log.read_text() == "built\nbuilt\n")
    cache.sweep()
    assert len(list(cache.root.glob("*.part"))) == 1, "only the running one is left"
    process.communicate(timeout=60)
    assert process.returncode == 0
