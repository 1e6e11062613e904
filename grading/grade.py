"""The one result model that every export is made from: rows, points, deductions, and what a student may read."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from trtverify.fixtures.words.columns import in_words
from trtverify.fixtures.words.messages import _

from .store import CRASH, PENDING, Expected, Row, Store, StoreError, Student
from .taking.layouts import source_word
from .taking.roster import Person
from .worth import points
from .worth.points import NOT_GRADED, Worth
from .worth.rules import Rubric, Rule, matches

_ZERO = Decimal("0.00")
HIDDEN = "hidden"
"""The verdict on checks that are not shown, as a student sees them together."""


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
class Deduction:
    """Points taken from a lab, and why, as the student may read it."""

    lab: str
    name: str
    points: Decimal
    message: str


@dataclasses.dataclass(frozen=True)
class Grade:
    """One student's result. The rows' `earned` less caps and penalties is `earned`, to the cent.

    Attributes:
        penalties: lab → points taken for lateness.
        complete: every row has a verdict, and none was set aside.
        caps: lab → points taken since an essential check of it failed, or nothing was handed in for it.
        reasons: lab → why it is capped, as the student may read it.
        submitted: when it was handed in, and by what that is known; "" where nothing is due.
        person: whom the roster names; None without one.
    """

    student: str
    rows: tuple[GradedRow, ...]
    penalties: Mapping[str, Decimal]
    notes: tuple[str, ...]
    complete: bool
    caps: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    submitted: str = ""
    person: Person | None = None
    aside: bool = False
    """Something of it was set aside: it could not be graded, and is tried again."""

    @property
    def penalty(self) -> Decimal:
        """Points taken for lateness."""
        return sum(self.penalties.values(), _ZERO)

    @property
    def earned(self) -> Decimal:
        """Points after caps and penalty."""
        return sum((row.earned for row in self.rows), _ZERO) - sum(self.caps.values(), _ZERO) - self.penalty

    @property
    def possible(self) -> Decimal:
        """Points of all that there is: the same for everybody; 0 where nothing could be graded."""
        return sum((row.possible for row in self.rows), _ZERO)

    @property
    def deductions(self) -> tuple[Deduction, ...]:
        """What is taken after the rows, lab by lab: caps, then lateness."""
        caps = [Deduction(lab, _("lab capped"), cost, self.reasons.get(lab, "")) for lab, cost in self.caps.items()]
        late = [Deduction(lab, _("handed in late"), cost, self.submitted) for lab, cost in self.penalties.items()]
        return (*caps, *late)

    @property
    def shown(self) -> tuple[GradedRow, ...]:
        """The rows as the student may see them: of those not visible, one for each lab with their points together."""
        found = [row for row in self.rows if row.visibility == "visible"]
        secret: dict[tuple[str, str], list[GradedRow]] = {}
        for row in self.rows:
            if row.visibility != "visible":
                secret.setdefault((row.lab, row.visibility), []).append(row)
        return (*found, *(_together(rows) for rows in secret.values()))


def _together(rows: Sequence[GradedRow]) -> GradedRow:
    pending = any(row.verdict == PENDING for row in rows)
    return dataclasses.replace(
        rows[0],
        name=_("hidden checks: {count}").format(count=len(rows)),
        test="",
        verdict=PENDING if pending else HIDDEN,
        earned=sum((row.earned for row in rows), _ZERO),
        possible=sum((row.possible for row in rows), _ZERO),
        message=_("not graded yet") if pending else "",
        detail="",
        seconds=0.0,
    )


def grades(store: Store, rubric: Rubric) -> list[Grade]:
    """Every student's result, by name."""
    tests = {test.test: test for test in store.tests()}
    whole = points.worth(tests.values(), rubric)
    titles, people = _kept(store, "titles"), _kept(store, "people")
    rows: dict[str, list[Row]] = {}
    for row in store.results():
        # What was set aside has no verdict: it keeps its worth, and nothing is given out as graded.
        waits = row.parked and row.verdict in NOT_GRADED
        rows.setdefault(row.student, []).append(dataclasses.replace(row, verdict=PENDING) if waits else row)
    found = []
    for student in store.students():
        known = people.get(student.student, {})
        of = _Of(student, rows.get(student.student, []), tests, rubric, whole, titles, known)
        found.append(of.grade(store))
    return found


