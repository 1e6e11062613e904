"""Every operator of a graph made otherwise: strides, padding, activations, shortcuts, pools, what is joined how."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutants import bases, expected, files, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.wrong import convolutions


def cases(base: str, folder: Path, file: str) -> Iterator[Case]:
    """Every change of every node; half of them come with the recording of what the changed graph answers."""
    model = bases.graph(folder / file)
    for index, node in enumerate(model.graph.node):
        for kind, what, change in changes(model, node):
            name = f"{file.removesuffix('.onnx')} {what} at {node.name or node.output[0]}"
            yield graph_case(base, file, kind, name, at(index, change))


def at(index: int, change: surgery.Change) -> Callable[[Any], None]:
    """That change at the node of this number."""

    def changed(model: Any) -> None:
        change(model, model.graph.node[index])

    return changed


def graph_case(
    base: str, file: str, kind: str, name: str, change: Callable[[Any], Any], who: Any = expected.GRAPH
) -> Case:
    """A changed graph, handed in with its own recording, or with none."""

    def make(folder: Path) -> None:
        files.edit_model(folder / file, change)
        tell(folder, file, case.number() % 2 == 0)

    case = Case(base, kind, name, make, who, "the graph computes another function than the network", file)
    return case


def tell(folder: Path, file: str, recorded: bool) -> None:
    """The wrong model's own recording in the place of the right one's, or none; and a placement that was made of it."""
    model = bases.model_of(file)
    (folder / f"{model.name}.reference.npz").unlink(missing_ok=True)
    # A graph that does not run, or cannot be placed, is handed in without.
    with contextlib.suppress(ValueError, subprocess.CalledProcessError):
        if recorded:
            bases.record(folder, model)
        if (folder / "dla_placement.json").is_file():
            bases.place(folder)


def changes(model: Any, node: Any) -> Iterator[tuple[str, str, surgery.Change]]:
    """(kind, what is done, the change) of one node."""
    if node.op_type == "Conv":
        yield from convolutions.changes(node)
    elif node.op_type in ("Relu", "Clip", "Sigmoid"):
        yield from _of_activation(model, node)
    elif node.op_type == "Add" and _is_join(model, node):
        yield "shortcut", "the first of two sums left out", lambda m, n: files.skip(m, n, n.input[1])
        yield "shortcut", "the second of two sums left out", lambda m, n: files.skip(m, n, n.input[0])
        yield "shortcut", "sum halved", surgery.after("Mul", 0.5)
        yield "shortcut", "difference for sum", _operator("Sub")
        yield "shortcut", "maximum for sum", _operator("Max")
    elif "Pool" in node.op_type:
        yield from _of_pool(node)
    elif node.op_type == "Concat" and len(node.input) > 1:
        yield "order of a concatenation", "turned round", lambda m, n: _reorder(n, -1)
        if len(node.input) > 2:
            yield "order of a concatenation", "rotated", lambda m, n: _reorder(n, 0)
            yield "order of a concatenation", "first for last", lambda m, n: _repeat_first(n)
    elif node.op_type == "Resize":
        yield "resize", "linear for nearest", lambda m, n: surgery.assign(n, mode="linear")
        yield (
            "resize",
            "half pixel centres",
            lambda m, n: surgery.assign(n, coordinate_transformation_mode="align_corners"),
        )
        yield "resize", "rounded up", lambda m, n: surgery.assign(n, nearest_mode="ceil")
    elif node.op_type == "Softmax":
        for axis in (2, 3):
            yield "softmax", f"over axis {axis}", over(axis)
        yield "softmax", "left out", lambda m, n: files.skip(m, n, n.input[0])
        yield "softmax", "hardmax", lambda m, n: surgery.rename(n, "Hardmax")


def over(axis: int) -> surgery.Change:
    """Another axis."""
    return lambda _model, node: surgery.assign(node, axis=axis)


def _of_activation(model: Any, node: Any) -> Iterator[tuple[str, str, surgery.Change]]:
    if node.op_type == "Sigmoid" and not any(r.op_type == "Mul" for r, _i in files.readers(model, node.output[0])):
        yield "head", "scores without sigmoid", lambda m, n: files.skip(m, n, n.input[0])
        yield "head", "sigmoid twice", surgery.after("Sigmoid")
        yield "head", "hard sigmoid", lambda m, n: surgery.rename(n, "HardSigmoid")
        yield "head", "softmax for sigmoid", lambda m, n: surgery.rename(n, "Softmax", axis=1)
        return
    if node.op_type == "Sigmoid":
        yield "activation", "hard sigmoid for sigmoid", lambda m, n: surgery.rename(n, "HardSigmoid")
        yield "activation", "tanh for sigmoid", lambda m, n: surgery.rename(n, "Tanh")
        yield "activation", "GELU's sigmoid", _steeper
        return
    yield "activation", "left out", lambda m, n: files.skip(m, n, n.input[0])
    yield "activation", "leaky", lambda m, n: surgery.rename(n, "LeakyRelu", alpha=0.1)
    yield "activation", "ELU", lambda m, n: surgery.rename(n, "Elu")
    if node.op_type == "Clip":
        yield "activation", "ReLU for ReLU6", lambda m, n: surgery.rename(n, "Relu")
        yield "activation", "ReLU4 for ReLU6", lambda m, n: _bound(m, n, 4.0)
        yield "activation", "hard swish", lambda m, n: surgery.rename(n, "HardSwish")
    else:
        yield "activation", "ReLU6 for ReLU", surgery.after("Min", 6.0)
        yield "activation", "softplus", lambda m, n: surgery.rename(n, "Softplus")


def _of_pool(node: Any) -> Iterator[tuple[str, str, surgery.Change]]:
    if node.op_type == "MaxPool":
        yield (
            "pool",
            "average for maximum",
            lambda m, n: surgery.rename(n, "AveragePool", "kernel_shape", "pads", "strides"),
        )
        kernel = surgery.ints(node, "kernel_shape", [3, 3])[0]
        yield (
            "pool",
            "smaller",
            lambda m, n: surgery.assign(n, kernel_shape=[kernel - 2] * 2, pads=[(kernel - 2) // 2] * 4),
        )
        yield "pool", "padding on one side", lambda m, n: surgery.assign(n, pads=convolutions.one_sided(n))
        if surgery.ints(node, "strides", [1, 1]) == [2, 2]:
            yield (
                "pool",
                "left out, every second pixel taken",
                lambda m, n: surgery.assign(n, kernel_shape=[1, 1], pads=[0] * 4),
            )
        else:
            yield "pool", "left out", lambda m, n: files.skip(m, n, n.input[0])
    elif node.op_type == "GlobalAveragePool":
        yield "pool", "maximum for average", lambda m, n: surgery.rename(n, "GlobalMaxPool")
        yield "pool", "square mean", lambda m, n: surgery.rename(n, "GlobalLpPool")


def _is_join(model: Any, node: Any) -> bool:
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    return not known & set(node.input) and "model.22" not in node.name


def _operator(operator: str) -> surgery.Change:
    def change(model: Any, node: Any) -> None:
        node.op_type = operator

    return change


def _reorder(node: Any, turn: int) -> None:
    names = list(node.input)
    node.input[:] = names[::-1] if turn < 0 else [*names[1:], names[0]]


def _repeat_first(node: Any) -> None:
    node.input[len(node.input) - 1] = node.input[0]


def _steeper(model: Any, node: Any) -> None:
    by = surgery.constant(model, f"{node.output[0]}_by", np.float32(1.702))
    surgery.before(model, node, "Mul", [by])


def _bound(model: Any, node: Any, value: float) -> None:
    name = surgery.constant(model, f"{node.output[0]}_upper", np.float32(value))
    node.input[2] = name
