"""The TensorRT runner and the CUDA wrapper below it, over a CUDA runtime made of host memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.suite.backends.fake_cuda import FakeEngine, FakeLibrary, Kind
from trtverify.fixtures.backends.tensorrt.runner import TensorRTRunner, open_runner
from trtverify.fixtures.devices import cudart


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLibrary]:
    found = FakeLibrary()
    loaded = cudart.Cudart(found, "fake")
    monkeypatch.setattr(cudart, "cudart", lambda: loaded)
    yield found
    assert found.live == {}, "everything is released"


@pytest.fixture
def engine(library: FakeLibrary) -> FakeEngine:
    return FakeEngine(library)


def rows(count: int) -> npt.NDArray[np.float32]:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def test_infer_returns_outputs_and_follows_a_new_shape(engine: FakeEngine) -> None:
    with open_runner(engine) as runner:
        first = runner.infer({"x": rows(2)})["y"]
        second = runner.infer({"x": rows(5)})["y"]
    assert np.array_equal(first, 2 * rows(2)), "a later run leaves earlier outputs alone"
    assert np.array_equal(second, 2 * rows(5))


def test_enqueue_times_the_engine_alone(engine: FakeEngine) -> None:
    with open_runner(engine) as runner:
        runner.prepare({"x": rows(2)})
        assert runner.graph_problem is None
        # 2 ms of work; launching the graph takes another half, which does not count.
        assert runner.enqueue() == pytest.approx(2e-3)


def test_enqueue_without_a_graph(engine: FakeEngine, library: FakeLibrary) -> None:
    with open_runner(engine, use_graph=False) as runner:
        runner.prepare({"x": rows(2)})
        assert runner.enqueue() == pytest.approx(2e-3)
        assert runner.graph_problem == "not asked for"
    assert "cudaGraphLaunch" not in library.calls


def test_a_failed_capture_is_noted_and_done_without(engine: FakeEngine, library: FakeLibrary) -> None:
    library.failing["cudaGraphInstantiateWithFlags"] = 801
    with open_runner(engine) as runner:
        runner.prepare({"x": rows(2)})
        assert runner.graph_problem is not None
        assert "cudaGraphInstantiateWithFlags failed: cudaErrorSomething (801)" in runner.graph_problem
        assert runner.enqueue() == pytest.approx(2e-3)


def test_an_engine_that_refuses_capture_is_run_without(engine: FakeEngine, library: FakeLibrary) -> None:
    class Refusing(FakeEngine):
        """Its second run, the captured one, fails."""

        runs = 0

        @property
        def succeeds(self) -> bool:
            self.runs += 1
            return self.runs != 2

        @succeeds.setter
        def succeeds(self, _value: bool) -> None:
            self.runs = 0

    with open_runner(Refusing(library)) as runner:
        runner.prepare({"x": rows(2)})
        assert runner.graph_problem == "TensorRT could not run the engine: TensorRT said nothing"
        assert library.capturing is None, "the capture has been ended, or the stream could not be used again"
        assert runner.enqueue() == pytest.approx(2e-3)


def test_a_new_shape_needs_a_new_graph(engine: FakeEngine, library: FakeLibrary) -> None:
    with open_runner(engine) as runner:
        runner.prepare({"x": rows(2)})
        runner.prepare({"x": rows(2)})
        assert library.calls.count("cudaGraphInstantiateWithFlags") == 1
        held = sorted(library.live.values())
        runner.prepare({"x": rows(3)})
        assert library.calls.count("cudaGraphInstantiateWithFlags") == 2
        assert sorted(library.live.values()) == held, "the old graph and buffers are released at once"
        runner.enqueue()
        assert np.array_equal(runner.infer({"x": rows(3)})["y"], 2 * rows(3))


def test_breakdown_tells_the_parts(engine: FakeEngine) -> None:
    with open_runner(engine) as runner:
        with pytest.raises(RuntimeError, match="prepare"):
            runner.breakdown(1)
        runner.prepare({"x": rows(2)})
        parts = runner.breakdown(3)
    assert parts.upload == pytest.approx((0.25e-3,) * 3)
    assert parts.compute == pytest.approx((2e-3,) * 3)
    assert parts.download == pytest.approx((0.25e-3,) * 3)
    assert len(parts.enqueue) == len(parts.end_to_end) == 3
    assert all(whole >= part > 0 for whole, part in zip(parts.end_to_end, parts.enqueue, strict=True))


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "takes inputs x; given were none"),
        ({"x": rows(2), "z": rows(2)}, "given were x, z"),
        ({"x": rows(9)}, r"given was \(9, 4\) of float32"),
        ({"x": rows(2)[:, :3]}, r"given was \(2, 3\)"),
        ({"x": rows(2).astype(np.float64)}, "of float64"),
    ],
)
def test_a_wrong_feed_is_refused(engine: FakeEngine, feed: dict[str, npt.NDArray[Any]], words: str) -> None:
    with open_runner(engine) as runner, pytest.raises(ValueError, match=words):
        runner.infer(feed)


def test_a_type_without_numpy_counterpart_is_refused(engine: FakeEngine) -> None:
    engine.kind = Kind.BF16
    with open_runner(engine) as runner, pytest.raises(ValueError, match="x is BF16"):
        runner.infer({"x": rows(2)})


def test_a_data_dependent_output_is_refused(engine: FakeEngine) -> None:
    engine.output_rows = -1
    with open_runner(engine) as runner, pytest.raises(ValueError, match="output y depends on data"):
        runner.infer({"x": rows(2)})


def test_running_out_of_memory_is_a_memory_error_and_leaks_nothing(engine: FakeEngine, library: FakeLibrary) -> None:
    with open_runner(engine) as runner:
        library.failing["cudaMalloc"] = 2
        with pytest.raises(MemoryError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation \(2\): out of memory"):
            runner.prepare({"x": rows(2)})
        del library.failing["cudaMalloc"]
        runner.prepare({"x": rows(2)})
        assert runner.enqueue() == pytest.approx(2e-3)


def test_no_context_is_a_memory_error_and_leaks_nothing(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "create_execution_context", lambda: None)
    with pytest.raises(MemoryError, match="no GPU memory for an execution context"):
        TensorRTRunner(engine, use_graph=True)


def test_an_error_is_cleared_so_that_the_next_call_does_not_report_it(library: FakeLibrary) -> None:
    library.failing["cudaStreamCreateWithFlags"] = 719
    with pytest.raises(RuntimeError, match=r"cudaStreamCreateWithFlags failed: cudaErrorSomething \(719\)"):
        cudart.Stream()
    assert library.calls[-3:] == ["cudaGetLastError", "cudaGetErrorName", "cudaGetErrorString"]


def test_device_problem(library: FakeLibrary) -> None:
    assert cudart.device_problem() is None
    library.failing["cudaGetDeviceCount"] = 35
    assert "cudaGetDeviceCount failed" in (cudart.device_problem() or "")


def test_free_memory_and_an_empty_buffer(library: FakeLibrary) -> None:
    assert cudart.free_memory() == (6 << 30, 8 << 30)
    with cudart.PinnedBuffer((0, 4), np.float32) as pinned, cudart.DeviceBuffer(0) as buffer:
        assert pinned.array.shape == (0, 4)
        assert buffer.handle.value


def test_the_real_library_has_every_function_with_these_signatures() -> None:
    """Against libcudart itself where one is installed: a misspelt name or a missing function shows here."""
    try:
        loaded = cudart.cudart()
    except OSError as error:
        pytest.skip(str(error))
    assert loaded.integer("cudaRuntimeGetVersion") >= 11040
    with pytest.raises((RuntimeError, MemoryError), match=r"cudaStreamSynchronize failed: cudaError\w+ \(\d+\)"):
        loaded("cudaStreamSynchronize", ctypes.c_void_p(1 << 40))


def test_a_runtime_newer_than_the_driver_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {"newest": FakeLibrary(), "fitting": FakeLibrary()}
    libraries["newest"].failing["cudaGetDeviceCount"] = 35

    def load(name: str) -> FakeLibrary:
        if name not in libraries:
            raise OSError(name)
        return libraries[name]

    choose = cudart.cudart.__wrapped__
    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(cudart, "_candidates", lambda: iter(("missing", "newest", "fitting")))
    assert choose().name == "fitting"
    monkeypatch.setattr(cudart, "_candidates", lambda: iter(("missing", "newest")))
    assert choose().name == "newest", "its own error then says what is wrong"
    monkeypatch.setattr(cudart, "_candidates", lambda: iter(("missing",)))
    with pytest.raises(OSError, match="LD_LIBRARY_PATH"):
        choose()
