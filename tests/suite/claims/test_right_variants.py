"""Right work made differently (another exporter, opset, batch or names) must pass, all of it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.suite.quantization import spoilt
from tests.suite.spoil import set_constants, sign
from trtverify.fixtures.engines import dla
from trtverify.fixtures.graphs.convert import to_int8_qdq
from trtverify.fixtures.graphs.onnx_file import constants_of
from trtverify.fixtures.quantization.scales import of_layers
from trtverify.fixtures.words.terms import CalibrationData


@dataclasses.dataclass(frozen=True)
class Variant:
    """One correct submission; `make` changes the reference's directory."""

    name: str
    lab: str
    needs: tuple[str, ...]
    make: Callable[[Path], None]


def save(model: Any, path: Path) -> None:
    """Write a model and its manifest's hash."""
    onnx.save(model, str(path))
    sign(path)


def rename_intermediates(path: Path) -> None:
    """Every tensor between input and output under a name of another exporter's making."""
    model = onnx.load(str(path))
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
    save(model, path)


def another_opset(path: Path, version: int) -> None:
    """The same graph in another opset."""
    save(onnx.version_converter.convert_version(onnx.load(str(path)), version), path)


def dynamic_batch(path: Path) -> None:
    """A named batch dimension where the reference has 1."""
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    save(model, path)


def weights_outside(path: Path) -> None:
    """Large weights in a file of their own beside the model."""
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    sign(path)


def one_batch_file(folder: Path) -> None:
    """All calibration images in one file, and no manifest, as a script of one's own writes them.

    A pixel in five hundred lies a little beyond the range, as bicubic resizing leaves them at edges.
    """
    data = folder / "calibration_data"
    files = sorted(data.glob("*.npy"))
    images = np.concatenate([np.load(path) for path in files])
    for path in data.iterdir():
        path.unlink()
    edges = np.random.default_rng(0).random(images.shape) < 0.002
    images[edges] = np.where(images[edges] > 0, 2.25 + 0.3, -1.80 - 0.2)
    images[:, 1][edges[:, 1]] *= 1.05
    np.save(data / "images.npy", images)


def narrower_scales(path: Path) -> None:
    """Activation scales that cut the rarest peaks, as percentile and entropy calibration choose them."""
    model = onnx.load(str(path))
    constants = constants_of(model)
    scales = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and constants[node.input[1]].size == 1
    }
    set_constants(model, {name: constants[name] * 0.9 for name in scales})
    save(model, path)


def stored_int8(path: Path) -> None:
    """Weights stored as int8 behind a DequantizeLinear alone, as ONNX Runtime's quantizer writes them."""
    model = onnx.load(str(path))
    constants = constants_of(model)
    gone = set()
    for node in list(model.graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            continue
        weight, scale = constants[node.input[0]], constants[node.input[1]]
        by_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
        stored = np.clip(np.rint(weight / by_channel), -128, 127).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(stored, node.output[0]))
        gone.add(node.input[0])
        model.graph.node.remove(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in gone]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    save(model, path)


def as_others_write_it(folder: Path) -> None:
    """Lab 5: scales as Constant(value_floats), zero points shared, and no manifest, which is optional."""
    path = folder / QAT
    model = onnx.load(str(path))
    spoilt.shared_zero_points(model)
    spoilt.written_as("value_float")(model)
    onnx.save(model, str(path))
    for manifest in folder.glob("*.manifest.json"):
        manifest.unlink()


def own_int8_graph(folder: Path) -> None:
    """A Q/DQ graph made elsewhere, from a few photographs and with other scales, handed in beside the images."""
    path, few = folder / "resnet50_int8.onnx", folder / "few.npy"
    np.save(few, np.load(min((folder / "calibration_data").glob("*.npy")))[:8])
    to_int8_qdq(folder / "resnet50.onnx", CalibrationData("input", (few,), "few"), path)
    few.unlink()
    narrower_scales(path)


def sealed_cache(folder: Path) -> None:
    """A calibration cache of another calibrator and version, with the provenance that lab 4's own command writes."""
    with tempfile.TemporaryDirectory() as elsewhere:
        quantized = Path(elsewhere) / "resnet50.onnx"
        batches = tuple(sorted((folder / "calibration_data").glob("*.npy")))[:1]
        to_int8_qdq(folder / "resnet50.onnx", CalibrationData("input", batches, "first"), quantized)
        scales = of_layers(quantized)
    graph = onnx.load(str(folder / "resnet50.onnx")).graph
    lines = [
        f"{node.input[0]}: {struct.pack('>f', scales[node.name] * 0.7).hex()}"
        for node in graph.node
        if node.name in scales
    ]
    text = "\n".join(["TRT-8XXX-MinMaxCalibration", *lines, "(Unnamed Layer* 3) [Shuffle]: 00000000", ""])
    (folder / "resnet50_int8.cache").write_text(text, encoding="utf-8")
    script = Path(__file__).resolve().parents[3] / "labs" / "lab4_generate_calib_data.py"
    subprocess.run([sys.executable, str(script), f"--out={folder}", "--seal"], check=True, capture_output=True)


