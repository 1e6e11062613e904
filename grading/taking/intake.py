"""Taking a folder that may be hostile, and may change while it is read, into a private snapshot of plain files."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox.limits import GIB
from ..sandbox.untrusted_text import escaped, one_line, shortened

# What archivers, editors and Python leave behind; never part of what a student hands in.
_LITTER = frozenset({"__MACOSX", ".DS_Store", "__pycache__", ".git", ".ipynb_checkpoints", ".venv", "Thumbs.db"})
# Engines are native code and are built again from the ONNX file; what torch and pickle write is a program.
_ENGINES = frozenset({".engine", ".plan", ".trt"})
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
# Git LFS's specification: a pointer begins so, and is smaller than this.
_POINTER, _POINTER_BYTES = b"version https://git-lfs.github.com/spec/v", 1024
_BLOCK = 1 << 20
_NOTES = 50
# Of the disk, kept free for verdicts and for whoever else works here: a twentieth, and no more than this.
_RESERVE_BYTES = 256 << 20


class RejectedError(ValueError):
    """The submission cannot be taken at all; the message is for the student."""


class UnreadableError(OSError):
    """What was listed cannot be read now, which says nothing of its content: a share that went away, for example."""


class NoRoomError(OSError):
    """This machine's disk has no room for it, less what is kept free for verdicts."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How large a submission may be."""

    files: int = 5000
    file_bytes: int = 2 * GIB
    total_bytes: int = 3 * GIB
    depth: int = 8
    name_bytes: int = 200


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A submission as it was when it was taken; nothing that happens to its source afterwards matters.

    Attributes:
        digest: sha256 over the names and contents of its files.
        path: folder of regular files, readable by everyone, in the grader's own keeping.
        left_out: what was found beside regular files and not taken, each with its reason, safe to print.
    """

    digest: str
    path: Path
    left_out: tuple[str, ...] = ()


class Snapshots:
    """A folder of snapshots, each under its digest, so that equal submissions are kept once."""

    def __init__(self, root: Path, bounds: Bounds | None = None, added: Mapping[str, bytes] | None = None) -> None:
        """`added`: files of the grader's own that are part of every snapshot, and of its digest."""
        self.root = root
        self.added = dict(added or {})
        self.bounds = bounds or Bounds()
        root.mkdir(parents=True, exist_ok=True)

    def find(self, digest: str) -> Path | None:
        """The snapshot of this digest, if it is kept."""
        path = self.root / digest
        return path if path.is_dir() else None

    def take(self, folder: int, left_out: tuple[str, ...] = ()) -> Snapshot:
        """Copy a folder, given as an open descriptor, with every regular file in it.

        Raises:
            RejectedError: it is larger than the bounds allow.
            UnreadableError: something of it is there and cannot be read now.
            NoRoomError: this disk cannot hold it.
        """
        with self._taking() as taking:
            copy = _Copy(taking, self, list(left_out))
            copy.add(self.added)
            copy.folder(folder, ())
            return self._keep(taking, copy.files, tuple(copy.left_out))

    def join(self, parts: Sequence[tuple[str, Path]], left_out: tuple[str, ...] = ()) -> Snapshot:
        """Put snapshots together into one, by hard links: nothing is copied, and each was within the bounds.

        Args:
            parts: the folder in which each is put ("" for the top) and its path; what an earlier one holds stands.
            left_out: notes so far.
        """
        files: dict[str, str] = {}
        notes = list(left_out)
        with self._taking() as taking:
            for inside, part in parts:
                for path in sorted(part.rglob("*")):
                    target = taking / inside / path.relative_to(part)
                    try:
                        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                        if path.is_dir():
                            target.mkdir(mode=0o755, exist_ok=True)
                        else:
                            os.link(path, target)
                    except (FileExistsError, NotADirectoryError):
                        name = target.relative_to(taking).as_posix()
                        notes.append(_("{name}: what was handed in stands").format(name=shortened(one_line(name), 120)))
                        continue
                    if not path.is_dir():
                        files[target.relative_to(taking).as_posix()] = hash_of(path)
            for path in taking.rglob("*"):
                if path.is_dir():
                    path.chmod(0o755)
            return self._keep(taking, files, tuple(notes))

    @contextlib.contextmanager
    def _taking(self) -> Iterator[Path]:
        taking = self.root / f".taking-{os.getpid()}-{secrets.token_hex(4)}"
        taking.mkdir()
        taking.chmod(0o755)  # the sandbox's user must be able to read it, whatever the umask
        try:
            yield taking
        finally:
            shutil.rmtree(taking, ignore_errors=True)

    def _keep(self, taking: Path, files: Mapping[str, str], left_out: tuple[str, ...]) -> Snapshot:
        digest = content_digest(files)
        final = self.root / digest
        # Another worker may have taken the same content meanwhile; one of the two is enough.
        with contextlib.suppress(OSError):
            taking.rename(final)
        notes = left_out[:_NOTES]
        if len(left_out) > _NOTES:
            notes = (*notes, _("and {count} more").format(count=len(left_out) - _NOTES))
        return Snapshot(digest, final, notes)

    def need_room(self, wanted: int) -> None:
        """See that the disk holds so many bytes more, and the reserve.

        Raises:
            NoRoomError: it does not.
        """
        usage = shutil.disk_usage(self.root)
        reserve = min(_RESERVE_BYTES, usage.total // 20)
        if usage.free < wanted + reserve:
            raise NoRoomError(
                errno.ENOSPC,
                _(
                    "No space left for it: {wanted:,} bytes are needed; of {free:,} that are free, {kept:,} are kept"
                ).format(wanted=wanted, free=usage.free, kept=reserve),
            )

    def sweep(self) -> None:
        """Remove what killed graders left half taken. None may be at work."""
        for path in self.root.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)


