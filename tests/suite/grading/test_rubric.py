"""The rubric: what it says of points, lateness, visibility and hints, and what it refuses."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import HONEST, TOY, Class
from trtverify.grading import grade, rubric
from trtverify.grading.asked import values
from trtverify.grading.sandbox.limits import Limits
from trtverify.grading.store import Expected, Store, Student
from trtverify.grading.worth import rules

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
    assert default.total is None
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
        ("total = 0", "total should be above 0"),
        ("total = 1.234", "total should be above 0"),
        ("total = 'x'", "total should be a number"),
        ("[labs.lab6]\nweight = 1", "labs.lab6 is unknown"),
        ("[labs]\nlab1 = 2", "labs.lab1 should be a table"),
        ("labs = 1", "labs should be a table"),
        ("tests = 'x'", "tests should be a list of tables"),
        ("[tests]\nmatch = 'x'", "tests should be a list of tables"),
        ("[[tests]]\nmatch = ''", "tests (entry 1) needs"),
        ("[[tests]]\nmatch = 'x'\npoints = '3'", "tests (entry 1).points"),
        ("[[tests]]\nmatch = 'x'\nhint = 3", "tests (entry 1).hint"),
        ("[[tests]]\nmatch = 'x'\nworth = 3", "tests (entry 1).worth"),
        ("[labs.lab1]\ngates = 'x'", "labs.lab1.gates should be a list"),
        ("[labs.lab1]\ngates = [{ at_most = 1 }]", "labs.lab1.gates (entry 1) needs"),
        ("[labs.lab1]\ngates = [{ match = 'x', at_most = 2 }]", "labs.lab1.gates (entry 1).at_most"),
        ("[labs.lab1]\ngates = [{ match = 'x', most = 1 }]", "labs.lab1.gates (entry 1).most"),
        ("[labs.other]\ngates = []", "labs.other"),
        ("[labs.lab1]\nfiles = 'x'", "labs.lab1.files should be a list of texts"),
        ("[labs.lab1]\ndeadline = 2026-12-01", "labs.lab1.deadline"),
        ("[scripts]\nlab9 = []", "scripts.lab9 is unknown"),
        ("[limits.tests]\nwall_seconds = '5'", "limits.tests.wall_seconds should be a number"),
        ("[limits.tests]\nwall_seconds = inf", "limits.tests.wall_seconds should be a number"),
        ("[limits.tests]\nprocesses = true", "limits.tests.processes should be a whole number"),
        ("[limits.scripts]\nmemory_bytes = 1.5", "limits.scripts.memory_bytes should be a whole number"),
        ("[late]\ngrace_minutes = nan", "late.grace_minutes"),
        ("[limits.tests]\nwall_seconds = 0.001", "limits.tests.wall_seconds should be a number from 1 to 604,800"),
        ("[limits.tests]\nmemory_bytes = 4096", "limits.tests.memory_bytes should be a number from"),
        ("[limits.scripts]\nprocesses = 99999999999999999999", "limits.scripts.processes should be a number from"),
    ],
)
def test_a_wrong_rubric_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(rubric.RubricError) as refusal:
        load(tmp_path, text)
    assert named in str(refusal.value)


def test_every_limit_has_bounds_that_its_default_keeps(tmp_path: Path) -> None:
    for key, value in dataclasses.asdict(Limits()).items():
        assert getattr(load(tmp_path, f"[limits.tests]\n{key} = {value}").test_limits, key) == value
        with pytest.raises(rubric.RubricError, match=f"limits.tests.{key} should be a number from"):
            load(tmp_path, f"[limits.tests]\n{key} = {10**30}")


def test_what_a_rubric_does_not_say_stays_as_shipped(tmp_path: Path) -> None:
    shipped = rubric.load(rubric.DEFAULT)
    path = tmp_path / "mine.toml"

    def beside(text: str) -> rubric.Rubric:
        path.write_text(text)
        return rubric.load(path, rubric.DEFAULT)

    assert beside("") == shipped
    assert beside("[labs.lab3]\nweight = 1.0\n") == shipped
    heavier = beside("[labs.lab3]\nweight = 2\nfiles = []\n[late]\nper_day = 0.2\n[limits.tests]\nprocesses = 99\n")
    assert (heavier.weights["lab3"], heavier.weights["lab1"]) == (Decimal(2), Decimal(1))
    assert (heavier.gates, heavier.files["lab3"]) == (shipped.gates, ())
    assert heavier.files["lab1"] == shipped.files["lab1"]
    assert heavier.late == dataclasses.replace(shipped.late, per_day=Decimal("0.2"))
    assert heavier.test_limits == dataclasses.replace(shipped.test_limits, processes=99)
    off = beside("[labs.lab1]\ngates = []\n")
    assert off.gates == {**shipped.gates, "lab1": ()}
    with pytest.raises(rubric.RubricError, match=r"mine\.toml: labs\.lab1\.wheight is unknown"):
        beside("[labs.lab1]\nwheight = 1\n")


def test_a_run_with_a_partial_rubric_keeps_the_gates_of_its_tests(
    a_class: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the tests that are run, and with `resume` and `export` as with `run`."""
    suite = tmp_path / "suite"
    shutil.copytree(TOY, suite, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("tests.suite.grading.toy_class.TOY", suite)
    gate = "[labs.lab1]\ngates = [{ match = 'test_answer', at_most = 0 }]\n"
    (suite / "rubric.toml").write_text(gate + "[late]\nper_day = 0.5\n")
    (tmp_path / "mine.toml").write_text("[labs.lab1]\nweight = 1.0\ndeadline = 2020-01-01T00:00:00Z\n")
    a_class.hand_in("ann", {"answer.json": {**HONEST, "answer": 41}, "parsed.txt": b"fine"})
    a_class.hand_in("bob")
    said = a_class("run", "--rubric", str(tmp_path / "mine.toml"))
    assert "no penalty" not in said.stderr
    shown = a_class("show", "ann").stdout
    assert "lab capped" in shown
    assert "handed in late" in a_class("show", "bob").stdout
    assert "was" not in a_class("run").stderr.replace("was made", "")
    (suite / "rubric.toml").unlink()
    assert "rubric.toml" in a_class("show", "ann", status=2).stderr


def test_a_deadline_that_costs_nothing_is_said(a_class: Class, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[labs.lab1]\ndeadline = 2020-01-01T00:00:00Z\n")
    a_class.hand_in("ann")
    said = a_class("run", "--rubric", str(tmp_path / "mine.toml")).stderr
    assert "there is a deadline, and no penalty for missing it" in said
    assert "lateness costs nothing" in a_class("show", "ann").stdout
    (tmp_path / "mine.toml").write_text("[labs.lab1]\ndeadline = 2020-01-01T00:00:00Z\n[late]\nper_day = 0.1\n")
    assert "no penalty" not in a_class("run").stderr
    assert "lateness costs nothing" not in a_class("show", "ann").stdout


@pytest.mark.parametrize("points", ["-1", "float('nan')", "'3'", "True"])
def test_a_tests_own_points_are_a_number_from_0(
    a_class: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str
) -> None:
    suite = tmp_path / "suite"
    shutil.copytree(TOY, suite, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("tests.suite.grading.toy_class.TOY", suite)
    odd = f"import pytest\n\n@pytest.mark.lab1\n@pytest.mark.points({points})\ndef test_odd():\n    pass\n"
    (suite / "tests" / "test_lab1_odd.py").write_text(odd)
    a_class.hand_in("ann")
    said = a_class("run", status=2).stderr
    assert "tests/test_lab1_odd.py::test_odd: points should be a number from 0" in said


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "sNaN", "-1", "0", "0.001", "1e9", "1e999999999", "x", ""])
def test_a_scale_that_is_no_number_of_points_is_misuse(a_class: Class, scale: str) -> None:
    with pytest.raises(SystemExit) as ended:
        a_class("run", f"--scale={scale}")
    assert ended.value.code == 2
    assert values.points("20.005") == Decimal("20.00")


IDS = [
    "tests/test_lab1_a.py::TestA::test_one[2]",
    "tests/test_lab1_a.py::TestA::test_one[x-2]",
    "hidden/test_h.py::test_h",
]
TESTS = [Expected(test, "lab1" if "lab1" in test else "", 1.0) for test in IDS]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("::test_one[2]", [0]),
        ("::test_one[?]", [0]),
        ("test_one*", [0, 1]),
        ("test_one[*2]", [0, 1]),
        ("[x-2]", [1]),
        ("test_lab1_a.py::*", [0, 1]),
        ("[!x]", []),
        ("test_one", []),
        ("hidden/*", [2]),
    ],
)
def test_brackets_mean_themselves(pattern: str, found: list[int]) -> None:
    assert [number for number, test in enumerate(IDS) if rules.matches(pattern, test)] == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[tests]]\nmatch = 'test_one'", "tests (entry 1): 'test_one' matches no test; 'test_one*' would match"),
        ("[[tests]]\nmatch = 'test_lab1_a.py::test_one[2]'", "'test_lab1_a.py::*test_one[2]' would match"),
        ("[[tests]]\nmatch = 'test_two*'", "tests (entry 1): 'test_two*' matches no test"),
        ("[labs.lab1]\ngates = [{ match = 'test_two' }]", "labs.lab1.gates (entry 1): 'test_two' matches no test"),
        ("[labs.lab2]\ngates = [{ match = 'test_one*' }]", "labs.lab2.gates (entry 1): 'test_one*' matches no test"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(rubric.RubricError) as refusal:
        load(tmp_path, text).check(TESTS)
    assert said in str(refusal.value)
    load(tmp_path, "[[tests]]\nmatch = 'test_one*'\n[labs.lab1]\ngates = [{ match = 'test_one[2]' }]").check(TESTS)


def test_checks_of_no_lab_are_due_with_the_last(tmp_path: Path) -> None:
    """Unless `other` has a deadline of its own; without any, never."""
    text = "[labs.lab1]\ndeadline = 2026-12-01T12:00:00Z\n[labs.lab2]\ndeadline = 2026-12-08T12:00:00Z\n"
    text += "[late]\nper_day = 0.1\n"
    after = DEADLINE + datetime.timedelta(days=2, hours=1)
    assert load(tmp_path, text).penalty("", after) == 0
    assert load(tmp_path, text).penalty("", after + datetime.timedelta(days=6)) == Decimal("0.2")
    own = text + "[labs.other]\ndeadline = 2026-12-01T12:00:00Z\n"
    assert load(tmp_path, own).penalty("", after) == Decimal("0.3")
    assert load(tmp_path, "").penalty("", after) == 0


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