def _kept(store: Store, name: str) -> dict[str, dict[str, str]]:
    """A table that was kept with the settings; nothing where an earlier version kept none."""
    try:
        found: dict[str, dict[str, str]] = json.loads(store.setting(name))
    except StoreError:
        return {}
    return found


@dataclasses.dataclass(frozen=True)
class _Of:
    """One student's grading."""

    student: Student
    rows: Sequence[Row]
    tests: Mapping[str, Expected]
    rubric: Rubric
    worth: Worth
    titles: Mapping[str, dict[str, str]]
    known: Mapping[str, str]

    def grade(self, store: Store) -> Grade:
        labs = [self.tests[row.test].lab for row in self.rows]
        exact = points.possible(self.worth, [(r.test, lab, r.verdict) for r, lab in zip(self.rows, labs, strict=True)])
        passed = [row.verdict == "passed" for row in self.rows]
        whole = points.cents(exact, lambda index: passed[index])
        made = store.made(self.student.digest) if self.student.digest is not None else None
        notes = (*self.student.notes, *(made[1] if made else ()))
        aside = any(row.parked for row in self.rows)
        if aside:
            notes = (
                *notes,
                _("set aside: it could not be graded yet, through no fault of the work; it is tried again"),
            )
        rows = self._graded(whole, passed)

        at, by, odd = self._submitted()
        earned: dict[str, Fraction] = {}
        most: dict[str, Fraction] = {}
        for lab, share, won in zip(labs, exact, passed, strict=True):
            earned[lab] = earned.get(lab, Fraction(0)) + share * won
            most[lab] = most.get(lab, Fraction(0)) + share
        reasons: dict[str, str] = {}
        running = sum(earned.values(), Fraction(0))
        caps: dict[str, Decimal] = {}
        for lab in earned:
            share, reason = self._cap(lab, rows, store.path.parent / "snapshots", made[0] if made else None)
            lost = max(Fraction(0), earned[lab] - share * most[lab])
            if lost:
                reasons[lab] = reason
                caps[lab], running = _taken(running, lost)
                earned[lab] -= lost
        late: dict[str, Decimal] = {}
        for lab in earned:
            late[lab], running = _taken(running, earned[lab] * Fraction(self.rubric.penalty(lab, at)))
        due = any(self.rubric.deadline(lab) is not None for lab in labs)
        if by and self.rubric.lenient:
            by = _("{time}; lateness costs nothing").format(time=by)
        return Grade(
            self.student.student,
            tuple(rows),
            {lab: cost for lab, cost in late.items() if cost},
            (*notes, *odd),
            bool(rows) and not aside and all(row.verdict != PENDING for row in rows),
            {lab: cost for lab, cost in caps.items() if cost},
            reasons,
            by if due else "",
            Person.kept(self.known),
            aside,
        )

    def _graded(self, whole: Sequence[int], passed: Sequence[bool]) -> list[GradedRow]:
        graded: list[GradedRow] = []
        hidden = 0
        for row, worth, won in zip(self.rows, whole, passed, strict=True):
            test = self.tests[row.test]
            rule = self.rubric.rule(row.test, test.hidden)
            secret = test.hidden or rule.visibility != "visible"
            hidden += secret
            money = Decimal(worth).scaleb(-2)
            graded.append(
                GradedRow(
                    name=_("hidden check {number}").format(number=hidden) if secret else self._name(row.test),
                    test=row.test,
                    lab=test.lab,
                    verdict=row.verdict,
                    earned=money if won else _ZERO,
                    possible=_ZERO if row.verdict in NOT_GRADED else money,
                    visibility=rule.visibility or "visible",
                    message=_message(row, rule, secret),
                    detail=row.message,
                    seconds=row.seconds,
                )
            )
        return _distinct(graded)

    def _name(self, test: str) -> str:
        """The first sentence of what the test says of itself, with its case; its own name where it says nothing."""
        said = self.titles.get(test, {}).get("title", "")
        if not said:
            return test.rpartition("/")[2].replace(".py::", ": ").replace("::", ": ")
        case = test.partition("[")[2].removesuffix("]")
        return f"{said} [{case}]" if case else said

    def _submitted(self) -> tuple[datetime.datetime, str, tuple[str, ...]]:
        """When it was handed in, that with its source, and a note where the time is none."""
        known, source = self.rubric.submitted.get(self.student.student), "rubric"
        if known is None and not self.student.submitted:  # a note of the listing says why
            return datetime.datetime.min.replace(tzinfo=datetime.timezone.utc), "", ()
        if known is None:
            source = self.known.get("time", "file")
            try:
                known = datetime.datetime.fromtimestamp(self.student.submitted, datetime.timezone.utc)
            except (OverflowError, ValueError, OSError):
                note = _("its time, {seconds:g} s after 1970, is none: it is not counted as late").format(
                    seconds=self.student.submitted
                )
                return datetime.datetime.min.replace(tzinfo=datetime.timezone.utc), "", (note,)
        said = _("handed in {time} ({source})").format(
            time=known.isoformat(sep=" ", timespec="minutes"), source=source_word(source)
        )
        return known, said, ()

    def _cap(self, lab: str, rows: Sequence[GradedRow], snapshots: Path, made: str | None) -> tuple[Fraction, str]:
        """The largest share of a lab that can be earned, and why."""
        share, reason = Fraction(1), ""
        for gate in self.rubric.gates.get(lab, ()):
            failed = [row for row in rows if row.lab == lab and matches(gate.match, row.test) and _failed(row)]
            if failed and Fraction(gate.at_most) < share:
                share = Fraction(gate.at_most)
                shown = failed[0].visibility == "visible"
                reason = _("{share:.0%} of this lab at most, since this failed: {check}").format(
                    share=float(share), check=failed[0].name if shown else _("a check that is not shown")
                )
        digests = [digest for digest in (self.student.digest, made) if digest is not None]
        if self.rubric.files.get(lab) and digests and not _anything(snapshots, digests, lab, self.rubric.files[lab]):
            return Fraction(0), _("nothing was handed in for this lab")
        return share, reason


