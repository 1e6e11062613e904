"""When a measurement is believed, and how often it is taken again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest

from trtverify.fixtures.devices.device import Process, Snapshot
from trtverify.fixtures.measuring import steady
from trtverify.fixtures.measuring.latency import Samples, interleave
from trtverify.fixtures.measuring.steady import ATTEMPTS, doubt, measure
from trtverify.fixtures.words.verdict import Cause

if TYPE_CHECKING:
    from trtverify.fixtures.backends.base import Runner

CALM = Samples((1.00e-3, 1.01e-3, 0.99e-3, 1.00e-3))
WILD = Samples((1.00e-3, 1.85e-3, 0.99e-3, 1.00e-3))
QUIET = Snapshot(0.0, throttle_reasons=(), others=())


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "_PAUSE", 0.0)


class Caching:
    """An engine on a GPU whose cache holds the weights of whichever ran last."""

    last: Caching | None = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def enqueue(self) -> float:
        """One run: slower behind another engine."""
        behind, Caching.last = Caching.last, self
        return self.seconds * (1 if behind is self else 1.1)


def test_each_of_a_pair_is_measured_behind_itself() -> None:
    slow, fast = Caching(2e-3), Caching(1e-3)
    taken = interleave(cast("Runner", slow), cast("Runner", fast), 10)
    assert [set(samples.seconds) for samples in taken] == [{2e-3}, {1e-3}]


@pytest.mark.parametrize(
    ("samples", "after", "cause"),
    [
        (CALM, QUIET, None),
        (CALM, Snapshot(1.0), None),
        (WILD, QUIET, Cause.UNSTABLE),
        (Samples((math.nan, 1e-3)), QUIET, Cause.UNSTABLE),
        (CALM, Snapshot(1.0, throttle_reasons=("power cap",)), Cause.THROTTLED),
        (CALM, Snapshot(1.0, others=(Process(7, "train", None),)), Cause.BUSY),
        (WILD, Snapshot(1.0, throttle_reasons=("power cap",), others=(Process(7, "train", None),)), Cause.BUSY),
    ],
)
def test_what_speaks_against_samples(samples: Samples, after: Snapshot, cause: Cause | None) -> None:
    found = doubt([CALM, samples], QUIET, after)
    assert (None if found is None else found.cause) is cause
    if cause is Cause.BUSY:
        assert "train (7)" in str(found)


def attempts(monkeypatch: pytest.MonkeyPatch, *taken: Samples) -> steady.Measured:
    monkeypatch.setattr(steady, "snapshot", lambda: QUIET)
    left = iter(taken)
    return measure(lambda: (next(left),), on_gpu=True)


def test_a_doubtful_measurement_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attempts(monkeypatch, WILD, CALM)
    assert (found.samples, found.doubt, found.attempts) == ((CALM,), None, 2)


def test_it_is_given_up_after_the_last_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attempts(monkeypatch, *[WILD] * ATTEMPTS)
    assert found.attempts == ATTEMPTS
    assert found.doubt is not None
    assert found.doubt.cause is Cause.UNSTABLE
    assert "30.5%" in found.doubt.reason


def test_on_a_cpu_it_is_taken_once_and_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "snapshot", lambda: pytest.fail("a CPU has no clocks to read"))
    found = measure(lambda: (WILD,), on_gpu=False)
    assert (found.samples, found.doubt, found.attempts) == ((WILD,), None, 1)
