"""What is known of a class, in one SQLite file: nothing that was recorded is lost, whatever is killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

_START = "python -m trtverify grading run SUBMISSIONS"
PENDING = "pending"
CRASH = "crash"
CRASHES = 2  # of the same check, before `crash` is its verdict
SCHEMA = 1
"""Kept as the file's `user_version`; 0 is a file from before it was."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tests (
    test TEXT PRIMARY KEY, position INTEGER NOT NULL, lab TEXT NOT NULL, points REAL NOT NULL, hidden INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS students (
    student TEXT PRIMARY KEY, source TEXT NOT NULL, submitted REAL NOT NULL,
    digest TEXT, notes TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS students_digest ON students (digest);
CREATE TABLE IF NOT EXISTS results (
    student TEXT NOT NULL REFERENCES students, test TEXT NOT NULL REFERENCES tests,
    verdict TEXT NOT NULL DEFAULT 'pending', message TEXT NOT NULL DEFAULT '', seconds REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (student, test)
);
CREATE TABLE IF NOT EXISTS checks (
    digest TEXT NOT NULL, suite TEXT NOT NULL, test TEXT NOT NULL,
    verdict TEXT NOT NULL, message TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (digest, suite, test)
);
CREATE TABLE IF NOT EXISTS crashes (
    digest TEXT NOT NULL, suite TEXT NOT NULL, test TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (digest, suite, test)
);
CREATE TABLE IF NOT EXISTS made (digest TEXT PRIMARY KEY, artifacts TEXT NOT NULL, notes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    unit TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, since REAL NOT NULL
);
"""


class StoreError(RuntimeError):
    """The results cannot be read or written; what was recorded before is safe."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """One expected check: its pytest node id, its lab, what it is worth, whether it is the teacher's secret."""

    test: str
    lab: str
    points: float
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class Student:
    """One submission. `digest` is None until it was taken; `notes` are for student and teacher to read."""

    student: str
    source: str
    submitted: float
    digest: str | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one (student, test)."""

    student: str
    test: str
    verdict: str
    message: str
    seconds: float


class Store:
    """Open results. Only the grader itself writes; one transaction a result."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / "results.sqlite"
        if not create and not self.path.is_file():
            said = _("{folder} holds no results: start with `{start} --out {folder}`")
            raise StoreError(said.format(folder=folder, start=_START))
        self._released: list[tuple[str]] = []
        with _explained(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found > SCHEMA:
                self._db.close()
                raise StoreError(
                    _(
                        "{file} was made by a later version of grading: schema {found}, known are {known} and before"
                    ).format(file=self.path, found=found, known=SCHEMA)
                )
            if create:
                self._db.executescript(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    def close(self) -> None:
        """Close the file; what is recorded stays recorded without it."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                released = list(self._released)
                self._db.executemany("DELETE FROM leases WHERE unit = ?", released)
                yield self._db
                self._db.execute("COMMIT")
                del self._released[: len(released)]
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with _explained(self.path):
            return self._db.execute(query, values).fetchall()

    def expect(self, students: Iterable[Student], tests: Sequence[Expected], settings: dict[str, str]) -> None:
        """Write every expected (student, test) as pending, in one transaction, before anything is run.

        Content that the same suite has judged before gets its verdicts back when it is taken.
        """
        students = list(students)
        with self._transaction() as db:
            for name, value in settings.items():
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
            # Nothing is lost with these rows: verdicts are kept in `checks`, by content.
            db.execute("DELETE FROM results")
            db.execute("DELETE FROM tests")
            for position, test in enumerate(tests):
                values = (test.test, position, test.lab, test.points, test.hidden)
                db.execute("INSERT INTO tests VALUES (?, ?, ?, ?, ?)", values)
            db.execute("DELETE FROM students")
            for student in students:
                db.execute(
                    "INSERT INTO students (student, source, submitted) VALUES (?, ?, ?)",
                    (student.student, student.source, student.submitted),
                )
            db.execute("INSERT INTO results (student, test) SELECT student, test FROM students, tests")

    def setting(self, name: str) -> str:
        """A setting of the run."""
        rows = self._rows("SELECT value FROM settings WHERE name = ?", (name,))
        if not rows:
            raise StoreError(
                _("{file} has no setting {name!r}: it was not made by this version of grading").format(
                    file=self.path, name=name
                )
            )
        return str(rows[0][0])

    def tests(self) -> list[Expected]:
        """The expected tests, in the order of collection."""
        rows = self._rows("SELECT test, lab, points, hidden FROM tests ORDER BY position")
        return [Expected(str(t), str(lab), float(str(p)), bool(h)) for t, lab, p, h in rows]

    def students(self) -> list[Student]:
        """The expected students, by name."""
        rows = self._rows("SELECT student, source, submitted, digest, notes FROM students ORDER BY student")
        return [
            Student(str(s), str(src), float(str(t)), None if d is None else str(d), tuple(json.loads(str(n))))
            for s, src, t, d, n in rows
        ]

    def results(self, student: str | None = None) -> list[Row]:
        """Every row, by student and test order; of one student if given."""
        where = "" if student is None else "WHERE student = ?"
        rows = self._rows(
            f"SELECT student, test, verdict, message, seconds FROM results JOIN tests USING (test) {where} "
            "ORDER BY student, position",
            () if student is None else (student,),
        )
        return [Row(str(s), str(t), str(v), str(m), float(str(x))) for s, t, v, m, x in rows]

    def taken(self, student: str, digest: str, notes: Sequence[str], suite: str) -> int:
        """A submission was taken; checks of equal content by the same suite count for it at once.

        Returns:
            How many rows that settled.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE students SET digest = ?, notes = ? WHERE student = ?",
                (digest, json.dumps(list(notes)), student),
            )
            settled = db.execute(
                "UPDATE results SET (verdict, message, seconds) = (SELECT verdict, message, seconds FROM checks c "
                "WHERE c.digest = ? AND c.suite = ? AND c.test = results.test) "
                "WHERE student = ? AND verdict = 'pending' AND test IN (SELECT test FROM checks "
                "WHERE digest = ? AND suite = ?)",
                (digest, suite, student, digest, suite),
            )
        return settled.rowcount

    def rejected(self, student: str, message: str) -> int:
        """A submission could not be taken, through its own fault: every check of it failed. How many rows."""
        with self._transaction() as db:
            db.execute("UPDATE students SET notes = ? WHERE student = ?", (json.dumps([message]), student))
            settled = db.execute(
                "UPDATE results SET verdict = 'failed', message = ? WHERE student = ? AND verdict = 'pending'",
                (message, student),
            )
        return settled.rowcount

    def record(self, digest: str, suite: str, test: str, verdict: str, message: str, seconds: float) -> int:
        """Record a verdict for all who handed in this content. A verdict that is there stays. How many rows."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO checks VALUES (?, ?, ?, ?, ?, ?)",
                (digest, suite, test, verdict, message, seconds),
            )
            settled = db.execute(
                "UPDATE results SET verdict = ?, message = ?, seconds = ? WHERE test = ? AND verdict = 'pending' "
                "AND student IN (SELECT student FROM students WHERE digest = ?)",
                (verdict, message, seconds, test, digest),
            )
        return settled.rowcount

    def crashed(self, digest: str, suite: str, test: str, reason: str) -> int:
        """Count a crash of a check; at the second, record it. How many rows that settled."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO crashes VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                (digest, suite, test),
            )
            found = db.execute(
                "SELECT count FROM crashes WHERE digest = ? AND suite = ? AND test = ?", (digest, suite, test)
            ).fetchone()
        if found[0] < CRASHES:
            return 0
        return self.record(digest, suite, test, CRASH, reason, 0.0)

    def pending(self) -> list[tuple[str, str | None, str]]:
        """(student, digest, test) of every row without a verdict."""
        rows = self._rows(
            "SELECT student, digest, test FROM results JOIN students USING (student) JOIN tests USING (test) "
            "WHERE verdict = 'pending' ORDER BY student, position"
        )
        return [(str(s), None if d is None else str(d), str(t)) for s, d, t in rows]

    def untested(self, digest: str) -> list[str]:
        """The tests that this content has no verdict on, in the order of collection."""
        rows = self._rows(
            "SELECT test FROM tests WHERE test IN (SELECT test FROM results JOIN students USING (student) "
            "WHERE verdict = 'pending' AND digest = ?) ORDER BY position",
            (digest,),
        )
        return [str(test) for (test,) in rows]

    def made(self, digest: str) -> tuple[str, tuple[str, ...]] | None:
        """What a submission's scripts made: the digest of artifacts and all, and notes."""
        rows = self._rows("SELECT artifacts, notes FROM made WHERE digest = ?", (digest,))
        return (str(rows[0][0]), tuple(json.loads(str(rows[0][1])))) if rows else None

    def record_made(self, digest: str, artifacts: str, notes: Sequence[str]) -> None:
        """Record what a submission's scripts made, so that they run once."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO made VALUES (?, ?, ?)", (digest, artifacts, json.dumps(list(notes))))

    def forget(self, students: Sequence[str]) -> None:
        """Make these students' rows pending again, and drop every check of their content."""
        with self._transaction() as db:
            for student in students:
                db.execute(
                    "DELETE FROM checks WHERE digest = (SELECT digest FROM students WHERE student = ?)", (student,)
                )
                db.execute(
                    "DELETE FROM crashes WHERE digest = (SELECT digest FROM students WHERE student = ?)", (student,)
                )
                db.execute(
                    "DELETE FROM made WHERE digest = (SELECT digest FROM students WHERE student = ?)", (student,)
                )
                db.execute(
                    "UPDATE results SET verdict = 'pending', message = '', seconds = 0 WHERE student = ?", (student,)
                )
                db.execute("UPDATE students SET digest = NULL, notes = '[]' WHERE student = ?", (student,))

    def lease(self, unit: str, pid: int) -> None:
        """Take a unit of work for a process of this machine.

        Raises:
            StoreError: a living process has it.
        """
        with self._transaction() as db:
            held = db.execute("SELECT host, pid, started FROM leases WHERE unit = ?", (unit,)).fetchone()
            if held is not None and held[1] != pid and _alive(*held):
                raise StoreError(
                    _("process {pid} on {host} is already at work on {unit} in {folder}").format(
                        pid=held[1], host=held[0], unit=unit, folder=self.path.parent
                    )
                )
            db.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)",
                (unit, socket.gethostname(), pid, process_started(pid) or "", time.time()),
            )

    def refuse_if_at_work(self) -> None:
        """Stop before anything is changed under a grader that is at work.

        Raises:
            StoreError: one is.
        """
        for unit, pid in self.leases():
            if unit == "grader" and pid != os.getpid():
                raise StoreError(
                    _("process {pid} is already at work on {folder}").format(pid=pid, folder=self.path.parent)
                )

    def release(self, unit: str) -> None:
        """Give a unit back, in the transaction of what is written next."""
        self._released.append((unit,))

    def flush(self) -> None:
        """Write what waits for a transaction."""
        with self._transaction():
            pass

    def leases(self) -> list[tuple[str, int]]:
        """(unit, pid) of leases whose process lives; those of the dead are dropped."""
        alive: list[tuple[str, int]] = []
        dead: list[tuple[str, int]] = []
        for unit, host, pid, started in self._rows("SELECT unit, host, pid, started FROM leases ORDER BY unit"):
            if (str(unit),) not in self._released:
                (alive if _alive(str(host), int(str(pid)), str(started)) else dead).append((str(unit), int(str(pid))))
        for unit, _pid in dead:
            self.release(unit)
        return alive


def process_started(pid: int) -> str | None:
    """When a living process started, in the kernel's ticks: so a pid is not mistaken for a later process's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # a zombie works no more


def _alive(host: str, pid: int, started: str) -> bool:
    return host == socket.gethostname() and process_started(pid) == started


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one message with the next step."""
    try:
        yield
    except (sqlite3.Error, OSError) as problem:
        raise StoreError(
            _(
                "{file}: {problem}. What was recorded before is safe. Free space or make the folder writable, "
                "then `python -m trtverify grading resume`."
            ).format(file=path, problem=problem)
        ) from problem


def write_beside(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a killed run, sees the old one or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _explained(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            temporary.unlink(missing_ok=True)
