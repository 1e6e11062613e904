"""Changes of a graph's nodes, small enough to be put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from benchmarks.mutants import files

Change = Callable[[Any, Any], None]
"""Changes a model at one of its nodes, which is given too."""


def ints(node: Any, name: str, otherwise: list[int]) -> list[int]:
    """An attribute of whole numbers."""
    return next((list(a.ints) for a in node.attribute if a.name == name), otherwise)


def assign(node: Any, **values: Any) -> None:
    """Give a node's attributes other values."""
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def rename(node: Any, operator: str, *keep: str, **values: Any) -> None:
    """Another operator of the first input alone, with those attributes alone that it has too."""
    kept = [a for a in node.attribute if a.name in keep]
    node.op_type = operator
    del node.attribute[:]
    node.attribute.extend(kept)
    del node.input[1:]
    assign(node, **values)


def insert(model: Any, node: Any, *more: Any) -> None:
    """Put nodes behind one: each (operator, inputs beside the first, attributes) reads what the one before it wrote."""
    index = list(model.graph.node).index(node) + 1
    output, name = node.output[0], f"{node.output[0]}_of"
    node.output[0] = name
    for number, (operator, inputs, attributes) in enumerate(more):
        last = number == len(more) - 1
        target = output if last else f"{output}_{number}"
        made = helper.make_node(operator, [name, *inputs], [target], f"{node.name}_{operator}_{number}", **attributes)
        model.graph.node.insert(index + number, made)
        name = target


def constant(model: Any, name: str, value: Any) -> str:
    """Add a constant to a graph; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def after(operator: str, value: float | None = None) -> Change:
    """Put an operator behind the node; its second input is that value."""

    def change(model: Any, node: Any) -> None:
        inputs = [] if value is None else [constant(model, f"{node.output[0]}_by", np.float32(value))]
        insert(model, node, (operator, inputs, {}))

    return change


def weight_of(model: Any, node: Any) -> Any:
    """The constant that a convolution or product multiplies with, behind Q/DQ if need be."""
    known, name = files.constants(model), node.input[1]
    writers = {output: other for other in model.graph.node for output in other.output}
    while name not in known:
        name = writers[name].input[0]
    return known[name]


def before(model: Any, node: Any, operator: str, inputs: list[str], **attributes: Any) -> None:
    """Put an operator before a node's first input."""
    output = f"{node.output[0]}_in"
    made = helper.make_node(operator, [node.input[0], *inputs], [output], f"{node.name}_{operator}", **attributes)
    node.input[0] = output
    model.graph.node.insert(list(model.graph.node).index(node), made)


def ints_of(node: Any, name: str, otherwise: int) -> int:
    """An attribute that is one whole number."""
    return next((int(a.i) for a in node.attribute if a.name == name), otherwise)


def in_turn(*changes: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Changes one after the other, of a model or a folder."""

    def changed(subject: Any) -> None:
        for change in changes:
            change(subject)

    return changed
