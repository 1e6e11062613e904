"""Two tables for a spreadsheet: the class, and every check."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from ..grade import Grade
from ..store import write_beside

# What a spreadsheet takes for the start of a formula, full-width too, as Excel in Chinese and Japanese does.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# What it overlooks before one.
_OVERLOOKED = " \t\r\n\u00a0\u3000"


def write(results: Sequence[Grade], folder: Path) -> list[Path]:
    """class.csv: a line a student. checks.csv: a line a check."""
    folder.mkdir(parents=True, exist_ok=True)
    labs = sorted({row.lab for result in results for row in result.rows})
    overview: list[list[object]] = [
        ["student", "earned", "possible", "capped", "penalty", "complete", *(x or "other" for x in labs)]
    ]
    checks: list[list[object]] = [["student", "test", "lab", "verdict", "earned", "possible", "seconds", "message"]]
    for result in results:
        by_lab = (sum((row.earned for row in result.rows if row.lab == lab), Decimal(0)) for lab in labs)
        complete = "yes" if result.complete else "no"
        capped = sum(result.caps.values(), Decimal("0.00"))
        overview.append([result.student, result.earned, result.possible, capped, result.penalty, complete, *by_lab])
        for row in result.rows:
            checks.append(
                [result.student, row.test, row.lab, row.verdict, row.earned, row.possible, row.seconds, row.detail]
            )
    paths = [folder / "class.csv", folder / "checks.csv"]
    for path, content in zip(paths, (overview, checks), strict=True):
        write_beside(path, table(content))
    return paths


def table(lines: Iterable[Sequence[object]]) -> bytes:
    """A table that Excel reads as UTF-8, and in which no text is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for line in lines:
        writer.writerow([_inert(cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue().encode("utf-8-sig")  # Excel takes a table without the mark for Latin-1


def _inert(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(("\t", "\r")) or cell.lstrip(_OVERLOOKED).startswith(_FORMULA) else cell
