"""Whatever is injected into one unit, all others end with the verdicts that they have without it."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.suite.grading.faults import STRIKES, Fault, Faulty
from tests.suite.grading.test_run import ALL_PASSED
from tests.suite.grading.toy_class import HONEST, Class, Said
from trtverify.grading import session
from trtverify.grading.taking import archives
from trtverify.grading.taking.intake import Snapshots
from trtverify.grading.work import Event, Take

STUDENTS = ("ann", "bob", "cyd")
SLACK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def three(a_class: Class, tmp_path: Path) -> Class:
    """Three students with different work, one with a script."""
    for number, student in enumerate(STUDENTS):
        a_class.hand_in(student, {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"fine"})
    script = b"open('/sandbox/work/resnet50.onnx', 'w').write('made')"
    (a_class.submissions / "cyd" / "lab1_export_resnet50.py").write_bytes(script)
    return a_class


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """New folders, one for each example."""
    return (tmp_path / f"example{number}" for number in itertools.count())


def digest_of(a_class: Class, student: str, scratch: Path) -> str:
    return archives.take(a_class.submissions / student, Snapshots(scratch)).digest


def struck(three: Class, fault: Fault, place: Path, monkeypatch: pytest.MonkeyPatch, status: int | None = 0) -> Said:
    """Grade with a fault in one unit."""
    marks = place / "marks"
    marks.mkdir(parents=True)
    three.out = place / "results"
    with monkeypatch.context() as patch:
        patch.setattr(session, "Workshop", functools.partial(Faulty, fault=fault, marks=marks))
        said = three("run", "--workers", "2", status=status)
    assert list(marks.iterdir()), "it never struck"
    return said


def check(three: Class, fault: Fault, whose: str, said: Said) -> None:
    found = three.verdicts()
    assert {student: found[student] for student in STUDENTS if student != whose} == {
        student: ALL_PASSED for student in STUDENTS if student != whose
    }
    assert set(found) == set(STUDENTS)
    assert "pending" not in found[whose].values()
    assert said.status == ("set aside" in said.stdout), "what has no verdict is no success"
    if found[whose] != ALL_PASSED:
        assert f"{whose}: " in said.stdout or "crash" in found[whose].values(), "it is not named"
    if fault.times == 1:
        assert "failed" not in found[whose].values(), "a passing trouble costs nobody a point"
    assert "\x1b" not in said.stdout + said.stderr


FAULTS = st.tuples(
    st.sampled_from(sorted(STRIKES)),
    st.sampled_from(STUDENTS),
    st.sampled_from(["take", "grade"]),
    st.integers(0, 9),
    st.sampled_from([1, 1000]),
)


def property_of(
    three: Class, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch, chosen: tuple[str, str, str, int, int]
) -> None:
    strike, whose, stage, after, times = chosen
    place = next(places)
    if stage == "take":
        fault = Fault(strike, student=whose, after=after % 1, times=times)
    else:
        # The first event is what scripts made; each of the six tests begins and ends; the last is the end.
        fault = Fault(strike, digest=digest_of(three, whose, place / "scratch"), after=after, times=times)
    check(three, fault, whose, struck(three, fault, place, monkeypatch, status=None))


@given(chosen=FAULTS)
@example(chosen=("FileExistsError", "cyd", "grade", 0, 1000))
@example(chosen=("killed", "ann", "grade", 3, 1000))
@example(chosen=("delay", "bob", "take", 0, 1000))
@settings(SLACK, max_examples=3)
def test_one_unit_never_decides_another(
    three: Class, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch, chosen: tuple[str, str, str, int, int]
) -> None:
    property_of(three, places, monkeypatch, chosen)


@pytest.mark.slow
@given(chosen=FAULTS)
@settings(SLACK, max_examples=60)
def test_one_unit_never_decides_another_at_length(
    three: Class, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch, chosen: tuple[str, str, str, int, int]
) -> None:
    property_of(three, places, monkeypatch, chosen)


def test_what_was_set_aside_is_tried_again_by_resume(
    three: Class, places: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = struck(three, Fault("RuntimeError", student="ann"), next(places), monkeypatch, status=1)
    assert "set aside, and tried again by `resume`: ann: " in said.stdout
    assert "6 set aside" in said.stdout
    assert "not finished: 6 of 18 checks" in said.stderr
    assert set(three.verdicts()["ann"].values()) == {"not gradable"}
    page = (three.out / "report" / "index.html").read_text()
    assert "(set aside)" in page
    assert "set aside: it could not be graded yet" in (three.out / "report" / "students" / "ann.html").read_text()
    assert "ann: 0.00 of 9.00 points" in three("show", "ann", status=1).stdout
    assert "1 students have no verdict on every check yet (ann)" in three("export", status=1).stderr
    three("export", "--partial")
    table = csv.DictReader(io.StringIO((three.out / "exports/csv/class.csv").read_text(encoding="utf-8-sig")))
    assert {line["student"]: (line["possible"], line["complete"]) for line in table} == {
        "ann": ("9.00", "no"),
        "bob": ("9.00", "yes"),
        "cyd": ("9.00", "yes"),
    }
    three("resume")
    assert three.verdicts() == dict.fromkeys(STUDENTS, ALL_PASSED)
    assert "(set aside)" not in (three.out / "report" / "index.html").read_text()
    three("export")


def test_if_nothing_can_be_graded_the_run_says_so(
    a_class: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        a_class.hand_in(f"s{number}", {"answer.json": {**HONEST, "n": number}})
    monkeypatch.setattr(session, "Workshop", functools.partial(Nobody, fault=Fault("RuntimeError"), marks=tmp_path))
    assert "the cause is not in the submissions" in a_class("run", status=2).stderr


@dataclasses.dataclass(frozen=True)
class Nobody(Faulty):
    """Every unit breaks."""

    def _take(self, unit: Take, send: Callable[[Event], None]) -> None:
        raise RuntimeError("this machine")


def test_files_where_folders_are_to_be_and_more_than_can_be(a_class: Class) -> None:
    ok = b"open('/sandbox/work/resnet50.onnx', 'w').write('made')"
    a_class.hand_in("ann")
    work = {"answer.json": HONEST, "parsed.txt": b"fine"}
    a_class.hand_in("file", {**work, "lab1_export_resnet50.py": ok, "lab1": b"a file"})
    folder = b"import os; os.makedirs('/sandbox/work/answer.json/x')"
    a_class.hand_in("folder", {"lab1_export_resnet50.py": folder, "parsed.txt": b"fine", "lab1/answer.json": HONEST})
    many = b"for i in range(2600): open(f'/sandbox/work/{i}', 'w').close()"
    a_class.hand_in("many", {**work, "lab1_export_resnet50.py": many, **{f"d/{i}": b"" for i in range(2600)}})
    a_class("run", "--workers", "2")
    assert a_class.verdicts() == dict.fromkeys(("ann", "file", "folder", "many"), ALL_PASSED)
    assert "lab1/resnet50.onnx: what was handed in stands" in a_class("show", "file").stdout
    assert "lab1/answer.json: what was handed in stands" in a_class("show", "folder").stdout
