"""Grading a class as a teacher would, while the grader is killed and the share goes away; then its exports."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.rehearsal.work import ROOT

_LOOK_SECONDS = 0.02
_AGAIN = 3  # times that `resume` may be needed beyond what was done to it


@dataclasses.dataclass(frozen=True)
class Class:
    """One platform's class on disk.

    Attributes:
        share: where the submissions lie; what is mounted there.
        words: the options of `run`.
    """

    share: Path
    out: Path
    words: Sequence[str]


@dataclasses.dataclass
class Told:
    """What happened.

    Attributes:
        seconds: wall clock of `run` and every `resume`, from the first to the last.
        load: the machine's load when it began and when it ended.
        statuses: of each command.
        killed: how far it was at each kill, a share of all checks.
        away: how many submissions were taken when the share went away; None if it did not.
    """

    seconds: float = 0.0
    load: tuple[float, float] = (0.0, 0.0)
    statuses: list[int] = dataclasses.field(default_factory=list)
    killed: list[float] = dataclasses.field(default_factory=list)
    away: int | None = None


def graded(one: Class, kills: Sequence[float] = (), away: float | None = None) -> Told:
    """Run, and resume until it is done.

    Args:
        one: the class.
        kills: shares of the checks after which the grader is killed.
        away: the share of submissions taken after which the share is gone, until the grader ends.

    Raises:
        RuntimeError: it does not come to an end, or another than that of a run with or without pending checks.
    """
    told, begun, before = Told(), time.perf_counter(), os.getloadavg()[0]
    waiting, least = list(kills), 2 + _AGAIN + len(kills)
    command = ["run", str(one.share), *one.words]
    with (one.out.parent / f"{one.out.name}.log").open("ab") as log:
        while True:
            with _started([*command, "--out", str(one.out)], log.fileno()) as grader:
                if away is not None and told.away is None:
                    told.away = _unmounted(one, grader, away)
                elif waiting and (at := _reached(one, grader, waiting[0])) is not None:
                    grader.send_signal(signal.SIGKILL)
                    told.killed.append(at)
                    waiting.pop(0)
                status = grader.wait()
            told.statuses.append(status)
            if status == 0:
                break
            if status not in (1, -signal.SIGKILL) or len(told.statuses) > least:
                raise RuntimeError(f"{one.out}: statuses {told.statuses}; see {log.name}")
            command = ["resume", *_workers(one.words)]
    told.seconds = time.perf_counter() - begun
    told.load = (before, os.getloadavg()[0])
    return told


def exported(one: Class) -> int:
    """Write every export; the exit status."""
    with (
        (one.out.parent / f"{one.out.name}.log").open("ab") as log,
        _started(["export", "--out", str(one.out)], log.fileno()) as command,
    ):
        return command.wait()


def rows(out: Path, query: str) -> list[tuple[object, ...]]:
    """What results say; nothing before there are any."""
    file = out / "results.sqlite"
    if not file.is_file():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as db:
        try:
            return db.execute(query).fetchall()
        except sqlite3.OperationalError as problem:
            if "no such table" in str(problem):  # it is being made
                return []
            raise


@contextlib.contextmanager
def _started(words: Sequence[str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-m", "trtverify", "grading", *words]
    environment = {**os.environ, "LANGUAGE": "en", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as program:
        try:
            yield program
        finally:
            program.kill()


def _workers(words: Sequence[str]) -> list[str]:
    at = words.index("--workers")
    return list(words[at : at + 2])


def _reached(one: Class, grader: subprocess.Popen[bytes], share: float) -> float | None:
    """Wait until so many checks have a verdict; None if the grader ended before."""
    while grader.poll() is None:
        found = rows(one.out, "SELECT verdict != 'pending' AND stale = 0 FROM results")
        if found and (done := sum(bool(row[0]) for row in found) / len(found)) >= share:
            return done
        time.sleep(_LOOK_SECONDS)
    return None


def _unmounted(one: Class, grader: subprocess.Popen[bytes], share: float) -> int | None:
    """Take the share away when so many are taken, an empty mount point in its place, until the grader ends."""
    aside = one.share.with_name(f"{one.share.name}.away")
    while grader.poll() is None:
        found = rows(one.out, "SELECT retake = 0 FROM students")
        if found and (taken := sum(bool(row[0]) for row in found)) >= share * len(found):
            one.share.rename(aside)
            one.share.mkdir()
            try:
                grader.wait()
            finally:
                one.share.rmdir()
                aside.rename(one.share)
            return taken
        time.sleep(_LOOK_SECONDS / 4)
    return None
