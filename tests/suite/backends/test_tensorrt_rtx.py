"""The TensorRT-RTX backend: real builds with no GPU, what the engine consists of, and how it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.suite import tiny
from trtverify.fixtures.backends import tensorrt_rtx
from trtverify.fixtures.backends.tensorrt_rtx import TensorRTRTXBackend
from trtverify.fixtures.graphs import convert, rules
from trtverify.fixtures.words.terms import BuildOptions, Engine, Layer, Precision

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def backend() -> TensorRTRTXBackend:
    found = TensorRTRTXBackend()
    if (reason := found.availability()) is not None:
        pytest.skip(reason)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.network(tmp_path / "tiny.onnx")


def computed(layers: tuple[Layer, ...], kind: str = "convolution") -> Counter[str]:
    return Counter(str(layer.precision) for layer in layers if layer.kind == kind)


@pytest.mark.parametrize("precision", TensorRTRTXBackend.precisions, ids=str)
def test_builds_in_the_precision_asked_for(
    backend: TensorRTRTXBackend, model: Path, tmp_path: Path, precision: Precision
) -> None:
    calibration = tiny.calibration(tmp_path / "calibration") if precision is Precision.INT8 else None
    out = tmp_path / "engine"
    layers = backend.build(model, BuildOptions(precision, calibration=calibration), out)
    assert computed(layers) == {str(precision): tiny.CONVOLUTIONS}
    # A product as small as this one's is a sum of products in floating point, and a real product in INT8.
    assert computed(layers, "matmul") == ({"int8": 1} if precision is Precision.INT8 else {})
    assert out.stat().st_size > rules.weights_bytes(onnx.load(str(model)), precision)
    assert all(tensor.shape and tensor.format for layer in layers for tensor in (*layer.inputs, *layer.outputs))
    stem = next(layer for layer in layers if layer.kind == "convolution")
    assert stem.name.startswith("/stem/Conv")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] in ([], ["calibration"]), "no litter"


def test_only_tf32_may_use_tf32(backend: TensorRTRTXBackend, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    asked = {}

    def run(request: dict[str, object]) -> dict[str, object]:
        asked[request["out"]] = request["tf32"]
        return {"refused": [], "built": True, "unwritten": None, "errors": [], "layers": ""}

    monkeypatch.setattr(tensorrt_rtx, "_run", run)
    for precision in (Precision.FP32, Precision.TF32, Precision.FP16):
        backend.build(model, BuildOptions(precision), model.with_name(str(precision)))
    assert {Path(str(out)).name: tf32 for out, tf32 in asked.items()} == {"fp32": False, "tf32": True, "fp16": False}


def test_the_builder_is_told(backend: TensorRTRTXBackend, model: Path, tmp_path: Path) -> None:
    """A build repeats to the byte, so what differs is the flag; nothing else tells FP32 from TF32 with no GPU."""
    engines = []
    for number, precision in enumerate((Precision.FP32, Precision.FP32, Precision.TF32)):
        backend.build(model, BuildOptions(precision), tmp_path / str(number))
        engines.append((tmp_path / str(number)).read_bytes())
    assert engines[0] == engines[1]
    assert engines[0] != engines[2]


def test_names_itself(backend: TensorRTRTXBackend) -> None:
    assert re.fullmatch(r"TensorRT-RTX \d+\.\d+\.\d+\S* \(strongly typed\)", backend.version())
    assert backend.device()
    assert backend.built_for() == "", "its engines run on any RTX GPU"


def test_without_a_gpu_it_says_why_it_cannot_run(
    backend: TensorRTRTXBackend, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_rtx, "_gpu", lambda: None)
    assert "no CUDA GPU" in str(backend.runnable())
    engine = Engine(backend.name, model, BuildOptions(Precision.FP32), 0, "", 0.0, ())
    with pytest.raises(RuntimeError, match="no CUDA GPU"), backend.runner(engine):
        pass
    monkeypatch.setattr(tensorrt_rtx, "_gpu", lambda: ("NVIDIA H200", "90"))
    assert "NVIDIA H200 has compute capability 90; TensorRT-RTX runs on 75" in str(backend.runnable())
    monkeypatch.setattr(tensorrt_rtx, "_gpu", lambda: ("NVIDIA GeForce RTX 4090", "89"))
    assert backend.runnable() is None
    with pytest.raises(ValueError, match="is not the file that was built"), backend.runner(engine):
        pass


def test_a_dynamic_batch_is_built_at_the_shape_asked_for(backend: TensorRTRTXBackend, tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "dynamic.onnx", batch="batch")
    wanted = BuildOptions(Precision.FP32, shapes={"input": (4, 3, 32, 32)})
    layers = backend.build(model, wanted, tmp_path / "engine")
    stem = next(layer for layer in layers if layer.kind == "convolution")
    assert stem.outputs[0].shape == (4, tiny.CHANNELS, 32, 32)


def test_it_has_no_dla(backend: TensorRTRTXBackend, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no DLA"):
        backend.build(model, BuildOptions(Precision.FP16, dla_core=0), tmp_path / "engine")


@pytest.mark.parametrize(
    ("operator", "says"),
    [
        ("Unique", "refuses node '/x/Unique' (operator Unique): TensorRT-RTX has no such operator"),
        ("Foo", "refuses node '/x/Foo' (operator Foo): TensorRT-RTX has no such operator"),
    ],
)
def test_the_node_it_refuses_is_shown(backend: TensorRTRTXBackend, tmp_path: Path, operator: str, says: str) -> None:
    domain = "com.example" if operator == "Foo" else ""
    node = helper.make_node(operator, ["pooled"], ["extra"], f"/x/{operator}", domain=domain)
    path = tiny.network(tmp_path / "odd.onnx", extra=[node])
    loaded = onnx.load(str(path))
    loaded.opset_import.extend([helper.make_opsetid("com.example", 1)])
    onnx.save(loaded, str(path))
    with pytest.raises(ValueError, match=re.escape(says)) as refusal:
        backend.build(path, BuildOptions(Precision.FP32), tmp_path / "engine")
    assert str(refusal.value).endswith(f"Node 10 | /x/{operator} [Op: {operator}]\n    {{pooled}}\n     -> {{extra}}")
    assert "Cuda" not in str(refusal.value)


def test_zero_points_and_int32_biases_are_refused_in_its_words(
    backend: TensorRTRTXBackend, model: Path, tmp_path: Path
) -> None:
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized, convert.CPU_STYLE)
    with pytest.raises(ValueError, match=r"operator DequantizeLinear\).*has type Int32") as refusal:
        backend.build(quantized, BuildOptions(Precision.INT8), tmp_path / "engine")
    assert "driver" not in str(refusal.value), "that there is no GPU is not why"


def test_a_forged_layer_is_no_evidence(backend: TensorRTRTXBackend, model: Path, tmp_path: Path) -> None:
    """A node's name that reads like a layer in the log must not pass FP32 off as INT8."""
    tensor = "{ Name: x, Dimensions: [9,9], Strides: [1], StrideOrder: [0], Datatype: Int8, Format: (Linear) x }"
    forged = (
        f"x, LayerType: correlation, Inputs: [ {tensor}], Constants: [ {tensor}], Outputs: [ {tensor}], "
        "TacticName: t, StreamId: 0, Metadata: [ONNX Layer: x"
    )
    loaded = onnx.load(str(model))
    for number, node in enumerate(loaded.graph.node):
        node.name = f"{forged}{number}"
    onnx.save(loaded, str(model))
    layers = backend.build(model, BuildOptions(Precision.FP32), tmp_path / "engine")
    assert computed(layers) == {"fp32": tiny.CONVOLUTIONS}


