"""Reading the teacher's rubric: one TOML file, every key and type checked by name."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
import typing
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from .sandbox.limits import GIB, MIB, Limits
from .worth.rules import LABS, OTHER, VISIBILITIES, Gate, Late, Rubric, RubricError, Rule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT", "Late", "Rubric", "RubricError", "Rule", "load", "own"]

DEFAULT = Path(__file__).with_name("rubric.toml")
_SECTIONS = {"total", "labs", "late", "tests", "submitted", "limits", "scripts"}
# Less, and pytest does not start, so that everybody fails; more is a slip of the pen. The most processes and files are
# Linux' own bounds (pid_max, nr_open); of bytes, a thousand times the largest board.
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "wall_seconds": (1, 7 * 86400),
    "cpu_seconds": (1, 7 * 86400),
    "memory_bytes": (64 * MIB, 65536 * GIB),
    "address_space_bytes": (256 * MIB, 65536 * GIB),
    "processes": (8, 4_194_304),
    "file_bytes": (MIB, 65536 * GIB),
    "open_files": (32, 1_048_576),
    "disk_bytes": (MIB, 65536 * GIB),
    "inodes": (100, 1_000_000_000),
    "output_bytes": (1024, GIB),
    "kept_output_bytes": (1024, GIB),
}
_LAB = {"weight", "deadline", "resource", "gates", "files"}


def own(suite: str) -> str:
    """The rubric that lies with some tests; "" for tests that have none."""
    places = (Path(suite, place) for place in ("grading/rubric.toml", "rubric.toml"))
    return str(next(filter(Path.is_file, places), ""))


def load(path: Path, shipped: Path | None = None) -> Rubric:
    """Read a rubric.

    Args:
        path: what the teacher wrote.
        shipped: the rubric of the tests, which holds key by key where the teacher's says nothing; a list is one key.

    Raises:
        RubricError: it is no TOML, or a key or value is not what it should be.
    """
    given = _read(path)
    if shipped is None:
        return _rubric(given, path)
    beneath = _read(shipped)
    for table, file in ((beneath, shipped), (given, path)):
        _rubric(table, file)  # each by itself, so that what is wrong is named with its file
    return _rubric(_merged(beneath, given), path)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table: dict[str, Any] = tomllib.load(file)
    except (OSError, ValueError) as problem:  # what is no UTF-8 is a ValueError too
        raise RubricError(f"{path}: {problem}") from problem
    return table


def _merged(beneath: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(beneath)
    for key, value in given.items():
        under = found.get(key)
        found[key] = _merged(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return found


def _rubric(table: Mapping[str, Any], path: Path) -> Rubric:
    _only(table, _SECTIONS, path, "")
    labs = {lab: _lab(given, path, f"labs.{lab}") for lab, given in _table(table, "labs", path).items()}
    _only(labs, {*LABS, OTHER}, path, "labs.")
    if "gates" in labs.get(OTHER, {}):
        raise RubricError(
            _("{file}: {key} is unknown here; gates are a lab's").format(file=path, key="labs.other.gates")
        )
    late = _table(table, "late", path)
    _only(late, {"per_day", "at_most", "grace_minutes"}, path, "late.")
    limits = _table(table, "limits", path)
    _only(limits, {"tests", "scripts"}, path, "limits.")
    scripts = _table(table, "scripts", path)
    _only(scripts, set(LABS), path, "scripts.")
    return Rubric(
        total=_total(table["total"], path) if "total" in table else None,
        weights=_of(labs, "weight"),
        deadlines=_of(labs, "deadline"),
        gates=_of(labs, "gates"),
        files=_of(labs, "files"),
        resources=_of(labs, "resource"),
        late=Late(
            per_day=_share(late.get("per_day", 0), path, "late.per_day"),
            at_most=_share(late.get("at_most", 1), path, "late.at_most"),
            grace_minutes=float(_number(late.get("grace_minutes", 0), path, "late.grace_minutes")),
        ),
        rules=tuple(_rule(rule, path, n) for n, rule in enumerate(_list(table.get("tests", []), path, "tests"), 1)),
        submitted={
            student: _time(when, path, f"submitted.{student}")
            for student, when in _table(table, "submitted", path).items()
        },
        test_limits=_limits(limits.get("tests", {}), path, "limits.tests"),
        script_limits=_limits(limits.get("scripts", {}), path, "limits.scripts"),
        script_arguments={lab: _words(words, path, f"scripts.{lab}") for lab, words in scripts.items()},
    )


def _lab(given: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RubricError(
            _("{file}: {key} should be a table, found {found!r}").format(file=path, key=where, found=given)
        )
    _only(given, _LAB, path, f"{where}.")
    readers = {"weight": _number, "deadline": _time, "resource": _resource, "gates": _gates, "files": _words}
    return {key: readers[key](value, path, f"{where}.{key}") for key, value in given.items()}


def _of(labs: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any]:
    return {lab: given[key] for lab, given in labs.items() if key in given}


def _total(value: Any, path: Path) -> Decimal:
    total = _number(value, path, "total")
    if not total or total != round(total, 2):
        raise RubricError(
            _("{file}: {key} should be above 0, with two decimals at most, found {found!r}").format(
                file=path, key="total", found=value
            )
        )
    return total


def _gates(value: Any, path: Path, where: str) -> tuple[Gate, ...]:
    found = []
    for number, given in enumerate(_list(value, path, where), 1):
        entry = f"{where} (entry {number})"
        match = _match(given, path, entry)
        _only(given, {"match", "at_most"}, path, f"{entry}.")
        found.append(Gate(match, _share(given.get("at_most", 0), path, f"{entry}.at_most")))
    return tuple(found)


def _match(given: Any, path: Path, where: str) -> str:
    if not isinstance(given, dict) or not isinstance(given.get("match"), str) or not given["match"]:
        raise RubricError(
            _('{file}: {key} needs `match`, a pattern of node ids such as "test_lab1*::test_parity*"').format(
                file=path, key=where
            )
        )
    return str(given["match"])


def _list(value: Any, path: Path, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RubricError(
            _("{file}: {key} should be a list of tables, found {found!r}").format(file=path, key=where, found=value)
        )
    return value


def _rule(given: Any, path: Path, number: int) -> Rule:
    where = f"tests (entry {number})"
    match = _match(given, path, where)
    _only(given, {"match", "points", "visibility", "hint", "resource"}, path, f"{where}.")
    visibility, hint = given.get("visibility"), given.get("hint")
    if visibility not in (None, *VISIBILITIES):
        raise RubricError(
            _("{file}: {key} should be one of {known}, found {found!r}").format(
                file=path, key=f"{where}.visibility", known=", ".join(VISIBILITIES), found=visibility
            )
        )
    if not isinstance(hint, (str, type(None))):
        raise RubricError(
            _("{file}: {key} should be a text, found {found!r}").format(file=path, key=f"{where}.hint", found=hint)
        )
    points = _number(given["points"], path, f"{where}.points") if "points" in given else None
    resource = _resource(given["resource"], path, f"{where}.resource") if "resource" in given else None
    return Rule(match, points, visibility, hint, resource)


def _only(given: Mapping[str, Any], known: set[str], path: Path, where: str) -> None:
    for key in given:
        if key not in known:
            raise RubricError(
                _("{file}: {key} is unknown here; known are {known}").format(
                    file=path, key=f"{where}{key}", known=", ".join(sorted(known))
                )
            )


def _table(table: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise RubricError(_("{file}: {key} should be a table, found {found!r}").format(file=path, key=key, found=found))
    return found


def _number(value: Any, path: Path, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise RubricError(
            _("{file}: {key} should be a number from 0, found {found!r}").format(file=path, key=where, found=value)
        )
    return Decimal(str(value))


def _resource(value: Any, path: Path, where: str) -> str:
    if not isinstance(value, str) or not set(value) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"):
        raise RubricError(
            _('{file}: {key} should be a name such as "GPU" or "JETSON_ORIN_NANO", or "", found {found!r}').format(
                file=path, key=where, found=value
            )
        )
    return value


def _share(value: Any, path: Path, where: str) -> Decimal:
    if (number := _number(value, path, where)) > 1:
        raise RubricError(
            _("{file}: {key} should be a share from 0 to 1, found {found!r}").format(file=path, key=where, found=value)
        )
    return number


def _time(value: Any, path: Path, where: str) -> datetime.datetime:
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise RubricError(
            _("{file}: {key} should be a time with its zone (2026-12-01T23:59:00+08:00), found {found!r}").format(
                file=path, key=where, found=value
            )
        )
    return value


def _limits(given: Any, path: Path, where: str) -> Limits:
    if not isinstance(given, dict):
        raise RubricError(
            _("{file}: {key} should be a table, found {found!r}").format(file=path, key=where, found=given)
        )
    kinds = typing.get_type_hints(Limits)
    _only(given, {field.name for field in dataclasses.fields(Limits)}, path, f"{where}.")
    for key, value in given.items():
        whole = kinds[key] is int
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not math.isfinite(value):
            kind = _("a whole number") if whole else _("a number")
            raise RubricError(
                _("{file}: {key} should be {kind}, found {found!r}").format(
                    file=path, key=f"{where}.{key}", kind=kind, found=value
                )
            )
        least, most = _BOUNDS[key]
        if not least <= value <= most:
            raise RubricError(
                _("{file}: {key} should be a number from {least:,} to {most:,}, found {found!r}").format(
                    file=path, key=f"{where}.{key}", least=least, most=most, found=value
                )
            )
    try:
        return Limits(**given)
    except (TypeError, ValueError) as problem:
        raise RubricError(f"{path}: {where}: {problem}") from problem


def _words(value: Any, path: Path, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise RubricError(
            _("{file}: {key} should be a list of texts, found {found!r}").format(file=path, key=where, found=value)
        )
    return tuple(value)
