"""One case from beginning to end: made, proved, handed in, and whether the suite's verdict was the right one."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.mutants import files, proof
from benchmarks.mutants.bases import Bases
from benchmarks.mutants.case import AS_IT_IS, EITHER, RIGHT, UNMADE, WRONG, Case
from benchmarks.mutants.verify import Outcome, verify


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of one case under one seed.

    Attributes:
        work: what it is; why: how that is known.
        answer: for wrong work `named`, `found` or `passed`; for other work `passed` or `refused`; `broke` for either.
        failed: the tests that failed, and what they said.
    """

    key: str
    base: str
    kind: str
    name: str
    seed: int
    backends: str
    work: str
    why: str
    answer: str
    failed: dict[str, str]
    passed: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """As a line of results holds it."""
        return dataclasses.asdict(self)


class Judge:
    """Judges case after case in one process; what the suite keeps of a case goes with it."""

    def __init__(self, bases: Bases, place: Path, cache: Path, backends: Sequence[str], options: Sequence[str]) -> None:
        self._bases = bases
        self._place = place
        self._cache = cache
        self._backends = backends
        self._options = tuple(options)
        self._kept = self._present()

    def judge(self, case: Case, seeds: Sequence[int]) -> list[Verdict]:
        """The verdicts under each seed."""
        begun = time.monotonic()
        base = self._bases.folder(case.base)
        before = _stamps(base)
        # A new name each time: the suite keeps what it read by a file's path, size and time.
        folder = self._place / f"{case.number():08x}-{time.monotonic_ns()}"
        try:
            files.share(base, folder)
            work, why, case = self._make(case, base, folder)
            if work == UNMADE:
                return [self._verdict(case, seed, work, why, "", None, time.monotonic() - begun) for seed in seeds]
            found = []
            for seed in seeds:
                begun = time.monotonic()
                options = (*self._options, *(option.format(folder=folder) for option in case.options))
                outcome = verify(folder, case.lab, self._cache, self._backends, seed, options, engines=case.engines)
                answer = answered(case, work, outcome)
                found.append(self._verdict(case, seed, work, why, answer, outcome, time.monotonic() - begun))
            return found
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._sweep(case)
            if _stamps(base) != before:
                raise RuntimeError(f"{case.key} wrote into its base, which all others share")

    def _make(self, case: Case, base: Path, folder: Path) -> tuple[str, str, Case]:
        try:
            case.make(folder)
        except (NotImplementedError, StopIteration, KeyError) as error:
            return UNMADE, str(error), case
        why = case.why
        if case.file and (folder / case.file).is_file() and (base / case.file).is_file():
            label, measured = proof.compare(base / case.file, folder / case.file).label("qat" in case.file)
            if case.same:
                return (UNMADE, measured, case) if label == "wrong" else (RIGHT, f"{why}; {measured}", case)
            if label != "wrong":
                return RIGHT, measured, dataclasses.replace(case, kind=f"mutants that are {label}")
            why = f"{why}; {measured}"
        if case.expected is None:
            return RIGHT, why, case
        if case.rule is not None:
            work, told = case.rule(base, folder)
            if work != WRONG:
                return work, told, dataclasses.replace(case, kind=f"mutants that are allowed: {case.kind}")
            why = f"{why}: {told}"
        return WRONG, why, case

    def _verdict(
        self, case: Case, seed: int, work: str, why: str, answer: str, outcome: Outcome | None, seconds: float
    ) -> Verdict:
        failed, passed = ({}, 0) if outcome is None else (outcome.failed, outcome.passed)
        backends = " ".join(self._backends)
        return Verdict(
            case.key,
            case.base,
            case.kind,
            case.name,
            seed,
            backends,
            work,
            why,
            answer,
            failed,
            passed,
            round(seconds, 2),
        )

    def _sweep(self, case: Case) -> None:
        """Throw away what the suite kept of this case; what it keeps of the base as it is stays."""
        if case.name == AS_IT_IS:
            self._kept |= self._present()
            return
        for path in self._present() - self._kept:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _present(self) -> set[Path]:
        return {path for room in ("engines", "quantized") for path in (self._cache / room).glob("*")}


def answered(case: Case, work: str, outcome: Outcome) -> str:
    """Whether the suite's verdict was the right one."""
    if outcome.broke:
        return "broke"
    if work in (RIGHT, EITHER):
        return "refused" if outcome.failed else "passed"
    if not outcome.failed:
        return "passed"
    assert case.expected is not None
    named = any(
        re.search(case.expected.tests, test) and re.search(case.expected.words, message, re.IGNORECASE)
        for test, message in outcome.failed.items()
    )
    return "named" if named else "found"


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()]
