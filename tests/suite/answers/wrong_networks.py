"""Networks that have every weight and compute something else: what was done to them, and what must be said of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.suite.answers.surgery import (
    Cut,
    after,
    at_end,
    before_all,
    bypass,
    constant,
    named,
    nodes,
    replace,
    set_attribute,
)

MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclasses.dataclass(frozen=True)
class Altered:
    """One network with a fault; `says` is in what is told of it, `slow` is left to the longer run."""

    name: str
    model: str
    cut: Cut
    says: str
    slow: bool = False


def each(operator: str, change: Any, only: slice = slice(None)) -> Cut:
    """The same change at some nodes of an operator."""

    def cut(model: Any) -> None:
        for node in nodes(model, operator)[only]:
            change(model, node)

    return cut


def by_channel(values: Any) -> Any:
    """One value a channel, as a graph's constant."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def stride_in_the_first(model: Any) -> None:
    """ResNet's first version, the paper's: the 1×1 strides, not the 3×3."""
    for stage in (2, 3, 4):
        set_attribute(named(model, f"/layer{stage}.0/conv1/Conv"), "strides", [2, 2])
        set_attribute(named(model, f"/layer{stage}.0/conv2/Conv"), "strides", [1, 1])


def own_statistics(model: Any) -> None:
    """A norm over the image itself behind the first layer."""
    first = nodes(model, "Conv")[0]
    channels = 64
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    after(model, first, ("InstanceNormalization", (ones, zeros), {"epsilon": 1e-5}))


def other_epsilon(model: Any) -> None:
    """A BatchNorm that is not folded, with another framework's epsilon."""
    one = np.full(64, 1.0, np.float32)
    after(model, nodes(model, "Conv")[1], ("BatchNormalization", (one, 0 * one, 0 * one, 0.1 * one), {"epsilon": 1e-3}))


def turned(model: Any) -> None:
    """Rows and columns exchanged somewhere inside."""
    after(model, nodes(model, "Conv")[3], ("Transpose", (), {"perm": [0, 1, 3, 2]}))


def wider(model: Any) -> None:
    """A dilated kernel of the same size of output."""
    node = nodes(model, "Conv")[10]
    set_attribute(node, "dilations", [2, 2])
    set_attribute(node, "pads", [2] * 4)


def scaled(factor: Any, shift: Any) -> Cut:
    """Preprocessing within the graph."""
    return lambda model: before_all(model, ("Mul", (by_channel(factor),), {}), ("Add", (by_channel(shift),), {}))


def bgr(model: Any) -> None:
    """Channels exchanged before the first layer."""
    before_all(model, ("Gather", (np.array([2, 1, 0]),), {"axis": 1}))


def leaky(model: Any, node: Any) -> None:
    """A slope below 0."""
    replace(model, node, "LeakyRelu", alpha=0.01)


def relu(model: Any, node: Any) -> None:
    """Nothing cut above."""
    replace(model, node, "Relu")


def lower(model: Any, node: Any) -> None:
    """Cut at 5."""
    node.input[2] = "five"


def not_reached(model: Any) -> None:
    """ReLU in one place that no image drives to 6: another layer's weights are as small as training may make them."""
    clip = nodes(model, "Clip")[20]
    (layer,) = [node for node in nodes(model, "Conv") if clip.input[0] in node.output]
    for name in layer.input[1:]:
        holder = constants(model)[name]
        holder.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(holder) * np.float32(1e-4), name))
    replace(model, clip, "Relu")


def five(model: Any) -> None:
    """ReLU6 with 5, in one place."""
    constant(model, "five", 5)
    lower(model, nodes(model, "Clip")[4])


def floor_pool(model: Any, node: Any) -> None:
    """The border not filled, and the last column kept by rounding up."""
    set_attribute(node, "pads", [0] * 4)
    set_attribute(node, "ceil_mode", 1)


