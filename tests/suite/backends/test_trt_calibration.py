"""The INT8 calibration cache: read strictly, refused without or with another provenance; images fed in batches."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from trtverify.fixtures.backends.tensorrt import build
from trtverify.fixtures.submitted import calibration_cache
from trtverify.fixtures.submitted.calibration_cache import (
    Batches,
    Provenance,
    check,
    read_scales,
    sidecar,
    write_sidecar,
)
from trtverify.fixtures.words.terms import CalibrationData

SOUND = "TRT-8600-EntropyCalibration2\ninput: 3c010a14\n/layer/Conv: out: 3d4ccccd\n(Unnamed Layer* 3): 3f800000\n"


@pytest.fixture
def images(tmp_path: Path) -> CalibrationData:
    folder = tmp_path / "calibration_data"
    folder.mkdir()
    for number, count in enumerate((3, 2)):
        batch = np.full((count, 3, 8, 8), number, np.float32) + np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)
        np.save(folder / f"batch_{number:03}.npy", batch)
    (folder / "manifest.json").write_text(json.dumps({"preprocessing": {"size": 8, "mean": [0.5]}}))
    return CalibrationData("input", (folder / "batch_000.npy", folder / "batch_001.npy"), "d1ge57")


@pytest.fixture
def made_from(tmp_path: Path, images: CalibrationData) -> Provenance:
    (tmp_path / "model.onnx").write_bytes(b"a model")
    return calibration_cache.provenance(tmp_path / "model.onnx", images, "8.6.0")


@pytest.fixture
def cache(tmp_path: Path, made_from: Provenance) -> Path:
    path = tmp_path / "model_int8.cache"
    path.write_text(SOUND)
    write_sidecar(path, made_from)
    return path


def test_a_sound_cache_is_read(cache: Path, made_from: Provenance) -> None:
    scales = check(cache, made_from)
    assert set(scales) == {"input", "/layer/Conv: out", "(Unnamed Layer* 3)"}
    assert scales["/layer/Conv: out"] == pytest.approx(0.05)
    assert made_from.images == 5
    assert made_from.preprocessing == {"size": 8, "mean": [0.5]}
    assert sidecar(cache).name == "model_int8.cache.json"


def test_without_provenance_it_is_refused(cache: Path, made_from: Provenance) -> None:
    sidecar(cache).unlink()
    with pytest.raises(FileNotFoundError, match="nobody can tell what it was calibrated on"):
        check(cache, made_from)
    cache.unlink()
    with pytest.raises(FileNotFoundError, match="no calibration cache"):
        check(cache, made_from)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_sha256", "0" * 64),
        ("data_digest", "another"),
        ("preprocessing", {"size": 8, "mean": [0.4]}),
        ("preprocessing", None),
        ("tensorrt", "10.3.0"),
        ("images", 4),
    ],
)
def test_made_from_something_else_it_is_refused(cache: Path, made_from: Provenance, field: str, value: object) -> None:
    other = dataclasses.replace(made_from, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{field} is .*; calibrate again"):
        check(cache, other)


def test_changed_after_it_was_made_it_is_refused(cache: Path, made_from: Provenance) -> None:
    cache.write_text(SOUND.replace("3c010a14", "3c010a15"))
    with pytest.raises(ValueError, match="cache_sha256"):
        check(cache, made_from)


@pytest.mark.parametrize("record", ["", "not JSON", "[]", "{}", '{"schema": 1, "model_sha256": "x"}'])
def test_a_damaged_provenance_is_refused(cache: Path, made_from: Provenance, record: str) -> None:
    sidecar(cache).write_text(record)
    with pytest.raises(ValueError, match="is no provenance record"):
        check(cache, made_from)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first line is ''"),
        (b"TRT-8600-EntropyCalibration2\n", "holds no scales"),
        (b"TRT-8600\ninput: 3c010a14\n", "not TRT-VERSION-ALGORITHM"),
        (b"input: 3c010a14\n", "its first line is 'input"),
        (b"TRT-8600-EntropyCalibration2\ninput: 3c010a\n", "no scale in line"),
        (b"TRT-8600-EntropyCalibration2\ninput: 7fc00000\n", "no scale in line"),
        (b"TRT-8600-EntropyCalibration2\ninput: 7f800000\n", "no scale in line"),
        (b"TRT-8600-EntropyCalibration2\ninput: bc010a14\n", "no scale in line"),
        (b"TRT-8600-EntropyCalibration2\ninput: 00000000\nfc.b: 0\n", "holds no scales"),
        (b"TRT-8600-EntropyCalibration2\ninput\n", "no scale in line"),
        (b"TRT-8600-EntropyCalibration2\n\xff\xfe: 3c010a14\n", "not text"),
    ],
)
def test_what_is_no_cache_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.cache"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_scales(path)


def test_a_tensor_that_is_zero_throughout_has_the_scale_zero(tmp_path: Path) -> None:
    path = tmp_path / "x.cache"
    path.write_text("TRT-8600-EntropyCalibration2\ninput: 3c010a14\nfc.b: 0\n(Unnamed Layer* 3) [Shuffle]: 00000000\n")
    assert list(read_scales(path).values()) == [pytest.approx(0.007876, rel=1e-3), 0.0, 0.0]


def test_images_come_in_full_batches_and_again(images: CalibrationData) -> None:
    batches = Batches(images, (4, 3, 8, 8))
    assert len(batches) == 2
    for _twice in range(2):
        found = [batch["input"] for batch in batches]
        assert [batch.shape for batch in found] == [(4, 3, 8, 8)] * 2
        # Images 0, 1, 2 of the first file, 1, 2 of the second; then the first ones again.
        assert [batch[:, 0, 0, 0].tolist() for batch in found] == [[0, 1, 2, 1], [2, 0, 1, 2]]
        assert all(batch.flags.c_contiguous and batch.dtype == np.float32 for batch in found)


def test_more_images_in_a_batch_than_there_are(images: CalibrationData) -> None:
    (only,) = Batches(images, (12, 3, 8, 8))
    assert only["input"][:, 0, 0, 0].tolist() == [0, 1, 2, 1, 2] * 2 + [0, 1]


def test_unfit_images_are_refused_before_anything_is_built(images: CalibrationData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image 1 is \(3, 8, 8\); the model takes \(3, 9, 9\)"):
        Batches(images, (1, 3, 9, 9))
    with pytest.raises(ValueError, match="no calibration images"):
        Batches(dataclasses.replace(images, batches=()), (1, 3, 8, 8))
    np.save(tmp_path / "nan.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match="image 6 holds NaN"):
        Batches(dataclasses.replace(images, batches=(*images.batches, tmp_path / "nan.npy")), (1, 3, 8, 8))


def test_convolutions_are_asked_for_in_int8_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = types.SimpleNamespace(CONVOLUTION="convolution", ACTIVATION="activation")
    monkeypatch.setitem(sys.modules, "tensorrt", types.SimpleNamespace(LayerType=kinds, int8="INT8"))
    layers = [types.SimpleNamespace(type=kind, precision=None) for kind in (kinds.CONVOLUTION, kinds.ACTIVATION)]
    build._prefer_int8(types.SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__))
    assert [layer.precision for layer in layers] == ["INT8", None]
