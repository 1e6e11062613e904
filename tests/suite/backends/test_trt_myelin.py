"""Myelin's layers in the inspector's JSON: as 10.x writes it (weights among the inputs) and as 11 and RTX do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.suite import tiny
from trtverify.fixtures.backends.tensorrt import inspector, log
from trtverify.fixtures.backends.tensorrt_rtx import TensorRTRTXBackend
from trtverify.fixtures.words.terms import BuildOptions, LayerTensor, Precision


def described(name: str, kind: str, *shape: int) -> dict[str, Any]:
    return {"Name": name, "Dimensions": list(shape), "Format/Datatype": kind}


def product(inputs: list[dict[str, Any]], tactic: str = "", **more: Any) -> dict[str, Any]:
    return {
        "Name": "/fc/Gemm_myl9_4",
        "LayerType": "gemm",
        "Inputs": inputs,
        "Outputs": [described("output", "Half", 1, 1000)],
        "TacticName": tactic,
        "StreamId": 0,
        "Metadata": "[ONNX Layer: /fc/Gemm]",
        **more,
    }


def read(*entries: dict[str, Any], tf32_allowed: bool = True) -> inspector.LayerInformation:
    return inspector.parse(json.dumps({"Layers": entries, "Bindings": ["image", "output"]}), tf32_allowed=tf32_allowed)


CONSTANTS = [described("__mye574_alpha", "Float", 1), described("__mye575_beta", "Float", 1)]


@pytest.mark.parametrize(
    ("activation", "weight", "expected"),
    [
        ("Half", "Half", Precision.FP16),
        ("Int8", "Int8", Precision.INT8),
        ("Float", "Int8", None),
        ("Float", "Half", None),
    ],
)
@pytest.mark.parametrize("weight_first", [True, False])
def test_a_weight_among_the_inputs_is_no_activation(
    activation: str, weight: str, expected: Precision | None, weight_first: bool
) -> None:
    operands = [described("image", activation, 1, 4096), described("dconst", weight, 4096, 1000)]
    entry = product((operands[::-1] if weight_first else operands) + CONSTANTS)
    (layer,) = read(entry).layers
    assert (layer.kind, layer.precision) == ("matmul", expected)
    assert layer.inputs == (
        LayerTensor("image", (1, 4096), {"Half": "fp16", "Int8": "int8", "Float": "fp32"}[activation]),
    )


def test_fp32_operands_are_fp32_where_tf32_is_forbidden() -> None:
    entry = product([described("image", "Float", 1, 4096), described("dconst", "Float", 4096, 1000)])
    assert read(entry).layers[0].precision is None
    assert read(entry, tf32_allowed=False).layers[0].precision is Precision.FP32


def test_the_kernel_s_name_goes_first() -> None:
    operands = [described("image", "Float", 1, 4096), described("dconst", "Float", 4096, 1000)]
    tactic = "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x64_stage3_warpsize2x1x2_tensor16x8x8"
    assert read(product(operands, tactic)).layers[0].precision is Precision.TF32


def test_a_product_of_two_activations() -> None:
    first = {"Name": "__myl_Mul_myl0_1", "LayerType": "kgen", "Inputs": [described("image", "Half", 8, 64)]}
    first["Outputs"] = [described("query", "Half", 8, 64)]
    entry = product([described("query", "Half", 8, 64), described("image", "Half", 64, 8)])
    assert [layer.precision for layer in read(first, entry).layers] == [Precision.FP16, Precision.FP16]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_real_build_reads_alike_as_log_and_as_json(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX's own lines, put as JSON in the two ways that versions have: the layers must be the same."""
    backend = TensorRTRTXBackend()
    if (reason := backend.availability()) is not None:
        pytest.skip(reason)
    messages: list[str] = []
    parse_layers = log.parse_layers

    def kept(message: str, *, tf32_allowed: bool) -> Any:
        messages.append(message)
        return parse_layers(message, tf32_allowed=tf32_allowed)

    monkeypatch.setattr(log, "parse_layers", kept)
    layers = backend.build(tiny.network(tmp_path / "tiny.onnx"), BuildOptions(precision), tmp_path / "tiny.engine")
    lines = [log._LINE.fullmatch(line) for line in messages[0].splitlines() if line.startswith("Name: ")]
    lines = [line for line in lines if line is not None and line["type"] not in ("signal", "wait")]
    assert len(lines) == len(layers) > 0
    for merged in (False, True):
        entries = []
        for line in lines:
            assert line is not None
            inputs, constants, outputs = (
                [
                    {
                        "Name": found["name"],
                        "Dimensions": [int(s) for s in found["shape"].split(",") if s],
                        "Datatype": found["type"],
                    }
                    for found in log._TENSOR.finditer(line[part])
                ]
                for part in ("inputs", "constants", "outputs")
            )
            tensors = {"Inputs": constants + inputs} if merged else {"Inputs": inputs, "Constants": constants}
            entries.append(
                {
                    "Name": line["name"],
                    "LayerType": line["type"],
                    **tensors,
                    "Outputs": outputs,
                    "TacticName": line["tactic"],
                    "Metadata": line["metadata"],
                }
            )
        bound = [{"Name": "input"}, {"Name": "output"}]
        found = inspector.parse(json.dumps({"Layers": entries, "I/O Tensors": bound}), tf32_allowed=False).layers
        assert [(layer.kind, layer.precision) for layer in found] == [(layer.kind, layer.precision) for layer in layers]
        products = [layer for layer in found if layer.kind in ("convolution", "matmul")]
        assert products
        assert {layer.precision for layer in products} == {precision}
