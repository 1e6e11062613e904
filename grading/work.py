"""Units of work and the process that does them: taking submissions and checking them, one after the other."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar, TypeAlias

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.messages import _

from .check import Checked, Ended, check
from .sandbox import box
from .sandbox.launch import SandboxKilledError, SandboxUnavailableError, Spec
from .sandbox.limits import GIB
from .sandbox.untrusted_text import escaped, shortened
from .suite import Suite
from .taking import archives, codes, scripts
from .taking.intake import RejectedError, Snapshot, Snapshots, UnreadableError
from .taking.scripts import BrokeLimitError, ScriptOptions

_PR_SET_PDEATHSIG = 1
# What this machine lacks, and no submission is to blame for.
MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_TAKE_SECONDS = 1800.0  # 3 GiB over a slow share, and five minutes to unpack them
_WORKER_BYTES = 8 * GIB
_TRIAL_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True)
class Take:
    """Take one student's folder or archive."""

    student: str
    source: Path
    resource: ClassVar[None] = None
    alone: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Grade:
    """Run tests on the content of this digest, and before them its scripts unless `artifacts` were made.

    Attributes:
        resource: what they need beside a processor, such as "GPU"; one unit at a time has it.
        alone: nothing else is at work on that machine meanwhile, so that what goes wrong is its own doing.
    """

    digest: str
    tests: tuple[str, ...]
    artifacts: str | None = None
    resource: str | None = None
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class Taken:
    """What taking gave: a digest and notes, or the reason why it was rejected."""

    student: str
    digest: str | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Unread:
    """A submission is there and cannot be read now, which is no fault of its content."""

    student: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Made:
    """What a submission's scripts made: the digest of the whole with it."""

    digest: str
    artifacts: str
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Started:
    """A test began."""

    test: str


@dataclasses.dataclass(frozen=True)
class Broke:
    """The unit cannot be done, for a reason that lies in it as far as can be seen from here."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Stopped:
    """The sandbox cannot be had, or the results folder cannot be written: perhaps for no unit at all any more."""

    reason: str
    sandbox: bool


Unit: TypeAlias = Take | Grade
Event: TypeAlias = Taken | Unread | Made | Started | Checked | Ended | Broke | Stopped
LAST = (Taken, Unread, Ended, Broke, Stopped)  # what a unit ends with


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What every worker needs to know."""

    snapshots: Path
    suite: Suite
    labs: tuple[str, ...]
    scripts: ScriptOptions
    codes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Student → the code that their evidence must answer to."""

    def patience(self, unit: Unit) -> float:
        """Seconds after which a unit that says nothing is given up: what its sandboxes may take, and as much again."""
        if isinstance(unit, Take):
            return _TAKE_SECONDS
        return 2 * (len(self.labs) * self.scripts.limits.wall_seconds + self.suite.limits.wall_seconds) + _TAKE_SECONDS

    def do(self, unit: Unit, send: Callable[[Event], None]) -> None:
        """Do a unit; what happens is sent as it happens, one of `LAST` last."""
        try:
            if isinstance(unit, Take):
                self._take(unit, send)
            else:
                self._grade(unit, send)
        except SandboxKilledError as problem:
            send(Ended(False, reason=str(problem), outside=True))
        except SandboxUnavailableError as problem:
            send(Stopped(str(problem), sandbox=True))
        except UnreadableError as problem:
            reason = escaped(problem.strerror or str(problem))
            send(Unread(unit.student, reason) if isinstance(unit, Take) else Broke(reason))
        except BrokeLimitError as problem:
            send(Ended(False, reason=str(problem), breach=True))
        # Whatever a unit breaks is that unit's own: an exception that got past here would end everybody's run.
        except Exception as problem:
            if isinstance(problem, OSError) and problem.errno in MACHINE:
                send(Stopped(escaped(str(problem)), sandbox=False))
            else:
                send(Broke(shortened(escaped(f"{type(problem).__name__}: {problem}"), 500)))

    def _take(self, unit: Take, send: Callable[[Event], None]) -> None:
        try:
            code = self.codes.get(unit.student)
            added = {} if code is None else {codes.FILE: f"{code}\n".encode()}
            snapshot = archives.take(unit.source, Snapshots(self.snapshots, added=added))
        except RejectedError as problem:
            send(
                Taken(unit.student, None, (_("the submission could not be taken: {problem}").format(problem=problem),))
            )
        else:
            notes = tuple(_("left out: {note}").format(note=note) for note in snapshot.left_out)
            send(Taken(unit.student, snapshot.digest, notes))

    def _grade(self, unit: Grade, send: Callable[[Event], None]) -> None:
        snapshots = Snapshots(self.snapshots)
        artifacts = unit.artifacts
        if artifacts is None or snapshots.find(artifacts) is None:
            handed_in = snapshots.root / unit.digest
            to_be_run = scripts.to_run(handed_in, self.labs)
            made = Snapshot(unit.digest, handed_in)
            if to_be_run:
                options = dataclasses.replace(self.scripts, gpu=unit.resource is not None)
                made = scripts.make(handed_in, to_be_run, options, snapshots, alone=unit.alone)
            artifacts = made.digest
            send(Made(unit.digest, artifacts, made.left_out))
        suite = dataclasses.replace(self.suite, gpu=unit.resource is not None)
        begun: set[str] = set()

        def started(test: str) -> None:
            if test not in begun:  # a process that was taken over may say it a million times
                begun.add(test)
                send(Started(test))

        at = time.monotonic()
        ended = check(suite, snapshots.root / artifacts, unit.tests, started, send)
        send(dataclasses.replace(ended, seconds=time.monotonic() - at))


def trouble(results: Path) -> str:
    """What this machine lacks to grade anything at all; "" if it works, and the trouble was one submission's.

    Raises:
        SandboxUnavailableError: there is no sandbox.
    """
    try:
        Snapshots(results).need_room(0)
        with tempfile.TemporaryFile(dir=results) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        return f"{results.parent}: {problem.strerror or problem}"
    with box.ran(Spec(["true"])) as outcome:
        return (
            ""
            if outcome.exit_code == 0
            else _("a sandbox that does nothing ended with {code}").format(code=outcome.exit_code)
        )


def serve(connection: Connection, workshop: Workshop, parent: int) -> None:
    """A worker process: do units until the grader closes the connection or dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    messages.use_language(workshop.suite.language)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the grader decides
    # The worker itself needs a hundredth of it. The sandboxes set limits of their own, up to the hard one.
    resource.setrlimit(resource.RLIMIT_AS, (_WORKER_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        try:
            unit = connection.recv()
        except EOFError:
            return
        workshop.do(unit, connection.send)
