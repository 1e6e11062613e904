"""The ONNX Runtime backend: what it builds, what really runs, and how it refuses."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.suite import tiny
from trtverify.fixtures.backends.onnxruntime import backend as onnxrt
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.graphs import convert, ort_errors, rules
from trtverify.fixtures.words.terms import BuildOptions, Engine, Precision

# Measured on this network: FP16 0.0004, INT8 0.010 of the output's norm.
ERRORS = {Precision.FP32: 1e-6, Precision.FP16: 0.002, Precision.INT8: 0.03}


@pytest.fixture
def backend() -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.network(tmp_path / "tiny.onnx")


def options(precision: Precision, tmp_path: Path) -> BuildOptions:
    int8 = precision is Precision.INT8
    return BuildOptions(precision, calibration=tiny.calibration(tmp_path / "calibration") if int8 else None)


def build(backend: OnnxRuntimeBackend, model: Path, wanted: BuildOptions, out: Path) -> Engine:
    layers = backend.build(model, wanted, out)
    return Engine(backend.name, out, wanted, out.stat().st_size, "", 0.0, layers)


def computed(engine: Engine, kind: str) -> Counter[str]:
    return Counter(str(layer.precision) for layer in engine.layers if layer.kind == kind)


@pytest.mark.parametrize("precision", OnnxRuntimeBackend.precisions, ids=str)
def test_builds_runs_and_agrees(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path, precision: Precision) -> None:
    engine = build(backend, model, options(precision, tmp_path), tmp_path / "engine")
    with backend.runner(engine) as runner:
        found = runner.infer({"input": tiny.image(9)})["output"]
    expected = tiny.run(model, tiny.image(9))
    assert found.dtype == np.float32
    error = tiny.relative_error(found, expected)
    assert error < ERRORS[precision]
    assert precision is Precision.FP32 or error > 0, "nothing was converted"
    assert engine.size_bytes > rules.weights_bytes(onnx.load(str(model)), precision)


def test_layers_say_what_is_really_computed(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path) -> None:
    engines = {p: build(backend, model, options(p, tmp_path), tmp_path / str(p)) for p in backend.precisions}
    all_of_them = tiny.CONVOLUTIONS
    assert computed(engines[Precision.FP32], "convolution") == {"fp32": all_of_them}
    assert computed(engines[Precision.INT8], "convolution") == {"int8": all_of_them}
    assert computed(engines[Precision.INT8], "matmul") == {"int8": 1}
    native = backend.computes(Precision.FP16) is None
    assert computed(engines[Precision.FP16], "convolution") == {"fp16" if native else "fp32": all_of_them}
    casts = sum(layer.detail == "Cast" for layer in engines[Precision.FP16].layers)
    assert native or casts >= all_of_them, "FP32 convolutions of an FP16 model need casts"
    # Stored as asked for, whatever it is computed in.
    assert engines[Precision.FP16].size_bytes < 0.6 * engines[Precision.FP32].size_bytes
    assert engines[Precision.INT8].size_bytes < 0.45 * engines[Precision.FP32].size_bytes
    for engine in engines.values():
        for layer in engine.layers:
            assert all(t.shape and t.format for t in (*layer.inputs, *layer.outputs)), layer
    stem = engines[Precision.FP32].layers[0]
    assert (stem.kind, stem.detail) == ("convolution", "com.microsoft.FusedConv Relu")
    assert [t.shape for t in stem.inputs] == [tiny.SHAPE], "weights are no activations"
    assert [t.shape for t in stem.outputs] == [(1, tiny.CHANNELS, 32, 32)]


@pytest.mark.parametrize("precision", OnnxRuntimeBackend.precisions, ids=str)
def test_what_runs_is_what_the_layers_say(
    backend: OnnxRuntimeBackend, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    import onnxruntime

    engine = build(backend, model, options(precision, tmp_path), tmp_path / "engine")

    class Profiled(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.enable_profiling = True
            self.profile_file_prefix = str(tmp_path / "profile")

    monkeypatch.setattr(onnxruntime, "SessionOptions", Profiled)
    with backend.runner(engine) as runner:
        runner.infer({"input": tiny.image()})
        profile = Path(runner._session.end_profiling())  # type: ignore[attr-defined]
    events = [event for event in json.loads(profile.read_text()) if event["name"].endswith("_kernel_time")]
    ran = Counter(event["args"]["op_name"] for event in events)
    assert ran == Counter(layer.detail.split()[0].split(".")[-1] for layer in engine.layers)


def test_qdq_that_it_does_not_fuse_is_reported_as_fp32(
    backend: OnnxRuntimeBackend, model: Path, tmp_path: Path
) -> None:
    """TensorRT's placement, with nothing quantized behind a convolution, runs in floating point here."""
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized, convert.TENSORRT_STYLE)
    engine = build(backend, quantized, BuildOptions(Precision.INT8), tmp_path / "engine")
    assert computed(engine, "convolution") == {"fp32": tiny.CONVOLUTIONS}
    assert sum(layer.kind == "quantize" for layer in engine.layers) >= 2 * tiny.CONVOLUTIONS


