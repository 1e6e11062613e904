"""The class as five platforms lay it out, each with its own class list."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rehearsal.people import Person

_HOST = "submission_"


def hand_in(person: Person, content: Path, share: Path, lab: str) -> Path:
    """Lay out one submission, a folder or a ready archive, as its platform does; what stands for it in the share."""
    place = {"folders": _folders, "moodle": _moodle, "canvas": _canvas, "gradescope": _gradescope, "github": _github}
    entry = place[person.platform](person, content, share, lab)
    when = person.submitted.timestamp() if person.kind is None or person.kind.dated is None else person.kind.dated
    for path in share.glob(f"{person.login}_*") if person.platform == "canvas" else (entry,):
        os.utime(path, (when, when), follow_symlinks=False)
    return entry


def _folders(person: Person, content: Path, share: Path, lab: str) -> Path:
    name = person.name if person.kind is None else person.kind.called or person.name
    if content.is_file():
        return _put(content, share / f"{name}{_suffix(content)}")
    if person.kind is not None:  # as it is: links and all
        return content.rename(share / name)
    layout = person.number // 5 % 5
    if layout == 0:
        return _copied(content, share / name)
    if layout == 1:
        return _copied(content, share / name / lab).parent
    if layout == 2:
        return _zipped(content, share / f"{name}.zip", "")
    if layout == 3:
        return _zipped(content, share / f"{name}.zip", f"my homework/{lab}/")
    with tarfile.open(share / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(content, arcname="homework")
    return share / f"{name}.tar.gz"


def _in_a_folder(person: Person, content: Path, folder: Path) -> Path:
    """As files, or as the archive that every second one hands in."""
    if content.is_dir() and (person.kind is not None or person.number % 2):
        return _copied(content, folder)
    folder.mkdir()
    _put(content, folder / f"work{_suffix(content)}") if content.is_file() else _zipped(content, folder / "hw.zip", "")
    return folder


def _moodle(person: Person, content: Path, share: Path, lab: str) -> Path:
    named = person.kind.called if person.kind is not None and person.kind.called else person.name
    folder = share / f"{named}_{person.id}_assignsubmission_file_"
    return _in_a_folder(person, content, folder)


def _canvas(person: Person, content: Path, share: Path, lab: str) -> Path:
    late = "_LATE" if person.submitted.hour % 2 else ""
    stem = f"{person.login}{late}_{person.id}_{90_000 + person.number}"
    if content.is_file():
        return _put(content, share / f"{stem}_work{_suffix(content)}")
    whole = person.kind is None and person.number % 2
    if whole or any(path.is_dir() for path in content.iterdir()):
        return _zipped(content, share / f"{stem}_labs.zip", "")
    for path in sorted(content.iterdir()):
        _put(path, share / f"{stem}_{path.name}")
    return share / f"{person.login}_{person.id}_*"


def _gradescope(person: Person, content: Path, share: Path, lab: str) -> Path:
    folder = share / f"{_HOST}{person.id}"
    return _in_a_folder(person, content, folder)


def _github(person: Person, content: Path, share: Path, lab: str) -> Path:
    clone = share / f"tensorrt-labs-{person.login}"
    (clone / ".git" / "objects").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (clone / "README.md").write_text("# Labs\n")
    if content.is_file():
        (clone / "submission").mkdir()
        _put(content, clone / "submission" / f"work{_suffix(content)}")
    else:
        _copied(content, clone / "submission" / (lab if person.kind is None and person.number % 2 else ""))
    return clone


def finish(people: Sequence[Person], share: Path) -> None:
    """What a platform puts beside the submissions."""
    if people and people[0].platform == "gradescope":
        (share / "submission_metadata.yml").write_text(_metadata(people), encoding="utf-8")


def _metadata(people: Sequence[Person]) -> str:
    lines = ["---"]
    for person in people:
        called = person.name if person.kind is None or person.kind.imitates is None else person.kind.imitates(people)
        when = person.submitted.astimezone(datetime.timezone.utc)
        lines += [f"{_HOST}{person.id}:", "  :submitters:", f"  - :name: {json.dumps(called)}"]
        lines += [f"    :sid: '{person.login}'", f"    :email: {person.email}"]
        lines += [f"  :created_at: {when:%Y-%m-%d %H:%M:%S}.000000000 Z", "  :status: processed"]
    return "\n".join(lines) + "\n"


def roster(people: Sequence[Person]) -> str:
    """The platform's class list, a CSV."""
    rows: list[list[str]]
    platform = people[0].platform
    if platform == "moodle":
        rows = [["Identifier", "Full name", "Email address", "ID number", "Last modified (submission)"]]
        for person in people:
            when = f"{person.submitted:%Y-%m-%dT%H:%M:%S%z}"
            rows.append([f"Participant {person.id}", person.name, person.email, person.login, _colon(when)])
    elif platform == "canvas":
        rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]]
        rows += [[person.name, person.id, f"u{person.id}", person.login, "A"] for person in people]
    elif platform == "github":
        rows = [["identifier", "github_username", "github_id", "name"]]
        rows += [[person.id, person.login, "", person.name] for person in people]
    else:
        rows = [["Name", "SID", "Email", "Section"]]
        rows += [[person.name, person.login, person.email, "B"] for person in people]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _colon(when: str) -> str:
    return f"{when[:-2]}:{when[-2:]}"


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.name.endswith((".tar.gz", ".tar.bz2")) else path.suffix


def _put(source: Path, target: Path) -> Path:
    """A second name of the same bytes, which nobody writes to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target, follow_symlinks=False)
    return target


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, symlinks=True, copy_function=_linked)
    return target


def _linked(source: str, target: str, *, follow_symlinks: bool = True) -> str:
    os.link(source, target, follow_symlinks=False)
    return target


def _zipped(source: Path, target: Path, inside: str) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, inside + str(path.relative_to(source)))
    return target
