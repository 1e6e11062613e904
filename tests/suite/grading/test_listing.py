"""Names that are no UTF-8 or too long, dates that cannot be, what is not graded, sources that go away."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.suite.grading.faults import UNREADABLE, Fault
from tests.suite.grading.test_one_unit import struck
from tests.suite.grading.test_run import ALL_PASSED
from tests.suite.grading.toy_class import HONEST, Class
from trtverify.grading import pupils
from trtverify.grading.taking import archives, listing
from trtverify.grading.taking.intake import NoRoomError, RejectedError, Snapshots, UnreadableError, opened_folder


def test_names_are_notes_on_their_student(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class.hand_in("n" * 244)
    big5 = os.fsencode(a_class.submissions) + b"/" + "王小明".encode("cp950")
    odd = os.fsencode(a_class.submissions) + b"/\xff\xfe"
    for folder in (big5, odd):
        path = Path(os.fsdecode(folder))
        path.mkdir()
        (path / "answer.json").write_text(json.dumps(HONEST))
        (path / "parsed.txt").write_text("fine")
    a_class("run", "--workers", "2")
    found = a_class.verdicts()
    long = next(name for name in found if name.startswith("nnn"))
    assert found == dict.fromkeys(("ann", "王小明", "\\xff\\xfe", long), ALL_PASSED)
    assert "no UTF-8; it was read as 王小明" in a_class("show", "王小明").stdout
    assert "was shortened" in a_class("show", long).stdout
    a_class("export")
    assert len(list((a_class.out / "exports" / "gradescope").iterdir())) == 4
    a_class("export")


@pytest.mark.parametrize("when", [3e11, -1e10, 1e18, float("1e11")])
def test_a_date_that_cannot_be_is_a_note_and_on_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: float
) -> None:
    (tmp_path / "class" / "ann").mkdir(parents=True)
    lstat = Path.lstat

    class Dated:
        def __init__(self, path: Path) -> None:
            self._status = lstat(path)
            self.st_mtime = when

        def __getattr__(self, name: str) -> Any:
            return getattr(self._status, name)

    monkeypatch.setattr(Path, "lstat", lambda path: Dated(path))
    (student,) = pupils.listed(tmp_path / "class", None, None, "given", tmp_path / "results").students
    if when == 1e11:  # the year 5138 is a date
        assert (student.submitted, student.notes) == (when, ())
    else:
        assert student.submitted == 0
        assert "its date cannot be read" in student.notes[0]


def test_what_is_not_graded_is_named(a_class: Class) -> None:
    a_class.hand_in("ann")
    for name in ("ann.rar", "cyd.7z", "notes.txt", ".hidden", ".DS_Store", "x\x1b[2J.txt", "line\nbreak\tx"):
        (a_class.submissions / name).touch()
    said = a_class("run").stderr
    for name, why in (
        ("ann.rar", "a kind of archive that is not read"),
        ("notes.txt", "neither a folder nor an archive"),
        (".hidden", "hidden"),
        ("x\\x1b[2J.txt", "neither a folder nor an archive"),
        ("line\\nbreak\\tx", "neither a folder nor an archive"),
    ):
        assert f"{name} ({why})" in said
    assert ".DS_Store" not in said
    assert "notes.txt (neither" in a_class("status").stderr
    assert set(a_class.verdicts()["cyd"].values()) == {"failed"}
    assert "expected a folder or an archive" in a_class("show", "cyd").stdout


def test_results_among_the_submissions_are_nobodys(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class.out = a_class.submissions / "results"
    for _time in range(2):
        a_class("run")
        assert a_class.verdicts() == {"ann": ALL_PASSED}
    a_class.out = a_class.submissions / "deep" / "results"
    a_class("run")
    said = a_class("run").stderr  # the first made it
    assert set(a_class.verdicts()) == {"ann"}
    assert "not graded: deep (it holds the results), results (results of grading)" in said


def test_results_are_kept_elsewhere_than_the_submissions(a_class: Class) -> None:
    a_class.hand_in("ann")
    for out in (a_class.submissions, a_class.submissions / "ann" / ".."):
        a_class.out = out
        assert "cannot be the results too" in a_class("run", status=2).stderr
        assert [path.name for path in a_class.submissions.iterdir()] == ["ann"]


def test_a_results_folder_that_a_student_hands_in_deeper_is_theirs(tmp_path: Path) -> None:
    """Only what lies at the top of a folder makes it results."""
    (tmp_path / "class" / "ann" / "lab1").mkdir(parents=True)
    (tmp_path / "class" / "ann" / "lab1" / "results.sqlite").touch()
    assert [s.student for s in pupils.listed(tmp_path / "class", None, None, "given").students] == ["ann"]


def test_names_that_some_file_systems_take_for_one(tmp_path: Path) -> None:
    """A note, and files that do not collide; whoever's name has a number in the export is called by it."""
    for name in ("ann", "Ann", "ren\u00e9", "rene\u0301", "bo"):
        (tmp_path / "class" / name).mkdir(parents=True)
    students = pupils.listed(tmp_path / "class", None, None, "given").students
    noted = {student.student for student in students if "differs from this one only" in "".join(student.notes)}
    assert noted == {"ann", "Ann", "ren\u00e9", "rene\u0301"}
    files = listing.file_names(student.student for student in students)
    assert len({listing.folded(name) for name in files.values()}) == 5
    assert files["bo"] == "bo"
    # One who is called as another's file would be takes nobody's place.
    imitated = listing.file_names(["ann", "Ann", files["Ann"], "x" * 230 + "1", "x" * 230 + "2"])
    assert len({listing.folded(name) for name in imitated.values()}) == 5
    for number, name in enumerate(("Ann", "ANN"), 1):
        (tmp_path / "moodle" / f"{name}_{number}_assignsubmission_file_").mkdir(parents=True)
    assert [s.student for s in pupils.listed(tmp_path / "moodle", None, None, "given").students] == ["ANN_2", "Ann_1"]


