"""Who is in the class: names, platforms, what each hands in, and when."""

from __future__ import annotations

import dataclasses
import datetime
import random
from collections.abc import Sequence

from benchmarks.rehearsal.hostile import Kind

PLATFORMS = ("folders", "moodle", "canvas", "gradescope", "github")
_NAMES = ("林怡君", "陳志豪", "Ana Díaz", "張雅婷", "Bo Li", "黃俊傑", "Chloé Roy", "李佳穎", "Dmitri Orlov", "王冠宇")
_DUE = datetime.datetime.fromisoformat("2026-12-01T23:59:00+08:00")
# Most are in time, some within the grace, some days late.
_HOURS = (-72, -20, -3, -0.5, 0.1, 5, 30, 80, 400)
_SHARES = (30, 25, 20, 10, 3, 4, 4, 3, 1)


@dataclasses.dataclass(frozen=True)
class Person:
    """One student.

    Attributes:
        work: which of the honest works they hand in.
        kind: how they are hostile; None if they are not.
    """

    number: int
    name: str
    platform: str
    work: str
    submitted: datetime.datetime
    kind: Kind | None = None

    @property
    def login(self) -> str:
        """Their account, on every platform."""
        return f"s{self.number:04}"

    @property
    def email(self) -> str:
        """Their address."""
        return f"{self.login}@example.edu"

    @property
    def id(self) -> str:
        """The platform's own number."""
        return str(70_000 + self.number)


def everybody(students: int, hostile: Sequence[Kind], works: Sequence[str], seed: int) -> list[Person]:
    """A class of `students`, of whom so many are hostile; its order, platforms and times are drawn."""
    draw = random.Random(seed)
    kinds: list[Kind | None] = [*hostile, *[None] * (students - len(hostile))]
    draw.shuffle(kinds)
    people: list[Person] = []
    turns = dict.fromkeys(PLATFORMS, 0)
    for number, kind in enumerate(kinds):
        allowed = PLATFORMS if kind is None else kind.platforms or PLATFORMS
        platform = min(allowed, key=lambda name: turns[name])
        turns[platform] += 1
        hours = draw.choices(_HOURS, _SHARES)[0] + draw.uniform(-0.05, 0.05)
        when = (_DUE + datetime.timedelta(hours=hours)).replace(second=0, microsecond=0)
        name = f"{draw.choice(_NAMES)} {number:04}"
        people.append(Person(number, name, platform, draw.choice(works), when, kind))
    return people
