"""`python -m benchmarks.detection N`: how often seeded wrong work is found, and right work refused, over N runs."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from fixtures.device import machine

ROOT = Path(__file__).resolve().parent.parent
WRONG = (
    "tests/suite/test_wrong_submissions.py",
    "tests/suite/test_wrong_calibration.py",
    "tests/suite/test_wrong_qat.py",
)
RIGHT = "tests/suite/test_right_variants.py"
OUT = ROOT / "docs" / "results"


def one_round() -> dict[tuple[str, str], bool]:
    """Run every case once, each with a seed of its own: by kind and name, whether the suite answered rightly."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-k", "wrong_work or right_work", f"--junitxml={report}"]
        subprocess.run([*command, *WRONG, RIGHT], cwd=ROOT, capture_output=True, check=False)
        # Our own pytest wrote it a moment ago.
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return {
            ("right" if "right_variants" in case.get("classname", "") else "wrong", name(case)): all(
                child.tag not in ("failure", "error") for child in case
            )
            for case in cases
        }


def name(case: ElementTree.Element) -> str:
    """The case as its test is parametrized."""
    return case.get("name", "").partition("[")[2].rstrip("]") or case.get("name", "")


def main() -> None:
    """Run, and write a table and the counts behind it."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    good: Counter[tuple[str, str]] = Counter()
    for number in range(rounds):
        for case, answered in one_round().items():
            good[case] += answered
        print(
            f"{number + 1} of {rounds}: {sum(good.values())} of {(number + 1) * len(good)} answered rightly", flush=True
        )
    wrong = {case: count for (kind, case), count in sorted(good.items()) if kind == "wrong"}
    right = {case: count for (kind, case), count in sorted(good.items()) if kind == "right"}
    found, refused = sum(wrong.values()), rounds * len(right) - sum(right.values())
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    here = machine().describe()
    lines = [
        "# What the suite can tell",
        "",
        f"Seeded wrong work, and right work made differently, handed in {rounds} times each with a",
        f"fresh seed; ONNX Runtime, {here}, {today}. Made with `python -m benchmarks.detection {rounds}`.",
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
    (OUT / f"{today}-detection.md").write_text("\n".join(lines), encoding="utf-8")
    counts = {"date": today, "machine": here, "rounds": rounds, "found": wrong, "passed": right}
    (OUT / f"{today}-detection.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
