"""Hostile ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import TensorProto, helper, save

if TYPE_CHECKING:
    from benchmarks.rehearsal.hostile import Scene

_OPSET = (helper.make_opsetid("", 17), helper.make_opsetid("own", 1))
_IMAGE = [1, 3, 224, 224]


def _model(nodes: list[Any], folder: Path, scene: Scene, **parts: Any) -> None:
    port = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in _PORTS)
    image, answer = port
    graph = helper.make_graph(nodes, "hostile", [image], [answer], initializer=parts.pop("initializer", []))
    model = helper.make_model(graph, opset_imports=_OPSET, ir_version=8, **parts)
    save(model, str(folder / scene.checks.artifact))


_PORTS = (("input", _IMAGE), ("output", [1, 1000]))


def function_bomb(folder: Path, scene: Scene) -> None:
    """Forty functions, each of which calls the next one twice."""
    functions = []
    for number in range(40):
        inner = f"f{number + 1}" if number < 39 else "Identity"
        domain = "own" if number < 39 else ""
        calls = [
            helper.make_node(inner, ["x"], ["y"], domain=domain),
            helper.make_node(inner, ["y"], ["z"], domain=domain),
        ]
        functions.append(helper.make_function("own", f"f{number}", ["x"], ["z"], calls, list(_OPSET)))
    _model([helper.make_node("f0", ["input"], ["output"], domain="own")], folder, scene, functions=functions)


def huge_constant(folder: Path, scene: Scene) -> None:
    """A ConstantOfShape of 4 TB."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1_000_000, 1_000_000])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["input", "sum"], ["output"]),
    ]
    _model(nodes, folder, scene, initializer=[shape])


def external(folder: Path, scene: Scene) -> None:
    """Weights that lie in /proc, in a neighbour's folder and in the hidden tests."""
    tensors = []
    for number, place in enumerate(("/proc/self/environ", scene.bait["neighbour"], f"../../{scene.bait['hidden']}")):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.UINT8, dims=[64])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(place))
        tensors.append(tensor)
    _model([helper.make_node("Identity", ["input"], ["output"])], folder, scene, initializer=tensors)


def long(folder: Path, scene: Scene) -> None:
    """A chain of 60,000 nodes."""
    nodes = [
        helper.make_node("Add", [f"x{n}" if n else "input", "input"], [f"x{n + 1}" if n < 59_999 else "output"])
        for n in range(60_000)
    ]
    _model(nodes, folder, scene)


def nested(folder: Path, scene: Scene) -> None:
    """Branches within branches, as deep as a file can hold them."""
    truth = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["o"])], "g", [], [out])
    for _ in range(40):
        node = helper.make_node("If", ["t"], ["o"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [out])
        if graph.ByteSize() > 8_000_000:
            break
    node = helper.make_node("If", ["t"], ["output"], then_branch=graph, else_branch=graph)
    _model([node], folder, scene, initializer=[truth])
