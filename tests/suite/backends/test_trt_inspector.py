"""Layer information of TensorRT 8.6 to 11, written by hand after what each of them prints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.backends.tensorrt.inspector import NAMES_ONLY, parse, tactic_precision, tensor_format
from trtverify.fixtures.engines.layers import by_node, prove
from trtverify.fixtures.words.terms import Layer, Precision

F32, F16, I8 = "Row major linear FP32", "Channel major FP16 format where channel % 8 == 0", "Channel major Int8 format"
I8_32 = "Thirty-two wide channel vectorized row major Int8 format"


def tensor(name: str, described: str, shape: tuple[int, ...] = (1, 64, 56, 56)) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": list(shape), "Format/Datatype": described}


def layer(layer_type: str, source: str, target: str, **more: Any) -> dict[str, Any]:
    return {
        "Name": more.pop("Name", "Conv_3 + Relu_4"),
        "LayerType": layer_type,
        "Inputs": [tensor("a", source)],
        "Outputs": [tensor("b", target)],
        **more,
    }


def convolution(source: str, target: str, weights: str, tactic: str = "", **more: Any) -> dict[str, Any]:
    more = {"ParameterType": "Convolution", "Weights": {"Type": weights, "Count": 36864}, **more}
    return layer("CaskConvolution", source, target, TacticName=tactic, **more)


def one(entry: dict[str, Any] | str, *, tf32_allowed: bool = True) -> Layer:
    information = parse(json.dumps({"Layers": [entry], "Bindings": ["a", "b"]}), tf32_allowed=tf32_allowed)
    assert information.bindings == ("a", "b")
    return information.layers[0]


XMMA = "sm80_xmma_fprop_implicit_gemm_{}_nhwckrsc_nhwc_tilesize128x128x32_stage4_warpsize2x2x1_g1_tensor16x8x8"
INTERLEAVED = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_tilesize256x128x64"


CLASSIFIER = (
    "sm50_xmma_cublas_smallN_NN_f32f32_f32_f32_nn_n_thread_count256threads_per_row16b_elems_per_thread2"
    "cols_per_thread4bias_or_reluTrue"
)


@pytest.mark.parametrize(
    ("tactic", "expected"),
    [
        (XMMA.format("f32f32_tf32f32_f32"), Precision.TF32),
        (XMMA.format("f32f32_f32f32_f32"), Precision.FP32),
        (XMMA.format("f16f16_f16f16_f16"), Precision.FP16),
        (XMMA.format("f16f16_f16f32_f32"), Precision.FP16),
        (XMMA.format("i8f32_i8i32_f32"), Precision.INT8),
        (XMMA.format("bf16bf16_bf16f32_bf16"), None),
        (INTERLEAVED, Precision.INT8),
        ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1", Precision.FP16),
        # As TensorRT 8.6.0 gives them on an H200, three types: operands, accumulator, output.
        ("sm80_xmma_fprop_wngd_f32f32_f32_f32_nchwkcrs_nchw_tilesize8x16x64x8_warpsize8x1x1_wngd2x2", Precision.FP32),
        (CLASSIFIER, Precision.FP32),
        (
            "sm90_xmma_fprop_image_first_layer_f16f16_f32_f16_nhwckrsc_nhwc_hmma_k64c4r7s7_stride2x2_tensor1688",
            Precision.FP16,
        ),
        ("sm90_xmma_fprop_image_first_layer_f32f32_f32_f32_nhwckrsc_nhwc_k64c4r7s7_stride2x2_tensor1688", None),
        ("sm80_xmma_fprop_first_layer_i8i8_i32_i8_nhwckrsc_nhwc_tensor16832", Precision.INT8),
        ("ampere_scudnn_128x64_relu_xregs_large_nn_v1", Precision.FP32),
        ("turing_h1688cudnn_256x64_ldg8_relu_exp_medium_nhwc_tn_v1", Precision.FP16),
        ("turing_int8_i8816cudnn_int8_256x128_ldg16_relu_singleBuffer_medium_nt_v1", Precision.INT8),
        ("volta_fp32_icudnn_int8x4_128x128_relu_small_nn_v1", Precision.INT8),
        ("ampere_s1688cudnn_128x128_ldg4_relu_exp_medium_nhwc_tn_v1", None),
        ("", None),
    ],
)
def test_what_a_kernel_name_tells(tactic: str, expected: Precision | None) -> None:
    assert tactic_precision(tactic) is expected


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (F32, "fp32"),
        (F16, "fp16"),
        (I8_32, "int8"),
        ("Channel major INT8 format where column stride % 32 == 0", "int8"),
        ("Row major linear UInt8 format", "uint8"),
        ("Row major linear BFloat16 format", "bf16"),
        ("Row major linear Int32", "int32"),
        ("Row major linear BOOL", "bool"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("Unknown format", "unknown"),
    ],
)
def test_tensor_formats(described: str, expected: str) -> None:
    assert tensor_format(described) == expected


def test_fp32_operands_alone_do_not_tell_fp32_from_tf32() -> None:
    assert one(convolution(F32, F32, "Float")).precision is None
    assert one(convolution(F32, F32, "Float"), tf32_allowed=False).precision is Precision.FP32
    ambiguous = convolution(F32, F32, "Float", "ampere_s1688cudnn_128x128_ldg4_nhwc_tn_v1")
    assert one(ambiguous, tf32_allowed=False).precision is None, "a tensor core kernel in an engine that forbids them"
    told = convolution(F32, F32, "Float", XMMA.format("f32f32_tf32f32_f32"))
    assert one(told, tf32_allowed=False).precision is Precision.TF32, "the kernel's word counts, not the flag"


def test_depthwise_on_cuda_cores_is_fp32() -> None:
    entry = layer(
        "CudaDepthwiseConvolution", F32, F32, ParameterType="Convolution", Weights={"Type": "Float", "Count": 9}
    )
    found = one(entry)
    assert (found.kind, found.precision) == ("convolution", Precision.FP32)


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        # As TensorRT 8.6 on an H100 names MobileNetV2's.
        ("sm50_xmma_convolution_trt_depthwiseFP32NHWC4_fp32nhwcx4_fp32nhwcx4_fp32kcrs", Precision.FP32),
        ("sm70_xmma_convolution_depthwiseConv_fp32fp32_trt_kernel_fp32_TR3_TS3", Precision.FP32),
        ("sm80_xmma_convolution_of_a_new_kind", None),
    ],
)
def test_a_kernel_older_than_tf32_multiplies_fp32(tactic: str, precision: Precision | None) -> None:
    assert one(convolution(F32, F32, "Float", tactic)).precision is precision


def test_reduced_precision_is_told_by_operands() -> None:
    assert one(convolution(F16, F16, "Half")).precision is Precision.FP16
    assert one(convolution(I8, F32, "Int8")).precision is Precision.INT8, "a float output does not matter"
    assert one(convolution(I8, I8, "Half")).precision is None, "operands that differ prove nothing"


HALF = XMMA.format("f16f16_f16f16_f16")


@pytest.mark.parametrize(
    ("source", "weights", "tactic", "expected"),
    [
        (F32, "Float", HALF, Precision.FP32),
        ("Float", "Float", HALF, Precision.FP32),
        (F32, "Float", INTERLEAVED, Precision.FP32),
        (F16, "Half", INTERLEAVED, Precision.FP16),
        (F16, "Float", INTERLEAVED, Precision.FP32),
        ("Row major linear BFloat16 format", "BFloat16", INTERLEAVED, None),
        # One operand may be converted on the way, and types that are not told contradict nothing.
        (F32, "Half", HALF, Precision.FP16),
        (F16, "Float", HALF, Precision.FP16),
        (F32, "Int8", INTERLEAVED, Precision.INT8),
        ("N/A due to dynamic shapes", "Float", HALF, Precision.FP16),
        (F32, "", HALF, Precision.FP16),
        # Narrower operands contradict nothing either, and TF32 kernels take FP32.
        (F16, "Half", XMMA.format("f32f32_f32f32_f32"), Precision.FP32),
        (F32, "Float", XMMA.format("f32f32_tf32f32_f32"), Precision.TF32),
        (I8, "Int8", INTERLEAVED, Precision.INT8),
    ],
)
@pytest.mark.parametrize("target", [F32, F16, I8], ids=["to fp32", "to fp16", "to int8"])
def test_operands_too_wide_for_the_kernel_that_is_named_decide(
    source: str, target: str, weights: str, tactic: str, expected: Precision | None
) -> None:
    assert one(convolution(source, target, weights, tactic)).precision is expected


def test_a_kernel_is_believed_where_no_weight_is_told() -> None:
    assert one(layer("CaskConvolution", F32, F16, TacticName=HALF)).precision is Precision.FP16
    product = layer("CaskGemmMatrixMultiply", F32, F16, ParameterType="MatrixMultiply", TacticName=HALF)
    assert one(product).precision is Precision.FP16


def test_an_int8_engine_whose_convolution_is_fp32_says_so() -> None:
    entry = convolution(
        F32, F32, "Float", XMMA.format("f32f32_f32f32_f32"), Name="conv1.weight + QuantizeLinear_7 + Conv_9"
    )
    assert one(entry).precision is Precision.FP32


def real_convolution(name: str, channels: int, image: int, described: str, **more: Any) -> dict[str, Any]:
    """A convolution with the fields that TensorRT 8.6.0 wrote on an H200, batch 16."""
    sizes = {"a": (16, channels, image, image), "b": (16, more["OutMaps"], image, image)}
    return {
        "Name": name,
        "LayerType": "CaskGemmConvolution",
        "Inputs": [tensor("a", described, sizes["a"])],
        "Outputs": [tensor("b", described, sizes["b"])],
        "ParameterType": "Convolution",
        "Kernel": [1, 1],
        "PaddingMode": "kEXPLICIT_ROUND_DOWN",
        "Stride": [1, 1],
        "Groups": 1,
        "HasResidual": 0,
        "Activation": "NONE",
        "StreamId": 0,
        "Metadata": f"[ONNX Layer: {name}]",
        **more,
    }


def test_a_gemm_run_as_a_convolution_is_a_product() -> None:
    """In an FP16 engine TensorRT 8.6.0 kept this classifier in FP32; a 1×1 convolution of an image is none such."""
    product = real_convolution(
        "fc", 256, 1, F32, OutMaps=10, Weights={"Type": "Float", "Count": 2560}, TacticName=CLASSIFIER
    )
    wide = real_convolution(
        "wide + wide_relu",
        64,
        28,
        "Channel major FP16 format where channel % 8 == 0",
        OutMaps=256,
        Weights={"Type": "Half", "Count": 16384},
        TacticName="sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize128x64x32_stage5_warpsize2x2x1_tensor16x8x16",
    )
    layers = parse(json.dumps({"Layers": [wide, product]})).layers
    assert [(layer.kind, layer.precision) for layer in layers] == [
        ("convolution", Precision.FP16),
        ("matmul", Precision.FP32),
    ]
    proof = prove(layers, Precision.FP16)
    assert (proof.share, proof.fell_back, proof.counts) == (1.0, (), {"fp16": 1, "fp32": 1})


def test_what_fell_back_is_counted() -> None:
    half, full, depthwise = (
        Layer(name, "convolution", precision, groups=groups)
        for name, precision, groups in (("half", Precision.FP16, 1), ("full", Precision.FP32, 1), ("deep", None, 32))
    )
    proof = prove([half, half, half, full], Precision.FP16)
    assert (proof.share, proof.fell_back, proof.narrower) == (0.75, ("full",), ())
    assert prove([half, depthwise], Precision.FP16).share == 0.5, "what is not told is not proven"
    assert prove([full, half], Precision.FP32).narrower == ("half",)
    assert prove([full], Precision.INT8).share == 0, "sold as INT8, it computes in FP32"
    tf32 = Layer("point", "convolution", Precision.TF32)
    on_cuda_cores = dataclasses.replace(depthwise, precision=Precision.FP32)
    assert prove([tf32, on_cuda_cores], Precision.TF32).share == 1
    assert prove([tf32, full], Precision.TF32).fell_back == ("full",)
    assert prove([], Precision.FP32).share == 0


def test_groups_are_read() -> None:
    entry = layer("CudaDepthwiseConvolution", F32, F32, ParameterType="Convolution", Kernel=[3, 3], Groups=64)
    assert one(entry).groups == 64


def test_fused_pooling_keeps_the_convolution() -> None:
    entry = layer("ConvActPool", I8, I8_32, ParameterType="ConvActPool", ConvWeights={"Type": "Int8", "Count": 9408})
    found = one(entry)
    assert (found.kind, found.precision) == ("convolution", Precision.INT8)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (layer("TiledPooling", F32, F32, ParameterType="Pooling"), "pooling"),
        (layer("Reformat", F32, F16, ParameterType="Reformat", Origin="REFORMAT"), "reformat"),
        (layer("NoOp", F32, F32), "reformat"),
        (layer("Reformat", F32, I8, ParameterType="Reformat", Origin="QDQ"), "quantize"),
        (layer("PointWiseV2", F16, F16), "elementwise"),
        (layer("CaskGemmMatrixMultiply", F16, F16, ParameterType="MatrixMultiply"), "matmul"),
        (layer("gemm", "Half", "Half"), "matmul"),
        (layer("SoftMax", F32, F32), "other"),
        (layer("Shuffle", F32, F32), "other"),
    ],
)
def test_kinds(entry: dict[str, Any], kind: str) -> None:
    assert one(entry).kind == kind


def test_a_fused_block_claims_nothing_and_names_what_it_holds() -> None:
    metadata = "[ONNX Layer: Conv_1]\u001e[ONNX Layer: Sigmoid_2]\u001e[ONNX Layer: Mul_3]"
    entry = layer("Myelin", F16, F16, Name="{ForeignNode[Conv_1...Mul_3]}", Metadata=metadata)
    found = one(entry)
    assert (found.kind, found.precision) == ("other", None)
    assert "fuses 3 nodes: Conv_1, Sigmoid_2, Mul_3" in found.detail


def test_raw_control_characters_are_no_error() -> None:
    text = json.dumps({"Layers": [convolution(F16, F16, "Half", Metadata="A|B")], "Bindings": ["a"]})
    assert parse(text.replace("A|B", "[ONNX Layer: A]\x1e[ONNX Layer: B]")).layers[0].precision is Precision.FP16


def test_real_json_of_10_16() -> None:
    """As TensorRT 10.16.1's inspector wrote it on an H200, of the residual network of `tests/suite/gpu` in FP16."""
    text = Path(__file__).with_name("layers-10.16.1-h200.json").read_text(encoding="utf-8")
    information = parse(text)
    assert information.detailed
    assert information.bindings == ("input", "output")
    kinds = [(layer.kind, layer.precision) for layer in information.layers]
    half = [("convolution", Precision.FP16), ("pooling", Precision.FP16)]
    assert kinds[:3] == [("reformat", None), *half]
    assert kinds[3:10] == [half[0]] * 7
    assert kinds[10:] == [half[1], ("matmul", Precision.FP16), ("reformat", None), ("reformat", None)]
    assert all(tensor.format != "unknown" for layer in information.layers for tensor in (*layer.inputs, *layer.outputs))


