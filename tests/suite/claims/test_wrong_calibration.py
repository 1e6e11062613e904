"""Seeded wrong work for lab 4, whose engines are as fast as good ones: each must fail, and for its own reason."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.suite.quantization.spoilt import rotated
from tests.suite.spoil import Wrong, edit, must_fail
from trtverify.fixtures.graphs.convert import to_int8_qdq
from trtverify.fixtures.networks.datasets import find_photos
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.quantization.scales import of_layers
from trtverify.fixtures.submitted.calibration_cache import provenance, write_sidecar
from trtverify.fixtures.words.terms import CalibrationData


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


def relabel(folder: Path) -> None:
    """Lab 4: the FP32 graph under the INT8 graph's name."""
    (folder / "resnet50_int8.onnx").write_bytes((folder / "resnet50.onnx").read_bytes())


def use_test_images(folder: Path) -> None:
    """Lab 4: the images that the suite measures on, kept in `photos/test/`."""
    from PIL import Image

    kept = folder.parent / "photos" / "test"
    kept.mkdir(parents=True)
    bundled = find_photos(None)
    assert bundled is not None
    pixels = bundled.batch(RESNET50, 32, 5).transpose(0, 2, 3, 1) * STD.reshape(3) + MEAN.reshape(3)
    for number, image in enumerate((pixels * 255).round().clip(0, 255).astype(np.uint8)):
        Image.fromarray(image).save(kept / f"{number}.png")
    known = find_photos(kept.parent)
    assert known is not None
    assert known.test_split
    images = iter(known.batch(RESNET50, 32, 1))
    rewrite_batches(folder, lambda batch: np.stack([next(images) for _image in batch]))


def photos_option(folder: Path) -> list[str]:
    """The suite is given the folder whose test images were used."""
    return [f"--photos={folder.parent / 'photos'}"]


def write_cache(folder: Path, model: str, data: CalibrationData) -> None:
    """A calibration cache as TensorRT 10.3 writes it, with its provenance."""
    graph = onnx.load(str(folder / model), load_external_data=False).graph
    tensors = [node.input[0] for node in graph.node if node.op_type == "Conv"]
    lines = [f"{name}: {struct.pack('>f', 0.05).hex()}" for name in tensors]
    cache = folder / "resnet50_int8.cache"
    cache.write_text("\n".join(["TRT-100300-EntropyCalibration2", *lines, ""]), encoding="utf-8")
    write_sidecar(cache, provenance(folder / model, data, "10.3.0"))


def calibration_of(folder: Path) -> CalibrationData:
    """The batches handed in."""
    batches = tuple(sorted((folder / "calibration_data").glob("*.npy")))
    total = hashlib.sha256()
    for path in batches:
        total.update(hashlib.sha256(np.load(path).tobytes()).digest())
    return CalibrationData("input", batches, total.hexdigest())


def cache_of_another_model(folder: Path) -> None:
    """Lab 4: MobileNetV2's scales under ResNet-50's name; Polygraphy would take them."""
    write_cache(folder, "mobilenet_v2.onnx", calibration_of(folder))


def cache_of_a_neighbour(folder: Path) -> None:
    """Lab 4: this model's cache, from somebody else's images."""
    write_cache(folder, "resnet50.onnx", calibration_of(folder))
    rewrite_batches(folder, lambda batch: batch[..., ::-1])


_known: dict[str, dict[str, float]] = {}


def scales_of(folder: Path) -> dict[str, float]:
    """The scale of each tensor that a layer of ResNet-50 reads, from the first of the images handed in."""
    digest = hashlib.sha256((folder / "resnet50.onnx").read_bytes()).hexdigest()
    if digest not in _known:
        batch = min((folder / "calibration_data").glob("*.npy"))
        path = folder / "resnet50_int8.partial"
        to_int8_qdq(folder / "resnet50.onnx", CalibrationData("input", (batch,), "first"), path)
        layers = of_layers(path)
        path.unlink()
        graph = onnx.load(str(folder / "resnet50.onnx"), load_external_data=False).graph
        _known[digest] = {node.input[0]: layers[node.name] for node in graph.node if node.name in layers}
    return _known[digest]


def cache_with(change: Callable[[dict[str, float]], dict[str, float]]) -> Callable[[Path], None]:
    """Lab 4: a sealed cache of the right model and images, its scales changed."""

    def spoil(folder: Path) -> None:
        lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in change(scales_of(folder)).items()]
        cache = folder / "resnet50_int8.cache"
        cache.write_text("\n".join(["TRT-100300-EntropyCalibration2", *lines, ""]), encoding="utf-8")
        write_sidecar(cache, provenance(folder / "resnet50.onnx", calibration_of(folder), "10.3.0"))

    return spoil


