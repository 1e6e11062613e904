"""`pytest --doctor`: what is there, what is missing, and the command for this kind of machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trtverify.fixtures.devices.device import Machine
from trtverify.fixtures.report import doctor
from trtverify.fixtures.words.messages import use_language

ROOT = Path(__file__).resolve().parents[3]
PC = Machine(None, None, None, None, None, None, "a CPU", 4, "x86_64", "Ubuntu 24.04", "no NVML")
JETSON = dataclasses.replace(PC, gpu="NVIDIA Jetson Orin Nano", architecture="aarch64", problem=None)


@pytest.fixture(autouse=True)
def _english() -> None:
    use_language("en")


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`lacking(machine, "torch")` is the report of a machine without torch."""
    find_spec, version = importlib.util.find_spec, importlib.metadata.version

    def report(machine: Machine, *names: str) -> str:
        def spec(name: str, package: str | None = None) -> object:
            return None if name in names else find_spec(name, package)

        def installed(name: str) -> str:
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(importlib.util, "find_spec", spec)
        monkeypatch.setattr(importlib.metadata, "version", installed)
        monkeypatch.setattr(doctor, "machine", lambda: machine)
        return doctor.report()[0]

    return report


def lines(text: str, name: str) -> list[str]:
    """The lines that begin with a mark and this name, each with the remedy under it."""
    every = text.splitlines()
    return [
        line.strip() + (f" {after.strip()}" if after.lstrip().startswith("→") else "")
        for line, after in zip(every, [*every[1:], ""], strict=True)
        if line.strip()[2:].startswith(f"{name}:")
    ]


def test_all_is_there(lacking: Callable[..., str]) -> None:
    """Nothing that is installed is called missing."""
    text = lacking(PC)
    assert lines(text, "onnx")[0].startswith("✓ onnx: ")
    assert lines(text, "onnxruntime")[-1].startswith("✓ onnxruntime: ONNX Runtime ")
    assert "python -m pytest -m lab1" in text


@pytest.mark.parametrize(
    ("machine", "expected"), [(PC, "pip install 'torch>=2.3'"), (JETSON, "NVIDIA's own wheel for this JetPack")]
)
def test_missing_torch(lacking: Callable[..., str], machine: Machine, expected: str) -> None:
    """The labs that export need torch; what installs it differs between a PC and a Jetson."""
    text = lacking(machine, "torch")
    assert lines(text, "torch")[0].startswith("✗ torch: not installed → ")
    assert expected in lines(text, "torch")[0]
    assert "made elsewhere, as torch" in lines(text, "lab1")[0]
    assert "made here by lab4_generate_calib_data.py" in lines(text, "lab4")[0]


def test_missing_tensorrt(lacking: Callable[..., str]) -> None:
    """TensorRT comes from JetPack on a Jetson; without a GPU nobody needs it."""
    assert "nvidia-jetpack" in lines(lacking(JETSON, "tensorrt"), "tensorrt")[0]
    assert lines(lacking(PC, "tensorrt"), "tensorrt")[0].startswith("– tensorrt: ")
    with_gpu = dataclasses.replace(PC, gpu="NVIDIA H200", problem=None)
    assert (
        "pip install 'tensorrt>=8.6,<11.5' 'nvidia-ml-py>=12.535'"
        in lines(lacking(with_gpu, "tensorrt"), "tensorrt")[0]
    )


def test_an_old_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version below the least one is no better than none; a vendor's local build is as good as its number."""
    version = importlib.metadata.version
    old = {"onnx": "1.2", "torch": "2.3.0a0+6ddf5cf85e.nv24.04"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: old.get(name) or version(name))
    text = doctor.report()[0]
    assert lines(text, "onnx") == ["✗ onnx: 1.2 → pip install 'onnx>=1.15'"]
    assert lines(text, "torch")[0].startswith("✓ torch: 2.3.0a0")


def test_nothing_to_build_with(lacking: Callable[..., str]) -> None:
    """Without any backend the report says so."""
    text = lacking(PC, "tensorrt", "tensorrt_rtx", "onnxruntime")
    assert "nothing can be verified before a backend is installed" in text


@pytest.mark.parametrize("command", [["-m", "pytest", "--doctor"], ["-m", "trtverify", "doctor"]])
def test_from_the_command_line(command: list[str]) -> None:
    """Both ways print the report and run no test."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime: ONNX Runtime" in done.stdout
    assert "collected" not in done.stdout


def test_says_whether_weights_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the networks' weights are there, and that without them no accuracy is claimed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet50-0676ba61.pth").touch()
    (told,) = lines(doctor.report()[0], "pretrained weights")
    assert told.startswith(f"– pretrained weights: no mobilenet_v2 in {folder}")
    (folder / "mobilenet_v2-b0353104.pth").touch()
    assert lines(doctor.report()[0], "pretrained weights") == [f"✓ pretrained weights: in {folder}"]
