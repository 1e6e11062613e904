"""What a run's record keeps for people to look at: strict reading of curves, parts of a failure, histograms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.networks.reference import LabOptions, Reference
from trtverify.fixtures.submitted import curves
from trtverify.fixtures.submitted.calibration import BIN_WIDTH, BINS, FIRST_BIN, read_set
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.verdict import FindingError, fail, of_report

ROW = {"epoch": 1, "phase": "fp32", "loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.4, "seconds": 3}


def test_curves_are_read() -> None:
    """A row an epoch, in order."""
    rows = curves.parse({"epochs": [ROW, {**ROW, "epoch": 1, "phase": "qat", "loss": 1}]})
    assert [(row.phase, row.epoch, row.loss) for row in rows] == [("fp32", 1, 1.5), ("qat", 1, 1.0)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", -1),
        ("loss", "1.5"),
        ("loss", True),
        ("loss", float("nan")),
        ("train_accuracy", 40),
        ("test_accuracy", None),
        ("epoch", -1),
        ("phase", ""),
        ("phase", ["fp32"]),
    ],
)
def test_curves_that_are_none_are_refused(key: str, value: Any) -> None:
    """Each wrong figure is named with its row."""
    row = copy.deepcopy(ROW)
    row[key] = value
    with pytest.raises(ValueError, match=rf"row 2.*{key}"):
        curves.parse({"epochs": [ROW, row]})


@pytest.mark.parametrize("epochs", [None, [], {}, "x", [ROW] * 2001, [1]])
def test_curves_need_a_list_of_rows(epochs: Any) -> None:
    """Nothing, too much and something else are refused."""
    with pytest.raises(ValueError, match="expected"):
        curves.parse({"epochs": epochs})


def test_a_failure_keeps_its_parts() -> None:
    """The report shows cause, evidence and next step apart; the terminal shows the same sentences."""
    with pytest.raises(FindingError) as caught:
        fail(expected="a\n  b", found="c\nnext: e", look="d")
    parts = caught.value.finding
    # What is indented is ours; a student's own line feed begins no line, which could pose as a label.
    assert (parts.expected, parts.found, parts.look) == ("a\n  b", "c\\nnext: e", "d")
    assert caught.value.pytrace is False
    assert of_report(_report(caught)) == ("failed", str(caught.value.finding))


def test_histogram_counts_every_fifth_pixel(tmp_path: Path) -> None:
    """A known image gives a known histogram; what lies beyond the bins is counted in the outermost."""
    images = np.zeros((1, 3, 224, 224), np.float32)
    images[0, 0], images[0, 1], images[0, 2] = 100.0, FIRST_BIN + 2.5 * BIN_WIDTH, -100.0
    folder = tmp_path / "calibration_data"
    folder.mkdir()
    np.save(folder / "batch_000.npy", images)
    options = LabOptions("untrained", None, None, None, None, None)
    found = read_set(Submission(tmp_path, Reference(tmp_path, options, None)), RESNET50)
    pixels = -(-224 * 224 // 5)
    assert [[(i, n) for i, n in enumerate(row) if n] for row in found.histogram] == [
        [(BINS - 1, pixels)],
        [(2, pixels)],
        [(0, pixels)],
    ]


def test_skips_are_told_in_the_readers_language(copy_of: Callable[..., Path], verify: Callable[..., Any]) -> None:
    """The terminal says them in Chinese; the record keeps the words that other programs read."""
    folder = copy_of("lab3")
    (folder / "layer_info.json").unlink(missing_ok=True)
    outcome = verify(folder, "lab3", "-k", "layer_info", "--lang=zh-TW")
    assert "無法評分: 未繳交選用的成品: " in outcome.output
    assert "not gradable" not in outcome.output
    said = [message for test, message in outcome.messages.items() if outcome.verdicts[test] == "not gradable"]
    assert said
    assert all(message.startswith("not gradable: optional artifact not submitted: ") for message in said)


def _report(caught: pytest.ExceptionInfo[FindingError]) -> pytest.TestReport:
    return pytest.TestReport("t.py::t", ("t.py", 1, "t"), {}, "failed", caught.value.msg, "call")
