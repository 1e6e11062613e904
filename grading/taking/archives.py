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
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Final

from trtverify.fixtures.words.messages import _

from ..sandbox import box
from ..sandbox.launch import WORK, SandboxKilledError, Spec
from ..sandbox.limits import GIB, MIB, Limits, breach_word
from ..sandbox.untrusted_text import escaped, one_line, shortened
from .intake import Bounds, RejectedError, Snapshot, Snapshots, UnreadableError, opened_folder
from .layouts import SUFFIXES, files_of, is_other, student_of

__all__ = ["SUFFIXES", "student_of", "take"]

_RATIO = 1000  # zeros compress 1:1030 with deflate; weights and photographs hardly at all
_HERE = Path(__file__).resolve().parent
# Folders that mean something in a submission. Any other folder that stands alone at the top is packaging.
_OWN = frozenset({"lab1", "lab2", "lab3", "lab4", "lab5", "labs", "calibration_data"})
# What the tests look at: a folder that holds one of these is a submission itself, whatever else lies in it.
_WORK = (".onnx", ".npy", ".npz", ".json", ".cache", ".py", ".log")
_EVIDENCE: Final = "evidence.zip"
_EVIDENCE_BYTES: Final = 64 * MIB  # no evidence is read that is larger
_CLONED: Final = "submission"  # where the template of a GitHub Classroom has the work
_LOOK = 200
_NOTES = 20
_DEEP = 2  # archives in each other: a platform's folder or archive holds the student's, which may hold one more


def take(source: Path, snapshots: Snapshots) -> Snapshot:
    """Take a student's folder or archive into a snapshot.

    Raises:
        RejectedError: it is neither, or breaks the bounds; the message is for the student.
        UnreadableError: it was there and cannot be read now.
        NoRoomError: this disk cannot hold it.
        SandboxUnavailableError: archives cannot be read here.
    """
    with reading(source):
        files = files_of(source)
    if files is not None:
        with tempfile.TemporaryDirectory(prefix=".archive-", dir=snapshots.root) as gathered:
            _gather(source, files, Path(gathered), snapshots)
            with opened_folder(Path(gathered)) as folder:
                return _take(folder, snapshots, (), unpack=_DEEP)
    with reading(source):
        mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        with opened_folder(source) as folder:
            return _take(folder, snapshots, (), unpack=_DEEP)
    if not stat.S_ISREG(mode):
        raise RejectedError(_("it is a link or a special file; hand in a folder or an archive"))
    if not source.name.lower().endswith(SUFFIXES):
        raise RejectedError(
            _("expected a folder or an archive ({suffixes}), found {name}").format(
                suffixes=" ".join(SUFFIXES), name=one_line(os.fsencode(source.name))
            )
        )
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=snapshots.root) as private:
        _copy(source, Path(private) / "archive", snapshots)
        return _unpacked(Path(private), snapshots, _DEEP - 1)


def _copy(source: Path, target: Path, snapshots: Snapshots, limit: int | None = None) -> None:
    """Copy a regular file that may be swapped or grow meanwhile, of `limit` bytes at most (default: the bounds')."""
    limit = snapshots.bounds.total_bytes if limit is None else limit
    try:
        with reading(source):
            fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except UnreadableError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise RejectedError(_("it is a link or a special file; hand in a folder or an archive")) from problem
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
                    name=one_line(os.fsencode(source.name)), count=copied, size=status.st_size
                ),
            )
    target.chmod(0o444)


def _gather(source: Path, files: Mapping[str, Path], into: Path, snapshots: Snapshots) -> None:
    """Copy what a student handed in file by file into one folder."""
    if not files:  # there were some when the class was listed
        raise UnreadableError(errno.ENOENT, f"{one_line(os.fsencode(source.name))}: {os.strerror(errno.ENOENT)}")
    limit = snapshots.bounds.total_bytes
    for name, path in files.items():
        if "/" in name or name in ("", ".", ".."):
            raise RejectedError(_("a file's name is none: {name}").format(name=one_line(name)))
        _copy(path, into / name, snapshots, limit)
        limit -= (into / name).stat().st_size


def _block(reader: RawIOBase, source: Path) -> bytes:
    with reading(source):
        return reader.read(1 << 20) or b""


@contextlib.contextmanager
def reading(source: Path) -> Iterator[None]:
    """What fails within failed because the source cannot be read now: its content is not to blame."""
    try:
        yield
    except OSError as problem:
        name, said = one_line(os.fsencode(source.name)), escaped(problem.strerror or str(problem))
        raise UnreadableError(problem.errno, f"{name}: {said}") from problem


def _unpacked(private: Path, snapshots: Snapshots, unpack: int) -> Snapshot:
    """Unpack `private`/archive in a sandbox, and take what was in it, with so many archives more in each other."""
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
            raise RejectedError(_refusal(str(said["refused"]), one_line(str(said["detail"])), bounds))
        notes = tuple(shortened(f"{one_line(name)}: {_why(why, bounds)}", 200) for name, why in said["left_out"])
        return _take(outcome.work, snapshots, notes, unpack=unpack)


