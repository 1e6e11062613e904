"""What is found under nearly the name that was looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtverify.fixtures.submitted import near
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.verdict import FindingError


@pytest.mark.parametrize(
    "other",
    [
        "ResNet50.onnx",
        "resnet50 (1).onnx",
        "resnet50 - Copy.onnx",
        "resnet_50.onnx",
        "Copy of resnet50.onnx",
        "out/resnet50.onnx",
        "lab1/deeper.d/../ResNet50.ONNX",
    ],
)
def test_a_near_name_is_told(tmp_path: Path, other: str) -> None:
    path = tmp_path / other
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "lab1" / "deeper.d").mkdir(parents=True, exist_ok=True)
    path.resolve().write_bytes(b"x")
    with pytest.raises(FindingError) as caught:
        Submission(tmp_path, None).require("lab1", "resnet50.onnx")  # type: ignore[arg-type]
    assert str(path.resolve().relative_to(tmp_path)) in caught.value.finding.found
    assert "resnet50.onnx" in caught.value.finding.look


@pytest.mark.parametrize("other", ["resnet18.onnx", "resnet50.onnx.bak", "resnet50_int8.onnx", "resnet\x1b50.onnx"])
def test_another_name_is_not(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_bytes(b"x")
    with pytest.raises(FindingError) as caught:
        Submission(tmp_path, None).require("lab1", "resnet50.onnx")  # type: ignore[arg-type]
    assert caught.value.finding.found == "no such file"


@pytest.mark.parametrize(
    "other", ["Calibration_Data", "calibration data", "out/calibration_data", "calibration_data (1)"]
)
def test_a_folder_has_near_names_too(tmp_path: Path, other: str) -> None:
    (tmp_path / other).mkdir(parents=True)
    assert near.near([tmp_path], "calibration_data") == other


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "resnet50.onnx").write_bytes(b"x")
    (tmp_path / "handed").mkdir()
    (tmp_path / "handed" / "lab1").symlink_to(tmp_path / "elsewhere")
    assert near.near([tmp_path / "handed"], "resnet50.onnx") is None


def test_a_folder_of_a_million_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_MOST", 10)
    for number in range(20):
        (tmp_path / f"{number:02}.txt").touch()
    (tmp_path / "deep").mkdir()
    assert near.near([tmp_path], "resnet50.onnx") is None


def test_a_plain_file_called_as_a_labs_folder_hides_nothing(tmp_path: Path) -> None:
    """What lies at the top is found, and what lies nowhere is missing, not unreadable."""
    (tmp_path / "lab3").write_bytes(b"notes")
    (tmp_path / "mobilenet_v2.onnx").write_bytes(b"model")
    submission = Submission(tmp_path, None)  # type: ignore[arg-type]
    assert submission.find("lab3", "mobilenet_v2.onnx") == tmp_path / "mobilenet_v2.onnx"
    assert submission.find("lab3", "layer_info.json") is None
