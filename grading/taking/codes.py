"""A code for each student, drawn from the class's secret: whose evidence answers to it, is that student's own."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from trtverify.fixtures.words.messages import _

from .roster import Person, plain

FILE = "challenge.txt"
"""Where a snapshot carries its student's code, which so is part of what verdicts are kept by."""
_LEAST, _MOST = 16, 4096


class SecretError(ValueError):
    """The class's secret cannot be used; the message says why."""


def secret(path: Path) -> bytes:
    """Read a class's secret.

    Raises:
        SecretError: there is none, or it is too short to be one.
    """
    try:
        with path.open("rb") as file:
            found = file.read(_MOST).strip()
    except OSError as problem:
        raise SecretError(f"{path}: {problem}") from problem
    if len(found) < _LEAST:
        raise SecretError(
            _("{file} should hold a secret of at least {least} characters, as from: openssl rand -hex 32").format(
                file=path, least=_LEAST
            )
        )
    return found


def identity(student: str, person: Person | None) -> str:
    """What a student's code is drawn from: a number or address of the roster's, else the name of the folder."""
    if person is None:
        return plain(student)
    marks = (person.idnumber, person.sis_id, person.id, person.login, person.github, person.email, person.name)
    return plain(next(filter(None, marks), student))


def code(key: bytes, who: str) -> str:
    """A student's code: 80 bits in five groups of letters and digits."""
    digest = hmac.new(key, b"trtverify challenge\0" + who.encode(), hashlib.sha256).hexdigest()[:20]
    return "-".join(digest[start : start + 4] for start in range(0, 20, 4))
