"""What lies in a folder of submissions: what its names say in whatever encoding, and dates that may be none."""

from __future__ import annotations

import datetime
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox.untrusted_text import one_line

# What file managers and version control leave behind; nobody misses it.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".git", "__MACOSX"})
_RESULTS = ("results.sqlite", "grader.lock")
_LAST = datetime.datetime(9990, 1, 1, tzinfo=datetime.timezone.utc).timestamp()  # what a calendar can hold, nearly
_NAME_BYTES = 200  # of 255 that file systems allow; exports put suffixes behind it
_DIGITS = 12


def entries(submissions: Path, out: Path | None) -> tuple[list[Path], list[Path]]:
    """What lies in a folder, by name, and what of it is results of grading, or holds `out`: nobody's submission.

    `out` itself is in neither.

    Raises:
        OSError: it cannot be listed.
    """
    here, results = submissions.resolve(), None if out is None else out.resolve()
    found: list[Path] = []
    graded: list[Path] = []
    for path in sorted(submissions.iterdir()):
        if path.name in _LITTER or here / path.name == results:
            continue
        held = results is not None and _holds(path, here / path.name, results)
        (graded if held or is_results(path) else found).append(path)
    return found, graded


def is_results(path: Path) -> bool:
    """Whether this is a folder of results, whoever's run they are of."""
    if path.is_symlink() or not path.is_dir():
        return False
    # Not Path.is_file, which raises where a student's folder is closed to us.
    return any(os.path.isfile(path / name) for name in _RESULTS)  # noqa: PTH113


def _holds(path: Path, real: Path, results: Path) -> bool:
    """Whether an entry is the results or holds them. A link to whatever else holds them is a submission to refuse."""
    if path.is_symlink():
        return path.exists() and results.exists() and path.samefile(results)
    return results.is_relative_to(real)


def read_as(name: str) -> tuple[str, tuple[str, ...]]:
    """The text of a file's name, and a note where it is no UTF-8: made on a Windows of Taiwan, most likely."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(name)
        text = _big5(raw) or one_line(raw)
        said = _("the name of its folder or archive is no UTF-8; it was read as {name}").format(name=text)
        return text, (said,)
    return name, ()


def called(name: str) -> tuple[str, tuple[str, ...]]:
    """What a student is called whose folder has this name, and a note if it had to be shortened."""
    text = one_line(name)
    if len(text.encode()) <= _NAME_BYTES:
        return text, ()
    note = _("its name is longer than {count} bytes, and was shortened").format(count=_NAME_BYTES)
    return _marked(text, _DIGITS), (note,)


def folded(name: str) -> str:
    """The same for names that some file systems take for one: in whatever case, however accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def file_names(students: Iterable[str]) -> dict[str, str]:
    """Student → what files about them are called, without suffix: no two are one on any file system."""
    names = {student: called(student)[0] for student in students}
    for digits in range(_DIGITS, 65, 4):
        counts = Counter(map(folded, names.values()))
        alike = [student for student, name in names.items() if counts[folded(name)] > 1]
        if not alike:
            break
        names.update({student: _marked(student, digits) for student in alike})
    return names


def _marked(text: str, digits: int) -> str:
    """A name with so many digits of its digest, cut to the length that names may have."""
    mark = "-" + hashlib.sha256(text.encode()).hexdigest()[:digits]
    return text.encode()[: _NAME_BYTES - len(mark)].decode(errors="ignore") + mark


def dated(path: Path) -> tuple[float, tuple[str, ...]]:
    """When it was handed in, by its date; 0 and a note where that cannot be: nobody is late by such a date."""
    try:
        when = path.lstat().st_mtime
    except OSError:  # it went away; taking it says so
        return 0.0, ()
    if 0 <= when < _LAST:
        return when, ()
    return 0.0, (_("its date cannot be read, so that it counts as handed in on time"),)


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


def _big5(raw: bytes) -> str | None:
    try:
        text = raw.decode("cp950")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
