"""A class list as a platform exports it (CSV): who a folder's or archive's student is, for gradebooks and times."""

from __future__ import annotations

import codecs
import contextlib
import csv
import dataclasses
import datetime
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

_BYTES = 4_000_000
_PEOPLE = 20_000
# What platforms call a column, without case, spaces and signs → what it is here.
_COLUMNS = {
    **dict.fromkeys(("student", "name", "fullname", "姓名", "全名", "學生"), "name"),
    **dict.fromkeys(("firstname", "givenname", "名字"), "first"),
    **dict.fromkeys(("lastname", "surname", "familyname", "姓氏"), "last"),
    **dict.fromkeys(("id", "userid", "canvasid"), "id"),
    **dict.fromkeys(("sisuserid",), "sis_id"),
    **dict.fromkeys(("sisloginid", "login", "username", "loginid", "帳號"), "login"),
    **dict.fromkeys(("idnumber", "sid", "studentid", "學號"), "idnumber"),
    **dict.fromkeys(("email", "emailaddress", "mail", "電子郵件", "電子郵件信箱"), "email"),
    **dict.fromkeys(("section", "sections", "班級"), "section"),
    **dict.fromkeys(("githubusername", "github"), "github"),
    **dict.fromkeys(("identifier", "識別碼"), "identifier"),
    **dict.fromkeys(("folder", "submission", "file", "資料夾"), "folder"),
    **dict.fromkeys(("lastmodifiedsubmission", "submitted", "submittedat", "繳交時間"), "submitted"),
}
_MARKS = ("id", "sis_id", "login", "idnumber", "email", "identifier", "github")
# How .xlsx (a zip) and .xls begin.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_TIMES = ("%A, %d %B %Y, %I:%M %p", "%A, %B %d, %Y, %I:%M %p", "%d/%m/%y, %H:%M", "%Y-%m-%d %H:%M")


class RosterError(ValueError):
    """The roster cannot be read; the message says where."""


@dataclasses.dataclass(frozen=True)
class Person:
    """One line of a roster; "" is what it does not say.

    Attributes:
        id, sis_id, login, section: as Canvas (and NTU COOL) calls them.
        idnumber, email, identifier: as Moodle does; Gradescope's SID is an idnumber.
        github: the account of a GitHub Classroom.
        submitted: when this person handed in, ISO 8601 with its zone.
    """

    name: str = ""
    id: str = ""
    sis_id: str = ""
    login: str = ""
    section: str = ""
    idnumber: str = ""
    email: str = ""
    identifier: str = ""
    github: str = ""
    folder: str = ""
    submitted: str = ""

    @staticmethod
    def kept(known: Mapping[str, str]) -> Person | None:
        """The person of what was kept with the results, if there was one."""
        names = {field.name for field in dataclasses.fields(Person)}
        found = {name: value for name, value in known.items() if name in names}
        return Person(**found) if found else None

    def called(self) -> set[str]:
        """All that a folder of this person's may be called."""
        words = self.name.split()
        names = {self.name, " ".join(reversed(words)), "".join(words), self.name.replace(",", "")}
        if "," in self.name:
            last, _comma, first = self.name.partition(",")
            names |= {f"{first.strip()} {last.strip()}", f"{last.strip()}{first.strip()}"}
        marks = {self.id, self.sis_id, self.login, self.idnumber, self.email, self.identifier, self.github, self.folder}
        return {plain(key) for key in (*names, *marks, self.email.partition("@")[0]) if key}


