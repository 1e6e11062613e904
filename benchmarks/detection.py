"""`python -m benchmarks.detection`: how often seeded wrong work is found, and right work refused."""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from trtverify.fixtures.devices.device import machine

ROOT = Path(__file__).resolve().parent.parent
WRONG = {
    "lab1": "tests/suite/claims/test_wrong_submissions.py",
    "lab2": "tests/suite/claims/test_wrong_submissions.py",
    "lab3": "tests/suite/claims/test_wrong_submissions.py",
    "lab4": "tests/suite/claims/test_wrong_calibration.py",
    "lab5": "tests/suite/claims/test_wrong_qat.py",
}
RIGHT = "tests/suite/claims/test_right_variants.py"
OUT = ROOT / "docs" / "results"


def one_round(labs: list[str]) -> dict[tuple[str, str], bool]:
    """Run every case once, each with a seed of its own: by kind and name, whether the suite answered rightly.

    What was skipped, for want of a package, answers nothing and is left out.
    """
    files = [*dict.fromkeys(WRONG[lab] for lab in labs), RIGHT]
    right = " or ".join(f"(right_work and {lab})" for lab in labs)
    with tempfile.TemporaryDirectory() as folder:
        report, kept = Path(folder) / "junit.xml", Path(folder) / "kept"
        command = [sys.executable, "-m", "pytest", "-q", "-k", f"wrong_work or {right}", f"--junitxml={report}"]
        done = subprocess.run(
            [*command, f"--basetemp={kept}", *files], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            raise SystemExit(f"pytest ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-1000:]}")
        # Our own pytest wrote it a moment ago.
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return {
            ("right" if "right_variants" in case.get("classname", "") else "wrong", name(case)): all(
                child.tag not in ("failure", "error") for child in case
            )
            for case in cases
            if case.find("skipped") is None
        }


def name(case: ElementTree.Element) -> str:
    """The case as its test is parametrized."""
    return case.get("name", "").partition("[")[2].rstrip("]") or case.get("name", "")


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each case is handed in (20)")
    parser.add_argument("--labs", nargs="+", choices=tuple(WRONG), default=list(WRONG))
    parser.add_argument("--out", type=Path, default=OUT, help="where the table goes, and the counts as JSON")
    return parser.parse_args()


def main() -> None:
    """Run, and write a table and the counts behind it."""
    options = parse()
    rounds, labs = options.rounds, options.labs
    good: Counter[tuple[str, str]] = Counter()
    # No verdict here depends on time, so rounds may run side by side.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, found_rightly in enumerate(pool.map(one_round, [labs] * rounds), 1):
            for case, answered in found_rightly.items():
                good[case] += answered
            print(f"{number} of {rounds}: {sum(good.values())} of {number * len(good)} answered rightly", flush=True)
    wrong = {case: count for (kind, case), count in sorted(good.items()) if kind == "wrong"}
    right = {case: count for (kind, case), count in sorted(good.items()) if kind == "right"}
    found, refused = sum(wrong.values()), rounds * len(right) - sum(right.values())
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    here = f"{machine().cpu}, {machine().cores} cores"
    lines = [
        "# What the suite can tell",
        "",
        f"Seeded wrong work for {', '.join(labs)}, and right work made differently, handed in {rounds} times each",
        f"with a fresh seed; ONNX Runtime, {here}, {today}.",
        f"Made with `python -m benchmarks.detection --rounds {rounds} --labs {' '.join(labs)}`.",
        "",
        f"Found: {found} of {rounds * len(wrong)} wrong submissions ({found / (rounds * len(wrong)):.1%}), each by the",
        f"test that looks for its fault. Refused: {refused} of {rounds * len(right)} right ones",
        f"({refused / (rounds * len(right)):.1%}).",
        "",
        "| wrong work | found |",
        "|---|---|",
        *(f"| {case.replace('-', ' ')} | {count} of {rounds} |" for case, count in wrong.items()),
        "",
        "| right work made differently | passed |",
        "|---|---|",
        *(f"| {case.replace('-', ' ')} | {count} of {rounds} |" for case, count in right.items()),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{today}-detection.md").write_text("\n".join(lines), encoding="utf-8")
    counts = {"date": today, "machine": here, "rounds": rounds, "found": wrong, "passed": right}
    (options.out / f"{today}-detection.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
