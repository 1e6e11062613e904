"""The teacher's rubric: one TOML file of weights, deadlines, visibility, hints, and bounds."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from .sandbox.limits import Limits

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = Path(__file__).with_name("rubric.toml")
VISIBILITIES = ("visible", "hidden", "after_due_date", "after_published")


class RubricError(ValueError):
    """The rubric cannot be understood; the message names the key."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What holds for the tests whose node id matches a pattern (as in a shell: * and ?)."""

    match: str
    points: Decimal | None = None
    visibility: str | None = None
    hint: str | None = None
    resource: str | None = None


@dataclasses.dataclass(frozen=True)
class Late:
    """What lateness costs: a share of what was earned for each day begun, up to a share."""

    per_day: Decimal = Decimal(0)
    at_most: Decimal = Decimal(1)
    grace_minutes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rubric:
    """The whole rubric. Later rules win over earlier ones, key by key."""

    weights: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    deadlines: Mapping[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    late: Late = Late()
    rules: tuple[Rule, ...] = ()
    resources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    submitted: Mapping[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    test_limits: Limits = dataclasses.field(default_factory=Limits)
    script_limits: Limits = dataclasses.field(default_factory=Limits)
    script_arguments: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def rule(self, test: str, hidden: bool) -> Rule:
        """What holds for one test."""
        found: dict[str, Any] = {"visibility": "hidden" if hidden else "visible"}
        for rule in self.rules:
            if fnmatch.fnmatchcase(test, f"*{rule.match}"):
                given = dataclasses.asdict(rule)
                found.update({key: value for key, value in given.items() if value is not None})
        return Rule(**{**found, "match": test})

    def resource(self, test: str, lab: str, otherwise: str | None) -> str | None:
        """What a test needs beside a processor, such as "GPU"; `otherwise` where the rubric says nothing of it."""
        found = self.resources.get(lab, otherwise)
        for rule in self.rules:
            if rule.resource is not None and fnmatch.fnmatchcase(test, f"*{rule.match}"):
                found = rule.resource
        return found or None

    def penalty(self, lab: str, submitted: datetime.datetime) -> Decimal:
        """The share of this lab's points that lateness takes, 0 to 1."""
        deadline = self.deadlines.get(lab)
        if deadline is None:
            return Decimal(0)
        over = submitted - deadline - datetime.timedelta(minutes=self.late.grace_minutes)
        if over <= datetime.timedelta(0):
            return Decimal(0)
        days = -(-over // datetime.timedelta(days=1))
        return min(self.late.per_day * days, self.late.at_most)


def load(path: Path) -> Rubric:
    """Read a rubric.

    Raises:
        RubricError: it is no TOML, or a key or value is not what it should be.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise RubricError(f"{path}: {problem}") from problem
    _only(table, {"labs", "late", "tests", "submitted", "limits", "scripts"}, path, "")
    weights, deadlines, resources = {}, {}, {}
    for lab, given in _table(table, "labs", path).items():
        _only(given, {"weight", "deadline", "resource"}, path, f"labs.{lab}.")
        weights[lab] = _number(given.get("weight", 1), path, f"labs.{lab}.weight")
        if "deadline" in given:
            deadlines[lab] = _time(given["deadline"], path, f"labs.{lab}.deadline")
        if "resource" in given:
            resources[lab] = _resource(given["resource"], path, f"labs.{lab}.resource")
    late = _table(table, "late", path)
    _only(late, {"per_day", "at_most", "grace_minutes"}, path, "late.")
    limits = _table(table, "limits", path)
    _only(limits, {"tests", "scripts"}, path, "limits.")
    return Rubric(
        weights=weights,
        deadlines=deadlines,
        late=Late(
            per_day=_share(late.get("per_day", 0), path, "late.per_day"),
            at_most=_share(late.get("at_most", 1), path, "late.at_most"),
            grace_minutes=float(_number(late.get("grace_minutes", 0), path, "late.grace_minutes")),
        ),
        rules=tuple(_rule(rule, path, number) for number, rule in enumerate(table.get("tests", []), 1)),
        resources=resources,
        submitted={
            student: _time(when, path, f"submitted.{student}")
            for student, when in _table(table, "submitted", path).items()
        },
        test_limits=_limits(limits.get("tests", {}), path, "limits.tests"),
        script_limits=_limits(limits.get("scripts", {}), path, "limits.scripts"),
        script_arguments={
            lab: _words(words, path, f"scripts.{lab}") for lab, words in _table(table, "scripts", path).items()
        },
    )


def _rule(given: Any, path: Path, number: int) -> Rule:
    where = f"tests (entry {number})"
    if not isinstance(given, dict) or not isinstance(given.get("match"), str):
        raise RubricError(
            _('{file}: {key} needs `match`, a pattern of node ids such as "test_lab1*::test_parity*"').format(
                file=path, key=where
            )
        )
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
    return Rule(given["match"], points, visibility, hint, resource)


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
    _only(given, {field.name for field in dataclasses.fields(Limits)}, path, f"{where}.")
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
