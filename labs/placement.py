"""Which nodes of an ONNX graph a DLA would take, and how often execution would cross to the GPU and back."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact import stop

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TABLE = Path(__file__).with_name("dla_support.toml")
DLA, GPU = "DLA", "GPU"


@dataclasses.dataclass(frozen=True)
class Placed:
    """One node and where it runs. `rule` is a rule of dla_support.toml, or "builder" where TensorRT was asked."""

    name: str
    operator: str
    device: str
    rule: str
    reason: str
    reads: tuple[str, ...] = dataclasses.field(repr=False)
    writes: tuple[str, ...] = dataclasses.field(repr=False)

    def describe(self) -> dict[str, str]:
        """What dla_placement.json holds of it."""
        return {name: getattr(self, name) for name in ("name", "operator", "device", "rule", "reason")}


class Graph:
    """A loaded ONNX graph: which tensors are constant, and the shapes of the others."""

    def __init__(self, path: Path) -> None:
        import onnx

        graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[Any] = []
        for node in graph.node:
            if all(name in self.constants for name in node.input if name):
                # Only an initializer, a Constant or an Identity of one is ever asked for its value.
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                source = self.constants[node.input[0]] if node.op_type == "Identity" else value
                self.constants.update(dict.fromkeys(node.output, source))
            else:
                self.nodes.append(node)
        self.shapes: dict[str, tuple[int, ...]] = {}  # a dimension that is not fixed is -1
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.shapes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim
            )
        self.shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})

    def value(self, name: str) -> npt.NDArray[np.float32] | None:
        """A constant's value, None if it is none."""
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def tensors(self, node: Any) -> list[tuple[int, ...]]:
        """Shapes of a node's inputs that are no constants, then of its outputs."""
        names = [*(name for name in node.input if name and name not in self.constants), *node.output]
        return [self.shapes.get(name, (-1,)) for name in names]


def read_table() -> dict[str, Any]:
    """The support table, dla_support.toml."""
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError as error:
        raise stop("Python 3.10 reads TOML with the package tomli", "pip install tomli") from error
    table: dict[str, Any] = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return table


def place(graph: Graph, table: Mapping[str, Any], builder: Mapping[str, bool] | None = None) -> list[Placed]:
    """Place every node that is not folded away.

    Args:
        builder: TensorRT's own answer by node name, which goes before the table's.
    """
    placed = []
    for node in graph.nodes:
        name = node.name or node.output[0]
        if builder is not None and name in builder:
            device, rule = (DLA if builder[name] else GPU), "builder"
            reason = "TensorRT's builder says that it can run there" if builder[name] else "TensorRT's builder refuses"
        else:
            device, rule, reason = _by_table(node, graph, table)
        reads = tuple(tensor for tensor in node.input if tensor and tensor not in graph.constants)
        placed.append(Placed(name, node.op_type, device, rule, reason, reads, tuple(node.output)))
    return placed


def crossings(placed: list[Placed]) -> list[str]:
    """The tensors that cross: written on one device and read on the other. As dla_support.toml defines it."""
    writer = {tensor: node for node in placed for tensor in node.writes}
    return sorted({t for node in placed for t in node.reads if t in writer and writer[t].device != node.device})


def loadables(placed: list[Placed]) -> list[list[str]]:
    """The sets of nodes that each become one DLA loadable, by node name. As dla_support.toml defines it."""
    writer = {tensor: index for index, node in enumerate(placed) for tensor in node.writes}
    stages: list[int] = []
    group = list(range(len(placed)))

    def root(index: int) -> int:
        while group[index] != index:
            index = group[index]
        return index

    for index, node in enumerate(placed):  # the file's order is topological
        before = [writer[tensor] for tensor in node.reads if tensor in writer]
        stages.append(max((stages[b] + (placed[b].device != node.device) for b in before), default=0))
        for b in before:
            if placed[b].device == node.device == DLA and stages[b] == stages[index]:
                group[root(index)] = root(b)
    found: dict[int, list[str]] = {}
    for index, node in enumerate(placed):
        if node.device == DLA:
            found.setdefault(root(index), []).append(node.name)
    return list(found.values())


