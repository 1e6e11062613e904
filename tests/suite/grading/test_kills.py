"""Grader, workers and sandboxes are killed at random moments, disks fill, folders are closed: nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import HONEST, Class

EXPECTED = {
    "test_answer": "passed",
    "test_products[2]": "passed",
    "test_products[3]": "passed",
    "test_bonus": "passed",
    "test_parser": "passed",
    "test_after_the_parser": "passed",
}


def fill(a_class: Class) -> dict[str, dict[str, str]]:
    """Hand in different work, and say what each must get."""
    due = {}
    for number in range(4):
        a_class.hand_in(f"good{number}", {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"sleep 0.2"})
        due[f"good{number}"] = EXPECTED
    a_class.hand_in("bad", {"answer.json": {"answer": 1}, "parsed.txt": b"no"})
    due["bad"] = {**dict.fromkeys(EXPECTED, "failed"), "test_bonus": "not gradable", "test_after_the_parser": "passed"}
    a_class.hand_in("same", {"answer.json": {"answer": 1}, "parsed.txt": b"no"})
    due["same"] = due["bad"]
    script = (
        b"import time; time.sleep(0.3); open('/sandbox/work/answer.json', 'w').write('{\"answer\": 42, \"bonus\": 1}')"
    )
    a_class.hand_in("script", {"lab1_export_resnet50.py": script, "parsed.txt": b"fine"})
    due["script"] = {**EXPECTED, "test_products[2]": "failed", "test_products[3]": "failed"}
    a_class.hand_in("crash", {"answer.json": HONEST, "parsed.txt": b"segfault"})
    due["crash"] = {**EXPECTED, "test_parser": "crash"}
    return due


def children(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(process.name))
    return found


def victims(grader: int) -> dict[str, list[int]]:
    workers = [pid for pid in children(grader) if b"spawn_main" in command(pid)]
    # A worker has other children for a moment, such as the compiler that ctypes asks where a library is.
    sandboxes = [pid for worker in workers for pid in children(worker) if b"bwrap" in command(pid)]
    return {"grader": [grader], "worker": workers, "sandbox": sandboxes}


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("rounds", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_and_change_nothing(a_class: Class, rounds: int, tmp_path: Path) -> None:
    due = fill(a_class)
    kills = dict.fromkeys(("grader", "worker", "sandbox"), 0)
    started = 0
    while sum(kills.values()) < rounds:
        first = not a_class.verdicts()
        if not first and not pending(a_class):
            assert a_class.verdicts() == due
            a_class.out = tmp_path / f"results{started}"
            first = True
        known = a_class.verdicts()
        started += 1
        with a_class.started("run" if first else "resume", "--workers", "2") as grader:
            while grader.poll() is None and sum(kills.values()) < rounds:
                time.sleep(random.uniform(0, 1.2))
                kind = min(kills, key=lambda one: (kills[one], random.random()))  # each as often as the others
                for pid in victims(grader.pid)[kind][:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills[kind] += 1
            grader.kill()
            said = grader.communicate(timeout=60)[1]
        assert grader.returncode in (0, -signal.SIGKILL), said
        now = a_class.verdicts()
        for student, rows in known.items():
            for test, verdict in rows.items():
                assert verdict in ("pending", now[student][test]), "a verdict changed"
    assert min(kills.values()) > 0, kills
    a_class("resume" if a_class.verdicts() else "run", "--workers", "2")
    assert a_class.verdicts() == due


def pending(a_class: Class) -> bool:
    return any(verdict == "pending" for rows in a_class.verdicts().values() for verdict in rows.values())


@pytest.fixture
def small_disk(a_class: Class) -> Iterator[Class]:
    """The results lie on a file system of 12 MB: the frozen suite twice, and not one of 20 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    a_class.out.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0755", "small", str(a_class.out)], check=False)
    if made.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        yield a_class
    finally:
        subprocess.run(["umount", "--lazy", str(a_class.out)], check=True)


def test_what_a_disk_cannot_hold_is_set_aside_and_everyone_else_is_graded(small_disk: Class) -> None:
    small_disk.hand_in("ann")
    small_disk.hand_in("bob", {"answer.json": HONEST, "parsed.txt": b"fine", "large.onnx": os.urandom(20 << 20)})
    script = b"open('/sandbox/work/resnet50.onnx', 'wb').write(bytes(20 << 20))"
    small_disk.hand_in("cyd", {"answer.json": HONEST, "parsed.txt": b"fine", "lab1_export_resnet50.py": script})
    small_disk.hand_in("zoe", {"answer.json": {**HONEST, "n": 1}, "parsed.txt": b"fine"})
    for command in ("run", "resume"):
        said = small_disk(command, status=1).stdout
        for student in ("bob", "cyd"):
            assert f"`resume`: {student}: not gradable: " in said
            assert set(small_disk.verdicts()[student].values()) == {"not gradable"}
        assert "No space left" in said
        assert small_disk.verdicts()["ann"] == small_disk.verdicts()["zoe"] == EXPECTED
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk.out)], check=True)
    small_disk("resume")
    assert small_disk.verdicts() == dict.fromkeys(("ann", "bob", "cyd", "zoe"), EXPECTED)


def test_a_disk_full_of_something_else_stops_grading_and_loses_nothing(small_disk: Class) -> None:
    for number in range(3):
        small_disk.hand_in(f"s{number}", {"answer.json": {**HONEST, "n": number}, "parsed.txt": b"sleep 0.5"})
    with small_disk.started("run") as grader:
        deadline = time.monotonic() + 60
        while not any(set(rows.values()) - {"pending"} for rows in small_disk.verdicts().values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with contextlib.suppress(OSError), (small_disk.out / "hog").open("wb", buffering=0) as hog:
            while True:
                hog.write(bytes(1 << 12))
        said = grader.communicate(timeout=60)[1]
    assert grader.returncode == 2, said
    assert "full" in said or "No space" in said
    (small_disk.out / "hog").unlink()
    small_disk("resume")
    assert small_disk.verdicts() == dict.fromkeys(("s0", "s1", "s2"), EXPECTED)


def test_a_read_only_results_folder_is_said(small_disk: Class) -> None:
    small_disk.hand_in("ann")
    small_disk("run")
    small_disk.hand_in("bob", {"answer.json": {}, "parsed.txt": b"fine"})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.out)], check=True)
    said = small_disk("run", status=2).stderr
    assert "make the folder writable" in said
    assert "9.00 of 9.00 points" in small_disk("show", "ann").stdout
    assert "6 passed" in small_disk("status").stdout
    assert "the export cannot be written" in small_disk("export", status=2).stderr
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk.out)], check=True)
    assert small_disk.verdicts() == {"ann": EXPECTED}


def test_a_folder_that_cannot_be_written_is_said(a_class: Class) -> None:
    a_class.hand_in("ann")
    a_class.out.parent.joinpath("file").touch()
    a_class.out = a_class.out.parent / "file" / "results"
    said = a_class("run", status=2).stderr
    assert "make the folder writable, or give another --out" in said
    assert "safe" not in said
