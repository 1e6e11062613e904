"""Taking a folder that may be hostile, and may change while it is read, into a private snapshot of plain files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox.limits import GIB
from ..sandbox.untrusted_text import escaped, shortened

# What archivers, editors and Python leave behind; never part of what a student hands in.
_LITTER = frozenset({"__MACOSX", ".DS_Store", "__pycache__", ".git", ".ipynb_checkpoints", ".venv", "Thumbs.db"})
# Engines are native code and are built again from the ONNX file; what torch and pickle write is a program.
_ENGINES = frozenset({".engine", ".plan", ".trt"})
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
# Git LFS's specification: a pointer begins so, and is smaller than this.
_POINTER, _POINTER_BYTES = b"version https://git-lfs.github.com/spec/v", 1024
_BLOCK = 1 << 20
_NOTES = 50


class RejectedError(ValueError):
    """The submission cannot be taken at all; the message is for the student."""


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
        """
        taking = self.root / f".taking-{os.getpid()}-{secrets.token_hex(4)}"
        taking.mkdir()
        taking.chmod(0o755)  # the sandbox's user must be able to read it, whatever the umask
        try:
            copy = _Copy(taking, self.bounds, list(left_out))
            copy.add(self.added)
            copy.folder(folder, ())
            digest = copy.digest()
            final = self.root / digest
            # Another worker may have taken the same content meanwhile; one of the two is enough.
            with contextlib.suppress(OSError):
                taking.rename(final)
            notes = copy.left_out[:_NOTES]
            if len(copy.left_out) > _NOTES:
                notes.append(_("and {count} more").format(count=len(copy.left_out) - _NOTES))
            return Snapshot(digest, final, tuple(notes))
        finally:
            shutil.rmtree(taking, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed graders left half taken."""
        for path in self.root.glob(".taking-*"):
            if not Path("/proc", path.name.split("-")[1]).exists():
                shutil.rmtree(path, ignore_errors=True)


class _Copy:
    """One copy in progress."""

    def __init__(self, into: Path, bounds: Bounds, left_out: list[str]) -> None:
        self.left_out = left_out
        self._into = into
        self._bounds = bounds
        self._files: dict[str, str] = {}
        self._seen = 0
        self._bytes = 0

    def folder(self, fd: int, names: tuple[str, ...]) -> None:
        """Copy the entries of an open folder. Names only: each is opened again relative to this descriptor."""
        for name in sorted(self._entries(fd)):
            if name in _LITTER or (not names and name in self._files):
                continue
            path = (*names, name)
            shown = shortened(escaped("/".join(path).encode(errors="surrogateescape")), 120)
            if problem := self._bad_name(path):
                self.left_out.append(f"{shown}: {problem}")
                continue
            try:
                entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as problem_opening:
                self.left_out.append(f"{shown}: {problem_opening.strerror}")
                continue
            try:
                self._entry(entry, path, shown)
            finally:
                os.close(entry)

    def add(self, files: Mapping[str, bytes]) -> None:
        """Put in files of the grader's own; a student's of the same name are left out."""
        for name, content in files.items():
            (self._into / name).write_bytes(content)
            (self._into / name).chmod(0o444)
            self._files[name] = hashlib.sha256(content).hexdigest()

    def digest(self) -> str:
        """sha256 over what was copied; the same for the same files in whatever order or container."""
        return content_digest(self._files)

    def _entries(self, fd: int) -> Iterator[str]:
        with os.scandir(fd) as entries:
            for entry in entries:
                self._seen += 1
                if self._seen > self._bounds.files:
                    raise RejectedError(
                        _("it holds more than {count:,} files and folders").format(count=self._bounds.files)
                    )
                yield entry.name

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
        mode = os.fstat(entry).st_mode
        # The descriptor stands for this very inode: what its name means by now does not matter.
        again = f"/proc/self/fd/{entry}"
        try:
            if stat.S_ISDIR(mode):
                inner = os.open(again, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    self._into.joinpath(*path).mkdir()
                    self._into.joinpath(*path).chmod(0o755)
                    self.folder(inner, path)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(mode) and (reason := _never_opened(path[-1])) is not None:
                self.left_out.append(_("{name}: ignored: {reason}").format(name=shown, reason=reason))
            elif stat.S_ISREG(mode):
                inner = os.open(again, os.O_RDONLY)
                with os.fdopen(inner, "rb") as source:
                    self._file(source.fileno(), path, shown)
            else:
                self.left_out.append(_("{name}: {kind}, not a regular file").format(name=shown, kind=_kind(mode)))
        except PermissionError:
            self.left_out.append(_("{name}: cannot be read").format(name=shown))

    def _file(self, source: int, path: tuple[str, ...], shown: str) -> None:
        size = os.fstat(source).st_size
        allowed = min(self._bounds.file_bytes, self._bounds.total_bytes - self._bytes)
        content = hashlib.sha256()
        copied = 0
        target = self._into.joinpath(*path)
        if size <= allowed:  # a sparse file of terabytes is refused before it is read
            with target.open("xb") as copy:
                while block := os.read(source, _BLOCK):
                    copied += len(block)
                    if copied > allowed:  # it grew
                        break
                    content.update(block)
                    copy.write(block)
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
        self._files["/".join(path)] = content.hexdigest()


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
        RejectedError: it is a link, no folder, or unreadable.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as problem:
        raise RejectedError(
            _("it cannot be opened as a folder: {problem}").format(problem=problem.strerror)
        ) from problem
    try:
        yield fd
    finally:
        os.close(fd)
