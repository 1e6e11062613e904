"""`make rehearsal`: a class of hundreds graded twice, whole and without its hostile students; who gets what else?"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rehearsal import conduct, hostile, platforms, table
from benchmarks.rehearsal.compare import Difference, Named, differences
from benchmarks.rehearsal.people import PLATFORMS, Person, everybody
from benchmarks.rehearsal.work import CHECKS, ROOT, SECRET
from trtverify.fixtures.devices.device import machine
from trtverify.grading.sandbox.launch import python_roots

_NOTE = 300


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__)
    parser.add_argument("--students", type=int, default=500, help="in all (500)")
    parser.add_argument("--hostile", type=int, default=25, help="how many of them are hostile (25)")
    parser.add_argument("--kills", type=int, default=3, help="how often the grader is killed (3)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--checks", choices=tuple(CHECKS), default="lab3", help="toy: checks that take no time")
    parser.add_argument(
        "--kinds", nargs="+", metavar="WORD", default=[""], help="hostile only in ways that hold one of these words"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "rehearsal", help="for classes and results")
    parser.add_argument("--out", type=Path, help="write the report there, as Markdown and JSON")
    options = parser.parse_args()
    if not 0 <= options.hostile < options.students:
        parser.error("--hostile must be less than --students")
    return options


class Rehearsal:
    """Both classes of each platform on disk."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.checks = CHECKS[options.checks]
        self.folder: Path = options.work.resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        works = self.checks.honest(self.folder / "made")
        draw = random.Random(options.seed)
        kinds = hostile.chosen(options.hostile, options.kinds, draw)
        self.people = everybody(options.students, kinds, list(works), options.seed)
        (self.folder / "hidden").mkdir()
        (self.folder / "hidden" / "test_teacher.py").write_text(self.checks.hidden)
        (self.folder / "rubric.toml").write_text(self.checks.rubric)
        self.sources: dict[int, str] = {}
        for person in self.people:
            self._hand_in(person, works)
        for platform in PLATFORMS:
            every = self.of(platform)
            honest = [person for person in every if person.kind is None]
            if every:
                (self.folder / f"{platform}.csv").write_text(platforms.roster(every), encoding="utf-8")
                platforms.finish(every, self.share(platform, "whole"))
                platforms.finish(honest, self.share(platform, "honest"))

    def of(self, platform: str) -> list[Person]:
        """Its students."""
        return [person for person in self.people if person.platform == platform]

    def share(self, platform: str, which: str) -> Path:
        """Where its submissions lie: of the `whole` class or of the `honest` alone."""
        path = self.folder / f"{platform}-{which}"
        path.mkdir(exist_ok=True)
        return path

    def _hand_in(self, person: Person, works: Any) -> None:
        content = self.folder / "handing-in" / person.login
        content.parent.mkdir(exist_ok=True)
        if person.kind is None:
            shutil.copytree(works[person.work], content, copy_function=os.link)
            # Nobody's work is another's, so that everybody's is checked.
            (content / "notes.txt").write_text(f"{person.name}, by myself\n", encoding="utf-8")
            places = ["whole", "honest"]
        else:
            content.mkdir()
            scratch = content.with_name(f"{person.login}-scratch")
            scratch.mkdir()
            content = person.kind.make(content, hostile.Scene(self.checks, self._bait(person), scratch)) or content
            places = ["whole"]
        for place in places:
            entry = platforms.hand_in(person, content, self.share(person.platform, place), self.checks.lab)
            self.sources[person.number] = entry.name

    def _bait(self, person: Person) -> dict[str, Any]:
        """A neighbour's work, the hidden tests and the results, by their real paths."""
        share = self.share(person.platform, "whole")
        return {
            "neighbour": str(share / "neighbour" / self.checks.document),
            "hidden": str(self.folder / "hidden" / "test_teacher.py"),
            "results": str(self.folder / f"{person.platform}-whole-results" / "results.sqlite"),
            "token": SECRET,
            "port": 9,
            "abstract": "rehearsal",
            "pid": os.getpid(),
            "python": list(python_roots().values()),
        }

    def graded(self, platform: str, which: str) -> conduct.Class:
        """The class as `run` is told of it."""
        words = ["--labs", self.checks.labs, "--rubric", str(self.folder / "rubric.toml")]
        words += ["--hidden-tests", str(self.folder / "hidden"), "--roster", str(self.folder / f"{platform}.csv")]
        words += ["--workers", str(self.options.workers)]
        words += [] if self.checks.suite is None else ["--suite", str(self.checks.suite)]
        words += [f"--pytest-option={option}" for option in self.checks.options]
        return conduct.Class(self.share(platform, which), self.folder / f"{platform}-{which}-results", words)

    def named(self, one: conduct.Class) -> dict[str, str]:
        """Folder or archive → the student whose it is, in these results."""
        found = conduct.rows(one.out, "SELECT source, student FROM students")
        return {Path(os.fsdecode(source)).name: str(student) for source, student in found}  # type: ignore[arg-type]


