"""`python -m trtverify grading` on a small class: what it records, what it keeps, and what it says."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import HONEST, REPOSITORY, TOY, Class
from trtverify.grading import exports
from trtverify.grading.store import Store

ALL_PASSED = {
    "test_answer": "passed",
    "test_products[2]": "passed",
    "test_products[3]": "passed",
    "test_bonus": "passed",
    "test_parser": "passed",
    "test_after_the_parser": "passed",
}


def test_a_class_is_graded_each_on_its_own(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class.hand_in("bob", {"answer.json": {"answer": 42, "times2": 84, "times3": 0}, "parsed.txt": b"fine"})
    a_class.hand_in("cyd", {"parsed.txt": b"wrong"})
    done = a_class("run")
    found = a_class.verdicts()
    assert found["ann"] == ALL_PASSED
    assert found["bob"] == {**ALL_PASSED, "test_products[3]": "failed", "test_bonus": "not gradable"}
    assert found["cyd"] == {**dict.fromkeys(ALL_PASSED, "failed"), "test_after_the_parser": "passed"}
    assert "pending" not in done.stdout
    shown = a_class("show", "bob").stdout
    # Of lab 1's 5 points, the bonus is not gradable: 2 + 1 of the other 4 are earned. Lab 4 is worth 4.
    assert "bob: 7.75 of 9.00 points" in shown


def test_only_the_labs_asked_for_are_expected(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class("run", "--labs", "lab4")
    assert set(a_class.verdicts()["ann"]) == {"test_parser", "test_after_the_parser"}


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("segfault", "exit code 139 (SIGSEGV)"),
        ("exit", "exit code 0"),
        ("memory", "limit on memory"),
        ("hang", "limit on wall clock"),
    ],
)
def test_a_check_that_dies_twice_is_a_crash_and_the_others_go_on(a_class: Class, word: str, reason: str) -> None:
    rubric = a_class.submissions.parent / "rubric.toml"
    rubric.write_text("[limits.tests]\nwall_seconds = 5\nmemory_bytes = 500_000_000\n")
    a_class.hand_in("ann")
    a_class.hand_in("eve", {"answer.json": HONEST, "parsed.txt": word.encode()})
    a_class("run", "--rubric", str(rubric))
    found = a_class.verdicts()
    assert found["ann"] == ALL_PASSED
    assert found["eve"] == {**ALL_PASSED, "test_parser": "crash"}
    assert reason in a_class("show", "eve").stdout


def test_messages_cannot_write_to_the_terminal(a_class: Class) -> None:
    a_class.hand_in("eve", {"answer.json": HONEST, "parsed.txt": b"loud"})
    assert "\x1b" not in a_class("run").stdout
    shown = a_class("show", "eve").stdout
    assert "\x1b" not in shown
    assert "\\x1b[31mloud" in shown


def test_equal_submissions_are_checked_once_and_kept_for_later_runs(
    a_class: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[str] = []
    lease = Store.lease

    def leased(self: Store, unit: str, pid: int) -> None:
        units.append(unit)
        lease(self, unit, pid)

    monkeypatch.setattr(Store, "lease", leased)
    for student in ("ann", "bob", "cyd"):
        a_class.hand_in(student)
    a_class("run", "--workers", "2")
    assert sum(unit.startswith("grade ") for unit in units) == 1
    a_class.hand_in("dan")
    a_class("run")
    assert sum(unit.startswith("grade ") for unit in units) == 1
    assert a_class.verdicts() == dict.fromkeys(("ann", "bob", "cyd", "dan"), ALL_PASSED)
    digests = {path.name for path in (a_class.out / "snapshots").iterdir()}
    assert len(digests) == 1


def test_regrade_checks_again_what_it_is_told(a_class: Class) -> None:
    folder = a_class.hand_in("ann", {"answer.json": {"answer": 0}})
    a_class.hand_in("bob")
    a_class("run")
    (folder / "answer.json").write_text('{"answer": 42}')
    a_class("regrade", "ann")
    assert a_class.verdicts()["ann"]["test_answer"] == "passed"
    assert a_class.verdicts()["bob"] == ALL_PASSED
    assert "no submission of zoe" in a_class("regrade", "zoe", status=2).stderr


def test_hidden_tests_count_and_are_not_named(a_class: Class, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "test_secret.py").write_text(
        "import pytest\n@pytest.mark.points(4)\ndef test_prime(answer):\n    assert answer.get('prime') == 43\n"
    )
    (hidden / "conftest.py").write_text("import pytest\n")
    a_class.hand_in("ann")
    a_class("run", "--hidden-tests", str(hidden))
    assert a_class.verdicts()["ann"] == {**ALL_PASSED, "test_prime": "failed"}
    assert "ann: 9.00 of 13.00 points" in a_class("show", "ann").stdout


def test_a_script_makes_what_was_not_handed_in(a_class: Class) -> None:
    script = "import sys, pathlib\npathlib.Path(sys.argv[2], 'resnet50.onnx').write_text('made')\n"
    script += "pathlib.Path(sys.argv[2], 'answer.json').write_text('{\"answer\": 42}')\n"
    a_class.hand_in("ann", {"labs/lab1_export_resnet50.py": script.encode(), "parsed.txt": b"fine"})
    a_class.hand_in("eve", {"lab1_export_resnet50.py": b"raise SystemExit('no \\x1b data')"})
    a_class("run")
    assert a_class.verdicts()["ann"]["test_answer"] == "passed"
    shown = a_class("show", "eve").stdout
    assert "lab1_export_resnet50.py ended with exit code 1: no \\x1b data" in shown


def test_a_script_that_ends_well_and_makes_nothing_is_said(a_class: Class) -> None:
    """Which ran, what is missing, what it wrote instead; and the signal that another died of."""
    elsewhere = b"open('/sandbox/work/resnet.onnx', 'w').write('made')"
    died = b"import os; os.kill(os.getpid(), 11)"
    scripts = {
        "lab1_export_resnet50.py": b"print('done')",
        "lab2_export_yolov8.py": elsewhere,
        "lab5_qat_resnet18_cifar10.py": died,
    }
    a_class.hand_in("ann", {"answer.json": HONEST, "parsed.txt": b"fine", **scripts})
    a_class("run")
    shown = a_class("show", "ann").stdout
    said = "ran to its end, and wrote no {} into the folder of its --out, but: {}"
    assert "lab1_export_resnet50.py " + said.format("resnet50.onnx", "nothing") in shown
    assert "lab2_export_yolov8.py " + said.format("yolov8n.onnx", "resnet.onnx") in shown
    assert "lab5_qat_resnet18_cifar10.py ended with exit code 139 (SIGSEGV)" in shown
    assert "lab5_qat_resnet18_cifar10.py ran to its end" not in shown


def test_a_check_that_nobody_survives_is_named(a_class: Class) -> None:
    a_class.hand_in("ann", {"answer.json": HONEST, "parsed.txt": b"exit"})
    a_class.hand_in("bob", {"answer.json": {**HONEST, "n": 1}, "parsed.txt": b"exit"})
    (a_class.submissions / "eve.zip").write_bytes(b"none")
    said = a_class("run", "--workers", "2").stderr
    assert "test_parser exceeded its limits or died on everybody's work: is it the check that is at fault?" in said
    a_class.hand_in("cyd")
    assert "everybody's work" not in a_class("run").stderr


def test_a_disk_without_room_for_a_folder_is_one_sentence(a_class: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    a_class.hand_in("ann")

    made = tempfile.mkdtemp

    def full(suffix: str | None = None, prefix: str | None = None, folder: str | None = None) -> str:
        if (prefix or "").startswith("grading-job-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
        return made(suffix, prefix, folder)

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert a_class("run", status=2).stderr == "error: [Errno 28] No space left on device: '/tmp/x'\n"


def test_whoever_stops_reading_hears_no_complaint(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class("run")
    with a_class.started("show", "ann") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(60) == 141


def test_an_unusable_submission_fails_and_says_why(a_class: Class) -> None:
    a_class.hand_in("ann")
    (a_class.submissions / "eve.zip").write_bytes(b"no archive")
    (a_class.submissions / "mal").symlink_to("/etc")
    (a_class.submissions / "notes.txt").write_text("the teacher's own")
    a_class("run")
    found = a_class.verdicts()
    assert set(found) == {"ann", "eve", "mal"}
    assert found["ann"] == ALL_PASSED
    assert set(found["eve"].values()) == set(found["mal"].values()) == {"failed"}
    assert "it is no zip or tar archive" in a_class("show", "eve").stdout


def test_two_submissions_of_one_student_are_refused(a_class: Class) -> None:
    a_class.hand_in("ann")
    (a_class.submissions / "ann.zip").touch()
    assert "both of ann" in a_class("run", status=2).stderr


def test_an_empty_class_and_a_missing_result_are_said(a_class: Class) -> None:
    assert "holds no submission" in a_class("run", status=2).stderr
    assert "holds no results" in a_class("status", status=2).stderr


def test_a_suite_that_cannot_be_collected_is_no_students_fault(a_class: Class, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "tests").mkdir(parents=True)
    (broken / "conftest.py").write_text((TOY / "conftest.py").read_text())
    (broken / "pytest.ini").write_text("[pytest]\n")
    (broken / "tests" / "test_a.py").write_text("import nothing_of_this_name\n")
    a_class.hand_in("ann")
    assert "nothing_of_this_name" in a_class("run", "--suite", str(broken), status=2).stderr


def test_without_a_sandbox_nothing_is_graded(a_class: Class, tmp_path: Path) -> None:
    a_class.hand_in("ann")
    line = a_class.command("run")
    done = subprocess.run(
        line, cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tmp_path)}
    )
    assert done.returncode == 3
    assert "apt-get install bubblewrap" in done.stderr


def test_ctrl_c_then_resume(a_class: Class) -> None:
    for number in range(4):
        a_class.hand_in(f"s{number}", {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"sleep 0.8"})
    with a_class.started("run") as grader:
        _until_some_are_done(a_class)
        grader.send_signal(signal.SIGINT)
        said = grader.communicate(timeout=20)[1]
    assert grader.returncode == 130
    assert "python -m trtverify grading resume" in said
    before = a_class.verdicts()
    assert any("pending" in rows.values() for rows in before.values())
    assert "not finished" in a_class("status", status=1).stderr
    a_class("resume")
    assert a_class.verdicts() == dict.fromkeys(("s0", "s1", "s2", "s3"), ALL_PASSED)
    a_class("status")


def test_a_second_grader_is_refused(a_class: Class) -> None:
    a_class.hand_in("ann", {"answer.json": HONEST, "parsed.txt": b"sleep 3"})
    with a_class.started("run") as grader:
        _until_some_are_done(a_class)
        assert f"process {grader.pid} is already at work" in a_class("run", status=2).stderr
        assert f"process {grader.pid} on" in a_class("resume", status=2).stderr
        assert grader.wait(timeout=30) == 0
    assert a_class.verdicts()["ann"] == ALL_PASSED


def _until_some_are_done(a_class: Class) -> None:
    deadline = time.monotonic() + 60
    while True:
        if (a_class.out / "results.sqlite").exists():
            rows = [verdict for rows in a_class.verdicts().values() for verdict in rows.values()]
            if any(verdict != "pending" for verdict in rows):
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_export_writes_every_format_and_refuses_what_is_not_finished(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class("run")
    a_class("export")
    assert {path.name for path in (a_class.out / "exports").iterdir()} == set(exports.FORMATS)
    assert json.loads((a_class.out / "exports" / "gradescope" / "ann.json").read_text())["score"] == 9.0
    with contextlib.closing(sqlite3.connect(a_class.out / "results.sqlite")) as db, db:
        db.execute("UPDATE results SET verdict = 'pending' WHERE test LIKE '%test_answer'")
    assert "ann" in a_class("export", status=1).stderr
    a_class("export", "--partial", "--format", "csv")
