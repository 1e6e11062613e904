"""Conversions of a graph: FP16, Q/DQ, one shape; what they keep, and what they refuse."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.suite import tiny
from trtverify.fixtures.backends.tensorrt.log import FORBIDDEN
from trtverify.fixtures.graphs import convert, rules
from trtverify.fixtures.graphs.calibrate import WIDEST
from trtverify.fixtures.graphs.onnx_file import constants_of
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision

ROOT = Path(__file__).resolve().parents[3]
# Measured on this network, the worst of eleven images: FP16 0.0005, INT8 0.013.
FP16_ERROR = 0.002
INT8_ERROR = 0.03


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.network(tmp_path / "tiny.onnx")


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def sorted_graph(path: Path) -> bool:
    loaded = onnx.load(str(path))
    known = {value.name for value in (*loaded.graph.input, *loaded.graph.initializer)}
    for node in loaded.graph.node:
        if not {name for name in node.input if name} <= known:
            return False
        known |= set(node.output)
    return True


def scales(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Scale of each quantized tensor, by the tensor's name."""
    loaded = onnx.load(str(path))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    return {n.input[0]: constants[n.input[1]] for n in loaded.graph.node if n.op_type == "QuantizeLinear"}


def test_fp16_is_half_as_large_close_and_keeps_its_interface(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "fp16.onnx"
    convert.to_fp16(model, out)
    loaded = onnx.load(str(out))
    types = {value.type.tensor_type.elem_type for value in (*loaded.graph.input, *loaded.graph.output)}
    assert types == {TensorProto.FLOAT}
    assert all(tensor.data_type == TensorProto.FLOAT16 for tensor in loaded.graph.initializer if len(tensor.dims) > 1)
    assert sorted_graph(out)
    assert rules.is_fp16(loaded)
    error = tiny.relative_error(tiny.run(out, tiny.image()), tiny.run(model, tiny.image()))
    assert 0 < error < FP16_ERROR


def test_fp16_of_fp16_is_the_same_graph(model: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    convert.to_fp16(model, once)
    convert.to_fp16(once, twice)
    assert operators(once) == operators(twice)


def test_fp16_keeps_a_constant_above_ten_thousand(tmp_path: Path) -> None:
    scale = numpy_helper.from_array(np.array(30000.0, np.float32), "")
    nodes = [
        helper.make_node("Constant", [], ["large"], value=scale),
        helper.make_node("Div", ["pooled", "large"], ["small"]),
        helper.make_node("Mul", ["small", "large"], ["extra"]),
    ]
    model = tiny.network(tmp_path / "large.onnx", extra=nodes)
    convert.to_fp16(model, tmp_path / "fp16.onnx")
    constants = constants_of(onnx.load(str(tmp_path / "fp16.onnx")))
    assert constants["large"].dtype == np.float16
    assert float(constants["large"]) == 30000.0


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_qdq_for_tensorrt_quantizes_weights_inputs_and_the_skip(tmp_path: Path, opset: int) -> None:
    model = tiny.network(tmp_path / "tiny.onnx", opset=opset)
    out = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), out)
    loaded = onnx.load(str(out))
    producers = {output: node for node in loaded.graph.node for output in node.output}
    weighted = [node for node in loaded.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(weighted) == tiny.CONVOLUTIONS + 1
    for node in weighted:
        assert [producers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2, node.name
    consumers = {name: node for node in loaded.graph.node for name in node.input}
    assert all(consumers[node.output[0]].op_type != "QuantizeLinear" for node in weighted if node.op_type == "Conv")
    add = next(node for node in loaded.graph.node if node.op_type == "Add")
    assert sorted(getattr(producers.get(name), "op_type", "") for name in add.input) == ["Conv", "DequantizeLinear"]
    zeros = [
        numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer if tensor.data_type == TensorProto.INT8
    ]
    assert zeros
    assert not any(zero.any() for zero in zeros)
    assert not [tensor.name for tensor in loaded.graph.initializer if tensor.data_type == TensorProto.INT32]
    assert {entry.domain for entry in loaded.opset_import} == {""}
    assert sorted_graph(out)
    assert tiny.relative_error(tiny.run(out, tiny.image(9)), tiny.run(model, tiny.image(9))) < INT8_ERROR


def test_weights_are_scaled_by_channel_and_activations_by_their_extremes(model: Path, tmp_path: Path) -> None:
    """The first and the last image must both count, wherever the largest value stands."""
    expected = 5.0 / 127
    for place in (0, 3, 7):
        images = [np.clip(tiny.image(seed), -4, 4) for seed in range(8)]
        images[place][0, 1, 2, 3] = -5.0
        data = tiny.calibration(
            tmp_path / f"calibration{place}", np.concatenate(images[:4]), np.concatenate(images[4:])
        )
        out = tmp_path / "int8.onnx"
        convert.to_int8_qdq(model, data, out)
        found = scales(out)
        assert found["input"] == pytest.approx(expected, rel=1e-3), f"image {place}"
        weight = numpy_helper.to_array(
            next(t for t in onnx.load(str(model)).graph.initializer if t.name == "first.weight")
        )
        amax = np.abs(weight).max(axis=(1, 2, 3))
        assert found["first.weight"] == pytest.approx(amax / 127, rel=0.01)


def test_one_image_in_many_does_not_decide_a_scale(model: Path, tmp_path: Path) -> None:
    """It would cost all others most of their 256 steps."""
    images = [np.clip(tiny.image(seed), -4, 4) for seed in range(8)]
    images[5][0, 1, 2, 3] = -90.0
    usual = float(np.median([np.abs(image).max() for image in images]))
    convert.to_int8_qdq(
        model, tiny.calibration(tmp_path / "calibration", np.concatenate(images)), tmp_path / "int8.onnx"
    )
    assert scales(tmp_path / "int8.onnx")["input"] == pytest.approx(WIDEST * usual / 127, rel=1e-3)


def test_qdq_names_the_size_of_every_kernel(model: Path, tmp_path: Path) -> None:
    """Which ONNX leaves to the weight's shape, and TensorRT 8.6 does not find behind Q/DQ."""
    loaded = onnx.load(str(model))
    for node in loaded.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(loaded, str(model))
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), tmp_path / "int8.onnx")
    nodes = [node for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node if node.op_type == "Conv"]
    assert nodes
    assert all("kernel_shape" in {attribute.name for attribute in node.attribute} for node in nodes)