class _Copy:
    """One copy in progress."""

    def __init__(self, into: Path, snapshots: Snapshots, left_out: list[str]) -> None:
        self.left_out = left_out
        self.files: dict[str, str] = {}
        self._into = into
        self._snapshots = snapshots
        self._bounds = snapshots.bounds
        self._seen = 0
        self._bytes = 0

    def folder(self, fd: int, names: tuple[str, ...]) -> None:
        """Copy the entries of an open folder. Names only: each is opened again relative to this descriptor."""
        for name in sorted(self._entries(fd)):
            if name in _LITTER or (not names and name in self.files):
                continue
            path = (*names, name)
            shown = shortened(one_line("/".join(path).encode(errors="surrogateescape")), 120)
            if reason := self._bad_name(path):
                self.left_out.append(f"{shown}: {reason}")
                continue
            try:
                entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            except FileNotFoundError as gone:
                if os.fstat(fd).st_nlink == 0:  # the whole folder was removed
                    raise _unreadable(shown, gone) from gone
                self.left_out.append(f"{shown}: {gone.strerror}")
                continue
            except OSError as problem:
                raise _unreadable(shown, problem) from problem
            try:
                self._entry(entry, path, shown)
            finally:
                os.close(entry)

    def add(self, files: Mapping[str, bytes]) -> None:
        """Put in files of the grader's own; a student's of the same name are left out."""
        for name, content in files.items():
            (self._into / name).write_bytes(content)
            (self._into / name).chmod(0o444)
            self.files[name] = hashlib.sha256(content).hexdigest()

    def _entries(self, fd: int) -> list[str]:
        found = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._seen += 1
                    if self._seen > self._bounds.files:
                        raise RejectedError(
                            _("it holds more than {count:,} files and folders").format(count=self._bounds.files)
                        )
                    found.append(entry.name)
        except OSError as problem:
            raise _unreadable(".", problem) from problem
        return found

    def _bad_name(self, path: tuple[str, ...]) -> str | None:
        name = path[-1]
        if len(path) > self._bounds.depth:
            return _("lies deeper than {count} folders").format(count=self._bounds.depth)
        if len(os.fsencode(name)) > self._bounds.name_bytes:
            return _("its name is longer than {count} bytes").format(count=self._bounds.name_bytes)
        if not name.isprintable():  # controls, direction marks, and the surrogates that stand for invalid UTF-8
            return _("its name holds characters that cannot be printed")
        return None

    def _entry(self, entry: int, path: tuple[str, ...], shown: str) -> None:
        try:
            status = os.fstat(entry)
        except OSError as problem:
            raise _unreadable(shown, problem) from problem
        mode = status.st_mode
        # The descriptor stands for this very inode: what its name means by now does not matter.
        again = f"/proc/self/fd/{entry}"
        try:
            if stat.S_ISDIR(mode):
                inner = _opened(again, os.O_RDONLY | os.O_DIRECTORY, shown)
                try:
                    self._into.joinpath(*path).mkdir()
                    self._into.joinpath(*path).chmod(0o755)
                    self.folder(inner, path)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(mode) and (reason := _never_opened(path[-1])) is not None:
                self.left_out.append(_("{name}: ignored: {reason}").format(name=shown, reason=reason))
            elif stat.S_ISREG(mode):
                inner = _opened(again, os.O_RDONLY, shown)
                with os.fdopen(inner, "rb") as source:
                    self._file(source.fileno(), path, shown)
            else:
                self.left_out.append(_("{name}: {kind}, not a regular file").format(name=shown, kind=_kind(mode)))
        except PermissionError as problem:
            # Closed by its own mode, which is how it was handed in; by anything else, such as a ticket that ran out,
            # it is not the student's doing.
            if _open_to_us(status):
                raise _unreadable(shown, problem) from problem
            self.left_out.append(_("{name}: cannot be read").format(name=shown))

    def _file(self, source: int, path: tuple[str, ...], shown: str) -> None:
        size = os.fstat(source).st_size
        allowed = min(self._bounds.file_bytes, self._bounds.total_bytes - self._bytes)
        content = hashlib.sha256()
        copied = 0
        target = self._into.joinpath(*path)
        if size <= allowed:  # a sparse file of terabytes is refused before it is read
            self._snapshots.need_room(size)
            with target.open("xb") as copy:
                while block := _read(source, shown):
                    copied += len(block)
                    if copied > allowed:  # it grew
                        break
                    if copied > size:
                        self._snapshots.need_room(len(block))
                    content.update(block)
                    copy.write(block)
            if copied < size:
                raise UnreadableError(
                    errno.EIO,
                    _("{name}: it ended after {count:,} of {size:,} bytes").format(name=shown, count=copied, size=size),
                )
        if size > allowed or copied > allowed:
            raise RejectedError(
                _("{name} brings it over the bounds: {file_bytes:,} bytes a file, {total_bytes:,} in all").format(
                    name=shown, file_bytes=self._bounds.file_bytes, total_bytes=self._bounds.total_bytes
                )
            )
        if copied <= _POINTER_BYTES and target.read_bytes().startswith(_POINTER):
            target.unlink()
            self.left_out.append(
                _("{name}: a Git LFS pointer, not the file itself: `git lfs pull` in the clone brings it").format(
                    name=shown
                )
            )
            return
        target.chmod(0o444)
        self._bytes += copied
        self.files["/".join(path)] = content.hexdigest()


