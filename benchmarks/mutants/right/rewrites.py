"""The same network written otherwise, by ONNX alone: each is proved to compute the same before it is handed in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.mutants import bases, files, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.right import operators

Edit = Callable[[Any], Any]
OPSETS = range(13, 24)


def cases(base: str, folder: Path, file: str) -> Iterator[Case]:
    """Every rewriting, and some three at once."""
    stem = file.removesuffix(".onnx")
    known = list(rewrites(base, bases.graph(folder / file)))
    for kind, what, change in known:
        yield case(base, file, kind, f"{stem} {what}", [change])
    for way, save in savings():
        yield case(base, file, "written otherwise", f"{stem} {way}", [], save)
    rng = np.random.default_rng(len(file))
    plain = [(what, change) for kind, what, change in known if kind != "opset"]
    for _number in range(12):
        chosen = [plain[int(i)] for i in rng.choice(len(plain), 3, replace=False)]
        what = ", ".join(name for name, _change in chosen)
        yield case(base, file, "three rewritings at once", f"{stem} {what}", [change for _name, change in chosen])


def case(
    base: str, file: str, kind: str, name: str, changes: list[Edit], save: Callable[[Any, Path], None] | None = None
) -> Case:
    """Those changes of a file, one after the other; what is derived from its names is made anew."""

    def make(folder: Path) -> None:
        model = onnx.load_model(str(folder / file))
        for change in changes:
            model = change(model) or model
        (save or files.save_model)(model, folder / file)
        derive(folder, file)

    return Case(base, kind, name, make, None, "it is the same network written otherwise", file, same=True)


def derive(folder: Path, file: str) -> None:
    """What a student makes of the graph afterwards: lab 3's placement and layers."""
    if (folder / "dla_placement.json").is_file() and file == "mobilenet_v2.onnx":
        try:
            bases.place(folder)
        except subprocess.CalledProcessError as error:
            raise NotImplementedError(f"lab 3's own analysis: {error.stderr[-200:]}") from None
        (folder / "layer_info.json").unlink(missing_ok=True)


def rewrites(base: str, model: Any) -> Iterator[tuple[str, str, Edit]]:
    """(kind, what is done, the change)."""
    for version in OPSETS:
        yield "opset", f"in opset {version}", to_opset(version)
    for version in (7, 8, 9, 10):
        yield "container", f"of IR version {version}", of_version(version)
    for what, change in containers():
        yield "container", what, change
    if not base.startswith("lab3"):  # lab 3's table tells a batch that is not fixed apart
        yield "interface", "with a dynamic batch", dynamic
    for what, change in operators.rewrites(model):
        yield "operators", what, change


def of_version(version: int) -> Edit:
    """Another IR version."""
    return lambda model: setattr(model, "ir_version", version)


def to_opset(version: int) -> Edit:
    """The same graph in another opset, by ONNX's own converter."""

    def change(model: Any) -> Any:
        try:
            return onnx.version_converter.convert_version(model, version)
        except (RuntimeError, ValueError) as error:
            raise NotImplementedError(f"ONNX's converter: {str(error)[:120]}") from None

    return change


def dynamic(model: Any) -> None:
    """A named batch."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    for tensor in files.constants(model).values():
        # A batch of one is written into shapes that Reshape takes; 0 keeps what is there.
        if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1 and tensor.dims[0] > 1:
            array = numpy_helper.to_array(tensor).copy()
            if array[0] == 1 and any(n.op_type == "Reshape" for n, _i in files.readers(model, tensor.name)):
                array[0] = 0
                files.set_constant(tensor, array)


def renamed(model: Any) -> None:
    """Every tensor between input and output, and every node, under a number."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if not name or name in kept else names.setdefault(name, f"t{len(names)}")

    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = new(tensor.name)
    del model.graph.value_info[:]


def unnamed(model: Any) -> None:
    """Nodes without names, as some converters leave them."""
    for node in model.graph.node:
        node.name = ""


def as_nodes(model: Any) -> None:
    """Every initializer as a Constant node."""
    made = [helper.make_node("Constant", [], [t.name], f"{t.name}_node", value=t) for t in model.graph.initializer]
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)


