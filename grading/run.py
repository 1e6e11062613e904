"""Grading from the first pending row to the last: hands out units, records what comes back."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from trtverify.fixtures.words.messages import _

from . import suite
from .check import Checked, Ended
from .keeping.budget import Budget
from .pool import Assigned, Handle, Lost
from .sandbox import control_groups, orphans
from .store import CRASH, Store, StoreError
from .taking.intake import Snapshots
from .work import LAST, Broke, Event, Grade, Made, Started, Stopped, Take, Taken, Unit, Unread, trouble

_DYING_SECONDS = 10.0
_LOSSES = 5  # of one unit to kills from outside, before it is set aside
_BREAKS = 2  # of one unit by itself
_HOPELESS = 3  # units set aside, and not one verdict on anything: it is not the units


class Hands(Protocol):
    """Who does the units: a local pool or a cluster."""

    def run(self, queue: collections.deque[Unit], handle: Handle) -> None:
        """Do every unit of the queue; `handle` hears of each and may add units."""
        ...


class Grader:
    """Brings every pending row of a store to a verdict. Whatever one unit does, the others are done.

    Args:
        store: its only writer is this process.
        tests: the digest that verdicts are kept with.
        scripts: the digest that what scripts made is kept with.
        budget: what one submission may cost.
        resources: test → what it needs beside a processor; the others need nothing.
        progress: called with the number of rows still pending, after each change.
    """

    def __init__(
        self,
        store: Store,
        tests: str,
        scripts: str,
        budget: Budget,
        snapshots: Path,
        resources: Mapping[str, str],
        progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._suite = tests
        self._scripts = scripts
        self._budget = budget
        self._resources = resources
        self._labs = {test.test: test.lab for test in store.tests()}
        self._snapshots = Snapshots(snapshots)
        self._progress = progress
        self._queue: collections.deque[Unit] = collections.deque()
        self._at_work: dict[str, set[str | None]] = {}  # digest → the resources of its units
        self._alone: set[str] = set()  # digests, each done when nothing else is
        self._left = 0
        self._losses: collections.Counter[str] = collections.Counter()
        self._breaks: collections.Counter[str] = collections.Counter()
        self.unread: dict[str, str] = {}

    def run(self, hands: Hands) -> None:
        """Grade until nothing is pending but what cannot be read (`unread`) or was set aside (`Store.parked`).

        Raises:
            SandboxUnavailableError: the sandbox cannot be had any more.
            StoreError: results cannot be written, or another grader is at work on them.
        """
        self._store.hold()
        try:
            self._outlive()
            orphans.end()
            control_groups.sweep()
            suite.sweep()
            self._snapshots.sweep()
            self._store.unpark()
            rows = self._store.pending()
            self._left = len(rows)
            pending = {student for student, _digest, _test in rows}
            for student in self._store.students():
                if student.student not in pending:
                    continue
                if student.retake or student.digest is None or self._snapshots.find(student.digest) is None:
                    self._queue.append(Take(student.student, Path(student.source)))
                else:
                    self._enqueue(student.digest)
            hands.run(self._queue, self._handle)
            self._despair()
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
        if isinstance(event, Started):
            return
        if isinstance(event, (*LAST, Lost)):
            self._store.release(name)
        if isinstance(event, Stopped):
            self._stopped(unit, event)
        elif isinstance(event, Lost):
            self._lost(unit)
        elif isinstance(event, Broke):
            self._broke(unit, event.reason)
        elif isinstance(event, Taken):
            self._taken(event)
        elif isinstance(event, Unread):
            self._unreadable(unit, event)
        elif isinstance(unit, Grade):
            self._graded(unit, event)
        else:
            self._lost(unit)  # the sandbox that unpacks archives was killed
        self._progress(self._left)

    def _taken(self, event: Taken) -> None:
        self.unread.pop(event.student, None)
        if event.digest is None:
            self._left -= self._store.rejected(event.student, event.notes[0])
            return
        self._left -= self._store.taken(event.student, event.digest, event.notes, self._suite)
        self._enqueue(event.digest)

    def _unreadable(self, unit: Unit, event: Unread) -> None:
        """Look again when all else is done; then it stays as it is, for `resume`."""
        again = event.student not in self.unread
        self.unread[event.student] = event.reason
        if again:
            self._queue.append(unit)

    def _graded(self, unit: Grade, event: Event) -> None:
        if isinstance(event, Made):
            self._store.record_made(event.digest, self._scripts, event.artifacts, event.notes)
            self._enqueue(unit.digest)  # what waited for it
        elif isinstance(event, Checked):
            self._left -= self._store.record(
                unit.digest, self._suite, event.test, event.verdict, event.message, event.seconds
            )
        elif isinstance(event, Ended):
            self._leave(unit)
            if event.outside:
                self._lost(unit)
                return
            self._store.charge(unit.digest, self._suite, event.seconds)
            if not event.finished:
                self._died(unit, event)
            self._enqueue(unit.digest)

    def _died(self, unit: Grade, event: Ended) -> None:
        """A check died, or a limit was broken: tried again alone, and then it stands."""
        self._alone.add(unit.digest)
        remaining = self._store.untested(unit.digest)
        # Without a test of its own the death counts against the one that was next.
        during = event.during or next((test for test in unit.tests if test in remaining), None)
        if during is None:
            return
        if event.breach and self._store.made(unit.digest, self._scripts) is None:
            return  # it was a script's
        if event.breach and unit.alone:
            self._store.charge(unit.digest, self._suite, 0.0, self._labs.get(during, ""), 1)
            self._left -= self._store.record(unit.digest, self._suite, during, CRASH, event.reason, event.seconds)
        else:
            self._left -= self._store.crashed(unit.digest, self._suite, during, event.reason)

    def _stopped(self, unit: Unit, event: Stopped) -> None:
        """Find out whether it was the machine or this unit."""
        # Where there is no sandbox at all, this says so itself.
        if found := trouble(self._snapshots.root):
            raise StoreError(
                _("{reason}. Every verdict so far is kept: `python -m trtverify grading resume` goes on").format(
                    reason=found
                )
            )
        self._broke(unit, event.reason)

    def _lost(self, unit: Unit) -> None:
        """A worker or sandbox was killed from outside: nothing is held against the submission."""
        name = _name(unit)
        self._losses[name] += 1
        if self._losses[name] > _LOSSES:
            self._park(
                unit,
                _("what worked on it was killed {count} times: is this machine short of memory?").format(
                    count=self._losses[name]
                ),
            )
        else:
            self._again(unit, alone=self._losses[name] > 1)

    def _broke(self, unit: Unit, reason: str) -> None:
        name = _name(unit)
        self._breaks[name] += 1
        if self._breaks[name] >= _BREAKS:
            self._park(unit, reason)
        else:
            self._again(unit, alone=True)

    def _again(self, unit: Unit, *, alone: bool) -> None:
        if isinstance(unit, Take):
            self._queue.append(unit)
            return
        self._leave(unit)
        if alone:
            self._alone.add(unit.digest)
        self._enqueue(unit.digest)

    def _park(self, unit: Unit, reason: str) -> None:
        """Set it aside and say so: nobody else waits for it, and no verdict is held against it."""
        if isinstance(unit, Take):
            said = _("not gradable: it could not be taken in: {reason}").format(reason=reason)
            self._left -= self._store.park(_name(unit), said, student=unit.student)[0]
            return
        self._leave(unit)
        said = _("not gradable: it could not be graded: {reason}").format(reason=reason)
        self._left -= self._store.park(_name(unit), said, digest=unit.digest)[0]

    def _despair(self) -> None:
        parked = self._store.parked()
        if len(parked) >= _HOPELESS and not self._store.judged():
            raise StoreError(
                _("nothing could be graded, so the cause is not in the submissions: {reason}").format(
                    reason=parked[0][1]
                )
            )

    def _leave(self, unit: Grade) -> None:
        self._at_work.setdefault(unit.digest, set()).discard(unit.resource)

    def _enqueue(self, digest: str) -> None:
        """Queue what is still to be tested of this content: a unit for each resource that its tests need."""
        at_work = self._at_work.setdefault(digest, set())
        made = self._store.made(digest, self._scripts)
        if at_work and (made is None or not self._resources):
            return  # the scripts run once, for all
        alone = digest in self._alone
        tests: dict[str | None, list[str]] = {}
        for test in self._affordable(digest):
            tests.setdefault(self._resources.get(test), []).append(test)
        for resource, wanted in tests.items():
            if resource not in at_work and (made is not None or not at_work):
                at_work.add(resource)
                self._queue.append(Grade(digest, tuple(wanted), made[0] if made else None, resource, alone))

    def _affordable(self, digest: str) -> list[str]:
        """What is still to be tested; what the submission has no budget for any more fails, and is not run."""
        seconds, breaches = self._store.spent(digest, self._suite)
        left = []
        for test in self._store.untested(digest):
            reason = self._budget.reason(seconds, breaches.get(self._labs.get(test, ""), 0))
            if reason:
                self._left -= self._store.record(digest, self._suite, test, "failed", reason, 0.0)
            else:
                left.append(test)
        return left


def _name(unit: Unit) -> str:
    if isinstance(unit, Take):
        return f"take {unit.student}"
    return f"grade {unit.digest}" + (f" with {unit.resource}" if unit.resource else "")
