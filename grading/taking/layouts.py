"""How platforms lay out a class: whose each folder and file is, when it was handed in, and what is not graded."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..sandbox.untrusted_text import one_line
from . import listing

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Archives of kinds that are not read. One that stands for a student is that student's, and refused with this reason.
_OTHERS = (".7z", ".rar", ".zipx", ".tar.zst", ".tzst", ".tar.lz", ".tar.lzma", ".tar.z", ".lzh", ".alz", ".egg")
GRADESCOPE = "submission_metadata.yml"
_METADATA = 64_000_000  # it holds every earlier result of everybody
_MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?P<kind>file|onlinetext)_?(?P<file>.*)", re.DOTALL)
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)", re.DOTALL)
_TOGETHER = re.compile(r"(?P<name>[^_]+)_(?P<id>\d+)_\*")


class LayoutError(ValueError):
    """A platform's own file cannot be read; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Found:
    """One submission.

    Attributes:
        source: its folder or archive; `NAME_ID_*` stands for the files that one student handed in to Canvas.
        submitted, time: seconds since 1970, 0 where that cannot be told, and where it is from, see `source_word`.
        keys: what a roster may know the student by, the surest first.
        notes: what is odd about its name.
        undated: what is odd about `submitted`.
    """

    student: str
    source: Path
    submitted: float
    time: str
    keys: tuple[str, ...]
    notes: tuple[str, ...] = ()
    undated: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What Gradescope says of the one submission that it grades: when it came, when it was due, what it is worth."""

    submitted: datetime.datetime
    due: datetime.datetime | None
    total: Decimal | None
    odd: str = ""
    """What to say of `total_points`, where it is there and no number of points."""


def source_word(source: str) -> str:
    """Where a time is from, in the reader's language."""
    return {
        "rubric": _("the rubric's time"),
        "gradescope": _("Gradescope's time"),
        "given": _("the time that was given"),
        "roster": _("the roster's time"),
        "file": _("the file's time"),
    }.get(source, source)


