"""The one result model that every export is made from: rows, points, penalties, and what a student may read."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from trtverify.fixtures.words.columns import in_words
from trtverify.fixtures.words.messages import _

from .rubric import Rubric
from .store import CRASH, PENDING, Expected, Row, Store, Student

_CENT = Decimal("0.01")
_ZERO = Decimal("0.00")
# These say nothing of the student's work: nothing earned, nothing lost.
_NOT_GRADED = frozenset({"inconclusive", "not gradable"})


@dataclasses.dataclass(frozen=True)
class GradedRow:
    """One test of one student.

    Attributes:
        name: what a student sees; the hidden ones are numbered, since their names could give them away.
        test: the node id, for the teacher.
        possible: 0 where nothing was graded.
        message: what a student sees; the hint instead of the message where the rubric has one.
        detail: the test's own message, for the teacher.
    """

    name: str
    test: str
    lab: str
    verdict: str
    earned: Decimal
    possible: Decimal
    visibility: str
    message: str
    detail: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Grade:
    """One student's result. The rows' `earned` less the penalties is `earned`, to the cent.

    Attributes:
        penalties: lab → points taken for lateness.
        complete: every row has a verdict.
    """

    student: str
    rows: tuple[GradedRow, ...]
    penalties: Mapping[str, Decimal]
    notes: tuple[str, ...]
    complete: bool

    @property
    def penalty(self) -> Decimal:
        """Points taken for lateness."""
        return sum(self.penalties.values(), _ZERO)

    @property
    def earned(self) -> Decimal:
        """Points after the penalty."""
        return sum((row.earned for row in self.rows), _ZERO) - self.penalty

    @property
    def possible(self) -> Decimal:
        """Points of all that was graded."""
        return sum((row.possible for row in self.rows), _ZERO)


def grades(store: Store, rubric: Rubric) -> list[Grade]:
    """Every student's result, by name."""
    tests = {test.test: test for test in store.tests()}
    rows: dict[str, list[Row]] = {}
    for row in store.results():
        rows.setdefault(row.student, []).append(row)
    return [_grade(student, rows.get(student.student, []), tests, rubric, store) for student in store.students()]


def _grade(student: Student, rows: list[Row], tests: dict[str, Expected], rubric: Rubric, store: Store) -> Grade:
    submitted = rubric.submitted.get(
        student.student, datetime.datetime.fromtimestamp(student.submitted, datetime.timezone.utc)
    )
    graded: list[GradedRow] = []
    by_lab: dict[str, Decimal] = {}
    hidden = 0
    for row in rows:
        test = tests[row.test]
        rule = rubric.rule(row.test, test.hidden)
        points = rule.points if rule.points is not None else Decimal(str(test.points))
        worth = _cents(points * rubric.weights.get(test.lab, Decimal(1)))
        secret = rule.visibility != "visible"
        hidden += secret
        earned = worth if row.verdict == "passed" else _ZERO
        by_lab[test.lab] = by_lab.get(test.lab, _ZERO) + earned
        graded.append(
            GradedRow(
                name=_("hidden check {number}").format(number=hidden) if secret else _title(row.test),
                test=row.test,
                lab=test.lab,
                verdict=row.verdict,
                earned=earned,
                possible=_ZERO if row.verdict in _NOT_GRADED else worth,
                visibility=rule.visibility or "visible",
                message=_message(row, rule.hint, secret),
                detail=row.message,
                seconds=row.seconds,
            )
        )
    lost = {lab: _cents(earned * rubric.penalty(lab, submitted)) for lab, earned in by_lab.items()}
    made = store.made(student.digest) if student.digest is not None else None
    notes = (*student.notes, *(made[1] if made else ()))
    complete = bool(graded) and all(row.verdict != PENDING for row in graded)
    return Grade(student.student, tuple(graded), {lab: cost for lab, cost in lost.items() if cost}, notes, complete)


def _message(row: Row, hint: str | None, secret: bool) -> str:
    if row.verdict == "passed":
        return ""
    if row.verdict == PENDING:
        return _("not graded yet")
    if row.verdict in _NOT_GRADED:
        if secret:
            return _("not graded, and nothing lost by it")
        return _("not graded, and nothing lost by it: {message}").format(message=in_words(row.message))
    if hint is not None:
        return hint
    if secret:
        return _("a check that is not shown failed; go through the lab's requirements once more")
    if row.verdict == CRASH:
        return _("the check crashed twice on this submission: {message}").format(message=row.message)
    return row.message


def _title(test: str) -> str:
    return test.rpartition("/")[2].replace(".py::", ": ").replace("::", ": ")


def _cents(value: Decimal) -> Decimal:
    return value.quantize(_CENT, ROUND_HALF_UP)
