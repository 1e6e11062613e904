"""Proof that grading leaves no sandboxed process behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ENDING_SECONDS = 3.0


@contextlib.contextmanager
def none_left(folder: Path | None = None) -> Iterator[None]:
    """Fail if a process in a PID namespace that is not there now is there afterwards.

    Args:
        folder: of a test that runs for minutes: what sandboxes of others than this folder's do meanwhile is theirs.
    """
    # What a sandbox shows of a folder is among its mounts, under the folder's own path on its disk.
    shown = "" if folder is None else f"{folder.parent.name}/{folder.name}/"
    before = _pid_namespaces(shown)
    yield
    deadline = time.monotonic() + _ENDING_SECONDS
    while left := _pid_namespaces(shown) - before:
        assert time.monotonic() < deadline, f"processes were left in the namespaces {sorted(left)}"
        time.sleep(0.02)


def _pid_namespaces(shown: str) -> set[str]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                # A zombie has ended; the machine's first process collects it in its own time.
                alive = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and (not shown or shown in (process / "mountinfo").read_text()):
                    found.add(os.readlink(process / "ns" / "pid"))  # noqa: PTH115 (a magic link, no path)
            except OSError:
                continue
    return found
