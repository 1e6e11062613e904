"""Grading from the first pending row to the last: hands out units, records what comes back."""

from __future__ import annotations

import collections
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from trtverify.fixtures.words.messages import _

from .check import Checked, Ended
from .pool import Assigned, Handle, Lost
from .sandbox import orphans
from .sandbox.launch import SandboxUnavailableError
from .store import Store, StoreError
from .taking.intake import Snapshots
from .work import Event, Grade, Made, Started, Stopped, Take, Taken, Unit

_DYING_SECONDS = 10.0
_LOSSES = 20  # of one unit to kills from outside, before something else must be wrong


class Hands(Protocol):
    """Who does the units: a local pool or a cluster."""

    def run(self, queue: collections.deque[Unit], handle: Handle) -> None:
        """Do every unit of the queue; `handle` hears of each and may add units."""
        ...


class Grader:
    """Brings every pending row of a store to a verdict.

    Args:
        store: its only writer is this process.
        suite: the digest that verdicts are kept with.
        resources: test → what it needs beside a processor; the others need nothing.
        progress: called with the number of rows still pending, after each change.
    """

    def __init__(
        self,
        store: Store,
        suite: str,
        snapshots: Path,
        resources: Mapping[str, str],
        progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._suite = suite
        self._resources = resources
        self._snapshots = Snapshots(snapshots)
        self._progress = progress
        self._queue: collections.deque[Unit] = collections.deque()
        self._at_work: dict[str, set[str | None]] = {}  # digest → the resources of its units
        self._left = 0
        self._losses: collections.Counter[str] = collections.Counter()

    def run(self, hands: Hands) -> None:
        """Grade until nothing is pending.

        Raises:
            SandboxUnavailableError: the sandbox cannot be had any more.
            StoreError: results cannot be written, or another grader is at work on them.
        """
        self._store.lease("grader", os.getpid())
        try:
            self._outlive()
            orphans.end()
            self._snapshots.sweep()
            rows = self._store.pending()
            self._left = len(rows)
            pending = {student for student, _digest, _test in rows}
            for student in self._store.students():
                if student.student not in pending:
                    continue
                if student.digest is None or self._snapshots.find(student.digest) is None:
                    self._queue.append(Take(student.student, Path(student.source)))
                else:
                    self._enqueue(student.digest)
            hands.run(self._queue, self._handle)
        finally:
            orphans.end()
            with contextlib.suppress(StoreError):  # the first message says it already
                self._store.release("grader")
                self._store.flush()

    def _outlive(self) -> None:
        """Wait for the workers of a grader that was killed: each dies with it, but not in the same instant."""
        deadline = time.monotonic() + _DYING_SECONDS
        while others := [lease for lease in self._store.leases() if lease[0] != "grader"]:
            if time.monotonic() > deadline:
                unit, pid = others[0]
                raise StoreError(
                    _("process {pid}, a worker of an earlier run, is still at work on {unit}: end it first").format(
                        pid=pid, unit=unit
                    )
                )
            time.sleep(0.05)

    def _handle(self, unit: Unit, event: Event | Assigned | Lost) -> None:
        name = _name(unit)
        if isinstance(event, Assigned):
            self._store.lease(name, event.pid)
            return
        if isinstance(event, Stopped):
            if event.sandbox:
                raise SandboxUnavailableError(event.reason)
            raise StoreError(
                _("{reason}. Every verdict so far is kept: `python -m trtverify grading resume` goes on").format(
                    reason=event.reason
                )
            )
        if isinstance(event, Started):
            return
        if isinstance(event, Lost):
            self._lost(unit)
        elif isinstance(event, Taken):
            self._taken(event)
        elif isinstance(unit, Grade):
            self._graded(unit, event)
        else:
            self._lost(unit)  # the sandbox that unpacks archives was killed
        if isinstance(event, (Taken, Ended, Lost)):
            self._store.release(name)
        self._progress(self._left)

    def _taken(self, event: Taken) -> None:
        if event.digest is None:
            self._left -= self._store.rejected(event.student, event.notes[0])
            return
        self._left -= self._store.taken(event.student, event.digest, event.notes, self._suite)
        self._enqueue(event.digest)

    def _graded(self, unit: Grade, event: Event) -> None:
        if isinstance(event, Made):
            self._store.record_made(event.digest, event.artifacts, event.notes)
            self._enqueue(unit.digest)  # what waited for it
        elif isinstance(event, Checked):
            self._left -= self._store.record(
                unit.digest, self._suite, event.test, event.verdict, event.message, event.seconds
            )
        elif isinstance(event, Ended):
            self._at_work[unit.digest].discard(unit.resource)
            if event.outside:
                self._lost(unit)
                return
            if not event.finished:
                remaining = self._store.untested(unit.digest)
                # Without a test of its own the death counts against the one that was next.
                during = event.during or next((test for test in unit.tests if test in remaining), None)
                if during is not None:
                    self._left -= self._store.crashed(unit.digest, self._suite, during, event.reason)
            self._enqueue(unit.digest)

    def _lost(self, unit: Unit) -> None:
        """A worker or sandbox was killed from outside: nothing is held against the submission."""
        name = _name(unit)
        self._losses[name] += 1
        if self._losses[name] > _LOSSES:
            raise StoreError(
                _("the workers on {unit} were killed {count} times: is this machine short of memory?").format(
                    unit=name, count=_LOSSES
                )
            )
        if isinstance(unit, Take):
            self._queue.append(unit)
        else:
            self._at_work[unit.digest].discard(unit.resource)
            self._enqueue(unit.digest)

    def _enqueue(self, digest: str) -> None:
        """Queue what is still to be tested of this content: a unit for each resource that its tests need."""
        at_work = self._at_work.setdefault(digest, set())
        made = self._store.made(digest)
        if at_work and (made is None or not self._resources):
            return  # the scripts run once, for all
        tests: dict[str | None, list[str]] = {}
        for test in self._store.untested(digest):
            tests.setdefault(self._resources.get(test), []).append(test)
        for resource, wanted in tests.items():
            if resource not in at_work and (made is not None or not at_work):
                at_work.add(resource)
                self._queue.append(Grade(digest, tuple(wanted), made[0] if made else None, resource))


def _name(unit: Unit) -> str:
    if isinstance(unit, Take):
        return f"take {unit.student}"
    return f"grade {unit.digest}" + (f" with {unit.resource}" if unit.resource else "")
