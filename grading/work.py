"""Units of work and the process that does them: taking submissions and checking them, one after the other."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar, TypeAlias

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.messages import _

from .check import Checked, Ended, check
from .sandbox.launch import SandboxKilledError, SandboxUnavailableError
from .sandbox.untrusted_text import escaped
from .suite import Suite
from .taking import archives, codes, scripts
from .taking.intake import RejectedError, Snapshot, Snapshots
from .taking.scripts import ScriptOptions

_PR_SET_PDEATHSIG = 1
# What this machine lacks, and no submission is to blame for.
MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclasses.dataclass(frozen=True)
class Take:
    """Take one student's folder or archive."""

    student: str
    source: Path
    resource: ClassVar[None] = None


@dataclasses.dataclass(frozen=True)
class Grade:
    """Run tests on the content of this digest, and before them its scripts unless `artifacts` were made.

    Attributes:
        resource: what they need beside a processor, such as "GPU"; one unit at a time has it.
    """

    digest: str
    tests: tuple[str, ...]
    artifacts: str | None = None
    resource: str | None = None


@dataclasses.dataclass(frozen=True)
class Taken:
    """What taking gave: a digest and notes, or the reason why it was rejected."""

    student: str
    digest: str | None
    notes: tuple[str, ...]


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
class Stopped:
    """Grading cannot go on here: the sandbox cannot be had, or the results folder cannot be written."""

    reason: str
    sandbox: bool


Unit: TypeAlias = Take | Grade
Event: TypeAlias = Taken | Made | Started | Checked | Ended | Stopped


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What every worker needs to know."""

    snapshots: Path
    suite: Suite
    labs: tuple[str, ...]
    scripts: ScriptOptions
    codes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Student → the code that their evidence must answer to."""

    def do(self, unit: Unit, send: Callable[[Event], None]) -> None:
        """Do a unit; what happens is sent as it happens, `Taken`, `Ended` or `Stopped` last."""
        try:
            if isinstance(unit, Take):
                self._take(unit, send)
            else:
                self._grade(unit, send)
        except SandboxKilledError as problem:
            send(Ended(False, reason=str(problem), outside=True))
        except SandboxUnavailableError as problem:
            send(Stopped(str(problem), sandbox=True))
        except OSError as problem:
            if problem.errno not in MACHINE:
                raise
            send(Stopped(f"{self.snapshots.parent}: {problem}", sandbox=False))

    def _take(self, unit: Take, send: Callable[[Event], None]) -> None:
        try:
            code = self.codes.get(unit.student)
            added = {} if code is None else {codes.FILE: f"{code}\n".encode()}
            snapshot = archives.take(unit.source, Snapshots(self.snapshots, added=added))
        except RejectedError as problem:
            send(
                Taken(unit.student, None, (_("the submission could not be taken: {problem}").format(problem=problem),))
            )
        except OSError as problem:
            if problem.errno in MACHINE:
                raise
            reason = escaped(problem.strerror or str(problem))
            note = _("the submission could not be read: {reason}").format(reason=reason)
            send(Taken(unit.student, None, (note,)))
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
                made = scripts.make(handed_in, to_be_run, options, snapshots)
            artifacts = made.digest
            send(Made(unit.digest, artifacts, made.left_out))
        suite = dataclasses.replace(self.suite, gpu=unit.resource is not None)
        ended = check(suite, snapshots.root / artifacts, unit.tests, lambda test: send(Started(test)), send)
        send(ended)


def serve(connection: Connection, workshop: Workshop, parent: int) -> None:
    """A worker process: do units until the grader closes the connection or dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    messages.use_language(workshop.suite.language)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the grader decides
    while True:
        try:
            unit = connection.recv()
        except EOFError:
            return
        workshop.do(unit, connection.send)
