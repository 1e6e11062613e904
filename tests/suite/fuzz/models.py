"""Small ONNX models of every kind that the suite reads: plain, quantized, with weights outside, with graphs inside."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = "weights.bin"
SECRET = b"SECRET! " * 64
_ELEMENTS = 2 * 3 * 3 * 3


def external_weights() -> bytes:
    """What lies beside the model as `WEIGHTS`."""
    return np.linspace(-1, 1, _ELEMENTS, dtype=np.float32).tobytes()


def parsed(data: bytes) -> Any:
    """The protobuf message."""
    return onnx.ModelProto.FromString(data)


def _tensor(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def _outside(location: str, name: str = "weight", **more: int) -> Any:
    tensor = TensorProto(name=name, data_type=1, dims=[2, 3, 3, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    for key, value in more.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _model(nodes: Sequence[Any], initializers: Sequence[Any]) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("input", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", 1, [1, 2])],
        list(initializers),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def _network(weight: Any, *before: Any) -> bytes:
    nodes = [
        *before,
        helper.make_node("Conv", ["input", "weight"], ["conv"], "/conv", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["conv"], ["pooled"], "/pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "/flatten"),
        helper.make_node("Gemm", ["flat", "fc"], ["output"], "/fc", transB=1),
    ]
    initializers = [_tensor("fc", [[1, 2], [3, 4]]), *([] if weight is None else [weight])]
    return _model(nodes, initializers)


@functools.cache
def plain() -> bytes:
    """A convolution and a product."""
    return _network(_tensor("weight", np.linspace(-1, 1, _ELEMENTS).reshape(2, 3, 3, 3)))


def with_weights_in(location: str) -> bytes:
    """The same, its weight in a file beside."""
    return _network(_outside(location, offset=0, length=4 * _ELEMENTS))


def _quantized() -> bytes:
    weight = np.arange(_ELEMENTS, dtype=np.int8).reshape(2, 3, 3, 3)
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["stored", "scales", "zeros"], ["weight"], axis=0),
        helper.make_node("Conv", ["x", "weight"], ["conv"], "/conv", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["conv"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    scales = [_tensor("scale", 0.1), _tensor("zero", 0, np.int8), _tensor("stored", weight, np.int8)]
    return _model(nodes, [*scales, _tensor("scales", [0.1, 0.2]), _tensor("zeros", [0, 0], np.int8)])


def _nested(location: str) -> bytes:
    """A weight outside, held by the branch of an If."""
    weight = _outside(location, "inner")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["weight_of_branch"])],
        "branch",
        [],
        [helper.make_tensor_value_info("weight_of_branch", 1, [2, 3, 3, 3])],
        [weight],
    )
    return _network(
        None,
        helper.make_node("Constant", [], ["yes"], value=_tensor("yes", True, np.bool_)),
        helper.make_node("If", ["yes"], ["weight"], then_branch=branch, else_branch=branch),
    )


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Sound models, and some that reach for what lies outside."""
    bomb = _network(
        None,
        helper.make_node("Constant", [], ["size"], value=_tensor("size", [1 << 20, 1 << 20, 1, 1], np.int64)),
        helper.make_node("ConstantOfShape", ["size"], ["weight"]),
    )
    constant = helper.make_node("Constant", [], ["weight"], value=_tensor("weight", np.ones((2, 3, 3, 3))))
    return (
        plain(),
        _quantized(),
        _network(None, constant),
        with_weights_in(WEIGHTS),
        _network(_outside("../secret")),
        _nested(WEIGHTS),
        _nested("../secret"),
        bomb,
    )
