"""Two workers, each judging one case after another; one that takes too long is ended and begun again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mutants.case import Case
from benchmarks.mutants.verify import ROOT

RECYCLED = 150
"""Cases after which a worker is begun anew: what libraries keep of each adds up."""


class Worker:
    """One process, and the thread that reads its answers with a time limit."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="worker-", dir=job["work"]))
        environment = {**os.environ, "LANGUAGE": "en", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self._errors = (self._place / "stderr").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutants.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.judged = 0
        self._send({**job, "place": str(self._place)})

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def judge(self, case: Case, seeds: Sequence[int], limit: float) -> list[dict[str, Any]]:
        """The verdicts on a case.

        Raises:
            TimeoutError: it took longer than `limit` seconds.
            RuntimeError: the worker ended; says with what last words.
        """
        self.judged += 1
        try:
            self._send({"base": case.base, "name": case.name, "seeds": list(seeds)})
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError(f"{case.key}: no verdict in {limit:.0f} s") from None
        except BrokenPipeError:
            line = ""
        if not line:
            last = (self._place / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"{case.key}: {last[-1] if last else 'the worker ended'}")
        found: list[dict[str, Any]] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process and all that it started, and remove what it kept."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self._place, ignore_errors=True)


def judge_all(
    cases: Iterable[tuple[Case, Sequence[int]]],
    job: dict[str, Any],
    workers: int,
    limit: float,
    tell: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Judge every case, `workers` at once; `tell` is called with the verdicts of each as they come.

    A case that takes too long, or ends its worker, is told as one whose verdict is `broke`.
    """
    waiting, lock = iter(cases), threading.Lock()

    def work() -> None:
        worker: Worker | None = None
        while True:
            with lock:
                case, seeds = next(waiting, (None, ()))
            if case is None:
                break
            if worker is None or worker.judged >= RECYCLED:
                if worker is not None:
                    worker.close()
                worker = Worker(job)
            try:
                found = worker.judge(case, seeds, limit * len(seeds))
            except (TimeoutError, RuntimeError) as error:
                worker.close()
                worker = None
                found = [broken(case, seed, str(error), job) for seed in seeds]
            with lock:
                tell(found)
        if worker is not None:
            worker.close()

    threads = [threading.Thread(target=work) for _number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def broken(case: Case, seed: int, why: str, job: dict[str, Any]) -> dict[str, Any]:
    """The line of a case that nothing came of."""
    work = "right" if case.expected is None else "wrong"
    line = {"key": case.key, "base": case.base, "kind": case.kind, "name": case.name, "seed": seed, "work": work}
    return line | {
        "backends": " ".join(job["backends"]),
        "why": why,
        "answer": "broke",
        "failed": {},
        "passed": 0,
        "seconds": 0.0,
    }
