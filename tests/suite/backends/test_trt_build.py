"""Building with TensorRT: regimes, options, memory, faults. TensorRT-RTX stands in for the strongly typed builder."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from trtverify.fixtures.backends.tensorrt import build as trt_build
from trtverify.fixtures.backends.tensorrt import network as trt_network
from trtverify.fixtures.backends.tensorrt import weak
from trtverify.fixtures.backends.tensorrt.build import Plan
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision

ROOT = Path(__file__).resolve().parents[3]
SHAPE = (2, 3, 32, 32)


def write_model(path: Path, operator: str = "Relu") -> Path:
    """A convolution and one operator after it, with a dynamic batch."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(0).normal(size=(16, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], "first", pads=[1] * 4),
        helper.make_node(operator, ["c"], ["output"], "second"),
    ]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 32, 32])
    target = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 16, 32, 32])
    held = helper.make_graph(nodes, "two", [source], [target], [numpy_helper.from_array(kernel, "w")])
    model = helper.make_model(held, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def images(tmp_path: Path) -> CalibrationData:
    np.save(tmp_path / "batch_000.npy", np.random.default_rng(1).normal(size=(3, *SHAPE[1:])).astype(np.float32))
    return CalibrationData("input", (tmp_path / "batch_000.npy",), "d1ge57")


def run_apart(code: str, *arguments: Path | str, modules: Path = ROOT, **environment: str) -> str:
    """Run in a process of its own, as TensorRT's stand-ins must not stay in this one; all that it printed."""
    paths = os.pathsep.join(map(str, (modules, ROOT, os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


STAND_IN = """
    import pathlib, sys
    import tensorrt_rtx
    tensorrt_rtx.__version__ = "11.0.0"
    sys.modules["tensorrt"] = tensorrt_rtx
    from trtverify.fixtures.backends.tensorrt import build as trt_build
    from trtverify.fixtures.backends.tensorrt import network as trt_network
    from trtverify.fixtures.backends.tensorrt import strong as trt_strong
    from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision
    folder = pathlib.Path(sys.argv[1])
    shapes = {"input": (2, 3, 32, 32)}
    def build(name, options):
        with trt_strong.plan(folder / name, options, folder / "cache") as plan:
            return trt_build.build(plan, options, folder / "cache" / "timing.cache")
    def refused(name, options):
        try:
            build(name, options)
        except ValueError as error:
            print(error)
        else:
            sys.exit(f"{name} was taken")
"""
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: no builder without a GPU"
)


@needs_rtx
def test_the_strong_regime_builds_every_precision(model: Path, images: CalibrationData) -> None:
    said = run_apart(
        STAND_IN
        + """
    images = CalibrationData("input", (folder / "batch_000.npy",), "d1ge57")
    for precision in Precision:
        calibration = images if precision is Precision.INT8 else None
        print(precision, len(build("model.onnx", BuildOptions(precision, shapes, calibration))))
    print(sorted(path.name for path in (folder / "cache").iterdir()))
    """,
        model.parent,
        POLYGRAPHY_USE_TENSORRT_RTX="1",
    )
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["fp32", "tf32", "fp16", "int8"]
    assert all(int(line.split()[1]) > 10_000 for line in lines[:4])
    assert lines[4:] == ["['timing.cache', 'timing.cache.lock']"], "nothing else is said, no rewritten graph is left"


@needs_rtx
def test_what_the_parser_refuses_is_named(model: Path) -> None:
    write_model(model.parent / "odd.onnx", "Frobnicate")
    (model.parent / "half.onnx").write_bytes(model.read_bytes()[:300])
    said = run_apart(
        STAND_IN
        + """
    refused("odd.onnx", BuildOptions(Precision.FP32, shapes))
    try:
        trt_network.parse(folder / "half.onnx", strongly_typed=True)
    except ValueError as error:
        print(error)
    """,
        model.parent,
        POLYGRAPHY_USE_TENSORRT_RTX="1",
    )
    assert "stops at node 1 second, operator Frobnicate" in said
    assert "neither an importer nor a plugin for Frobnicate" in said
    assert "polygraphy inspect model odd.onnx --show layers" in said
    assert "cannot read half.onnx as ONNX" in said


class Error:
    """TensorRT 8.6's ParserError: an index and no names."""

    def __init__(self, node: int) -> None:
        self._node = node

    def node(self) -> int:
        return self._node

    def desc(self) -> str:
        return "No importer registered for op: Frobnicate. Attempting to import as plugin."


def test_the_node_is_named_where_the_parser_gives_its_index_alone(tmp_path: Path) -> None:
    odd = write_model(tmp_path / "odd.onnx", "Frobnicate")
    said = trt_network._parse_problem(odd, [Error(1)], [])
    assert "stops at node 1 second, operator Frobnicate" in said
    assert "neither an importer nor a plugin for Frobnicate" in said
    assert "node 7 ?, operator ?" in trt_network._parse_problem(odd, [Error(7)], [])


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class Network:
    """A network with inputs only."""

    def __init__(self, *inputs: Tensor) -> None:
        self.num_inputs = len(inputs)
        self.get_input = inputs.__getitem__


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"image": (1, 3)}, "a shape is given for image; the graph's inputs are input"),
        ({}, r"input input has shape \(-1, 3\)"),
        ({"input": (1, 4)}, r"cannot be built for \(1, 4\)"),
        ({"input": (1, 3, 1)}, r"cannot be built for \(1, 3, 1\)"),
        ({"input": (0, 3)}, r"cannot be built for \(0, 3\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    network = Network(Tensor("input", (-1, 3)))
    with pytest.raises(ValueError, match=words):
        trt_build.shapes_of(network, BuildOptions(Precision.FP32, shapes))
    assert trt_build.shapes_of(network, BuildOptions(Precision.FP32, {"input": (5, 3)})) == {"input": (5, 3)}


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        (Precision.FP32, {"tf32": False}),
        (Precision.TF32, {"tf32": True}),
        (Precision.FP16, {"tf32": True, "fp16": True}),
    ],
)
def test_weak_flags(model: Path, precision: Precision, flags: dict[str, bool]) -> None:
    with weak.plan(model, BuildOptions(precision), model.parent) as plan:
        assert plan == Plan(model, strongly_typed=False, flags=flags)


