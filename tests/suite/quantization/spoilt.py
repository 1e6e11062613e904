"""A small quantized network, written in the ways of several exporters, and spoilt in one place each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.suite.spoil import set_constants
from trtverify.fixtures.graphs.onnx_file import constants_of

Change = Callable[[Any], Any]


def qdq(model: Any, *, weights: bool) -> list[Any]:
    """The Q and DQ of weights, or of activations."""
    constants = constants_of(model)
    found = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return [node for node in found if (constants[node.input[1]].size > 1) == weights]


def scale_names(model: Any, *, weights: bool) -> list[str]:
    """Their scales, each once, in the order of execution."""
    return list(dict.fromkeys(node.input[1] for node in qdq(model, weights=weights)))


def add(model: Any, name: str, value: Any) -> str:
    """One more initializer."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def times(factor: float, *, weights: bool = False, which: slice = slice(None)) -> Change:
    """Scales times a factor."""

    def change(model: Any) -> None:
        constants = constants_of(model)
        names = scale_names(model, weights=weights)[which]
        set_constants(model, {name: constants[name] * np.float32(factor) for name in names})

    return change


def rotated(model: Any) -> None:
    """Every activation's scale at the next one's tensor."""
    constants, names = constants_of(model), scale_names(model, weights=False)
    set_constants(model, {name: constants[names[place - 1]] for place, name in enumerate(names)})


def all_equal(model: Any) -> None:
    """One scale for all activations."""
    set_constants(model, {name: np.float32(0.05) for name in scale_names(model, weights=False)})


def one_scale(value: float) -> Change:
    """One activation's scale is no scale."""

    def change(model: Any) -> None:
        set_constants(model, {scale_names(model, weights=False)[1]: np.float32(value)})

    return change


def exchanged(model: Any) -> None:
    """Two channels of a weight under each other's scale, all others right."""
    constants, name = constants_of(model), scale_names(model, weights=True)[1]
    scales = constants[name].copy()
    first, last = int(scales.argmin()), int(scales.argmax())
    scales[[first, last]] = scales[[last, first]]
    set_constants(model, {name: scales})


def zero_points(value: Any) -> Change:
    """This zero point at all activations."""

    def change(model: Any) -> None:
        add(model, "spoilt.zero", value)
        for node in qdq(model, weights=False):
            node.input[2] = "spoilt.zero"

    return change


def without_zero_points(model: Any) -> None:
    """As opset 13 to 20 read it, uint8."""
    for node in (*qdq(model, weights=True), *qdq(model, weights=False)):
        del node.input[2:]


def typed_by_attribute(kind: int) -> Change:
    """Opset 21's `output_dtype`, and no zero points."""

    def change(model: Any) -> Any:
        model = onnx.version_converter.convert_version(model, 21)
        nodes = (*qdq(model, weights=True), *qdq(model, weights=False))
        for node in nodes:
            del node.input[2:]
            if node.op_type == "QuantizeLinear":
                node.attribute.append(helper.make_attribute("output_dtype", kind))
        return model

    return change


def disagree(model: Any) -> None:
    """A DequantizeLinear with twice its QuantizeLinear's scale."""
    node = next(node for node in qdq(model, weights=False) if node.op_type == "DequantizeLinear")
    node.input[1] = add(model, "spoilt.scale", constants_of(model)[node.input[1]] * np.float32(2))


def clipped(model: Any) -> None:
    """A Clip between each weight's Q and DQ, as exporters write -127 to 127."""
    add(model, "spoilt.low", np.int8(-127))
    add(model, "spoilt.high", np.int8(127))
    for node in [node for node in qdq(model, weights=True) if node.op_type == "DequantizeLinear"]:
        clip = helper.make_node("Clip", [node.input[0], "spoilt.low", "spoilt.high"], [f"{node.input[0]}.clipped"])
        model.graph.node.insert(list(model.graph.node).index(node), clip)
        node.input[0] = clip.output[0]


def axes_left_out(model: Any) -> None:
    """The default axis, 1, is the input channels."""
    for node in qdq(model, weights=True):
        del node.attribute[:]


def computed(model: Any) -> None:
    """An activation's scale taken from the image itself."""
    add(model, "spoilt.share", np.float32(1 / 127))
    largest = helper.make_node("ReduceMax", ["input"], ["spoilt.largest"], keepdims=0)
    model.graph.node.insert(0, helper.make_node("Mul", ["spoilt.largest", "spoilt.share"], ["spoilt.computed"]))
    model.graph.node.insert(0, largest)
    for node in qdq(model, weights=False)[:2]:
        node.input[1] = "spoilt.computed"


def weights_float(model: Any) -> None:
    """Weights that pass their Q/DQ by."""
    made = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.input[1] = made[made[node.input[1]].input[0]].input[0]


def quantized_biases(model: Any) -> None:
    """Biases as int32 behind a DequantizeLinear, ONNX Runtime's default."""
    constants = constants_of(model)
    for node in [node for node in model.graph.node if node.op_type == "Conv"]:
        stored = add(model, f"{node.input[2]}.int32", (constants[node.input[2]] * 2**20).astype(np.int32))
        scale = add(model, f"{node.input[2]}.scale", np.float32(2**-20))
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", [stored, scale], [f"{stored}.float"]))
        node.input[2] = f"{stored}.float"


def shared_zero_points(model: Any) -> None:
    """One zero point for all pairs of a kind, as hand-written fake quantization and torch.ao have it."""
    constants = constants_of(model)
    for weights in (True, False):
        for node in qdq(model, weights=weights):
            shape = constants[node.input[1]].shape
            name = f"shared.{'x'.join(map(str, shape))}"
            if name not in constants_of(model):
                add(model, name, np.zeros(shape, np.int8))
            node.input[2] = name


def written_as(form: str) -> Change:
    """Scales as Constant(value_float/value_floats), or behind another operator."""

    def change(model: Any) -> None:
        constants = constants_of(model)
        names = [*scale_names(model, weights=True), *scale_names(model, weights=False)]
        made = [node for name in names for node in _written(form, name, constants[name])]
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
        nodes = [node for node in model.graph.node if node.op_type != "Constant" or node.output[0] not in names]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.initializer.extend(kept)
        model.graph.node.extend([*made, *nodes])

    return change


def _written(form: str, name: str, value: Any) -> list[Any]:
    if form == "value_float":
        words = {"value_float": float(value)} if value.ndim == 0 else {"value_floats": value.astype(float).tolist()}
        return [helper.make_node("Constant", [], [name], **words)]
    before = f"{name}.before"
    wide = value.astype(np.float64) if form == "Cast" else value
    nodes = [helper.make_node("Constant", [], [before], value=numpy_helper.from_array(np.asarray(wide)))]
    if form == "Reshape":
        shape = np.array(value.shape, np.int64)
        nodes.append(helper.make_node("Constant", [], [f"{name}.shape"], value=numpy_helper.from_array(shape)))
        return [*nodes, helper.make_node("Reshape", [before, f"{name}.shape"], [name])]
    more = {"to": TensorProto.FLOAT} if form == "Cast" else {}
    return [*nodes, helper.make_node(form, [before], [name], **more)]


def powers_of_two(model: Any) -> None:
    """Every scale rounded up to a power of two."""
    constants = constants_of(model)
    names = [*scale_names(model, weights=True), *scale_names(model, weights=False)]
    set_constants(model, {name: np.exp2(np.ceil(np.log2(constants[name]))) for name in names})
