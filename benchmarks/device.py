"""`python -m benchmarks.device SUBMISSION --out DIR`: all that is to be known of a GPU, lab by lab, in one go.

Each lab is verified twice, the second time with its engines kept, and its speedups are then judged ten times more on
those engines. Every step is written as it ends, so what an interruption leaves is whole. Where a host has several GPUs
of one kind, a lab's precisions can be built side by side first: `--build-on 0 1 2 3`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LABS = ("lab1", "lab4", "lab3", "lab2", "lab5")
REPEATS = 10
PRECISIONS = ("fp32", "tf32", "fp16", "int8")


def parse() -> argparse.Namespace:
    """The options; what is not known here is handed to pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path, help="what the labs wrote, exported with --batch dynamic")
    parser.add_argument("--out", type=Path, required=True, help="for reports, evidence, logs and measured.json")
    parser.add_argument("--labs", nargs="+", choices=LABS, default=LABS)
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--build-on", nargs="+", default=(), metavar="GPU", help="build there first, as CUDA counts them"
    )
    options, more = parser.parse_known_args()
    options.more = more
    return options


def suite(options: argparse.Namespace, lab: str) -> list[str]:
    """The command that verifies a lab."""
    command = [sys.executable, "-m", "pytest", "-m", lab, "--backend", options.backend, "--batches", "both"]
    return [*command, f"--submission={options.submission.resolve()}", *options.more]


def build_ahead(options: argparse.Namespace, lab: str) -> dict[str, Any]:
    """Build a lab's engines, each GPU its share of the precisions one after the other; the cache keeps them."""
    begun = time.perf_counter()
    building = []
    for number, gpu in enumerate(options.build_on):
        share = " or ".join(PRECISIONS[number :: len(options.build_on)])
        if share:
            command = [*suite(options, lab), "-q", "-k", f"test_engine_builds and ({share})"]
            with (options.out / f"{lab}-built-on-{gpu}.txt").open("wb") as log:
                environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
                building.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment))
    status = max(process.wait() for process in building)
    return {"lab": lab, "run": "built", "status": status, "wall_seconds": round(time.perf_counter() - begun, 1)}


def verify(options: argparse.Namespace, lab: str, name: str, *more: str) -> dict[str, Any]:
    """Run the suite once on a lab: its report in a folder of this name, and what is to be kept of it."""
    folder: Path = options.out / lab / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [*suite(options, lab), f"--report={folder.resolve()}", *more]
    begun = time.perf_counter()
    with (folder / "log.txt").open("wb") as log:
        status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    wall = time.perf_counter() - begun
    found: dict[str, Any] = {"lab": lab, "run": name, "status": status, "wall_seconds": round(wall, 1)}
    if (folder / "run.json").is_file():
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        found["verdicts"] = dict(Counter(row["verdict"] for row in run["verdicts"]))
        found["seconds"] = {kind: round(seconds, 2) for kind, seconds in run["seconds"].items()}
        found["speedups"] = [
            {
                key: row[key]
                for key in ("model", "precision", "over", "ratio", "low", "high", "band", "verdict", "doubt")
            }
            for row in run["speedups"]
        ]
    return found


def steady(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Of each pair that was judged, the different verdicts that it got."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for pair in row.get("speedups", ()):
            found.setdefault(f"{pair['model']} {pair['precision']} over {pair['over']}", set()).add(pair["verdict"])
    return {pair: sorted(verdicts) for pair, verdicts in found.items()}


def main() -> None:
    """Measure, and write measured.json after every step."""
    options = parse()
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        again = [kept for kept in rows if kept["run"].startswith("again")]
        report = {"runs": rows, "verdicts_of_repeated_speedups": steady(again)}
        (options.out / "measured.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print({key: value for key, value in row.items() if key != "speedups"}, flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    for lab in options.labs:
        if options.build_on:
            keep(build_ahead(options, lab))
        first = verify(options, lab, "first", f"--evidence={(options.out / lab / 'evidence.zip').resolve()}")
        keep(first)
        keep(verify(options, lab, "kept"))
        for number in range(options.repeats if first.get("speedups") else 0):
            keep(verify(options, lab, f"again{number}", "-k", "test_speedup"))


if __name__ == "__main__":
    main()