def plain(text: str) -> str:
    """A name for comparing: one form of its characters, no case, no spaces at its ends."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def load(path: Path) -> list[Person]:
    """Read a roster: a gradebook, list of people or grading worksheet of Canvas, Moodle, Gradescope or GitHub.

    Raises:
        RosterError: it is no such table; the message says what is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES + 1)
        if len(data) > _BYTES:
            raise RosterError(_("{file} is larger than {size:,} bytes").format(file=path, size=_BYTES))
        if data.startswith(_WORKBOOKS):
            raise RosterError(
                _("{file} is a workbook of Excel's, not a table as text: save it as CSV UTF-8").format(file=path)
            )
        text = _text(data)
        titles = text.partition("\n")[0]
        delimiter = max(",;\t", key=titles.count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise RosterError(
            _("{file} is no CSV in UTF-8, and in nothing else that is read: {problem}").format(
                file=path, problem=problem
            )
        ) from problem
    if not lines or len(lines) > _PEOPLE:
        raise RosterError(
            _("{file} should have a line of titles and at most {most:,} people").format(file=path, most=_PEOPLE)
        )
    columns: dict[str, int] = {}
    for index, title in enumerate(lines[0]):
        known = _column(title)
        if known is not None:
            columns.setdefault(known, index)
    if not columns.keys() - {"section", "submitted"}:
        raise RosterError(
            _("{file}: no column names anybody; titles such as Student, ID, Email address do").format(file=path)
        )
    return [person for person in (_person(line, columns) for line in lines[1:]) if person is not None]


def _text(data: bytes) -> str:
    """A table's text: UTF-8, UTF-16 as Excel writes "Unicode text", or Big5 where its titles are known in nothing else.

    Raises:
        UnicodeDecodeError: it is none of these.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Bytes of one encoding of Chinese are characters in the others too, but not the titles that are looked for.
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode("cp950")
            titles = re.split("[,;\t]", text.partition("\n")[0])
            if any(not title.isascii() and _column(title.strip(' "\r')) for title in titles):
                return text
        raise


def _column(title: str) -> str | None:
    return _COLUMNS.get(re.sub(r"[^\w]|_", "", plain(title)))


def shared(people: Iterable[Person]) -> list[tuple[str, str, str]]:
    """(mark, one, other) of people whom the roster gives the same number, account or address."""
    seen: dict[tuple[str, str], str] = {}
    found: dict[tuple[str, str, str], None] = {}
    for person in people:
        name = person.name or person.email or person.login or person.github
        for field in _MARKS:
            mark = plain(getattr(person, field))
            if mark and (other := seen.setdefault((field, mark), name)) != name:
                found[(getattr(person, field), other, name)] = None
    return list(found)


def _person(line: Sequence[str], columns: Mapping[str, int]) -> Person | None:
    given = {name: line[index].strip() for name, index in columns.items() if index < len(line)}
    first, last = given.pop("first", ""), given.pop("last", "")
    name = given.get("name") or f"{first} {last}".strip()
    if name.startswith("Points Possible") or name == "Student, Test" or not any((*given.values(), name)):
        return None  # Canvas's own lines
    identifier = re.fullmatch(r"\D*(\d+)", given.get("identifier", ""))
    if identifier is not None:
        given["identifier"] = identifier[1]
    return Person(**{**given, "name": name, "submitted": _time(given.get("submitted", ""))})


def _time(text: str) -> str:
    """A time with its zone, ISO 8601; one without a zone is this machine's; "" where it is none that is known."""
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        for form in _TIMES:
            try:
                found = datetime.datetime.strptime(text, form)
            except ValueError:
                continue
            break
        else:
            return ""
    try:
        return (found if found.tzinfo else found.astimezone()).isoformat()
    except (OverflowError, OSError, ValueError):
        return ""


def matched(
    folders: Mapping[str, Sequence[str]], people: Iterable[Person]
) -> tuple[dict[str, Person], list[str], list[str]]:
    """Whose each folder is.

    Args:
        folders: student → what the layout knows of them, the surest first.

    Returns:
        Student → person; the students whom nobody or more than one fits, or somebody else fits more surely; the people
        of whom there is nothing. Two whom one person fits equally surely are both in the first.
    """
    people = list(people)
    by_key: dict[str, set[int]] = {}
    for number, person in enumerate(people):
        for key in person.called():
            by_key.setdefault(key, set()).add(number)
    fitting = {student: fit for student, keys in folders.items() if (fit := _fit(keys, by_key, people)) is not None}
    # A name that a student chose must not cost somebody else theirs: who is known by less gives way.
    surest: dict[int, tuple[int, int, bool]] = {}
    for number, rank in fitting.values():
        surest[number] = min(rank, surest.get(number, rank))
    found = {student: people[number] for student, (number, rank) in fitting.items() if rank == surest[number]}
    unmatched = [student for student in folders if student not in found]
    absent = [person for number, person in enumerate(people) if number not in surest]
    return found, unmatched, [person.name or next(iter(sorted(person.called())), "") for person in absent]


def _fit(
    keys: Sequence[str], by_key: Mapping[str, set[int]], people: Sequence[Person]
) -> tuple[int, tuple[int, int, bool]] | None:
    """The number of the one person whom the first fitting key is of, and how sure that is, less being surer.

    The earlier key is surer, then more of it, then one that is written as the roster has it.
    """
    for place, key in enumerate(keys):
        # A GitHub Classroom repository is called ASSIGNMENT-ACCOUNT.
        parts = plain(key).split("-")
        for start in range(len(parts)):
            fits = by_key.get("-".join(parts[start:]))
            if fits is not None:
                if len(fits) == 1:
                    (number,) = fits
                    return number, (place, start, key not in dataclasses.astuple(people[number]))
                break
    return None
