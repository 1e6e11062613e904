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
from collections.abc import Iterator

from . import watchdog
from .launch import SandboxUnavailableError, Spec, started
from .limits import Breach, Limits
from .untrusted_text import Kept

_POLL_SECONDS = 0.02  # one process can touch some 100 MB between two looks
_GONE_SECONDS = 10.0
_START_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the parent saw. Nothing here is what the program claims of itself but `exit_code` and the texts.

    Attributes:
        exit_code: as the shell counts it (128 + signal); the program can choose it, so it proves nothing.
        breach: the limit for which it was ended.
        seconds: wall clock from the open gate to the end.
        stdout, stderr: truncated and escaped, safe to print.
        work: a descriptor of its `/work` folder, open until the context is left.
    """

    exit_code: int
    breach: Breach | None
    seconds: float
    stdout: str
    stderr: str
    work: int


@contextlib.contextmanager
def ran(spec: Spec) -> Iterator[Outcome]:
    """Run a program to its end; on entering, every process of the sandbox is gone.

    Raises:
        SandboxUnavailableError: the sandbox could not be built, and the program has not run.
    """
    with contextlib.ExitStack() as stack:
        process, info = stack.enter_context(started(spec))
        assert process.stdin is not None
        kept = (Kept(spec.limits.kept_output_bytes), Kept(spec.limits.kept_output_bytes))
        view = stack.enter_context(watchdog.opened(_first_process(process, info)))
        begun = time.monotonic()
        process.stdin.write(b"go\n")
        process.stdin.close()
        try:
            breach = _watch(process, view, spec.limits, kept, begun + spec.limits.wall_seconds)
        finally:
            _kill(process, view)
        _drain(process, kept, spec.limits)
        code = process.returncode
        yield Outcome(
            exit_code=code if code >= 0 else 128 - code,
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
            raise SandboxUnavailableError(f"the sandbox did not start within {_START_SECONDS:.0f} s")
    # Unbuffered: what follows the line must stay in the pipe.
    said = os.read(process.stdout.fileno(), len(b"ready\n"))
    if said != b"ready\n":
        process.kill()
        problem = process.stderr.read(4096).decode(errors="replace").strip()
        raise SandboxUnavailableError(
            f"bubblewrap could not build the sandbox: {problem or 'no reason given'}. On Ubuntu 24.04 see "
            "kernel.apparmor_restrict_unprivileged_userns; in a container, allow user namespaces."
        )
    pid = json.loads(os.read(info, 4096))["child-pid"]
    assert isinstance(pid, int)
    return pid


def _watch(
    process: subprocess.Popen[bytes], view: watchdog.View, limits: Limits, kept: tuple[Kept, Kept], deadline: float
) -> Breach | None:
    """Read output and look at the sandbox until its program ends or breaks a limit."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector, os.fdopen(os.pidfd_open(process.pid), "rb") as ended:
        selector.register(ended, selectors.EVENT_READ)
        selector.register(process.stdout, selectors.EVENT_READ, kept[0])
        selector.register(process.stderr, selectors.EVENT_READ, kept[1])
        look = 0.0
        while True:
            for key, _ in selector.select(_POLL_SECONDS):
                if key.data is None:
                    return None
                block = os.read(key.fd, 1 << 16)
                if not block:
                    selector.unregister(key.fileobj)
                key.data.add(block)
            if kept[0].seen + kept[1].seen > limits.output_bytes:
                return Breach.OUTPUT
            now = time.monotonic()
            if now > deadline:
                return Breach.WALL
            if now >= look:
                if (breach := watchdog.breach(view, limits)) is not None:
                    return breach
                look = now + _POLL_SECONDS


def _kill(process: subprocess.Popen[bytes], view: watchdog.View) -> None:
    """End the first process: the kernel then ends every other in its namespace before it is gone itself."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(view.process, signal.SIGKILL)
    with selectors.DefaultSelector() as selector:
        selector.register(view.process, selectors.EVENT_READ)
        if not selector.select(_GONE_SECONDS):
            raise SandboxUnavailableError(f"a killed sandbox was still there after {_GONE_SECONDS:.0f} s")
    process.wait()


def _drain(process: subprocess.Popen[bytes], kept: tuple[Kept, Kept], limits: Limits) -> None:
    """Read what was still in the pipes; every writer is dead, so this ends."""
    for pipe, text in zip((process.stdout, process.stderr), kept, strict=True):
        assert pipe is not None
        while text.seen <= limits.output_bytes and (block := os.read(pipe.fileno(), 1 << 16)):
            text.add(block)
