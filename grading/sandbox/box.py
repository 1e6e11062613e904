"""Running one untrusted program behind bubblewrap's walls, watched from outside until nothing of it is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trtverify.fixtures.words.messages import _

from . import control_groups, watchdog
from .launch import SandboxKilledError, SandboxStuckError, SandboxUnavailableError, Spec, started
from .limits import Breach, Limits
from .untrusted_text import Kept

CHANNEL = "{channel}"
_POLL_SECONDS = 0.02  # one process can touch some 100 MB between two looks
_GONE_SECONDS = 10.0  # gigabytes take the kernel a second or two to take back
_STUCK_SECONDS = 300.0
_START_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the parent saw. Nothing here is what the program claims of itself but `exit_code` and the texts.

    Attributes:
        killed_outside: bubblewrap itself was killed, which nothing inside can do, or the kernel killed something
            inside because the machine, and not this sandbox, was out of memory.
        exit_code: as the shell counts it (128 + signal); the program can choose it, so it proves nothing.
        breach: the limit for which it was ended.
        seconds: wall clock from the open gate to the end.
        stdout, stderr: truncated and escaped, safe to print.
        work: a descriptor of its `/sandbox/work` folder, open until the context is left.
    """

    killed_outside: bool
    exit_code: int
    breach: Breach | None
    seconds: float
    stdout: str
    stderr: str
    work: int


@contextlib.contextmanager
def ran(spec: Spec, receive: Callable[[bytes], None] | None = None) -> Iterator[Outcome]:
    """Run a program to its end; on entering, every process of the sandbox is gone.

    Args:
        spec: what to run. With `receive`, the word CHANNEL in its command becomes a descriptor's number.
        receive: called with each block of bytes that a trusted program writes to that descriptor.

    Raises:
        SandboxUnavailableError: the sandbox could not be built, and the program has not run.
        SandboxKilledError: it was killed from outside before the program ran.
        SandboxStuckError: minutes after it was killed something of it is still there.
    """
    spec = dataclasses.replace(spec, limits=control_groups.bounded(spec.limits))
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(control_groups.made(spec.limits))
        machine = _machine_kills()
        channel = None
        if receive is not None:
            channel, inside = os.pipe()
            stack.callback(os.close, channel)
            command = [word.replace(CHANNEL, str(inside)) for word in spec.command]
            spec = dataclasses.replace(spec, command=command, pass_fds=(*spec.pass_fds, inside))
        try:
            process, info = stack.enter_context(started(spec, group))
        finally:
            if channel is not None:
                os.close(inside)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        kept = (Kept(spec.limits.kept_output_bytes), Kept(spec.limits.kept_output_bytes))
        try:
            view = stack.enter_context(watchdog.opened(_first_process(process, info)))
            process.stdin.write(b"go\n")
            process.stdin.close()
        except (FileNotFoundError, ProcessLookupError, BrokenPipeError) as problem:
            raise SandboxKilledError(
                _("the sandbox was killed at its gate: {problem}").format(problem=problem)
            ) from problem
        begun = time.monotonic()
        try:
            readers: dict[int, Callable[[bytes], None]] = {
                process.stdout.fileno(): kept[0].add,
                process.stderr.fileno(): kept[1].add,
            }
            if channel is not None and receive is not None:
                readers[channel] = receive
            breach = _watch(process, view, spec.limits, readers, kept, group)
        finally:
            ending = _kill(process, view)
        _drain(readers, kept, spec.limits)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        starved = False
        if group is not None:
            used = group.usage()
            starved = used.starved
            breach = breach or (Breach.MEMORY if used.over else None)
        elif code == 128 + signal.SIGKILL:
            starved = _machine_kills() > machine
        if breach is None and ending > _GONE_SECONDS:
            breach = Breach.ENDING
        yield Outcome(
            killed_outside=breach is None and (process.returncode < 0 or starved),
            exit_code=code,
            breach=breach,
            seconds=time.monotonic() - begun,
            stdout=kept[0].text(),
            stderr=kept[1].text(),
            work=view.private[0],
        )


def _first_process(process: subprocess.Popen[bytes], info: int) -> int:
    """Wait until the sandbox stands; the pid of its first process, on this side."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(_START_SECONDS):
            raise SandboxKilledError(
                _("the sandbox did not start within {seconds:.0f} s").format(seconds=_START_SECONDS)
            )
    # Unbuffered: what follows the line must stay in the pipe.
    said = os.read(process.stdout.fileno(), len(b"ready\n"))
    if said != b"ready\n":
        if process.wait(_GONE_SECONDS) == -signal.SIGKILL:
            raise SandboxKilledError(_("the sandbox was killed while it was built"))
        problem = process.stderr.read(4096).decode(errors="replace").strip()
        raise SandboxUnavailableError(
            _(
                "bubblewrap could not build the sandbox: {problem}. On Ubuntu 24.04 see "
                "kernel.apparmor_restrict_unprivileged_userns; in a container, allow user namespaces."
            ).format(problem=problem or _("no reason given"))
        )
    pid = json.loads(os.read(info, 4096))["child-pid"]
    assert isinstance(pid, int)
    return pid


def _watch(
    process: subprocess.Popen[bytes],
    view: watchdog.View,
    limits: Limits,
    readers: Mapping[int, Callable[[bytes], None]],
    kept: tuple[Kept, Kept],
    group: control_groups.Group | None,
) -> Breach | None:
    """Read output and look at the sandbox until its program ends or breaks a limit."""
    deadline = time.monotonic() + limits.wall_seconds
    with selectors.DefaultSelector() as selector, os.fdopen(os.pidfd_open(process.pid), "rb") as ended:
        selector.register(ended, selectors.EVENT_READ)
        for fd, reader in readers.items():
            selector.register(fd, selectors.EVENT_READ, reader)
        look = 0.0
        while True:
            for key, _events in selector.select(_POLL_SECONDS):
                if key.data is None:
                    return None
                block = os.read(key.fd, 1 << 16)
                if not block:
                    selector.unregister(key.fd)
                key.data(block)
            if kept[0].seen + kept[1].seen > limits.output_bytes:
                return Breach.OUTPUT
            now = time.monotonic()
            if now > deadline:
                return Breach.WALL
            if now >= look:
                if (breach := watchdog.breach(view, limits)) is not None:
                    return breach
                if group is not None and group.usage().over:
                    return Breach.MEMORY
                look = now + _POLL_SECONDS


def _kill(process: subprocess.Popen[bytes], view: watchdog.View) -> float:
    """End the first process: the kernel then ends every other in its namespace before it is gone itself.

    Returns:
        The seconds that this took. They are the submission's own: nobody else waits for them.
    """
    begun = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(view.process, signal.SIGKILL)
    with selectors.DefaultSelector() as selector:
        selector.register(view.process, selectors.EVENT_READ)
        if not selector.select(_STUCK_SECONDS):
            raise SandboxStuckError(
                _("a killed sandbox was still there after {seconds:.0f} s").format(seconds=_STUCK_SECONDS)
            )
    process.wait()
    return time.monotonic() - begun


def _machine_kills() -> int:
    """How often the kernel has killed a process because memory ran out, since this machine was started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _drain(readers: Mapping[int, Callable[[bytes], None]], kept: tuple[Kept, Kept], limits: Limits) -> None:
    """Read what was still in the pipes; every writer is dead, so this ends."""
    for fd, reader in readers.items():
        while kept[0].seen + kept[1].seen <= limits.output_bytes and (block := os.read(fd, 1 << 16)):
            reader(block)
