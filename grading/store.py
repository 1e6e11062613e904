"""What is known of a class, in one SQLite file: nothing that was recorded is lost, whatever is killed."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence

from .keeping.results_file import SCHEMA as SCHEMA
from .keeping.results_file import ResultsFile
from .keeping.results_file import StoreError as StoreError
from .keeping.results_file import held as held
from .keeping.results_file import write_beside as write_beside

PENDING = "pending"
CRASH = "crash"
CRASHES = 2  # of the same check, before `crash` is its verdict
# A row that has no verdict yet, or whose verdict is of work or tests as they were.
_OPEN = "(verdict = 'pending' OR stale = 1)"


@dataclasses.dataclass(frozen=True)
class Expected:
    """One expected check: its pytest node id, its lab, what it is worth, whether it is the teacher's secret."""

    test: str
    lab: str
    points: float
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class Student:
    """One submission. `notes` are for student and teacher to read.

    Attributes:
        source: the folder or archive; its name need not be UTF-8 (`os.fsdecode`).
        submitted: seconds since 1970; 0 where that cannot be told.
        digest: of its content; None until it was taken.
        retake: it is to be taken (again).
    """

    student: str
    source: str
    submitted: float
    digest: str | None = None
    notes: tuple[str, ...] = ()
    retake: bool = True


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one (student, test). `parked`: it was set aside, and its verdict is not the last word."""

    student: str
    test: str
    verdict: str
    message: str
    seconds: float
    parked: bool = False


class Store(ResultsFile):
    """Open results. Only the grader itself writes; one transaction a result."""

    def expect(
        self,
        students: Iterable[Student],
        tests: Sequence[Expected],
        settings: dict[str, str],
        only: Sequence[str] | None = None,
        *,
        afresh: bool = False,
    ) -> None:
        """Write every expected (student, test), in one transaction, before anything is run.

        Verdicts that are there stay until new ones fall. Content that the same suite has judged before gets its
        verdicts back when it is taken.

        Args:
            students: as they were listed now, their `notes` those of the listing.
            tests: as they were collected now.
            settings: name → value, to be kept.
            only: nobody else's rows are touched. None: everybody's, and who was not listed is dropped.
            afresh: verdicts of equal content do not count.
        """
        listed = [student for student in students if only is None or student.student in only]
        with self._transaction() as db:
            for name, value in settings.items():
                db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
            db.execute("CREATE TEMP TABLE IF NOT EXISTS now (student TEXT PRIMARY KEY)")
            db.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (test TEXT PRIMARY KEY)")
            for table, names in (("now", [s.student for s in listed]), ("wanted", [test.test for test in tests])):
                db.execute(f"DELETE FROM {table}")
                db.executemany(f"INSERT INTO {table} VALUES (?)", [(name,) for name in names])
            if only is None:
                db.execute("DELETE FROM results WHERE student NOT IN now")
                db.execute("DELETE FROM students WHERE student NOT IN now")
            for position, test in enumerate(tests):
                db.execute(
                    "INSERT INTO tests VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position, "
                    "lab = excluded.lab, points = excluded.points, hidden = excluded.hidden",
                    (test.test, position, test.lab, test.points, test.hidden),
                )
            for student in listed:
                db.execute(
                    "INSERT INTO students (student, source, submitted, listed) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET source = excluded.source, submitted = excluded.submitted, "
                    "listed = excluded.listed, retake = 1",
                    (student.student, os.fsencode(student.source), student.submitted, json.dumps(student.notes)),
                )
            if afresh:
                for table in ("checks", "crashes", "spent"):
                    db.execute(
                        f"DELETE FROM {table} WHERE digest IN (SELECT digest FROM students WHERE student IN now)"
                    )
                db.execute(
                    "UPDATE made SET again = 1 WHERE digest IN (SELECT digest FROM students WHERE student IN now)"
                )
            db.execute("DELETE FROM results WHERE student IN now AND test NOT IN wanted")
            db.execute("DELETE FROM tests WHERE test NOT IN wanted AND test NOT IN (SELECT test FROM results)")
            db.execute(
                "UPDATE results SET stale = (verdict != 'pending'), parked = 0 WHERE student IN now",
            )
            db.execute("INSERT OR IGNORE INTO results (student, test) SELECT student, test FROM now, wanted")

    def tests(self) -> list[Expected]:
        """The expected tests, in the order of collection."""
        rows = self._rows("SELECT test, lab, points, hidden FROM tests ORDER BY position")
        return [Expected(str(t), str(lab), float(str(p)), bool(h)) for t, lab, p, h in rows]

    def students(self) -> list[Student]:
        """The expected students, by name."""
        rows = self._rows(
            "SELECT student, source, submitted, digest, listed, notes, retake FROM students ORDER BY student"
        )
        return [
            Student(
                str(s),
                os.fsdecode(source) if isinstance(source, (bytes, str)) else "",
                float(str(t)),
                None if d is None else str(d),
                tuple(dict.fromkeys([*json.loads(str(listed)), *json.loads(str(notes))])),
                bool(retake),
            )
            for s, source, t, d, listed, notes, retake in rows
        ]

    def results(self, student: str | None = None) -> list[Row]:
        """Every row, by student and test order; of one student if given."""
        where = "" if student is None else "WHERE student = ?"
        rows = self._rows(
            f"SELECT student, test, verdict, message, seconds, parked FROM results JOIN tests USING (test) {where} "
            "ORDER BY student, position",
            () if student is None else (student,),
        )
        return [Row(str(s), str(t), str(v), str(m), float(str(x)), bool(p)) for s, t, v, m, x, p in rows]

    def taken(self, student: str, digest: str, notes: Sequence[str], suite: str) -> int:
        """A submission was taken; checks of equal content by the same suite count for it at once.

        Returns:
            How many rows that settled.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE students SET digest = ?, notes = ?, retake = 0 WHERE student = ?",
                (digest, json.dumps(list(notes)), student),
            )
            settled = db.execute(
                "UPDATE results SET (verdict, message, seconds) = (SELECT verdict, message, seconds FROM checks c "
                "WHERE c.digest = ? AND c.suite = ? AND c.test = results.test), stale = 0, parked = 0 "
                f"WHERE student = ? AND {_OPEN} AND test IN (SELECT test FROM checks WHERE digest = ? AND suite = ?)",
                (digest, suite, student, digest, suite),
            )
        return settled.rowcount

    def rejected(self, student: str, message: str) -> int:
        """A submission could not be taken, through its own fault: every check of it failed. How many rows."""
        with self._transaction() as db:
            db.execute(
                "UPDATE students SET digest = NULL, notes = ?, retake = 0 WHERE student = ?",
                (json.dumps([message]), student),
            )
            settled = db.execute(
                "UPDATE results SET verdict = 'failed', message = ?, seconds = 0, stale = 0, parked = 0 "
                f"WHERE student = ? AND {_OPEN}",
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
                "UPDATE results SET verdict = ?, message = ?, seconds = ?, stale = 0, parked = 0 "
                f"WHERE test = ? AND {_OPEN} "
                "AND student IN (SELECT student FROM students WHERE digest = ? AND retake = 0)",
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
        """(student, digest, test) of every row without a verdict, or with one that is to be found again."""
        rows = self._rows(
            "SELECT student, digest, test FROM results JOIN students USING (student) JOIN tests USING (test) "
            f"WHERE {_OPEN} ORDER BY student, position"
        )
        return [(str(s), None if d is None else str(d), str(t)) for s, d, t in rows]

    def untested(self, digest: str) -> list[str]:
        """The tests that this content has no verdict on, in the order of collection."""
        rows = self._rows(
            "SELECT test FROM tests WHERE test IN (SELECT test FROM results JOIN students USING (student) "
            f"WHERE {_OPEN} AND digest = ? AND retake = 0) ORDER BY position",
            (digest,),
        )
        return [str(test) for (test,) in rows]

    def made(self, digest: str, scripts: str | None = None) -> tuple[str, tuple[str, ...]] | None:
        """What a submission's scripts made: the digest of artifacts and all, and notes.

        Args:
            digest: of what was handed in.
            scripts: how scripts are run now, to be made that way. None: whatever was made last.
        """
        query = "SELECT artifacts, notes FROM made WHERE digest = ?"
        if scripts is None:
            rows = self._rows(f"{query} ORDER BY rowid DESC LIMIT 1", (digest,))
        else:
            rows = self._rows(f"{query} AND scripts = ? AND again = 0", (digest, scripts))
        return (str(rows[0][0]), tuple(json.loads(str(rows[0][1])))) if rows else None

    def record_made(self, digest: str, scripts: str, artifacts: str, notes: Sequence[str]) -> None:
        """Record what a submission's scripts made, run this way, so that they run once."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, 0)",
                (digest, scripts, artifacts, json.dumps(list(notes))),
            )

    def charge(self, digest: str, suite: str, seconds: float, lab: str = "", breaches: int = 0) -> None:
        """Add to what grading this content has cost, and to the limits that it broke in a lab."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO spent VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "seconds = seconds + excluded.seconds, breaches = breaches + excluded.breaches",
                (digest, suite, lab, seconds, breaches),
            )

    def spent(self, digest: str, suite: str) -> tuple[float, dict[str, int]]:
        """The seconds that grading this content has cost, and lab → the limits that it broke."""
        rows = self._rows("SELECT lab, seconds, breaches FROM spent WHERE digest = ? AND suite = ?", (digest, suite))
        return sum(float(str(s)) for _lab, s, _n in rows), {str(lab): int(str(n)) for lab, _s, n in rows}

    def park(self, unit: str, reason: str, *, digest: str | None = None, student: str | None = None) -> tuple[int, str]:
        """Set a unit aside: its rows say that they are not gradable and why, until `unpark`.

        Returns:
            How many rows, and the students that it is of.
        """
        who = "SELECT student FROM students WHERE student = ? OR (digest = ? AND retake = 0)"
        with self._transaction() as db:
            names = ", ".join(str(name) for (name,) in db.execute(f"{who} ORDER BY student", (student, digest)))
            db.execute("INSERT OR REPLACE INTO parked VALUES (?, ?, ?)", (unit, names, reason))
            settled = db.execute(
                "UPDATE results SET message = CASE verdict WHEN 'pending' THEN ? ELSE message END, "
                "verdict = CASE verdict WHEN 'pending' THEN 'not gradable' ELSE verdict END, stale = 0, parked = 1 "
                f"WHERE {_OPEN} AND student IN ({who})",
                (reason, student, digest),
            )
        return settled.rowcount, names

    def parked(self) -> list[tuple[str, str]]:
        """(students, reason) of what was set aside."""
        rows = self._rows("SELECT names, reason FROM parked ORDER BY names")
        return [(str(names), str(reason)) for names, reason in rows]

    def judged(self) -> bool:
        """Whether there is a verdict on anything."""
        return bool(self._rows("SELECT 1 FROM results WHERE verdict != 'pending' AND parked = 0 LIMIT 1"))

    def deadly(self) -> list[str]:
        """The tests that crashed on every work that there is, of two at least: it may be the test."""
        rows = self._rows(
            "SELECT test FROM results JOIN students USING (student) JOIN tests USING (test) WHERE digest IS NOT NULL "
            "GROUP BY test HAVING COUNT(DISTINCT digest) > 1 AND SUM(verdict != ? OR parked OR stale) = 0 "
            "ORDER BY position",
            (CRASH,),
        )
        return [str(test) for (test,) in rows]

    def unpark(self) -> None:
        """Try again what was set aside."""
        with self._transaction() as db:
            db.execute("DELETE FROM parked")
            db.execute("UPDATE results SET stale = 1, parked = 0 WHERE parked = 1")
