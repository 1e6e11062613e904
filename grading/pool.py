"""Workers on this machine: processes that do one unit at a time, replaced when they die."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from trtverify.fixtures.words.messages import _

from .check import Ended
from .work import Event, Stopped, Taken, Unit, Workshop, serve


class FarmError(RuntimeError):
    """The scheduler or its workers cannot be used; every verdict so far is safe."""


@dataclasses.dataclass(frozen=True)
class Assigned:
    """A unit was given to a worker."""

    pid: int


@dataclasses.dataclass(frozen=True)
class Lost:
    """The worker died before the unit was done."""


Handle = Callable[[Unit, "Event | Assigned | Lost"], None]


class _Worker:
    def __init__(self, workshop: Workshop) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, inside = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(inside, workshop, os.getpid()), daemon=True)
        self.process.start()
        inside.close()
        self.unit: Unit | None = None

    def end(self) -> None:
        """Kill it; its sandbox dies with it."""
        self.process.kill()
        self.process.join()
        self.connection.close()


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
            for connection in wait(busy):
                assert isinstance(connection, Connection)
                self.hear(connection, queue, handle)

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
            with contextlib.suppress(BrokenPipeError):  # it died idle; `hear` finds that out
                worker.connection.send(unit)

    def _next(self, queue: collections.deque[Unit]) -> Unit | None:
        """The first unit whose resource is free: this machine has one of each, and measures one thing at a time."""
        held = {worker.unit.resource for worker in self._workers if worker.unit is not None} - {None}
        return next((unit for unit in queue if unit.resource not in held), None)

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
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            worker.end()
            handle(unit, Lost())
            return
        if isinstance(event, (Taken, Ended, Stopped)):
            worker.unit = None
            self.assign(queue, handle)  # first, so that it need not wait until this is recorded
        handle(unit, event)

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
