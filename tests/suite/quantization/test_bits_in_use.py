"""Whether INT8 weights were rounded to fewer bits before, told from scales and distributions of every right kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtverify.fixtures.graphs.contents import read
from trtverify.fixtures.quantization.fit import require_weights_fit

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(64, 32, 3, 3)).astype(np.float32)
UNEVEN = NORMAL * RNG.uniform(0.2, 5, (64, 1, 1, 1)).astype(np.float32)
HEAVY = RNG.standard_t(3, size=NORMAL.shape).astype(np.float32)


def largest(weight: Array, *, each: bool) -> Array:
    """By channel, or of all."""
    return np.asarray(np.abs(weight).max(axis=(1, 2, 3) if each else None), np.float32)


def rounded(weight: Array, count: int, *, each: bool) -> Array:
    """To so many levels on either side of zero."""
    unit = largest(weight, each=each).reshape(-1, 1, 1, 1) / count
    return np.asarray(np.rint(weight / unit) * unit, np.float32)


def by_channel(weight: Array) -> Array:
    return largest(weight, each=True) / 127


def by_tensor(weight: Array) -> Array:
    return largest(weight, each=False) / 127


def by_powers_of_two(weight: Array) -> Array:
    return np.asarray(2.0 ** np.ceil(np.log2(by_channel(weight))), np.float32)


def by_percentile(weight: Array) -> Array:
    return np.asarray(np.quantile(np.abs(weight).reshape(len(weight), -1), 0.997, axis=1) / 127, np.float32)


Scale = Callable[[Array], Array]
RIGHT: dict[str, tuple[Array, Scale]] = {
    "MinMax": (UNEVEN, by_channel),
    "by tensor": (NORMAL, by_tensor),
    "channels unlike, by tensor": (UNEVEN, by_tensor),
    "heavy tails": (HEAVY, by_channel),
    "one weight far beyond the others": (
        np.where(np.arange(NORMAL.size).reshape(NORMAL.shape) == 5, 300, NORMAL),
        by_tensor,
    ),
    "percentile": (NORMAL, by_percentile),
    "powers of two": (UNEVEN, by_powers_of_two),
    "uniform": (RNG.uniform(-1, 1, NORMAL.shape).astype(np.float32), by_channel),
    "small ones pruned": (NORMAL * (np.abs(NORMAL) > 1.2), by_channel),
    "FP16 before": (NORMAL.astype(np.float16).astype(np.float32), by_channel),
    "INT8 before": (rounded(UNEVEN, 127, each=True), by_channel),
    "INT8 before, wider scales now": (rounded(UNEVEN, 127, each=True), by_powers_of_two),
}
WRONG: dict[str, tuple[Array, Scale]] = {
    "four bits by channel": (rounded(UNEVEN, 7, each=True), by_channel),
    "four bits by tensor": (rounded(NORMAL, 7, each=False), by_channel),
    "four bits by channel, one scale": (rounded(NORMAL, 7, each=True), by_tensor),
    "five bits": (rounded(UNEVEN, 15, each=True), by_channel),
    "six bits": (rounded(UNEVEN, 31, each=True), by_channel),
    "seven bits": (rounded(UNEVEN, 63, each=True), by_channel),
    "four bits, powers of two": (rounded(UNEVEN, 7, each=True), by_powers_of_two),
    "four bits and pruned": (rounded(NORMAL * (np.abs(NORMAL) > 1.2), 7, each=True), by_channel),
}


def graph(path: Path, weight: Array, scales: Array, *, stored: bool) -> Path:
    """A convolution whose weight passes through Q/DQ, or is stored in INT8."""
    wide = scales.reshape(-1, 1, 1, 1)
    integers = np.clip(np.rint(weight / wide), -128, 127).astype(np.int8)
    held = {"w": integers if stored else weight.astype(np.float32), "s": scales, "z": np.zeros(scales.shape, np.int8)}
    nodes = [] if stored else [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=0)]
    nodes.append(helper.make_node("DequantizeLinear", ["w" if stored else "q", "s", "z"], ["d"], axis=0))
    nodes.append(helper.make_node("Conv", ["input", "d"], ["output"], name="conv"))
    port = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "one",
        [port("input", TensorProto.FLOAT, [1, 32, 8, 8])],
        [port("output", TensorProto.FLOAT, [1, 64, 6, 6])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("stored", [False, True], ids=["float", "stored"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_weights_take_the_levels_as_they_come(name: str, stored: bool, tmp_path: Path) -> None:
    weight, scale = RIGHT[name]
    read_back = read(graph(tmp_path / "one.onnx", weight, scale(weight), stored=stored)).quantized[0].weight
    assert read_back is not None
    assert read_back.steps is None or read_back.steps > 0.7


@pytest.mark.parametrize("stored", [False, True], ids=["float", "stored"])
@pytest.mark.parametrize("name", WRONG)
def test_weights_of_fewer_bits_are_told(name: str, stored: bool, tmp_path: Path) -> None:
    weight, scale = WRONG[name]
    path = graph(tmp_path / "one.onnx", weight, scale(weight), stored=stored)
    with pytest.raises(
        pytest.fail.Exception, match="of 255 levels, with gaps between them, in the usual channel of conv"
    ):
        require_weights_fit(read(path))