def test_weak_int8_takes_scales_from_the_graph_where_it_has_them(model: Path, images: CalibrationData) -> None:
    from trtverify.fixtures.graphs.convert import to_int8_qdq

    qdq = model.with_name("qdq.onnx")
    to_int8_qdq(model, images, qdq)
    with weak.plan(qdq, BuildOptions(Precision.INT8), model.parent) as plan:
        assert plan.flags == {"tf32": True, "fp16": True, "int8": True}
    with (
        pytest.raises(ValueError, match="build it as int8"),
        weak.plan(qdq, BuildOptions(Precision.FP16), model.parent),
    ):
        pass
    with (
        pytest.raises(ValueError, match="no Q/DQ and no calibration data"),
        weak.plan(model, BuildOptions(Precision.INT8), model.parent),
    ):
        pass


CALIBRATE = """
    import pathlib, sys
    from trtverify.fixtures.backends.tensorrt import weak as trt_weak
    from trtverify.fixtures.devices import cudart
    from trtverify.fixtures.submitted import calibration_cache
    from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision
    from fake_cuda import FakeLibrary
    library = FakeLibrary()
    cudart.cudart = lambda made=cudart.Cudart(library, "fake"): made
    folder = pathlib.Path(sys.argv[1])
    images = CalibrationData("input", (folder / "batch_000.npy",), "d1ge57")
    options = BuildOptions(Precision.INT8, {"input": (2, 3, 32, 32)}, images)
    table = b"TRT-8600-EntropyCalibration2\\ninput: 3c010a14\\nfc.b: 0\\n"
    def build(written, batches=2, during=lambda: None):
        \"""What TensorRT does with a calibrator: the cache, or else batches until there are none.\"""
        with trt_weak.plan(folder / "model.onnx", options, folder / "cache") as plan:
            assert plan.prefer_int8
            calibrator = plan.flags["calibrator"]
            found = calibrator.read_calibration_cache()
            for _number in range(batches if found is None else 0):
                addresses = calibrator.get_batch(["input"])
                if addresses is None:
                    raise RuntimeError("no scaling factors detected")
                assert all(address in library.memory for address in addresses)
            if written:
                calibrator.write_calibration_cache(memoryview(written))
            during()
            return found
    def attempt(*arguments, **more):
        try:
            print(build(*arguments, **more))
        except (RuntimeError, ValueError, MemoryError) as error:
            print(f"{type(error).__name__}: {error}", caches())
        assert not list((folder / "cache").glob(".*")), "nothing half done is left"
        assert not library.live, "every buffer and stream is released"
    def caches():
        return sorted((folder / "cache").glob("*.cache"))
"""


