"""Points: one total for everybody, a lab's worth whatever this machine can run, gates, and rounding once."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtverify.grading import grade, rubric
from trtverify.grading.grade import Grade
from trtverify.grading.store import Expected, Store, Student
from trtverify.grading.worth import points
from trtverify.grading.worth.rules import Gate, Rubric, Rule

VERDICTS = ("passed", "failed", "crash", "inconclusive", "not gradable", "pending")
CLASSES = st.lists(
    st.tuples(
        st.sampled_from(("lab1", "lab2", "")),
        st.integers(0, 6),
        st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=8,
)


def drawn_class(drawn: list[tuple[str, int, list[str]]]) -> tuple[list[Expected], list[tuple[str, str, str]]]:
    """Tests with their cases, and one student's (test, lab, verdict)."""
    tests, rows = [], []
    for number, (lab, worth, verdicts) in enumerate(drawn):
        for case, verdict in enumerate(verdicts):
            test = f"tests/test_{lab}.py::test_{number}[{case}]"
            tests.append(Expected(test, lab, float(worth)))
            rows.append((test, lab, verdict))
    return tests, rows


@given(CLASSES, st.sampled_from((None, Decimal(100), Decimal("0.07"), Decimal("33.33"))))
@settings(max_examples=150, deadline=None)
def test_everybody_has_the_same_total(drawn: list[tuple[str, int, list[str]]], total: Decimal | None) -> None:
    """Or 0, where nothing at all was graded; and cents add up to exact sums that were rounded once."""
    tests, rows = drawn_class(drawn)
    whole = points.worth(tests, Rubric(total=total))
    shares = points.possible(whole, rows)
    assert sum(shares) in (0, whole.total)
    passed = [verdict == "passed" for _test, _lab, verdict in rows]
    found = points.cents(shares, lambda index: passed[index])
    assert sum(found) == points.rounded(sum(shares, Fraction(0)))
    earned = sum((share for share, won in zip(shares, passed, strict=True) if won), Fraction(0))
    assert sum(cents for cents, won in zip(found, passed, strict=True) if won) == points.rounded(earned)
    assert all(abs(cents - 100 * share) <= 1 and cents >= 0 for cents, share in zip(found, shares, strict=True))
    graded = [verdict not in points.NOT_GRADED for _test, _lab, verdict in rows]
    if all(won for won, judged in zip(passed, graded, strict=True) if judged):
        assert earned == sum(shares), "what could not be graded cost something"


