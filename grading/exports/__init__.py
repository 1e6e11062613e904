"""Exports of the one result model. Each format has its reader's rules; the totals are the same in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..grade import Grade
from . import autolab, csv_table, github_classroom, gradebooks, gradescope, junit, prairielearn

FORMATS: Mapping[str, Callable[[Sequence[Grade], Path], list[Path]]] = {
    "gradescope": gradescope.write,
    "github-classroom": github_classroom.write,
    "autolab": autolab.write,
    "prairielearn": prairielearn.write,
    "junit": junit.write,
    "canvas": gradebooks.canvas,
    "moodle": gradebooks.moodle,
    "csv": csv_table.write,
}
