"""A class graded by trtexec's logs alone: what a device printed, judged where there is none."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import REPOSITORY, Class
from tests.suite.trtexec.made import Made, write

YOLO = "trtexec --onnx=/home/{}/yolov8n.onnx --saveEngine=yolov8n_{}.engine"
RUBRIC = """
# Everything but the logs is worth nothing, and no check of it is essential.
[[tests]]
match = "*"
points = 0
[[tests]]
match = "test_trtexec_logs.py::*"
points = 1
"""
pytestmark = pytest.mark.slow


def logs(who: str, seed: int, **changes: Made) -> dict[str, bytes]:
    made = {
        "lab2_fp32.log": Made(YOLO.format(who, "fp32"), ms=8.36, seed=seed, engine_mib=16.4),
        "lab2_fp16.log": Made(YOLO.format(who, "fp16") + " --fp16", ms=4.43, seed=seed + 1, engine_mib=9.2),
    }
    return {name: write(one).encode() for name, one in {**made, **changes}.items()}


def test_a_class_is_graded_by_logs_alone(tmp_path: Path, bwrap: None) -> None:
    wrong = logs("bob", 3)
    fp32 = Made(YOLO.format("bob", "fp32"), ms=8.36, seed=9, engine_mib=16.4)
    wrong["lab2_fp16.log"] = write(dataclasses.replace(fp32, seed=10)).encode()
    edited = logs("cyd", 5)
    edited["lab2_fp16.log"] = edited["lab2_fp16.log"].replace(b"median = 4.4", b"median = 3.1")
    one = logs("dee", 7)
    del one["lab2_fp32.log"]
    a_class = Class(tmp_path / "class", tmp_path / "results")
    for name, files in (("ann", logs("ann", 1)), ("bob", wrong), ("cyd", edited), ("dee", one)):
        a_class.hand_in(name, dict(files))
    rubric = tmp_path / "rubric.toml"
    rubric.write_text(RUBRIC, encoding="utf-8")
    line = [sys.executable, "-m", "trtverify", "grading", "run", str(a_class.submissions), "--labs", "lab2"]
    line += ["--rubric", str(rubric), "--out", str(a_class.out)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        student: {
            name.partition("[")[0].removeprefix("test_reported_"): verdict
            for name, verdict in rows.items()
            if "reported" in name
        }
        for student, rows in a_class.verdicts().items()
    }
    assert set(found["ann"].values()) == {"passed"}, found
    assert {name for name, verdict in found["bob"].items() if verdict == "failed"} == {"precision"}
    assert {name for name, verdict in found["cyd"].items() if verdict == "failed"} == {"figures_agree"}
    assert "failed" not in found["dee"].values()
    shown = {student: a_class("show", student).stdout for student in found}
    assert "ann: 5.00 of 5.00 points" in shown["ann"]
    assert "of 5.00 points" in shown["bob"]
    assert "ann: 5.00" not in shown["bob"]
    assert "--fp16, with --onnx" in shown["bob"]
