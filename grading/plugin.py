"""The grader's pytest plugin: says which tests there are, or sends each verdict to the grader as it falls.

It runs inside the sandbox with the trusted tests. No program of a student's ever runs in that process,
and the descriptor it writes to is passed on to no child.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from trtverify.fixtures.engines.options import EVERY_BACKEND
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.verdict import Verdict, of_report

_LABS = tuple(f"lab{number}" for number in range(1, 6))
# Which verdict stands when the phases of one test disagree: a failing teardown spoils a pass.
_WEIGHT = {Verdict.PASSED: 0, Verdict.INCONCLUSIVE: 1, Verdict.NOT_GRADABLE: 2, Verdict.FAILED: 3}
_MESSAGE = 20_000
_TITLE = 160
HIDDEN = "hidden/"  # where the teacher's own tests lie in the frozen suite


def pytest_addoption(parser: pytest.Parser) -> None:
    """How the grader talks to this plugin."""
    group = parser.getgroup("grading")
    group.addoption("--grading-fd", type=int, metavar="N", help=_("descriptor that JSON lines are written to"))
    group.addoption("--grading-job", type=Path, metavar="FILE", help=_("JSON object: which labs, and which node ids"))


def pytest_configure(config: pytest.Config) -> None:
    """Start sending, if the grader listens."""
    config.stash[EVERY_BACKEND] = True  # the list of checks is the same wherever it is made
    fd = config.getoption("grading_fd")
    if fd is not None:
        os.set_inheritable(fd, False)
        config.pluginmanager.register(_Sender(fd, config.getoption("grading_job")), "grading-sender")


def _lab(item: pytest.Item) -> str:
    return next((lab for lab in _LABS if item.get_closest_marker(lab) is not None), "")


def _title(item: pytest.Item) -> str:
    """The first sentence of the test's docstring, on one line."""
    said = inspect.getdoc(getattr(item, "function", None)) or ""
    return " ".join(said.partition("\n\n")[0].split()).removesuffix(".")[:_TITLE]


class _Sender:
    """Sends what happens, one JSON object a line."""

    def __init__(self, fd: int, job: Path) -> None:
        wanted = json.loads(job.read_text(encoding="utf-8"))
        self._fd = fd
        self._labs = frozenset(wanted["labs"])
        self._tests = None if wanted["tests"] is None else frozenset(wanted["tests"])
        self._verdicts: dict[str, tuple[Verdict, str]] = {}
        self._begun = 0.0

    def _send(self, **event: object) -> None:
        line = (json.dumps(event) + "\n").encode()
        while line:
            line = line[os.write(self._fd, line) :]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = [item for item in items if not self._wants(item)]
        items[:] = [item for item in items if self._wants(item)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)

    def _wants(self, item: pytest.Item) -> bool:
        if self._tests is not None:
            return item.nodeid in self._tests
        return _lab(item) in self._labs or item.nodeid.startswith(HIDDEN)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            for item in session.items:
                marker = item.get_closest_marker("points")
                points = marker.args[0] if marker is not None and marker.args else 1.0
                if isinstance(points, bool) or not isinstance(points, (int, float)) or not 0 <= points < 1e6:
                    said_of = _("{test}: points should be a number from 0, found {found!r}")
                    self._send(event="error", message=said_of.format(test=item.nodeid, found=points))
                    continue
                hidden = item.nodeid.startswith(HIDDEN)
                said = {"test": item.nodeid, "lab": _lab(item), "title": _title(item)}
                self._send(event="test", points=float(points), hidden=hidden, **said)
        self._send(event="collected", count=len(session.items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send(event="error", message=f"{report.nodeid}: {report.longreprtext[-_MESSAGE:]}")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begun = time.monotonic()
        self._send(event="start", test=nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        found = of_report(report)
        if found is not None:
            before = self._verdicts.get(item.nodeid)
            if before is None or _WEIGHT[found[0]] > _WEIGHT[before[0]]:
                self._verdicts[item.nodeid] = found
        return report

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        nothing = (Verdict.FAILED, "the test ended without a verdict")
        verdict, message = self._verdicts.pop(nodeid, nothing)
        seconds = round(time.monotonic() - self._begun, 4)
        self._send(event="verdict", test=nodeid, verdict=str(verdict), message=message[-_MESSAGE:], seconds=seconds)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._send(event="finished", exitstatus=int(exitstatus))