def moved(scales: dict[str, float]) -> dict[str, float]:
    """Each tensor with the scale of the one before."""
    return dict(zip(scales, [*scales.values()][-1:] + [*scales.values()][:-1], strict=True))


def graph_with_moved_scales(folder: Path) -> None:
    """Lab 4: an INT8 graph whose activations' scales stand one tensor further."""
    batch = min((folder / "calibration_data").glob("*.npy"))
    path = folder / "resnet50_int8.onnx"
    to_int8_qdq(folder / "resnet50.onnx", CalibrationData("input", (batch,), "first"), path)
    edit(path, rotated)


def cache_without_provenance(folder: Path) -> None:
    """Lab 4: nobody can tell what it was calibrated on."""
    write_cache(folder, "resnet50.onnx", calibration_of(folder))
    (folder / "resnet50_int8.cache.json").unlink()


LAB4 = ("lab1", "lab4")
WRONG = (
    Wrong("uncalibrated INT8", "lab4", LAB4, uncalibrated, frozenset({"test_outputs_match"}), "dB"),
    Wrong("random noise", "lab4", LAB4, noise, frozenset({"test_images_are_sound"}), "noise"),
    Wrong("BGR for RGB", "lab4", LAB4, bgr, frozenset({"test_preprocessing_is_the_models"}), "BGR"),
    Wrong("no mean", "lab4", LAB4, without_mean, frozenset({"test_preprocessing_is_the_models"}), "mean"),
    Wrong("0 to 255", "lab4", LAB4, without_division, frozenset({"test_preprocessing_is_the_models"}), "255"),
    Wrong("one image repeated", "lab4", LAB4, one_image, frozenset({"test_enough_images"}), "distinct"),
    Wrong(
        "test images",
        "lab4",
        LAB4,
        use_test_images,
        frozenset({"test_images_are_no_test_images"}),
        "test split",
        photos_option,
    ),
    Wrong("FP32 relabelled", "lab4", LAB4, relabel, frozenset({"test_int8_graph_is_int8"}), "without"),
    Wrong(
        "cache of another model",
        "lab4",
        ("lab1", "lab3", "lab4"),
        cache_of_another_model,
        frozenset({"test_cache_scales_are_the_models"}),
        "model_sha256",
    ),
    Wrong(
        "cache of a neighbour",
        "lab4",
        LAB4,
        cache_of_a_neighbour,
        frozenset({"test_cache_scales_are_the_models"}),
        "data_digest",
    ),
    Wrong(
        "cache without provenance",
        "lab4",
        LAB4,
        cache_without_provenance,
        frozenset({"test_cache_scales_are_the_models"}),
        "provenance",
    ),
)


CACHE = frozenset({"test_cache_scales_are_the_models"})
WRONG_SCALES = (
    Wrong(
        "a cache cut off",
        "lab4",
        LAB4,
        cache_with(lambda scales: dict(list(scales.items())[:5])),
        CACHE,
        "has no scale for",
    ),
    Wrong(
        "a cache doubled",
        "lab4",
        LAB4,
        cache_with(lambda scales: {name: 2 * scale for name, scale in scales.items()}),
        CACHE,
        "beyond the largest value",
    ),
    Wrong("a cache moved along", "lab4", LAB4, cache_with(moved), CACHE, "too wide"),
    Wrong(
        "one scale for all",
        "lab4",
        LAB4,
        cache_with(lambda scales: dict.fromkeys(scales, 0.02)),
        CACHE,
        "the same for all",
    ),
    Wrong(
        "45 % of a cache times 50",
        "lab4",
        LAB4,
        cache_with(lambda scales: {n: s * (50 if i % 20 < 9 else 1) for i, (n, s) in enumerate(scales.items())}),
        CACHE,
        "too wide",
    ),
    Wrong(
        "an INT8 graph moved along",
        "lab4",
        LAB4,
        graph_with_moved_scales,
        frozenset({"test_int8_graph_scales_fit"}),
        "do the scales stand at the tensors",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_SCALES, ids=lambda wrong: wrong.name.replace(" ", "-"))
def test_wrong_scales_fail_for_their_own_reason(
    wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    must_fail(wrong, copy_of, verify)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name.replace(" ", "-"))
def test_wrong_work_fails_for_its_own_reason(
    wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    must_fail(wrong, copy_of, verify)