def test_qdq_leaves_logging_and_root_handlers_alone(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = list(logging.getLogger().handlers)
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), tmp_path / "int8.onnx")
    assert not caplog.records
    assert logging.getLogger().handlers == handlers
    logging.getLogger("still").warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def nan(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    images[1, 0, 0, 0] = np.nan
    return images


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ((np.zeros((2, 3, 16, 16), np.float32),), "image 0 is 1×3×16×16; the graph takes 1×3×32×32"),
        ((np.zeros((0, 3, 32, 32), np.float32),), "no calibration images"),
        ((nan(np.zeros((2, 3, 32, 32), np.float32)),), "image 1 holds NaN"),
    ],
    ids=["shape", "none", "nan"],
)
def test_calibration_that_does_not_fit_is_refused(
    model: Path, tmp_path: Path, batches: tuple[npt.NDArray[np.float32], ...], says: str
) -> None:
    data = tiny.calibration(tmp_path / "calibration", *batches)
    with pytest.raises(ValueError, match=re.escape(says)):
        convert.to_int8_qdq(model, data, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_calibration_for_another_input_is_refused(model: Path, tmp_path: Path) -> None:
    data = tiny.calibration(tmp_path / "calibration")
    data = CalibrationData("images", data.batches, data.digest)
    with pytest.raises(ValueError, match="for input images; the graph's inputs are input"):
        convert.to_int8_qdq(model, data, tmp_path / "int8.onnx")


def options(precision: Precision, **more: Any) -> BuildOptions:
    return BuildOptions(precision, **more)


def refused(model: Path, wanted: BuildOptions, out: Path) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the message is what each caller tests
        convert.write_source(model, wanted, out, convert.TENSORRT_STYLE)
    return str(refusal.value)


def test_a_graph_becomes_only_what_it_can_be(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert "no Q/DQ and no calibration data" in refused(model, options(Precision.INT8), out)
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized)
    for precision in (Precision.FP32, Precision.TF32, Precision.FP16):
        assert "carries Q/DQ" in refused(quantized, options(precision), out)
    convert.write_source(quantized, options(Precision.INT8), out, convert.TENSORRT_STYLE)
    assert operators(out) == operators(quantized)
    half = tmp_path / "fp16.onnx"
    convert.to_fp16(model, half)
    assert "graph is FP16" in refused(half, options(Precision.FP32), out)


def test_shapes_are_fixed_or_refused(tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "dynamic.onnx", batch="batch")
    out = tmp_path / "out.onnx"
    assert "dynamic dimensions and no shape" in refused(model, options(Precision.FP32), out)
    wrong = options(Precision.FP32, shapes={"input": (2, 3, 64, 64)})
    assert "input is ?×3×32×32 in the graph, but the shape given is 2×3×64×64" in refused(model, wrong, out)
    assert "?×3×32×32" in refused(model, options(Precision.FP32, shapes={"input": (1, 3, 32)}), out)
    assert "0×3×32×32" in refused(model, options(Precision.FP32, shapes={"input": (0, 3, 32, 32)}), out)
    assert "given for x; the graph's inputs are input" in refused(
        model, options(Precision.FP32, shapes={"x": (1,)}), out
    )
    convert.write_source(model, options(Precision.FP32, shapes={"input": (2, 3, 32, 32)}), out, convert.TENSORRT_STYLE)
    dims = onnx.load(str(out)).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 3, 32, 32]
    assert not any(dim.dim_param for dim in dims)


