"""Reading a student's zip or tar: unpacked inside a sandbox, so that no parser's fault reaches further."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from . import sandbox
from .intake import Bounds, RejectedError, Snapshot, Snapshots, opened_folder
from .launch import WORK, SandboxKilledError, Spec
from .limits import GIB, MIB, Limits
from .untrusted_text import escaped, shortened

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_RATIO = 1000  # zeros compress 1:1030 with deflate; weights and photographs hardly at all
_HERE = Path(__file__).resolve().parent
# Folders that mean something in a submission. Any other folder that stands alone at the top is packaging.
_OWN = frozenset({"lab1", "lab2", "lab3", "lab4", "lab5", "labs", "calibration_data"})


def student_of(path: Path) -> str:
    """The student that a folder or an archive is named for."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def take(source: Path, snapshots: Snapshots) -> Snapshot:
    """Take a student's folder or archive into a snapshot.

    Raises:
        RejectedError: it is neither, or breaks the bounds; the message is for the student.
        SandboxUnavailableError: archives cannot be read here.
    """
    mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        with opened_folder(source) as folder:
            return _take(folder, snapshots, ())
    if not stat.S_ISREG(mode):
        raise RejectedError("it is a link or a special file; hand in a folder or an archive")
    if not source.name.lower().endswith(SUFFIXES):
        raise RejectedError(f"expected a folder or an archive ({' '.join(SUFFIXES)}), found {escaped(source.name)}")
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=snapshots.root) as private:
        _copy(source, Path(private) / "archive", snapshots.bounds.total_bytes)
        return _unpacked(Path(private), snapshots)


def _copy(source: Path, target: Path, limit: int) -> None:
    """Copy a regular file that may be swapped or grow meanwhile."""
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as reader, target.open("xb") as writer:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise RejectedError(f"the archive is no regular file of at most {limit:,} bytes")
        shutil.copyfileobj(reader, writer, 1 << 20)
    target.chmod(0o444)


def _unpacked(private: Path, snapshots: Snapshots) -> Snapshot:
    bounds: Bounds = snapshots.bounds
    told = json.dumps({**dataclasses.asdict(bounds), "ratio": _RATIO})
    private.chmod(0o755)
    spec = Spec(
        [sys.executable, "-I", "-S", "/program/unpack.py", "/archive/archive", WORK, told],
        read_only={private: "/archive", _HERE: "/program"},
        limits=Limits(
            wall_seconds=300,
            cpu_seconds=300,
            memory_bytes=bounds.total_bytes + 512 * MIB,
            address_space_bytes=4 * GIB,
            processes=8,
            file_bytes=bounds.file_bytes + MIB,
            disk_bytes=bounds.total_bytes + 64 * MIB,
            inodes=bounds.files * bounds.depth + 100,
        ),
    )
    with sandbox.ran(spec) as outcome:
        if outcome.killed_outside:
            raise SandboxKilledError("unpacking was killed from outside")
        if outcome.breach is not None:
            raise RejectedError(f"unpacking it exceeded the limit on {outcome.breach}")
        try:
            said = json.loads(outcome.stdout)
        except ValueError:
            raise RejectedError("it could not be unpacked within the bounds") from None
        if "refused" in said:
            raise RejectedError(escaped(said["refused"]))
        notes = tuple(shortened(escaped(note), 200) for note in said["left_out"])
        return _take(outcome.work, snapshots, notes)


def _take(folder: int, snapshots: Snapshots, notes: tuple[str, ...]) -> Snapshot:
    """Take a folder; if a single folder is all that it holds, take that one instead."""
    with os.scandir(folder) as entries:
        found = [entry for _, entry in zip(range(20), entries, strict=False) if not entry.name.startswith((".", "__"))]
    if len(found) == 1 and found[0].name not in _OWN and found[0].is_dir(follow_symlinks=False):
        try:
            inner = os.open(found[0].name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as problem:  # swapped since it was listed
            raise RejectedError(f"its folder cannot be opened: {problem.strerror}") from problem
        try:
            return snapshots.take(inner, notes)
        finally:
            os.close(inner)
    return snapshots.take(folder, notes)