def _read(source: int, shown: str) -> bytes:
    try:
        return os.read(source, _BLOCK)
    except OSError as problem:
        raise _unreadable(shown, problem) from problem


def _opened(path: str, flags: int, shown: str) -> int:
    try:
        return os.open(path, flags)
    except PermissionError:
        raise
    except OSError as problem:
        raise _unreadable(shown, problem) from problem


def _unreadable(shown: str, problem: OSError) -> UnreadableError:
    return UnreadableError(problem.errno, f"{shown}: {escaped(problem.strerror or str(problem))}")


def _open_to_us(status: os.stat_result) -> bool:
    """Whether its mode lets this user read it (and enter it, if it is a folder)."""
    if (user := os.geteuid()) == 0:
        return True
    shift = 6 if status.st_uid == user else 3 if status.st_gid in {os.getegid(), *os.getgroups()} else 0
    wanted = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    return (status.st_mode >> shift) & wanted == wanted


def hash_of(path: Path) -> str:
    """sha256 of a file's content."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            content.update(block)
    return content.hexdigest()


def content_digest(files: Mapping[str, str]) -> str:
    """The digest of a folder, from name → sha256 of each of its files."""
    total = hashlib.sha256(b"submission 1\0")
    for path, content in sorted(files.items()):
        total.update(path.encode() + b"\0" + content.encode() + b"\0")
    return total.hexdigest()


def _never_opened(name: str) -> str | None:
    suffix = Path(name).suffix.lower()
    if suffix in _ENGINES:
        return _("an engine is never loaded, but built again from the ONNX file")
    return _("a pickle is a program, and never opened") if suffix in _PICKLES else None


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, _("a link")), (stat.S_ISFIFO, _("a FIFO")), (stat.S_ISSOCK, _("a socket")))
    return next((name for test, name in kinds if test(mode)), _("a device"))


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Open a folder that is no link.

    Raises:
        RejectedError: it is a link or no folder.
        UnreadableError: it cannot be opened now.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as problem:
        if problem.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise _unreadable(one_line(os.fsencode(path.name)), problem) from problem
        raise RejectedError(
            _("it cannot be opened as a folder: {problem}").format(problem=problem.strerror)
        ) from problem
    try:
        yield fd
    finally:
        os.close(fd)
