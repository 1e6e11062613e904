"""What a sandbox uses now, read from outside it: memory of all its processes, space and inodes of its tmpfs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from .launch import PRIVATE
from .limits import Breach, Limits


@dataclasses.dataclass(frozen=True)
class View:
    """Descriptors into a sandbox's own mount namespace. They keep its `/sandbox/work` alive when it is dead.

    Attributes:
        process: a pidfd of the first process; readable once every process of the sandbox is gone.
        proc: the sandbox's own /proc, which lists its processes alone.
        private: each tmpfs; the first is `/sandbox/work`.
    """

    process: int
    proc: int
    private: tuple[int, ...]


@contextlib.contextmanager
def opened(pid: int) -> Iterator[View]:
    """Open a view of the sandbox whose first process has this pid, and which waits at its gate."""
    with contextlib.ExitStack() as stack:

        def hold(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        process = hold(os.pidfd_open(pid))
        flags = os.O_RDONLY | os.O_DIRECTORY
        proc = hold(os.open(f"/proc/{pid}/root/proc", flags))
        private = tuple(hold(os.open(f"/proc/{pid}/root{place}", flags)) for place in PRIVATE)
        yield View(process, proc, private)


def breach(view: View, limits: Limits) -> Breach | None:
    """The limit that the sandbox is over now, if any."""
    held = inodes = 0
    for tmpfs in view.private:
        usage = os.fstatvfs(tmpfs)
        space = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        held += space
        inodes += usage.f_files - usage.f_ffree
        # A tmpfs that is exactly full is allowed to be: the program was told ENOSPC.
        if space > limits.disk_bytes:
            return Breach.DISK
    if inodes > limits.inodes:
        return Breach.INODES
    if held > limits.memory_bytes:
        return Breach.MEMORY
    # Resident pages first: cheap, but pages shared by forked processes count once for each of them.
    left = limits.memory_bytes - held
    if _resident(view.proc) > left and _proportional(view.proc) > left:
        return Breach.MEMORY
    return None


def _processes(proc: int) -> list[str]:
    try:
        return [name for name in os.listdir(proc) if name.isdigit()]
    except OSError:  # the namespace is gone
        return []


def _field_sum(proc: int, file: str, names: tuple[bytes, ...]) -> int:
    total = 0
    for process in _processes(proc):
        try:
            fd = os.open(f"{process}/{file}", os.O_RDONLY, dir_fd=proc)
        except OSError:  # it has ended
            continue
        try:
            text = os.read(fd, 1 << 16)
        except OSError:
            continue
        finally:
            os.close(fd)
        for line in text.splitlines():
            name, _, value = line.partition(b":")
            if name in names:
                total += int(value.split()[0]) << 10
    return total


def _resident(proc: int) -> int:
    return _field_sum(proc, "status", (b"RssAnon", b"RssShmem", b"VmSwap", b"VmPTE"))


def _proportional(proc: int) -> int:
    return _field_sum(proc, "smaps_rollup", (b"Pss_Anon", b"Pss_Shmem", b"SwapPss"))
