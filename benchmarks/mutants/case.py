"""One piece of work that is handed in: what was done to it, and which verdict is the right one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

WRONG, RIGHT, EITHER, UNMADE = "wrong", "right", "either", "unmade"
"""What work is: `either` where the course decides nothing, `unmade` where the case is not what was meant."""
AS_IT_IS = "as it is"
"""The case of a base that nothing was done to: what the suite keeps of it, every other case is quicker for."""
LABS = ("lab1", "lab2", "lab3", "lab4", "lab5")


@dataclasses.dataclass(frozen=True)
class Expected:
    """Who must name a fault: regular expressions for the test's name, and for words in its message."""

    tests: str
    words: str


@dataclasses.dataclass(frozen=True)
class Case:
    """One submission.

    Attributes:
        base: the right submission that it is made from; its name begins with the lab's.
        kind: the row of the table that it counts in.
        name: what was done, and where; unique for its base.
        make: changes a folder of its own; its files are shared until they are replaced (see `files.py`).
        expected: who must name the fault; None for right work.
        why: why the work is right, or what is wrong with it, written before it is run.
        file: the ONNX file whose function is compared with the base's, empty if none was changed.
        same: that function must be the base's, or the generator is at fault. Else an equal one makes the case right.
        rule: for what cannot be told by the function: what the work is, and why, from the base's folder and its own.
        options: more arguments that the suite is run with.
        engines: whether anything is changed that engines are built from; else running them anew tells nothing.
    """

    base: str
    kind: str
    name: str
    make: Callable[[Path], None]
    expected: Expected | None
    why: str
    file: str = ""
    same: bool = False
    rule: Callable[[Path, Path], tuple[str, str]] | None = None
    options: tuple[str, ...] = ()
    engines: bool = True

    @property
    def lab(self) -> str:
        """The lab whose tests are run."""
        return self.base.partition("-")[0]

    @property
    def key(self) -> str:
        """What it is called in results."""
        return f"{self.base}: {self.name}"

    def number(self) -> int:
        """A number that is always the same for this case, and evenly spread: for shares, halves and seeds."""
        return int(hashlib.sha256(self.key.encode()).hexdigest()[:8], 16)


def within(case: Case, share: float) -> bool:
    """Whether a case lies in a share of all: the same ones each time, and a larger share holds the smaller."""
    return case.number() % 10_000 < share * 10_000
