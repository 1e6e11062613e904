"""Hidden tests run apart: a test process that was taken over neither reads them nor speaks for them."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from tests.suite.grading.processes import none_left
from tests.suite.grading.toy_class import HONEST, TOY, Class
from trtverify.grading import check, suite
from trtverify.grading.check import Checked, Ended
from trtverify.grading.sandbox.launch import Spec

HIDDEN_TEST = '''
import pytest
@pytest.mark.points(4)
def test_prime(answer):
    """The answer is prime: {token}."""
    assert answer.get("prime") == 43, "{token}"
def test_dies():
    import os, sys
    print("{token}", file=sys.__stderr__)
    os.write(2, b"{token}")
    os._exit(3)
'''
# What a file does that has taken over the process of the visible tests: look everywhere for the hidden ones, say what
# was found as the failure's message, and send verdicts on them by the grader's own descriptor.
ATTACK = """# taken over
import json, os, pathlib, pytest, re
said = pathlib.Path("/proc/self/cmdline").read_bytes().decode().split("\\0")
channel = int(next(word for word in said if word.startswith("--grading-fd=")).partition("=")[2])
found = set()
for folder, _folders, files in os.walk("/"):
    if re.match("/(usr|lib|proc/[0-9]|sys|dev)", folder) or "site-packages" in folder or "/lib/python" in folder:
        continue
    for name in files:
        try:
            data = open(os.path.join(folder, name), "rb").read(1 << 20)
        except OSError:
            continue
        if name != "parsed.txt":
            found |= set(re.findall(rb"treasure-[0-9]{{6}}", data))
for test in ("hidden/test_secret.py::test_prime", "hidden/test_secret.py::test_dies"):
    for line in ({{"event": "start", "test": test}},
                 {{"event": "verdict", "test": test, "verdict": "passed", "message": "", "seconds": 0.1}}):
        os.write(channel, json.dumps(line).encode() + b"\\n")
pytest.fail(f"found: {{sorted(found)}} {padding}", pytrace=False)
"""


class Together(suite.Suite):
    """The wall taken down: the hidden tests lie in the visible ones' sandbox, as they once did."""

    def spec(self, job: Path, *, submission: Path | None, hidden: bool = False) -> Spec:
        """Both kinds in one."""
        spec = super().spec(job, submission=submission, hidden=False)
        shown = {**spec.read_only, self.folder / "hidden": "/trusted/suite/hidden"}
        return dataclasses.replace(spec, command=[*spec.command, "hidden"], read_only=shown)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the grader heard."""

    verdicts: dict[str, str]
    messages: str
    ended: Ended


def attacked(tmp_path: Path, kind: type[suite.Suite], seed: int) -> Seen:
    """A seeded attack on the toy suite with hidden tests, before this kind of suite."""
    draw = random.Random(seed)
    token = f"treasure-{draw.randrange(10**6):06}"
    hidden = tmp_path / "teachers"
    hidden.mkdir()
    (hidden / "test_secret.py").write_text(HIDDEN_TEST.format(token=token))
    submission = tmp_path / "submission"
    submission.mkdir()
    (submission / "answer.json").write_text(json.dumps(HONEST))
    (submission / "parsed.txt").write_text(ATTACK.format(padding="x" * draw.randrange(100)))
    for path in (submission, *submission.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    frozen = suite.freeze(TOY, hidden, tmp_path / "suite")[0]
    given = kind(frozen, "")
    tests = [test.test for test in suite.collect(given, suite.LABS)]
    verdicts: dict[str, str] = {}
    said: list[str] = []

    def heard(checked: Checked) -> None:
        verdicts[checked.test.rpartition("::")[2]] = checked.verdict
        said.append(checked.message)

    with none_left(tmp_path):
        if kind is Together:
            ended = check._run(given, submission, tests, False, lambda _test: None, heard)
        else:
            ended = check.check(given, submission, tests, lambda _test: None, heard)
    assert "found: [" in "\n".join(said), "the attack did not run"
    return Seen(verdicts, "\n".join(said), ended)


@pytest.mark.usefixtures("bwrap")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_subverted_process_neither_reads_nor_speaks_for_hidden_tests(tmp_path: Path, seed: int) -> None:
    """It finds nothing anywhere; what it says of them is not heard, and their own sandbox says what is true."""
    seen = attacked(tmp_path, suite.Suite, seed)
    assert "treasure" not in seen.messages.partition("found: [")[2].partition("]")[0]
    assert seen.verdicts["test_prime"] == "failed"
    assert "test_dies" not in seen.verdicts
    assert (seen.ended.finished, seen.ended.during) == (False, "hidden/test_secret.py::test_dies")


@pytest.mark.slow
@pytest.mark.usefixtures("bwrap")
@pytest.mark.parametrize("seed", range(2))
def test_the_same_attack_wins_where_the_wall_is_taken_down(tmp_path: Path, seed: int) -> None:
    """In one sandbox it reads the teacher's source onto the student's page, and passes what was never run."""
    seen = attacked(tmp_path, Together, seed)
    assert "treasure-" in seen.messages
    assert (seen.verdicts["test_prime"], seen.verdicts["test_dies"]) == ("passed", "passed")


@pytest.mark.parametrize("visibility", ["hidden", pytest.param("visible", marks=pytest.mark.slow)])
def test_no_word_of_a_hidden_test_reaches_a_student(a_class: Class, tmp_path: Path, visibility: str) -> None:
    """Not its name, docstring or message, nor what it wrote as it died; not even where the rubric shows verdicts."""
    hidden = tmp_path / "teachers"
    hidden.mkdir()
    (hidden / "test_secret.py").write_text(HIDDEN_TEST.format(token="treasure-000000"))
    rubric = tmp_path / "rubric.toml"
    rubric.write_text(f'[[tests]]\nmatch = "hidden/*"\nvisibility = "{visibility}"\n')
    a_class.hand_in("ann")
    a_class("run", "--hidden-tests", str(hidden), "--rubric", str(rubric))
    assert {a_class.verdicts()["ann"][name] for name in ("test_prime", "test_dies")} == {"failed", "crash"}
    assert "treasure" in a_class("show", "ann").stdout
    a_class("export")
    teachers = {"checks.csv", "index.html"}
    pages = [path for folder in ("exports", "report") for path in (a_class.out / folder).rglob("*") if path.is_file()]
    read = {path.name for path in pages if path.name not in teachers}
    assert {"ann.json", "ann.txt", "ann.xml", "ann.html", "gradebook.csv", "class.csv"} <= read
    for path in pages:
        if path.name not in teachers:
            text = path.read_text(encoding="utf-8")
            for word in ("treasure", "prime", "test_dies", "secret"):
                assert word not in text, path
    page = (a_class.out / "report" / "students" / "ann.html").read_text(encoding="utf-8")
    assert ("hidden check 1" in page) == (visibility == "visible")
    assert ("hidden checks: 2" in page) == (visibility == "hidden")