def _by_table(node: Any, graph: Graph, table: Mapping[str, Any]) -> tuple[str, str, str]:
    tensors = graph.tensors(node)
    limits = table["limits"]
    if any(size < 1 for shape in tensors for size in shape):
        return GPU, "dynamic", "the DLA takes no tensor with a dimension that is not fixed"
    if any(shape[0] > limits["batch"] or max(shape[1:], default=0) > limits["dimension"] for shape in tensors if shape):
        return GPU, "size", f"a batch over {limits['batch']} or another dimension over {limits['dimension']}"
    rule = table["operators"].get(node.op_type)
    if rule is None:
        return GPU, "unlisted", f"dla_support.toml does not list {node.op_type}"
    content = table["rules"][rule]
    refusal = _CONDITIONS[rule](node, graph, content) if rule in _CONDITIONS else None
    return (content["device"], rule, content["reason"]) if refusal is None else (GPU, rule, refusal)


def _outside(what: str, values: Any, bounds: list[float]) -> str | None:
    wrong = [value for value in values if not bounds[0] <= value <= bounds[1]]
    return f"{what} {wrong[0]} is outside {bounds[0]}…{bounds[1]}" if wrong else None


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _plane(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    ranks = {len(shape) for shape in graph.tensors(node)}
    return None if ranks == {4} else f"the DLA takes tensors of rank 4 here, found {sorted(ranks)}"


def _convolution(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    given = _attributes(node)
    weight = graph.shapes.get(node.input[1], ())
    if node.input[1] not in graph.constants or len(weight) != 4:
        return "its weights are not constant, or it is not two-dimensional"
    kernel = weight[2:]
    dilation = given.get("dilations", (1, 1))
    pads = given.get("pads", (0, 0, 0, 0))
    channels, width = graph.shapes[node.input[0]][1], graph.shapes[node.input[0]][3]
    # The developer guide's arithmetic, in FP16 (2 bytes a value).
    weight_banks = math.ceil(math.ceil(channels * kernel[0] * kernel[1] * 2 / 128) * 128 / 32768)
    rows = (kernel[0] - 1) * dilation[0] + 1
    data_banks = math.ceil(math.ceil(math.ceil(channels * 2 / 32) * width / 4) * rows / 256)
    if any(pad >= kernel[axis % 2] for axis, pad in enumerate(pads)):
        return "its padding is not smaller than its kernel"
    if weight_banks + data_banks > rule["buffer_banks"]:
        return f"it needs {weight_banks + data_banks} banks of the convolution buffer, which has {rule['buffer_banks']}"
    return (
        _outside("kernel", kernel, rule["kernel"])
        or _outside("padding", pads, rule["padding"])
        or _outside("stride", given.get("strides", (1, 1)), rule["stride"])
        or _outside("dilation", dilation, rule["dilation"])
        or _outside("groups", (given.get("group", 1),), rule["groups"])
        or _outside("channels", (channels, weight[0]), rule["channels"])
    )


def _fully_connected(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    if node.input[1] not in graph.constants:
        return "its second input is not constant"
    return _outside("channels", graph.shapes.get(node.input[1], ()), rule["channels"])


def _pooling(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    given = _attributes(node)
    return (
        _plane(node, graph, rule)
        or _outside("window", given["kernel_shape"], rule["kernel"])
        or _outside("padding", given.get("pads", ()), rule["padding"])
        or _outside("stride", given.get("strides", ()), rule["stride"])
    )


def _clip(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    bounds = [graph.value(name) if name else None for name in (*node.input[1:], "", "")[:2]]
    if bounds[0] is None or bounds[1] is None:
        return "its bounds are not two constants"
    lower, upper = float(bounds[0]), float(bounds[1])
    if lower != rule["lower"]:
        return f"its lower bound is {lower:g}, and the DLA's clipped ReLU starts at {rule['lower']:g}"
    return _plane(node, graph, rule) or _outside("upper bound", (upper,), rule["upper"])


def _concatenation(node: Any, graph: Graph, rule: Mapping[str, Any]) -> str | None:
    if len(node.input) < 2 or _attributes(node)["axis"] != rule["axis"]:
        return "the DLA joins two or more inputs, along the channels"
    return _plane(node, graph, rule)


_CONDITIONS: dict[str, Callable[[Any, Graph, Mapping[str, Any]], str | None]] = {
    "convolution": _convolution,
    "fully-connected": _fully_connected,
    "pooling": _pooling,
    "activation": _plane,
    "clip": _clip,
    "elementwise": _plane,
    "scale": _plane,
    "concatenation": _concatenation,
}


if __name__ == "__main__":
    # python3 placement.py MODEL.onnx: where the table puts each node of any model.
    nodes = place(Graph(Path(sys.argv[1])), read_table())
    print(json.dumps({"layers": [node.describe() for node in nodes], "crossings": len(crossings(nodes))}, indent=1))