def stand_in(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("echo 'last words' >&2; kill -SEGV $$", RuntimeError, r"crashed \(SIGSEGV\): last words"),
        ("kill -KILL $$", MemoryError, "killed, most likely because memory ran out"),
        ("echo MemoryError >&2; exit 1", MemoryError, "memory ran out"),
        ("echo Traceback >&2; exit 3", RuntimeError, r"crashed \(exit status 3\): Traceback"),
        (
            """echo '{"refused": [], "built": false, "unwritten": [28, "No space left on device"]}'""",
            OSError,
            "No space",
        ),
        (
            """echo '{"refused": [], "built": false, "unwritten": null, "errors": ["Requested size: OutOfMemory"]}'""",
            MemoryError,
            "ran out of memory: Requested size",
        ),
        (
            """echo '{"refused": [], "built": false, "unwritten": null, "errors": ["Error Code 10: no tactic"]}'""",
            RuntimeError,
            "builder failed: Error Code 10",
        ),
    ],
    ids=["crash", "killed", "no memory", "trace", "full disk", "out of memory", "failed"],
)
def test_what_happens_to_the_builder_becomes_one_error(
    backend: TensorRTRTXBackend,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, script))
    with pytest.raises(error, match=says):
        backend.build(model, BuildOptions(Precision.FP32), tmp_path / "engine")


def test_a_full_disk_is_told_apart(backend: TensorRTRTXBackend, model: Path, tmp_path: Path) -> None:
    full = tmp_path / "engine"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        backend.build(model, BuildOptions(Precision.FP32), full)


def test_building_leaves_this_process_without_tensorrt(tmp_path: Path) -> None:
    """TensorRT's logger is registered once a process; a crash takes the process along."""
    if TensorRTRTXBackend().availability() is not None:
        pytest.skip("tensorrt_rtx is not installed")
    tiny.network(tmp_path / "tiny.onnx")
    code = (
        "import sys; from pathlib import Path; from trtverify.fixtures.backends import load; "
        "from trtverify.fixtures.words.terms import BuildOptions, Precision; folder = Path(sys.argv[1]); "
        "load('tensorrt_rtx').build(folder / 'tiny.onnx', BuildOptions(Precision.FP32), folder / 'engine'); "
        "assert (folder / 'engine').stat().st_size; assert 'tensorrt_rtx' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, check=True)
