"""What each check is worth to one student: a lab's worth is fixed, and shared by its checks that were graded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from .rules import Check, Rubric

NOT_GRADED = frozenset({"inconclusive", "not gradable"})
"""These say nothing of the student's work: nothing earned, nothing lost."""


@dataclasses.dataclass(frozen=True)
class Worth:
    """What a class can earn, the same for everybody.

    Attributes:
        tests: test → its points, a share of those of the function that it is a case of.
        labs: lab → its points, whatever number of cases this machine has.
    """

    tests: Mapping[str, Fraction]
    labs: Mapping[str, Fraction]

    @property
    def total(self) -> Fraction:
        """Points of all labs."""
        return sum(self.labs.values(), Fraction(0))


def worth(tests: Iterable[Check], rubric: Rubric) -> Worth:
    """The points of every check and lab. The cases of one test (`[resnet50-tensorrt-fp16]`) share its points."""
    functions: dict[tuple[str, str], list[Check]] = {}
    for test in tests:
        functions.setdefault((test.lab, _function(test.test)), []).append(test)
    points: dict[str, Fraction] = {}
    labs: dict[str, Fraction] = {}
    for (lab, _name), cases in functions.items():
        for case in cases:
            stated = rubric.rule(case.test, case.hidden).points
            given = Fraction(str(case.points)) if stated is None else Fraction(stated)
            points[case.test] = given * Fraction(rubric.weight(lab)) / len(cases)
            labs[lab] = labs.get(lab, Fraction(0)) + points[case.test]
    every = sum(labs.values(), Fraction(0))
    scale = Fraction(1) if rubric.total is None or not every else Fraction(rubric.total) / every
    return Worth({t: p * scale for t, p in points.items()}, {lab: p * scale for lab, p in labs.items()})


def possible(whole: Worth, rows: Sequence[tuple[str, str, str]]) -> list[Fraction]:
    """What each check is worth to a student, by (test, lab, verdict): they add up to `whole.total`.

    The points of a case that was not graded go to the test's other cases, those of a test without any to the lab's
    other tests, those of a lab without any to the other labs. 0 for all where nothing at all was graded.
    """
    graded = {test for test, _lab, verdict in rows if verdict not in NOT_GRADED}
    shares = [whole.tests[test] if test in graded else Fraction(0) for test, _lab, _verdict in rows]
    for level in (lambda test, lab: (lab, _function(test)), lambda _test, lab: (lab,), lambda _test, _lab: ()):
        shares = _spread(shares, [level(test, lab) for test, lab, _verdict in rows], rows, whole)
    return shares


_Key = tuple[str, ...]


def _spread(
    shares: Sequence[Fraction], keys: Sequence[_Key], rows: Sequence[tuple[str, str, str]], whole: Worth
) -> list[Fraction]:
    """Scale the shares of each group up to all that the group is worth."""
    full: dict[_Key, Fraction] = {}
    live: dict[_Key, Fraction] = {}
    for share, key, (test, _lab, _verdict) in zip(shares, keys, rows, strict=True):
        full[key] = full.get(key, Fraction(0)) + whole.tests[test]
        live[key] = live.get(key, Fraction(0)) + share
    return [share * full[key] / live[key] if share else share for share, key in zip(shares, keys, strict=True)]


def cents(exact: Sequence[Fraction], earned: Callable[[int], bool]) -> list[int]:
    """Whole cents for each share, so that the sum of all and the sum of those earned are each rounded once."""
    won = [index for index in range(len(exact)) if earned(index)]
    lost = [index for index in range(len(exact)) if not earned(index)]
    first = rounded(sum((exact[index] for index in won), Fraction(0)))
    rest = rounded(sum(exact, Fraction(0))) - first
    found = [0] * len(exact)
    for indices, target in ((won, first), (lost, rest)):
        for index, value in zip(indices, _apportioned([exact[index] for index in indices], target), strict=True):
            found[index] = value
    return found


def rounded(points: Fraction) -> int:
    """Points in cents, halves up."""
    return int((points * 100 + Fraction(1, 2)) // 1)


def _apportioned(shares: Sequence[Fraction], target: int) -> list[int]:
    """Cents that add up to the target, each its share rounded down or up: up where most is left over."""
    found = [int(share * 100 // 1) for share in shares]
    left = target - sum(found)
    order = sorted(range(len(shares)), key=lambda index: (found[index] - shares[index] * 100, index))
    for index in order[:left]:
        found[index] += 1
    return found


def _function(test: str) -> str:
    return test.partition("[")[0]