def average(model: Any, node: Any) -> None:
    """The mean where the largest belongs."""
    replace(model, node, "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)


RESNET = (
    Altered("stride in the 1×1", "resnet50", stride_in_the_first, "strides 1×1 at layer2.0.conv1"),
    Altered("no max-pool", "resnet50", lambda m: bypass(m, nodes(m, "MaxPool")[0]), "MaxPool", slow=True),
    Altered("average for max", "resnet50", each("MaxPool", average), "MaxPool", slow=True),
    Altered("pool without border", "resnet50", each("MaxPool", floor_pool), "ceil_mode=1", slow=True),
    Altered("no shortcut", "resnet18_cifar10", lambda m: bypass(m, nodes(m, "Add")[3]), "Add"),
    Altered("no last shortcut", "resnet18_cifar10", lambda m: bypass(m, nodes(m, "Add")[-1]), "Add", slow=True),
    Altered("no shortcuts", "resnet18_cifar10", each("Add", bypass, slice(1, None, 2)), "Add", slow=True),
    Altered("leaky", "resnet18_cifar10", each("Relu", leaky), "LeakyRelu"),
    Altered("one leaky", "resnet18_cifar10", each("Relu", leaky, slice(9, 10)), "LeakyRelu", slow=True),
    Altered("no last ReLU", "resnet18_cifar10", each("Relu", bypass, slice(-1, None)), "Relu", slow=True),
    Altered(
        "max for mean",
        "resnet18_cifar10",
        each("GlobalAveragePool", lambda m, n: replace(m, n, "GlobalMaxPool")),
        "GlobalMaxPool",
    ),
    Altered("softmax", "resnet18_cifar10", lambda m: at_end(m, ("Softmax", (), {"axis": 1})), "Softmax"),
    Altered(
        "log-softmax", "resnet18_cifar10", lambda m: at_end(m, ("LogSoftmax", (), {"axis": 1})), "LogSoftmax", True
    ),
    Altered(
        "normalised",
        "resnet18_cifar10",
        scaled(1 / np.array(STD), -np.array(MEAN) / np.array(STD)),
        "scaled and shifted",
    ),
    Altered("divided by 255", "resnet18_cifar10", scaled([1 / 255] * 3, [0] * 3), "× 0.003922", slow=True),
    Altered("BGR", "resnet18_cifar10", bgr, "BGR"),
    Altered("own statistics", "resnet18_cifar10", own_statistics, "InstanceNormalization"),
    Altered("epsilon", "resnet18_cifar10", other_epsilon, "epsilon"),
    Altered("turned", "resnet18_cifar10", turned, "Transpose"),
    Altered("dilated", "resnet18_cifar10", wider, "pads 1×1×1×1 at layer3.0.conv", slow=True),
    Altered(
        "shifted by a pixel",
        "resnet18_cifar10",
        lambda m: set_attribute(nodes(m, "Conv")[0], "pads", [0, 0, 2, 2]),
        "pads 1×1×1×1 at conv1",
        slow=True,
    ),
)

MOBILENET = (
    Altered("ReLU for ReLU6", "mobilenet_v2", each("Clip", relu), "Clip(min=0, max=6)"),
    Altered("ReLU where nothing is cut", "mobilenet_v2", not_reached, "Clip(min=0, max=6)"),
    Altered("ReLU once", "mobilenet_v2", each("Clip", relu, slice(20, 21)), "Clip(min=0, max=6)", slow=True),
    Altered("cut at 5", "mobilenet_v2", five, "max=5", slow=True),
    Altered(
        "hard swish", "mobilenet_v2", each("Clip", lambda m, n: replace(m, n, "HardSwish")), "HardSwish", slow=True
    ),
    Altered("no shortcut", "mobilenet_v2", lambda m: bypass(m, nodes(m, "Add")[3], 1), "Add", slow=True),
)


def constants(model: Any) -> dict[str, Any]:
    """Holders of constants by name: initializers and Constant nodes' tensors."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    return held | {node.output[0]: node.attribute[0].t for node in nodes(model, "Constant")}


def change_constant(shape: tuple[int, ...], change: Any) -> Cut:
    """Every constant of this shape, otherwise."""

    def cut(model: Any) -> None:
        holders = [tensor for tensor in constants(model).values() if tuple(tensor.dims) == shape]
        assert holders
        for holder in holders:
            holder.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(holder).copy()), holder.name))

    return cut


def one_stride(level: float, wrong: float) -> Cut:
    """One level of the head decoded with another's stride."""
    return change_constant((1, 8400), lambda strides: np.where(strides == level, wrong, strides).astype(np.float32))


def corners(model: Any) -> None:
    """Left, top, right, bottom, as drawing functions take them."""
    output = model.graph.output[0].name
    matrix = np.eye(84, dtype=np.float32)
    matrix[:4, :4] = [[1, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]]
    (last,) = [node for node in model.graph.node if output in node.output]
    last.output[0] = "centred"
    model.graph.node.append(helper.make_node("MatMul", [constant(model, "to_corners", matrix), "centred"], [output]))


def row_order(order: Any) -> Cut:
    """The answer's rows in another order."""
    return lambda model: at_end(model, ("Gather", (np.asarray(order),), {"axis": 1}))


def last_sigmoid(model: Any) -> Any:
    """The one behind the scores."""
    return nodes(model, "Sigmoid")[-1]


def exchange(model: Any, node: Any) -> None:
    """The first two parts joined the other way round."""
    node.input[:] = [node.input[1], node.input[0], *node.input[2:]]


def joined_in_c2f(model: Any) -> Any:
    """Where a block of the backbone joins its parts."""
    return named(model, "/model.4/Concat")


def relu_for_silu(model: Any) -> None:
    """ReLU in one layer."""
    sigmoid = named(model, "/model.3/act/Sigmoid")
    product = named(model, "/model.3/act/Mul")
    replace(model, product, "Relu")
    model.graph.node.remove(sigmoid)


def narrow_pool(_model: Any, node: Any) -> None:
    """3×3 where 5×5 belongs."""
    set_attribute(node, "kernel_shape", [3, 3])
    set_attribute(node, "pads", [1] * 4)


def no_bins(model: Any) -> None:
    """The distances' distribution without its softmax."""
    bypass(model, nodes(model, "Softmax")[0])


def linear(model: Any, node: Any) -> None:
    """Smooth upsampling."""
    set_attribute(node, "mode", "linear")
    set_attribute(node, "coordinate_transformation_mode", "half_pixel")


def nms_like(model: Any) -> None:
    """The best hundred anchors alone."""
    at_end(model, ("Slice", (np.array([0]), np.array([100]), np.array([2])), {}))


def shares(model: Any) -> None:
    """Boxes from 0 to 1."""
    factors = np.ones((1, 84, 1), np.float32)
    factors[:, :4] = 1 / 640
    at_end(model, ("Mul", (factors,), {}))


YOLO = (
    Altered("corners", "yolov8n", corners, "corners"),
    Altered("x and y", "yolov8n", row_order([1, 0, 3, 2, *range(4, 84)]), "x and y exchanged", slow=True),
    Altered("scores first", "yolov8n", row_order([*range(4, 84), *range(4)]), "scores before boxes", slow=True),
    Altered(
        "sigmoid twice",
        "yolov8n",
        lambda m: after(m, last_sigmoid(m), ("Sigmoid", (), {})),
        "a sigmoid applied twice",
    ),
    Altered("no sigmoid", "yolov8n", lambda m: bypass(m, last_sigmoid(m)), "without their sigmoid"),
    Altered("stride 8 for 16", "yolov8n", one_stride(16, 8), "stride 8 at the level of stride 16"),
    Altered("stride 32 for 8", "yolov8n", one_stride(8, 32), "stride 32 at the level of stride 8", slow=True),
    Altered(
        "anchors at corners", "yolov8n", change_constant((1, 2, 8400), lambda a: a - np.float32(0.5)), "offset of 0.5"
    ),
    Altered("no softmax in the bins", "yolov8n", no_bins, "without their softmax", slow=True),
    Altered("shares of the image", "yolov8n", shares, "divided by 640", slow=True),
    Altered("hundred anchors", "yolov8n", nms_like, "Slice", slow=True),
    Altered("ReLU for SiLU", "yolov8n", relu_for_silu, "Relu"),
    Altered("parts exchanged", "yolov8n", lambda m: exchange(m, joined_in_c2f(m)), "another order", slow=True),
    Altered("smooth upsampling", "yolov8n", each("Resize", linear, slice(0, 1)), "mode=linear", slow=True),
    Altered(
        "smaller pool",
        "yolov8n",
        each("MaxPool", narrow_pool),
        "kernel_shape=3×3",
        slow=True,
    ),
    Altered("no shortcut", "yolov8n", lambda m: bypass(m, named(m, "/model.6/m.0/Add"), 1), "Add", slow=True),
    Altered("divided by 255", "yolov8n", scaled([1 / 255] * 3, [0] * 3), "× 0.003922", slow=True),
)

EVERY = (*RESNET, *MOBILENET, *YOLO)