def _refusal(why: str, detail: str, bounds: Bounds) -> str:
    """Why an archive is refused, from the unpacker's one word and detail."""
    return {
        "files": _("it holds more than {count:,} members").format(count=bounds.files),
        "total_bytes": _("unpacked it holds more than {size:,} bytes").format(size=bounds.total_bytes),
        "ratio": _("{name} unpacks to more than {ratio} times its size").format(name=detail, ratio=_RATIO),
        "cut": _("it is an archive that is cut off: hand it in again"),
        "empty": _("it is empty (0 bytes): hand it in again"),
        "none": _("it is no zip or tar archive, whatever its name says: hand in a zip"),
        "other": _("it is {kind}, which is not read, whatever its name says: hand in a zip").format(kind=detail),
    }.get(why, _("it is no readable zip or tar archive ({problem})").format(problem=detail))


def _why(why: str, bounds: Bounds) -> str:
    """Why a member is left out, from the unpacker's one word."""
    return {
        "kind": _("a link or a special file"),
        "encrypted": _("encrypted"),
        "twice": _("a second member of this name"),
        "path": _("its path leaves the archive"),
        "nameless": _("it has no name"),
        "rest": _("the archive is damaged after it, and what follows is lost: hand it in again"),
        "depth": _("lies deeper than {count} folders").format(count=bounds.depth),
        "name": _("its name is too long or cannot be printed"),
    }.get(why, _("left out"))


def _take(folder: int, snapshots: Snapshots, notes: tuple[str, ...], *, unpack: int, deep: int = 3) -> Snapshot:
    """Take a folder, without its packaging: a single folder, a clone's `submission`, or a single archive."""
    with reading(Path()), os.scandir(folder) as entries:
        found = {
            entry.name: entry.is_dir(follow_symlinks=False)
            for _number, entry in zip(range(_LOOK), entries, strict=False)
            if not entry.name.startswith((".", "__"))
        }
    work = any(name in _OWN or (not is_folder and name.lower().endswith(_WORK)) for name, is_folder in found.items())
    inner = next(iter(found)) if len(found) == 1 else _CLONED
    if not work and deep and found.get(inner, False):
        try:
            inside = os.open(inner, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as problem:  # swapped since it was listed, or the share went away
            raise UnreadableError(problem.errno, escaped(problem.strerror or str(problem))) from problem
        try:
            return _take(inside, snapshots, notes, unpack=unpack, deep=deep - 1)
        finally:
            os.close(inside)
    archives = [name for name, is_folder in found.items() if not is_folder and name.lower().endswith(SUFFIXES)]
    archives = [name for name in archives if name != _EVIDENCE]
    if unpack and not work and len(archives) == 1 and not any(found.values()):
        here = Path(f"/proc/self/fd/{folder}")
        beside = tuple(
            _("{name}: lies beside the archive").format(name=shortened(one_line(name), 120))
            for name in sorted(set(found) - {*archives, _EVIDENCE})
        )
        with tempfile.TemporaryDirectory(prefix=".archive-", dir=snapshots.root) as private:
            _copy(here / archives[0], Path(private) / "archive", snapshots)
            added = dict(snapshots.added)
            if _EVIDENCE in found:  # handed in beside the archive, it is taken with what was in it
                try:
                    _copy(here / _EVIDENCE, Path(private) / _EVIDENCE, snapshots, _EVIDENCE_BYTES)
                    added[_EVIDENCE] = (Path(private) / _EVIDENCE).read_bytes()
                except RejectedError:
                    said = _("{name}: no file of at most {limit:,} bytes")
                    beside = (*beside, said.format(name=_EVIDENCE, limit=_EVIDENCE_BYTES))
                (Path(private) / _EVIDENCE).unlink(missing_ok=True)
            taken = _unpacked(Path(private), Snapshots(snapshots.root, snapshots.bounds, added), unpack - 1)
        return dataclasses.replace(taken, left_out=(*notes, *taken.left_out, *beside))
    taken = snapshots.take(folder, notes)
    return dataclasses.replace(taken, left_out=(*taken.left_out, *_still_packed(taken.path, len(found) == 1)))


def _still_packed(snapshot: Path, alone: bool) -> Iterator[str]:
    """Notes on archives that were taken as they are: whoever packed work into them should hear of it."""
    names = sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    names = [name for name in names if Path(name).name != _EVIDENCE]
    packed = [name for name in names if name.lower().endswith(SUFFIXES) or is_other(name)]
    for name in packed[:_NOTES]:
        if is_other(name):
            said = _("{name}: this kind of archive is not read: hand in a zip")
        elif alone and "/" not in name:
            said = _("{name}: an archive that lies so deep in others is not unpacked: hand in the files in one archive")
        else:
            said = _("{name}: an archive beside other files is not unpacked")
        yield said.format(name=shortened(one_line(name), 120))