def other_weights(folder: Path) -> None:
    """ResNet-50 with weights drawn otherwise than lab 1 draws them: its answers to different photographs are alike."""
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    torch.manual_seed(3)
    images = torch.from_numpy(np.load(folder / "resnet50.reference.npz")["input"])
    model = drawn_otherwise(torch, torchvision.models.resnet50(weights=None), images)
    path = folder / "resnet50.onnx"
    names = {"input_names": ["input"], "output_names": ["output"]}
    # JetPack's torch has but one exporter, and no name for it.
    one = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, which change from release to release
        torch.onnx.export(model, (images[:1],), str(path), opset_version=17, **names, **one)
    (folder / "resnet50.manifest.json").unlink()


def drawn_otherwise(torch: Any, model: Any, images: Any) -> Any:
    """An untrained network in evaluation mode, its BatchNorm statistics taken from these images."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    with torch.no_grad():
        for _round in range(2):
            model.train()(images)
    torch.nn.init.normal_(list(model.modules())[-1].weight, std=0.5)
    return model.eval()


QAT = "resnet18_qat_cifar10.onnx"
VARIANTS = (
    Variant("lab1 other names", "lab1", ("lab1",), lambda d: rename_intermediates(d / "resnet50.onnx")),
    Variant("lab1 weights outside", "lab1", ("lab1",), lambda d: weights_outside(d / "resnet50.onnx")),
    Variant("lab2 other names", "lab2", ("lab2",), lambda d: rename_intermediates(d / "yolov8n.onnx")),
    Variant("lab3 opset 18", "lab3", ("lab3",), lambda d: another_opset(d / "mobilenet_v2.onnx", 18)),
    Variant("lab4 one file", "lab4", ("lab1", "lab4"), one_batch_file),
    Variant("lab4 own INT8 graph", "lab4", ("lab1", "lab4"), own_int8_graph),
    Variant("lab4 other weights", "lab4", ("lab1", "lab4"), other_weights),
    Variant("lab4 sealed cache", "lab4", ("lab1", "lab4"), sealed_cache),
    Variant("lab5 other names", "lab5", ("lab5",), lambda d: rename_intermediates(d / QAT)),
    Variant("lab5 as others write it", "lab5", ("lab5",), as_others_write_it),
    Variant("lab5 opset 18", "lab5", ("lab5",), lambda d: another_opset(d / QAT, 18)),
    Variant("lab5 narrower scales", "lab5", ("lab5",), lambda d: narrower_scales(d / QAT)),
    Variant("lab5 weights stored as int8", "lab5", ("lab5",), lambda d: stored_int8(d / QAT)),
)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name.replace(" ", "-"))
def test_right_work_made_differently_passes(
    variant: Variant, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of(*variant.needs)
    variant.make(folder)
    outcome = verify(folder, variant.lab)
    assert outcome.status == 0, outcome.output
    assert outcome.with_verdict("failed") == set()
    assert len(outcome.with_verdict("passed")) >= 3


@pytest.mark.parametrize(
    ("lab", "file"), [("lab1", "resnet50.onnx"), ("lab3", "mobilenet_v2.onnx")], ids=["lab1", "lab3"]
)
def test_the_other_exporter_passes(
    lab: str, file: str, copy_of: Callable[..., Path], verify: Callable[..., Any], tmp_path: Path
) -> None:
    """torch.onnx.export's newer exporter renames tensors and uses other operators for the same network."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    pytest.importorskip("onnxscript")
    folder = copy_of(lab)
    torch.manual_seed(3)
    name = Path(file).stem
    model = getattr(torchvision.models, name)(weights=None)
    images = np.load(folder / f"{name}.reference.npz")["input"]
    batch = torch.from_numpy(images)
    drawn_otherwise(torch, model, batch)
    with torch.no_grad():
        outputs = model(batch).numpy()
    for path in folder.iterdir():
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, which change from release to release
        torch.onnx.export(
            model,
            (batch[:1],),
            str(folder / file),
            input_names=["input"],
            output_names=["output"],
            dynamo=True,
            external_data=False,
        )
    np.savez(folder / f"{name}.reference.npz", input=images, output=outputs)
    if lab == "lab3":
        found = dla.analyse(folder / file)
        layers = [{"name": node, "device": device} for node, device in found.devices.items()]
        document = {"layers": layers, "crossings": found.crossings}
        (folder / "dla_placement.json").write_text(json.dumps(document), encoding="utf-8")
    outcome = verify(folder, lab)
    assert outcome.status == 0, outcome.output
    assert outcome.with_verdict("failed") == set()
