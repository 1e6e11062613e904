"""Whether two exports say the same of a student, byte for byte, but for what a stopwatch said."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_FILES = {
    "gradescope": ".json",
    "github-classroom": ".json",
    "autolab": ".txt",
    "prairielearn": ".json",
    "junit": ".xml",
}
# Table → the column that says whose a line is.
_TABLES = {"csv/class.csv": 0, "csv/checks.csv": 0, "canvas/gradebook.csv": 0, "moodle/gradebook.csv": 1}
_BY_ROSTER = ("canvas", "moodle")
# Durations, the only thing that differs between two runs on equal work.
_MEASURED = (
    re.compile(rb'(?<="execution_time": )\d+'),
    re.compile(rb'(?<="duration": )[0-9.e+-]+'),
    re.compile(rb'(?<= time=")[0-9.]+(?=")'),
)
_SECONDS = "seconds"


@dataclasses.dataclass(frozen=True)
class Named:
    """One student in one run: as their files are called, and as the roster has them."""

    student: str
    name: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """A file that says two things of a student."""

    student: str
    file: str
    honest: str
    whole: str


def differences(honest: Path, whole: Path, pairs: Sequence[tuple[Named, Named]]) -> list[Difference]:
    """Compare what two folders of exports say of the same students.

    Args:
        honest, whole: each the folder with one folder a format.
        pairs: a student in the one and in the other.
    """
    tables = [{file: _lines(folder / file) for file in _TABLES} for folder in (honest, whole)]
    found = []
    for one, other in pairs:
        said = _said(honest, one, tables[0])
        again = {file: _called(text, other, one) for file, text in _said(whole, other, tables[1]).items()}
        for file in sorted(said.keys() | again.keys()):
            first, second = said.get(file), again.get(file)
            if first != second or first is None:
                found.append(Difference(one.student, file, *_apart(first, second)))
    for file in _TABLES:
        head, heads = tables[0][file][1], tables[1][file][1]
        if head != heads:
            found.append(Difference("", file, *_apart(head, heads)))
    return found


def _said(exports: Path, of: Named, tables: Mapping[str, tuple[dict[str, bytes], bytes]]) -> dict[str, bytes]:
    """File → what it says of one student; what is missing is not in it."""
    found: dict[str, bytes] = {}
    for name, suffix in _FILES.items():
        path = exports / name / f"{of.student}{suffix}"
        if path.is_file():
            found[name] = _timeless(path.read_bytes())
    for file, (lines, _head) in tables.items():
        key = of.name if file.startswith(_BY_ROSTER) else of.student
        if key in lines:
            found[file] = lines[key]
    return dict.fromkeys((*_FILES, *_TABLES), b"") | found


def _timeless(text: bytes) -> bytes:
    for pattern in _MEASURED:
        text = pattern.sub(b"", text)
    return text


def _lines(path: Path) -> tuple[dict[str, bytes], bytes]:
    """Student → their lines of a table; and its lines of titles."""
    column = _TABLES[f"{path.parent.name}/{path.name}"]
    if not path.is_file():
        return {}, b""
    table = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    drop = table[0].index(_SECONDS) if _SECONDS in table[0] else None
    heads = 2 if path.parent.name == "canvas" else 1
    found: dict[str, bytes] = {}
    for line in table[heads:]:
        kept = [cell for index, cell in enumerate(line) if index != drop]
        found[line[column]] = found.get(line[column], b"") + repr(kept).encode() + b"\n"
    return found, repr(table[:heads]).encode()


def _called(text: bytes, other: Named, one: Named) -> bytes:
    """With the name that the student has in the other run."""
    return text if other.student == one.student else text.replace(other.student.encode(), one.student.encode())


def _apart(first: bytes | None, second: bytes | None) -> tuple[str, str]:
    """Both from a little before where they part."""
    one, other = first or b"", second or b""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(at - 60, 0)
    return tuple(text[start : at + 100].decode(errors="replace") or "nothing" for text in (one, other))  # type: ignore[return-value]
