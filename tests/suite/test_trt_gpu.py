"""The TensorRT backend on a real GPU: builds, precision, results, times, and everything that may go wrong there."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fixtures import device
from fixtures.backends import calibration_cache, cudart, graph, trt, trt_inspector, trt_network, trt_timing, trt_weak
from fixtures.backends.base import BuildOptions, CalibrationData, Engine, Precision
from fixtures.backends.trt import TensorRTBackend
from fixtures.backends.trt_runner import TensorRTRunner

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]
SHAPE = (16, 3, 112, 112)
LARGE = (64, 3, 224, 224)


@pytest.fixture(scope="module")
def backend() -> TensorRTBackend:
    """The backend under test; without a GPU and TensorRT there is nothing to test."""
    found = TensorRTBackend()
    if (reason := found.availability()) is not None:
        pytest.skip(reason)
    print(f"\n{found.version()} on {device.machine().describe()}")
    return found


@pytest.fixture(autouse=True)
def caches_beside_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trt.CACHE_VARIABLE, raising=False)


def write_network(path: Path, *, extra: str | None = None) -> Path:
    """A small residual network, N×3×H×W to N×10, with a dynamic batch; `extra` is an operator put before its end."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(7)
    weights: list[Any] = []
    nodes: list[Any] = []

    def convolve(source: str, name: str, inputs: int, outputs: int, size: int, stride: int = 1) -> str:
        scale = np.sqrt(2 / (inputs * size * size))
        kernel = (draw.normal(size=(outputs, inputs, size, size)) * scale).astype(np.float32)
        bias = (draw.normal(size=outputs) * 0.1).astype(np.float32)
        weights.extend((numpy_helper.from_array(kernel, f"{name}.w"), numpy_helper.from_array(bias, f"{name}.b")))
        pads = [size // 2] * 4
        inputs_of = [source, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", inputs_of, [name], name, pads=pads, strides=[stride] * 2))
        return name

    def node(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    x = node("Relu", [convolve("input", "stem", 3, 64, 7, 2)], "stem_relu")
    x = node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for block in range(3):
        y = node("Relu", [convolve(x, f"block{block}_a", 64, 64, 3)], f"block{block}_a_relu")
        y = convolve(y, f"block{block}_b", 64, 64, 3)
        x = node("Relu", [node("Add", [y, x], f"block{block}_add")], f"block{block}_relu")
    x = node("Relu", [convolve(x, "wide", 64, 256, 1)], "wide_relu")
    if extra is not None:
        x = node(extra, [x], "odd_one")
    x = node("Flatten", [node("GlobalAveragePool", [x], "mean")], "flat")
    weights.append(numpy_helper.from_array((draw.normal(size=(10, 256)) / 16).astype(np.float32), "fc.w"))
    weights.append(numpy_helper.from_array(np.zeros(10, np.float32), "fc.b"))
    nodes.append(helper.make_node("Gemm", [x, "fc.w", "fc.b"], ["output"], "fc", transB=1))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])
    model = helper.make_model(
        helper.make_graph(nodes, "residual", [image], [logits], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def write_images(folder: Path, shape: tuple[int, ...], count: int) -> CalibrationData:
    """Smooth random images: neighbouring pixels are alike, as in photographs."""
    folder.mkdir()
    draw = np.random.default_rng(11)
    coarse = draw.normal(size=(count, shape[1], shape[2] // 8, shape[3] // 8)).astype(np.float32)
    np.save(folder / "batch_000.npy", coarse.repeat(8, axis=2).repeat(8, axis=3))
    digest = hashlib.sha256((folder / "batch_000.npy").read_bytes()).hexdigest()
    return CalibrationData("input", (folder / "batch_000.npy",), digest)


@dataclasses.dataclass(frozen=True)
class Bench:
    """A folder with the network, its calibration images, and engines as they are asked for."""

    backend: TensorRTBackend
    folder: Path
    onnx: Path
    images: CalibrationData
    engines: dict[tuple[str, Precision, tuple[int, ...]], Engine]

    def build(self, precision: Precision, *, qdq: bool = False, shape: tuple[int, ...] = SHAPE) -> Engine:
        """The engine, built on first use."""
        key = ("qdq" if qdq else "plain", precision, shape)
        if key not in self.engines:
            calibration = self.images if precision is Precision.INT8 and not qdq else None
            options = BuildOptions(precision, {"input": shape}, calibration)
            source = self.onnx
            if qdq:
                source = self.folder / "qdq.onnx"
                graph.to_int8_qdq(self.onnx, self.images, source)
            out = self.folder / f"{key[0]}-{precision}-{shape[0]}.engine"
            self.engines[key] = make(self.backend, source, options, out)
            text = self.backend.layer_information(self.engines[key])
            out.with_suffix(".layers.json").write_text(text, encoding="utf-8")
        return self.engines[key]


def make(backend: TensorRTBackend, onnx: Path, options: BuildOptions, out: Path) -> Engine:
    """Build, and describe what was built as the engine cache does."""
    begun = time.perf_counter()
    layers = backend.build(onnx, options, out)
    seconds = time.perf_counter() - begun
    content = out.read_bytes()
    return Engine(
        backend.name, out, options, len(content), hashlib.sha256(content).hexdigest(), seconds, layers
    )  # fmt: skip


@pytest.fixture(scope="module")
def bench(backend: TensorRTBackend, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    onnx = write_network(folder / "residual.onnx")
    return Bench(backend, folder, onnx, write_images(folder / "images", SHAPE, 64), {})


@pytest.fixture(scope="module")
def photo() -> npt.NDArray[np.float32]:
    coarse = np.random.default_rng(5).normal(size=(SHAPE[0], 3, SHAPE[2] // 8, SHAPE[3] // 8)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(8, axis=2).repeat(8, axis=3))


@pytest.fixture(scope="module")
def expected(bench: Bench, photo: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What ONNX Runtime computes in FP32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bench.onnx), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": photo})
    return np.asarray(output, dtype=np.float32)


def sqnr(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    noise = float(np.sum((expected - found) ** 2))
    return 10 * float(np.log10(float(np.sum(expected**2)) / max(noise, 1e-30)))


KINDS = [
    pytest.param(Precision.FP32, False, id="fp32"),
    pytest.param(Precision.TF32, False, id="tf32"),
    pytest.param(Precision.FP16, False, id="fp16"),
    pytest.param(Precision.INT8, False, id="int8-calibrated"),
    pytest.param(Precision.INT8, True, id="int8-qdq"),
]


def convolutions(engine: Engine) -> Counter[str]:
    return Counter(str(layer.precision) for layer in engine.layers if layer.kind == "convolution")


@pytest.mark.parametrize(("precision", "qdq"), KINDS)
def test_layers_prove_the_precision(bench: Bench, precision: Precision, qdq: bool) -> None:
    engine = bench.build(precision, qdq=qdq)
    counts = convolutions(engine)
    print(
        f"{precision}{' qdq' if qdq else ''}: {dict(counts)}, {engine.build_seconds:.1f} s, {engine.size_bytes} bytes"
    )
    for layer in engine.layers:
        types = ",".join(tensor.format for tensor in layer.inputs), ",".join(t.format for t in layer.outputs)
        print(f"  {layer.kind:12} {layer.precision or '-':5} {types[0]}->{types[1]} {layer.name[:60]} | {layer.detail}")
    # The classifier may be run as a ninth, 1×1 convolution.
    assert sum(counts.values()) in (8, 9), "every convolution of the network is one layer of the engine"
    assert counts["None"] == 0, "the inspector tells each convolution's precision"
    if precision is Precision.FP32:
        assert set(counts) == {"fp32"}
    else:
        # The builder takes what is fastest, and may keep the stem with its three channels wider.
        assert counts[str(precision)] >= 6


@pytest.mark.parametrize(("precision", "qdq"), KINDS)
def test_outputs_agree_with_onnx_runtime(
    bench: Bench, photo: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], precision: Precision, qdq: bool
) -> None:
    least = {Precision.FP32: 90.0, Precision.TF32: 45.0, Precision.FP16: 45.0, Precision.INT8: 15.0}[precision]
    with bench.backend.runner(bench.build(precision, qdq=qdq)) as runner:
        found = runner.infer({"input": photo})["output"]
        again = runner.infer({"input": photo})["output"]
    print(f"{precision}: {sqnr(expected, found):.1f} dB")
    assert sqnr(expected, found) > least
    assert np.array_equal(found, again)


def test_a_wrong_feed_is_refused(bench: Bench, photo: npt.NDArray[np.float32]) -> None:
    with bench.backend.runner(bench.build(Precision.FP32)) as runner:
        with pytest.raises(ValueError, match="takes inputs input"):
            runner.infer({"image": photo})
        with pytest.raises(ValueError, match=r"given was \(8, 3, 112, 112\) of float32"):
            runner.infer({"input": photo[:8]})
        with pytest.raises(ValueError, match="of float64"):
            runner.infer({"input": photo.astype(np.float64)})


@dataclasses.dataclass
class Loop:
    """Another way to time the same engine: its own context, buffers and graph, runs queued back to back."""

    context: Any
    stream: cudart.Stream
    graph: cudart.Graph
    events: list[cudart.Event]

    def median(self, runs: int) -> float:
        """Each run lasts from one event to the next, as the GPU never waits for the host."""
        for event in self.events[:runs]:
            event.record(self.stream)
            self.graph.launch(self.stream)
        self.events[runs].record(self.stream)
        self.events[runs].synchronize()
        pairs = zip(self.events[:runs], self.events[1 : runs + 1], strict=True)
        return float(np.median([end.seconds_since(start) for start, end in pairs][1:]))

    def alone(self, runs: int) -> float:
        """Each run launched on an idle GPU: launching counts."""
        first, last = self.events[:2]
        taken = []
        for _run in range(runs):
            first.record(self.stream)
            self.graph.launch(self.stream)
            last.record(self.stream)
            last.synchronize()
            taken.append(last.seconds_since(first))
        return float(np.median(taken))


@pytest.fixture
def loop() -> Iterator[Callable[[Engine], Loop]]:
    import contextlib

    with contextlib.ExitStack() as stack:

        def open_loop(engine: Engine) -> Loop:
            runtime, loaded = trt_network.deserialize(engine.path.read_bytes(), "loop")
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
            return Loop(context, stream, captured, [stack.enter_context(cudart.Event()) for _ in range(65)])

        yield open_loop


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_times_agree_with_an_independent_loop(
    bench: Bench, loop: Callable[[Engine], Loop], precision: Precision
) -> None:
    engine = bench.build(precision, shape=LARGE)
    other = loop(engine)
    with bench.backend.runner(engine) as runner:
        assert isinstance(runner, TensorRTRunner)
        runner.prepare({"input": np.zeros(LARGE, np.float32)})
        assert runner.graph_problem is None
        for _warm in range(50):
            runner.enqueue()
        other.median(64)
        ratios = []
        for _round in range(11):
            ours = float(np.median([runner.enqueue() for _run in range(64)]))
            ratios.append(ours / other.median(64))
        alone = other.alone(64)
    print(f"{precision}: {ours * 1e3:.4f} ms, over the loop {np.round(ratios, 4)}, launched alone {alone * 1e3:.4f} ms")
    assert abs(float(np.median(ratios)) - 1) < 0.01


def test_a_small_engine_in_every_way_of_timing(bench: Bench, loop: Callable[[Engine], Loop]) -> None:
    engine = bench.build(Precision.FP16)
    other = loop(engine)
    with bench.backend.runner(engine) as runner:
        runner.prepare({"input": np.zeros(SHAPE, np.float32)})
        for _warm in range(200):
            runner.enqueue()
        inside = float(np.median([runner.enqueue() for _run in range(64)]))
    plain = TensorRTBackend(use_graph=False)
    with plain.runner(engine) as runner:
        assert isinstance(runner, TensorRTRunner)
        runner.prepare({"input": np.zeros(SHAPE, np.float32)})
        assert runner.graph_problem == "not asked for"
        for _warm in range(200):
            runner.enqueue()
        without = float(np.median([runner.enqueue() for _run in range(64)]))
    queued, alone = other.median(64), other.alone(64)
    print(f"events in graph {inside:.3e} s, queued {queued:.3e}, alone {alone:.3e}, without graph {without:.3e}")
    assert inside <= alone
    assert inside < without


def test_breakdown_and_profile(bench: Bench) -> None:
    engine = bench.build(Precision.FP16)
    with bench.backend.runner(engine) as runner:
        assert isinstance(runner, TensorRTRunner)
        runner.prepare({"input": np.zeros(SHAPE, np.float32)})
        parts = runner.breakdown(20)
        profile = runner.profile(10)
        compute = float(np.median([runner.enqueue() for _run in range(20)]))
    medians = {field.name: float(np.median(getattr(parts, field.name))) for field in dataclasses.fields(parts)}
    print({name: f"{value * 1e6:.1f} µs" for name, value in medians.items()})
    for layer in profile:
        print(f"  {layer.seconds * 1e6:7.1f} µs {layer.share:6.1%} {layer.name[:80]}")
    assert medians["upload"] > medians["download"] > 0
    assert medians["end_to_end"] > medians["upload"] + medians["compute"] + medians["download"]
    assert medians["compute"] == pytest.approx(compute, rel=0.1)
    assert {layer.name for layer in profile} <= {layer.name for layer in engine.layers}
    assert sum(layer.share for layer in profile) == pytest.approx(1)
    assert sum(layer.seconds for layer in profile) > 0.5 * compute


def test_the_calibration_cache_is_written_once_and_distrusted_when_changed(bench: Bench) -> None:
    if "weakly" not in bench.backend.version():
        pytest.skip("strongly typed: no calibrator")
    import tensorrt

    bench.build(Precision.INT8)
    made_from = calibration_cache.provenance(bench.onnx, bench.images, str(tensorrt.__version__))
    cache = trt_weak.calibration_cache_path(bench.onnx, made_from, trt.cache_folder(bench.folder / "x"))
    scales = calibration_cache.check(cache, made_from)
    print(f"{len(scales)} scales, {cache.read_text().splitlines()[:2]}")
    assert {"input", "stem_relu"} <= set(scales)
    written = cache.read_bytes()
    out = bench.folder / "again.engine"
    make(bench.backend, bench.onnx, BuildOptions(Precision.INT8, {"input": SHAPE}, bench.images), out)
    assert cache.read_bytes() == written
    cache.write_bytes(written[:-5])
    with pytest.raises(ValueError, match="cache_sha256"):
        calibration_cache.check(cache, made_from)
    make(bench.backend, bench.onnx, BuildOptions(Precision.INT8, {"input": SHAPE}, bench.images), out)
    assert calibration_cache.check(cache, made_from) == scales


def test_a_changed_engine_is_never_deserialized(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = bench.build(Precision.FP32)

    def forbidden(*_arguments: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(trt, "deserialize", forbidden)
    content = engine.path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[: len(content) // 2], b""):
        path = tmp_path / "damaged.engine"
        path.write_bytes(damaged)
        with (
            pytest.raises(ValueError, match="is not the file that was built"),
            bench.backend.runner(dataclasses.replace(engine, path=path)),
        ):
            pass


def run_apart(code: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own: what TensorRT does with a damaged plan must not end the tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [("garbage", "truncated or damaged"), ("truncated", "is refused"), ("version", "another version of TensorRT")],
)
def test_a_plan_that_this_tensorrt_cannot_take(bench: Bench, tmp_path: Path, damage: str, words: str) -> None:
    content = bytearray(bench.build(Precision.FP32).path.read_bytes())
    if damage == "garbage":
        content = bytearray(b"no engine at all " * 4096)
    elif damage == "truncated":
        del content[len(content) * 3 // 4 :]
    else:
        # The plan's header: a magic number, then the version of its format.
        content[4] ^= 0x10
    path = tmp_path / "foreign.engine"
    path.write_bytes(content)
    done = run_apart(
        """
        import pathlib, sys
        from fixtures.backends import trt_network
        try:
            trt_network.deserialize(pathlib.Path(sys.argv[1]).read_bytes(), "foreign.engine")
        except RuntimeError as error:
            print(error)
        """,
        str(path),
    )
    print(f"{damage}: status {done.returncode}: {done.stdout.strip()} {done.stderr.strip()[-500:]}")
    assert words in done.stdout


def test_an_unknown_operator_is_named(backend: TensorRTBackend, tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "odd.onnx", extra="Frobnicate")
    options = BuildOptions(Precision.FP32, {"input": SHAPE})
    with pytest.raises(ValueError, match="Frobnicate") as caught:
        backend.build(onnx, options, tmp_path / "out.engine")
    print(caught.value)
    assert "odd_one" in str(caught.value)
    assert "polygraphy inspect model odd.onnx" in str(caught.value)
    assert "neither an importer nor a plugin for Frobnicate" in str(caught.value)
    assert not (tmp_path / "out.engine").exists()


def test_the_timing_cache_saves_time_and_a_damaged_one_costs_only_time(bench: Bench, tmp_path: Path) -> None:
    options = BuildOptions(Precision.TF32, {"input": SHAPE})
    first = make(bench.backend, bench.onnx, options, tmp_path / "a.engine").build_seconds
    cache = trt_timing.cache_path(tmp_path / "tensorrt", bench.backend.version(), bench.backend.device())
    kept = cache.read_bytes()
    second = make(bench.backend, bench.onnx, options, tmp_path / "b.engine").build_seconds
    print(f"first build {first:.1f} s, with timing cache {second:.1f} s, {len(kept)} bytes")
    assert second < 0.7 * first
    cache.write_bytes(kept[:100] + bytes([kept[100] ^ 1]) + kept[101:])
    assert trt_timing.read(cache) == b""
    make(bench.backend, bench.onnx, options, tmp_path / "c.engine")
    assert trt_timing.read(cache)


BUILD_INT8 = """
    import hashlib, pathlib, sys
    from fixtures.backends.base import BuildOptions, CalibrationData, Precision
    from fixtures.backends.trt import TensorRTBackend
    onnx, batch, out = map(pathlib.Path, sys.argv[1:4])
    digest = hashlib.sha256(batch.read_bytes()).hexdigest()
    options = BuildOptions(Precision.INT8, {"input": (16, 3, 112, 112)}, CalibrationData("input", (batch,), digest))
    print("building", flush=True)
    TensorRTBackend().build(onnx, options, out)
    print("built", flush=True)
"""


def start_build(bench: Bench, out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILD_INT8), str(bench.onnx), str(bench.images.batches[0]), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def test_a_killed_build_leaves_nothing_that_is_trusted(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "killed.engine"
    for after in (2.0, 5.0):
        process = start_build(bench, out)
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = sorted(path.name for path in (tmp_path / "tensorrt").glob("*"))
        print(f"killed after {after} s: {left}, engine {out.exists()}")
        if out.exists():
            # It was done before it was killed; only the engine cache's rename would have made it count.
            out.unlink()
    made = make(bench.backend, bench.onnx, BuildOptions(Precision.INT8, {"input": SHAPE}, bench.images), out)
    assert convolutions(made)["int8"] >= 6


def test_two_processes_build_the_same_engine_at_once(bench: Bench, tmp_path: Path) -> None:
    builds = [start_build(bench, tmp_path / f"{number}.engine") for number in range(2)]
    said = [process.communicate(timeout=300)[0] for process in builds]
    assert [process.returncode for process in builds] == [0, 0], said
    cache = trt_timing.cache_path(tmp_path / "tensorrt", bench.backend.version(), bench.backend.device())
    assert trt_timing.read(cache)
    for number in range(2):
        trt_network.deserialize((tmp_path / f"{number}.engine").read_bytes(), "either")


def test_out_of_memory_is_said_with_what_to_change(bench: Bench, tmp_path: Path) -> None:
    done = run_apart(
        """
        import pathlib, sys
        from fixtures.backends import cudart
        from fixtures.backends.base import BuildOptions, Precision
        from fixtures.backends.trt import TensorRTBackend
        backend = TensorRTBackend()
        assert backend.availability() is None
        free, _total = cudart.free_memory()
        held = cudart.DeviceBuffer(free - (300 << 20))
        options = BuildOptions(Precision.FP32, {"input": (256, 3, 224, 224)})
        try:
            backend.build(pathlib.Path(sys.argv[1]), options, pathlib.Path(sys.argv[2]))
        except MemoryError as error:
            print("MemoryError:", error)
        """,
        str(bench.onnx),
        str(tmp_path / "large.engine"),
    )
    print(f"status {done.returncode}: {done.stdout.strip()} {done.stderr.strip()[-800:]}")
    assert "MemoryError:" in done.stdout
    assert "use a smaller batch" in done.stdout
    assert not (tmp_path / "large.engine").exists()


def test_the_machine_tells_what_it_is(backend: TensorRTBackend) -> None:
    begun = time.perf_counter()
    shot = device.snapshot()
    seconds = time.perf_counter() - begun
    found = device.machine()
    print(f"{found}\n{shot}\nsnapshot took {seconds * 1e3:.1f} ms")
    assert found.problem is None
    assert found.gpu == backend.device()
    assert shot.sm_mhz is not None
    assert shot.temperature_c is not None
    assert shot.throttle_reasons is not None


def test_inspector_text_is_what_the_parser_was_written_for(bench: Bench) -> None:
    text = bench.backend.layer_information(bench.build(Precision.FP16))
    information = trt_inspector.parse(text)
    assert information.detailed
    assert information.bindings == ("input", "output")
    assert all(tensor.format != "unknown" for layer in information.layers for tensor in layer.inputs)