def test_names_only_is_said() -> None:
    information = parse('{"Layers": ["Conv_0 + Relu_1", "MaxPool_2"], "Bindings": ["in", "out"]}')
    assert not information.detailed
    assert information.layers[0] == Layer("Conv_0 + Relu_1", "other", None, detail=NAMES_ONLY)


def test_tensorrt_11_has_io_tensors_and_splits_type_and_layout() -> None:
    entry = {
        "Name": "conv",
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [{"Name": "a", "Dimensions": [1, 3], "DataType": "Half", "Format": "Row major linear"}],
        "Outputs": [{"Name": "b", "Dimensions": [1, 3], "DataType": "Half", "Format": "Row major linear"}],
        "Weights": {"Type": "Half", "Count": 9},
        "TacticName": "",
    }
    io = [{"Name": "a", "IOMode": "Input", "DataType": "Float"}, {"Name": "b", "IOMode": "Output", "DataType": "Float"}]
    information = parse(json.dumps({"Layers": [entry], "I/O Tensors": io}))
    assert information.bindings == ("a", "b")
    assert information.layers[0].precision is Precision.FP16
    assert information.layers[0].inputs[0].format == "fp16"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        '{"Bindings": []}',
        '{"Layers": {}}',
        '{"Layers": [3]}',
        '{"Layers": [{"Inputs": [{"Dimensions": ["many"]}]}]}',
        '{"Layers": [{"Inputs": [7]}]}',
        '{"Layers": [{"Inputs": 7}]}',
        '{"Layers": [], "I/O Tensors": [{}]}',
    ],
)
def test_what_is_no_layer_information_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"layer information|Layers"):
        parse(text)


def test_the_nodes_that_a_layer_fused_are_told_by_name() -> None:
    layers = [
        Layer("/stem/Conv + PWN(/stem/Clip)", "convolution", Precision.FP16, (), ()),
        Layer("/b/Conv + /b/Add", "convolution", Precision.INT8, (), ()),
        Layer("/untold/Conv", "convolution", None, (), ()),
        Layer("Reformatting CopyNode for Input Tensor 0 to /last/Conv", "reformat", Precision.FP16, (), ()),
    ]
    nodes = ["/stem/Conv", "/b/Conv", "/untold/Conv", "/last/Conv", "/stem/Con", "Conv"]
    assert by_node(layers, nodes) == {"/stem/Conv": Precision.FP16, "/b/Conv": Precision.INT8}
