"""What the pages of a class show: figures and sentences from the one result model, ready to be laid out."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from trtverify.fixtures.report.charts import Axis, axis
from trtverify.fixtures.words.columns import finding_parts, reason

from ..grade import Grade, GradedRow
from ..store import CRASH, PENDING

FAILURES = ("failed", CRASH)
_UNDECIDED = ("inconclusive", "not gradable")
_BINS = 10
_NUMBER = re.compile(r"(?<![A-Za-z_])\d[\d.,]*")  # not the 16 of FP16


@dataclasses.dataclass(frozen=True)
class Points:
    """What a class earned in one lab, or in all: one value a student, and the most that anyone could earn."""

    lab: str | None
    earned: tuple[Decimal, ...]
    most: Decimal

    @property
    def mean(self) -> float:
        """Points."""
        return float(statistics.fmean(self.earned))

    @property
    def median(self) -> float:
        """Points."""
        return float(statistics.median(self.earned))

    def scale(self) -> Axis:
        """From 0 to the most, with round ticks."""
        low, high = min(0.0, *map(float, self.earned)), max(float(self.most), *map(float, self.earned)) or 1.0
        return Axis(low, high, tuple(tick for tick in axis([low, high]).ticks if low <= tick <= high))

    def bars(self) -> list[tuple[float, float, int]]:
        """From, to, and how many students lie between, the upper end belonging to the last bar alone."""
        scale = self.scale()
        width = (scale.high - scale.low) / _BINS
        counts = Counter(min(int((float(value) - scale.low) / width), _BINS - 1) for value in self.earned)
        return [(scale.low + n * width, scale.low + (n + 1) * width, counts[n]) for n in range(_BINS)]


@dataclasses.dataclass(frozen=True)
class Said:
    """A failure in parts, or in one text where its message has none.

    Attributes:
        look: what to look at next; the teacher's hint where the rubric has one.
    """

    expected: str = ""
    found: str = ""
    look: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Cause:
    """One cause of failure: an example of what was said, whom it struck, and in which checks."""

    example: Said
    students: int
    checks: int
    tests: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Slow:
    """How long one check takes, in seconds."""

    test: str
    median: float
    longest: float
    together: float


@dataclasses.dataclass(frozen=True)
class Pupil:
    """One student's line in the overview, and page."""

    result: Grade

    def earned(self, lab: str) -> Decimal:
        """Points of a lab, before what lateness takes."""
        return sum((row.earned for row in self.of(lab)), Decimal("0.00"))

    def possible(self, lab: str) -> Decimal:
        """Points of what was graded of a lab."""
        return sum((row.possible for row in self.of(lab)), Decimal("0.00"))

    @property
    def share(self) -> float | None:
        """What was earned of what was possible, in per cent; None where nothing was graded."""
        return float(100 * self.result.earned / self.result.possible) if self.result.possible else None

    @property
    def labs(self) -> list[str]:
        """The labs that there are checks of; "" is none."""
        return labs([self.result])

    @property
    def states(self) -> list[str]:
        """What the table can be narrowed to."""
        verdicts = {row.verdict for row in self.result.rows}
        found = [state for state in ("failed", CRASH, PENDING) if state in verdicts]
        return [*found, *(["aside"] if self.result.aside else []), *(["late"] if self.result.penalty else [])]

    def of(self, lab: str) -> list[GradedRow]:
        """The checks of a lab."""
        return [row for row in self.result.rows if row.lab == lab]

    def count(self, *verdicts: str) -> int:
        """How many checks ended so."""
        return sum(row.verdict in verdicts for row in self.result.rows)

    def failures(self) -> list[tuple[GradedRow, Said]]:
        """What failed, as the student may read it."""
        return [(row, _told(row)) for row in self.result.rows if row.verdict in FAILURES]

    def undecided(self) -> dict[tuple[str, str], list[GradedRow]]:
        """Checks that say nothing of the work, by their reason; what is hidden has none."""
        said: dict[tuple[bool, str], list[GradedRow]] = {}
        for row in self.result.rows:
            if row.verdict in _UNDECIDED:
                visible = row.visibility == "visible"
                said.setdefault((visible, row.detail if visible else row.message), []).append(row)
        ordered = sorted(said.items(), key=lambda item: -len(item[1]))
        return {reason(text) if visible else ("", text): rows for (visible, text), rows in ordered}


def labs(results: Iterable[Grade]) -> list[str]:
    """The labs that there are checks of, "" (no lab's) last."""
    return sorted({row.lab for result in results for row in result.rows}, key=lambda lab: (not lab, lab))


def points(results: Sequence[Grade]) -> list[Points]:
    """How points are distributed: over all labs as they count in the end, then in each lab before lateness."""
    pupils = [Pupil(result) for result in results]
    found = [Points(None, tuple(r.earned for r in results), max((r.possible for r in results), default=Decimal(0)))]
    for lab in labs(results):
        most = max(pupil.possible(lab) for pupil in pupils)
        found.append(Points(lab, tuple(pupil.earned(lab) for pupil in pupils), most))
    return found


def causes(results: Sequence[Grade], most: int = 12) -> list[Cause]:
    """The commonest causes of failure, for the teacher: what differs in numbers alone is one cause."""
    rows: dict[str, list[tuple[str, GradedRow]]] = {}
    for result in results:
        for row in result.rows:
            if row.verdict in FAILURES:
                rows.setdefault(_kind(row), []).append((result.student, row))
    found = []
    for struck in rows.values():
        examples = Counter(row.detail for _student, row in struck)
        tests = Counter(_function(row.test) for _student, row in struck)
        students = len({student for student, _row in struck})
        found.append(
            Cause(
                _parts(examples.most_common(1)[0][0]),
                students,
                len(struck),
                tuple(name for name, _count in tests.most_common()),
            )
        )
    return sorted(found, key=lambda cause: (-cause.students, -cause.checks))[:most]


def slowest(results: Sequence[Grade], most: int = 12) -> list[Slow]:
    """The checks that take longest, by their median."""
    seconds: dict[str, list[float]] = {}
    for result in results:
        for row in result.rows:
            if row.seconds:
                seconds.setdefault(row.test, []).append(row.seconds)
    found = [Slow(test, statistics.median(took), max(took), sum(took)) for test, took in seconds.items()]
    return sorted(found, key=lambda slow: -slow.median)[:most]


def _told(row: GradedRow) -> Said:
    if row.message != row.detail and row.verdict != CRASH:  # the rubric's hint, or a secret's few words
        return Said(look=row.message)
    return _parts(row.message)


def _parts(message: str) -> Said:
    parts = finding_parts(message)
    return Said(text=message) if parts is None else Said(*parts)


def _kind(row: GradedRow) -> str:
    """The same for failures of one cause: what was expected, or the first line, without its numbers."""
    parts = _parts(row.detail)
    return _NUMBER.sub("#", parts.expected or f"{row.verdict} {parts.text.partition(chr(10))[0]}")


def _function(test: str) -> str:
    """A test without its parameters, file before class."""
    return test.partition("[")[0].rpartition("/")[2].replace(".py::", ": ").replace("::", ": ")