@pytest.fixture
def stand_in(model: Path, images: CalibrationData) -> Path:
    """A folder with a `tensorrt` that has calibrators only, and the fake CUDA."""
    folder = model.parent / "stand_in"
    folder.mkdir()
    (folder / "tensorrt.py").write_text("__version__ = '8.6.0'\nclass IInt8EntropyCalibrator2: pass\n")
    shutil.copyfile(Path(__file__).with_name("fake_cuda.py"), folder / "fake_cuda.py")
    return folder


def test_the_calibration_cache_through_a_build(model: Path, stand_in: Path) -> None:
    said = run_apart(
        CALIBRATE
        + """
    attempt(b"")
    attempt(b"TRT-8600")
    attempt(table, batches=1)
    attempt(table)
    (cache,) = caches()
    attempt(table + b"more: 3c010a14\\n")
    print(cache.read_bytes() == table)
    cache.write_bytes(table + b"forged: 3f800000\\n")
    attempt(table)
    print(cache.read_bytes() == table)
    calibration_cache.sidecar(cache).unlink()
    attempt(table)
    made_from = calibration_cache.provenance(folder / "model.onnx", images, "8.6.0")
    print(calibration_cache.check(cache, made_from))
    """,
        model.parent,
        modules=stand_in,
    )
    lines = said.splitlines()
    assert lines[0].startswith("RuntimeError: TensorRT wrote no calibration cache")
    assert lines[1].startswith("ValueError: .model-")
    assert lines[2] == "RuntimeError: TensorRT took 1 of 2 calibration batches []"
    assert lines[3] == "None"
    assert lines[4].startswith("b'TRT-8600-EntropyCalibration2"), "the second time the scales are read"
    assert lines[5] == "True", "and kept as they were"
    assert lines[6:8] == ["None", "True"], "a forged cache is made anew"
    assert lines[8] == "None", "so is one without provenance"
    assert lines[9].startswith("{'input': 0.00787")


def test_trouble_while_tensorrt_calls_back_is_told(model: Path, stand_in: Path) -> None:
    said = run_apart(
        CALIBRATE
        + """
    library.failing["cudaMemcpyAsync"] = 700
    attempt(table)
    library.failing = {"cudaMalloc": 2}
    attempt(table)
    library.failing = {}
    def fail():
        raise ValueError("the parser stopped")
    attempt(table, during=fail)
    """,
        model.parent,
        modules=stand_in,
    )
    lines = said.splitlines()
    assert lines[0].startswith("RuntimeError: cudaMemcpyAsync failed: cudaErrorSomething (700)")
    assert lines[1].startswith("MemoryError: cudaMalloc failed")
    assert lines[2] == "ValueError: the parser stopped []"


def test_a_builder_that_speaks_of_anything_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["1: [caskUtils.cpp::createCaskHardwareInfo::858] Error Code 1: Cask (no further information)"]
    for free, short in ((300 << 20, True), (4 << 30, False)):
        monkeypatch.setattr(trt_build, "free_memory", lambda free=free: (free, 8 << 30))
        assert trt_build._short_of_memory(words) is short
        assert trt_build._short_of_memory([*words, "out of memory"])


def test_out_of_memory_is_tried_once_more_with_less(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int | None] = []

    def build(_plan: Plan, _options: BuildOptions, workspace: int | None, _cache: Path) -> bytes:
        tried.append(workspace)
        if len(tried) < enough:
            raise MemoryError("out of memory")
        return b"engine"

    monkeypatch.setattr(trt_build, "_build", build)
    monkeypatch.setattr(trt_build, "free_memory", lambda: (4 << 30, 8 << 30))
    plan, options = Plan(model, False, {}), BuildOptions(Precision.FP32)
    enough = 2
    assert trt_build.build(plan, options, model) == b"engine"
    assert tried == [None, 1 << 30]
    tried.clear()
    trt_build.build(plan, dataclasses.replace(options, workspace_bytes=1 << 30), model)
    assert tried == [1 << 30, 1 << 28]
    tried.clear()
    enough = 3
    with pytest.raises(MemoryError, match=r"a workspace of 1024 MiB \(4096 of 8192 MiB are free\).*smaller batch"):
        trt_build.build(plan, options, model)
