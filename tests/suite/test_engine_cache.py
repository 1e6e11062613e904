"""The engine cache: what is built once, what is a miss, and that nothing half-made is ever trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from fixtures import engine_cache
from fixtures.backends import graph
from fixtures.backends.base import (
    Backend,
    BuildOptions,
    CalibrationData,
    Engine,
    Layer,
    LayerTensor,
    Precision,
    Runner,
)
from fixtures.backends.onnxrt import OnnxRuntimeBackend
from fixtures.engine_cache import EngineCache, engine_key
from fixtures.engines import Engines
from tests.suite import tiny

ROOT = Path(__file__).resolve().parents[2]
FP32 = BuildOptions(Precision.FP32)
LAYER = Layer(
    "conv", "convolution", Precision.FP16, (LayerTensor("x", (1, 3), "fp16"),), (LayerTensor("y", (1,), "fp32"),), "d"
)


class Counting(Backend):
    """Writes a file at once, and counts; raises what it is told to."""

    name = "counting"
    precisions = (Precision.FP32,)

    def __init__(self, error: Exception | None = None) -> None:
        self.builds = 0
        self.error = error
        self.release = "1"
        self.gpu = "this GPU"

    def availability(self) -> str | None:
        return None

    def runnable(self) -> str | None:
        return None

    def version(self) -> str:
        return self.release

    def device(self) -> str:
        return self.gpu

    def build(self, onnx: Path, options: BuildOptions, out: Path) -> tuple[Layer, ...]:
        self.builds += 1
        out.write_bytes(b"half" if self.error else b"a whole engine")
        if self.error:
            raise self.error
        return (LAYER,)

    def runner(self, engine: Engine) -> contextlib.AbstractContextManager[Runner]:
        raise NotImplementedError


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.network(tmp_path / "tiny.onnx")


def entry(cache: EngineCache) -> Path:
    (found,) = (path for path in cache.root.iterdir() if path.is_dir())
    return found


def test_a_second_build_is_a_hit_and_the_same_engine(cache: EngineCache, model: Path) -> None:
    backend = Counting()
    first = cache.build(model, backend, FP32)
    second = EngineCache(cache.root).build(model, backend, FP32)
    assert backend.builds == 1
    assert second == first
    assert second.layers == (LAYER,)
    assert second.path.read_bytes() == b"a whole engine"
    assert second.size_bytes == len(b"a whole engine")
    assert second.path.is_relative_to(cache.root)
    assert (cache.statistics.hits, cache.statistics.misses) == (0, 1)
    assert cache.statistics.build_seconds == first.build_seconds >= 0


def calibrated(tmp_path: Path, digest: str) -> BuildOptions:
    return BuildOptions(Precision.INT8, calibration=CalibrationData("input", (tmp_path / "x.npy",), digest))


def test_everything_that_shapes_an_engine_is_in_its_key(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Counting()
    keys = {"base": engine_key(model, backend, FP32)}
    assert engine_key(model, Counting(), BuildOptions(Precision.FP32, shapes={})) == keys["base"]
    for field, value in {
        "precision": Precision.FP16,
        "shapes": {"input": (2, 3, 32, 32)},
        "workspace_bytes": 1 << 20,
        "optimization_level": 3,
        "hardware_compatible": True,
        "dla_core": 0,
    }.items():
        keys[field] = engine_key(model, backend, dataclasses.replace(FP32, **{field: value}))  # type: ignore[arg-type]
    assert set(keys) - {"base"} == {f.name for f in dataclasses.fields(BuildOptions)} - {"calibration"}
    keys["calibration"] = engine_key(model, backend, calibrated(tmp_path, "a"))
    keys["other calibration"] = engine_key(model, backend, calibrated(tmp_path, "b"))
    backend.release = "2"
    keys["version"] = engine_key(model, backend, FP32)
    backend.release, backend.gpu = "1", "another GPU"
    keys["device"] = engine_key(model, backend, FP32)
    backend.gpu, backend.name = "this GPU", "other"
    keys["backend"] = engine_key(model, backend, FP32)
    backend.name = "counting"
    assert engine_key(model, backend, FP32) == keys["base"]
    with monkeypatch.context() as patch:
        patch.setattr(graph, "RECIPE", graph.RECIPE + 1)
        keys["recipe"] = engine_key(model, backend, FP32)
    with monkeypatch.context() as patch:
        patch.setattr(engine_cache.importlib.metadata, "version", lambda name: f"{name} 99")  # type: ignore[attr-defined]
        keys["packages"] = engine_key(model, backend, FP32)
    content = bytearray(model.read_bytes())
    content[-200] ^= 1
    model.write_bytes(content)
    keys["model"] = engine_key(model, backend, FP32)
    assert len(set(keys.values())) == len(keys), keys


def externalize(model: Path, location: str = "weights.bin") -> Path:
    loaded = onnx.load(str(model))
    onnx.save_model(loaded, str(model), save_as_external_data=True, location=location, size_threshold=0)
    return model.parent / location


def test_external_data_is_part_of_the_key(model: Path) -> None:
    weights = externalize(model)
    before = engine_key(model, Counting(), FP32)
    content = bytearray(weights.read_bytes())
    content[10] ^= 1
    weights.write_bytes(content)
    assert engine_key(model, Counting(), FP32) != before


def relocate(model: Path, location: str) -> None:
    loaded = onnx.load(str(model), load_external_data=False)
    for tensor in loaded.graph.initializer:
        for item in tensor.external_data:
            if item.key == "location":
                item.value = location
    model.write_bytes(loaded.SerializeToString())


def spoil_missing(model: Path) -> None:
    externalize(model).unlink()


def spoil_outside(model: Path) -> None:
    externalize(model)
    relocate(model, "../weights.bin")


def spoil_absolute(model: Path) -> None:
    externalize(model)
    relocate(model, "/etc/passwd")


def spoil_link(model: Path) -> None:
    weights = externalize(model)
    weights.rename(model.parent / "elsewhere.bin")
    weights.symlink_to(model.parent / "elsewhere.bin")


def spoil_truncated(model: Path) -> None:
    os.truncate(externalize(model), 100)


def spoil_huge(model: Path) -> None:
    os.truncate(model, 3 * 1024**3)  # sparse: takes no room


def spoil_empty(model: Path) -> None:
    os.truncate(model, 0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_missing, "is missing: 'weights.bin'"),
        (spoil_outside, "points outside the submission: '../weights.bin'"),
        (spoil_absolute, "points outside the submission: '/etc/passwd'"),
        (spoil_link, "is missing: 'weights.bin'"),
        (spoil_truncated, "is truncated: 'weights.bin'"),
        (spoil_huge, "is 3.0 GiB, over the 2 GiB"),
        (spoil_empty, "is empty"),
        (Path.unlink, "there is no model"),
    ],
)
def test_a_model_out_of_bounds_is_refused_before_it_is_built(
    cache: EngineCache, model: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(model)
    backend = Counting()
    with pytest.raises(ValueError, match=says):
        cache.build(model, backend, FP32)
    assert backend.builds == 0


def cut(folder: Path) -> None:
    os.truncate(folder / "engine", 5)


def flip(folder: Path) -> None:
    (folder / "engine").write_bytes(b"A whole engine")


def drop(folder: Path) -> None:
    (folder / "engine").unlink()


def drop_record(folder: Path) -> None:
    (folder / "engine.json").unlink()


def cut_record(folder: Path) -> None:
    os.truncate(folder / "engine.json", 40)


def empty_record(folder: Path) -> None:
    (folder / "engine.json").write_text("null")


def edit_record(folder: Path) -> None:
    path = folder / "engine.json"
    path.write_text(path.read_text().replace('"fp16"', '"int8"'))


def other_schema(folder: Path) -> None:
    path = folder / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


def no_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file where the entry was")


@pytest.mark.parametrize(
    "damage", [cut, flip, drop, drop_record, cut_record, empty_record, edit_record, other_schema, no_folder]
)
def test_a_damaged_entry_is_a_miss_and_is_replaced(
    cache: EngineCache, model: Path, damage: Callable[[Path], None]
) -> None:
    backend = Counting()
    cache.build(model, backend, FP32)
    damage(entry(cache))
    again = cache.build(model, backend, FP32)
    assert backend.builds == 2
    assert again.path.read_bytes() == b"a whole engine"
    assert again.layers == (LAYER,)
    cache.build(model, backend, FP32)
    assert backend.builds == 2, "the repaired entry is a hit"


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), MemoryError("no"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(cache: EngineCache, model: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        cache.build(model, Counting(error), FP32)
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    backend = Counting()
    cache.build(model, backend, FP32)
    assert backend.builds == 1


def test_a_real_engine_comes_back_whole(cache: EngineCache, model: Path) -> None:
    backend = OnnxRuntimeBackend()
    built = cache.build(model, backend, FP32)
    found = cache.build(model, backend, FP32)
    assert cache.statistics.hits == 1
    assert found == built
    with backend.runner(found) as runner:
        assert runner.infer({"input": tiny.image()})["output"] == pytest.approx(tiny.run(model, tiny.image()), abs=1e-5)


BUILDER = """
import sys, time
from pathlib import Path
from fixtures.backends.base import BuildOptions, Precision
from fixtures.backends.onnxrt import OnnxRuntimeBackend
from fixtures.engine_cache import EngineCache

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


