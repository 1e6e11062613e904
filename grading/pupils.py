"""Who is in the class: what was handed in, whose it is, when, and with which code."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path

from trtverify.fixtures.words.messages import _

from .sandbox.untrusted_text import one_line
from .store import Store, StoreError, Student
from .taking import codes, layouts, roster
from .taking.layouts import LayoutError
from .taking.roster import Person, RosterError

_SHARED = 20  # of a roster's doubles, named


@dataclasses.dataclass(frozen=True)
class Class:
    """A class as it was handed in.

    Attributes:
        people: student → what is kept of them: the roster's fields, and `time`, the source of their time.
        said: whom the roster does not know, and of whom there is nothing.
        ungraded: what else lies there, safe to print.
    """

    students: list[Student]
    people: dict[str, dict[str, str]]
    said: tuple[str, ...]
    ungraded: tuple[str, ...]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """What to say of names in the rubric that nobody here has."""
        said = _("the rubric's [submitted] names {name}, of whom there is nothing")
        return [said.format(name=name) for name in sorted(set(names) - self.people.keys())]


def listed(
    submissions: Path, roster_file: str | None, submitted: str | None, submitted_by: str, out: Path | None = None
) -> Class:
    """List the submissions of a folder, in whatever layout a platform gave it.

    Args:
        submissions: the folder.
        roster_file: the class list, if there is one.
        submitted, submitted_by: when everything was handed in, ISO 8601, and who says so, if anybody does.
        out: the results, which are nobody's submission.

    Raises:
        StoreError: it cannot be listed, two are of one student, or a platform's file or the roster cannot be read.
    """
    try:
        found, ungraded = layouts.listed(submissions, out)
        everybody = [] if roster_file is None else roster.load(Path(roster_file))
    except (LayoutError, RosterError) as problem:
        raise StoreError(str(problem)) from problem
    seen: dict[str, Path] = {}
    for entry in found:
        if entry.student in seen:
            raise StoreError(
                _("{one} and {other} are both of {student}: leave one of them in {folder}").format(
                    one=_shown(seen[entry.student]),
                    other=_shown(entry.source),
                    student=entry.student,
                    folder=submissions,
                )
            )
        seen[entry.student] = entry.source
    said: list[str] = []
    whose: dict[str, Person] = {}
    if roster_file is not None:
        whose, unmatched, absent = roster.matched({entry.student: entry.keys for entry in found}, everybody)
        _once(whose)
        same = _("the roster gives {mark} to {one} and to {other}: whose it is cannot be told by it")
        said += [
            same.format(mark=one_line(mark), one=one_line(one), other=one_line(other))
            for mark, one, other in roster.shared(everybody)[:_SHARED]
        ]
        said += [_("the roster has nobody for {student}").format(student=student) for student in unmatched]
        said += [_("nothing was handed in by {person}").format(person=person) for person in absent]
    students, people = [], {}
    for entry in found:
        at, source, undated = entry.submitted, entry.time, entry.undated
        person = whose.get(entry.student)
        if person is not None and person.submitted:
            at, source = datetime.datetime.fromisoformat(person.submitted).timestamp(), "roster"
            undated = ()
        if submitted is not None:
            at, source = datetime.datetime.fromisoformat(submitted).timestamp(), submitted_by
            undated = ()
        students.append(Student(entry.student, str(entry.source), at, notes=(*entry.notes, *undated)))
        people[entry.student] = {"time": source}
        if person is not None:
            given = dataclasses.asdict(person)
            people[entry.student].update({name: value for name, value in given.items() if value} or {"name": ""})
    return Class(students, people, tuple(said), tuple(ungraded))


def _shown(source: Path) -> str:
    return one_line(os.fsencode(source.name))


def _once(whose: dict[str, Person]) -> None:
    """Nobody hands in twice.

    Raises:
        StoreError: two submissions are one person's.
    """
    seen: dict[Person, str] = {}
    for student, person in whose.items():
        if person in seen:
            raise StoreError(
                _("{one} and {other} are both of {student}, by the roster: leave one of them").format(
                    one=seen[person], other=student, student=person.name or codes.identity(student, person)
                )
            )
        seen[person] = student


def codes_of(store: Store, secret: str | None) -> dict[str, str]:
    """Student → code, where the class has a secret.

    Raises:
        StoreError: the secret cannot be read.
    """
    if secret is None:
        return {}
    try:
        key = codes.secret(Path(secret))
    except codes.SecretError as problem:
        raise StoreError(str(problem)) from problem
    people: dict[str, dict[str, str]] = json.loads(store.setting("people"))
    return {student: codes.code(key, codes.identity(student, Person.kept(known))) for student, known in people.items()}
