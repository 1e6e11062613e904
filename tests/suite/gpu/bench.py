"""A small residual network, its calibration images, and its engines: what the tests on a GPU share."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np

from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Engine, Precision

ROOT = Path(__file__).resolve().parents[3]
SHAPE = (16, 3, 112, 112)
LARGE = (64, 3, 224, 224)
CONVOLUTIONS = 8
QUICK = 1
"""An optimization level at which a builder searches little: for tests that need an engine, not a good one."""


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
    # Zero throughout: calibration gives such a tensor the scale 0.
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
    """A folder with the network, its calibration images, and engines as they are asked for.

    Attributes:
        failed: what went wrong with an engine before, so that each is tried once.
    """

    backend: TensorRTBackend
    folder: Path
    onnx: Path
    images: CalibrationData
    engines: dict[tuple[Any, ...], Engine]
    failed: dict[tuple[Any, ...], str]

    def build(
        self,
        precision: Precision,
        *,
        qdq: bool = False,
        shape: tuple[int, ...] = SHAPE,
        level: int | None = None,
    ) -> Engine:
        """The engine, built on first use.

        Raises:
            RuntimeError: it could not be built before.
        """
        key = ("qdq" if qdq else "plain", precision, shape, level)
        if key in self.failed:
            raise RuntimeError(f"failed before: {self.failed[key]}")
        if key not in self.engines:
            out = self.folder / f"{key[0]}-{precision}-{shape[0]}.engine"
            self.failed[key] = "interrupted"
            try:
                self.engines[key] = self._make(precision, qdq, shape, level, out)
            except (ValueError, RuntimeError, MemoryError, OSError) as error:
                self.failed[key] = str(error)
                raise
            del self.failed[key]
            text = self.backend.layer_information(self.engines[key])
            out.with_suffix(".layers.json").write_text(text, encoding="utf-8")
        return self.engines[key]

    def _make(self, precision: Precision, qdq: bool, shape: tuple[int, ...], level: int | None, out: Path) -> Engine:
        calibration = self.images if precision is Precision.INT8 and not qdq else None
        source = self.onnx
        if qdq:
            source = self.folder / "qdq.onnx"
            convert.to_int8_qdq(self.onnx, self.images, source)
        options = BuildOptions(precision, {"input": shape}, calibration, optimization_level=level)
        return make(self.backend, source, options, out)


def make(backend: TensorRTBackend, onnx: Path, options: BuildOptions, out: Path) -> Engine:
    """Build, and describe what was built as the engine cache does."""
    begun = time.perf_counter()
    layers = backend.build(onnx, options, out)
    seconds = time.perf_counter() - begun
    content = out.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Engine(backend.name, out, options, len(content), digest, seconds, layers)


def environment() -> dict[str, str]:
    """For a process of its own that shall find the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def run_apart(code: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own: what TensorRT does with a damaged plan must not end the tests."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )
