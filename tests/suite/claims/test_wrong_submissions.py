"""Seeded wrong work for labs 1 to 3: each must fail, and for its own reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.suite.spoil import Wrong, edit, must_fail, set_constants


def shift_classes(folder: Path) -> None:
    """Lab 1: every class answers under its neighbour's number."""

    def change(model: Any) -> None:
        for tensor in model.graph.initializer:
            if tensor.dims and tensor.dims[0] == 1000:
                rolled = np.roll(numpy_helper.to_array(tensor), 1, axis=0)
                tensor.CopyFrom(numpy_helper.from_array(rolled, tensor.name))

    edit(folder / "resnet50.onnx", change)


def poison_weights(folder: Path) -> None:
    """Lab 1: one NaN, as diverged training leaves."""

    def change(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[7] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    edit(folder / "resnet50.onnx", change)


def copy_a_layer(folder: Path) -> None:
    """Lab 3: one block's first convolution over the next one's."""

    def change(model: Any) -> None:
        weights = [t for t in model.graph.initializer if tuple(t.dims) == (384, 64, 1, 1)]
        set_constants(model, {weights[1].name: numpy_helper.to_array(weights[0]) * np.float32(1.5)})

    edit(folder / "mobilenet_v2.onnx", change)


def round_to_four_bits(folder: Path) -> None:
    """Lab 3: float weights of fifteen levels."""

    def change(model: Any) -> None:
        for tensor in [t for t in model.graph.initializer if len(t.dims) == 4]:
            value = numpy_helper.to_array(tensor)
            unit = np.abs(value).max(axis=(1, 2, 3), keepdims=True) / 7
            set_constants(model, {tensor.name: np.rint(value / unit) * unit})

    edit(folder / "mobilenet_v2.onnx", change)


def hand_in_mobilenet(folder: Path) -> None:
    """Lab 1: another network under ResNet-50's name."""
    (folder / "mobilenet_v2.onnx").replace(folder / "resnet50.onnx")
    edit(folder / "resnet50.onnx", lambda model: None)


def sell_fp32_as_fp16(folder: Path) -> None:
    """Lab 2: the FP32 graph, renamed."""
    (folder / "yolov8n_fp16.onnx").write_bytes((folder / "yolov8n.onnx").read_bytes())


def scores_before_boxes(folder: Path) -> None:
    """Lab 2: the rows of the output in another order."""

    def change(model: Any) -> None:
        graph = model.graph
        graph.output[0].name = "output0"
        for node in graph.node:
            for index, name in enumerate(node.output):
                if name == "output0":
                    node.output[index] = "boxes_first"
        order = np.array([*range(4, 84), *range(4)], np.int64)
        graph.initializer.append(numpy_helper.from_array(order, "row_order"))
        graph.node.append(helper.make_node("Gather", ["boxes_first", "row_order"], ["output0"], axis=1))

    edit(folder / "yolov8n.onnx", change)


def place_all_on_dla(folder: Path) -> None:
    """Lab 3: what one would wish, and not what the table says."""
    path = folder / "dla_placement.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for layer in document["layers"]:
        layer["device"] = "DLA"
    document["crossings"] = 0
    path.write_text(json.dumps(document), encoding="utf-8")


def miscount_crossings(folder: Path) -> None:
    """Lab 3: a number that its own placement contradicts."""
    path = folder / "dla_placement.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["crossings"] += 1
    path.write_text(json.dumps(document), encoding="utf-8")


def state(*keys: str, value: Any) -> Callable[[Path], None]:
    """Lab 3: one false statement beside a right placement."""

    def change(folder: Path) -> None:
        path = folder / "dla_placement.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path.write_text(json.dumps(document), encoding="utf-8")

    return change


def layers(folder: Path, told: str, kernel: str, share: float = 1) -> None:
    """Lab 3: layer information as an engine's of this model, of the first part of its convolutions."""
    model = onnx.load(str(folder / "mobilenet_v2.onnx"))
    tensor = {"Name": "t", "Dimensions": [1, 32, 112, 112], "Format/Datatype": f"Row major linear {told}"}
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    described = [
        {
            "Name": name,
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
            "Weights": {"Type": told, "Count": 9},
            "TacticName": f"sm80_xmma_fprop_implicit_gemm_indexed_{kernel}_nhwckrsc_nhwc",
        }
        for name in names[: round(share * len(names))]
    ]
    text = json.dumps({"Layers": described, "Bindings": ["input", "output"]})
    (folder / "layer_info.json").write_text(text, encoding="utf-8")


def layers_of_an_fp32_engine(folder: Path) -> None:
    """Built without --fp16."""
    layers(folder, "FP32", "f32f32_f32f32_f32")


def layers_of_fp32_with_kernels_of_fp16(folder: Path) -> None:
    """An FP32 engine's, its kernels renamed."""
    layers(folder, "Float", "f16f16_f16f16_f16")


def layers_twice(folder: Path) -> None:
    """Every layer listed again."""
    layers(folder, "FP16", "f16f16_f16f16_f16")
    path = folder / "layer_info.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "Layers": document["Layers"] * 2}), encoding="utf-8")


def layers_left_out(folder: Path) -> None:
    """A third of the convolutions is in no layer."""
    layers(folder, "FP16", "f16f16_f16f16_f16", share=2 / 3)


WRONG = (
    Wrong(
        "classes shifted by one",
        "lab1",
        ("lab1",),
        shift_classes,
        frozenset({"test_parity_with_the_framework"}),
        "spread",
    ),
    Wrong("NaN weights", "lab1", ("lab1",), poison_weights, frozenset({"test_weights_are_sound"}), "NaN"),
    Wrong("a layer copied", "lab3", ("lab3",), copy_a_layer, frozenset({"test_weights_are_sound"}), "the same in"),
    Wrong("four bits", "lab3", ("lab3",), round_to_four_bits, frozenset({"test_weights_are_sound"}), "15 levels"),
    Wrong("another network", "lab1", ("lab1", "lab3"), hand_in_mobilenet, frozenset({"test_architecture"}), "missing"),
    Wrong("FP32 sold as FP16", "lab2", ("lab2",), sell_fp32_as_fp16, frozenset({"test_fp16_graph_is_fp16"}), "float32"),
    Wrong(
        "swapped outputs", "lab2", ("lab2",), scores_before_boxes, frozenset({"test_boxes_come_before_scores"}), "rows"
    ),
    Wrong(
        "all on the DLA", "lab3", ("lab3",), place_all_on_dla, frozenset({"test_placement_follows_the_table"}), "GPU"
    ),
    Wrong("crossings miscounted", "lab3", ("lab3",), miscount_crossings, frozenset({"test_crossings_add_up"}), "cross"),
    Wrong(
        "layers of an FP32 engine",
        "lab3",
        ("lab3",),
        layers_of_an_fp32_engine,
        frozenset({"test_layer_information_is_fp16"}),
        "FP16",
    ),
    Wrong(
        "kernels renamed",
        "lab3",
        ("lab3",),
        layers_of_fp32_with_kernels_of_fp16,
        frozenset({"test_layer_information_is_fp16"}),
        "narrower type",
    ),
    Wrong(
        "layers twice", "lab3", ("lab3",), layers_twice, frozenset({"test_layer_information_is_this_models"}), "once"
    ),
    *(
        Wrong(name, "lab3", ("lab3",), state(*keys, value=value), frozenset({test}), says)
        for name, keys, value, test, says in (
            ("another model's hash", ("sha256",), "0" * 64, "test_placement_names_every_layer", "sha256: 000"),
            ("loadables invented", ("loadables",), 5, "test_crossings_add_up", "loadables: 5"),
            ("another table", ("table", "sha256"), "0" * 64, "test_placement_follows_the_table", "table: sha256"),
            ("another limit", ("loadable_limit",), 999, "test_placement_follows_the_table", "loadable_limit: 999"),
        )
    ),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name.replace(" ", "-"))
def test_wrong_work_fails_for_its_own_reason(
    wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    must_fail(wrong, copy_of, verify)


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: no layers without a GPU")
@pytest.mark.parametrize(
    ("told", "kernel", "share", "says"),
    [
        ("FP16", "f16f16_f16f16_f16", 1, None),
        ("FP16", "f16f16_f16f16_f16", 2 / 3, "no layers of this model"),
    ],
    ids=["right", "left-out"],
)
def test_layer_information_beside_an_engine_built_here(
    told: str, kernel: str, share: float, says: str | None, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    test, folder = "test_layer_information_agrees", copy_of("lab3")
    layers(folder, told, kernel, share)
    outcome = verify(folder, "lab3", "-k", test, backend="tensorrt_rtx")
    assert outcome.with_verdict("passed" if says is None else "not gradable") == {test}, outcome.output
    assert says is None or any(says in message for message in outcome.messages.values())
