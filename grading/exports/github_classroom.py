"""GitHub Classroom's autograding JSON, as its grading reporter reads it.

https://github.com/github-education-resources/autograding-grading-reporter: it adds up the tests' scores, beside
max_score. In a workflow it wants this file as base64 in the environment variable <RUNNER>_RESULTS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..grade import Grade
from .files import as_json, each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One result a student."""
    return each(results, folder, ".json", lambda result: as_json(_result(result)))


def _result(result: Grade) -> dict[str, Any]:
    # The reporter knows no "not graded", and counts every test that does not pass against the student.
    graded = [row for row in result.rows if row.possible or row.verdict == "passed"]
    tests: list[dict[str, Any]] = [
        {
            "name": row.name,
            "status": {"passed": "pass", "failed": "fail"}.get(row.verdict, "error"),
            "score": float(row.earned),
            "message": row.message,
            "test_code": "",
            "filename": "",
            "line_no": 0,
            "duration": row.seconds,
        }
        for row in graded
    ]
    if result.penalty:
        late = {"name": _("handed in late"), "status": "fail", "score": -float(result.penalty), "message": _("late")}
        tests.append({**late, "test_code": "", "filename": "", "line_no": 0, "duration": 0})
    statuses = {test["status"] for test in tests}
    status = next((worst for worst in ("error", "fail") if worst in statuses), "pass")
    return {"version": 1, "status": status, "max_score": float(result.possible), "tests": tests}
