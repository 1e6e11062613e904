"""The rubric: what it says of points, lateness, visibility and hints, and what it refuses."""

from __future__ import annotations

import dataclasses
import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from trtverify.grading import grade, rubric
from trtverify.grading.store import Expected, Store, Student

DEADLINE = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.timezone.utc)
TEXT = """
[labs.lab1]
weight = 2.0
deadline = 2026-12-01T12:00:00Z
[late]
per_day = 0.1
at_most = 0.25
grace_minutes = 10
[[tests]]
match = "test_a.py::test_one"
points = 3
hint = "look at the input"
[[tests]]
match = "::test_two*"
visibility = "after_published"
"""


def load(tmp_path: Path, text: str) -> rubric.Rubric:
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    return rubric.load(path)


def test_the_default_rubric_loads_and_changes_nothing() -> None:
    default = rubric.load(rubric.DEFAULT)
    assert set(default.weights.values()) == {Decimal("1.0")}
    assert default.rules == ()
    assert default.test_limits.wall_seconds == 900


@pytest.mark.parametrize(
    ("late", "share"),
    [
        (datetime.timedelta(0), "0"),
        (datetime.timedelta(minutes=10), "0"),
        (datetime.timedelta(minutes=11), "0.1"),
        (datetime.timedelta(days=1, minutes=10), "0.1"),
        (datetime.timedelta(days=1, minutes=11), "0.2"),
        (datetime.timedelta(days=9), "0.25"),
    ],
)
def test_lateness_costs_by_the_day_begun(tmp_path: Path, late: datetime.timedelta, share: str) -> None:
    given = load(tmp_path, TEXT)
    assert given.penalty("lab1", DEADLINE + late) == Decimal(share)
    assert given.penalty("lab2", DEADLINE + late) == 0


def test_points_weights_penalties_and_hints_reach_the_grade(tmp_path: Path) -> None:
    store = Store(tmp_path / "out", create=True)
    tests = [Expected(f"tests/test_a.py::test_{name}", "lab1", 1.0) for name in ("one", "two[x]", "three")]
    late = (DEADLINE + datetime.timedelta(hours=5)).timestamp()
    store.expect([Student("ann", "/x", late)], [*tests, Expected("hidden/test_h.py::test_h", "", 1.0, True)], {})
    store.taken("ann", "d1", [], "s1")
    store.record("d1", "s1", tests[0].test, "failed", "found: 3", 0.1)
    store.record("d1", "s1", tests[1].test, "failed", "found: 4", 0.1)
    store.record("d1", "s1", tests[2].test, "passed", "", 0.1)
    (ann,) = grade.grades(store, load(tmp_path, TEXT))
    assert not ann.complete
    assert [(row.name, str(row.earned), str(row.possible), row.visibility) for row in ann.rows] == [
        ("test_a: test_one", "0.00", "6.00", "visible"),
        ("hidden check 1", "0.00", "2.00", "after_published"),
        ("test_a: test_three", "2.00", "2.00", "visible"),
        ("hidden check 2", "0.00", "1.00", "hidden"),
    ]
    assert ann.rows[0].message == "look at the input"
    assert ann.rows[0].detail == "found: 3"
    assert "4" not in ann.rows[1].message
    assert ann.penalty == Decimal("0.20")
    assert ann.earned == Decimal("1.80")
    store.close()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lab = 1", "lab is unknown"),
        ("[labs.lab1]\nwheight = 1", "labs.lab1.wheight"),
        ("[labs.lab1]\nweight = -1", "labs.lab1.weight"),
        ("[labs.lab1]\nweight = nan", "labs.lab1.weight"),
        ("[labs.lab1]\ndeadline = 2026-12-01T12:00:00", "labs.lab1.deadline"),
        ("[labs.lab1]\nresource = 'gpu 0'", "labs.lab1.resource"),
        ("[[tests]]\nmatch = 'x'\nresource = 1", "tests (entry 1).resource"),
        ("[late]\nper_day = 2", "late.per_day"),
        ("[[tests]]\npoints = 2", "tests (entry 1)"),
        ("[[tests]]\nmatch = 'x'\nvisibility = 'secret'", "tests (entry 1).visibility"),
        ("[limits.tests]\nwall_seconds = 0", "limits.tests"),
        ("[limits.tests]\nwalls = 1", "limits.tests.walls"),
        ("[scripts]\nlab4 = 'x'", "scripts.lab4"),
        ("[labs", "rubric.toml"),
    ],
)
def test_a_wrong_rubric_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(rubric.RubricError) as refusal:
        load(tmp_path, text)
    assert named in str(refusal.value)


def test_a_rule_that_says_nothing_of_a_key_leaves_it(tmp_path: Path) -> None:
    given = load(tmp_path, TEXT + '[[tests]]\nmatch = "test_one"\nvisibility = "hidden"\n')
    rule = given.rule("tests/test_a.py::test_one", hidden=False)
    assert dataclasses.asdict(rule) == {
        "match": "tests/test_a.py::test_one",
        "points": Decimal(3),
        "visibility": "hidden",
        "hint": "look at the input",
        "resource": None,
    }


@pytest.mark.parametrize(
    ("test", "lab", "otherwise", "needed"),
    [
        ("tests/test_a.py::test_one", "lab1", None, "JETSON_ORIN_NANO"),
        ("tests/test_a.py::test_one", "lab2", None, None),
        ("tests/test_a.py::test_one", "lab2", "GPU", "GPU"),
        ("tests/test_a.py::test_timed", "lab2", None, "GPU"),
        ("tests/test_a.py::test_parity", "lab1", "GPU", None),
    ],
)
def test_what_a_test_needs_is_named_by_lab_or_rule(
    tmp_path: Path, test: str, lab: str, otherwise: str | None, needed: str | None
) -> None:
    text = '[labs.lab1]\nresource = "JETSON_ORIN_NANO"\n'
    text += '[[tests]]\nmatch = "test_timed"\nresource = "GPU"\n[[tests]]\nmatch = "test_parity"\nresource = ""\n'
    assert load(tmp_path, text).resource(test, lab, otherwise) == needed
