"""A workshop in which one unit goes wrong, in a way and at a moment that a test chooses."""

from __future__ import annotations

import dataclasses
import errno
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtverify.grading.taking.intake import NoRoomError, UnreadableError
from trtverify.grading.work import Event, Grade, Take, Unit, Workshop

_PATIENCE_SECONDS = 4.0


def _raises(problem: BaseException) -> Callable[[], None]:
    def strike() -> None:
        raise problem

    return strike


def _memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 32))


def _kills(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


STRIKES: dict[str, Callable[[], None]] = {
    "ValueError": _raises(ValueError("spoilt \x1b[2J\ud800")),
    "KeyError": _raises(KeyError("spoilt")),
    "RuntimeError": _raises(RuntimeError("spoilt")),
    "RecursionError": _raises(RecursionError("spoilt")),
    "UnicodeError": _raises(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "spoilt")),
    "SystemExit": _raises(SystemExit(3)),
    "FileExistsError": _raises(FileExistsError(errno.EEXIST, "spoilt")),
    "an errno of the machine": _raises(OSError(errno.EMFILE, "spoilt")),
    "no room": _raises(NoRoomError(errno.ENOSPC, "spoilt")),
    "memory": _memory,
    "delay": lambda: time.sleep(3600),
    "exit": lambda: os._exit(7),
    "exit politely": lambda: os._exit(0),
    "segfault": _kills(signal.SIGSEGV),
    "abort": _kills(signal.SIGABRT),
    "killed": _kills(signal.SIGKILL),
    "terminated": _kills(signal.SIGTERM),
}
UNREADABLE: dict[str, Callable[[], None]] = {
    "stale": _raises(UnreadableError(errno.ESTALE, "Stale file handle")),
    "gone": _raises(UnreadableError(errno.ENOENT, "No such file")),
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        strike: a key of `STRIKES` or `UNREADABLE`.
        student: whose unit it strikes, if that is taking.
        digest: of the content whose unit it strikes, if that is grading.
        after: how many events the unit sends before it.
        times: how often it strikes.
    """

    strike: str
    student: str = ""
    digest: str = ""
    after: int = 0
    times: int = 1000

    def hits(self, unit: Unit) -> bool:
        """Whether this unit is the one."""
        return unit.student == self.student if isinstance(unit, Take) else unit.digest == self.digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faulty(Workshop):
    """A workshop with one fault; `marks` is a folder in which its strikes are counted."""

    fault: Fault
    marks: Path

    def patience(self, unit: Unit) -> float:
        """Little, for the unit that is struck."""
        return _PATIENCE_SECONDS if self.fault.hits(unit) and self.fault.strike == "delay" else super().patience(unit)

    def _take(self, unit: Take, send: Callable[[Event], None]) -> None:
        super()._take(unit, self._struck(unit, send))

    def _grade(self, unit: Grade, send: Callable[[Event], None]) -> None:
        super()._grade(unit, self._struck(unit, send))

    def _struck(self, unit: Unit, send: Callable[[Event], None]) -> Callable[[Event], None]:
        if not self.fault.hits(unit):
            return send
        sent: list[Any] = []

        def passed_on(event: Event) -> None:
            if len(sent) >= self.fault.after:
                self._strike()
            sent.append(event)
            send(event)

        if self.fault.after == 0:
            self._strike()
        return passed_on

    def _strike(self) -> None:
        if len(list(self.marks.iterdir())) < self.fault.times:
            (self.marks / secrets.token_hex(8)).touch()
            {**STRIKES, **UNREADABLE}[self.fault.strike]()
