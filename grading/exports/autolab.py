"""Autolab's autoresult: the last line of a grader's output, below a line of formatted feedback.

https://docs.autolabproject.com/features/formatted-feedback/. The problems are the labs; Autolab adds them up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..grade import HIDDEN, Grade, GradedRow
from .files import each

_OTHER = "other"


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One text a student: feedback line, autoresult line."""
    return each(results, folder, ".txt", _result)


def _result(result: Grade) -> bytes:
    scores: dict[str, Decimal] = {}
    stages: dict[str, dict[str, Any]] = {}
    for row in result.shown:
        lab = row.lab or _OTHER
        scores[lab] = scores.get(lab, Decimal(0)) + row.earned
        stage = stages.setdefault(lab, {})
        if row.verdict in ("passed", "failed", "crash"):
            stage[row.name] = {"passed": row.verdict == "passed", "hint": row.message}
        else:
            stage[row.name] = row.message or _points(row)
    for taken in result.deductions:
        lab = taken.lab or _OTHER
        scores[lab] -= taken.points
        # Not inside the f-string: what extracts sentences sees those only from Python 3.12 on.
        cost = _("-{points} points").format(points=taken.points)
        stages[lab][taken.name] = f"{cost} {taken.message}".rstrip()
    feedback = {"_presentation": "semantic", "stages": list(stages), **stages}
    points = {"scores": {lab: float(score) for lab, score in scores.items()}}
    lines = (json.dumps(line, ensure_ascii=False, allow_nan=False) for line in (feedback, points))
    return "".join(f"{line}\n" for line in lines).encode()


def _points(row: GradedRow) -> str:
    if row.verdict == HIDDEN:
        return _("{earned} of {possible} points").format(earned=row.earned, possible=row.possible)
    return _("not graded")
