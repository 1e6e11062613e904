"""What stands before and behind a network: its input and output stage, YOLO's head, and its interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from benchmarks.mutants import bases, expected, files, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.wrong.nodes import graph_case

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Edit = Callable[[Any], None]


def cases(base: str, folder: Path, file: str) -> Iterator[Case]:
    """Every change of a network's ends."""
    stem = file.removesuffix(".onnx")
    for what, change in inputs():
        yield graph_case(base, file, "input stage", f"{stem} {what}", change, expected.STAGE)
    for what, change in outputs(bases.model_of(file).task):
        yield graph_case(base, file, "output stage", f"{stem} {what}", change, expected.STAGE)
    if bases.model_of(file).task == "detection":
        for what, change in heads():
            yield graph_case(base, file, "detection head", f"{stem} {what}", change, expected.HEAD)
    for what, change in interfaces():
        case = graph_case(base, file, "interface", f"{stem} {what}", change, expected.INTERFACE)
        # Whatever it computes, the course's commands do not take it.
        yield dataclasses.replace(case, file="", why="the course's commands do not take it")


def ahead(*steps: tuple[str, dict[str, Any], dict[str, Any]]) -> Edit:
    """Put operators between the input and whoever reads it: (operator, constants after the first input, attributes)."""

    def change(model: Any) -> None:
        name = model.graph.input[0].name
        readers = files.readers(model, name)
        current = name
        for number, (operator, values, attributes) in enumerate(steps):
            more = [surgery.constant(model, f"stage_{number}_{key}", value) for key, value in values.items()]
            output = f"stage_{number}"
            made = helper.make_node(operator, [current, *more], [output], f"Stage_{number}_{operator}", **attributes)
            model.graph.node.insert(number, made)
            current = output
        for reader, index in readers:
            reader.input[index] = current

    return change


def behind(*steps: tuple[str, dict[str, Any], dict[str, Any]]) -> Edit:
    """Put operators between the last node and the output."""

    def change(model: Any) -> None:
        name = model.graph.output[0].name
        node = next(n for n in model.graph.node if name in n.output)
        made = []
        for number, (operator, values, attributes) in enumerate(steps):
            more = [surgery.constant(model, f"end_{number}_{key}", value) for key, value in values.items()]
            made.append((operator, more, attributes))
        surgery.insert(model, node, *made)

    return change


def by_channel(*values: float) -> Any:
    """Three values as they are subtracted from an image."""
    return np.array(values, np.float32).reshape(1, 3, 1, 1)


