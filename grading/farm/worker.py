"""What a Dask worker runs: it proves the walls of the sandbox on itself, then grades what it is sent."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import ssl
from pathlib import Path

import distributed

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.messages import _

from ..sandbox import orphans, selftest
from ..sandbox.launch import SandboxUnavailableError
from ..suite import compile_all
from ..work import MACHINE, Broke, Event, Grade, Made, Stopped, Workshop, trouble
from .shelf import Cupboard, Place

NAME = "grading"
SANDBOX = "SANDBOX"  # the resource of a worker whose walls hold: as many as it grades at a time


def version() -> str:
    """A digest of this program, since the two ends of a farm must be the same."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


@dataclasses.dataclass(frozen=True)
class Orders:
    """What every task of one run is told.

    Attributes:
        place: where snapshots and tests are fetched.
        suite_digest: of the frozen tests' content.
        workshop: as on the grader's machine; its folders are replaced by the worker's own.
    """

    place: Place
    suite_digest: str
    workshop: Workshop


class Doorkeeper(distributed.WorkerPlugin):  # type: ignore[misc]
    """Gives a worker the SANDBOX resource, which every task needs, once its walls were tried and held.

    Args:
        grader: the version of the grader's own program.
        shown: folders that tests and scripts are shown, which must be there.

    Attributes:
        refusal: why this worker grades nothing; "" while it does or is still trying its walls.
        cupboard: what it has fetched.
    """

    name = NAME

    def __init__(self, grader: str, shown: tuple[Path, ...]) -> None:
        self._grader = grader
        self._shown = shown
        self.refusal = ""
        self.cupboard: Cupboard | None = None

    async def setup(self, worker: distributed.Worker) -> None:
        """Try the walls."""
        self.cupboard = Cupboard(Path(worker.local_directory) / "grading")
        try:
            await asyncio.to_thread(self._prove)
        except (SandboxUnavailableError, OSError, ValueError) as problem:
            self.refusal = str(problem)
            return
        await worker.set_resources(**{SANDBOX: worker.state.nthreads})

    async def teardown(self, worker: distributed.Worker) -> None:
        """Take no more tasks."""
        await worker.set_resources(**{SANDBOX: 0})

    def _prove(self) -> None:
        if version() != self._grader:
            raise ValueError(_("its grading/ is not the grader's: bring its copy of this repository up to date"))
        for folder in self._shown:
            if not folder.is_dir():
                raise ValueError(_("{path}: no such directory").format(path=folder))
        orphans.end()
        selftest.require_walls()


def refusal(dask_worker: distributed.Worker) -> str:
    """Why this worker, which Dask fills in, grades nothing; "" while it does or is still trying its walls."""
    keeper = dask_worker.plugins.get(NAME)
    return keeper.refusal if isinstance(keeper, Doorkeeper) else ""


def grade(orders: Orders, unit: Grade) -> tuple[Event, ...]:
    """A task: grade one unit, and say what happened.

    Raises:
        OSError: the grader cannot be reached.
        ValueError: it sent something else than it was asked for.
    """
    messages.use_language(orders.workshop.suite.language)
    worker = distributed.get_worker()
    keeper = worker.plugins[NAME]
    assert isinstance(keeper, Doorkeeper)
    events: list[Event] = []
    try:
        _grade(orders, unit, keeper, worker.security.get_connection_args("worker")["ssl_context"], events)
    except OSError as problem:
        if problem.errno not in MACHINE:
            raise
        events.append(Stopped(str(problem), sandbox=False))
    if isinstance(events[-1], Stopped):
        if reason := _trouble(keeper, events[-1]):
            keeper.refusal = reason
            distributed.utils.sync(worker.loop, keeper.teardown, worker)
        else:  # this machine grades others
            events[-1] = Broke(events[-1].reason)
    return tuple(events)


def _trouble(keeper: Doorkeeper, stopped: Stopped) -> str:
    assert keeper.cupboard is not None
    try:
        return trouble(keeper.cupboard.snapshots.root)
    except SandboxUnavailableError:
        return stopped.reason


def _grade(orders: Orders, unit: Grade, keeper: Doorkeeper, tls: ssl.SSLContext | None, events: list[Event]) -> None:
    cupboard = keeper.cupboard
    assert cupboard is not None
    with cupboard.keep(orders.suite_digest, unit.digest, *([unit.artifacts] if unit.artifacts else [])):
        fetch = functools.partial(cupboard.fetch, orders.place, tls=tls)
        tests = fetch(orders.suite_digest)
        found = fetch(unit.artifacts) if unit.artifacts else None
        if tests is None or (found is None and fetch(unit.digest) is None):
            raise ValueError(_("the grader no longer has {digest}").format(digest=unit.digest))
        _compile(tests)
        workshop = dataclasses.replace(
            orders.workshop,
            snapshots=cupboard.snapshots.root,
            suite=dataclasses.replace(orders.workshop.suite, folder=tests),
        )
        workshop.do(unit, events.append)
        for event in events:
            if isinstance(event, Made) and event.artifacts != unit.digest:
                cupboard.hand_over(orders.place, event.artifacts, tls)


@functools.cache
def _compile(tests: Path) -> None:
    """Byte code is each Python's own, and the sandbox cannot write it."""
    compile_all(tests)
