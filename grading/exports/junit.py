"""JUnit XML, written by junitparser: for the teacher's own tools, so with names and messages as they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..grade import Grade
from .files import each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One report a student."""
    return each(results, folder, ".xml", _result)


def _result(result: Grade) -> bytes:
    suite = TestSuite(result.student)
    suite.add_property("earned", str(result.earned))
    suite.add_property("possible", str(result.possible))
    suite.add_property("penalty", str(result.penalty))
    for row in result.rows:
        file, _, name = row.test.partition("::")
        case = TestCase(name or row.test, classname=file.removesuffix(".py").replace("/", "."), time=row.seconds)
        first = row.detail.partition("\n")[0]
        if row.verdict == "failed":
            case.result = [_with_text(Failure(first, "failed"), row.detail)]
        elif row.verdict in ("crash", "pending"):
            case.result = [_with_text(Error(first or row.verdict, row.verdict), row.detail)]
        elif row.verdict != "passed":
            case.result = [Skipped(first, row.verdict)]
        suite.add_testcase(case)
    report: Any = JUnitXml("grading")  # junitparser's own annotations end here
    report.add_testsuite(suite)
    report.update_statistics()
    file_like = io.BytesIO()
    report.write(file_like, pretty=True)
    return file_like.getvalue()


def _with_text(entry: Failure | Error, text: str) -> Failure | Error:
    entry.text = text
    return entry
