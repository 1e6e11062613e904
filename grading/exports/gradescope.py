"""Gradescope's results.json: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from ..grade import Grade, GradedRow
from ..worth.points import NOT_GRADED
from .files import as_json, each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One results.json a student."""
    return each(results, folder, ".json", lambda result: as_json(_result(result)))


def _result(result: Grade) -> dict[str, Any]:
    tests = [_test(row) for row in result.rows]
    for taken in result.deductions:
        tests.append(
            {
                "name": f"{taken.lab}: {taken.name}".removeprefix(": "),
                "score": -float(taken.points),
                "max_score": 0.0,
                "status": "failed",
                "output": taken.message,
                "tags": [taken.lab] if taken.lab else [],
                "visibility": "visible",
            }
        )
    notes = (
        result.notes if result.possible else (*result.notes, _("nothing could be graded: this 0 says nothing of you"))
    )
    return {
        # It overrides the sum of the tests, which is the same. Gradescope refuses results without any.
        "score": float(result.earned),
        "execution_time": round(sum(row.seconds for row in result.rows)),
        "output": "\n".join((*notes, *([result.submitted] if result.submitted else []))),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"possible": float(result.possible), "complete": result.complete},
        "leaderboard": _leaderboard(result),
        "tests": tests,
    }


def _leaderboard(result: Grade) -> list[dict[str, Any]]:
    """Points that everybody may see: of visible checks alone, in all and lab by lab."""
    labs: dict[str, Decimal] = {}
    for row in result.rows:
        if row.visibility == "visible":
            labs[row.lab] = labs.get(row.lab, Decimal(0)) + row.earned
    every = {_("points"): sum(labs.values(), Decimal(0)), **{lab: labs[lab] for lab in sorted(labs) if lab}}
    return [{"name": name, "value": float(value)} for name, value in every.items()]


def _test(row: GradedRow) -> dict[str, Any]:
    test: dict[str, Any] = {
        "name": row.name,
        "output": row.message,
        "tags": [row.lab] if row.lab else [],
        "visibility": row.visibility,
    }
    # There are two statuses, and 0 of 0 is shown as passed whatever happened. So what is worth nothing has a status
    # and no score, as the specification has it for informational checks; what was not graded says so in its name.
    if row.verdict in NOT_GRADED:
        return {**test, "name": _("{name}: not graded").format(name=row.name), "status": "passed"}
    test["status"] = "passed" if row.verdict == "passed" else "failed"
    return {**test, "score": float(row.earned), "max_score": float(row.possible)} if row.possible else test
