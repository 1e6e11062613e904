"""Networks written otherwise than the labs' exporter writes them, which compute the same."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.suite.answers.surgery import (
    Cut,
    after,
    constant,
    insert,
    nodes,
    replace,
    set_attribute,
)
from tests.suite.answers.wrong_networks import constants, last_sigmoid


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """One network, written otherwise."""

    name: str
    model: str
    cut: Cut
    slow: bool = False


def unfolded(model: Any, *, every: bool = True) -> None:
    """A BatchNorm behind each convolution, or behind each second one; weights and biases changed to fit."""
    rng = np.random.default_rng(0)
    held = constants(model)
    for node in nodes(model, "Conv")[:: 1 if every else 2]:
        weight, bias = (numpy_helper.to_array(held[name]).astype(np.float64) for name in node.input[1:3])
        count = len(weight)
        gamma, beta, mean = rng.uniform(0.5, 2, count), rng.normal(size=count), rng.normal(size=count)
        variance = rng.uniform(0.3, 3, count)
        factor = gamma / np.sqrt(variance + 1e-5)
        shaped = (weight / factor.reshape(-1, 1, 1, 1)).astype(np.float32)
        held[node.input[1]].CopyFrom(numpy_helper.from_array(shaped, node.input[1]))
        kept = ((bias - beta) / factor + mean).astype(np.float32)
        held[node.input[2]].CopyFrom(numpy_helper.from_array(kept, node.input[2]))
        parts = tuple(part.astype(np.float32) for part in (gamma, beta, mean, variance))
        after(model, node, ("BatchNormalization", parts, {"epsilon": 1e-5}))


def half_folded(model: Any) -> None:
    """Some BatchNorms folded, some not."""
    unfolded(model, every=False)


def product_and_sum(model: Any) -> None:
    """The last layer as MatMul and Add, its weight the other way round."""
    (node,) = nodes(model, "Gemm")
    held = constants(model)
    turned = numpy_helper.to_array(held[node.input[1]]).T.copy()
    held[node.input[1]].CopyFrom(numpy_helper.from_array(turned, node.input[1]))
    bias, output = node.input[2], node.output[0]
    replace(model, node, "MatMul", node.input[1])
    (product,) = nodes(model, "MatMul")
    product.output[0] = "product"
    at = list(model.graph.node).index(product)
    model.graph.node.insert(at + 1, helper.make_node("Add", [bias, "product"], [output]))


def last_as_convolution(model: Any) -> None:
    """The last layer as a 1×1 convolution before the flattening."""
    (flatten,), (gemm,) = nodes(model, "Flatten"), nodes(model, "Gemm")
    held = constants(model)
    wide = numpy_helper.to_array(held[gemm.input[1]])[:, :, None, None]
    held[gemm.input[1]].CopyFrom(numpy_helper.from_array(wide, gemm.input[1]))
    names, output = [flatten.input[0], *gemm.input[1:]], gemm.output[0]
    insert(model, gemm, helper.make_node("Conv", names, ["scores"]), helper.make_node("Flatten", ["scores"], [output]))
    model.graph.node.remove(flatten)
    model.graph.node.remove(gemm)


def behind_others(model: Any) -> None:
    """Weights behind Identity, FP16 with a Cast, Transpose and Constant nodes of every form."""
    held = constants(model)
    for number, node in enumerate(nodes(model, "Conv")[:8]):
        name = node.input[1]
        value = numpy_helper.to_array(held[name])
        if number % 4 == 0:
            made = [helper.make_node("Identity", [name], [f"{name}_again"])]
        elif number % 4 == 1:
            held[name].CopyFrom(numpy_helper.from_array(value.astype(np.float16), name))
            made = [helper.make_node("Cast", [name], [f"{name}_again"], to=TensorProto.FLOAT)]
        elif number % 4 == 2:
            held[name].CopyFrom(numpy_helper.from_array(value.transpose(1, 0, 2, 3).copy(), name))
            made = [helper.make_node("Transpose", [name], [f"{name}_again"], perm=[1, 0, 2, 3])]
        else:
            flat = helper.make_node("Constant", [], [f"{name}_flat"], value_floats=value.ravel().tolist())
            shape = helper.make_node("Constant", [], [f"{name}_shape"], value_ints=list(value.shape))
            made = [flat, shape, helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [f"{name}_again"])]
        insert(model, node, *made)
        node.input[1] = f"{name}_again"


def as_function(model: Any) -> None:
    """Each convolution with its ReLU as a function of the model's own."""
    for node in nodes(model, "Conv"):
        readers = [other for other in model.graph.node if node.output[0] in other.input]
        if len(readers) != 1 or readers[0].op_type != "Relu":
            continue
        attributes = [helper.make_attribute(a.name, helper.get_attribute_value(a)) for a in node.attribute]
        convolution = helper.make_node("Conv", ["x", "w", "b"], ["y"])
        convolution.attribute.extend(attributes)
        name = f"Layer{len(model.functions)}"
        body = [convolution, helper.make_node("Relu", ["y"], ["z"])]
        opset = [helper.make_opsetid("", model.opset_import[0].version)]
        model.functions.append(helper.make_function("own", name, ["x", "w", "b"], ["z"], body, opset))
        called = helper.make_node(name, list(node.input), list(readers[0].output), name=node.name, domain="own")
        insert(model, node, called)
        model.graph.node.remove(node)
        model.graph.node.remove(readers[0])
    model.opset_import.append(helper.make_opsetid("own", 1))


