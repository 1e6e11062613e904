"""GitHub Classroom's autograding JSON, as its grading reporter reads it.

https://github.com/github-education-resources/autograding-grading-reporter: it adds up the tests' scores, beside
max_score. In a workflow it wants this file as base64 in the environment variable <RUNNER>_RESULTS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..grade import HIDDEN, Grade, GradedRow
from .files import as_json, each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One result a student."""
    return each(results, folder, ".json", lambda result: as_json(_result(result)))


def _result(result: Grade) -> dict[str, Any]:
    # The reporter knows no "not graded", and counts every test that does not pass against the student.
    graded = [row for row in result.shown if row.possible or row.verdict == "passed"]
    tests: list[dict[str, Any]] = [
        {
            "name": row.name,
            "status": _status(row),
            "score": float(row.earned),
            "message": row.message,
            "test_code": "",
            "filename": "",
            "line_no": 0,
            "duration": row.seconds,
        }
        for row in graded
    ]
    for taken in result.deductions:
        name = f"{taken.lab}: {taken.name}".removeprefix(": ")
        cost = {"name": name, "status": "fail", "score": -float(taken.points), "message": taken.message}
        tests.append({**cost, "test_code": "", "filename": "", "line_no": 0, "duration": 0})
    statuses = {test["status"] for test in tests}
    status = next((worst for worst in ("error", "fail") if worst in statuses), "pass")
    return {"version": 1, "status": status, "max_score": float(result.possible), "tests": tests}


def _status(row: GradedRow) -> str:
    if row.verdict == HIDDEN:  # says no more than its points do
        return "pass" if row.earned == row.possible else "fail"
    return {"passed": "pass", "failed": "fail"}.get(row.verdict, "error")
