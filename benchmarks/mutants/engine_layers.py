"""Layer information of an FP16 engine that was never built, laid out as TensorRT 10.3's inspector writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx

from benchmarks.mutants import files

KERNEL = (
    "sm80_xmma_fprop_implicit_gemm_indexed_{}_nhwckrsc_nhwc_tilesize128x64x64_stage4_warpsize2x2x1_g1_tensor16x8x16"
)
PRODUCTS = {
    "FP32": "f32f32_f32f32_f32",
    "TF32": "f32f32_tf32f32_f32",
    "FP16": "f16f16_f16f16_f16",
    "Int8": "i8i8_i8i32_f32",
}
FORMATS = {
    "FP32": "Row major linear FP32",
    "TF32": "Row major linear FP32",
    "FP16": "Channel major FP16 format where channel % 8 == 0",
    "Int8": "Thirty-two wide channel vectorized row major Int8 format",
}


def write(model: Path, out: Path, told: str = "FP16") -> None:
    """Write the layers of such an engine of a model of convolutions and clips."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model(str(model))).graph
    shapes = {v.name: dimensions(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    after = {name: node for node in graph.node for name in node.input if node.op_type in ("Clip", "Relu")}
    layers = [layer(node, after.get(node.output[0]), shapes, told) for node in computing(graph.node)]
    bindings = [graph.input[0].name, graph.output[0].name]
    files.write(out, json.dumps({"Layers": layers, "Bindings": bindings}, indent=1))


def computing(nodes: Iterable[Any]) -> list[Any]:
    """The nodes that become layers of their own."""
    return [n for n in nodes if n.op_type in ("Conv", "Gemm", "GlobalAveragePool", "ReduceMean")]


def layer(node: Any, clip: Any, shapes: dict[str, list[int]], told: str) -> dict[str, Any]:
    """One layer, with what follows it fused into it."""
    fused = [node.name] if clip is None else [node.name, clip.name]
    output = node.output[0] if clip is None else clip.output[0]
    found: dict[str, Any] = {
        "Name": " + ".join(fused),
        "LayerType": "CaskPooling" if "Pool" in node.op_type else "CaskConvolution",
        "Inputs": [tensor(node.input[0], shapes, told)],
        "Outputs": [tensor(output, shapes, told)],
        "ParameterType": "Pooling" if "Pool" in node.op_type else "Convolution",
        "TacticValue": "0x9cb304e2edbc1221",
        "StreamId": 0,
        "Metadata": "\u001e".join(f"[ONNX Layer: {name}]" for name in fused),
    }
    if "Pool" not in node.op_type:
        kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), [1, 1])
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        kind = {"FP32": "Float", "TF32": "Float", "FP16": "Half", "Int8": "Int8"}[told]
        found |= {"Kernel": kernel, "Groups": groups, "Weights": {"Type": kind, "Count": 1024}}
        found["TacticName"] = KERNEL.format(PRODUCTS[told])
    return found


def tensor(name: str, shapes: dict[str, list[int]], told: str) -> dict[str, Any]:
    """One tensor of a layer."""
    shape = shapes.get(name, [1, 32, 7, 7])
    return {"Name": name, "Location": "Device", "Dimensions": shape, "Format/Datatype": FORMATS[told]}


def dimensions(value: Any) -> list[int]:
    """A tensor's shape, 1 where it is dynamic."""
    return [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