def any_order(model: Any) -> None:
    """Nodes as they come, as some converters leave them."""
    mixed = list(model.graph.node)
    random.Random(0).shuffle(mixed)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in mixed]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def other_names(model: Any) -> None:
    """No name says anything."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {"": ""}
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
        for part in (node.input, node.output):
            part[:] = [name if name in kept else names.setdefault(name, f"t{len(names)}") for name in part]
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"t{len(names)}")
    del model.graph.value_info[:]


def padded_before(model: Any) -> None:
    """Borders filled by Pad nodes, not by the convolutions."""
    for number, node in enumerate(nodes(model, "Conv")[:6]):
        pads = next(list(a.ints) for a in node.attribute if a.name == "pads")
        name = constant(model, f"pads{number}", [0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
        insert(model, node, helper.make_node("Pad", [node.input[0], name], [f"padded{number}"]))
        node.input[0] = f"padded{number}"
        set_attribute(node, "pads", [0] * 4)


def clip_by_parts(model: Any) -> None:
    """ReLU6 as Min and Max."""
    low, high = constant(model, "low", 0), constant(model, "high", 6)
    for number, node in enumerate(nodes(model, "Clip")):
        insert(model, node, helper.make_node("Max", [node.input[0], low], [f"above{number}"]))
        node.input[0] = f"above{number}"
        replace(model, node, "Min", high)


def chosen_branch(model: Any) -> None:
    """The flattening in a branch that is always taken, as tracing leaves it."""
    (node,) = nodes(model, "Flatten")
    flat = helper.make_graph(
        [helper.make_node("Flatten", [node.input[0]], ["flat_inside"])],
        "then",
        [],
        [helper.make_tensor_value_info("flat_inside", TensorProto.FLOAT, None)],
    )
    kept = helper.make_graph(
        [helper.make_node("Identity", [node.input[0]], ["kept_inside"])],
        "else",
        [],
        [helper.make_tensor_value_info("kept_inside", TensorProto.FLOAT, None)],
    )
    condition = constant(model, "condition", True, np.bool_)
    made = helper.make_node("If", [condition], list(node.output), then_branch=flat, else_branch=kept)
    insert(model, node, made)
    model.graph.node.remove(node)


def mean_over_axes(model: Any) -> None:
    """The global mean as ReduceMean."""
    for node in nodes(model, "GlobalAveragePool"):
        replace(model, node, "ReduceMean", axes=[2, 3], keepdims=1)


def scales_elsewhere(model: Any) -> None:
    """Q/DQ whose scales are Constant(value_float), behind Cast and behind Identity."""
    held = constants(model)
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for number, node in enumerate(pairs):
        value = numpy_helper.to_array(held[node.input[1]])
        name = f"scale{number}"
        if value.ndim == 0 and number % 3 == 0:
            made = [helper.make_node("Constant", [], [name], value_float=float(value))]
        elif number % 3 == 1:
            constant(model, f"{name}_wide", value, np.float64)
            made = [helper.make_node("Cast", [f"{name}_wide"], [name], to=TensorProto.FLOAT)]
        else:
            made = [helper.make_node("Identity", [node.input[1]], [name])]
        insert(model, node, *made)
        node.input[1] = name


def clipped_between(model: Any) -> None:
    """A Clip to −127…127 between Q and DQ, as torch's exporter writes a narrow range."""
    low, high = constant(model, "least", -127, np.int8), constant(model, "most", 127, np.int8)
    for number, node in enumerate(nodes(model, "DequantizeLinear")):
        insert(model, node, helper.make_node("Clip", [node.input[0], low, high], [f"clipped{number}"]))
        node.input[0] = f"clipped{number}"


