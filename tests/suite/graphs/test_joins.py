"""Which Add is a residual's, which of its halves a builder adds inside a kernel, and what Q/DQ become of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.suite import tiny
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.graphs.joins import free_of_qdq, joins, scalars


def model(*nodes: Any, outputs: tuple[str, ...] = ("y",)) -> Any:
    """A graph of 3×3 convolutions of four channels: `Conv` nodes get their weight here."""
    weights = [numpy_helper.from_array(np.ones((4, 1, 1), np.float32), "constant")]
    for node in nodes:
        if node.op_type == "Conv":
            weights.append(numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), f"{node.output[0]}.w"))
            node.input.append(f"{node.output[0]}.w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in ("x", *outputs)]
    return helper.make_model(helper.make_graph(list(nodes), "joins", values[:1], values[1:], weights))


def node(operator: str, inputs: str, output: str) -> Any:
    return helper.make_node(
        operator, inputs.split(), [output], output, **({"pads": [1] * 4} if operator == "Conv" else {})
    )


def test_an_identity_skip_joins_the_convolution() -> None:
    found = joins(model(node("Relu", "x", "r"), node("Conv", "r", "a"), node("Add", "r a", "y")))
    assert found == {"y": "a"}


def test_of_two_convolutions_the_longer_branch_is_joined() -> None:
    branch = [node("Relu", "x", "r"), node("Conv", "r", "a"), node("Relu", "a", "b"), node("Conv", "b", "long")]
    for inputs in ("long short", "short long"):
        assert joins(model(*branch, node("Conv", "r", "short"), node("Add", inputs, "y"))) == {"y": "long"}


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Conv", "x", "a"), node("Add", "a constant", "y")], "a bias"),
        ([node("Conv", "x", "a"), node("Add", "a a", "y")], "a doubling"),
        ([node("Conv", "x", "a"), node("Sigmoid", "a", "s"), node("Add", "s x", "y")], "no kernel adds behind a SiLU"),
        ([node("Add", "x x", "s"), node("Relu", "x", "r"), node("Add", "s r", "y")], "no convolution at all"),
    ],
)
def test_what_is_no_join(nodes: list[Any], why: str) -> None:
    assert joins(model(*nodes)) == {}, why


def test_a_convolution_that_others_read_too_is_not_joined() -> None:
    nodes = [node("Conv", "x", "a"), node("Conv", "a", "b"), node("Add", "a b", "y")]
    assert joins(model(*nodes)) == {"y": "b"}
    assert joins(model(*nodes, outputs=("y", "b"))) == {}, "an output of the graph is read by whoever runs it"


def test_scales_that_nobody_reads_go_with_their_pair() -> None:
    qdq = [node("QuantizeLinear", "a scale zero", "q"), node("DequantizeLinear", "q scale zero", "d")]
    found = model(node("Conv", "x", "a"), *qdq, node("Add", "d x", "y"))
    found.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    found.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    free_of_qdq(found, {"y": "a"})
    assert [n.op_type for n in found.graph.node] == ["Conv", "Add"]
    assert list(found.graph.node[1].input) == ["a", "x"]
    assert {tensor.name for tensor in found.graph.initializer} == {"a.w", "constant"}, "and nothing else"


def test_what_a_builder_is_given(tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    images = tiny.calibration(tmp_path)
    convert.to_int8_qdq(path, images, tmp_path / "qdq.onnx")
    made = onnx.load(str(tmp_path / "qdq.onnx"))
    producers = {output: n.op_type for n in made.graph.node for output in n.output}
    (add,) = [n for n in made.graph.node if n.op_type == "Add"]
    assert sorted(producers[name] for name in add.input) == ["Conv", "DequantizeLinear"]
    (pool,) = [n for n in made.graph.node if n.op_type == "GlobalAveragePool"]
    assert producers[pool.input[0]] == "DequantizeLinear"


def test_scales_of_one_element_become_scalars() -> None:
    """Whatever shape an exporter gives them, and nothing else changes."""
    scale = numpy_helper.from_array(np.array([0.5], np.float32), "scale")
    other = numpy_helper.from_array(np.array([2.0], np.float32), "other")
    zero = helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.zeros(1, np.int8), "z"))
    nodes = [
        zero,
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Mul", ["d", "other"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [scale, other]))
    scalars(model)
    held = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert held == {"scale": [], "other": [1]}
    assert list(model.graph.node[0].attribute[0].t.dims) == []