def test_fp16_is_not_called_computed_where_it_is_cast(backend: OnnxRuntimeBackend) -> None:
    import platform

    reason = backend.computes(Precision.FP16)
    if platform.machine() == "x86_64":
        assert reason is not None
        assert "computes FP32" in reason
    assert backend.computes(Precision.FP32) is None
    assert backend.computes(Precision.INT8) is None


def test_names_itself(backend: OnnxRuntimeBackend) -> None:
    assert backend.availability() is None
    assert backend.runnable() is None
    assert re.fullmatch(r"ONNX Runtime \d+\.\d+\.\d+\S* \(CPU\)", backend.version())
    assert backend.device()
    assert 1 <= onnxrt.physical_cores() <= 1024


def test_tf32_is_not_offered(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="offers fp32, fp16, int8, not tf32"):
        backend.build(model, BuildOptions(Precision.TF32), tmp_path / "engine")


def test_dynamic_batch_is_built_at_the_shape_asked_for(backend: OnnxRuntimeBackend, tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "dynamic.onnx", batch="batch")
    wanted = BuildOptions(Precision.FP32, shapes={"input": (3, 3, 32, 32)})
    engine = build(backend, model, wanted, tmp_path / "engine")
    assert engine.layers[0].inputs[0].shape == (3, 3, 32, 32)
    images = np.concatenate([tiny.image(seed) for seed in range(3)])
    with backend.runner(engine) as runner:
        assert runner.infer({"input": images})["output"].shape == (3, 10)
        with pytest.raises(ValueError, match="input takes 3×3×32×32 float32; 1×3×32×32 float32 was given"):
            runner.infer({"input": tiny.image()})


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({}, "the engine's inputs are input; – was given"),
        ({"input": tiny.image(), "x": tiny.image()}, "the engine's inputs are input; input, x was given"),
        ({"input": tiny.image()[0]}, "input takes 1×3×32×32 float32; 3×32×32 float32 was given"),
        ({"input": tiny.image().astype(np.float64)}, "input takes 1×3×32×32 float32; 1×3×32×32 float64 was given"),
    ],
    ids=["missing", "extra", "rank", "dtype"],
)
def test_an_input_that_does_not_fit_is_refused(
    backend: OnnxRuntimeBackend, model: Path, tmp_path: Path, feed: dict[str, Any], says: str
) -> None:
    engine = build(backend, model, BuildOptions(Precision.FP32), tmp_path / "engine")
    with backend.runner(engine) as runner:
        for call in (runner.infer, runner.prepare):
            with pytest.raises(ValueError, match=re.escape(says)):
                call(feed)


def test_enqueue_runs_on_what_was_prepared(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path) -> None:
    engine = build(backend, model, BuildOptions(Precision.FP32), tmp_path / "engine")
    with backend.runner(engine) as runner:
        with pytest.raises(RuntimeError, match="before prepare"):
            runner.enqueue()
        feed = {"input": tiny.image(1)}
        before = runner.infer(feed)["output"]
        runner.prepare(feed)
        feed["input"][:] = 0
        # Frees what a binding that kept no reference would still point to, and writes over it.
        litter = [np.full(tiny.SHAPE, np.nan, np.float32) for _ in range(200)]
        assert all(0 < runner.enqueue() < 10 for _ in range(20))
        assert len(litter) == 200
        bound = runner._binding.copy_outputs_to_cpu()[0]  # type: ignore[attr-defined]
    assert np.array_equal(bound, before)


