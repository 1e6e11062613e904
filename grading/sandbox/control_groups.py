"""Control groups: the kernel's own count of a sandbox's memory, mappings and page tables included, tasks and share.

Version 2 where this user may make groups (systemd delegates them), version 1 where root may. Elsewhere there are none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from trtverify.fixtures.words.messages import _

from .limits import GIB, MIB, Limits

CONTROLLERS = ("memory", "pids", "cpu")
_PREFIX = "trtverify-"
# What the kernel holds for a sandbox beside what the watchdog counts: page tables, mappings, sockets, inodes.
_KERNEL_BYTES = 64 * MIB
# bubblewrap and its first process, `sh` and `setpriv` before them, and prlimit between.
_OWN_TASKS = 8
_EMPTY_SECONDS = 5.0
# Without groups: processes for which the pages that the watchdog cannot see stay small, and threads for each processor.
_FEWER_PROCESSES = 64
_LESS_MEMORY = 4 * GIB
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where groups can be made: version, and controller → folder."""

    version: int
    folders: Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the kernel says of a group.

    Attributes:
        over: the group's own limit on memory was reached, and something in it killed for that.
        starved: something in it was killed though it was within its limit: the whole machine ran out of memory.
    """

    over: bool
    starved: bool


@dataclasses.dataclass(frozen=True)
class Group:
    """One sandbox's group, in each hierarchy that there is."""

    version: int
    folders: Mapping[str, Path]

    @property
    def entries(self) -> tuple[Path, ...]:
        """The folders that a process enters, each once."""
        return tuple(dict.fromkeys(self.folders.values()))

    def usage(self) -> Usage:
        """What it has used so far."""
        memory = self.folders["memory"]
        if self.version == 2:
            events = _numbers_of(memory / "memory.events")
            killed, full = events.get("oom_kill", 0), events.get("oom", 0)
        else:
            killed = _numbers_of(memory / "memory.oom_control").get("oom_kill", 0)
            # Not memory.failcnt, which recent kernels leave at 0. Charges come in batches of 64 pages a processor.
            limit = int(_text(memory / "memory.limit_in_bytes") or 0)
            full = int(_text(memory / "memory.max_usage_in_bytes") or 0) >= limit - MIB
        return Usage(over=killed > 0 and full > 0, starved=killed > 0 and full == 0)


@functools.cache
def place() -> Place | str:
    """Where groups are made on this machine, or why there are none."""
    mounts = [line.split() for line in _text(Path("/proc/self/mountinfo")).splitlines()]
    # number:controllers:path, where version 2 has no controllers here
    own = {
        words[1]: words[2] for line in _text(Path("/proc/self/cgroup")).splitlines() if (words := line.split(":", 2))
    }
    tried = [_second(mounts, own.get("")), _first(mounts, own)]
    return next((found for found in tried if isinstance(found, Place)), "; ".join(str(found) for found in tried))


def missing() -> str:
    """Why there are no control groups here; "" if there are."""
    found = place()
    return found if isinstance(found, str) else ""


def bounded(limits: Limits) -> Limits:
    """The limits as they are where groups hold them; lower ones where the watchdog alone looks."""
    if not missing():
        return limits
    return dataclasses.replace(
        limits,
        processes=min(limits.processes, _FEWER_PROCESSES + 2 * (os.cpu_count() or 1)),
        memory_bytes=min(limits.memory_bytes, _LESS_MEMORY),
    )


@contextlib.contextmanager
def made(limits: Limits) -> Iterator[Group | None]:
    """A group for one sandbox, empty, gone afterwards; None where there are none."""
    where = place()
    if isinstance(where, str):
        yield None
        return
    group = _make(where, limits)
    try:
        yield group
    finally:
        _remove(group.entries)


def sweep() -> None:
    """Remove the groups of graders that are no more."""
    where = place()
    if isinstance(where, str):
        return
    for folder in set(where.folders.values()):
        for group in folder.glob(f"{_PREFIX}*-*"):
            pid = group.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                with contextlib.suppress(OSError):  # something of it lives on, or another grader was faster
                    group.rmdir()


