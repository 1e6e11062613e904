"""Attacks on neighbours, alone in a sandbox: each fails, and wins as soon as the wall that it runs against is down."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.suite.grading.test_attacks import PRELUDE, load, student
from tests.suite.grading.test_selftest import ungrouped, without_filter, writable_proc
from tests.suite.grading.toy_class import HONEST
from trtverify.grading.sandbox import box, control_groups, seccomp_filter
from trtverify.grading.sandbox.launch import Spec
from trtverify.grading.sandbox.limits import Limits

pytestmark = pytest.mark.usefixtures("nothing_left")
ATTACKS = load("neighbours")
QUICK = {"be-nice", "change-its-autogroup", "begin-a-session-where-each-has-a-processor's-share"}


def sessions_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = seccomp_filter.program
    monkeypatch.setattr(seccomp_filter, "program", lambda **_: program(sessions=True))


def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    ungrouped(monkeypatch)
    monkeypatch.setattr(control_groups, "bounded", lambda limits: limits)
    prlimit = Limits.prlimit
    monkeypatch.setattr(
        Limits, "prlimit", lambda self: [word for word in prlimit(self) if not word.startswith("--nproc")]
    )


TAKEN_DOWN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "seccomp": without_filter,
    "proc": writable_proc,
    "groups": ungrouped,
    "sessions": sessions_allowed,
    "tasks": many_tasks,
}


def wins(attack: dict[str, Any]) -> bool:
    """Whether the attack reaches its aim in a sandbox as it is now."""
    script = PRELUDE.format(bait=json.dumps({"pid": os.getpid()}), answer=json.dumps(HONEST)) + attack["script"]
    limits = Limits(wall_seconds=60, memory_bytes=attack.get("memory", 700_000_000), processes=100)
    with box.ran(Spec([sys.executable, "-I", "-c", script], limits=limits)) as outcome:
        try:
            os.stat("answer.json", dir_fd=outcome.work)
        except FileNotFoundError:
            return False
        return outcome.breach is None


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=student(attack), marks=[] if student(attack) in QUICK else [pytest.mark.slow])
        for attack in ATTACKS
    ],
)
def test_it_wins_only_without_its_wall(monkeypatch: pytest.MonkeyPatch, attack: dict[str, Any]) -> None:
    if attack.get("ungrouped"):
        ungrouped(monkeypatch)
    if attack["wall"] == "groups" and control_groups.missing():
        pytest.skip("no control groups on this machine")
    assert not wins(attack)
    TAKEN_DOWN[attack["wall"]](monkeypatch)
    assert wins(attack), "without a control, that it failed says nothing"


@pytest.mark.slow
def test_a_neighbour_cannot_take_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    if control_groups.missing():
        pytest.skip("no control groups on this machine")
    grouped = slowed()
    ungrouped(monkeypatch)
    sessions_allowed(monkeypatch)
    assert slowed() > 3 * grouped


def slowed() -> float:
    """Seconds that a second of work takes beside sixty busy sessions."""
    import threading

    busy = "import os\nfor _ in range(60):\n    if os.fork() == 0: os.setsid(); break\nwhile True: pass"
    limits = Limits(wall_seconds=30, memory_bytes=700_000_000, processes=100)

    def disturb() -> None:
        with box.ran(Spec([sys.executable, "-I", "-S", "-c", busy], limits=limits)):
            pass

    neighbour = threading.Thread(target=disturb)
    neighbour.start()
    work = "import time\nwhile time.process_time() < 1: pass"
    try:
        with box.ran(Spec([sys.executable, "-I", "-S", "-c", work], limits=limits)) as outcome:
            return outcome.seconds
    finally:
        neighbour.join()
