"""The report of a rehearsal, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_GOAL = 1.15


def right(found: Mapping[str, Any]) -> bool:
    """Whether every honest student got in every export what they get without the others, and no secret was told."""
    return all(
        not one["differences"] and not one["told the secret"] and one["exports"] == [0, 0] and not _won(one)
        for one in found["platforms"]
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The whole report."""
    return "\n".join(_parts(found)) + "\n"


def _parts(found: Mapping[str, Any]) -> Iterator[str]:
    told, every = found["options"], found["platforms"]
    honest = sum(one["honest students"] for one in every)
    apart = sum(len(one["differences"]) for one in every)
    yield "# A rehearsal"
    yield ""
    yield (
        f"{told['students']} students on five platforms, {told['hostile']} of them hostile, graded whole and without "
        f"these; checks: {told['checks']}; {told['workers']} workers; {found['machine']}; {found['date']}."
    )
    yield (
        "Made with `python -m benchmarks.rehearsal "
        + " ".join(f"--{name} {told[name]}" for name in ("students", "hostile", "kills", "workers", "checks", "seed"))
        + "`."
    )
    yield ""
    killed = sum(len(one["whole"]["killed"]) for one in every)
    gone = [one["whole"]["away"] for one in every if 1 in one["whole"]["statuses"]]
    yield (
        f"The grader was killed {killed} times of {told['kills']} and resumed; the share was gone "
        + (f"from when {gone[0]} submissions had been taken until the grader ended." if gone else "at no time.")
    )
    yield (
        f"What eight formats of exports say of {honest} honest students differs in {apart} files, "
        "byte for byte but for durations."
    )
    if renamed := sum(len(one["renamed"]) for one in every):
        yield f"Told apart by a number, since somebody hostile goes by their name: {renamed}."
    yield f"Hidden tests' words in what students may read: {sum(len(one['told the secret']) for one in every)} files."
    won = [name for one in every for name in _won(one)]
    yield f"Hostile scripts that reached their aim: {len(won)}."
    yield ""
    yield "| platform | honest alone (s) | whole (s) | ratio | load | kills at | statuses |"
    yield "|---|---:|---:|---:|---|---|---|"
    for one in every:
        yield _line(one)
    alone, whole = (sum(one[which]["seconds"] for one in every) for which in ("honest", "whole"))
    yield f"| all | {alone:.0f} | {whole:.0f} | **{whole / alone:.2f}** (goal: at most {_GOAL}) | | | |"
    yield ""
    yield (
        "Wall clock of `run` and every `resume`, self-tests included. Platform by platform the two take turns; load is "
        "the machine's when a run began and ended, other work on it included."
    )
    yield ""
    yield "| hostile student | new | platform | verdicts | notes |"
    yield "|---|---|---|---|---|"
    for one in every:
        for student in one["hostile"]:
            verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(student["verdicts"].items()))
            notes = "; ".join(student["notes"])[:110].replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
            new = "new" if student["new"] else ""
            yield f"| {student['kind']} | {new} | {one['platform']} | {verdicts} | {notes} |"
    for one in every:
        for difference in one["differences"][:20]:
            yield ""
            yield f"{one['platform']}: {difference['student']}: {difference['file']}:"
            yield f"`{difference['honest']!r}` alone, `{difference['whole']!r}` in the whole class."


def _line(one: Mapping[str, Any]) -> str:
    alone, whole = one["honest"], one["whole"]
    loads = " ".join(f"{a:.1f}–{b:.1f}" for a, b in (alone["load"], whole["load"]))
    kills = " ".join(f"{at:.0%}" for at in whole["killed"])
    return (
        f"| {one['platform']} | {alone['seconds']:.0f} | {whole['seconds']:.0f} "
        f"| {whole['seconds'] / alone['seconds']:.2f} "
        f"| {loads} | {kills} | {' '.join(map(str, whole['statuses']))} |"
    )


def _won(one: Mapping[str, Any]) -> list[str]:
    return [name for end in one["hostile"] if end["kind"] == "reached its aim" for name in end["notes"]]
