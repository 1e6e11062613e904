"""Operators in the place of others that compute the same, as other exporters and optimisers choose them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from benchmarks.mutants import files, surgery

Edit = Callable[[Any], Any]


def rewrites(model: Any) -> Iterator[tuple[str, Edit]]:
    """What is done, and the change, of the operators that a graph has."""
    present = {node.op_type for node in model.graph.node}
    for operator, what, change in every():
        if operator in present:
            yield what, everywhere(operator, change)


def every() -> Iterator[tuple[str, str, surgery.Change]]:
    """The operator, what is done, and the change at each of them."""
    yield "Conv", "biases added behind convolutions", bias_apart
    yield "Conv", "BatchNorm unfolded", norm_apart
    yield "Conv", "padding ahead of convolutions", padding_apart
    yield "Conv", "SAME padding", same_padding
    yield "Relu", "ReLU as Max", lambda m, n: second(m, n, "Max", 0.0)
    yield "Relu", "ReLU as Clip", lambda m, n: second(m, n, "Clip", 0.0)
    yield "Relu", "ReLU by hand", relu_by_hand
    yield "Clip", "Clip as Min and Max", min_max
    yield "Clip", "Clip as ReLU and Min", relu_min
    yield "Mul", "SiLU's factors exchanged", exchanged
    yield "Sigmoid", "sigmoid by hand", sigmoid_by_hand
    yield "Add", "sums exchanged", exchanged
    yield "Add", "sums as Sum", lambda m, n: setattr(n, "op_type", "Sum")
    yield "GlobalAveragePool", "global pool as mean", as_mean
    yield "GlobalAveragePool", "global pool as pool", as_pool
    yield "Gemm", "Gemm as MatMul and Add", matmul
    yield "Gemm", "Gemm with its weight the other way", other_way
    yield "Flatten", "Flatten as Reshape", as_reshape
    yield "Flatten", "Flatten as Squeeze", as_squeeze
    yield "Softmax", "Softmax by hand", softmax_by_hand
    yield "MaxPool", "max-pool of five as two of three", two_pools
    yield "Resize", "nearest resize by sizes", by_sizes


def everywhere(operator: str, change: surgery.Change) -> Edit:
    """That change at every node of an operator."""

    def changed(model: Any) -> None:
        found = [node for node in model.graph.node if node.op_type == operator]
        before = model.SerializeToString(deterministic=True) if len(found) < 3 else b""
        for node in found:
            change(model, node)
        if not found or before == model.SerializeToString(deterministic=True):
            raise NotImplementedError(f"no {operator} to write otherwise")
        del model.graph.value_info[:]

    return changed


def plain(model: Any, node: Any) -> bool:
    """Whether a convolution's weight is an initializer, not quantized."""
    return any(tensor.name == node.input[1] for tensor in model.graph.initializer)


def bias_apart(model: Any, node: Any) -> None:
    """Conv without bias, then Add."""
    known = files.constants(model)
    if len(node.input) < 3 or node.input[2] not in known:
        return
    bias = numpy_helper.to_array(known[node.input[2]])
    name = surgery.constant(model, f"{node.output[0]}_bias", bias.reshape(1, -1, 1, 1))
    node.input.pop()
    surgery.insert(model, node, ("Add", [name], {}))


