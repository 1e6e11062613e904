"""Builds on a real GPU that are killed, doubled, or short of memory, and caches that are damaged."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.suite.gpu.bench import QUICK, SHAPE, Bench, environment, make, run_apart
from trtverify.fixtures.backends.tensorrt import network, timing
from trtverify.fixtures.engines.layers import prove
from trtverify.fixtures.words.terms import BuildOptions, Precision

pytestmark = pytest.mark.gpu

BUILD_INT8 = """
    import hashlib, pathlib, sys
    from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision
    from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
    onnx, batch, out = map(pathlib.Path, sys.argv[1:4])
    digest = hashlib.sha256(batch.read_bytes()).hexdigest()
    data = CalibrationData("input", (batch,), digest)
    options = BuildOptions(Precision.INT8, {"input": (16, 3, 112, 112)}, data, optimization_level=1)
    print("building", flush=True)
    TensorRTBackend().build(onnx, options, out)
    print("built", flush=True)
"""


def timings(bench: Bench, folder: Path) -> Path:
    """Where the timing cache of builds into `folder` lies."""
    return timing.cache_path(folder / "tensorrt", bench.backend.version(), bench.backend.device())


@pytest.fixture
def warm(bench: Bench, tmp_path: Path) -> Path:
    """A folder of one's own with the timings that the bench has taken, so that builds there are short."""
    bench.build(Precision.FP16)
    timings(bench, tmp_path).parent.mkdir()
    shutil.copyfile(timings(bench, bench.folder), timings(bench, tmp_path))
    return tmp_path


def start_build(bench: Bench, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILD_INT8), str(bench.onnx), str(bench.images.batches[0]), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def test_the_timing_cache_is_used_and_a_damaged_one_is_not(bench: Bench, tmp_path: Path) -> None:
    options = BuildOptions(Precision.TF32, {"input": SHAPE}, optimization_level=QUICK)
    first = make(bench.backend, bench.onnx, options, tmp_path / "a.engine").build_seconds
    cache = timings(bench, tmp_path)
    kept = cache.read_bytes()
    parsed = network.parse(bench.onnx, strongly_typed=False)
    assert timing.read(cache)
    assert timing.attach(parsed.builder.create_builder_config(), cache), "this device takes what it has written"
    cache.write_bytes(kept[:100] + bytes([kept[100] ^ 1]) + kept[101:])
    assert timing.read(cache) == b""
    assert not timing.attach(parsed.builder.create_builder_config(), cache)
    second = make(bench.backend, bench.onnx, options, tmp_path / "b.engine").build_seconds
    assert timing.read(cache), "written anew"
    print(f"first build {first:.1f} s, with a damaged cache {second:.1f} s, {len(kept)} bytes")


def test_a_killed_build_leaves_nothing_that_is_trusted(bench: Bench, warm: Path) -> None:
    out = warm / "killed.engine"
    for after in (0.5, 2.0):
        process = start_build(bench, out)
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        said, _none = process.communicate(timeout=30)
        left = sorted(path.name for path in (warm / "tensorrt").glob("*"))
        print(f"killed after {after} s: {left}, engine {out.exists()} {said}")
        # If it was done before it was killed: only the engine cache's rename would have made it count.
        out.unlink(missing_ok=True)
    options = BuildOptions(Precision.INT8, {"input": SHAPE}, bench.images, optimization_level=QUICK)
    made = make(bench.backend, bench.onnx, options, out)
    assert prove(made.layers, Precision.INT8).share >= 0.75


def test_two_processes_build_the_same_engine_at_once(bench: Bench, warm: Path) -> None:
    builds = [start_build(bench, warm / f"{number}.engine") for number in range(2)]
    said = [process.communicate(timeout=120)[0] for process in builds]
    assert [process.returncode for process in builds] == [0, 0], said
    assert timing.read(timings(bench, warm))
    for number in range(2):
        network.deserialize((warm / f"{number}.engine").read_bytes(), "either")


def test_out_of_memory_is_said_with_what_to_change(bench: Bench, tmp_path: Path) -> None:
    done = run_apart(
        """
        import pathlib, sys
        from trtverify.fixtures.devices import cudart
        from trtverify.fixtures.words.terms import BuildOptions, Precision
        from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
        backend = TensorRTBackend()
        assert backend.availability() is None
        free, _total = cudart.free_memory()
        held = cudart.DeviceBuffer(free - (300 << 20))
        options = BuildOptions(Precision.FP32, {"input": (256, 3, 224, 224)}, optimization_level=1)
        try:
            backend.build(pathlib.Path(sys.argv[1]), options, pathlib.Path(sys.argv[2]))
        except MemoryError as error:
            print("MemoryError:", error)
        finally:
            print("free, MiB:", cudart.free_memory()[0] >> 20)
        """,
        str(bench.onnx),
        str(tmp_path / "large.engine"),
    )
    print(f"status {done.returncode}: {done.stdout.strip()} {done.stderr.strip()[-2400:]}")
    assert "MemoryError:" in done.stdout
    assert "use a smaller batch" in done.stdout
    assert not (tmp_path / "large.engine").exists()
