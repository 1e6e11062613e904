"""The class report: an overview for the teacher, and for each student a page of that student's work alone."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from trtverify.fixtures.report import page
from trtverify.fixtures.words.messages import _

from ..grade import Grade
from ..taking.listing import file_names
from . import class_report
from .class_report import Pupil

TEMPLATES = Path(__file__).with_name("templates")


def write(results: Sequence[Grade], folder: Path) -> Path:
    """Write `index.html` and `students/NAME.html` into a folder that takes the place of the one that is there.

    Returns:
        The overview's path.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        _write(results, Path(scratch) / "new")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        (Path(scratch) / "new").rename(folder)
    return folder / "index.html"


def _write(results: Sequence[Grade], folder: Path) -> None:
    environment = page.environment(TEMPLATES)
    environment.globals.update(lab_name=lab_name, failures=class_report.FAILURES)
    style = TEMPLATES / "class.css"
    created = datetime.datetime.now(datetime.timezone.utc)
    names = file_names(result.student for result in results)
    pupils = {f"{names[result.student]}.html": Pupil(result) for result in results}
    for name, pupil in pupils.items():
        shown = Pupil(dataclasses.replace(pupil.result, rows=pupil.result.shown))
        text = page.render(environment, "student.html", style, student=shown, created=created)
        page.write(text, folder / "students" / name)
    text = page.render(
        environment,
        "class.html",
        style,
        script=TEMPLATES / "class.js",
        created=created,
        pupils={f"students/{urllib.parse.quote(name)}": pupil for name, pupil in pupils.items()},
        labs=class_report.labs(results),
        points=class_report.points(results),
        causes=class_report.causes(results),
        slowest=class_report.slowest(results),
    )
    page.write(text, folder / "index.html")


def lab_name(lab: str | None) -> str:
    """A lab in the reader's language; None is all of them, "" none."""
    if lab is None:
        return _("all labs")
    return _("lab {number}").format(number=lab.removeprefix("lab")) if lab else _("other checks")
