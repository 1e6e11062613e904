"""Which networks, precisions and batches are tested where."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.suite import tiny
from tests.suite.engines.counting import Counting
from trtverify.fixtures.backends.onnxruntime import backend
from trtverify.fixtures.backends.tensorrt import backend as trt
from trtverify.fixtures.claims import case as cases
from trtverify.fixtures.claims.case import Case
from trtverify.fixtures.claims.steps import not_computed
from trtverify.fixtures.networks.models import MOBILENET_V2, RESNET50
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.terms import BuildOptions, Precision

ROOT = Path(__file__).resolve().parents[3]


def collected(*arguments: str) -> set[str]:
    """The parameters of every collected test that has some."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/test_lab3_dla.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "[" in line}


def test_collecting_loads_nothing_heavy() -> None:
    heavy = ["torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "numpy", "PIL"]
    program = (
        "import pytest, sys; pytest.main(['--collect-only', '-q']); "
        f"print('loaded:', *(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout[-500:]


def test_larger_batches_and_int8_are_for_a_gpu() -> None:
    plain, both = collected(), collected("--batches", "both")
    assert {"mobilenet_v2-tensorrt-int8", "mobilenet_v2-tensorrt-int8-over-fp32"} <= plain
    assert not any("onnxruntime-int8" in name or "batch" in name for name in plain)
    more = both - plain
    assert {"mobilenet_v2-tensorrt-fp16-batch32", "mobilenet_v2-tensorrt-int8-batch32-over-tf32"} <= more
    assert all("tensorrt-" in name and "batch32" in name for name in more)


def case(model: Any = MOBILENET_V2, **more: Any) -> Case:
    of = {"lab": "lab3", "precision": Precision.FP32, "backend": backend.OnnxRuntimeBackend()}
    asked = BuildOptions(Precision.FP32)
    rest = {**of, "own_images": None, "asked": asked, **more}
    return Case(model=model, submission=cast(Any, None), engines=cast(Any, None), **rest)


def test_a_batch_is_fed_whole() -> None:
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    assert case(batch=1).feed(images)["input"].ravel().tolist() == [0]
    assert case(batch=5).feed(images)["input"].ravel().tolist() == [0, 1, 2, 0, 1]


def test_what_is_asked_of_the_builder_goes_with_every_engine() -> None:
    of = case(RESNET50, batch=8, precision=Precision.FP16, asked=BuildOptions(Precision.FP32, workspace_bytes=1 << 29))
    assert of.options() == BuildOptions(Precision.FP16, {"input": (8, 3, 224, 224)}, workspace_bytes=1 << 29)
    assert of.subject().built_with == "--workspace=512"
    on_dla = case(precision=Precision.FP16, asked=BuildOptions(Precision.FP32, dla_core=0))
    assert "not told layer by layer" in (not_computed(on_dla) or "")


def test_a_case_is_built_as_the_run_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt.TensorRTBackend, "availability", lambda _self: None)
    given = {"workspace": 512, "hardware_compatible": False}
    for name, asked in (("tensorrt", 512 << 20), ("onnxruntime", None)):
        request = SimpleNamespace(
            param=(name, Precision.FP16, 1),
            cls=SimpleNamespace(lab="lab3", model=MOBILENET_V2),
            config=SimpleNamespace(getoption=given.get),
        )
        nothing = SimpleNamespace(find=lambda _lab, _name: None)
        made = inspect.unwrap(cases.case)(request, nothing, None, None)
        assert made.options().workspace_bytes == asked


def test_the_batch_is_part_of_the_name_and_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    assert case().label == "mobilenet_v2"
    of = case(RESNET50, batch=32)
    assert str(of) == "resnet50 batch 32 fp32 onnxruntime"
    assert of.options().shapes == {"input": (32, 3, 224, 224)}
    assert of.subject().power == "", "a CPU has no power mode that expectations know"


def test_int8_is_calibrated_by_lab_4_or_by_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.network(tmp_path / "mobilenet_v2.onnx")
    data = tiny.calibration(tmp_path / "calibration")
    monkeypatch.setattr(Case, "onnx", lambda _case: model)
    monkeypatch.setattr(cases, "calibration_data", lambda _submission, _model: "lab 4's")
    asked = []

    def own(network: Any) -> Any:
        asked.append(network)
        return data

    assert case(precision=Precision.INT8, own_images=own).options().calibration is data
    assert asked == [MOBILENET_V2]
    of_lab4 = case(RESNET50, lab="lab4", precision=Precision.INT8, own_images=own)
    assert cast(Any, of_lab4.options().calibration) == "lab 4's"
    assert case(precision=Precision.FP16, own_images=own).options().calibration is None


def test_calibration_images_that_cannot_be_read_are_told_by_the_claims_about_them(tmp_path: Path) -> None:
    """One array of the wrong shape would fail every check of an INT8 engine besides."""
    tiny.network(tmp_path / RESNET50.file)
    (tmp_path / "calibration_data").mkdir()
    np.save(tmp_path / "calibration_data" / "batch_000.npy", np.zeros((4, 224, 224, 3), np.float32))
    case = Case(
        lab="lab4",
        model=RESNET50,
        precision=Precision.INT8,
        backend=Counting(),
        submission=Submission(tmp_path, None),  # type: ignore[arg-type]
        engines=None,  # type: ignore[arg-type]
        own_images=lambda _model: pytest.fail("the student's are asked for"),
        asked=BuildOptions(Precision.INT8),
    )
    with pytest.raises(pytest.skip.Exception, match="an earlier step failed: the calibration images cannot be used: "):
        case.options()