def test_a_long_name_is_shortened_once(a_class: Class) -> None:
    """Whoever looks for a student's files finds them under the name that `show` takes."""
    a_class.hand_in("n" * 244)
    a_class("run")
    a_class("export")
    (student,) = a_class.verdicts()
    for place in ("exports/gradescope", "exports/junit", "report/students"):
        assert [path.stem for path in (a_class.out / place).iterdir()] == [student]


def test_a_line_feed_in_a_name_makes_no_line(a_class: Class) -> None:
    folder = a_class.hand_in("ann\nbob: 99.00 of 9.00 points\tx")
    (folder / "a\nnote: full marks.engine").touch()
    a_class("run")
    (student,) = a_class.verdicts()
    assert student == "ann\\nbob: 99.00 of 9.00 points\\tx"
    shown = a_class("show", student).stdout
    assert not any(line.lstrip().startswith(("bob", "note: full")) for line in shown.splitlines())
    a_class("export", "--format", "csv")
    table = (a_class.out / "exports" / "csv" / "class.csv").read_text(encoding="utf-8-sig")
    assert len(table.splitlines()) == 2


@pytest.mark.parametrize("strike", sorted(UNREADABLE))
def test_a_source_that_goes_away_stays_pending(
    a_class: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strike: str
) -> None:
    for student in ("ann", "bob"):
        a_class.hand_in(student, {"answer.json": {**HONEST, "by": student}, "parsed.txt": b"fine"})
    said = struck(a_class, Fault(strike, student="ann"), tmp_path / "place", monkeypatch, status=1)
    assert "ann could not be read, and stays pending" in said.stderr
    assert a_class.verdicts() == {"ann": dict.fromkeys(ALL_PASSED, "pending"), "bob": ALL_PASSED}
    a_class("resume")
    assert a_class.verdicts() == {"ann": ALL_PASSED, "bob": ALL_PASSED}


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EACCES])
def test_what_cannot_be_read_now_is_no_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    folder = tmp_path / "ann"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"x" * 100)
    (tmp_path / "ann.zip").write_bytes(b"PK")

    def fails(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    snapshots = Snapshots(tmp_path / "snapshots")
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", fails)
        with pytest.raises(UnreadableError), opened_folder(folder) as fd:
            snapshots.take(fd)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fails)
        with pytest.raises(UnreadableError), opened_folder(folder) as fd:
            snapshots.take(fd)
    opens = os.open

    def fails_to_open(path: Any, *given: Any, **more: Any) -> int:
        if "snapshots" not in str(path) and "ann" in str(path):
            raise OSError(number, os.strerror(number))
        return opens(path, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails_to_open)
        with pytest.raises(UnreadableError):
            archives.take(tmp_path / "ann.zip", snapshots)
        with pytest.raises(UnreadableError):
            archives.take(folder, snapshots)
    assert list(snapshots.root.iterdir()) == []
    with pytest.raises(UnreadableError):
        archives.take(tmp_path / "bob", snapshots)


def test_a_file_that_is_cut_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "model.onnx").write_bytes(b"x" * 100)
    reads = iter([b"x" * 40, b""])
    monkeypatch.setattr(os, "read", lambda *_: next(reads))
    with pytest.raises(UnreadableError, match="ended after 40 of 100"), opened_folder(tmp_path / "ann") as fd:
        Snapshots(tmp_path / "snapshots").take(fd)


def test_an_archive_that_grows_while_it_is_copied_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "ann.zip"
    source.write_bytes(b"PK")
    monkeypatch.setattr(archives, "_block", lambda *_: bytes(1 << 20))
    snapshots = Snapshots(tmp_path / "snapshots")
    monkeypatch.setattr(snapshots, "bounds", type(snapshots.bounds)(total_bytes=8 << 20))
    with pytest.raises(RejectedError, match="at most"):
        archives.take(source, snapshots)


def test_a_disk_keeps_its_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = Snapshots(tmp_path / "snapshots")
    usage = type("Usage", (), {"total": 100 << 20, "free": 6 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    snapshots.need_room(1 << 20)
    with pytest.raises(NoRoomError, match="are kept"):
        snapshots.need_room(2 << 20)
