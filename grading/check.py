"""One submission's tests: run in a sandbox, their verdicts streamed to the caller as they fall."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

from .sandbox import box
from .sandbox.limits import breach_word, exit_word
from .sandbox.untrusted_text import escaped, shortened
from .suite import HIDDEN, Lines, Suite, job

_VERDICTS = frozenset({"passed", "failed", "inconclusive", "not gradable"})
_MESSAGE = 4000


@dataclasses.dataclass(frozen=True)
class Checked:
    """A verdict on one test; the message is safe to print."""

    test: str
    verdict: str
    message: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the run ended.

    Attributes:
        finished: every wanted test that the suite has came to a verdict.
        during: the test that was running when it died, if one was.
        reason: why it died, for people to read.
        outside: it was killed from outside the sandbox, which says nothing about the submission.
        breach: it broke a limit, which others may have slowed it into unless it was alone.
        seconds: of wall clock that all this took.
    """

    finished: bool
    during: str | None = None
    reason: str = ""
    outside: bool = False
    breach: bool = False
    seconds: float = 0.0


def check(
    suite: Suite,
    submission: Path,
    tests: Sequence[str],
    started: Callable[[str], None],
    checked: Callable[[Checked], None],
) -> Ended:
    """Run tests on a snapshot: the visible ones, then in a sandbox of their own the hidden ones.

    The tests parse what a student made with native code (ONNX Runtime, protobuf). Should a parser be
    turned against them, it can speak for this submission alone, and only in the words allowed here. In
    the first sandbox it finds no hidden test to read, and a verdict on one is not heard from there.

    Args:
        suite: the trusted tests.
        submission: a snapshot's folder.
        tests: node ids to run.
        started, checked: called as tests begin and as verdicts fall, at most once for each test.
    """
    ended = Ended(True)
    for hidden in (False, True):
        some = [test for test in tests if test.startswith(f"{HIDDEN}/") == hidden]
        if some and ended.finished:
            ended = _run(suite, submission, some, hidden, started, checked)
    return ended


def _run(
    suite: Suite,
    submission: Path,
    tests: Sequence[str],
    hidden: bool,
    started: Callable[[str], None],
    checked: Callable[[Checked], None],
) -> Ended:
    waiting = dict.fromkeys(tests)
    running: list[str] = []
    finished: list[int] = []
    lines = Lines()
    nonsense: list[str] = []

    def receive(block: bytes) -> None:
        if nonsense:  # nothing after it is believed
            return
        try:
            for event in lines.parse(block):
                _take(event)
        except (ValueError, KeyError, TypeError) as problem:
            nonsense.append(_("the tests' process sent nonsense: {problem}").format(problem=problem))

    def _take(event: dict[str, object]) -> None:
        kind, test = event["event"], event.get("test")
        if kind == "start" and test in waiting:
            running[:] = [str(test)]
            started(str(test))
        elif kind == "verdict" and test in waiting:
            verdict, message, seconds = str(event["verdict"]), str(event["message"]), float(str(event["seconds"]))
            if verdict not in _VERDICTS or not 0 <= seconds < 1e6:
                raise ValueError(_("no verdict: {event}").format(event=json.dumps(event)[:200]))
            del waiting[str(test)]
            running.clear()
            checked(Checked(str(test), verdict, shortened(escaped(message), _MESSAGE), seconds))
        elif kind == "finished":
            finished.append(int(str(event["exitstatus"])))

    with (
        job([], list(tests)) as folder,
        box.ran(suite.spec(folder, submission=submission, hidden=hidden), receive) as outcome,
    ):
        during = running[0] if running else None
        if outcome.killed_outside:
            return Ended(False, during, _("the sandbox was killed from outside"), outside=True)
        if outcome.breach is not None:
            limit = breach_word(outcome.breach)
            return Ended(False, during, _("the check exceeded the limit on {what}").format(what=limit), breach=True)
        if nonsense:
            return Ended(False, during, escaped(nonsense[0]))
        if finished and not waiting:
            return Ended(True)
        said = shortened((outcome.stderr or outcome.stdout).strip(), 1500)
        return Ended(
            False,
            during,
            _("the check's process ended with exit code {code}: {said}").format(
                code=exit_word(outcome.exit_code), said=said
            ),
        )
