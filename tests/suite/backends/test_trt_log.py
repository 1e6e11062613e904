"""The layers that TensorRT-RTX prints while it builds: read from real lines, shortened."""

from __future__ import annotations

import pytest

from trtverify.fixtures.backends.tensorrt.log import FORBIDDEN, HEADER, parse_layers
from trtverify.fixtures.words.terms import LayerTensor, Precision

LINEAR = "(Linear) Row major linear format"
NHWC = "(NHWC) Channel major format"


def tensor(name: str, shape: str, kind: str, layout: str = NHWC) -> str:
    return (
        f"{{ Name: {name}, Dimensions: [{shape}], Strides: [1,1], StrideOrder: [1,0], "
        f"Datatype: {kind}, Format: {layout} }}"
    )


def line(
    name: str, layer_type: str, inputs: str, constants: str, outputs: str, tactic: str = "", metadata: str = ""
) -> str:
    return (
        f"Name: {name}, LayerType: {layer_type}, Inputs: [ {inputs}], Constants: [ {constants}], "
        f"Outputs: [ {outputs}], TacticName: {tactic}, StreamId: 0, Metadata: {metadata}"
    )


def message(*lines: str) -> str:
    return HEADER + "\n".join(lines) + "\n\nI/O Tensors:\n Name: input, IOMode: Input, DataType: Float\n"


CONVOLUTION = line(
    "/conv1/Conv_myl0_1",
    "correlation",
    tensor("a", "1,3,224,224", "Float"),
    ", ".join((tensor("w", "64,3,7,7", "Float"), tensor("s", "1", "Float"), tensor("b", "1,64,1,1", "Float"))),
    tensor("c", "1,64,112,112", "Float"),
    "__myelin_CASK_STUB",
    "[ONNX Layer: /conv1/Conv]\x1f[ONNX Layer: /relu/Relu]",
)


def test_a_convolution_with_what_it_fused() -> None:
    (layer,) = parse_layers(message(CONVOLUTION), tf32_allowed=False)
    assert layer.name == "/conv1/Conv + /relu/Relu"
    assert (layer.kind, layer.precision) == ("convolution", Precision.FP32)
    assert layer.inputs == (LayerTensor("a", (1, 3, 224, 224), "fp32"),)
    assert layer.outputs == (LayerTensor("c", (1, 64, 112, 112), "fp32"),)
    assert layer.detail == "correlation /conv1/Conv_myl0_1 __myelin_CASK_STUB"


def test_fp32_operands_are_tf32_where_the_builder_may() -> None:
    (layer,) = parse_layers(message(CONVOLUTION), tf32_allowed=True)
    assert layer.precision is Precision.TF32


@pytest.mark.parametrize(
    ("activation", "weight", "expected"),
    [
        ("Int8", "Int8", Precision.INT8),
        ("Half", "Half", Precision.FP16),
        ("Int8", "Float", Precision.FP32),
        ("Half", "Int8", Precision.FP16),
        ("FP8", "FP8", None),
    ],
)
def test_the_wider_of_activation_and_weight_is_computed_in(
    activation: str, weight: str, expected: Precision | None
) -> None:
    # The bias comes first here, as in FP16 matrix products, and is FP32 throughout.
    constants = f"{tensor('b', '1,256,1', 'Float')}, {tensor('w', '1,256,512', weight)}"
    text = line("x", "correlation", tensor("a", "1,512,28,28", activation), constants, tensor("y", "1,256", "Float"))
    (layer,) = parse_layers(message(text), tf32_allowed=False)
    assert layer.precision is expected


@pytest.mark.parametrize(
    ("name", "layer_type", "metadata", "kind"),
    [
        ("__myl_CorrSilu_myl0_2", "runtime_fusion", "[ONNX Layer: /c/Conv]", "convolution"),
        ("__myl_FcAddRelu_myl0_3", "runtime_fusion", "[ONNX Layer: /c/Conv]__gemm_from_conv1x1", "convolution"),
        ("__myl_FcAdd_myl0_4", "runtime_fusion", "[ONNX Layer: /fc/Gemm]", "matmul"),
        ("/fc/Gemm_myl0_5", "gemm", "[ONNX Layer: /fc/Gemm]", "matmul"),
        ("__mye6776_pooling_myl0_3", "maxpool", "[ONNX Layer: /maxpool/MaxPool]", "pooling"),
        ("__myl_Move_myl0_0", "kgen", "", "reformat"),
        ("__myl_Conc_myl0_76", "runtime_function", "[ONNX Layer: /Concat]", "reformat"),
        ("__myl_MulMinMaxRounCastConc_myl0_0", "kgen", "[ONNX Layer: /conv1/Conv]", "quantize"),
        ("__myl_MulAddReluMulMinMaxRounCast_myl0_2", "kgen", "[ONNX Layer: /conv1/Conv]", "elementwise"),
        ("/odd/Thing_myl0_9", "somethingnew", "", "other"),
        # Only Myelin's own names tell operators; a node may be called anything.
        ("__myl_CorrRelu", "maxpool", "", "pooling"),
    ],
)
def test_kinds(name: str, layer_type: str, metadata: str, kind: str) -> None:
    text = line(name, layer_type, tensor("a", "1,2", "Float"), "", tensor("b", "1,2", "Int8"), "t", metadata)
    (layer,) = parse_layers(message(text), tf32_allowed=False)
    assert layer.kind == kind


def test_waiting_for_a_stream_is_no_layer() -> None:
    signal = (
        "Name: __mye4737_myl0_3, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , "
        "StreamId: 0, EventId: 1, Metadata: "
    )
    assert len(parse_layers(message(signal, CONVOLUTION), tf32_allowed=False)) == 1


def test_nothing_behind_the_list_is_read() -> None:
    text = message(CONVOLUTION) + "\n" + CONVOLUTION
    assert len(parse_layers(text, tf32_allowed=False)) == 1
    assert parse_layers("", tf32_allowed=False) == ()


def test_a_line_of_another_form_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(ValueError, match="unknown form: Name: new"):
        parse_layers(message(CONVOLUTION, "Name: new, Type: thing"), tf32_allowed=False)


@pytest.mark.parametrize("name", ["/layer1/layer1.0/conv1/Conv", "onnx::Conv_497", "input.1", "model/conv:0", "節點"])
def test_common_names_are_allowed(name: str) -> None:
    assert FORBIDDEN.search(name) is None


@pytest.mark.parametrize("name", ["a, LayerType: gemm", "a\nName: b", "a]", "{a", "a\x1fb", "a\u2028b"])
def test_names_that_could_forge_are_not(name: str) -> None:
    assert FORBIDDEN.search(name) is not None
