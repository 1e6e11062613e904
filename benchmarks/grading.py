"""`make bench`: what grading costs beside the checks themselves. Every figure is a ratio or difference of one run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trtverify.grading import rubric, suite
from trtverify.grading.sandbox import box
from trtverify.grading.sandbox.launch import Spec
from trtverify.grading.session import Session, Settings

ROOT = Path(__file__).resolve().parent.parent
TOY = ROOT / "tests" / "suite" / "grading" / "toy"  # small checks, which hide no cost of the grader's
LABS = ("lab1", "lab4")
ROUNDS = 7
WAIT_SECONDS = 20


@dataclasses.dataclass
class Bench:
    """A scratch folder, and how many classes were graded in it."""

    scratch: Path
    classes: int = 0

    def graded(self, contents: list[str], scheduler: str | None = None) -> float:
        """Seconds to grade a class, whose submissions are the same where their content is; one worker here.

        On a cluster less those of a second run, which finds nothing to do: every run first proves the walls.
        """
        self.classes += 1
        folder = self.scratch / f"class{self.classes}"
        for number, content in enumerate(contents):
            submission = folder / f"s{number:04}"
            submission.mkdir(parents=True)
            submit(submission, content)
        settings = Settings(str(folder), str(TOY), LABS, str(rubric.DEFAULT))
        session = Session.begun(self.scratch / f"results{self.classes}", settings)
        with contextlib.closing(session.store) as store:
            seconds = timed(lambda: session.run(1, scheduler))
            if missing := store.pending():
                raise SystemExit(f"{len(missing)} checks were not graded")
            return seconds if scheduler is None else seconds - timed(lambda: session.run(1, scheduler))

    def bare(self) -> Callable[[], object]:
        """The same tests in a pytest process of their own, with neither sandbox nor grader."""
        submission = self.scratch / "bare"
        submission.mkdir(exist_ok=True)
        submit(submission, "bare fine")
        frozen = suite.freeze(TOY, None, self.scratch / "suite")[0]
        tests = suite.Suite(frozen, "")
        (self.scratch / "job.json").write_text(json.dumps({"labs": LABS, "tests": None}))
        spec = tests.spec(self.scratch, submission=submission)
        places = {**{folder: str(path) for path, folder in spec.read_only.items()}, "/sandbox/work": str(self.scratch)}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.scratch), **spec.environment}

        def outside(word: str) -> str:
            for place, path in places.items():
                word = re.sub(rf"(?<!\w){place}(?![\w.])", path, word)
            return word.replace(box.CHANNEL, "2")

        command = [outside(word) for word in spec.command]
        environment = {name: outside(value) for name, value in environment.items()}
        return lambda: subprocess.run(command, env=environment, capture_output=True, check=True)


def submit(folder: Path, content: str) -> None:
    """Hand in right answers; `content` is a word that tells kinds apart, and what its fragile parser gets."""
    kind, _, parsed = content.partition(" ")
    answer = {"answer": 42, "times2": 84, "times3": 126, "bonus": 1, "kind": kind}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    (folder / "parsed.txt").write_text(parsed, encoding="utf-8")


def kinds(count: int, kinds: int, parsed: str = "fine") -> list[str]:
    """A class of `count`, of so many kinds."""
    return [f"{number % kinds} {parsed}" for number in range(count)]


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def overhead(bench: Bench) -> tuple[float, float]:
    """Seconds of a bare check and of a graded submission.

    The least of rounds that take turns: other load on the machine only adds.
    """
    bare = bench.bare()
    bare()
    alone, one, five = [], [], []
    for _round in range(ROUNDS):
        alone.append(sum(timed(bare) for _ in range(4)))
        one.append(bench.graded(kinds(1, 1)))
        five.append(bench.graded(kinds(5, 5)))
    # Without what is paid once a class, such as the start of the worker.
    return min(alone) / 4, (min(five) - min(one)) / 4


def start() -> float:
    """Seconds that a sandbox takes longer than a bare process: the median of pairs, in the quietest of rounds."""

    def boxed() -> None:
        with box.ran(Spec(["/usr/bin/true"])):
            pass

    def bare() -> None:
        subprocess.run(["/usr/bin/true"], check=True)

    return min(statistics.median(timed(boxed) - timed(bare) for _ in range(30)) for _ in range(ROUNDS))


@contextlib.contextmanager
def cluster(workers: int, scratch: Path) -> Iterator[str]:
    """The address of a cluster of processes on this machine."""
    import distributed

    with distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        local_directory=str(scratch),
        memory_limit=0,
    ) as local:
        yield str(local.scheduler_address)


def waiting(bench: Bench) -> float:
    """How many times more submissions 8 workers grade in the time of one, where checks wait as a Jetson does."""
    each = []
    for workers in (1, 8):
        with cluster(workers, bench.scratch) as address:
            bench.graded(kinds(workers, workers), address)  # fetches the tests
            each.append(bench.graded(kinds(3 * workers, 3 * workers, f"sleep {WAIT_SECONDS}"), address) / (3 * workers))
    return each[0] / each[1]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        bench = Bench(scratch)
        print(f"sandbox over a bare process:     {start() * 1e3:.1f} ms  (goal: at most 30)", flush=True)
        alone, graded = overhead(bench)
        print(
            f"graded / bare check of {alone * 1e3:.0f} ms:   {graded / alone - 1:+.1%}, {(graded - alone) * 1e3:.0f} ms"
            "  (goal: at most +10 %)",
            flush=True,
        )
        duplicates = bench.graded(kinds(200, 10))
        print(f"fresh pytests / 200 of 10 kinds: {200 * alone / duplicates:.1f}×  (goal: at least 5)", flush=True)
        base = bench.graded(kinds(1, 1))
        few, many = ((bench.graded(kinds(count + 1, 1)) - base) / count for count in (50, 800))
        print(f"each of 800 / each of 50:        {many / few:.2f} of {few * 1e3:.1f} ms  (goal: flat)", flush=True)
        print(f"8 Dask workers / 1, {WAIT_SECONDS} s waits:   {waiting(bench):.1f}×  (goal: at least 7)")


if __name__ == "__main__":
    if sys.platform != "linux":
        raise SystemExit("grading needs Linux")
    main()