def test_images_calibrate_one_by_one_whatever_the_batch(tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "dynamic.onnx", batch="batch")
    data = tiny.calibration(tmp_path / "calibration")
    for batch in (1, 4):
        shapes = {"input": (batch, 3, 32, 32)}
        out = tmp_path / f"{batch}.onnx"
        convert.write_source(
            model, options(Precision.INT8, shapes=shapes, calibration=data), out, convert.TENSORRT_STYLE
        )
        dims = onnx.load(str(out)).graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_value for dim in dims] == [batch, 3, 32, 32]
    one = tiny.run(tmp_path / "1.onnx", tiny.image())
    four = tiny.run(tmp_path / "4.onnx", np.repeat(tiny.image(), 4, axis=0))
    np.testing.assert_allclose(four, np.repeat(one, 4, axis=0), rtol=1e-5, atol=1e-6)


def test_weights_bytes_counts_each_weight_once_at_its_width(model: Path, tmp_path: Path) -> None:
    elements = tiny.CHANNELS * (3 + 3 * tiny.CHANNELS) * 9 + 10 * tiny.CHANNELS
    loaded = onnx.load(str(model))
    assert rules.weights_bytes(loaded, Precision.FP32) == 4 * elements
    assert rules.weights_bytes(loaded, Precision.TF32) == 4 * elements
    assert rules.weights_bytes(loaded, Precision.FP16) == 2 * elements
    assert rules.weights_bytes(loaded, Precision.INT8) == elements
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized)
    assert rules.weights_bytes(onnx.load(str(quantized)), Precision.INT8) == elements
    convert.to_fp16(model, tmp_path / "fp16.onnx")
    assert rules.weights_bytes(onnx.load(str(tmp_path / "fp16.onnx")), Precision.FP16) == 2 * elements


def test_weights_outside_qdq_count_two_bytes_in_an_int8_engine(model: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized)
    loaded = onnx.load(str(quantized))
    before = rules.weights_bytes(loaded, Precision.INT8)
    gemm = next(node for node in loaded.graph.node if node.op_type == "Gemm")
    gemm.input[1] = "fc.weight"
    assert rules.weights_bytes(loaded, Precision.INT8) == before + 10 * tiny.CHANNELS


def test_a_clip_between_a_weights_q_and_dq_hides_it_from_nobody(model: Path, tmp_path: Path) -> None:
    """torch writes one for narrow ranges, and TensorRT-RTX then leaves the weight out of the engine."""
    quantized = tmp_path / "int8.onnx"
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), quantized)
    loaded = onnx.load(str(quantized))
    before = rules.weights_bytes(loaded, Precision.INT8)
    clip_weights(loaded)
    assert sum(node.op_type == "Clip" for node in loaded.graph.node) == tiny.CONVOLUTIONS + 1
    assert rules.weights_bytes(loaded, Precision.INT8) == before


def clip_weights(model: Any) -> None:
    """Put a Clip to −127 … 127 between each weight's Q and DQ."""
    bounds = [numpy_helper.from_array(np.array(bound, np.int8), f"bound{bound}") for bound in (-127, 127)]
    model.graph.initializer.extend(bounds)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "DequantizeLinear" and ".weight" in node.input[0]:
            clipped = f"{node.input[0]}_clipped"
            names = [node.input[0], *(bound.name for bound in bounds)]
            model.graph.node.append(helper.make_node("Clip", names, [clipped], clipped))
            node.input[0] = clipped
        model.graph.node.append(node)


