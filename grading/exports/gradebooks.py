"""Gradebooks that learning platforms import: one line a student, the total of all labs as one assignment.

Canvas (and NTU COOL, which is one): Student, ID, SIS User ID, SIS Login ID, Section, then assignments, with their
points in a second line, as `gradebook_importer.rb` of Canvas reads it. Moodle: any column may map the student; there
are the email address and the ID number (https://docs.moodle.org/en/Grade_import).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..grade import Grade
from ..store import write_beside
from ..taking.roster import Person
from .csv_table import table

ASSIGNMENT = "TensorRT labs"
_EXCUSED = "EX"  # Canvas's own word: the student loses nothing by what could not be graded


def canvas(results: Sequence[Grade], folder: Path) -> list[Path]:
    """gradebook.csv, with those whom no roster knows by their name alone."""
    lines: list[list[object]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", ASSIGNMENT],
        ["    Points Possible", "", "", "", "", _most(results)],
    ]
    for result in results:
        person = result.person or Person(name=result.student)
        score: object = result.earned if result.possible else _EXCUSED
        lines.append([person.name or result.student, person.id, person.sis_id, person.login, person.section, score])
    return _written(lines, folder)


def moodle(results: Sequence[Grade], folder: Path) -> list[Path]:
    """gradebook.csv: a line without a grade leaves Moodle's as it is."""
    lines: list[list[object]] = [
        ["Identifier", "Full name", "Email address", "ID number", ASSIGNMENT, "Maximum grade", "Feedback"]
    ]
    for result in results:
        person = result.person or Person(name=result.student)
        participant = f"Participant {person.identifier}" if person.identifier.isdigit() else ""
        feedback = "; ".join(f"{cost.lab}: {cost.name} -{cost.points}" for cost in result.deductions)
        if not result.possible:
            feedback = _("nothing could be graded")
        score: object = result.earned if result.possible else ""
        name = person.name or result.student
        lines.append([participant, name, person.email, person.idnumber, score, _most(results), feedback])
    return _written(lines, folder)


def _most(results: Sequence[Grade]) -> Decimal:
    """The one total, which everybody has of whom anything was graded."""
    return max((result.possible for result in results), default=Decimal(0))


def _written(lines: Sequence[Sequence[object]], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gradebook.csv"
    write_beside(path, table(lines))
    return [path]