def node_graph(path: Path, operator: str, domain: str = "") -> Path:
    extra = helper.make_node(operator, ["pooled"], ["extra"], f"/x/{operator}", domain=domain)
    tiny.network(path, extra=[extra])
    if domain:
        model = onnx.load(str(path))
        model.opset_import.append(helper.make_opsetid(domain, 1))
        onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("operator", "domain", "says"),
    [("Foo", "", "Name: /x/Foo OpType: Foo"), ("Foo", "com.example", "no operator com.example:Foo")],
    ids=["onnx", "foreign"],
)
def test_an_unknown_operator_is_named(
    backend: OnnxRuntimeBackend, tmp_path: Path, operator: str, domain: str, says: str
) -> None:
    model = node_graph(tmp_path / "foo.onnx", operator, domain)
    with pytest.raises(ValueError, match=re.escape(says)):
        backend.build(model, BuildOptions(Precision.FP32), tmp_path / "engine")


def test_a_node_whose_shapes_disagree_is_named(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path) -> None:
    loaded = onnx.load(str(model))
    weight = next(tensor for tensor in loaded.graph.initializer if tensor.name == "fc.weight")
    weight.CopyFrom(numpy_helper.from_array(np.zeros((10, 31), np.float32), "fc.weight"))
    onnx.save(loaded, str(model))

    def build_and_run() -> None:
        # ONNX Runtime 1.17 notices only when it runs.
        engine = build(backend, model, BuildOptions(Precision.FP32), tmp_path / "engine")
        with backend.runner(engine) as runner:
            runner.infer({"input": tiny.image()})

    with pytest.raises(ValueError, match=r"refuses node '/fc/Gemm' \(operator Gemm\)"):
        build_and_run()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Conv(11) node with "
            "name '/c'",
            "refuses node '/c' (operator Conv)",
        ),
        (
            "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /x/y.onnx failed:This is an invalid model. In "
            'Node, ("/f", Foo, "", -1) : ("x": tensor(float),) -> ("y",) , Error No Op registered for Foo',
            "refuses node '/f' (operator Foo): This is an invalid model",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running Conv node. "
            "Name:'/stem/Conv' Status Message: Input channels C is not equal to kernel channels",
            "refuses node '/stem/Conv' (operator Conv)",
        ),
    ],
    ids=["not implemented", "invalid", "running"],
)
def test_its_own_words_name_node_and_operator(text: str, says: str) -> None:
    assert says in ort_errors.describe(text)
    assert "ONNXRuntimeError" not in ort_errors.describe(text)


def test_out_of_memory_is_told_apart() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    with pytest.raises(MemoryError, match="ran out of memory"), ort_errors.refusals():
        raise RuntimeException("Failed to allocate memory for requested buffer of size 411041792")


def test_memory_that_the_graph_itself_asks_for_is_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    with pytest.raises(ValueError, match="more memory than any of these networks needs"), ort_errors.refusals():
        raise RuntimeException("Failed to allocate memory for requested buffer of size 137438953472")
    # Without a size, it depends on whether memory is short.
    monkeypatch.setattr(ort_errors, "available_bytes", lambda: 16 << 30)
    with pytest.raises(ValueError, match="more memory than any"), ort_errors.refusals():
        raise RuntimeException("std::bad_alloc")
    monkeypatch.setattr(ort_errors, "available_bytes", lambda: 1 << 30)
    with pytest.raises(MemoryError), ort_errors.refusals():
        raise RuntimeException("std::bad_alloc")


def test_a_disk_that_takes_no_more_is_told_apart(model: Path) -> None:
    with pytest.raises(OSError, match="could not write"):
        onnxrt.optimise(model, Path("/dev/full"))


def test_an_engine_that_is_no_model_is_refused(backend: OnnxRuntimeBackend, model: Path, tmp_path: Path) -> None:
    engine = build(backend, model, BuildOptions(Precision.FP32), tmp_path / "engine")
    engine.path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="refuses the model"), backend.runner(engine):
        pass
