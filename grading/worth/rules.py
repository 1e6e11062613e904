"""What a rubric says, once it is read: worth, deadlines, gates, and rules for tests by pattern."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from trtverify.fixtures.words.messages import _

from ..sandbox.limits import Limits

LABS = tuple(f"lab{number}" for number in range(1, 6))
OTHER = "other"
"""What a rubric calls the checks of no lab, as a teacher's hidden tests may be."""
VISIBILITIES = ("visible", "hidden", "after_due_date", "after_published")


class Check(Protocol):
    """A check that is expected: its node id, its lab ("" for none), its points, and whether it is the teacher's."""

    @property
    def test(self) -> str: ...
    @property
    def lab(self) -> str: ...
    @property
    def points(self) -> float: ...
    @property
    def hidden(self) -> bool: ...


class RubricError(ValueError):
    """The rubric cannot be understood; the message names the key."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What holds for the tests whose node id matches a pattern: * and ? as in a shell, every other sign as itself."""

    match: str
    points: Decimal | None = None
    visibility: str | None = None
    hint: str | None = None
    resource: str | None = None


@dataclasses.dataclass(frozen=True)
class Gate:
    """An essential check: where it fails, its lab earns no more than this share of its worth."""

    match: str
    at_most: Decimal


@dataclasses.dataclass(frozen=True)
class Late:
    """What lateness costs: a share of what was earned for each day begun, up to a share."""

    per_day: Decimal = Decimal(0)
    at_most: Decimal = Decimal(1)
    grace_minutes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rubric:
    """The whole rubric. Later rules win over earlier ones, key by key.

    Attributes:
        total: what all labs together are worth; None: the sum of their tests' points times their weights.
        files: lab → patterns of what is handed in for it; a lab of which nothing was handed in earns nothing.
    """

    total: Decimal | None = None
    weights: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    deadlines: Mapping[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    gates: Mapping[str, tuple[Gate, ...]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    late: Late = Late()
    rules: tuple[Rule, ...] = ()
    resources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    submitted: Mapping[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    test_limits: Limits = dataclasses.field(default_factory=Limits)
    script_limits: Limits = dataclasses.field(default_factory=Limits)
    script_arguments: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def rule(self, test: str, hidden: bool) -> Rule:
        """What holds for one test."""
        found: dict[str, Any] = {"visibility": "hidden" if hidden else "visible"}
        for rule in self.rules:
            if matches(rule.match, test):
                given = dataclasses.asdict(rule)
                found.update({key: value for key, value in given.items() if value is not None})
        return Rule(**{**found, "match": test})

    def weight(self, lab: str) -> Decimal:
        """What a lab's points are multiplied by."""
        return self.weights.get(lab or OTHER, Decimal(1))

    def resource(self, test: str, lab: str, otherwise: str | None) -> str | None:
        """What a test needs beside a processor, such as "GPU"; `otherwise` where the rubric says nothing of it."""
        found = self.resources.get(lab or OTHER, otherwise)
        for rule in self.rules:
            if rule.resource is not None and matches(rule.match, test):
                found = rule.resource
        return found or None

    def deadline(self, lab: str) -> datetime.datetime | None:
        """When a lab is due. Checks of no lab are due with the last of the labs, unless `other` has a deadline."""
        found = self.deadlines.get(lab or OTHER)
        if found is None and not lab:
            return max((due for name, due in self.deadlines.items() if name != OTHER), default=None)
        return found

    def penalty(self, lab: str, submitted: datetime.datetime) -> Decimal:
        """The share of this lab's points that lateness takes, 0 to 1."""
        deadline = self.deadline(lab)
        if deadline is None:
            return Decimal(0)
        over = submitted - deadline - datetime.timedelta(minutes=self.late.grace_minutes)
        if over <= datetime.timedelta(0):
            return Decimal(0)
        days = -(-over // datetime.timedelta(days=1))
        return min(self.late.per_day * days, self.late.at_most)

    @property
    def lenient(self) -> bool:
        """Whether there is a deadline, and missing it costs nothing."""
        return bool(self.deadlines) and not min(self.late.per_day, self.late.at_most)

    def check(self, tests: Sequence[Check]) -> None:
        """Hold every pattern against all tests that the suite has.

        Raises:
            RubricError: one matches none of them, or a gate none of its own lab; says which.
        """
        for where, pattern, lab in self._patterns():
            ids = [test.test for test in tests if lab is None or (test.lab or OTHER) == lab]
            if not any(matches(pattern, test) for test in ids):
                raise RubricError(_no_match(where, pattern, ids))

    def _patterns(self) -> Iterator[tuple[str, str, str | None]]:
        for number, rule in enumerate(self.rules, 1):
            yield f"tests (entry {number})", rule.match, None
        for lab, gates in self.gates.items():
            for number, gate in enumerate(gates, 1):
                yield f"labs.{lab}.gates (entry {number})", gate.match, lab


def _no_match(where: str, pattern: str, tests: Sequence[str]) -> str:
    said = _("{key}: {pattern!r} matches no test").format(key=where, pattern=pattern)
    for wider in (f"{pattern}*", pattern.replace("::", "::*"), pattern.replace("::", "::*") + "*"):
        if any(matches(wider, test) for test in tests):
            return said + "; " + _("{pattern!r} would match").format(pattern=wider)
    return said


def matches(pattern: str, test: str) -> bool:
    """Whether a node id ends as the pattern says: `test_a.py::test_b[2]` is that case alone."""
    return _compiled(pattern).fullmatch(test) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    signs = {"*": ".*", "?": "."}
    return re.compile(".*" + "".join(signs.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)
