"""Times on a real GPU: the suite's own agree with an independent loop over the same engine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.suite.gpu.bench import LARGE, QUICK, SHAPE, Bench
from trtverify.fixtures.backends.tensorrt import network
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.backends.tensorrt.runner import TensorRTRunner
from trtverify.fixtures.devices import cudart, device
from trtverify.fixtures.words.terms import Engine, Precision

pytestmark = pytest.mark.gpu
RUNS = 64
ROUNDS = 11
# Of the rounds' ratios, the middle half; on a GPU that others use it spans several times as much.
WIDEST = 0.01
ATTEMPTS = 3


@dataclasses.dataclass
class Loop:
    """Another way to time the same engine: its own context, buffers and graph, runs queued back to back."""

    context: Any
    stream: cudart.Stream
    graph: cudart.Graph
    events: list[cudart.Event]

    def median(self) -> float:
        """Each run lasts from one event to the next, as the GPU never waits for the host."""
        for event in self.events[:RUNS]:
            event.record(self.stream)
            self.graph.launch(self.stream)
        self.events[RUNS].record(self.stream)
        self.events[RUNS].synchronize()
        pairs = zip(self.events[:RUNS], self.events[1 : RUNS + 1], strict=True)
        return float(np.median([end.seconds_since(start) for start, end in pairs][1:]))

    def alone(self) -> float:
        """Each run launched on an idle GPU: launching counts."""
        first, last = self.events[:2]
        taken = []
        for _run in range(RUNS):
            first.record(self.stream)
            self.graph.launch(self.stream)
            last.record(self.stream)
            last.synchronize()
            taken.append(last.seconds_since(first))
        return float(np.median(taken))


@pytest.fixture
def loop() -> Iterator[Callable[[Engine], Loop]]:
    with contextlib.ExitStack() as stack:

        def open_loop(engine: Engine) -> Loop:
            runtime, loaded = network.deserialize(engine.path.read_bytes(), "loop")
            stack.callback(lambda: runtime)
            context = loaded.create_execution_context()
            stream = stack.enter_context(cudart.Stream())
            names = [loaded.get_tensor_name(index) for index in range(loaded.num_io_tensors)]
            context.set_input_shape("input", engine.options.shapes["input"])
            for name in names:
                size = 4 * int(np.prod(tuple(context.get_tensor_shape(name))))
                buffer = stack.enter_context(cudart.DeviceBuffer(size))
                context.set_tensor_address(name, buffer.handle.value)
            context.execute_async_v3(stream.handle.value)
            stream.synchronize()
            stream.begin_capture()
            context.execute_async_v3(stream.handle.value)
            captured = stack.enter_context(stream.end_capture())
            return Loop(context, stream, captured, [stack.enter_context(cudart.Event()) for _ in range(RUNS + 1)])

        yield open_loop


def timed(runner: Any, runs: int = RUNS) -> float:
    return float(np.median([runner.enqueue() for _run in range(runs)]))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.FP32])
def test_times_agree_with_an_independent_loop(
    bench: Bench, loop: Callable[[Engine], Loop], precision: Precision
) -> None:
    engine = bench.build(precision, shape=LARGE, level=QUICK)
    other = loop(engine)
    with bench.backend.runner(engine) as runner:
        assert isinstance(runner, TensorRTRunner)
        runner.prepare({"input": np.zeros(LARGE, np.float32)})
        assert runner.graph_problem is None
        timed(runner)
        for _attempt in range(ATTEMPTS):
            before = device.snapshot()
            ratios = [timed(runner) / other.median() for _round in range(ROUNDS)]
            disturbed = device.disturbances(before, device.snapshot())
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            print(f"{precision}: {timed(runner) * 1e3:.4f} ms, over the loop {np.round(ratios, 4)}, {disturbed}")
            if high - low <= WIDEST and not disturbed.others and not disturbed.throttled:
                break
        else:
            pytest.skip(f"the GPU is not quiet: ratios from {low:.3f} to {high:.3f} in the middle half, {disturbed}")
    assert abs(middle - 1) < 0.01


def test_a_small_engine_in_every_way_of_timing(bench: Bench, loop: Callable[[Engine], Loop]) -> None:
    engine = bench.build(Precision.FP16)
    other = loop(engine)
    feed = {"input": np.zeros(SHAPE, np.float32)}
    plain = TensorRTBackend(use_graph=False)
    with bench.backend.runner(engine) as runner, plain.runner(engine) as without_graph:
        assert isinstance(without_graph, TensorRTRunner)
        runner.prepare(feed)
        without_graph.prepare(feed)
        assert without_graph.graph_problem == "not asked for"
        ways = (functools.partial(timed, runner), functools.partial(timed, without_graph), other.median, other.alone)
        # In turn, so that clocks that change meet all alike.
        rounds = [[way() for way in ways] for _round in range(ROUNDS)]
    inside, without, queued, alone = (float(value) for value in np.median(rounds[2:], axis=0))
    print(f"events in graph {inside:.3e} s, queued {queued:.3e}, alone {alone:.3e}, without graph {without:.3e}")
    # Two ways to take the same time, of which one also waits for the launch: never more, within the clock's 0.5 µs.
    assert inside <= alone + 1e-6
    assert inside < without


def test_breakdown_and_profile(bench: Bench) -> None:
    engine = bench.build(Precision.FP16)
    with bench.backend.runner(engine) as runner:
        assert isinstance(runner, TensorRTRunner)
        runner.prepare({"input": np.zeros(SHAPE, np.float32)})
        parts = runner.breakdown(50)
        compute = timed(runner)
        profile = runner.profile(20)
    medians = {field.name: float(np.median(getattr(parts, field.name))) for field in dataclasses.fields(parts)}
    print({name: f"{value * 1e6:.1f} µs" for name, value in medians.items()}, f"alone {compute * 1e6:.1f} µs")
    for layer in profile:
        print(f"  {layer.seconds * 1e6:7.1f} µs {layer.share:6.1%} {layer.name[:80]}")
    assert medians["upload"] > medians["download"] > 0
    assert medians["end_to_end"] > medians["upload"] + medians["compute"] + medians["download"]
    # Behind an upload the input lies in other caches than behind the run before.
    assert medians["compute"] == pytest.approx(compute, rel=0.25)
    assert {layer.name for layer in profile} <= {layer.name for layer in engine.layers}
    assert sum(layer.share for layer in profile) == pytest.approx(1)
    assert sum(layer.seconds for layer in profile) > 0.5 * compute
