"""Grading again looks before it forgets, touches those who were named, and is done by one grader at a time."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.suite.grading.test_kills import small_disk as small_disk
from tests.suite.grading.test_run import ALL_PASSED
from tests.suite.grading.toy_class import HONEST, TOY, Class
from trtverify.grading import rubric, session
from trtverify.grading.keeping.results_file import write_beside
from trtverify.grading.sandbox.limits import Limits
from trtverify.grading.session import Settings
from trtverify.grading.store import Store, StoreError


@pytest.fixture
def graded(a_class: Class) -> Class:
    """Three students with verdicts."""
    for number, student in enumerate(("ann", "bob", "cyd")):
        a_class.hand_in(student, {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"fine"})
    a_class("run", "--workers", "2")
    return a_class


def everybody() -> dict[str, dict[str, str]]:
    return dict.fromkeys(("ann", "bob", "cyd"), ALL_PASSED)


def test_a_share_that_is_not_mounted_loses_nothing(graded: Class) -> None:
    away = graded.submissions.with_name("away")
    graded.submissions.rename(away)
    graded.submissions.mkdir()
    for words in (("regrade",), ("regrade", "ann"), ("run",)):
        assert "nothing" in graded(*words, status=2).stderr or "no submission" in graded(*words, status=2).stderr
        assert graded.verdicts() == everybody()
    shutil.rmtree(graded.submissions)
    assert "No such file" in graded("regrade", status=2).stderr
    graded("status")
    assert graded.verdicts() == everybody()


def test_tests_that_cannot_be_collected_lose_nothing(graded: Class, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "test_secret.py").write_text("def test_it(: pass\n")
    assert "cannot be collected" in graded("run", "--hidden-tests", str(hidden), status=2).stderr
    assert graded.verdicts() == everybody()
    graded("status")


def test_only_those_named_are_touched(graded: Class) -> None:
    # ann's work is as it was, bob's folder is gone, cyd's has changed: neither is anybody's business now.
    (graded.submissions / "ann" / "answer.json").write_text('{"answer": 1}')
    shutil.rmtree(graded.submissions / "bob")
    (graded.submissions / "cyd" / "answer.json").write_text('{"answer": 2}')
    graded("regrade", "ann")
    found = graded.verdicts()
    assert found["ann"]["test_answer"] == "failed"
    assert {name: found[name] for name in ("bob", "cyd")} == dict.fromkeys(("bob", "cyd"), ALL_PASSED)
    assert "holds nothing of bob" in graded("regrade", "bob", status=2).stderr
    assert "holds nothing of bob" in graded("regrade", status=2).stderr
    assert graded.verdicts() == found


def test_equal_work_of_another_keeps_its_verdict(a_class: Class) -> None:
    script = b"raise SystemExit('no data')"
    for student in ("ann", "bob"):
        a_class.hand_in(student, {"answer.json": HONEST, "parsed.txt": b"fine", "lab1_export_resnet50.py": script})
    a_class("run")
    before = a_class("show", "bob").stdout
    assert "no data" in before
    (a_class.submissions / "ann" / "answer.json").write_text('{"answer": 1}')
    a_class("regrade", "ann")
    assert a_class("show", "bob").stdout == before


def test_old_verdicts_stay_until_new_ones_fall(graded: Class) -> None:
    for student in ("ann", "bob", "cyd"):
        (graded.submissions / student / "parsed.txt").write_text("sleep 3")
    (graded.submissions / "cyd" / "answer.json").write_text('{"answer": 1}')
    with graded.started("regrade") as grader:  # one worker: ann comes first
        until_leased(graded)
        assert graded.verdicts() == everybody()
        grader.send_signal(signal.SIGKILL)
        grader.wait()
    assert graded.verdicts() == everybody()
    assert "not finished" in graded("status", status=1).stderr
    assert "not exported" in graded("export", status=1).stderr
    graded("resume")
    found = graded.verdicts()
    assert found.pop("cyd")["test_answer"] == "failed"
    assert found == dict.fromkeys(("ann", "bob"), ALL_PASSED)


def until_leased(a_class: Class) -> None:
    deadline = time.monotonic() + 60
    while True:
        store = Store(a_class.out)
        try:
            if any(unit.startswith("grade ") for unit, _pid in store.leases()):
                return
        finally:
            store.close()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_beside_a_grader_at_work_nothing_begins(graded: Class) -> None:
    (graded.submissions / "ann" / "parsed.txt").write_text("sleep 3")
    with graded.started("regrade", "ann") as grader:
        until_leased(graded)
        for words in (("run",), ("regrade",), ("regrade", "bob"), ("resume",)):
            assert "already at work" in graded(*words, status=2).stderr
        assert grader.wait(timeout=60) == 0
    assert graded.verdicts() == everybody()


def test_one_grader_holds_results_whoever_wrote_a_lease(graded: Class) -> None:
    first, second = Store(graded.out), Store(graded.out)
    first.hold()
    with pytest.raises(StoreError, match="already at work"):
        second.hold()
    first.close()
    second.hold()
    second.close()


@pytest.mark.slow
def test_kills_while_grading_again_lose_and_change_nothing(graded: Class) -> None:
    for student in ("ann", "bob", "cyd"):
        (graded.submissions / student / "parsed.txt").write_text("sleep 0.3")
    for number in range(20):
        with graded.started("regrade" if number % 2 == 0 else "resume", "--workers", "2") as grader:
            time.sleep(random.uniform(0, 2.5))
            grader.kill()
            grader.wait()
        assert graded.verdicts() == everybody(), "a verdict was lost or changed"
    graded("resume", "--workers", "2")
    graded("status")
    assert graded.verdicts() == everybody()


@pytest.mark.slow
def test_two_graders_at_once_lose_and_change_nothing(graded: Class) -> None:
    for _round in range(4):
        with graded.started("run", "--workers", "2") as one, graded.started("regrade", "--workers", "2") as other:
            ended = sorted([one.wait(timeout=120), other.wait(timeout=120)])
        assert ended in ([0, 0], [0, 2])
        assert graded.verdicts() == everybody()


def test_a_disk_that_is_full_while_grading_again_loses_nothing(small_disk: Class) -> None:
    small_disk.hand_in("ann")
    small_disk("run")
    with (small_disk.out / "hog").open("wb", buffering=0) as hog:
        try:
            while True:
                hog.write(bytes(1 << 12))
        except OSError:
            pass
    for command in ("regrade", "export"):
        assert "results.sqlite" in small_disk(command, status=2).stderr
    (small_disk.out / "hog").unlink()
    assert small_disk.verdicts() == {"ann": ALL_PASSED}
    small_disk("regrade")
    small_disk("export")
    assert small_disk.verdicts() == {"ann": ALL_PASSED}


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_files_that_are_whole(graded: Class) -> None:
    graded("export")
    whole = exported(graded)
    for _round in range(8):
        with graded.started("export") as export:
            time.sleep(random.uniform(0.2, 1.5))
            export.kill()
            export.wait()
        assert {name: text for name, text in exported(graded).items() if name in whole} == whole
    graded("export")
    assert exported(graded) == whole, "what a killed export left behind is gone"


def exported(a_class: Class) -> dict[str, bytes]:
    folder = a_class.out / "exports"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exports_of_those_who_are_gone_go_too(graded: Class) -> None:
    graded("export")
    (graded.submissions / "bob").rename(graded.submissions / "bo")
    graded("run")
    graded("export")
    names = {path.stem for path in (graded.out / "exports" / "gradescope").iterdir()}
    assert names == {"ann", "bo", "cyd"}
    assert {path.stem for path in (graded.out / "report" / "students").iterdir()} == names


def test_what_a_run_was_started_with_stays_and_a_change_is_said(graded: Class, tmp_path: Path) -> None:
    half = tmp_path / "half.toml"
    half.write_text("[labs.lab1]\nweight = 0.5\n")
    assert "rubric was " in graded("run", "--rubric", str(half)).stderr
    assert "ann: 6.50 of 6.50" in graded("show", "ann").stdout
    assert "rubric was" not in graded("run").stderr
    assert "ann: 6.50 of 6.50" in graded("show", "ann").stdout
    half.write_text("[labs.lab1]\nweight = 2\n")
    assert "says something else" in graded("show", "ann").stderr
    assert "says something else" in graded("resume").stderr
    assert "says something else" not in graded("resume").stderr


def test_verdicts_are_kept_by_all_that_they_depend_on(a_class: Class, tmp_path: Path) -> None:
    script = "import os, sys\nname = 'answer.json' if os.path.exists('/photos/a') else 'nothing'\n"
    script += "open('/sandbox/work/' + name, 'w').write('{\"answer\": 42}')\n"
    a_class.hand_in("ann", {"lab1_export_resnet50.py": script.encode(), "parsed.txt": b"sleep 2"})
    a_class("run", "--labs", "lab4")
    a_class("run", "--labs", "lab1")
    assert a_class.verdicts()["ann"]["test_answer"] == "failed"
    photos = tmp_path / "photos"
    photos.mkdir()
    options = tmp_path / "options"
    options.mkdir()
    for part in ("pytest.ini", "conftest.py", "tests"):
        (shutil.copytree if (TOY / part).is_dir() else shutil.copy)(TOY / part, options / part)
    conftest = options / "conftest.py"
    first = '    parser.addoption("--submission"'
    conftest.write_text(conftest.read_text().replace(first, f'    parser.addoption("--photos")\n{first}'))
    a_class("run", "--suite", str(options), "--photos", str(photos))
    assert a_class.verdicts()["ann"]["test_answer"] == "failed"
    (photos / "a").touch()
    a_class("run", "--suite", str(options))
    assert a_class.verdicts()["ann"]["test_answer"] == "passed"


def test_what_keys_a_verdict(tmp_path: Path) -> None:
    """Limits, device, options, language, photographs and how scripts are run: another of any is another key."""
    (tmp_path / "photos").mkdir()
    settings = Settings("class", "suite", ("lab1",), "", photos=str(tmp_path / "photos"))
    quick = rubric.Rubric(test_limits=Limits(wall_seconds=3))
    arguments = rubric.Rubric(script_arguments={"lab1": ("--fast",)})

    def key(told: Settings, by: rubric.Rubric) -> str:
        return session._suite(told, tmp_path, by, session._scripts(told, by)).digest

    told = [
        settings,
        dataclasses.replace(settings, gpu=True),
        dataclasses.replace(settings, pytest_options=("-x",)),
        dataclasses.replace(settings, language="zh-TW"),
        dataclasses.replace(settings, labs=("lab2",)),
        dataclasses.replace(settings, photos=None),
    ]
    keys = [key(one, rubric.Rubric()) for one in told] + [key(settings, quick), key(settings, arguments)]
    (tmp_path / "photos" / "a.jpg").touch()
    keys.append(key(settings, rubric.Rubric()))
    assert len(set(keys)) == len(keys) == 9
    assert key(settings, rubric.Rubric()) == keys[-1]
    assert key(dataclasses.replace(settings, total="50", roster="roster.csv"), rubric.Rubric()) == keys[-1]


@pytest.mark.slow
def test_raised_limits_are_another_verdict(a_class: Class, tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.toml"
    rubric.write_text("[limits.tests]\nwall_seconds = 3\n")
    a_class.hand_in("ann", {"answer.json": HONEST, "parsed.txt": b"sleep 5"})
    a_class("run", "--rubric", str(rubric))
    assert a_class.verdicts()["ann"]["test_parser"] == "crash"
    rubric.write_text("[limits.tests]\nwall_seconds = 60\n")
    a_class("run")
    assert a_class.verdicts()["ann"] == ALL_PASSED


def test_nobody_else_can_read_results_and_nothing_is_left_by_the_killed(graded: Class, tmp_path: Path) -> None:
    assert stat.S_IMODE(graded.out.stat().st_mode) == 0o700
    (graded.out / "snapshots" / ".archive-x").mkdir()
    (graded.out / "snapshots" / ".archive-x" / "archive").write_bytes(b"of a killed grader")
    gone = Path("/tmp", f"grading-job-{2**22 + 1}-x")
    gone.mkdir(exist_ok=True)
    graded("resume")
    assert not (graded.out / "snapshots" / ".archive-x").exists()
    assert not gone.exists()


def test_a_file_whose_name_is_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_beside(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]
