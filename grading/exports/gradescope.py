"""Gradescope's results.json: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..grade import Grade, GradedRow
from .files import as_json, each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One results.json a student."""
    return each(results, folder, ".json", lambda result: as_json(_result(result)))


def _result(result: Grade) -> dict[str, Any]:
    tests = [_test(row) for row in result.rows]
    if result.penalty:
        tests.append(
            {"name": _("handed in late"), "score": -float(result.penalty), "max_score": 0.0, "visibility": "visible"}
        )
    return {
        # It overrides the sum of the tests, which is the same.
        "score": float(result.earned),
        "execution_time": round(sum(row.seconds for row in result.rows)),
        "output": "\n".join(result.notes),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"possible": float(result.possible), "complete": result.complete},
        "tests": tests,
    }


def _test(row: GradedRow) -> dict[str, Any]:
    test: dict[str, Any] = {
        "name": row.name,
        "score": float(row.earned),
        "max_score": float(row.possible),
        "output": row.message,
        "tags": [row.lab] if row.lab else [],
        "visibility": row.visibility,
    }
    if row.verdict in ("passed", "failed", "crash"):  # what was not graded has no status
        test["status"] = "passed" if row.verdict == "passed" else "failed"
    return test