FORGED = "/x\nName: y, LayerType: correlation, Inputs: [ { Datatype: Int8 }]"


def test_names_that_could_forge_a_log_line_are_replaced(model: Path, tmp_path: Path) -> None:
    loaded = onnx.load(str(model))
    loaded.graph.node[0].name = FORGED
    renamed = loaded.graph.node[0].output[0]
    for node in loaded.graph.node:
        node.input[:] = [FORGED if name == renamed else name for name in node.input]
        node.output[:] = [FORGED if name == renamed else name for name in node.output]
    # A name of ours that is taken already must not join two tensors.
    loaded.graph.node[1].output[0] = loaded.graph.node[2].input[0] = "renamed_0"
    loaded.graph.node[5].input[1] = "renamed_0"
    rules.replace_names(loaded, FORBIDDEN)
    path = tmp_path / "forged.onnx"
    onnx.save(loaded, str(path))
    names = {name for node in onnx.load(str(path)).graph.node for name in (node.name, *node.input, *node.output)}
    assert not [name for name in names if FORBIDDEN.search(name)]
    assert np.array_equal(tiny.run(path, tiny.image()), tiny.run(model, tiny.image()))


def test_names_are_replaced_inside_an_if_too(tmp_path: Path) -> None:
    def branch(name: str) -> Any:
        node = helper.make_node("Mul", ["pooled", "two"], [f"{FORGED}{name}"], f"{FORGED} in {name}")
        value = helper.make_tensor_value_info(f"{FORGED}{name}", TensorProto.FLOAT, None)
        two = numpy_helper.from_array(np.array(2, np.float32), "two")
        return helper.make_graph([node], name, [], [value], [two])

    truth = numpy_helper.from_array(np.array(True), "")
    condition = helper.make_node("Constant", [], ["condition"], value=truth)
    choice = helper.make_node("If", ["condition"], ["extra"], "/If", then_branch=branch("a"), else_branch=branch("b"))
    path = tiny.network(tmp_path / "if.onnx", extra=[condition, choice])
    before = tiny.run(path, tiny.image())
    loaded = onnx.load(str(path))
    rules.replace_names(loaded, FORBIDDEN)
    assert FORGED.encode() not in loaded.SerializeToString()
    onnx.save(loaded, str(path))
    assert np.array_equal(tiny.run(path, tiny.image()), before)


def test_an_operator_whose_name_could_forge_is_refused(model: Path) -> None:
    loaded = onnx.load(str(model))
    loaded.graph.node[1].op_type = FORGED
    with pytest.raises(ValueError, match="no operator may"):
        rules.replace_names(loaded, FORBIDDEN)


def test_an_input_whose_name_could_forge_is_refused(model: Path, tmp_path: Path) -> None:
    loaded = onnx.load(str(model))
    loaded.graph.input[0].name = loaded.graph.node[0].input[0] = "a, LayerType: correlation"
    with pytest.raises(ValueError, match="holds a character"):
        rules.replace_names(loaded, FORBIDDEN)


PEAK = """
import resource, sys
from pathlib import Path
from trtverify.fixtures.graphs import convert, rules
from trtverify.fixtures.graphs.calibrate import WIDEST
from trtverify.fixtures.words.terms import CalibrationData
folder, count = Path(sys.argv[1]), int(sys.argv[2])
data = CalibrationData("input", tuple([folder / "calibration" / "batch_000.npy"] * count), "")
convert.to_int8_qdq(folder / "wide.onnx", data, folder / "int8.onnx")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_calibration_memory_is_flat_in_the_number_of_images(tmp_path: Path) -> None:
    """An image takes 0.2 MB here and what is computed from it 15 MB: keeping 100 more would show."""
    tiny.network(tmp_path / "wide.onnx", size=128)
    tiny.calibration(tmp_path / "calibration", np.zeros((10, 3, 128, 128), np.float32))

    def peak(batches: int) -> int:
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(batches)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) * 1024

    few, many = peak(2), peak(12)
    assert many - few < 10e6, f"{few / 1e6:.0f} MB with 20 images, {many / 1e6:.0f} MB with 120"