def norm_apart(model: Any, node: Any) -> None:
    """Conv of other weights and the BatchNormalization that makes up for it."""
    known = files.constants(model)
    if not plain(model, node):
        return
    weight = numpy_helper.to_array(known[node.input[1]])
    if weight.shape[1:] == (16, 1, 1) and weight.shape[0] == 1:
        return
    rng = np.random.default_rng(weight.size)
    gamma, variance = (rng.uniform(0.5, 2, len(weight)).astype(np.float32) for _part in range(2))
    mean = rng.normal(0, 0.5, len(weight)).astype(np.float32)
    factor = gamma / np.sqrt(variance + 1e-5)
    bias = np.zeros_like(gamma)
    if len(node.input) > 2:
        bias = numpy_helper.to_array(known[node.input[2]])
        node.input.pop()
    own = surgery.constant(model, f"{node.output[0]}_w", (weight / factor.reshape(-1, 1, 1, 1)).astype(np.float32))
    drop(model, node.input[1])
    node.input[1] = own
    values = {"g": gamma, "b": (bias + mean * factor).astype(np.float32), "m": mean, "v": variance}
    inputs = [surgery.constant(model, f"{node.output[0]}_{key}", value) for key, value in values.items()]
    surgery.insert(model, node, ("BatchNormalization", inputs, {"epsilon": 1e-5}))


def drop(model: Any, name: str) -> None:
    """Take out an initializer that but one node reads."""
    if len(files.readers(model, name)) == 1:
        model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))