def _failed(row: GradedRow) -> bool:
    return row.verdict in ("failed", CRASH)


def _anything(snapshots: Path, digests: Sequence[str], lab: str, patterns: Sequence[str]) -> bool:
    """Whether anything of a lab was handed in or made, by its names; also where the snapshots are gone."""
    folders = [snapshots / digest for digest in digests if (snapshots / digest).is_dir()]
    if not folders:
        return True
    places = [folder / inner for folder in folders for inner in ("", lab, "labs") if (folder / inner).is_dir()]
    names = [entry.name for place in places for entry in place.iterdir()]
    return any(matches(f"/{pattern}", f"/{name}") for pattern in patterns for name in names)


def _taken(running: Fraction, lost: Fraction) -> tuple[Decimal, Fraction]:
    """What a deduction is in cents, so that the sum after it is rounded once, and that sum."""
    left = running - lost
    return Decimal(points.rounded(running) - points.rounded(left)).scaleb(-2), left


def _distinct(rows: list[GradedRow]) -> list[GradedRow]:
    """The rows with names that differ: two that say the same of themselves are told apart by where they stand."""
    counts = collections.Counter(row.name for row in rows)
    return [
        dataclasses.replace(row, name=f"{row.name} ({_place(row.test)})") if counts[row.name] > 1 else row
        for row in rows
    ]


def _place(test: str) -> str:
    return test.partition("[")[0].rpartition("/")[2].replace(".py::", ": ").replace("::", ": ")


def _message(row: Row, rule: Rule, secret: bool) -> str:
    """What the student reads. Of a hidden test, not a word that it said itself."""
    if row.verdict == "passed":
        return ""
    if row.verdict == PENDING:
        return _("not graded yet")
    if row.verdict in NOT_GRADED:
        if secret:
            return _("not graded, and nothing lost by it")
        return _("not graded, and nothing lost by it: {message}").format(message=in_words(row.message))
    if rule.hint is not None:
        return rule.hint
    if secret:
        return _("a check that is not shown failed; go through the lab's requirements once more")
    if row.verdict == CRASH:
        return _("the check crashed twice on this submission: {message}").format(message=row.message)
    return row.message