def inputs() -> Iterator[tuple[str, Edit]]:
    """Input stages that the network has not."""
    yield "takes BGR", ahead(("Gather", {"order": np.array([2, 1, 0])}, {"axis": 1}))
    yield "takes GRB", ahead(("Gather", {"order": np.array([1, 0, 2])}, {"axis": 1}))
    yield "divides by 255", ahead(("Div", {"by": np.float32(255)}, {}))
    yield "multiplies by 255", ahead(("Mul", {"by": np.float32(255)}, {}))
    yield "normalises itself", ahead(("Sub", {"mean": by_channel(*MEAN)}, {}), ("Div", {"std": by_channel(*STD)}, {}))
    yield "normalises by halves", ahead(("Sub", {"mean": np.float32(0.5)}, {}), ("Div", {"std": np.float32(0.5)}, {}))
    yield "subtracts the mean again", ahead(("Sub", {"mean": by_channel(*MEAN)}, {}))
    yield "undoes the deviation", ahead(("Mul", {"std": by_channel(*STD)}, {}))
    yield "shifts 0…1 to -1…1", ahead(("Mul", {"by": np.float32(2)}, {}), ("Sub", {"one": np.float32(1)}, {}))
    yield "cuts at 0", ahead(("Relu", {}, {}))
    yield "cuts at -1 and 1", ahead(("Clip", {"low": np.float32(-1), "high": np.float32(1)}, {}))
    yield "rounds to whole numbers", ahead(("Round", {}, {}))
    yield (
        "rounds to tenths",
        ahead(("Mul", {"by": np.float32(10)}, {}), ("Round", {}, {}), ("Div", {"by": np.float32(10)}, {})),
    )
    yield "turns width and height round", ahead(("Transpose", {}, {"perm": [0, 1, 3, 2]}))
    grey = np.full((3, 3, 1, 1), 1 / 3, np.float32)
    yield "takes grey for colour", ahead(("Conv", {"grey": grey}, {"kernel_shape": [1, 1]}))
    yield (
        "mirrors",
        ahead(
            (
                "Slice",
                {
                    "starts": np.array([-1]),
                    "ends": np.array([-(10**6)]),
                    "axes": np.array([3]),
                    "steps": np.array([-1]),
                },
                {},
            )
        ),
    )
    yield "standardises each image", ahead(("MeanVarianceNormalization", {}, {"axes": [2, 3]}))
    yield "blurs", ahead(("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}))


def outputs(task: str) -> Iterator[tuple[str, Edit]]:
    """Output stages that the network has not."""
    yield "scaled by 0.99 at its end", behind(("Mul", {"by": np.float32(0.99)}, {}))
    yield "rounded at its end", behind(("Round", {}, {}))
    yield "negative at its end", behind(("Neg", {}, {}))
    if task == "detection":
        return
    yield "softmax at its end", behind(("Softmax", {}, {"axis": 1}))
    yield "log-softmax at its end", behind(("LogSoftmax", {}, {"axis": 1}))
    yield "softmax over the batch at its end", behind(("Softmax", {}, {"axis": 0}))
    yield "sigmoid at its end", behind(("Sigmoid", {}, {}))
    yield "ReLU at its end", behind(("Relu", {}, {}))
    yield "a temperature of 2 at its end", behind(("Div", {"by": np.float32(2)}, {}))
    yield "normalised to length 1 at its end", behind(("LpNormalization", {}, {"axis": 1, "p": 2}))
    yield "hardmax at its end", behind(("Hardmax", {}, {"axis": 1}))
    yield "tanh at its end", behind(("Tanh", {}, {}))


def rows(order: list[int]) -> Edit:
    """YOLO's rows in another order."""
    return behind(("Gather", {"order": np.array(order)}, {"axis": 1}))


def affine(matrix: Any) -> Edit:
    """YOLO's rows mixed by a matrix 84×84."""

    def change(model: Any) -> None:
        name = model.graph.output[0].name
        node = next(n for n in model.graph.node if name in n.output)
        node.output[0] = "unmixed"
        mixed = surgery.constant(model, "mixing", matrix.astype(np.float32))
        model.graph.node.append(helper.make_node("MatMul", [mixed, "unmixed"], [name], "Mixing"))

    return change


def mixing(*entries: tuple[int, int, float]) -> Any:
    """The identity with other entries."""
    matrix = np.eye(84)
    for row in {row for row, _column, _value in entries}:
        matrix[row] = 0
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def levels(values: tuple[float, float, float]) -> Edit:
    """Each level's boxes with another stride: 6,400, 1,600 and 400 anchors."""
    by = np.repeat(np.array(values, np.float32), (6400, 1600, 400))
    scale = np.ones((1, 84, 8400), np.float32)
    scale[:, :4] = by
    return behind(("Mul", {"by": scale}, {}))


def heads() -> Iterator[tuple[str, Edit]]:
    """Decoded otherwise than YOLOv8's head."""
    rest = list(range(4, 84))
    yield "x and y exchanged", rows([1, 0, 2, 3, *rest])
    yield "width and height exchanged", rows([0, 1, 3, 2, *rest])
    yield "x with width, y with height exchanged", rows([2, 3, 0, 1, *rest])
    yield "both pairs exchanged", rows([1, 0, 3, 2, *rest])
    yield "scores before boxes", rows([*rest, 0, 1, 2, 3])
    yield "classes turned round", rows([0, 1, 2, 3, *rest[::-1]])
    yield "classes shifted by one", rows([0, 1, 2, 3, *rest[1:], 4])
    yield "two classes exchanged", rows([0, 1, 2, 3, 5, 4, *rest[2:]])
    corners = [(0, 0, 1.0), (0, 2, -0.5), (1, 1, 1.0), (1, 3, -0.5), (2, 0, 1.0), (2, 2, 0.5), (3, 1, 1.0), (3, 3, 0.5)]
    yield "corner boxes", affine(mixing(*corners))
    yield "top left corner, width and height", affine(mixing(*corners[:4]))
    yield "half widths and heights", affine(mixing((2, 2, 0.5), (3, 3, 0.5)))
    yield "boxes from 0 to 1", affine(mixing(*((row, row, 1 / 640) for row in range(4))))
    yield "boxes in pixels of 320", affine(mixing(*((row, row, 0.5) for row in range(4))))
    yield "boxes in cells", levels((1 / 8, 1 / 16, 1 / 32))
    yield "the first level with the second's stride", levels((2, 1, 1))
    yield "the second level with the first's stride", levels((1, 0.5, 1))
    yield "the third level with the second's stride", levels((1, 1, 0.5))
    yield "the first and the third level's strides exchanged", levels((4, 1, 0.25))
    shift = np.zeros((1, 84, 1), np.float32)
    shift[:, :2] = 4
    yield "boxes off by half a cell", behind(("Add", {"by": shift}, {}))
    yield "boxes off by one pixel", behind(("Add", {"by": shift / 4}, {}))
    order = np.arange(8400)
    swapped = np.concatenate([order[6400:8000], order[:6400], order[8000:]])
    yield "the second level before the first", behind(("Gather", {"order": swapped}, {"axis": 2}))
    yield "anchors turned round", behind(("Gather", {"order": order[::-1].copy()}, {"axis": 2}))
    transposed = np.arange(6400).reshape(80, 80).T.reshape(-1)
    columns = np.concatenate([transposed, order[6400:]])
    yield "the first level's cells column by column", behind(("Gather", {"order": columns}, {"axis": 2}))
    sharper = np.ones((1, 84, 1), np.float32)
    sharper[:, 4:] = 2
    yield "scores squared", behind(("Pow", {"by": sharper}, {}))
    yield "one class's scores halved", affine(mixing((4, 4, 0.5)))
    yield "the last class never seen", affine(mixing((83, 83, 0.0)))
    yield "an objectness in the first class", affine(mixing((4, 4, 0.0), (4, 5, 1.0)))


def interfaces() -> Iterator[tuple[str, Edit]]:
    """Names, shapes and types that the course's commands do not take."""

    def input_name(model: Any) -> None:
        old, new = model.graph.input[0].name, "data"
        for node, index in files.readers(model, old):
            node.input[index] = new
        model.graph.input[0].name = new

    def output_name(model: Any) -> None:
        old = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["result" if name == old else name for name in node.output]
        model.graph.output[0].name = "result"

    def opset(model: Any) -> Any:
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", 11)])

    def batch(model: Any) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        del model.graph.value_info[:]

    def second_input(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, [1]))

    def channels_last(model: Any) -> None:
        ahead(("Transpose", {}, {"perm": [0, 3, 1, 2]}))(model)
        dims = model.graph.input[0].type.tensor_type.shape.dim
        sizes = [dims[i].dim_value for i in (2, 3, 1)]
        for dim, size in zip(list(dims)[1:], sizes, strict=True):
            dim.dim_value = size

    def bytes_in(model: Any) -> None:
        ahead(("Cast", {}, {"to": onnx.TensorProto.FLOAT}))(model)
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8

    def output_shape(model: Any) -> None:
        shape = [d.dim_value or 1 for d in model.graph.output[0].type.tensor_type.shape.dim]
        behind(("Unsqueeze", {"axes": np.array([len(shape)])}, {}))(model)
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1

    def output_type(model: Any) -> None:
        behind(("Cast", {}, {"to": onnx.TensorProto.DOUBLE}))(model)
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    def cut_off(model: Any) -> None:
        model.graph.node.pop()

    def unknown_operator(model: Any) -> None:
        surgery.after("NoSuchOperator")(model, model.graph.node[-1])

    def lost_weight(model: Any) -> None:
        kept = [t for t in model.graph.initializer if len(t.dims) != 4 or t.dims[1] != 3]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)

    yield "another input's name", input_name
    yield "another output's name", output_name
    yield "opset 11 claimed", opset
    yield "batch of four", batch
    yield "a second input", second_input
    yield "channels last", channels_last
    yield "takes bytes", bytes_in
    yield "output with one dimension more", output_shape
    yield "output in double precision", output_type
    yield "last node cut off", cut_off
    yield "an operator that nobody has", unknown_operator
    yield "a weight that is not there", lost_weight
