"""Each export, read as its platform reads it: every format gives the same totals."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from trtverify.grading import exports
from trtverify.grading.grade import Grade, GradedRow


def row(name: str, verdict: str, points: str, lab: str = "lab1", **more: Any) -> GradedRow:
    graded = verdict not in ("not gradable", "inconclusive")
    given = {
        "name": name,
        "test": f"tests/test_{lab}.py::{name}",
        "lab": lab,
        "verdict": verdict,
        "earned": Decimal(points) if verdict == "passed" else Decimal("0.00"),
        "possible": Decimal(points) if graded else Decimal("0.00"),
        "visibility": "visible",
        "message": "" if verdict == "passed" else f"expected: 1\nfound: <{verdict}> & \\x1b 中",
        "detail": f"expected: 1\nfound: <{verdict}> & \\x1b 中",
        "seconds": 0.5,
    }
    return GradedRow(**{**given, **more})


ANN = Grade(
    "ann",
    (
        row("test_a", "passed", "2.50"),
        row("test_b", "failed", "1.00"),
        row("test_c", "passed", "0.33", lab="lab4"),
        row("test_d", "not gradable", "4.00", lab="lab4"),
        row("test_e", "inconclusive", "4.00", lab="lab4"),
        row("test_f", "crash", "3.00", lab="lab5"),
        row("hidden check 1", "passed", "1.10", lab="", visibility="hidden"),
    ),
    {"lab1": Decimal("0.25"), "lab4": Decimal("0.03")},
    ("left out: x: a link",),
    True,
)
ZOE = Grade("zoe", (row("test_a", "not gradable", "2.50"),), {}, (), True)
EARNED, POSSIBLE = Decimal("3.65"), Decimal("7.93")


def read_gradescope(path: Path) -> tuple[float, float]:
    found = json.loads(path.read_text())
    assert set(found) <= {
        *("score", "execution_time", "output", "output_format", "test_output_format", "test_name_format"),
        *("visibility", "stdout_visibility", "extra_data", "tests", "leaderboard"),
    }
    visibilities = {"hidden", "after_due_date", "after_published", "visible"}
    for test in found["tests"]:
        assert set(test) <= {
            *("score", "max_score", "status", "name", "name_format", "number", "output", "output_format"),
            *("tags", "visibility", "extra_data"),
        }
        assert test["visibility"] in visibilities
        assert test.get("status", "passed") in {"passed", "failed"}
    assert found["visibility"] in visibilities
    assert found["stdout_visibility"] in visibilities
    assert found["output_format"] in {"text", "html", "simple_format", "md", "ansi"}
    assert sum(test["score"] for test in found["tests"]) == pytest.approx(found["score"])
    return found["score"], sum(test["max_score"] for test in found["tests"])


def read_github(path: Path) -> tuple[float, float]:
    # As notify-classroom.js adds up, and console-results.js reads name, status and message.
    found = json.loads(path.read_text())
    assert found["status"] in {"pass", "fail", "error"}
    assert all(test["status"] in {"pass", "fail", "error"} for test in found["tests"])
    assert all(isinstance(test[key], str) for test in found["tests"] for key in ("name", "message", "test_code"))
    return sum(test["score"] for test in found["tests"]), found["max_score"]


def read_autolab(path: Path) -> tuple[float, None]:
    feedback, autoresult = (json.loads(line) for line in path.read_text().splitlines())
    assert feedback["_presentation"] == "semantic"
    assert set(feedback["stages"]) == set(feedback) - {"_presentation", "stages"}
    assert set(autoresult) <= {"scores", "scoreboard"}
    assert all(isinstance(score, float) for score in autoresult["scores"].values())
    return sum(autoresult["scores"].values()), None


def read_prairielearn(path: Path) -> tuple[float, float]:
    assert path.stat().st_size <= 1_000_000
    found = json.loads(path.read_text())
    possible = sum(test["max_points"] for test in found["tests"])
    if not found["gradable"]:
        assert "score" not in found
        return 0.0, possible
    assert 0 <= found["score"] <= 1
    earned = sum(test["points"] for test in found["tests"])
    assert found["score"] == pytest.approx(earned / possible)
    return earned, possible


def read_junit(path: Path) -> tuple[float, float]:
    report: Any = JUnitXml.fromfile(str(path))
    (suite,) = list(report)
    properties = {entry.name: entry.value for entry in suite.properties()}
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) in {(7, 1, 1, 2), (1, 0, 0, 1)}
    return float(properties["earned"]), float(properties["possible"])


READERS: dict[str, tuple[str, Callable[[Path], tuple[float, float | None]]]] = {
    "gradescope": ("json", read_gradescope),
    "github-classroom": ("json", read_github),
    "autolab": ("txt", read_autolab),
    "prairielearn": ("json", read_prairielearn),
    "junit": ("xml", read_junit),
}


@pytest.mark.parametrize("name", READERS)
def test_every_format_gives_the_same_totals(tmp_path: Path, name: str) -> None:
    assert (ANN.earned, ANN.possible) == (EARNED, POSSIBLE)
    suffix, read = READERS[name]
    written = exports.FORMATS[name]([ANN, ZOE], tmp_path)
    assert written == [tmp_path / f"ann.{suffix}", tmp_path / f"zoe.{suffix}"]
    earned, possible = read(written[0])
    assert earned == pytest.approx(float(EARNED))
    assert possible is None or possible == pytest.approx(float(POSSIBLE))
    assert read(written[1])[0] == 0


def test_the_table_has_the_same_totals_and_no_formulas(tmp_path: Path) -> None:
    mallory = Grade("=cmd|'/c calc'!A0", (row("test_a", "failed", "1", detail="@SUM(A1)"),), {}, (), True)
    overview, checks = exports.FORMATS["csv"]([ANN, mallory], tmp_path)
    with overview.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert (Decimal(lines[0]["earned"]), Decimal(lines[0]["possible"])) == (EARNED, POSSIBLE)
    assert lines[1]["student"].startswith("'=")
    with checks.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(Decimal(line["earned"]) for line in rows) - ANN.penalty == EARNED
    assert rows[-1]["message"].startswith("'@")
    assert len(rows) == 8


def test_every_format_is_tried_here() -> None:
    assert {*READERS, "csv"} == set(exports.FORMATS)


def test_prairielearns_megabyte_holds_whatever_the_messages(tmp_path: Path) -> None:
    long = Grade("ann", tuple(row(f"t{n}", "failed", "1", message="中" * 4000) for n in range(900)), {}, (), True)
    (written,) = exports.FORMATS["prairielearn"]([long], tmp_path)
    assert read_prairielearn(written)[1] == 900


def test_hidden_checks_are_not_named_to_students(tmp_path: Path) -> None:
    secret = row("hidden check 1", "failed", "1", visibility="hidden", detail="seed 4711", message="a hint")
    secret = GradedRow(**{**vars(secret), "test": "hidden/test_prime.py::test_43"})
    for name in ("gradescope", "github-classroom", "autolab", "prairielearn"):
        (path,) = exports.FORMATS[name]([Grade("ann", (secret,), {}, (), True)], tmp_path / name)
        text = path.read_text()
        assert "a hint" in text
        assert "prime" not in text
        assert "4711" not in text
