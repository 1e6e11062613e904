"""`python -m benchmarks.mutants`: wrong and right work made systematically, handed to the suite, and tabled by kind."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.mutants import table
from benchmarks.mutants.bases import Bases
from benchmarks.mutants.case import AS_IT_IS, LABS, Case, within
from benchmarks.mutants.catalog import cases
from benchmarks.mutants.pool import judge_all
from benchmarks.mutants.verify import ROOT
from trtverify.fixtures.devices.device import machine


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labs", nargs="+", choices=LABS, default=list(LABS))
    parser.add_argument("--bases", nargs="+", metavar="NAME", help="only work made from these")
    parser.add_argument(
        "--kinds", nargs="+", metavar="WORD", default=[], help="only kinds that hold one of these words"
    )
    parser.add_argument("--only", choices=("wrong", "right"), help="only what is made as wrong, or as right, work")
    parser.add_argument("--share", type=float, default=1.0, help="a fixed part of all cases, such as 0.1")
    parser.add_argument("--each", type=int, help="at most so many of each base and kind, always the same ones")
    parser.add_argument("--seeds", type=int, default=1, help="how often each is handed in, with another seed each time")
    parser.add_argument("--backends", nargs="+", default=["onnxruntime"])
    parser.add_argument("--trained", type=Path, help="resnet50.onnx, mobilenet_v2.onnx and yolov8n.onnx, trained")
    parser.add_argument("--photos", type=Path, help="photographs for the suite; without, those that it bundles")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 for the suite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=240, help="seconds for one case under one seed")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mutants", help="for what is made")
    parser.add_argument("--results", type=Path, help="the verdicts, a line each; what it holds is not judged again")
    parser.add_argument("--out", type=Path, help="write the table there, and the counts as JSON")
    parser.add_argument("--findings", type=Path, help="write there what is answered wrongly, by kind")
    parser.add_argument(
        "--count", action="store_true", help="say how many cases there are of each kind, and judge none"
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace, bases: Bases) -> list[Case]:
    """The cases asked for; each base as it is comes first, so that what the suite keeps of it is kept."""
    found = []
    for base in options.bases or bases.names():
        if base.partition("-")[0] not in options.labs:
            continue
        for case in cases(bases, base):
            if case.name == AS_IT_IS:
                found.append(case)
                continue
            asked = not options.kinds or any(word in case.kind for word in options.kinds)
            side = options.only is None or (options.only == "right") == (case.expected is None)
            if asked and side and within(case, options.share):
                found.append(case)
    if options.each is None:
        return found
    number: Counter[tuple[str, str]] = Counter()
    few = []
    for case in sorted(found, key=Case.number):
        number[case.base, case.kind] += 1
        if number[case.base, case.kind] <= options.each:
            few.append(case)
    return few


def main() -> int:
    """Judge, and write the table."""
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    bases = Bases(ROOT / ".cache" / "verify", options.work / "bases", options.trained)
    wanted = chosen(options, bases)
    if options.count:
        count(wanted)
        return 0
    results = options.results or options.work / "results.jsonl"
    backends = " ".join(options.backends)
    known = read(results)
    done = {(line["key"], line["seed"]) for line in known if line["backends"] == backends}
    given = [("--photos", options.photos), ("--cifar10", options.cifar10)]
    job = {
        "cache": str(bases.cache),
        "bases": str(bases.root),
        "work": str(options.work),
        "warm": str(options.work / "warm"),
        "warming": False,
        "trained": str(options.trained) if options.trained else "",
        "backends": options.backends,
        "options": [f"{name}={path.resolve()}" for name, path in given if path is not None],
    }
    # In an order that has nothing to do with what they are: what is done is a fair sample at any time.
    todo, first = [], []
    for case in sorted(wanted, key=Case.number):
        seeds = [case.number() % 100_000 + number for number in range(options.seeds)]
        left = [seed for seed in seeds if (case.key, seed) not in done]
        if case.name == AS_IT_IS:
            first.append((case, left or seeds[:1]))
        elif left:
            todo.append((case, left))
    begun, lines = time.monotonic(), list(known)
    with results.open("a", encoding="utf-8") as file:

        def tell(found: list[dict[str, Any]]) -> None:
            for line in found:
                file.write(json.dumps(line) + "\n")
            file.flush()
            lines.extend(found)
            rate = (len(lines) - len(known)) / (time.monotonic() - begun)
            last, done_now = found[0], len(lines) - len(known)
            print(f"{done_now} of {len(first) + len(todo)} ({rate:.2f}/s) {last['work']} {last['answer']:8} "
                  f"{last['seconds']:6.1f} s  {last['key']}", flush=True)  # fmt: skip

        (options.work / "warm").mkdir(exist_ok=True)
        judge_all(first, {**job, "warming": True}, 1, 600, tell)
        judge_all(todo, job, options.workers, options.limit, tell)
    keys = {case.key for case in wanted}
    lines = list({(line["key"], line["seed"]): line for line in lines}.values())
    lines = [line for line in lines if line["key"] in keys and line["backends"] == backends]
    text = table.markdown(lines, described(options, backends))
    print(text)
    if options.findings:
        options.findings.write_text(table.findings(lines), encoding="utf-8")
    if options.out:
        write(options.out, text, lines)
    counts = table.summary(lines)
    return 0 if counts["found"] == counts["wrong"] and not counts["refused"] and not counts["broke"] else 1


def count(wanted: list[Case]) -> None:
    """Print how many cases there are of each kind."""
    kinds: dict[str, int] = {}
    for case in wanted:
        label = f"{'right' if case.expected is None else 'wrong'} · {case.base} · {case.kind}"
        kinds[label] = kinds.get(label, 0) + 1
    for label, number in sorted(kinds.items()):
        print(f"{number:6} {label}")
    wrong = sum(case.expected is not None for case in wanted)
    print(f"{wrong} made as wrong work, {len(wanted) - wrong} as right work")


def read(results: Path) -> list[dict[str, Any]]:
    """The verdicts of earlier runs."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def described(options: argparse.Namespace, backends: str) -> str:
    """How the table was made."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    what = "all cases" if options.share >= 1 else f"a fixed {options.share:.0%} of all cases"
    return (
        f"{what.capitalize()} of {', '.join(options.labs)}, {options.seeds} seed(s), on {backends}; "
        f"{machine().cpu}, {machine().cores} cores, {today}. Trained networks: {'yes' if options.trained else 'no'}."
    )


def write(out: Path, text: str, lines: list[dict[str, Any]]) -> None:
    """The table and the counts behind it."""
    out.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    (out / f"{today}-mutants.md").write_text(text, encoding="utf-8")
    kinds = {work: {kind: dict(found) for kind, found in kinds.items()} for work, kinds in table.rows(lines).items()}
    counts = {"date": today, **table.summary(lines), "kinds": kinds}
    (out / f"{today}-mutants.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
