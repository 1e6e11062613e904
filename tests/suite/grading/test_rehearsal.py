"""The rehearsal's own parts: a changed byte is seen, what a stopwatch says is not, and every layout can be listed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rehearsal import hostile, people, platforms, table
from benchmarks.rehearsal.compare import Named, differences
from benchmarks.rehearsal.work import CHECKS
from tests.suite.grading.sample_class import sample_class
from trtverify.grading import exports, pupils
from trtverify.grading.grade import Grade, GradedRow
from trtverify.grading.taking.roster import Person

FILES = {
    *("gradescope", "github-classroom", "autolab", "prairielearn", "junit"),
    *("csv/class.csv", "csv/checks.csv", "canvas/gradebook.csv", "moodle/gradebook.csv"),
}


def grades(count: int = 4) -> list[Grade]:
    """A class whose roster calls everybody otherwise than their folders."""
    return [dataclasses.replace(one, person=Person(name=f"name of {one.student}")) for one in sample_class(count)]


def written(results: Sequence[Grade], folder: Path) -> Path:
    """All exports."""
    for name, write in exports.FORMATS.items():
        write(results, folder / name)
    return folder


def pairs(results: Sequence[Grade]) -> list[tuple[Named, Named]]:
    """Everybody, called alike in both runs."""
    return [(Named(one.student, f"name of {one.student}"),) * 2 for one in results]


def with_rows(one: Grade, change: Callable[[GradedRow], GradedRow]) -> Grade:
    """A grade whose rows are changed."""
    return dataclasses.replace(one, rows=tuple(change(row) for row in one.rows))


def test_neither_durations_nor_other_students_are_differences(tmp_path: Path) -> None:
    honest = grades()
    slower = [with_rows(one, lambda row: dataclasses.replace(row, seconds=row.seconds * 7 + 1)) for one in honest]
    hostile_one = dataclasses.replace(sample_class(5, seed=3)[4], student="eve")
    whole = written([*slower[2:], hostile_one, *slower[:2]], tmp_path / "whole")
    assert differences(written(honest, tmp_path / "honest"), whole, pairs(honest)) == []


def test_a_point_is_seen_in_every_export(tmp_path: Path) -> None:
    honest = grades()
    first = next(row.test for row in honest[1].rows if row.verdict == "passed" and row.visibility == "visible")
    cent = Decimal("0.01")

    def change(row: GradedRow) -> GradedRow:
        return dataclasses.replace(row, earned=row.earned - cent) if row.test == first else row

    whole = [with_rows(one, change) if one is honest[1] else one for one in honest]
    found = differences(written(honest, tmp_path / "a"), written(whole, tmp_path / "b"), pairs(honest))
    assert {one.student for one in found} == {honest[1].student}
    # JUnit has points in all of a student, and none of a check.
    assert {one.file for one in found} == FILES


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_byte_is_seen(tmp_path: Path, seed: int) -> None:
    """In any file of any student's, anywhere but in a duration; and one that is missing."""
    draw = random.Random(seed)
    honest = grades()
    one, other = written(honest, tmp_path / "a"), written(honest, tmp_path / "b")
    path = draw.choice(sorted(path for path in other.rglob("*") if path.is_file()))
    if seed % 4 == 0:
        path.unlink()
    else:
        words = [place for place, letter in enumerate(path.read_bytes()) if letter in b"abcdefghijklmn"]
        data = bytearray(path.read_bytes())
        data[draw.choice(words)] ^= 16
        path.write_bytes(data)
    assert differences(one, other, pairs(honest)), path


def test_who_is_called_otherwise_is_compared_under_one_name(tmp_path: Path) -> None:
    honest = grades(2)
    called = dataclasses.replace(honest[0], student=f"{honest[0].student} (2)")
    both = [
        (
            Named(honest[0].student, f"name of {honest[0].student}"),
            Named(called.student, f"name of {honest[0].student}"),
        ),
        *pairs(honest[1:]),
    ]
    one, other = written(honest, tmp_path / "a"), written([called, honest[1]], tmp_path / "b")
    assert differences(one, other, both) == []
    assert differences(one, other, pairs(honest)) != []


def test_a_report_is_right_only_if_nobody_lost_anything() -> None:
    told: dict[str, Any] = {"seconds": 10.0, "load": (1.0, 2.0), "statuses": [-9, 0], "killed": [0.3], "away": None}
    end = {"kind": "a zip bomb", "new": False, "student": "eve", "verdicts": {"failed": 8}, "notes": ["too | large"]}
    one: dict[str, Any] = {"platform": "moodle", "honest": told, "whole": told, "exports": [0, 0], "differences": []}
    one = {**one, "renamed": [], "hostile": [end], "told the secret": [], "honest students": 3}
    options = {"students": 4, "hostile": 1, "kills": 1, "workers": 2, "checks": "toy", "seed": 1}
    found = {"date": "2026-01-01", "machine": "none", "options": options, "platforms": [one]}
    assert table.right(found)
    assert "| moodle | 10 | 10 | 1.00 |" in table.markdown(found)
    spoilt = {
        "differences": [{"student": "ann", "file": "junit", "honest": "1", "whole": "2"}],
        "told the secret": ["exports/junit/eve.xml"],
        "exports": [0, 1],
        "hostile": [{**end, "kind": "reached its aim"}],
    }
    for name, value in spoilt.items():
        assert not table.right({**found, "platforms": [{**one, name: value}]}), name


def test_every_platform_can_be_listed_and_knows_its_honest_students(tmp_path: Path) -> None:
    """Whatever the hostile ones are called: names, persons and times, by each platform's own roster."""
    checks = CHECKS["toy"]
    works = checks.honest(tmp_path / "made")
    kinds = [kind for kind in hostile.KINDS if kind.called or kind.imitates or kind.dated is not None]
    assert len(kinds) >= 6
    everybody = people.everybody(80, kinds, list(works), seed=5)
    for platform in people.PLATFORMS:
        every = [person for person in everybody if person.platform == platform]
        share = tmp_path / platform
        share.mkdir()
        sources = {}
        for person in every:
            content = tmp_path / "work" / person.login
            content.mkdir(parents=True)
            (content / "answer.json").write_text(person.name)
            sources[platforms.hand_in(person, content, share, "lab1").name] = person
        platforms.finish(every, share)
        (tmp_path / f"{platform}.csv").write_text(platforms.roster(every), encoding="utf-8")
        found = pupils.listed(share, str(tmp_path / f"{platform}.csv"), None, "given")
        assert len(found.students) == len(every)
        for student in found.students:
            person = sources[Path(student.source).name]
            if person.kind is None:
                assert found.people[student.student]["name"] == person.name
                assert student.submitted == person.submitted.timestamp()