def student_of(path: Path) -> str:
    """The student that a folder or an archive is named for."""
    name = listing.read_as(path.name)[0]
    for suffix in sorted((*SUFFIXES, *_OTHERS), key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def listed(submissions: Path, out: Path | None = None) -> tuple[list[Found], list[str]]:
    """Everything that was handed in below a folder, and the names of what is not graded, safe to print.

    Args:
        submissions: the folder.
        out: the results, which are nobody's submission should they lie in it.

    Raises:
        LayoutError: it cannot be listed, it is `out` itself, or Gradescope's metadata is there and cannot be read.
    """
    if out is not None and out.resolve() == submissions.resolve():
        raise LayoutError(
            _("{folder} holds the submissions, and cannot be the results too: give --out another folder").format(
                folder=submissions
            )
        )
    try:
        entries, ignored = listing.entries(submissions, out)
        ignored += [path for path in entries if path.name.startswith(".")]
        entries = [path for path in entries if not path.name.startswith(".")]
        read = _gradescope if (submissions / GRADESCOPE).is_file() else _by_names
        found, more = read(submissions, entries)
        named = sorted(_ungraded(path, out) for path in (*ignored, *more))
    except OSError as problem:
        raise LayoutError(f"{submissions}: {problem.strerror}") from problem
    return sorted(found, key=lambda entry: entry.student), named


def _by_names(submissions: Path, entries: Sequence[Path]) -> tuple[list[Found], list[Path]]:
    """Moodle's and Canvas's downloads by how they name things; else a folder or archive for each student."""
    names = {path: listing.read_as(path.name)[0] for path in entries}
    loose = {path for path in entries if path.is_file() and not path.is_symlink()}
    canvas = bool(loose) and all(_CANVAS.fullmatch(names[p]) and not _MOODLE.fullmatch(names[p]) for p in loose)
    found: list[tuple[str, str, Found]] = []
    ignored: list[Path] = []
    together: dict[tuple[str, str], list[Path]] = {}
    for path in entries:
        moodle = _MOODLE.fullmatch(names[path])
        match = _CANVAS.fullmatch(names[path]) if canvas and path in loose else None
        packed = _is_archive(path) or (is_other(names[path]) and path in loose)
        if moodle is not None and moodle["kind"] == "file" and (not moodle["file"] or packed):
            found.append((moodle["name"], moodle["id"], _entry([path], path, (moodle["id"], moodle["name"]))))
        elif match is not None:
            together.setdefault((match["name"], match["id"]), []).append(path)
        elif moodle is None and (path.is_symlink() or path.is_dir() or _is_archive(path)):
            found.append((student_of(path), "", _entry([path], path, (student_of(path),))))
        else:
            ignored.append(path)
    if not any(number for _name, number, _entry in found) and not together:  # else a platform names its own
        taken = {name for name, _number, _entry in found}
        for path in [path for path in ignored if path in loose and is_other(names[path])]:
            if (name := student_of(path)) not in taken:
                taken.add(name)
                ignored.remove(path)
                found.append((name, "", _entry([path], path, (name,))))
    for (name, number), paths in together.items():
        source = paths[0] if len(paths) == 1 and _is_archive(paths[0]) else submissions / f"{name}_{number}_*"
        found.append((name, number, _entry(paths, source, (number, name))))
    return _told_apart(
        [(name, f"{name}_{number}" if number else name, entry) for name, number, entry in found]
    ), ignored


def files_of(source: Path) -> dict[str, Path] | None:
    """Name → file of what one student handed in to Canvas file by file; None if the source is no such thing."""
    match = _TOGETHER.fullmatch(source.name)
    if match is None or source.exists():
        return None
    found: dict[str, Path] = {}
    for path in sorted(source.parent.iterdir()):
        one = _CANVAS.fullmatch(listing.read_as(path.name)[0])
        if one is not None and (one["name"], one["id"]) == (match["name"], match["id"]):
            found[one["file"]] = path
    # What is handed in again comes with a number: resnet50-1.onnx.
    for name in list(found):
        first = re.sub(r"-\d+(?=(\.tar)?\.[^.]+$)", "", name)
        if first != name and first not in found:
            found[first] = found.pop(name)
    return found


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def is_other(name: str) -> bool:
    """Whether a file's name is that of an archive of a kind that is not read."""
    return name.lower().endswith(_OTHERS)


def _ungraded(path: Path, out: Path | None) -> str:
    """The name of what is not graded, safe to print, with the reason."""
    name = listing.read_as(path.name)[0]
    if path.is_symlink():
        reason = _("a link")
    elif path.is_dir():
        reason = _("results of grading") if listing.is_results(path) else _("no submission's folder")
        if out is not None and out.resolve().is_relative_to(path.resolve()):
            reason = _("it holds the results")
    elif is_other(name):
        reason = _("a kind of archive that is not read")
    elif name.startswith("."):
        reason = _("hidden")
    else:
        reason = _("neither a folder nor an archive")
    return f"{one_line(name)} ({reason})"


def _entry(paths: Sequence[Path], source: Path, keys: Sequence[str]) -> Found:
    """What these files are together, handed in with the last of them; its student is named later."""
    dates = [listing.dated(path) for path in paths]
    notes = dict.fromkeys(note for path in paths for note in listing.read_as(path.name)[1])
    undated = dict.fromkeys(note for _when, notes in dates for note in notes)
    return Found("", source, max(when for when, _notes in dates), "file", tuple(keys), tuple(notes), tuple(undated))


def _told_apart(named: Sequence[tuple[str, str, Found]]) -> list[Found]:
    """Name everybody: by the first name where nobody else is called so, else by the second, which has a number in it.

    Whoever chooses a name that somebody else is told apart by gets a number too: no name ends a run.
    """
    numbered: set[int] = set()
    while True:
        names = [listing.called(two if i in numbered else one) for i, (one, two, _found) in enumerate(named)]
        counts = Counter(listing.folded(student) for student, _notes in names)
        more = {i for i, (student, _notes) in enumerate(names) if counts[listing.folded(student)] > 1} - numbered
        if not more:
            break
        numbered |= more
    exact = Counter(student for student, _notes in names)
    alike = _("somebody else's name differs from this one only in capitals, or in how its accents are written")
    return [
        dataclasses.replace(
            found,
            student=student,
            notes=(*found.notes, *notes, *([alike] if counts[listing.folded(student)] > exact[student] else [])),
        )
        for (_name, _number, found), (student, notes) in zip(named, names, strict=True)
    ]


def _gradescope(submissions: Path, entries: Sequence[Path]) -> tuple[list[Found], list[Path]]:
    """Gradescope's "export submissions": folders named by number, and one YAML file that says whose they are."""
    metadata = _metadata(submissions / GRADESCOPE)
    found: list[tuple[str, str, Found]] = []
    ignored: list[Path] = []
    for path in entries:
        if path.name not in metadata:
            if path.name != GRADESCOPE:
                ignored.append(path)
            continue
        said = metadata[path.name]
        name = _named(said, path)
        entry = _entry([path], path, [said[key] for key in ("sid", "email", "name") if said.get(key)])
        if (created := _moment(said.get("created_at"))) is not None:
            entry = dataclasses.replace(entry, submitted=created.timestamp(), time="gradescope", undated=())
        found.append((name, f"{name} ({path.name})", entry))
    return _told_apart(found), ignored


def _named(said: Mapping[str, str], path: Path) -> str:
    return (said.get("name") or said.get("email") or path.name).replace("/", "_")


_KEY = re.compile(r"""^(?P<indent> *(?:- )?)(?P<key>:?[A-Za-z_]+\d*):(?: +(?P<value>.*?))? *$""")


def _metadata(path: Path) -> dict[str, dict[str, str]]:
    """Folder → the first submitter's name, sid and email, and created_at.

    Only these lines are read, by their place: the rest holds what earlier runs said, which may be of any size.
    """
    found: dict[str, dict[str, str]] = {}
    try:
        if path.stat().st_size > _METADATA:
            raise LayoutError(_("{file} is larger than {size:,} bytes").format(file=path, size=_METADATA))
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise LayoutError(f"{path}: {problem}") from problem
    entry: dict[str, str] = {}
    inside = False
    for line in lines:
        match = _KEY.match(line)
        if match is None:
            continue
        depth, key, value = len(match["indent"]), match["key"], _scalar(match["value"] or "")
        if depth == 0:
            entry = found.setdefault(key, {})
            inside = False
        elif depth == 2 and not match["indent"].endswith("- "):
            inside = key == ":submitters"
            if key == ":created_at":
                entry.setdefault("created_at", value)
        elif inside and depth in (2, 4) and key in (":name", ":sid", ":email") and value not in ("", "null", "~"):
            entry.setdefault(key[1:], value)
    if not found:
        raise LayoutError(_("{file} names no submission").format(file=path))
    return found


def _scalar(text: str) -> str:
    """A YAML scalar on one line."""
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    if text.startswith("'") and text.endswith("'") and len(text) > 1:
        return text[1:-1].replace("''", "'")
    return text


def _moment(value: Any) -> datetime.datetime | None:
    """A time with its zone; Ruby writes 2026-12-01 20:00:00.123456789 Z."""
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)? ?(Z|UTC|[+-]\d\d:?\d\d)", str(value or "").strip()
    )
    if match is None:
        return None
    zone = "+00:00" if match[3] in ("Z", "UTC") else match[3] if ":" in match[3] else f"{match[3][:3]}:{match[3][3:]}"
    try:
        return datetime.datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}")
    except ValueError:
        return None


