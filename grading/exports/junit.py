"""JUnit XML, written by junitparser as Jenkins' junit-10.xsd has it: what a student may see, and no more.

https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..grade import Grade, GradedRow
from .files import each


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """One report a student."""
    return each(results, folder, ".xml", _result)


def _result(result: Grade) -> bytes:
    suite: Any = TestSuite(result.student)  # junitparser's own annotations end here
    suite.add_property("earned", str(result.earned))
    suite.add_property("possible", str(result.possible))
    suite.add_property("penalty", str(result.penalty))
    for taken in result.deductions:
        suite.add_property(f"{taken.lab}: {taken.name}", f"-{taken.points} {taken.message}".rstrip())
    for row in result.shown:
        suite.add_testcase(_case(row))
    report: Any = JUnitXml("grading")
    report.add_testsuite(suite)
    report.update_statistics()
    for element in report._elem.iter():
        if "time" in element.attrib:  # 1e-05 is no time to Jenkins
            element.attrib["time"] = f"{float(element.attrib['time']):.3f}"
    # Jenkins' schema has no such attribute on the whole, only on a suite.
    report._elem.attrib.pop("skipped", None)
    file_like = io.BytesIO()
    report.write(file_like, pretty=True)
    return file_like.getvalue()


def _case(row: GradedRow) -> TestCase:
    case = TestCase(row.name, classname=row.lab or "other", time=row.seconds)
    first = row.message.partition("\n")[0]
    if row.verdict == "failed":
        case.result = [_with_text(Failure(first, "failed"), row.message)]
    elif row.verdict in ("crash", "pending"):
        case.result = [_with_text(Error(first or row.verdict, row.verdict), row.message)]
    elif row.verdict != "passed":
        case.result = [Skipped(first or f"{row.earned}/{row.possible}", row.verdict)]
    return case


def _with_text(entry: Failure | Error, text: str) -> Failure | Error:
    entry.text = text
    return entry
