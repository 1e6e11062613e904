"""What a manifest says falsely is told; what is merely said otherwise, or not at all, is not held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.networks.models import RESNET18_QAT, RESNET50
from trtverify.fixtures.submitted.calibration import CalibrationSet
from trtverify.fixtures.submitted.manifests import _preprocessing, accuracy, contradictions, most_apart, of_calibration

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FILES = (("batch_000.npy", "ab" * 32, 8), ("batch_001.npy", "cd" * 32, 8))


def of_model(**said: Any) -> str:
    return "; ".join(contradictions(said, Path("/nowhere/resnet50.onnx"), RESNET50))


def of_images(**said: Any) -> str:
    held: Any = object.__new__(CalibrationSet)
    for name, value in (("images", 16), ("files", FILES)):
        object.__setattr__(held, name, value)
    return "; ".join(of_calibration(said, held, RESNET50))


BATCHES = [{"file": name, "sha256": digest, "images": count} for name, digest, count in FILES]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"lab": "lab3"}, "this is lab1"),
        ({"lab": 4}, "this is lab1"),
        ({"lab": ["lab1"]}, "expected text"),
        ({"model": "mobilenet_v2"}, "this is resnet50"),
        ({"artifact": "yolov8n.onnx"}, "this is resnet50"),
        ({"model": 7}, "expected text"),
        ({"reference": []}, "expected an object"),
        ({"preprocessing": {"mean": [0.5] * 3, "std": STD}}, "preprocessing.mean"),
        ({"preprocessing": {"mean": MEAN, "std": ["a", "b", "c"]}}, "three numbers"),
        ({"accuracy": "best"}, "a share from 0 to 1"),
        ({"accuracy": 730}, "a share from 0 to 1"),
    ],
    ids=str,
)
def test_a_false_manifest_is_told(said: dict[str, Any], says: str) -> None:
    assert says in of_model(**said)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"lab": "Lab 1", "model": "ResNet-50", "artifact": "resnet50.onnx"},
        {"lab": 1, "model": "torchvision.models.resnet50"},
        {"preprocessing": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}},
        {"preprocessing": None, "created": "1970-01-01", "versions": [], "mood": {"of": "the day"}},
        {"accuracy": 0.76, "opset": 11, "batch": "dynamic"},
    ],
    ids=str,
)
def test_a_manifest_in_other_words_is_true(said: dict[str, Any]) -> None:
    assert of_model(**said) == ""


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"lab": "lab5"}, "this is lab4"),
        ({"model": "mobilenet_v2", "data": {"photos": [{"sha256": "00" * 32}] * 500}}, "mobilenet_v2"),
        ({"data": {"photos": [{"sha256": "00" * 32}] * 500}}, "500, where the batches hold 16"),
        ({"count": 500}, "500, where the batches hold 16"),
        ({"count": "16"}, "'16', where"),
        ({"data": {"images": 17}}, "17, where"),
        ({"data": {"photos": [{}] * 30_000}}, "a list of at most"),
        ({"batches": [{**BATCHES[0], "sha256": "00" * 32}, BATCHES[1]]}, "batch_000.npy changed"),
        ({"batches": [{**BATCHES[0], "images": 9}, BATCHES[1]]}, "batch_000.npy changed"),
        ({"batches": BATCHES[:1]}, "other files"),
        ({"batches": [*BATCHES, BATCHES[0]]}, "a name twice"),
        ({"batches": 5}, "a list of objects"),
        ({"preprocessing": {"mean": MEAN, "std": [0.5] * 3}}, "preprocessing.std"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_false_manifest_of_images_is_told(said: dict[str, Any], says: str) -> None:
    assert says in of_images(**said)


def test_a_true_manifest_of_images_is_taken() -> None:
    assert of_images(lab="lab4", model="resnet50", count=16, batches=BATCHES, model_sha256="ef" * 32) == ""
    assert of_images(data={"images": 16, "photos": [{}] * 16}, preprocessing={"mean": MEAN, "std": STD}) == ""


def test_accuracies_in_any_spelling() -> None:
    none: tuple[Any, ...] = (None, True, -1, 101, "nan", [], "9" * 400)
    spelt: tuple[Any, ...] = ("99.9 %", "99.9", 99.9, 0.999, "0.999")
    for claimed in spelt:
        assert accuracy(claimed) == pytest.approx(0.999)
    assert all(accuracy(other) is None for other in none)
    assert most_apart(0.999, 0.83, 1000, 1000) < 0.999 - 0.83
    assert most_apart(0.83, 0.80, 1000, 200) > 0.83 - 0.80


def test_the_reference_manifests_are_true(labs: Any) -> None:
    folder = labs("lab5")
    manifest = json.loads((folder / f"{RESNET18_QAT.name}.manifest.json").read_text(encoding="utf-8"))
    assert list(contradictions(manifest, folder / RESNET18_QAT.file, RESNET18_QAT)) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"channels": "BGR"}, "where these weights take RGB"),
        ({"channels": "RGB", "divisor": 255, "mean": [0.485, 0.456, 0.406]}, ""),
        ({"divisor": 1, "mean": [0.485, 0.456, 0.406]}, "divisor: 1"),
        ({"divisor": 1, "mean": [123.675, 116.28, 103.53]}, ""),
        ({"channels": 3}, ""),
    ],
)
def test_what_is_said_of_preprocessing(said: dict[str, Any], told: str) -> None:
    found = "; ".join(_preprocessing({"preprocessing": said}, imagenet=True))
    assert (told in found) if told else not found