def transposed_twice(model: Any) -> None:
    """Channels last and back, around an activation."""
    relu = nodes(model, "Relu")[2]
    after(model, relu, ("Transpose", (), {"perm": [0, 2, 3, 1]}), ("Transpose", (), {"perm": [0, 3, 1, 2]}))


def dropped_out(model: Any) -> None:
    """A Dropout that does nothing outside of training, before the last layer."""
    (node,) = nodes(model, "Gemm")
    insert(model, node, helper.make_node("Dropout", [node.input[0]], ["kept"]))
    node.input[0] = "kept"


def sigmoid_before_joining(model: Any) -> None:
    """Identity nodes where an exporter left them, around the last operators."""
    after(model, last_sigmoid(model), ("Identity", (), {}))


def fixed_slices(model: Any) -> None:
    """Each Add's operands the other way round."""
    for node in nodes(model, "Add"):
        node.input[:] = list(node.input)[::-1]


RESNET18, QAT, MOBILENET, YOLO, RESNET50 = (
    "resnet18_cifar10",
    "resnet18_qat_cifar10",
    "mobilenet_v2",
    "yolov8n",
    "resnet50",
)
EVERY = (
    Rewritten("as it is", RESNET50, lambda _model: None),
    Rewritten("as it is", YOLO, lambda _model: None),
    Rewritten("as it is", QAT, lambda _model: None),
    Rewritten("BatchNorm", RESNET18, unfolded),
    Rewritten("half folded", MOBILENET, half_folded),
    Rewritten("product and sum", MOBILENET, product_and_sum),
    Rewritten("last as convolution", MOBILENET, last_as_convolution),
    Rewritten("behind others", RESNET18, behind_others),
    Rewritten("functions", RESNET18, as_function),
    Rewritten("any order", MOBILENET, any_order),
    Rewritten("any order", YOLO, any_order, slow=True),
    Rewritten("other names", YOLO, other_names, slow=True),
    Rewritten("other names", MOBILENET, other_names, slow=True),
    Rewritten("padded before", MOBILENET, padded_before),
    Rewritten("clip by parts", MOBILENET, clip_by_parts),
    Rewritten("chosen branch", MOBILENET, chosen_branch),
    Rewritten("mean over axes", MOBILENET, mean_over_axes),
    Rewritten("scales elsewhere", QAT, scales_elsewhere),
    Rewritten("clipped between", QAT, clipped_between, slow=True),
    Rewritten("transposed twice", RESNET18, transposed_twice, slow=True),
    Rewritten("dropout", RESNET18, dropped_out, slow=True),
    Rewritten("identities", YOLO, sigmoid_before_joining, slow=True),
    Rewritten("sums the other way", YOLO, fixed_slices, slow=True),
    Rewritten("sums the other way", RESNET50, fixed_slices, slow=True),
)
