"""Two engines measured in turn, as the suite's speedups are: shared by the benchmarks that compare engines."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from trtverify.fixtures import backends
from trtverify.fixtures.answers.accuracy import opened
from trtverify.fixtures.backends.base import Backend
from trtverify.fixtures.devices.device import machine
from trtverify.fixtures.measuring.latency import interleave, rounds_for, speedup, warm_up
from trtverify.fixtures.measuring.steady import measure
from trtverify.fixtures.words.terms import Engine

SECONDS, MOST_ROUNDS = 5.0, 500


def paired(
    backend: Backend, slow: Engine, fast: Engine, feed: dict[str, npt.NDArray[np.float32]], name: str
) -> dict[str, Any]:
    """Latencies in milliseconds, raw samples of both, and how many times as fast the second is.

    Args:
        feed: what both are given, arrays as the engines were built for.
        name: what the first is called in the row.
    """
    with opened(backend, slow, fast) as (first, second):
        for runner in (first, second):
            runner.prepare(feed)
            warm_up(runner, on_gpu=backend.on_gpu)
        rounds = rounds_for(2 * (first.enqueue() + second.enqueue()), SECONDS, 10, MOST_ROUNDS)
        measured = measure(lambda: interleave(first, second, rounds), on_gpu=backend.on_gpu)
    ratio = speedup(measured.samples[0], measured.samples[1])
    return {
        "latency_ms": measured.samples[1].median * 1e3,
        f"speedup_over_{name}": [ratio.value, ratio.low, ratio.high],
        "doubt": None if measured.doubt is None else measured.doubt.reason,
        "samples_ms": [round(seconds * 1e3, 5) for seconds in measured.samples[1].seconds],
        f"{name}_samples_ms": [round(seconds * 1e3, 5) for seconds in measured.samples[0].seconds],
    }


def running_backend(name: str) -> Backend:
    """The backend of this name, whose engines run here.

    Raises:
        SystemExit: it is missing, or builds only.
    """
    backend = backends.load(name)
    for reason in (backend.availability(), backend.runnable()):
        if reason is not None:
            raise SystemExit(f"{name}: {reason}")
    return backend


def where(backend: Backend) -> dict[str, Any]:
    """On what a report's figures were taken, and when."""
    return {
        "device": backend.device(),
        "machine": machine().describe(),
        "software": backend.version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
