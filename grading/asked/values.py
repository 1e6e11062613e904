"""The types of the command line's values: each refuses what it is not, and says what was expected."""

from __future__ import annotations

import argparse
import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..worth.rules import LABS


def labs(value: str) -> tuple[str, ...]:
    """Some of the five labs, by commas."""
    labs = tuple(dict.fromkeys(value.split(",")))
    if unknown := [lab for lab in labs if lab not in LABS]:
        raise argparse.ArgumentTypeError(
            _("expected some of {labs}, found {found}").format(labs=",".join(LABS), found=",".join(unknown))
        )
    return labs


def points(value: str) -> Decimal:
    """Points above 0, to the cent."""
    try:
        found = round(Decimal(value), 2)
    except (InvalidOperation, ValueError, OverflowError):
        found = Decimal(0)
    if not found.is_finite() or not 0 < found < 10**6:
        raise argparse.ArgumentTypeError(_("expected a number above 0, found {found}").format(found=value))
    return found


def moment(value: str) -> datetime.datetime:
    """A time with its zone, or seconds since 1970."""
    try:
        if value.isdigit():  # GitHub says seconds since 1970
            return datetime.datetime.fromtimestamp(int(value), datetime.timezone.utc)
        found = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (ValueError, OverflowError, OSError):
        found = datetime.datetime.min
    if found.tzinfo is None:
        said = _("expected a time with its zone (2026-12-01T23:59:00+08:00), found {found}").format(found=value)
        raise argparse.ArgumentTypeError(said)
    return found


def folder(value: str) -> Path:
    """A folder that is there."""
    path = Path(value)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(_("{path}: no such directory").format(path=value))
    return path


def file(value: str) -> Path:
    """A file that is there."""
    path = Path(value)
    if not path.is_file():
        raise argparse.ArgumentTypeError(_("{path}: no such file").format(path=value))
    return path


def address(value: str) -> str:
    """A scheduler's address."""
    protocol, _separator, place = value.partition("://")
    if protocol not in ("tcp", "tls") or not place.rpartition(":")[2].isdigit():
        said = _("expected tcp://HOST:PORT or tls://HOST:PORT, found {found}").format(found=value)
        raise argparse.ArgumentTypeError(said)
    return value


def count(value: str) -> int:
    """A number of processes."""
    if not value.isdigit() or not 1 <= int(value) <= 1000:
        raise argparse.ArgumentTypeError(_("expected a number from 1 to 1000, found {value}").format(value=value))
    return int(value)
