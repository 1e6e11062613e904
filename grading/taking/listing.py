"""Who handed in: one student for each folder or archive of a folder, and what else lies there and is not graded."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox.untrusted_text import escaped
from .archives import SUFFIXES, student_of

# What file managers and version control leave behind; nobody misses it.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".git", "__MACOSX"})
_LAST = datetime.datetime(9990, 1, 1, tzinfo=datetime.timezone.utc).timestamp()  # what a calendar can hold, nearly
_NAME_BYTES = 200  # of 255 that file systems allow; exports put suffixes behind it


class ListingError(ValueError):
    """A folder of submissions cannot be listed; the message is for the teacher."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One student's folder or archive.

    Attributes:
        submitted: seconds since 1970; 0 where that cannot be told.
        notes: what is odd about the folder or archive itself.
    """

    student: str
    source: str
    submitted: float
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """A folder of submissions.

    Attributes:
        students: by the name of their folder or archive.
        ungraded: what else is there, safe to print.
    """

    students: tuple[Entry, ...]
    ungraded: tuple[str, ...]


def listed(submissions: Path, out: Path) -> Listing:
    """List a folder. The results, should they lie in it, are nobody's submission.

    Raises:
        ListingError: it cannot be listed, or two submissions are of one student.
    """
    try:
        found = sorted(submissions.iterdir())
    except OSError as problem:
        raise ListingError(f"{submissions}: {problem.strerror}") from problem
    results = out.resolve()
    students: dict[str, Entry] = {}
    seen: dict[str, str] = {}
    ungraded: list[str] = []
    for path in found:
        shown = escaped(os.fsencode(path.name))
        if path.name in _LITTER or path.resolve() == results or results.is_relative_to(path.resolve()):
            continue
        if path.name.startswith(".") or not (
            path.is_symlink() or path.is_dir() or path.name.lower().endswith(SUFFIXES)
        ):
            ungraded.append(shown)
            continue
        name, notes = _named(student_of(path))
        if name in students:
            raise ListingError(
                _("{one} and {other} are both of {student}: leave one of them in {folder}").format(
                    one=seen[name], other=shown, student=name, folder=submissions
                )
            )
        submitted, dated = _submitted(path)
        seen[name] = shown
        students[name] = Entry(name, str(path), submitted, (*notes, *dated))
    return Listing(tuple(students.values()), tuple(ungraded))


def fingerprint(folders: Iterable[Path]) -> str:
    """A digest of names, sizes and times of the files in some folders: what is shown there may be exchanged."""
    total = hashlib.sha256()
    for top in folders:
        for folder, inside, files in os.walk(top):
            inside.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)  # noqa: PTH118 (tens of thousands of photographs)
                try:
                    status = os.stat(path)  # noqa: PTH116
                except OSError:
                    continue
                total.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return total.hexdigest()


def _named(name: str) -> tuple[str, tuple[str, ...]]:
    """What a student is called whose folder has this name, and what is odd about it."""
    notes: list[str] = []
    text = name
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: an archive made on a Windows of Taiwan, most likely
        raw = os.fsencode(name)
        text = _big5(raw) or escaped(raw)
        notes.append(_("the name of its folder or archive is no UTF-8; it was read as {name}").format(name=text))
    text = escaped(text)
    if len(text.encode()) > _NAME_BYTES:
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        text = f"{text.encode()[:_NAME_BYTES].decode(errors='ignore')}-{digest}"
        notes.append(_("its name is longer than {count} bytes, and was shortened").format(count=_NAME_BYTES))
    return text, tuple(notes)


def _big5(raw: bytes) -> str | None:
    try:
        text = raw.decode("cp950")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _submitted(path: Path) -> tuple[float, tuple[str, ...]]:
    """When it was handed in, by its date; nobody is late by a date that cannot be."""
    try:
        when = path.lstat().st_mtime
    except OSError:  # it went away; taking it says so
        return 0.0, ()
    if 0 <= when < _LAST:
        return when, ()
    return 0.0, (_("its date cannot be read, so that it counts as handed in on time"),)