def rehearse(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; what is to be reported."""
    rehearsal = Rehearsal(options)
    draw = random.Random(options.seed + 1)
    present = [platform for platform in PLATFORMS if rehearsal.of(platform)]
    # The share of the first goes away; the kills begin with the second.
    kills: dict[str, list[float]] = {platform: [] for platform in present}
    for number in range(options.kills):
        kills[present[(number + 1) % len(present)]].append(draw.uniform(0.15, 0.8))
    found: list[dict[str, Any]] = []
    for turn, platform in enumerate(present):
        one = {which: rehearsal.graded(platform, which) for which in ("honest", "whole")}
        told: dict[str, conduct.Told] = {}
        # By turns, so that other load on the machine falls on both.
        for which in ("honest", "whole") if turn % 2 else ("whole", "honest"):
            spoilt = which == "whole"
            told[which] = conduct.graded(
                one[which], sorted(kills[platform]) if spoilt else (), 0.3 if spoilt and turn == 0 else None
            )
            print(f"{platform}, {which}: {dataclasses.asdict(told[which])}", flush=True)
        statuses = [conduct.exported(one[which]) for which in ("honest", "whole")]
        apart, renamed = compared(rehearsal, platform, one)
        found.append(
            {
                "platform": platform,
                **{which: dataclasses.asdict(told[which]) for which in told},
                "exports": statuses,
                "differences": [dataclasses.asdict(one) for one in apart],
                "renamed": renamed,
                "hostile": list(ends(rehearsal, platform, one["whole"])),
                "told the secret": leaks(one["whole"].out),
                "honest students": sum(person.kind is None for person in rehearsal.of(platform)),
            }
        )
        print(f"{platform}: {len(apart)} differences", flush=True)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{machine().cpu}, {machine().cores} cores",
        "options": {
            name: getattr(options, name) for name in ("students", "hostile", "kills", "workers", "checks", "seed")
        },
        "platforms": found,
    }


def compared(
    rehearsal: Rehearsal, platform: str, one: dict[str, conduct.Class]
) -> tuple[list[Difference], list[tuple[str, str]]]:
    """What the exports say otherwise of honest students, and who is called otherwise."""
    known = {which: rehearsal.named(one[which]) for which in one}
    pairs = []
    missing = []
    for person in rehearsal.of(platform):
        source = rehearsal.sources[person.number]
        if person.kind is not None:
            continue
        if any(source not in names for names in known.values()):
            missing.append(Difference(person.name, "results", source, "not in one of the runs"))
            continue
        names = [Named(known[which][source], person.name) for which in ("honest", "whole")]
        pairs.append((names[0], names[1]))
    found = differences(one["honest"].out / "exports", one["whole"].out / "exports", pairs)
    return [*missing, *found], [(a.student, b.student) for a, b in pairs if a != b]


def ends(rehearsal: Rehearsal, platform: str, one: conduct.Class) -> Iterator[dict[str, Any]]:
    """How each hostile student ended: verdicts, and points by the table of the class."""
    known = rehearsal.named(one)
    verdicts = conduct.rows(
        one.out, "SELECT student, verdict, count(*) FROM results GROUP BY student, verdict ORDER BY student"
    )
    notes: dict[object, list[str]] = {}
    for query in ("listed FROM students", "notes FROM students", "made.notes FROM students JOIN made USING (digest)"):
        for who, said in conduct.rows(one.out, f"SELECT student, {query}"):
            notes.setdefault(who, []).extend(json.loads(str(said)))
    won = {path.parent.name for path in (one.out / "snapshots").glob("*/**/won.txt")}
    for person in rehearsal.of(platform):
        if person.kind is not None:
            student = known.get(rehearsal.sources[person.number])
            yield {
                "kind": person.kind.name,
                "new": person.kind.new,
                "student": student,
                "verdicts": {str(verdict): count for who, verdict, count in verdicts if who == student},
                "notes": [note.replace(str(rehearsal.folder), "…")[:_NOTE] for note in notes.get(student, [])[:5]],
            }
    if won:
        yield {"kind": "reached its aim", "new": False, "student": None, "verdicts": {}, "notes": sorted(won)}


def leaks(out: Path) -> list[str]:
    """Files for students in which the hidden tests' secret stands."""
    shown: Sequence[Path] = [*(out / "exports").rglob("*"), *(out / "report" / "students").rglob("*")]
    return sorted(
        str(path.relative_to(out))
        for path in shown
        if path.is_file() and path.name != "checks.csv" and SECRET.encode() in path.read_bytes()
    )


def main() -> int:
    """Rehearse and report; 1 where an honest student lost or won anything, or a secret was told."""
    options = parse()
    found = rehearse(options)
    text = table.markdown(found)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        stem = options.out / f"{found['date']}-rehearsal-{found['options']['checks']}"
        stem.with_suffix(".md").write_text(text, encoding="utf-8")
        stem.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(not table.right(found))


if __name__ == "__main__":
    if sys.platform != "linux":
        raise SystemExit("grading needs Linux")
    sys.exit(main())
