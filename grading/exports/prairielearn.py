"""PrairieLearn's external grading results: https://prairielearn.readthedocs.io/en/latest/externalGrading/."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..grade import Grade
from ..sandbox.untrusted_text import shortened
from .files import as_json, each

_BYTES = 1_000_000  # PrairieLearn takes no more than 1 MB


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One results.json a student."""
    return each(results, folder, ".json", _fitting)


def _fitting(result: Grade) -> bytes:
    for characters in (4000, 1000, 200, 0):
        data = as_json(_result(result, characters))
        if len(data) <= _BYTES:
            return data
    raise ValueError(
        _("{student}: {count} checks do not fit into {size:,} bytes").format(
            student=result.student, count=len(result.rows), size=_BYTES
        )
    )


def _result(result: Grade, characters: int) -> dict[str, Any]:
    tests: list[dict[str, Any]] = [
        {
            "name": row.name,
            "points": float(row.earned),
            "max_points": float(row.possible),
            "message": shortened(row.message, characters) if characters else "",
        }
        for row in result.shown
    ]
    for taken in result.deductions:
        name = f"{taken.lab}: {taken.name}".removeprefix(": ")
        tests.append({"name": name, "points": -float(taken.points), "max_points": 0.0, "message": taken.message})
    notes = "\n".join(result.notes)
    if not result.possible:  # nothing was graded: no points won or lost, and no attempt used
        return {
            "gradable": False,
            "format_errors": [_("nothing could be graded")],
            "message": notes[:4000],
            "tests": tests,
        }
    total = _("{earned} of {possible} points").format(earned=result.earned, possible=result.possible)
    score = max(Decimal(0), min(Decimal(1), result.earned / result.possible))
    return {
        "gradable": True,
        "score": float(score),
        "message": shortened(f"{total}\n{notes}".strip(), 4000),
        "tests": tests,
    }
