"""Ending what bubblewrap leaves when it is killed in the instant between its fork and its first word to the child.

That child waits for the word for ever. It has run nothing of anybody's and can do nothing, but it is there.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .launch import GATE


def end() -> int:
    """Kill the first process of every sandbox whose own bubblewrap is gone; their number."""
    ended = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or not _is_orphan(process):
            continue
        try:
            fd = os.pidfd_open(int(process.name))
        except ProcessLookupError:
            continue
        try:
            if _is_orphan(process):  # again, behind the descriptor: its number may have become another's
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                ended += 1
        except (ProcessLookupError, PermissionError):  # gone, or another user's
            continue
        finally:
            os.close(fd)
    return ended


def _is_orphan(process: Path) -> bool:
    if not _is_bubblewrap(process):
        return False
    try:
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    except (OSError, ValueError):
        return False
    # Two numbers: it is the first of a PID namespace, and not the bubblewrap that watches it from outside.
    return status["NSpid"].split()[1:] == ["1"] and not _is_bubblewrap(Path("/proc", status["PPid"].strip()))


def _is_bubblewrap(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[:2] == [b"bwrap", b"--args"] and GATE.encode() in words