@given(CLASSES, st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_more_cases_are_worth_no_more(drawn: list[tuple[str, int, list[str]]], more: int) -> None:
    """A machine with more backends has more cases, and no lab is worth more there."""
    few = points.worth(drawn_class(drawn)[0], Rubric(total=Decimal(100)))
    larger = [(lab, worth, verdicts * (1 + more)) for lab, worth, verdicts in drawn]
    many = points.worth(drawn_class(larger)[0], Rubric(total=Decimal(100)))
    assert few.labs == many.labs


def test_a_tests_points_stay_with_it() -> None:
    """Cases that cannot run here give theirs to the test's other cases, and only a test without any to the lab."""
    tests = [Expected(f"t.py::test_a[{case}]", "lab1", 3.0) for case in "xyz"] + [Expected("t.py::test_b", "lab1", 1.0)]
    whole = points.worth(tests, Rubric())
    verdicts = ("passed", "not gradable", "not gradable", "failed")
    rows = [(test.test, "lab1", verdict) for test, verdict in zip(tests, verdicts, strict=True)]
    assert points.possible(whole, rows) == [3, 0, 0, 1]
    rows[0] = (rows[0][0], "lab1", "inconclusive")
    assert points.possible(whole, rows) == [0, 0, 0, 4]


def graded(tmp_path: Path, given: Rubric, verdicts: dict[str, str], files: tuple[str, ...] = ()) -> Grade:
    """One student's grade; the tests are named lab:name and worth 1 each."""
    store = Store(tmp_path / "out", create=True)
    named = (test.partition(":") for test in verdicts)
    tests = [Expected(f"tests/test_{lab}.py::test_{name}", lab, 1.0) for lab, _colon, name in named]
    store.expect([Student("ann", "/x", 0.0)], tests, {})
    store.taken("ann", "d1", [], "s1")
    for test, verdict in zip(tests, verdicts.values(), strict=True):
        store.record("d1", "s1", test.test, verdict, "said", 0.1)
    if files:
        (tmp_path / "out" / "snapshots" / "d1").mkdir(parents=True)
        for name in files:
            (tmp_path / "out" / "snapshots" / "d1" / name).touch()
    (ann,) = grade.grades(store, given)
    store.close()
    return ann


WRONG = {"lab1:essential": "failed", **{f"lab1:{n}": "passed" for n in range(9)}, "lab2:a": "passed"}
GATES = {"lab1": (Gate("test_lab1.py::test_essential", Decimal("0.2")),)}


@pytest.mark.parametrize(("verdict", "earned"), [("failed", "3.00"), ("crash", "3.00"), ("passed", "11.00")])
def test_an_essential_check_caps_its_lab(tmp_path: Path, verdict: str, earned: str) -> None:
    """Wrong work with nine easy checks passed earns a fifth of the lab, and the other lab's points stay."""
    ann = graded(tmp_path, Rubric(gates=GATES), {**WRONG, "lab1:essential": verdict})
    assert (str(ann.earned), str(ann.possible)) == (earned, "11.00")
    if verdict != "passed":
        (taken,) = ann.deductions
        assert (taken.lab, str(taken.points)) == ("lab1", "7.00")
        assert "20% of this lab at most, since this failed: test_lab1: test_essential" in taken.message


@pytest.mark.parametrize("verdict", ["not gradable", "inconclusive", "pending"])
def test_what_was_not_judged_caps_nothing(tmp_path: Path, verdict: str) -> None:
    ann = graded(tmp_path, Rubric(gates=GATES), {**WRONG, "lab1:essential": verdict})
    assert not ann.caps


def test_a_hidden_gate_is_not_named(tmp_path: Path) -> None:
    hide = Rule("test_lab1.py::test_essential", visibility="hidden")
    ann = graded(tmp_path, Rubric(gates=GATES, rules=(hide,)), WRONG)
    assert "essential" not in ann.deductions[0].message


@pytest.mark.parametrize(
    ("files", "earned"),
    [(("notes.txt",), "1.00"), (("resnet50.onnx",), "10.00"), (("lab1_export.py",), "10.00"), ((), "10.00")],
)
def test_nothing_handed_in_earns_nothing(tmp_path: Path, files: tuple[str, ...], earned: str) -> None:
    """Where a lab's own files are all missing; where the snapshot is gone (no files here), that is not known."""
    ann = graded(tmp_path, Rubric(files={"lab1": ("resnet50*", "lab1_*.py")}), WRONG, files)
    assert str(ann.earned) == earned
    if earned == "1.00":
        assert ann.deductions[0].message == "nothing was handed in for this lab"


def test_rounding_is_once_at_the_end(tmp_path: Path) -> None:
    """Thirds of a point, seven of them with weights: no cent is lost or won on the way."""
    verdicts = {f"lab1:{n}": "passed" if n < 2 else "failed" for n in range(7)}
    ann = graded(tmp_path, Rubric(total=Decimal(1), weights={"lab1": Decimal(3)}), verdicts)
    assert (str(ann.earned), str(ann.possible)) == ("0.29", "1.00")  # 2/7, where two rounded sevenths are 0.28
    assert [str(row.earned) for row in ann.rows[:2]] == ["0.15", "0.14"]


def test_the_default_rubric_fits_the_suite() -> None:
    """Each of its gates is a test of the lab that it stands under, and each lab has one."""
    line = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"]
    root = rubric.DEFAULT.parents[1]
    said = subprocess.run(line, cwd=root, capture_output=True, text=True, check=True).stdout
    found = [Expected(test, f"lab{lab}", 1.0) for test, lab in re.findall(r"^(tests/test_lab(\d)_.*::.*)$", said, re.M)]
    default = rubric.load(rubric.DEFAULT)
    default.check(found)
    assert set(default.gates) == set(default.files) == {f"lab{number}" for number in range(1, 6)}
