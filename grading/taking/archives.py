"""Reading a student's zip or tar: unpacked inside a sandbox, so that no parser's fault reaches further."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox import box
from ..sandbox.launch import WORK, SandboxKilledError, Spec
from ..sandbox.limits import GIB, MIB, Limits, breach_word
from ..sandbox.untrusted_text import escaped, shortened
from .intake import Bounds, RejectedError, Snapshot, Snapshots, UnreadableError, opened_folder

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
        UnreadableError: it was there and cannot be read now.
        NoRoomError: this disk cannot hold it.
        SandboxUnavailableError: archives cannot be read here.
    """
    with reading(source):
        mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        with opened_folder(source) as folder:
            return _take(folder, snapshots, ())
    if not stat.S_ISREG(mode):
        raise RejectedError(_("it is a link or a special file; hand in a folder or an archive"))
    if not source.name.lower().endswith(SUFFIXES):
        raise RejectedError(
            _("expected a folder or an archive ({suffixes}), found {name}").format(
                suffixes=" ".join(SUFFIXES), name=escaped(source.name)
            )
        )
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=snapshots.root) as private:
        _copy(source, Path(private) / "archive", snapshots)
        return _unpacked(Path(private), snapshots)


def _copy(source: Path, target: Path, snapshots: Snapshots) -> None:
    """Copy a regular file that may be swapped or grow meanwhile."""
    limit = snapshots.bounds.total_bytes
    with reading(source):
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb", buffering=0) as reader, target.open("xb") as writer:
        with reading(source):
            status = os.fstat(fd)
        copied = 0
        if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
            snapshots.need_room(status.st_size)
            while block := _block(reader, source):
                copied += len(block)
                if copied > limit:  # it grew
                    break
                if copied > status.st_size:
                    snapshots.need_room(len(block))
                writer.write(block)
        if not stat.S_ISREG(status.st_mode) or max(status.st_size, copied) > limit:
            raise RejectedError(_("the archive is no regular file of at most {limit:,} bytes").format(limit=limit))
        if copied < status.st_size:
            raise UnreadableError(
                errno.EIO,
                _("{name}: it ended after {count:,} of {size:,} bytes").format(
                    name=escaped(os.fsencode(source.name)), count=copied, size=status.st_size
                ),
            )
    target.chmod(0o444)


def _block(reader: RawIOBase, source: Path) -> bytes:
    with reading(source):
        return reader.read(1 << 20) or b""


@contextlib.contextmanager
def reading(source: Path) -> Iterator[None]:
    """What fails within failed because the source cannot be read now: its content is not to blame."""
    try:
        yield
    except OSError as problem:
        name, said = escaped(os.fsencode(source.name)), escaped(problem.strerror or str(problem))
        raise UnreadableError(problem.errno, f"{name}: {said}") from problem


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
            kept_output_bytes=1 * MIB,  # of 60 names of 300 characters, each six bytes in JSON
        ),
    )
    with box.ran(spec) as outcome:
        if outcome.killed_outside:
            raise SandboxKilledError(_("unpacking was killed from outside"))
        if outcome.breach is not None:
            raise RejectedError(_("unpacking it exceeded the limit on {what}").format(what=breach_word(outcome.breach)))
        try:
            said = json.loads(outcome.stdout)
        except ValueError:
            raise RejectedError(_("it could not be unpacked within the bounds")) from None
        if "refused" in said:
            raise RejectedError(_refusal(str(said["refused"]), escaped(str(said["detail"])), bounds))
        notes = tuple(shortened(f"{escaped(name)}: {_why(why, bounds)}", 200) for name, why in said["left_out"])
        return _take(outcome.work, snapshots, notes)


def _refusal(why: str, detail: str, bounds: Bounds) -> str:
    """Why an archive is refused, from the unpacker's one word and detail."""
    return {
        "files": _("it holds more than {count:,} members").format(count=bounds.files),
        "total_bytes": _("unpacked it holds more than {size:,} bytes").format(size=bounds.total_bytes),
        "ratio": _("{name} unpacks to more than {ratio} times its size").format(name=detail, ratio=_RATIO),
    }.get(why, _("it is no readable zip or tar archive ({problem})").format(problem=detail))


def _why(why: str, bounds: Bounds) -> str:
    """Why a member is left out, from the unpacker's one word."""
    return {
        "kind": _("a link or a special file"),
        "encrypted": _("encrypted"),
        "twice": _("a second member of this name"),
        "path": _("its path leaves the archive"),
        "nameless": _("it has no name"),
        "depth": _("lies deeper than {count} folders").format(count=bounds.depth),
        "name": _("its name is too long or cannot be printed"),
    }.get(why, _("left out"))


def _take(folder: int, snapshots: Snapshots, notes: tuple[str, ...]) -> Snapshot:
    """Take a folder; if a single folder is all that it holds, take that one instead."""
    with reading(Path()), os.scandir(folder) as entries:
        found = [
            entry for _number, entry in zip(range(20), entries, strict=False) if not entry.name.startswith((".", "__"))
        ]
    if len(found) == 1 and found[0].name not in _OWN and found[0].is_dir(follow_symlinks=False):
        try:
            inner = os.open(found[0].name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as problem:  # swapped since it was listed, or the share went away
            raise UnreadableError(problem.errno, escaped(problem.strerror or str(problem))) from problem
        try:
            return snapshots.take(inner, notes)
        finally:
            os.close(inner)
    return snapshots.take(folder, notes)
