"""FP16 by the type of each tensor: what exporters write becomes a graph that is well typed, runs, and answers alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.suite import tiny
from trtverify.fixtures.graphs import types
from trtverify.fixtures.graphs.convert import OwnFaultError, to_fp16, write_source
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.graphs.rules import is_fp16
from trtverify.fixtures.words.terms import BuildOptions, Precision

# Measured, the worst of those below: 0.0006.
ERROR = 0.002


def scalar(name: str, value: Any, kind: type = np.float32) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, kind), name))


def shape_arithmetic(path: Path) -> None:
    """A size computed in FP32, as torch writes it: 4097 would be 4096 in FP16."""
    nodes = [
        helper.make_node("Shape", ["pooled"], ["shape"]),
        scalar("place", 1, np.int64),
        helper.make_node("Gather", ["shape", "place"], ["channels"]),
        helper.make_node("Cast", ["channels"], ["float"], to=TensorProto.FLOAT),
        scalar("many", 4097 / tiny.CHANNELS),
        helper.make_node("Mul", ["float", "many"], ["product"]),
        helper.make_node("Cast", ["product"], ["whole"], to=TensorProto.INT64),
        scalar("less", 4097 - tiny.CHANNELS, np.int64),
        helper.make_node("Sub", ["whole", "less"], ["width"]),
        scalar("axis", [0], np.int64),
        helper.make_node("Unsqueeze", ["width", "axis"], ["width1"]),
        scalar("ones", [1, 1], np.int64),
        scalar("one", [1], np.int64),
        helper.make_node("Concat", ["one", "width1", "ones"], ["target"], axis=0),
        helper.make_node("Reshape", ["pooled", "target"], ["extra"]),
    ]
    tiny.network(path, extra=nodes)


def counted(path: Path) -> None:
    """A grid of places, as YOLO's anchors: Range, ConstantOfShape, and a Cast to FP32 of what was counted."""
    nodes = [
        scalar("start", 0.0),
        scalar("step", 1.0),
        helper.make_node("Shape", ["pooled"], ["shape"]),
        scalar("place", 1, np.int64),
        helper.make_node("Gather", ["shape", "place"], ["channels"]),
        helper.make_node("Cast", ["channels"], ["end"], to=TensorProto.FLOAT),
        helper.make_node("Range", ["start", "end", "step"], ["grid"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        scalar("target", [1, -1, 1, 1], np.int64),
        helper.make_node("Reshape", ["grid", "target"], ["grid4"]),
        helper.make_node("Add", ["pooled", "grid4"], ["both"]),
        helper.make_node("Add", ["both", "zeros"], ["extra"]),
    ]
    tiny.network(path, extra=nodes)


def resized(path: Path) -> None:
    """Resize takes its scales in FP32 and its image in either."""
    nodes = [
        scalar("scales", [1, 1, 2, 2]),
        helper.make_node("Resize", ["pooled", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("GlobalAveragePool", ["large"], ["extra"]),
    ]
    tiny.network(path, extra=nodes)


def masked(path: Path) -> None:
    """What is no shape is cast to FP32 and multiplied with an activation."""
    nodes = [
        scalar("zero", 0.0),
        helper.make_node("Greater", ["pooled", "zero"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pooled", "mask"], ["extra"]),
    ]
    tiny.network(path, extra=nodes)


def branching(path: Path) -> None:
    """A branch reads a tensor and a weight from outside, and gives one back."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["pooled", "factor"], ["then"])],
        "then",
        [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["pooled"], ["other"])],
        "other",
        [],
        [helper.make_tensor_value_info("other", TensorProto.FLOAT, None)],
    )
    nodes = [
        scalar("factor", 3.0),
        scalar("zero", 0.0),
        helper.make_node("ReduceMax", ["pooled"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["condition"]),
        helper.make_node("If", ["condition"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Mul", ["chosen", "factor"], ["extra"]),
    ]
    tiny.network(path, extra=nodes)


def changed(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """The tiny network, once its model has been changed."""

    def make(path: Path) -> None:
        model = onnx.load(str(tiny.network(path)))
        onnx.save(change(model) or model, str(path))

    return make


def stale(model: Any) -> None:
    """Notes on tensors that are no longer so, as a simplifier leaves them."""
    for name, shape in (("stem", [1, 99, 32, 32]), ("block", [1, 32, 9, 9]), ("gone", [1])):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def read_inside(model: Any) -> None:
    """An output that is read in the graph too."""
    shape = [1, tiny.CHANNELS, 1, 1]
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, shape))


def weight_shown(model: Any) -> None:
    """A weight that is an output as well, and one listed as an input, as IR 3 had it."""
    model.graph.output.append(helper.make_tensor_value_info("fc.weight", TensorProto.FLOAT, [10, tiny.CHANNELS]))
    model.graph.input.append(helper.make_tensor_value_info("stem.bias", TensorProto.FLOAT, [tiny.CHANNELS]))


def unsorted(model: Any) -> None:
    """Nodes in reverse."""
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def unnamed(model: Any) -> None:
    """No node has a name."""
    for node in model.graph.node:
        node.name = ""


def constants(model: Any) -> None:
    """Weights as Constant nodes, as dynamo writes small ones."""
    for tensor in list(model.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]


def in_functions(model: Any) -> Any:
    """Conv and Relu in a function of the file's own, called by another."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    convolution = helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4, strides=[1] * 2)
    inner = helper.make_function(
        "own", "ConvRelu", ["x", "w", "b"], ["y"], [convolution, helper.make_node("Relu", ["c"], ["y"])], opset
    )
    call = helper.make_node("ConvRelu", ["x", "w", "b"], ["y"], domain="own")
    outer = helper.make_function("own", "Stem", ["x", "w", "b"], ["y"], [call], opset)
    stem, relu = model.graph.node[0], model.graph.node[1]
    called = helper.make_node("Stem", list(stem.input), list(relu.output), "stem", domain="own")
    del model.graph.node[:2]
    model.graph.node.insert(0, called)
    model.functions.extend([inner, outer])
    model.opset_import.append(helper.make_opsetid("own", 1))


VARIANTS: dict[str, Callable[[Path], None]] = {
    "shape arithmetic": shape_arithmetic,
    "counted": counted,
    "resized": resized,
    "masked": masked,
    "branching": branching,
    "stale notes": changed(stale),
    "an output read inside": changed(read_inside),
    "a weight shown": changed(weight_shown),
    "unsorted": changed(unsorted),
    "unnamed": changed(unnamed),
    "constants": changed(constants),
    "functions": changed(in_functions),
}


def run(path: Path) -> dict[str, npt.NDArray[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": tiny.image()}), strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_exporters_write_becomes_a_graph_in_fp16(variant: str, tmp_path: Path) -> None:
    source, out = tmp_path / "source.onnx", tmp_path / "fp16.onnx"
    VARIANTS[variant](source)
    expected = run(source)  # a right variant: ONNX Runtime takes it as it is
    to_fp16(source, out)
    onnx.checker.check_model(str(out), full_check=True)
    found = run(out)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert tiny.relative_error(found[name], array) < ERROR, name
    assert set(types.computed_in(onnx.load(str(out))).values()) == {"float16"}
    assert is_fp16(onnx.load(str(out)))


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 20, 21, 22, 23])
def test_every_opset_of_the_course(opset: int, tmp_path: Path) -> None:
    tiny.network(tmp_path / "tiny.onnx", opset=opset)
    to_fp16(tmp_path / "tiny.onnx", tmp_path / "fp16.onnx")
    onnx.checker.check_model(str(tmp_path / "fp16.onnx"), full_check=True)
    expected, found = (run(tmp_path / name)["output"] for name in ("tiny.onnx", "fp16.onnx"))
    assert tiny.relative_error(found, expected) < ERROR


def test_numbers_that_fp16_has_not(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    values = np.array([1e30, -1e30, 1e-30, -1e-30, 0.0, -0.0, np.inf, np.nan, 1.0, 65504.0], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, "values"))
    model.graph.node.append(helper.make_node("Add", ["output", "values"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 10]))
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    to_fp16(tmp_path / "tiny.onnx", tmp_path / "fp16.onnx")
    tensors = {tensor.name: tensor for tensor in onnx.load(str(tmp_path / "fp16.onnx")).graph.initializer}
    found = numpy_helper.to_array(tensors["values"])
    expected = np.array([65504, -65504, 1e-7, -1e-7, 0, 0, np.inf, np.nan, 1, 65504], np.float16)
    np.testing.assert_array_equal(found, expected)


def test_what_is_computed_counts_and_not_what_is_stored(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    computed = types.count(types.computed_in(model))
    assert computed == {"float32": tiny.CONVOLUTIONS + 1}
    stored = store_in_fp16(onnx.load(str(tmp_path / "tiny.onnx")))
    assert types.count(types.computed_in(stored)) == computed
    assert is_fp16(stored)


def store_in_fp16(model: Any) -> Any:
    """Every weight in FP16, cast to FP32 right before it is used."""
    for tensor in list(model.graph.initializer):
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, f"{tensor.name}_stored"))
        cast = helper.make_node("Cast", [tensor.name], [tensor.name.removesuffix("_stored")], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    return model


def test_weights_stored_in_fp32_and_cast_before_they_are_used_compute_in_fp16(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in list(model.graph.initializer):
        name, tensor.name = tensor.name, f"{tensor.name}_stored"
        model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT16))
    assert set(types.computed_in(model).values()) == {"float16"}
    assert is_fp16(model)


def test_a_fault_of_our_own_is_called_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.network(tmp_path / "tiny.onnx")
    options = BuildOptions(Precision.FP16)
    monkeypatch.setattr("trtverify.fixtures.graphs.half._rounded", lambda array: array[:, :, :, :, 0])
    with pytest.raises(OwnFaultError, match="the suite's conversion to FP16 failed on a sound graph"):
        write_source(model, options, tmp_path / "fp16.onnx", None)  # type: ignore[arg-type]
    assert load(model).graph.node  # the graph is sound