def _make(where: Place, limits: Limits) -> Group:
    name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    group = Group(where.version, {controller: folder / name for controller, folder in where.folders.items()})
    made_so_far: list[Path] = []
    try:
        for folder in group.entries:
            folder.mkdir()
            made_so_far.append(folder)
        memory = limits.memory_bytes + _KERNEL_BYTES
        if group.version == 2:
            _write(group.folders["memory"] / "memory.max", memory)
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                _write(group.folders["memory"] / "memory.swap.max", 0)
            _write(group.folders["cpu"] / "cpu.weight", 100)
        else:
            _write(group.folders["memory"] / "memory.limit_in_bytes", memory)
            with contextlib.suppress(FileNotFoundError, PermissionError):  # swap is not counted on this kernel
                _write(group.folders["memory"] / "memory.memsw.limit_in_bytes", memory)
            _write(group.folders["cpu"] / "cpu.shares", 1024)
        _write(group.folders["pids"] / "pids.max", limits.processes + _OWN_TASKS)
    except OSError:
        _remove(tuple(made_so_far))
        raise
    return group


def _remove(folders: tuple[Path, ...]) -> None:
    """A group can go once its last process is reaped, which the kernel does in its own time."""
    deadline = time.monotonic() + _EMPTY_SECONDS
    for folder in folders:
        while True:
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError as problem:
                if problem.errno != errno.EBUSY or time.monotonic() > deadline:
                    break  # `sweep` finds it
                time.sleep(0.002)
                continue
            break


def _second(mounts: list[list[str]], own: str | None) -> Place | str:
    """The own group in version 2, or one above it, whose groups have the controllers."""
    top = next((Path(_unescaped(line[4])) for line in mounts if line[line.index("-") + 1] == "cgroup2"), None)
    if top is None or own is None:
        return _("version 2 is not mounted")
    here = top / own.lstrip("/")
    if ".." in here.parts or not here.is_dir():  # it lies outside what this container sees
        here = top
    wanted = set(CONTROLLERS)
    folders = [folder for folder in (here, *here.parents) if folder.is_relative_to(top)]
    folders = [folder for folder in folders if wanted <= set(_text(folder / "cgroup.controllers").split())]
    ready = [folder for folder in folders if wanted <= set(_text(folder / "cgroup.subtree_control").split())]
    reasons = []
    for folder in (*ready, *folders):
        found = Place(2, dict.fromkeys(CONTROLLERS, folder))
        reason = (_delegated(folder, here) if folder not in ready else "") or _usable(found)
        if not reason:
            return found
        reasons.append(reason)
    return reasons[0] if reasons else _("version 2 has no {controllers}").format(controllers=", ".join(CONTROLLERS))


def _delegated(folder: Path, own: Path) -> str:
    """Let the groups inside `folder` have the controllers; why that failed, or "".

    A group with groups inside holds no process itself: those of the own group, which is this grader's, move down.
    """
    try:
        if folder == own and (processes := _text(folder / "cgroup.procs").split()):
            leaf = folder / f"{_PREFIX}grader"
            leaf.mkdir(exist_ok=True)
            for process in processes:
                _write(leaf / "cgroup.procs", int(process))
        fd = os.open(folder / "cgroup.subtree_control", os.O_WRONLY)
        try:
            os.write(fd, " ".join(f"+{controller}" for controller in CONTROLLERS).encode())
        finally:
            os.close(fd)
    except OSError as problem:
        return _("version {version} is closed: {problem}").format(version=2, problem=problem)
    return ""


def _first(mounts: list[list[str]], own: Mapping[str, str]) -> Place | str:
    """The own groups in the hierarchies of version 1."""
    folders: dict[str, Path] = {}
    for controller in CONTROLLERS:
        path = next((path for names, path in own.items() if controller in names.split(",")), None)
        for line in mounts:
            kind, options = line[line.index("-") + 1], line[-1].split(",")
            if path is not None and kind == "cgroup" and controller in options:
                inside = path.removeprefix(line[3].rstrip("/")) if line[3] != "/" else path
                folders[controller] = Path(_unescaped(line[4]), inside.lstrip("/"))
    if lacking := [controller for controller in CONTROLLERS if controller not in folders]:
        return _("version 1 has no {controllers}").format(controllers=", ".join(lacking))
    found = Place(1, folders)
    return _usable(found) or found


def _usable(found: Place) -> str:
    """Why no group can be made there; "" if one was."""
    try:
        group = _make(found, Limits())
    except OSError as problem:
        return _("version {version} is closed: {problem}").format(version=found.version, problem=problem)
    _remove(group.entries)
    return ""


def _numbers_of(path: Path) -> dict[str, int]:
    words = [line.split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: int) -> None:
    # Not `write_text`, which would make a plain file where the kernel has none.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _unescaped(path: str) -> str:
    return path.encode().decode("unicode_escape").encode("latin-1").decode()
