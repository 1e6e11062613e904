"""Runs the suite on one folder within this process, so that what it imports stays imported."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from trtverify.fixtures.words.verdict import Verdict, of_report

ROOT = Path(__file__).resolve().parents[2]
TIMED = ("test_speedup", "test_latency")
RUNNING = ("test_outputs_match", "test_classes_agree", "test_boxes_match")
QUIET = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"
"""What this process imported itself is not rewritten, and need not be: no fixture asserts."""
LONGEST = 700
"""Letters of a message that are kept."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the suite said: the failed tests' messages by name, how many passed, and its exit status."""

    status: int
    failed: dict[str, str]
    passed: int
    ungraded: int

    @property
    def broke(self) -> bool:
        """Whether the suite itself stumbled: neither all well nor tests that failed."""
        return self.status not in (0, 1) or (self.status == 1) != bool(self.failed)


class Recorder:
    """A pytest plugin that keeps each test's verdict."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.others: dict[str, Verdict] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        found = of_report(report)
        name = item.nodeid.partition("::")[2]
        if found is not None and found[0] is Verdict.FAILED:
            self.failed[name] = found[1][:LONGEST]
        elif found is not None:
            self.others[name] = found[0]
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed[f"collection of {report.nodeid}"] = report.longreprtext[-LONGEST:]


def verify(
    folder: Path,
    lab: str,
    cache: Path,
    backends: Sequence[str],
    seed: int,
    options: Sequence[str] = (),
    *,
    engines: bool = True,
) -> Outcome:
    """Hand a folder in for one lab. What measures time is left out: no verdict on a submission rests on it.

    Args:
        engines: run engines too; without, the tests that compare what they answer are left out.
    """
    tests = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if concerns(path.name, lab)]
    left_out = " and ".join(f"not {name}" for name in (*TIMED, *(() if engines else RUNNING)))
    arguments = ["-q", "-m", lab, "-k", left_out, "--benchmark-disable", "--lang=en"]
    arguments += [f"--rootdir={ROOT}", f"-c{ROOT / 'pytest.ini'}", "--weights=untrained", QUIET]
    arguments += [f"--backend={name}" for name in backends]
    arguments += [f"--submission={folder}", f"--suite-cache={cache}", f"--input-seed={seed}", *options]
    recorder = Recorder()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = int(pytest.main([*arguments, *map(str, tests)], plugins=[recorder]))
    gc.collect()
    others = [verdict for name, verdict in recorder.others.items() if name not in recorder.failed]
    passed = others.count(Verdict.PASSED)
    return Outcome(status, recorder.failed, passed, len(others) - passed)


def concerns(file: str, lab: str) -> bool:
    """Whether a file of tests may hold any of this lab: its own, and those that are of no lab."""
    return not file.startswith("test_lab") or file.startswith(f"test_{lab}")