def as_initializers(model: Any) -> None:
    """Every Constant node as an initializer."""
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def listed(model: Any) -> None:
    """Initializers among the inputs too, as exporters before IR version 4 had them."""
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def through(operator: str, **attributes: Any) -> Edit:
    """Every weight read through an operator that leaves it as it is."""

    def change(model: Any) -> None:
        made = []
        for tensor in model.graph.initializer:
            if len(tensor.dims) >= 2 and tensor.data_type == onnx.TensorProto.FLOAT:
                output = f"{tensor.name}_read"
                for node, index in files.readers(model, tensor.name):
                    node.input[index] = output
                made.append(helper.make_node(operator, [tensor.name], [output], f"{output}_node", **attributes))
        nodes = [*made, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return change


def at_input(model: Any) -> None:
    """An Identity behind the input and before the output."""
    name = model.graph.input[0].name
    readers = files.readers(model, name)
    for node, index in readers:
        node.input[index] = "input_as_it_is"
    model.graph.node.insert(0, helper.make_node("Identity", [name], ["input_as_it_is"], "Input_Identity"))
    output = model.graph.output[0].name
    surgery.insert(model, next(n for n in model.graph.node if output in n.output), ("Identity", [], {}))


def another_order(model: Any) -> None:
    """The nodes in another order that is as good: depth first from the output."""
    writers = {name: node for node in model.graph.node for name in node.output}
    order: list[Any] = []
    seen: set[str] = set()
    stack = [(writers[model.graph.output[0].name], False)]
    while stack:
        node, done = stack.pop()
        key = node.output[0]
        if done:
            order.append(node)
            continue
        if key in seen:
            continue
        seen.add(key)
        stack.append((node, True))
        stack += [(writers[name], False) for name in node.input if name in writers]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def with_function(model: Any) -> None:
    """Every ReLU, Clip or Sigmoid as a call of a function of the model's own, as newer exporters write it."""
    names = {"Relu": ["x"], "Sigmoid": ["x"], "Clip": ["x", "low", "high"]}
    used = {n.op_type for n in model.graph.node if n.op_type in names and len(n.input) == len(names[n.op_type])}
    opset = [helper.make_opsetid("", max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))]
    for operator in sorted(used):
        inner = [helper.make_node(operator, names[operator], ["y"], "inner")]
        model.functions.append(
            helper.make_function("course.functions", f"My{operator}", names[operator], ["y"], inner, opset)
        )
    for node in model.graph.node:
        if node.op_type in used and len(node.input) == len(names[node.op_type]):
            node.op_type, node.domain = f"My{node.op_type}", "course.functions"
    model.opset_import.append(helper.make_opsetid("course.functions", 1))
    model.ir_version = max(8, model.ir_version)
    if not used:
        raise NotImplementedError("no such operator")


def as_lists(model: Any) -> None:
    """Weights as lists of floats, not as bytes."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) < 100_000:
            array = numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.float_data.extend(float(value) for value in array.reshape(-1))


def left_overs(model: Any) -> None:
    """A weight that nothing reads, and a node that nobody needs."""
    surgery.constant(model, "left_over", np.ones((3, 3), np.float32))
    model.graph.node.append(helper.make_node("Identity", ["left_over"], ["nowhere"], "Left_over"))


def plain_attributes(model: Any) -> None:
    """Attributes that say what is so without them left out."""
    usual = {"group": 1, "dilations": [1, 1], "alpha": 1.0, "beta": 1.0, "ceil_mode": 0, "storage_order": 0}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MaxPool"):
            kept = [a for a in node.attribute if usual.get(a.name) != helper.get_attribute_value(a)]
            kept = [a for a in kept if not (a.name == "kernel_shape" and node.op_type == "Conv")]
            del node.attribute[:]
            node.attribute.extend(kept)


def described(model: Any) -> None:
    """Words wherever ONNX has place for them."""
    model.doc_string = "made for the course"
    model.producer_name, model.producer_version = "my exporter", "0.1"
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "a student"
    for node in model.graph.node:
        node.doc_string = "train.py(41): forward"


def inferred(model: Any) -> Any:
    """Every shape written out."""
    return onnx.shape_inference.infer_shapes(model)


def no_shapes(model: Any) -> None:
    """No shape written out but the ports'."""
    del model.graph.value_info[:]


def more_opsets(model: Any) -> None:
    """Opsets of domains that are not used, as ONNX Runtime's tools write them."""
    for domain in ("com.microsoft", "ai.onnx.ml", "com.ms.internal.nhwc"):
        model.opset_import.append(helper.make_opsetid(domain, 1))


def containers() -> Iterator[tuple[str, Edit]]:
    """What stands around the same operators."""
    yield "under other names", renamed
    yield "without node names", unnamed
    yield "with constants as nodes", as_nodes
    yield "with constants as initializers", as_initializers
    yield "with initializers among the inputs", listed
    yield "with weights behind Identity", through("Identity")
    yield "with weights behind Cast", through("Cast", to=onnx.TensorProto.FLOAT)
    yield "with Identity at both ends", at_input
    yield "with nodes in another order", another_order
    yield "with functions of its own", with_function
    yield "with weights as lists", as_lists
    yield "with left-overs", left_overs
    yield "without usual attributes", plain_attributes
    yield "with words everywhere", described
    yield "with every shape", inferred
    yield "without shapes", no_shapes
    yield "with more opsets", more_opsets


def savings() -> Iterator[tuple[str, Callable[[Any, Path], None]]]:
    """Ways of writing the file."""

    def outside(**options: Any) -> Callable[[Any, Path], None]:
        return lambda model, path: files.save_model(
            model, path, save_as_external_data=True, location=f"{path.name}.data", **options
        )

    def each_outside(model: Any, path: Path) -> None:
        files.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=100_000)

    def optimised(model: Any, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 4
        made = path.with_suffix(".optimised")
        options.optimized_model_filepath = str(made)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        files.save_model(onnx.load_model(str(made)), path)
        made.unlink()

    yield "weights in a file beside it", outside()
    yield "all constants in a file beside it", outside(size_threshold=0, convert_attribute=True)
    yield "each large weight in a file of its own", each_outside
    yield "folded by ONNX Runtime", optimised