def assignment(path: Path) -> Assignment:
    """Gradescope's /autograder/submission_metadata.json.

    Raises:
        LayoutError: it cannot be read, or has no time.
    """
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_METADATA))
    except (OSError, ValueError, RecursionError) as problem:
        raise LayoutError(f"{path}: {problem}") from problem
    if not isinstance(said, dict) or (submitted := _moment(said.get("created_at"))) is None:
        raise LayoutError(_("{file} has no created_at with a time and its zone").format(file=path))
    of: Any = said.get("assignment") if isinstance(said.get("assignment"), dict) else {}
    # A student with an extension has dates of their own.
    dates = [user.get("assignment") for user in _objects(said.get("users"))]
    due = [moment for date in (*dates, of) if isinstance(date, dict) and (moment := _moment(date.get("due_date")))]
    given = of.get("total_points")
    try:
        total = round(Decimal(str(given)), 2)
    except (InvalidOperation, ValueError, OverflowError):
        total = Decimal(0)
    if total.is_finite() and 0 < total < 10**6:
        return Assignment(submitted, due[0] if due else None, total)
    odd = _("{file}: total_points is no number of points, and is left aside: {found}")
    said = "" if given is None else odd.format(file=path, found=one_line(repr(given))[:100])
    return Assignment(submitted, due[0] if due else None, None, said)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    yield from (item for item in (value if isinstance(value, list) else []) if isinstance(item, dict))
