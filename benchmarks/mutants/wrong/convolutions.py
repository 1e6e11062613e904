"""Every convolution of a graph made otherwise: stride, padding, dilation, the order of groups, a norm of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.mutants import surgery


def changes(node: Any) -> Iterator[tuple[str, str, surgery.Change]]:
    """(kind, what is done, the change) of a convolution."""
    kernel, stride = surgery.ints(node, "kernel_shape", []), surgery.ints(node, "strides", [1, 1])
    if not kernel:
        return
    if stride == [2, 2]:
        yield "stride", "stride 1 for 2, then every second pixel averaged", _pooled_stride
        yield "stride", "stride taken at the other corner", _late_stride
    else:
        yield "stride", "stride 2, and enlarged again", _strided
    if kernel != [1, 1]:
        yield "padding", "padding on one side", lambda m, n: surgery.assign(n, pads=one_sided(n))
        yield "padding", "none, and zeros outside after it", _valid_then_padded
        yield "padding", "edges repeated", _edge_padding
        yield (
            "dilation",
            "dilation 2",
            lambda m, n: surgery.assign(n, dilations=[2, 2], pads=[2 * p for p in surgery.ints(n, "pads", [1] * 4)]),
        )
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if groups > 1:
        yield "groups", "channels rotated before a depthwise convolution", _rolled_channels
    yield "norm", "normalised by the image's own statistics", _instance_norm
    yield "activation", "a ReLU where none is", surgery.after("Relu")


def one_sided(node: Any) -> list[int]:
    """Padding of the same size, all of it after the image."""
    pads = surgery.ints(node, "pads", [1, 1, 1, 1])
    half = len(pads) // 2
    return [0] * half + [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]


def _pooled_stride(model: Any, node: Any) -> None:
    surgery.assign(node, strides=[1, 1])
    surgery.insert(model, node, ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}))


def _late_stride(model: Any, node: Any) -> None:
    surgery.assign(node, strides=[1, 1])
    starts, ends = (
        surgery.constant(model, f"{node.output[0]}_s", [1, 1]),
        surgery.constant(model, f"{node.output[0]}_e", [10**6] * 2),
    )
    axes, steps = (
        surgery.constant(model, f"{node.output[0]}_a", [2, 3]),
        surgery.constant(model, f"{node.output[0]}_t", [2, 2]),
    )
    surgery.insert(model, node, ("Slice", [starts, ends, axes, steps], {}))


def _strided(model: Any, node: Any) -> None:
    surgery.assign(node, strides=[2, 2])
    scales = surgery.constant(model, f"{node.output[0]}_scales", np.array([1, 1, 2, 2], np.float32))
    surgery.insert(
        model, node, ("Resize", ["", scales], {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"})
    )


def _valid_then_padded(model: Any, node: Any) -> None:
    pads = surgery.ints(node, "pads", [0] * 4)
    stride = surgery.ints(node, "strides", [1, 1])
    surgery.assign(node, pads=[0] * 4)
    top, left, bottom, right = pads if stride == [1, 1] else (0, 0, 1, 1)
    name = surgery.constant(model, f"{node.output[0]}_pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    surgery.insert(model, node, ("Pad", [name], {}))


def _edge_padding(model: Any, node: Any) -> None:
    top, left, bottom, right = surgery.ints(node, "pads", [0] * 4)
    surgery.assign(node, pads=[0] * 4)
    name = surgery.constant(model, f"{node.output[0]}_pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    surgery.before(model, node, "Pad", [name], mode="edge")


def _instance_norm(model: Any, node: Any) -> None:
    channels = surgery.weight_of(model, node).dims[0]
    one = surgery.constant(model, f"{node.output[0]}_one", np.ones(channels, np.float32))
    zero = surgery.constant(model, f"{node.output[0]}_zero", np.zeros(channels, np.float32))
    surgery.insert(model, node, ("InstanceNormalization", [one, zero], {}))


def _rolled_channels(model: Any, node: Any) -> None:
    count = surgery.weight_of(model, node).dims[0]
    order = surgery.constant(model, f"{node.output[0]}_order", np.roll(np.arange(count), 1))
    surgery.before(model, node, "Gather", [order], axis=1)
