"""Seeded wrong work, a few for each lab: each must fail, and for its own reason alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fixtures.backends.base import CalibrationData
from fixtures.backends.graph import to_int8_qdq


@dataclasses.dataclass(frozen=True)
class Wrong:
    """One wrong submission.

    Attributes:
        lab: which lab's tests are run; needs: the labs whose artifacts are handed in.
        spoil: what is done to the directory.
        fails: the tests that must fail, and no other.
        says: what the failure's message must hold.
    """

    name: str
    lab: str
    needs: tuple[str, ...]
    spoil: Callable[[Path], None]
    fails: frozenset[str]
    says: str


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change an ONNX model in place and make its manifest true again, as a wrong lab script would have."""
    model = onnx.load(str(path))
    model = change(model) or model
    onnx.save(model, str(path))
    manifest = path.with_suffix(".manifest.json")
    if manifest.is_file():
        described = json.loads(manifest.read_text(encoding="utf-8"))
        described["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(described), encoding="utf-8")


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


def rewrite_batches(folder: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    """Lab 4: change every batch, and keep its manifest true."""
    manifest_path = folder / "calibration_data" / "manifest.json"
    text = manifest_path.read_text(encoding="utf-8")
    for path in sorted((folder / "calibration_data").glob("*.npy")):
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        np.save(path, np.ascontiguousarray(change(np.load(path)), dtype=np.float32))
        text = text.replace(before, hashlib.sha256(path.read_bytes()).hexdigest())
    manifest_path.write_text(text, encoding="utf-8")


MEAN = np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def noise(folder: Path) -> None:
    """Lab 4: what trexec does without a cache."""
    rng = np.random.default_rng(0)
    rewrite_batches(folder, lambda batch: np.clip(rng.normal(0, 1, batch.shape), -1.8, 2.2))


def bgr(folder: Path) -> None:
    """Lab 4: channels as OpenCV reads them."""
    rewrite_batches(folder, lambda batch: batch[:, ::-1])


def without_mean(folder: Path) -> None:
    """Lab 4: 0 to 1, mean and deviation forgotten."""
    rewrite_batches(folder, lambda batch: batch * STD + MEAN)


def without_division(folder: Path) -> None:
    """Lab 4: 0 to 255."""
    rewrite_batches(folder, lambda batch: (batch * STD + MEAN) * 255)


def one_image(folder: Path) -> None:
    """Lab 4: one image, repeated."""
    first = np.load(folder / "calibration_data" / "batch_000.npy")[:1]
    rewrite_batches(folder, lambda batch: np.repeat(first, len(batch), axis=0))


def uncalibrated(folder: Path) -> None:
    """Lab 4: an INT8 graph whose scales no photograph has chosen: one grey image has."""
    grey = folder / "grey.npy"
    np.save(grey, np.full((1, 3, 224, 224), 1e-3, np.float32))
    data = CalibrationData("input", (grey,), hashlib.sha256(grey.read_bytes()).hexdigest())
    to_int8_qdq(folder / "resnet50.onnx", data, folder / "resnet50_int8.onnx")
    grey.unlink()


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


def layers_of_an_fp32_engine(folder: Path) -> None:
    """Lab 3: the layer information of an engine built without --fp16."""
    model = onnx.load(str(folder / "mobilenet_v2.onnx"))
    tensor = {
        "Name": "t",
        "Location": "Device",
        "Dimensions": [1, 32, 112, 112],
        "Format/Datatype": "Row major linear FP32",
    }
    layers = [
        {
            "Name": node.name,
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
            "Weights": {"Type": "Float", "Count": 864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_indexed_f32f32_f32f32_f32_nchwkcrs_nchw",
        }
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    text = json.dumps({"Layers": layers, "Bindings": ["input", "output"]})
    (folder / "layer_info.json").write_text(text, encoding="utf-8")


def drop_qdq(folder: Path) -> None:
    """Lab 5: fake quantization was never exported."""
    (folder / "resnet18_qat_cifar10.onnx").write_bytes((folder / "resnet18_cifar10.onnx").read_bytes())
    edit(folder / "resnet18_qat_cifar10.onnx", lambda model: None)


def equal_scales(folder: Path) -> None:
    """Lab 5: observers that never saw an image, all scales alike."""

    def change(model: Any) -> None:
        scales = {n.input[1] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
        for holder in [
            *model.graph.initializer,
            *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t")),
        ]:
            if holder.name in scales:
                array = numpy_helper.to_array(holder)
                holder.CopyFrom(numpy_helper.from_array(np.full_like(array, 0.05), holder.name))
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output[0] in scales:
                array = numpy_helper.to_array(node.attribute[0].t)
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.full_like(array, 0.05)))

    edit(folder / "resnet18_qat_cifar10.onnx", change)


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
    Wrong("uncalibrated INT8", "lab4", ("lab1", "lab4"), uncalibrated, frozenset({"test_outputs_match"}), "dB"),
    Wrong("random noise", "lab4", ("lab1", "lab4"), noise, frozenset({"test_images_are_sound"}), "noise"),
    Wrong("BGR for RGB", "lab4", ("lab1", "lab4"), bgr, frozenset({"test_preprocessing_is_the_models"}), "BGR"),
    Wrong("no mean", "lab4", ("lab1", "lab4"), without_mean, frozenset({"test_preprocessing_is_the_models"}), "mean"),
    Wrong(
        "0 to 255", "lab4", ("lab1", "lab4"), without_division, frozenset({"test_preprocessing_is_the_models"}), "255"
    ),
    Wrong("one image repeated", "lab4", ("lab1", "lab4"), one_image, frozenset({"test_enough_images"}), "distinct"),
    Wrong(
        "no Q/DQ", "lab5", ("lab5",), drop_qdq, frozenset({"test_every_convolution_is_quantized"}), "fake quantization"
    ),
    Wrong("all scales equal", "lab5", ("lab5",), equal_scales, frozenset({"test_scales_were_calibrated"}), "scales"),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name.replace(" ", "-"))
def test_wrong_work_fails_for_its_own_reason(
    wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of(*wrong.needs)
    wrong.spoil(folder)
    outcome = verify(folder, wrong.lab)
    assert wrong.fails <= outcome.with_verdict("failed"), outcome.output
    for test in wrong.fails:
        assert wrong.says in outcome.message(test)
