"""Each export, read as its platform reads it: every format gives the same totals."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
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
        assert ("score" in test) == ("max_score" in test)
        assert test["status"] in {"passed", "failed"}
        assert "score" not in test or test["score"] < 0 or test["max_score"] > 0  # 0 of 0 would be shown as passed
    assert found["visibility"] in visibilities
    assert found["stdout_visibility"] in visibilities
    assert found["output_format"] in {"text", "html", "simple_format", "md", "ansi"}
    assert all(set(entry) <= {"name", "value", "order"} for entry in found["leaderboard"])
    if "score" not in found:
        return 0.0, 0.0
    assert sum(test.get("score", 0) for test in found["tests"]) == pytest.approx(found["score"])
    return found["score"], sum(test.get("max_score", 0) for test in found["tests"])


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
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) in {(7, 1, 1, 3), (1, 0, 0, 1)}
    return float(properties["earned"]), float(properties["possible"])


def table(path: Path) -> list[list[str]]:
    """The lines of a CSV file as a spreadsheet has them."""
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def read_canvas(path: Path) -> tuple[float, float]:
    """As `gradebook_importer.rb` finds its columns, and the first student's line."""
    lines = table(path)
    header = lines[0]
    assert "Student" in header[0]
    assert "ID" in header[1]
    assert (header[2], header[3], header[4]) == ("SIS User ID", "SIS Login ID", "Section")
    assert "Points Possible" in lines[1][0]
    assert all(len(line) == len(header) for line in lines)
    score = lines[2][5]
    return 0.0 if score == "EX" else float(score), float(lines[1][5])


def read_moodle(path: Path) -> tuple[float, float]:
    line = dict(zip(*table(path)[:2], strict=True))
    return float(line["TensorRT labs"] or 0), float(line["Maximum grade"])


READERS: dict[str, tuple[str, Callable[[Path], tuple[float, float | None]]]] = {
    "gradescope": ("json", read_gradescope),
    "github-classroom": ("json", read_github),
    "autolab": ("txt", read_autolab),
    "prairielearn": ("json", read_prairielearn),
    "junit": ("xml", read_junit),
    "canvas": ("csv", read_canvas),
    "moodle": ("csv", read_moodle),
}


@pytest.mark.parametrize("name", READERS)
def test_every_format_gives_the_same_totals(tmp_path: Path, name: str) -> None:
    assert (ANN.earned, ANN.possible) == (EARNED, POSSIBLE)
    suffix, read = READERS[name]
    if suffix == "csv":
        (written,) = exports.FORMATS[name]([ANN], tmp_path)
        assert read(written) == (float(EARNED), float(POSSIBLE))
        assert read(exports.FORMATS[name]([ZOE], tmp_path)[0])[0] == 0
        return
    files = exports.FORMATS[name]([ANN, ZOE], tmp_path)
    assert files == [tmp_path / f"ann.{suffix}", tmp_path / f"zoe.{suffix}"]
    earned, possible = read(files[0])
    assert earned == pytest.approx(float(EARNED))
    assert possible is None or possible == pytest.approx(float(POSSIBLE))
    assert read(files[1])[0] == 0


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


@pytest.mark.parametrize("visibility", ["hidden", "after_due_date", "after_published"])
@pytest.mark.parametrize("name", ["gradescope", "github-classroom", "autolab", "prairielearn", "junit"])
def test_hidden_checks_are_points_together(tmp_path: Path, name: str, visibility: str) -> None:
    """Neither name, nor message, nor which of them failed; Gradescope keeps rows back itself, by their visibility."""
    secrets = [
        row(
            f"hidden check {number}",
            verdict,
            "1.00",
            test="hidden/test_prime.py::test_43",
            visibility=visibility,
            detail="seed 4711",
            message="" if verdict == "passed" else "a few words",
        )
        for number, verdict in enumerate(("failed", "passed", "crash"), 1)
    ]
    ann = Grade("ann", tuple(secrets), {}, (), True)
    (path,) = exports.FORMATS[name]([ann], tmp_path / name)
    text = path.read_text()
    assert "prime" not in text
    assert "4711" not in text
    if name == "gradescope":
        assert {test["visibility"] for test in json.loads(text)["tests"]} == {visibility}
        assert json.loads(text)["leaderboard"] == [{"name": "points", "value": 0.0}]
        return
    assert "hidden checks: 3" in text
    assert "hidden check 1" not in text
    assert "a few words" not in text
    assert ann.shown[0].earned == Decimal("1.00")


def test_a_deduction_is_in_every_format(tmp_path: Path) -> None:
    """What a gate takes is said with its reason wherever points are added up."""
    capped = Grade("ann", ANN.rows, {}, (), True, {"lab1": Decimal("2.00")}, {"lab1": "an essential check failed"})
    for name in ("gradescope", "github-classroom", "autolab", "prairielearn", "junit"):
        (path,) = exports.FORMATS[name]([capped], tmp_path / name)
        text = path.read_text()
        assert "an essential check failed" in text
        assert READERS[name][1](path)[0] == pytest.approx(1.93)


STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", " =", "\u3000\uff1d", "\t=", "\r\n+")


@pytest.mark.parametrize("start", STARTS)
def test_no_cell_is_a_formula(tmp_path: Path, start: str) -> None:
    """However it begins, in every table that is written."""
    eve = Grade(f"{start}1+1", (row("test_a", "failed", "1.00", detail=f"{start}2"),), {}, (), True)
    for name in ("csv", "canvas", "moodle"):
        for path in exports.FORMATS[name]([eve], tmp_path / name):
            cells = [cell for line in table(path) for cell in line]
            assert any(cell.startswith(f"'{start}") for cell in cells)
            assert not [cell for cell in cells if cell.startswith(start) and len(cell) > len(start)]


# Jenkins' junit-10.xsd (jenkinsci/xunit-plugin), written down: element → its attributes (! if required), its children.
XSD: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name!", "tests!", "failures!", "errors!", "group", "time", "skipped", "timestamp", "hostname", "id"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name!", "value!"}, set()),
    "testcase": ({"name!", "time", "classname", "group"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    **dict.fromkeys(("failure", "error", "skipped"), ({"type", "message"}, set())),
}
SUREFIRE_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def against_xsd(element: ElementTree.Element) -> None:
    """Hold an element and all below it against the schema."""
    attributes, children = XSD[element.tag]
    known = {name.rstrip("!") for name in attributes}
    assert set(element.attrib) <= known, element.tag
    assert {name[:-1] for name in attributes if name.endswith("!")} <= set(element.attrib)
    if element.tag.startswith("testsuite"):
        assert SUREFIRE_TIME.fullmatch(element.attrib.get("time", ""))
    for child in element:
        assert child.tag in children
        against_xsd(child)


def test_junit_is_valid_against_jenkins_schema(tmp_path: Path) -> None:
    """Its rules, written down from the published schema; a suite's time is never 1e-05."""
    quick = Grade("quick", (row("test_a", "passed", "1.00", seconds=1e-5),), {"lab1": Decimal("0.10")}, (), True)
    for path in exports.FORMATS["junit"]([ANN, ZOE, quick], tmp_path):
        against_xsd(ElementTree.parse(path).getroot())
    with pytest.raises(AssertionError):
        against_xsd(ElementTree.fromstring('<testsuites skipped="1"/>'))
