"""Graphs handed in as FP16 that are not, or not wholly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.mutants import expected, files
from benchmarks.mutants.case import Case

FILE = "yolov8n_fp16.onnx"
HALF, FULL = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def cases(base: str) -> Iterator[Case]:
    """Every such graph beside lab 2's model."""
    for what, make in ways():
        why = "what computes in FP32 earns nothing of FP16"
        yield Case(base, "FP16", what, make, expected.PRECISION, why)


def ways() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """What each is called, and how it is made."""
    yield "the FP32 graph renamed", lambda folder: files.write(folder / FILE, (folder / "yolov8n.onnx").read_bytes())
    for operators in (("Conv",), ("Conv", "Sigmoid", "Mul"), ("Sigmoid",), ("Softmax",), ("Concat",)):
        yield f"{' and '.join(operators)} in FP32 behind Casts", between(operators)
    yield "weights of half the layers in FP32", some_full(2)
    yield "weights of every fifth layer in FP32", some_full(5)
    yield "weights FP16, cast to FP32 where they are read", weights_cast
    yield "weights in bfloat16's precision", rounded(lambda w: (w.view(np.uint16) & 0xFF80).view(np.float16))
    yield (
        "weights beyond FP16, infinite",
        rounded(lambda w: np.where(np.arange(w.size).reshape(w.shape) == 3, np.inf, w)),
    )
    yield (
        "weights of another draw",
        rounded(lambda w: np.random.default_rng(2).permutation(w.reshape(-1)).reshape(w.shape)),
    )
    yield "one layer's weights zero", rounded(lambda w: w * 0, only=9)
    yield "scores before boxes", swapped


def edited(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """That change of the FP16 graph."""
    return lambda folder: files.edit_model(folder / FILE, change)


def between(operators: tuple[str, ...]) -> Callable[[Path], None]:
    """These operators compute in FP32: whatever they read is cast to it, whatever they write cast back."""

    def change(model: Any) -> None:
        known = {tensor.name: tensor for tensor in model.graph.initializer}
        made: list[Any] = []
        for node in model.graph.node:
            if node.op_type not in operators:
                made.append(node)
                continue
            for index, name in enumerate(node.input):
                if name and (name not in known or known[name].data_type == HALF):
                    wide = f"{node.name}_{index}_wide"
                    made.append(helper.make_node("Cast", [name], [wide], f"{node.name}_Cast_{index}", to=FULL))
                    node.input[index] = wide
            output = node.output[0]
            node.output[0] = f"{output}_wide"
            made.append(node)
            made.append(helper.make_node("Cast", [f"{output}_wide"], [output], f"{node.name}_Cast", to=HALF))
        del model.graph.node[:]
        model.graph.node.extend(made)
        del model.graph.value_info[:]

    return edited(change)


def some_full(every: int) -> Callable[[Path], None]:
    """Of the convolutions, every such one computes in FP32 with weights in FP32."""

    def change(model: Any) -> None:
        known = {tensor.name: tensor for tensor in model.graph.initializer}
        made: list[Any] = []
        number = 0
        for node in model.graph.node:
            number += node.op_type == "Conv"
            if node.op_type != "Conv" or number % every:
                made.append(node)
                continue
            for name in node.input[1:]:
                if known[name].data_type == HALF:
                    full = numpy_helper.to_array(known[name]).astype(np.float32)
                    known[name].CopyFrom(numpy_helper.from_array(full, name))
            wide, output = f"{node.name}_wide", node.output[0]
            made.append(helper.make_node("Cast", [node.input[0]], [wide], f"{node.name}_Cast_0", to=FULL))
            node.input[0], node.output[0] = wide, f"{output}_wide"
            made += [node, helper.make_node("Cast", [f"{output}_wide"], [output], f"{node.name}_Cast", to=HALF)]
        del model.graph.node[:]
        model.graph.node.extend(made)
        del model.graph.value_info[:]

    return edited(change)


def weights_cast(folder: Path) -> None:
    """FP16 weights in a graph that computes in FP32 throughout."""
    model = onnx.load_model(str(folder / "yolov8n.onnx"))
    made: list[Any] = []
    for tensor in model.graph.initializer:
        if tensor.data_type == FULL and len(tensor.dims) == 4:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half"))
            made.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_Cast", to=FULL))
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    files.save_model(model, folder / FILE)


def rounded(change: Callable[[files.Array], files.Array], only: int | None = None) -> Callable[[Path], None]:
    """Other values of the convolutions' weights."""

    def edit(model: Any) -> None:
        weights = [t for t in model.graph.initializer if t.data_type == HALF and len(t.dims) == 4]
        for index, tensor in enumerate(weights):
            if only in (None, index):
                files.set_constant(tensor, change(numpy_helper.to_array(tensor).copy()))

    return edited(edit)


def swapped(folder: Path) -> None:
    """Another order of rows than the FP32 model's."""

    def change(model: Any) -> None:
        name = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["boxes_first" if output == name else output for output in node.output]
        order = numpy_helper.from_array(np.array([*range(4, 84), *range(4)]), "row_order")
        model.graph.initializer.append(order)
        model.graph.node.append(helper.make_node("Gather", ["boxes_first", "row_order"], [name], "Rows", axis=1))

    edited(change)(folder)
