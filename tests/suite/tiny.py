"""A residual network small enough to build in a blink, and what the tests of backends do to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtverify.fixtures.words.terms import CalibrationData

SHAPE = (1, 3, 32, 32)
CHANNELS = 32
CONVOLUTIONS = 4


def network(path: Path, *, batch: int | str = 1, size: int = 32, opset: int = 17, extra: Iterable[Any] = ()) -> Path:
    """Write Conv-Relu, a residual block of two convolutions, a strided Conv, global pooling and a Gemm.

    Args:
        batch: a number, or a symbol for a dynamic batch.
        size: height and width of the input.
        extra: nodes put between the pooling and the Gemm; they take "pooled" and must give "extra".
    """
    random = np.random.default_rng(0)
    initializers = []

    def weight(name: str, *shape: int) -> str:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(name: str, source: str, inputs: int, stride: int = 1) -> Any:
        names = [source, weight(f"{name}.weight", CHANNELS, inputs, 3, 3), weight(f"{name}.bias", CHANNELS)]
        return helper.make_node("Conv", names, [name], f"/{name}/Conv", pads=[1] * 4, strides=[stride] * 2)

    extra = list(extra)
    nodes = [
        convolution("stem", "input", 3),
        helper.make_node("Relu", ["stem"], ["block"], "/stem/Relu"),
        convolution("first", "block", CHANNELS),
        helper.make_node("Relu", ["first"], ["middle"], "/first/Relu"),
        convolution("second", "middle", CHANNELS),
        helper.make_node("Add", ["second", "block"], ["sum"], "/Add"),
        helper.make_node("Relu", ["sum"], ["joined"], "/joined/Relu"),
        convolution("last", "joined", CHANNELS, 2),
        helper.make_node("Relu", ["last"], ["features"], "/last/Relu"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], "/pool"),
        *extra,
        helper.make_node("Flatten", ["extra" if extra else "pooled"], ["flat"], "/flatten"),
        helper.make_node("Gemm", ["flat", weight("fc.weight", 10, CHANNELS)], ["output"], "/fc/Gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 10])],
        initializers,
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def image(seed: int = 0) -> npt.NDArray[np.float32]:
    """One input, float32 1×3×32×32."""
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def calibration(folder: Path, *batches: npt.NDArray[np.float32]) -> CalibrationData:
    """Write batches as lab 4 does; eight images in two batches unless others are given."""
    folder.mkdir(exist_ok=True)
    arrays = batches or tuple(np.concatenate([image(4 * b + i) for i in range(4)]) for b in range(2))
    paths = []
    for number, array in enumerate(arrays):
        paths.append(folder / f"batch_{number:03}.npy")
        np.save(paths[-1], array)
    return CalibrationData("input", tuple(paths), f"{len(arrays)} batches")


def run(path: Path, feed: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What ONNX Runtime makes of a model as it stands."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    output: npt.NDArray[np.float32] = session.run(["output"], {"input": feed})[0]
    return output


def relative_error(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
