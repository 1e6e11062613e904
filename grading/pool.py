"""Workers on this machine: processes that do one unit at a time, replaced when they die."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from trtverify.fixtures.words.messages import _

from .sandbox.limits import exit_word
from .work import LAST, Broke, Event, Grade, Unit, Workshop, serve

_JOIN_SECONDS = 5.0  # a process that waits for a share that is gone cannot be killed until the share answers
# What somebody else did to a worker. Any other end is its unit's doing.
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)


class FarmError(RuntimeError):
    """The scheduler or its workers cannot be used; every verdict so far is safe."""


@dataclasses.dataclass(frozen=True)
class Assigned:
    """A unit was given to a worker."""

    pid: int


@dataclasses.dataclass(frozen=True)
class Lost:
    """The worker was killed before the unit was done."""


Handle = Callable[[Unit, "Event | Assigned | Lost"], None]


class _Worker:
    def __init__(self, workshop: Workshop) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, inside = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(inside, workshop, os.getpid()), daemon=True)
        self.process.start()
        inside.close()
        self.unit: Unit | None = None
        self.deadline = 0.0

    def end(self) -> int | None:
        """Kill it; its sandbox dies with it. How it ended, if it has."""
        self.process.kill()
        self.process.join(_JOIN_SECONDS)
        self.connection.close()
        return self.process.exitcode


class Pool:
    """At most `workers` processes, started as they are needed."""

    def __init__(self, workshop: Workshop, workers: int) -> None:
        if workers < 1:
            raise ValueError(_("at least one worker is needed, found {count}").format(count=workers))
        self._workshop = workshop
        self._limit = workers
        self._workers: list[_Worker] = []

    def run(self, queue: collections.deque[Unit], handle: Handle) -> None:
        """Do every unit of the queue; `handle` hears of each and may add units."""
        while True:
            self.assign(queue, handle)
            busy = self.busy()
            if not busy:
                return
            for connection in wait(busy, self.patience()):
                assert isinstance(connection, Connection)
                self.hear(connection, queue, handle)
            self.give_up(handle)

    def assign(self, queue: collections.deque[Unit], handle: Handle) -> None:
        """Give units to workers while there are both."""
        while (unit := self._next(queue)) is not None:
            worker = next((w for w in self._workers if w.unit is None), None)
            if worker is None:
                if len(self._workers) == self._limit:
                    return
                worker = _Worker(self._workshop)
                self._workers.append(worker)
            queue.remove(unit)
            handle(unit, Assigned(worker.process.pid or 0))
            worker.unit = unit
            worker.deadline = time.monotonic() + self._workshop.patience(unit)
            # A single worker's units are all alone.
            told = dataclasses.replace(unit, alone=True) if isinstance(unit, Grade) and self._limit == 1 else unit
            with contextlib.suppress(BrokenPipeError):  # it died idle; `hear` finds that out
                worker.connection.send(told)

    def _next(self, queue: collections.deque[Unit]) -> Unit | None:
        """The first unit whose resource is free: this machine has one of each, and measures one thing at a time.

        What is to be alone waits until nothing else is left.
        """
        at_work = [worker.unit for worker in self._workers if worker.unit is not None]
        if any(unit.alone for unit in at_work):
            return None
        held = {unit.resource for unit in at_work} - {None}
        found = next((unit for unit in queue if unit.resource not in held and not unit.alone), None)
        return found if found is not None or at_work or not queue else queue[0]

    def busy(self) -> list[Connection]:
        """The connections of the workers that are at a unit."""
        return [worker.connection for worker in self._workers if worker.unit is not None]

    def hear(self, connection: Connection, queue: collections.deque[Unit], handle: Handle) -> None:
        """Take what a worker says, or learn that it died."""
        worker = next(worker for worker in self._workers if worker.connection is connection)
        unit = worker.unit
        assert unit is not None
        try:
            event = worker.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._workers.remove(worker)
            worker.process.join(_JOIN_SECONDS)
            code = worker.process.exitcode
            worker.end()
            killed = code is None or code in _KILLED
            word = "?" if code is None else exit_word(code)
            handle(unit, Lost() if killed else Broke(_("its worker ended with exit code {code}").format(code=word)))
            return
        if isinstance(event, LAST):
            worker.unit = None
            self.assign(queue, handle)  # first, so that it need not wait until this is recorded
        handle(unit, event)

    def patience(self) -> float | None:
        """Seconds until the first unit is given up; None if there is none at work."""
        deadlines = [worker.deadline for worker in self._workers if worker.unit is not None]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def give_up(self, handle: Handle) -> None:
        """End what has been at work for too long."""
        for worker in [worker for worker in self._workers if worker.unit is not None]:
            if time.monotonic() >= worker.deadline and worker.unit is not None:
                self._workers.remove(worker)
                worker.end()
                seconds = self._workshop.patience(worker.unit)
                handle(worker.unit, Broke(_("it was not done after {seconds:.0f} s").format(seconds=seconds)))

    def close(self) -> None:
        """End every worker at once."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()


@contextlib.contextmanager
def opened(workshop: Workshop, workers: int) -> Iterator[Pool]:
    """A pool whose processes are gone afterwards."""
    pool = Pool(workshop, workers)
    try:
        yield pool
    finally:
        pool.close()
