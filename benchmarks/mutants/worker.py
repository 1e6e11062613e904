"""`python -m benchmarks.mutants.worker`: judges what it is told, a line of JSON each, until its input ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.mutants import files
from benchmarks.mutants.bases import Bases
from benchmarks.mutants.case import Case
from benchmarks.mutants.catalog import cases
from benchmarks.mutants.judge import Judge


def main() -> None:
    """Read a job from the first line, then a case from each line after it; write its verdicts."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no answer
        job = json.loads(sys.stdin.readline())
        trained = Path(job["trained"]) if job["trained"] else None
        bases = Bases(Path(job["cache"]), Path(job["bases"]), trained)
        judge = Judge(bases, Path(job["place"]), cache_of(job), job["backends"], job["options"])
        known: dict[str, dict[str, Case]] = {}
        for line in sys.stdin:
            wanted = json.loads(line)
            base = wanted["base"]
            if base not in known:
                known[base] = {case.name: case for case in cases(bases, base)}
            verdicts = judge.judge(known[base][wanted["name"]], wanted["seeds"])
            answers.write(json.dumps([verdict.plain() for verdict in verdicts]) + "\n")
            answers.flush()


def cache_of(job: dict[str, Any]) -> Path:
    """The suite's cache: the warm one while it is being filled, else one that shares what is in it."""
    warm, cache = Path(job["warm"]), Path(job["place"]) / "cache"
    if job["warming"]:
        return warm
    files.share(warm, cache)
    return cache


if __name__ == "__main__":
    main()
