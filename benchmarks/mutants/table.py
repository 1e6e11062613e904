"""The table by kind, as Markdown and as JSON: what was found, named and passed, and what right work was refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

Line = dict[str, Any]


def rows(lines: Iterable[Line]) -> dict[str, dict[str, Counter[str]]]:
    """How often each answer was given, by what the work is and by kind."""
    found: dict[str, dict[str, Counter[str]]] = {"wrong": defaultdict(Counter), "right": defaultdict(Counter)}
    for line in lines:
        if line["work"] in found:
            found[line["work"]][f"{line['base'].partition('-')[0]} {line['kind']}"][line["answer"]] += 1
    return found


def summary(lines: list[Line]) -> dict[str, Any]:
    """The figures that are asked for, over all kinds."""
    table = rows(lines)
    wrong = sum(table["wrong"].values(), Counter[str]())
    right = sum(table["right"].values(), Counter[str]())
    answers = defaultdict(set)
    for line in lines:
        answers[line["key"]].add((line["answer"], tuple(sorted(line["failed"]))))
    return {
        "cases": len(answers),
        "seeds": len({line["seed"] for line in lines}),
        "wrong": wrong.total(),
        "found": wrong["named"] + wrong["found"],
        "named": wrong["named"],
        "broke": wrong["broke"] + right["broke"],
        "right": right.total(),
        "refused": right["refused"],
        "undecided": sum(line["work"] == "either" for line in lines),
        "unmade": sum(line["work"] == "unmade" for line in lines),
        "differ from seed to seed": sum(len(found) > 1 for found in answers.values()),
    }


def markdown(lines: list[Line], how: str) -> str:
    """The table."""
    counts, table = summary(lines), rows(lines)
    parts = [
        "# Systematically made work",
        "",
        how,
        "",
        f"Wrong work: {counts['wrong']}, found {share(counts['found'], counts['wrong'])}, found by the test and words "
        f"that name the fault {share(counts['named'], counts['wrong'])}.",
        f"Right work: {counts['right']}, refused {share(counts['refused'], counts['right'])}. The suite itself "
        f"stumbled {counts['broke']} times.",
        f"Cases whose verdict hangs on the seed: {counts['differ from seed to seed']} of {counts['cases']}.",
        "",
        "| wrong work | handed in | found and named | found otherwise | not found | broke |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, found in sorted(table["wrong"].items()):
        cells = (found.total(), found["named"], found["found"], found["passed"], found["broke"])
        parts.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    parts += ["", "| right work | handed in | passed | refused | broke |", "|---|---:|---:|---:|---:|"]
    for kind, found in sorted(table["right"].items()):
        four = (found.total(), found["passed"], found["refused"], found["broke"])
        parts.append(f"| {kind} | {' | '.join(map(str, four))} |")
    return "\n".join([*parts, ""])


def share(part: int, whole: int) -> str:
    """A count, and what part of the whole it is."""
    return f"{part} ({part / whole:.1%})" if whole else "0"


def findings(lines: list[Line]) -> str:
    """What passes wrongly or is refused wrongly: each kind once, with how many, and one example."""
    groups: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in lines:
        good = {"wrong": ("named",), "right": ("passed",)}.get(line["work"], (line["answer"],))
        if line["answer"] not in good:
            groups[line["work"], f"{line['base']} {line['kind']}", line["answer"]].append(line)
    parts = ["# What is answered wrongly, by kind with one example", ""]
    for (work, kind, answer), found in sorted(groups.items()):
        one = found[0]
        said = "; ".join(f"{test}: {' '.join(text.split())[:260]}" for test, text in list(one["failed"].items())[:2])
        parts.append(
            f"- **{work}, {answer}** ×{len(found)} · {kind} · e.g. `{one['name']}` ({one['why'][:200]}) {said}"
        )
    return "\n".join([*parts, ""])
