"""What lies in a folder of submissions: what its names say in whatever encoding, and dates that may be none."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox.untrusted_text import escaped

# What file managers and version control leave behind; nobody misses it.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".git", "__MACOSX"})
_LAST = datetime.datetime(9990, 1, 1, tzinfo=datetime.timezone.utc).timestamp()  # what a calendar can hold, nearly
_NAME_BYTES = 200  # of 255 that file systems allow; exports put suffixes behind it


def entries(submissions: Path, out: Path | None) -> list[Path]:
    """What lies in a folder, by name. The results `out`, should they lie in it, are nobody's submission.

    Raises:
        OSError: it cannot be listed.
    """
    here, results = submissions.resolve(), None if out is None else out.resolve()
    found = []
    for path in sorted(submissions.iterdir()):
        if path.name in _LITTER or (results is not None and _holds(path, here / path.name, results)):
            continue
        found.append(path)
    return found


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
        text = _big5(raw) or escaped(raw)
        said = _("the name of its folder or archive is no UTF-8; it was read as {name}").format(name=text)
        return text, (said,)
    return name, ()


def called(name: str) -> tuple[str, tuple[str, ...]]:
    """What a student is called whose folder has this name, and a note if it had to be shortened."""
    text = escaped(name)
    if len(text.encode()) <= _NAME_BYTES:
        return text, ()
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    shorter = f"{text.encode()[:_NAME_BYTES].decode(errors='ignore')}-{digest}"
    return shorter, (_("its name is longer than {count} bytes, and was shortened").format(count=_NAME_BYTES),)


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