def test_sweeping_a_cache_that_is_not_there_yet_is_nothing(cache: EngineCache) -> None:
    cache.sweep()
    assert not cache.root.exists()


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", "file"])
def test_a_cache_that_cannot_be_written_is_one_clear_error(model: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / place
    with pytest.raises(OSError, match=f"the engine cache {root} cannot be used: .*choose another directory"):
        EngineCache(root).build(model, Counting(), FP32)


class Full(Counting):
    """Meets a disk that takes no more, for real: /dev/full."""

    def build(self, onnx: Path, options: BuildOptions, out: Path) -> tuple[Layer, ...]:
        self.builds += 1
        Path("/dev/full").write_bytes(b"engine")
        return ()


def test_a_full_disk_is_one_clear_error_and_poisons_nothing(cache: EngineCache, model: Path) -> None:
    with pytest.raises(OSError, match="cannot be used: No space left on device; free space there") as error:
        cache.build(model, Full(), FP32)
    assert error.value.errno == errno.ENOSPC
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    assert cache.build(model, Counting(), FP32).path.read_bytes() == b"a whole engine"


def test_a_disk_that_fills_up_while_the_entry_is_written_poisons_nothing(
    cache: EngineCache, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left on device; free space there"):
            cache.build(model, Counting(), FP32)
    assert not [path for path in cache.root.iterdir() if path.suffix != ".lock"]
    assert cache.build(model, Counting(), FP32).path.read_bytes() == b"a whole engine"


def test_a_backends_own_trouble_is_not_blamed_on_the_cache(cache: EngineCache, model: Path) -> None:
    with pytest.raises(OSError, match=r"^libcudart.so not found$"):
        cache.build(model, Counting(OSError("libcudart.so not found")), FP32)


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
        "pytest_plugins = ('fixtures.engines',)\ndef pytest_addoption(parser):\n    parser.addoption('--suite-cache')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "from fixtures.backends.base import BuildOptions, Precision\n"
        "from fixtures.backends.onnxrt import OnnxRuntimeBackend\n"
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


def test_calibration_reaches_the_build(cache: EngineCache, model: Path, tmp_path: Path) -> None:
    options = BuildOptions(Precision.INT8, calibration=tiny.calibration(tmp_path / "calibration"))
    engine = cache.build(model, OnnxRuntimeBackend(), options)
    assert {layer.precision for layer in engine.layers if layer.kind == "convolution"} == {Precision.INT8}
    louder = tiny.calibration(tmp_path / "louder", np.full((1, 3, 32, 32), 50, np.float32))
    other = cache.build(model, OnnxRuntimeBackend(), dataclasses.replace(options, calibration=louder))
    assert other.sha256 != engine.sha256
