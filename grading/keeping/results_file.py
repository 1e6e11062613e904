"""The SQLite file that results are kept in: its tables, who may write it, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

_START = "python -m trtverify grading run SUBMISSIONS"
SCHEMA = 2
"""Kept as the file's `user_version`; 0 is a file from before it was, whose tables are those of 1 or between the two."""
_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tests (
    test TEXT PRIMARY KEY, position INTEGER NOT NULL, lab TEXT NOT NULL, points REAL NOT NULL, hidden INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS students (
    student TEXT PRIMARY KEY, source NOT NULL, submitted REAL NOT NULL,
    digest TEXT, notes TEXT NOT NULL DEFAULT '[]', listed TEXT NOT NULL DEFAULT '[]', retake INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS students_digest ON students (digest);
CREATE TABLE IF NOT EXISTS results (
    student TEXT NOT NULL REFERENCES students, test TEXT NOT NULL REFERENCES tests,
    verdict TEXT NOT NULL DEFAULT 'pending', message TEXT NOT NULL DEFAULT '', seconds REAL NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0,
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
CREATE TABLE IF NOT EXISTS spent (
    digest TEXT NOT NULL, suite TEXT NOT NULL, lab TEXT NOT NULL, seconds REAL NOT NULL, breaches INTEGER NOT NULL,
    PRIMARY KEY (digest, suite, lab)
);
CREATE TABLE IF NOT EXISTS parked (unit TEXT PRIMARY KEY, names TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS made (
    digest TEXT NOT NULL, scripts TEXT NOT NULL, artifacts TEXT NOT NULL, notes TEXT NOT NULL,
    again INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (digest, scripts)
);
CREATE TABLE IF NOT EXISTS leases (
    unit TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, since REAL NOT NULL
);
"""
_ADDED = {
    "students": ("listed TEXT NOT NULL DEFAULT '[]'", "retake INTEGER NOT NULL DEFAULT 0"),
    "results": ("stale INTEGER NOT NULL DEFAULT 0", "parked INTEGER NOT NULL DEFAULT 0"),
}


class StoreError(RuntimeError):
    """The results cannot be read or written; what was recorded before is safe."""


def held(folder: Path) -> bool:
    """Whether a folder holds results, as far as can be seen: it may be closed, and Path.is_file raises then."""
    return os.path.isfile(folder / "results.sqlite")  # noqa: PTH113


def connected(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file, with the tables of this version.

    Raises:
        StoreError: a later version made it.
    """
    if create:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Students' work, the teacher's own tests, and everybody's verdicts: nobody else's to read.
        path.parent.chmod(0o700)
    writable = create or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    db = sqlite3.connect(path, timeout=30, isolation_level=None) if writable else _read_only(path)
    if writable:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        db.close()
        raise StoreError(
            _("{file} was made by a later version of grading: schema {found}, known are {known} and before").format(
                file=path, found=found, known=SCHEMA
            )
        )
    if not writable:
        if found != SCHEMA:
            db.close()
            raise StoreError(
                _("{file} was made by an earlier version of grading, and cannot be written: copy {folder}").format(
                    file=path, folder=path.parent
                )
            )
        return db
    _bring_up_to_date(db)
    if create:
        db.executescript(_TABLES)
    if found != SCHEMA:
        db.execute(f"PRAGMA user_version = {SCHEMA}")
    return db


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a file where nothing can be written: as others may be writing it, else as one that nobody changes."""
    place = f"file:{urllib.parse.quote(str(path.resolve()))}"
    db = sqlite3.connect(f"{place}?mode=ro", uri=True, timeout=30, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.OperationalError:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:  # a grader was killed: without it verdicts would be missing
            raise
        db = sqlite3.connect(f"{place}?immutable=1", uri=True, isolation_level=None)
    return db


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    """Give the tables of an earlier version what this one needs; what scripts made is made again."""
    for table, columns in {**_ADDED, "made": ("again",)}.items():
        known = {str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")}
        lacking = [column for column in columns if known and column.split()[0] not in known]
        if table == "made" and lacking:
            db.execute("DROP TABLE made")
            lacking = []
        for column in lacking:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchall():
        db.executescript(_TABLES)


def seized(folder: Path) -> int | None:
    """The lock that one grader at a time has on results; it goes with the process. None: another has it."""
    fd = os.open(folder / "grader.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def process_started(pid: int) -> str | None:
    """When a living process started, in the kernel's ticks: so a pid is not mistaken for a later process's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # a zombie works no more


def alive(host: str, pid: int, started: str) -> bool:
    """Whether the process that took a lease still works."""
    return host == socket.gethostname() and process_started(pid) == started


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
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


class ResultsFile:
    """The open file: transactions, what the run was told, and who is at work.

    Raises:
        StoreError: there is none, or it cannot be read or written.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / "results.sqlite"
        if not create and not held(folder):
            said = _("{folder} holds no results: start with `{start} --out {folder}`")
            raise StoreError(said.format(folder=folder, start=_START))
        self._released: list[tuple[str]] = []
        self._lock: int | None = None
        try:
            with explained(self.path):
                self._db = connected(self.path, create=create)
        except StoreError as problem:
            if not held(folder) and isinstance(problem.__cause__, (sqlite3.Error, OSError)):
                said = _(
                    "{folder}: {problem}. Nothing is recorded there: make the folder writable, or give another --out"
                )
                raise StoreError(said.format(folder=folder, problem=problem.__cause__)) from problem
            raise

    def close(self) -> None:
        """Close the file; what is recorded stays recorded without it."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explained(self.path):
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
        with explained(self.path):
            return self._db.execute(query, values).fetchall()

    def setting(self, name: str) -> str:
        """A setting of the run.

        Raises:
            StoreError: there is none of this name.
        """
        found = self.setting_or_none(name)
        if found is None:
            raise StoreError(
                _("{file} has no setting {name!r}: it was not made by this version of grading").format(
                    file=self.path, name=name
                )
            )
        return found

    def setting_or_none(self, name: str) -> str | None:
        """A setting of the run, if there is one of this name."""
        rows = self._rows("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def keep(self, name: str, value: str) -> None:
        """Keep a setting."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def lease(self, unit: str, pid: int) -> None:
        """Take a unit of work for a process of this machine.

        Raises:
            StoreError: a living process has it.
        """
        with self._transaction() as db:
            held = db.execute("SELECT host, pid, started FROM leases WHERE unit = ?", (unit,)).fetchone()
            if held is not None and held[1] != pid and alive(*held):
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

    def hold(self) -> None:
        """Be the one grader of these results, until this process ends or they are closed.

        Raises:
            StoreError: another is.
        """
        if self._lock is None:
            with explained(self.path):
                self._lock = seized(self.path.parent)
            if self._lock is None:
                held = self._rows("SELECT pid, host FROM leases WHERE unit = 'grader'")
                pid, host = held[0] if held else ("?", "?")
                raise StoreError(
                    _("process {pid} on {host} is already at work on {folder}").format(
                        pid=pid, host=host, folder=self.path.parent
                    )
                )
        self._seize()

    def _seize(self) -> None:
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO leases VALUES ('grader', ?, ?, ?, ?)",
                (socket.gethostname(), os.getpid(), process_started(os.getpid()) or "", time.time()),
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
        living: list[tuple[str, int]] = []
        dead: list[tuple[str, int]] = []
        for unit, host, pid, started in self._rows("SELECT unit, host, pid, started FROM leases ORDER BY unit"):
            if (str(unit),) not in self._released:
                works = alive(str(host), int(str(pid)), str(started))
                (living if works else dead).append((str(unit), int(str(pid))))
        for unit, _pid in dead:
            self.release(unit)
        return living


def write_beside(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a killed run, sees the old one or the new one whole."""
    # Not named for the file, whose name may already be as long as a name can be.
    temporary = path.with_name(f".writing-{os.getpid()}-{secrets.token_hex(4)}")
    with explained(path):
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
