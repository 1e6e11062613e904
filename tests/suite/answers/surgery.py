"""Cuts into ONNX graphs, as careless exports and wrong scripts leave them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

Cut = Callable[[Any], None]


def nodes(model: Any, operator: str) -> list[Any]:
    """The graph's nodes of one operator, in its order."""
    return [node for node in model.graph.node if node.op_type == operator]


def named(model: Any, part: str) -> Any:
    """The one node whose name holds this."""
    (node,) = [node for node in model.graph.node if part in node.name]
    return node


def constant(model: Any, name: str, value: Any, dtype: Any = np.float32) -> str:
    """A new initializer, and its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    return name


def insert(model: Any, before: Any, *made: Any) -> None:
    """Put nodes in front of another."""
    index = list(model.graph.node).index(before)
    for node in reversed(made):
        model.graph.node.insert(index, node)


def read_instead(model: Any, old: str, new: str, but: Iterable[Any] = ()) -> None:
    """Whoever read one tensor reads another."""
    skipped = {id(node) for node in but}
    for node in model.graph.node:
        if id(node) not in skipped:
            node.input[:] = [new if name == old else name for name in node.input]


def bypass(model: Any, node: Any, source: int = 0) -> None:
    """Take a node out: its readers read one of its inputs."""
    read_instead(model, node.output[0], node.input[source])
    model.graph.node.remove(node)


def replace(model: Any, node: Any, operator: str, *more: str, **attributes: Any) -> None:
    """Another operator on the node's first input."""
    fresh = helper.make_node(operator, [node.input[0], *more], [node.output[0]], name=node.name, **attributes)
    index = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    model.graph.node.insert(index, fresh)


def set_attribute(node: Any, name: str, value: Any) -> None:
    """Give one attribute another value."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def after(model: Any, node: Any, *steps: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """Put operators behind a node: each takes the last one's result and these constants."""
    name = node.output[0]
    node.output[0] = f"{name}_before"
    put(model, node.output[0], name, list(model.graph.node).index(node) + 1, *steps)


def before_all(model: Any, *steps: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """Put operators between the image and whoever reads it."""
    image = model.graph.input[0].name
    read_instead(model, image, f"{image}_ready")
    put(model, image, f"{image}_ready", 0, *steps)


def put(model: Any, source: str, result: str, at: int, *steps: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """A chain of operators from one tensor to another, from this place in the file on."""
    for number, (operator, values, attributes) in enumerate(steps):
        extra = [constant(model, f"{result}_{number}_{i}", v, np.asarray(v).dtype) for i, v in enumerate(values)]
        target = result if number == len(steps) - 1 else f"{result}_{number}"
        model.graph.node.insert(at + number, helper.make_node(operator, [source, *extra], [target], **attributes))
        source = target


def at_end(model: Any, *steps: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """Put operators behind the answer."""
    output = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if output in node.output]
    place = list(last.output).index(output)
    last.output[place] = f"{output}_before"
    read_instead(model, output, f"{output}_before")
    put(model, f"{output}_before", output, len(model.graph.node), *steps)
