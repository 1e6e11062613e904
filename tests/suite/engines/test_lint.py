"""What the lint says of an INT8 engine's layers: each fault where it is made, and nothing where it is not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.suite import tiny
from trtverify.fixtures.backends.tensorrt_rtx import TensorRTRTXBackend
from trtverify.fixtures.engines.lint import FLOAT_OUTPUT, FLOAT_RESIDUAL, REFORMAT, STRAY_QDQ, Advice, lint, remedy
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.report import table
from trtverify.fixtures.report.record import EngineRow, LatencyRow
from trtverify.fixtures.words.terms import BuildOptions, Layer, LayerTensor, Precision

Tensors = list[tuple[str, str]]


def layer(name: str, kind: str, inputs: Tensors, outputs: Tensors, precision: Precision | None = None) -> Layer:
    """A layer whose tensors are given as (name, type)."""
    if kind == "convolution" and precision is None:
        precision = Precision.INT8
    read, written = (tuple(LayerTensor(name, (1, 8), kind) for name, kind in tensors) for tensors in (inputs, outputs))
    return Layer(name, kind, precision, read, written)


def conv(name: str, inputs: Tensors, outputs: Tensors) -> Layer:
    return layer(name, "convolution", inputs, outputs)


FIRST = layer("q", "quantize", [("image", "fp32")], [("a", "int8")])
STEM = conv("stem", [("a", "int8")], [("b", "int8")])
LAST = layer("fc", "matmul", [("z", "int8")], [("scores", "fp32")], Precision.INT8)
FUSED = [FIRST, STEM, conv("block", [("b", "int8"), ("a", "int8")], [("z", "int8")]), LAST]
APART = [
    FIRST,
    conv("stem", [("a", "int8")], [("b", "fp32")]),
    layer("after stem", "elementwise", [("b", "fp32")], [("c", "int8")]),
    conv("block", [("c", "int8")], [("d", "fp32")]),
    layer("add", "elementwise", [("c", "int8"), ("d", "fp32")], [("z", "int8")]),
    LAST,
]
"""As a builder does that runs what follows a convolution in a kernel of its own."""


@pytest.mark.parametrize("layers", [FUSED, APART], ids=["fused", "apart"])
def test_of_int8_end_to_end_nothing_is_said(layers: list[Layer]) -> None:
    assert lint(layers) == ()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            [FIRST, conv("stem", [("a", "int8")], [("b", "fp16")]), layer("pool", "pooling", [("b", "fp16")], [])],
            [Advice(FLOAT_OUTPUT, ("stem",))],
        ),
        (
            [
                FIRST,
                conv("stem", [("a", "int8")], [("b", "fp16")]),
                layer("q2", "elementwise", [("b", "fp16")], [("c", "int8")]),
                conv("block", [("c", "int8"), ("b", "fp16")], [("z", "int8")]),
                LAST,
            ],
            [Advice(FLOAT_RESIDUAL, ("block",))],
        ),
        (
            [
                *APART[:3],
                layer("skip", "elementwise", [("c", "int8")], [("s", "fp32")]),
                conv("block", [("c", "int8")], [("d", "fp32")]),
                layer("add", "elementwise", [("s", "fp32"), ("d", "fp32")], [("z", "int8")]),
                LAST,
            ],
            [Advice(FLOAT_RESIDUAL, ("add",))],
        ),
        (
            [FIRST, STEM, layer("copy", "reformat", [("b", "int8")], [("z", "int8")]), LAST],
            [Advice(REFORMAT, ("copy",))],
        ),
        (
            [
                FIRST,
                STEM,
                layer("dq", "quantize", [("b", "int8")], [("x", "fp32")]),
                layer("q2", "quantize", [("x", "fp32")], [("z", "int8")]),
                LAST,
            ],
            [Advice(STRAY_QDQ, ("dq", "q2"))],
        ),
    ],
    ids=["float output", "float residual, fused", "float residual, apart", "reformat", "stray Q/DQ"],
)
def test_a_fault_is_named_with_its_layers(layers: list[Layer], expected: list[Advice]) -> None:
    assert list(lint(layers)) == expected
    assert remedy(expected[0].kind) != expected[0].kind


def test_an_engine_without_int8_is_none_of_its_business() -> None:
    wide = layer("stem", "convolution", [("a", "fp32")], [("b", "fp32")], Precision.FP16)
    assert lint([wide, layer("pool", "pooling", [("b", "fp32")], [])]) == ()


def test_what_only_converts_costs_what_it_takes() -> None:
    profile = [("stem", 2e-3, 0.8), ("copy", 5e-4, 0.2)]
    assert Advice(REFORMAT, ("copy",)).cost(profile) == 5e-4
    assert Advice(REFORMAT, ("copy", "another")).cost(profile) is None, "not all of them were timed"
    assert Advice(FLOAT_OUTPUT, ("stem",)).cost(profile) is None, "the layer computes as well"
    engine = EngineRow(
        *("lab5", "resnet18", "tensorrt", "int8", "TensorRT 10", "a GPU", "trained", 1, 1.0, "0"),
        layers={"int8": 1},
        advice=(Advice(REFORMAT, ("copy",)),),
    )
    latency = LatencyRow("lab5", "resnet18", "tensorrt", "int8", 1, (2.5e-3,), profile=tuple(profile))
    (line,) = table.advice([engine], [latency]).splitlines()
    assert line.startswith("resnet18 INT8 tensorrt: 1 × ")
    assert line.endswith("(it takes 0.500 ms)")


def test_a_residual_left_in_float_is_found_in_a_real_engine(tmp_path: Path) -> None:
    backend = TensorRTRTXBackend()
    if (reason := backend.availability()) is not None:
        pytest.skip(reason)
    good, naive = tmp_path / "good.onnx", tmp_path / "naive.onnx"
    model = tiny.network(tmp_path / "tiny.onnx")
    convert.to_int8_qdq(model, tiny.calibration(tmp_path / "calibration"), good)
    loaded = onnx.load(str(good))
    writers = {name: node for node in loaded.graph.node for name in node.output}
    add = next(node for node in loaded.graph.node if node.op_type == "Add")
    for index, name in enumerate(add.input):
        if writers[name].op_type == "DequantizeLinear":
            add.input[index] = writers[writers[name].input[0]].input[0]
    onnx.save(loaded, str(naive))
    found = {
        path: {advice.kind for advice in lint(backend.build(path, BuildOptions(Precision.INT8), path.with_suffix("")))}
        for path in (good, naive)
    }
    assert FLOAT_RESIDUAL not in found[good]
    assert FLOAT_RESIDUAL in found[naive]