def padding_apart(model: Any, node: Any) -> None:
    """Pad, then a convolution without padding."""
    pads = surgery.ints(node, "pads", [0] * 4)
    if not any(pads):
        return
    surgery.assign(node, pads=[0] * 4)
    top, left, bottom, right = pads
    name = surgery.constant(model, f"{node.output[0]}_pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    surgery.before(model, node, "Pad", [name], mode="constant")


def same_padding(model: Any, node: Any) -> None:
    """`auto_pad`, where it means the same."""
    kernel = surgery.ints(node, "kernel_shape", [0, 0])
    if surgery.ints(node, "strides", [1, 1]) != [1, 1] or kernel[0] % 2 == 0:
        return
    if surgery.ints(node, "pads", [0] * 4) == [kernel[0] // 2] * 4:
        kept = [a for a in node.attribute if a.name != "pads"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("auto_pad", "SAME_UPPER")])


def second(model: Any, node: Any, operator: str, value: float) -> None:
    """A binary operator with a constant."""
    node.op_type = operator
    node.input.append(surgery.constant(model, f"{node.output[0]}_by", np.float32(value)))


def relu_by_hand(model: Any, node: Any) -> None:
    """(x + |x|) / 2."""
    source = node.input[0]
    node.op_type = "Abs"
    half = surgery.constant(model, f"{node.output[0]}_half", np.float32(0.5))
    surgery.insert(model, node, ("Add", [source], {}), ("Mul", [half], {}))


def min_max(model: Any, node: Any) -> None:
    """Clip as Max, then Min."""
    low, high = node.input[1], node.input[2]
    node.op_type = "Max"
    node.input[:] = [node.input[0], low]
    surgery.insert(model, node, ("Min", [high], {}))


def relu_min(model: Any, node: Any) -> None:
    """Clip from 0 as ReLU, then Min."""
    high = node.input[2]
    node.op_type = "Relu"
    del node.input[1:]
    surgery.insert(model, node, ("Min", [high], {}))


def exchanged(model: Any, node: Any) -> None:
    """The operands the other way round."""
    node.input[:] = list(node.input)[::-1]


def sigmoid_by_hand(model: Any, node: Any) -> None:
    """1 / (1 + exp(-x))."""
    node.op_type = "Neg"
    one = surgery.constant(model, f"{node.output[0]}_one", np.float32(1))
    surgery.insert(model, node, ("Exp", [], {}), ("Add", [one], {}), ("Reciprocal", [], {}))


def as_mean(model: Any, node: Any) -> None:
    """ReduceMean over height and width, as PyTorch's `mean` becomes; axes moved to an input with opset 18."""
    node.op_type = "ReduceMean"
    version = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if version < 18:
        surgery.assign(node, axes=[2, 3], keepdims=1)
    else:
        node.input.append(surgery.constant(model, f"{node.output[0]}_axes", np.array([2, 3])))
        surgery.assign(node, keepdims=1)


def as_pool(model: Any, node: Any) -> None:
    """AveragePool over all there is: 7 pixels of 224, 4 of 32."""
    size = 7 if model.graph.input[0].type.tensor_type.shape.dim[2].dim_value == 224 else 4
    node.op_type = "AveragePool"
    surgery.assign(node, kernel_shape=[size, size], strides=[size, size])


def matmul(model: Any, node: Any) -> None:
    """MatMul with the weight transposed, and Add."""
    known = files.constants(model)
    if node.input[1] not in known or not plain(model, node):
        raise NotImplementedError("its weight is quantized")
    weight = numpy_helper.to_array(known[node.input[1]])
    transposed = surgery.ints_of(node, "transB", 0)
    name = surgery.constant(model, f"{node.output[0]}_w", np.ascontiguousarray(weight.T if transposed else weight))
    bias = node.input[2]
    drop(model, node.input[1])
    node.op_type = "MatMul"
    del node.attribute[:]
    node.input[:] = [node.input[0], name]
    surgery.insert(model, node, ("Add", [bias], {}))


def other_way(model: Any, node: Any) -> None:
    """Without `transB`, the weight stored K×N."""
    known = files.constants(model)
    if node.input[1] not in known or not surgery.ints_of(node, "transB", 0):
        raise NotImplementedError("its weight is quantized")
    weight = numpy_helper.to_array(known[node.input[1]])
    files.set_constant(known[node.input[1]], weight.T)
    surgery.assign(node, transB=0)


def as_reshape(model: Any, node: Any) -> None:
    """Reshape to the batch and all the rest."""
    node.op_type = "Reshape"
    del node.attribute[:]
    node.input.append(surgery.constant(model, f"{node.output[0]}_shape", np.array([0, -1])))


def as_squeeze(model: Any, node: Any) -> None:
    """Squeeze of the two dimensions of one pixel."""
    node.op_type = "Squeeze"
    del node.attribute[:]
    node.input.append(surgery.constant(model, f"{node.output[0]}_axes", np.array([2, 3])))


def softmax_by_hand(model: Any, node: Any) -> None:
    """exp over the sum of exp; DFL's logits are small enough."""
    axis = surgery.ints_of(node, "axis", 1)
    output, source = node.output[0], node.input[0]
    largest = helper.make_node("ReduceMax", [source], [f"{output}_m"], f"{node.name}_Max", axes=[axis], keepdims=1)
    index = list(model.graph.node).index(node)
    steps = [
        largest,
        helper.make_node("Sub", [source, f"{output}_m"], [f"{output}_d"], f"{node.name}_Sub"),
        helper.make_node("Exp", [f"{output}_d"], [f"{output}_e"], f"{node.name}_Exp"),
        helper.make_node("ReduceL1", [f"{output}_e"], [f"{output}_s"], f"{node.name}_Sum", axes=[axis], keepdims=1),
        helper.make_node("Div", [f"{output}_e", f"{output}_s"], [output], f"{node.name}_Div"),
    ]
    model.graph.node.remove(node)
    for offset, step in enumerate(steps):
        model.graph.node.insert(index + offset, step)


def two_pools(model: Any, node: Any) -> None:
    """A window of five as two windows of three."""
    if surgery.ints(node, "kernel_shape", []) != [5, 5]:
        raise NotImplementedError("no pool of five")
    smaller = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    surgery.assign(node, **smaller)
    surgery.insert(model, node, ("MaxPool", [], smaller))


def by_sizes(model: Any, node: Any) -> None:
    """Sizes in the place of scales."""
    size = {"/model.10/Resize": (256, 40), "/model.13/Resize": (128, 80)}.get(node.name)
    if size is None:
        raise NotImplementedError("whose sizes are not known")
    channels, side = size
    sizes = surgery.constant(model, f"{node.output[0]}_sizes", np.array([1, channels, side, side]))
    node.input[:] = [node.input[0], "", "", sizes]
