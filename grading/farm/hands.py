"""The grader's side of a Dask cluster: which worker is fit, what is under way, what came back."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import os
import queue
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import distributed
from tqdm import tqdm

from trtverify.fixtures.words.messages import _

from ..pool import Assigned, FarmError, Handle, Lost, Pool
from ..sandbox.launch import SandboxUnavailableError
from ..work import Broke, Event, Grade, Stopped, Take, Unit
from .worker import SANDBOX, Doorkeeper, Orders, grade, refusal, version

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0  # for a worker to come, or to come back


class Farm:
    """Hands out submissions to the workers of a Dask cluster, as many as there is room for; takes them in itself.

    Args:
        client: of the scheduler.
        address: of the scheduler, for messages.
        orders: what every task is told.
        local: takes what the students handed in; it lies on this machine.
    """

    def __init__(self, client: distributed.Client, address: str, orders: Orders, local: Pool) -> None:
        self._client = client
        self._address = address
        self._orders = orders
        self._local = local
        self._takes: collections.deque[Unit] = collections.deque()
        self._waiting: collections.deque[Grade] = collections.deque()
        self._flying: dict[Grade, Any] = {}
        self._deadlines: dict[Grade, float] = {}
        self._attempts: collections.Counter[Grade] = collections.Counter()
        self._done: queue.SimpleQueue[tuple[Grade, Any]] = queue.SimpleQueue()
        self._bell, self._ringer = socket.socketpair()
        for end in (self._bell, self._ringer):
            end.setblocking(False)
        self._room: list[dict[str, float]] = []
        self._stranded: set[str] = set()
        self._refused: dict[str, str] = {}
        self._looked = 0.0
        self._hopeful_until = 0.0

    def close(self) -> None:
        """Hear of nothing more."""
        self._bell.close()
        self._ringer.close()

    def run(self, units: collections.deque[Unit], handle: Handle) -> None:
        """Do every unit of the queue; `handle` hears of each and may add units."""
        self._admit()
        while True:
            while units:
                unit = units.popleft()
                if isinstance(unit, Take):
                    self._takes.append(unit)
                else:
                    self._waiting.append(unit)
            self._local.assign(self._takes, handle)
            self._look(handle)
            self._submit(handle)
            if not (units or self._takes or self._waiting or self._flying or self._local.busy()):
                return
            for ready in wait([*self._local.busy(), self._bell], _LOOK_SECONDS):
                if isinstance(ready, Connection):
                    self._local.hear(ready, self._takes, handle)
            self._local.give_up(handle)
            self._give_up(handle)
            self._collect(handle)

    def _admit(self) -> None:
        """Let every worker, now and later, try its walls."""
        workshop = self._orders.workshop
        shown = tuple({*workshop.suite.shown, *workshop.scripts.shown})
        with self._reaching():
            said = self._client.run(refusal, on_error="return")
        for worker, problem in said.items():
            if isinstance(problem, Exception) and not isinstance(problem, OSError):
                raise FarmError(
                    _("{worker} cannot run this program ({problem}): start it in a copy of this repository").format(
                        worker=worker, problem=problem
                    )
                )
        # A worker that goes away while it is asked is an error to Dask; the others are asked all the same.
        with contextlib.suppress(OSError):
            self._client.register_plugin(Doorkeeper(version(), shown))
        self._hopeful_until = time.monotonic() + _PATIENCE_SECONDS
        workers = self._survey()
        if workers and set(workers) <= set(self._refused):
            raise SandboxUnavailableError("; ".join(self._refused.values()))

    def _survey(self) -> list[str]:
        """Learn which workers grade, and say why others do not; all of them."""
        with self._reaching():
            # Without the key just after the scheduler went: what is asked next finds that out.
            known_workers = self._client.scheduler_info().get("workers", {})
            workers = {name: known["resources"] for name, known in known_workers.items()}
            self._room = [resources for resources in workers.values() if resources.get(SANDBOX)]
            silent = [name for name, has in workers.items() if not has.get(SANDBOX) and name not in self._refused]
            said = self._client.run(refusal, workers=silent, on_error="ignore") if silent else {}
        for name, reason in said.items():
            if isinstance(reason, str) and reason:
                self._refused[name] = f"{name}: {reason}"
                line = _("worker {worker} grades nothing: {reason}").format(worker=name, reason=reason)
                tqdm.write(line, file=sys.stderr)
        self._looked = time.monotonic()
        return list(workers)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """What is asked of the scheduler, and may find it gone."""
        try:
            yield
        except (OSError, distributed.TimeoutError, distributed.CancelledError) as problem:
            raise self._gone() from problem
        if self._client.status != "running":
            raise self._gone()

    def _supply(self, resource: str | None) -> float:
        return sum(has[SANDBOX] if resource is None else has.get(resource, 0) for has in self._room)

    def _look(self, handle: Handle) -> None:
        """Once in a while: what the farm has now, and whether waiting for what it lacks still makes sense."""
        if time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        self._survey()
        self._take_back(handle)
        if self._flying or self._takes or self._local.busy() or any(self._supply(u.resource) for u in self._waiting):
            self._hopeful_until = time.monotonic() + _PATIENCE_SECONDS
        elif self._waiting and time.monotonic() > self._hopeful_until:
            lacking = ", ".join(sorted({unit.resource or "" for unit in self._waiting} - {""})) or _("a sandbox")
            raise FarmError(
                _(
                    "no worker of {address} with {lacking} for {seconds:.0f} s. Every verdict so far is kept: "
                    "start one, then `python -m trtverify grading resume`"
                ).format(address=self._address, lacking=lacking, seconds=_PATIENCE_SECONDS)
            )

    def _take_back(self, handle: Handle) -> None:
        """Hand out anew what no worker has: Dask does not look again when a worker gains a resource."""
        with self._reaching():
            held = {key for keys in self._client.processing().values() for key in keys}
        before = self._stranded
        stranded = {
            future.key: unit for unit, future in self._flying.items() if not (future.done() or future.key in held)
        }
        self._stranded = set(stranded)
        # Seen twice: a task may still be on its way to the scheduler, and news of its end on the way from there.
        for key in before & self._stranded:
            unit = stranded[key]
            with self._reaching():
                self._client.cancel([self._flying.pop(unit)])
            handle(unit, Lost())

    def _give_up(self, handle: Handle) -> None:
        """Hear no more of what has been under way for too long; its task ends by its own limits, or not."""
        for unit in [unit for unit, deadline in self._deadlines.items() if time.monotonic() >= deadline]:
            del self._deadlines[unit]
            if (future := self._flying.pop(unit, None)) is not None:
                with self._reaching():
                    self._client.cancel([future])
                seconds = self._orders.workshop.patience(unit)
                handle(unit, Broke(_("it was not done after {seconds:.0f} s").format(seconds=seconds)))

    def _submit(self, handle: Handle) -> None:
        """Give the scheduler what there is room for now, and keep the rest: who joins later finds work.

        What is to be alone needs all that one machine has, and comes when nothing else is left to be handed out.
        """
        for unit in sorted(self._waiting, key=lambda unit: unit.alone):
            if len(self._flying) >= self._supply(None):
                return
            if unit.alone and any(not other.alone for other in (*self._waiting, *self._flying)):
                return
            needed = {SANDBOX: max((has[SANDBOX] for has in self._room), default=1) if unit.alone else 1}
            if unit.resource is not None:
                flying = sum(other.resource == unit.resource for other in self._flying)
                if flying >= self._supply(unit.resource):
                    continue
                needed[unit.resource] = 1
            self._waiting.remove(unit)
            handle(unit, Assigned(os.getpid()))
            with self._reaching():
                future = self._client.submit(grade, self._orders, unit, key=self._key(unit), resources=needed)
            self._flying[unit] = future
            self._deadlines[unit] = time.monotonic() + self._orders.workshop.patience(unit)
            future.add_done_callback(functools.partial(self._ring, unit))

    def _key(self, unit: Grade) -> str:
        """Names the content: whatever Dask does twice is done once. What is handed out again is another attempt."""
        self._attempts[unit] += 1
        orders = self._orders
        told = [orders.workshop.suite.digest, orders.place.token, unit.tests, unit.artifacts, self._attempts[unit]]
        return f"grade-{unit.digest}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"

    def _ring(self, unit: Grade, future: Any) -> None:
        self._done.put((unit, future))
        with contextlib.suppress(OSError):  # it has rung often enough, or nobody listens any more
            self._ringer.send(b"!")

    def _collect(self, handle: Handle) -> None:
        """Hear of every task that ended."""
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(1 << 12)
        while not self._done.empty():
            unit, future = self._done.get()
            if self._flying.get(unit) is not future:  # taken back meanwhile
                continue
            del self._flying[unit]
            self._deadlines.pop(unit, None)
            for event in self._events(future):
                handle(unit, event)

    def _events(self, future: Any) -> tuple[Event | Lost, ...]:
        """What a task brought."""
        try:
            events: tuple[Event, ...] = future.result()
        except (distributed.KilledWorker, ConnectionError, TimeoutError):
            return (Lost(),)  # its workers were killed, or could not reach this machine: another may
        except distributed.CancelledError as problem:
            raise self._gone() from problem
        except (OSError, ValueError, RuntimeError) as problem:
            raise FarmError(
                _(
                    "the farm failed: {problem}. Scheduler and workers are started in a copy of this repository, "
                    "with the grader's versions of it and of Dask"
                ).format(problem=" ".join(str(problem).split()))
            ) from problem
        finally:
            future.release()
        return tuple(Lost() if isinstance(event, Stopped) else event for event in events)

    def _gone(self) -> FarmError:
        return FarmError(
            _(
                "the scheduler at {address} is gone. Every verdict so far is kept: start it again, "
                "then `python -m trtverify grading resume`"
            ).format(address=self._address)
        )
