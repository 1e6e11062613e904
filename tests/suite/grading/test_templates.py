"""The scripts for Gradescope and GitHub Classroom, run as those services run them, on the toy suite."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.suite.grading.toy_class import HONEST, REPOSITORY, TOY

TEMPLATES = REPOSITORY / "templates"
WRONG = {**HONEST, "times2": 0}
pytestmark = pytest.mark.usefixtures("nothing_left")


def hand_in(folder: Path, answer: Mapping[str, object]) -> None:
    """A submission to the toy suite."""
    folder.mkdir(parents=True)
    (folder / "answer.json").write_text(json.dumps(answer))
    (folder / "parsed.txt").write_text("fine")


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script, from a folder that is not the repository."""
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def gradescope(folder: Path, *options: str) -> dict[str, Any]:
    """/autograder as Gradescope lays it out; its results.json."""
    (folder / "source").symlink_to(REPOSITORY)
    shutil.copy(TEMPLATES / "gradescope" / "run_autograder", folder)
    done = run([str(folder / "run_autograder"), *options], folder, AUTOGRADER=str(folder))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "results" / "results.json").read_text())
    return found


@pytest.mark.parametrize(("answer", "failed"), [(HONEST, set()), (WRONG, {"test_lab1_answer: test_products[2]"})])
def test_gradescope(tmp_path: Path, answer: Mapping[str, object], failed: set[str]) -> None:
    """results.json has the score, and each test's own."""
    hand_in(tmp_path / "submission", answer)
    result = gradescope(tmp_path, "--suite", str(TOY))
    tests = {test["name"]: test for test in result["tests"]}
    assert {name for name, test in tests.items() if test.get("status") == "failed"} == failed
    assert result["score"] == sum(test.get("score", 0) for test in tests.values()) > 0


@pytest.mark.slow
def test_gradescopes_metadata_counts(tmp_path: Path) -> None:
    """Its time, due date and total points: on time when it was handed in, however late it is graded."""
    hand_in(tmp_path / "submission", HONEST)
    metadata = {
        "created_at": "2018-07-01T14:22:32.365935-07:00",
        "assignment": {"due_date": "2018-07-01T23:00:00.000000-07:00", "total_points": "20.0"},
        "users": [{"email": "student@example.com", "id": 1234, "name": "Student User"}],
    }
    (tmp_path / "submission_metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "rubric.toml").write_text("[late]\nper_day = 0.1\n")
    result = gradescope(tmp_path, "--suite", str(TOY), "--rubric", str(tmp_path / "rubric.toml"))
    assert (result["score"], result["extra_data"]["possible"]) == (20.0, 20.0)
    assert "2018-07-01 21:22+00:00 (Gradescope's time)" in result["output"]
    metadata["created_at"] = "2018-07-03T14:22:32.365935-07:00"
    (tmp_path / "submission_metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "source").unlink()
    assert gradescope(tmp_path, "--suite", str(TOY), "--rubric", str(tmp_path / "rubric.toml"))["score"] == 16.0


def test_gradescope_without_a_grade(tmp_path: Path) -> None:
    """When grading itself fails, the student reads why, and that it is not their fault."""
    hand_in(tmp_path / "submission", HONEST)
    result = gradescope(tmp_path, "--suite", str(tmp_path / "nothing"))
    assert "not your fault" in result["output"]
    assert "nothing" in result["output"]


def test_gradescope_set_up(tmp_path: Path) -> None:
    """What it installs: the sandbox's programs, and the lock into an environment of its own."""
    said = tmp_path / "said"
    for name in ("apt-get", "python3"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{said}\n')
        program.chmod(0o755)
    inside = tmp_path / "source" / ".venv" / "bin" / "python"
    inside.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "bin" / "python3", inside)
    script = ["bash", str(TEMPLATES / "gradescope" / "setup.sh")]
    done = run(script, tmp_path, AUTOGRADER=str(tmp_path), PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    lines = said.read_text().splitlines()
    assert any("bubblewrap libseccomp2" in line for line in lines)
    assert lines[-1] == f"python3 -m pip install --quiet -r {tmp_path}/source/requirements.lock"
    assert (REPOSITORY / "requirements.lock").is_file()


@pytest.mark.parametrize(("answer", "status"), [(HONEST, "pass"), (WRONG, "fail")])
def test_github_classroom(tmp_path: Path, answer: Mapping[str, object], status: str) -> None:
    """The step's output is what the reporter decodes."""
    hand_in(tmp_path / "submission", answer)
    outputs = tmp_path / "outputs"
    script = str(TEMPLATES / "github-classroom" / "grade.sh")
    done = run([script, "submission", "--suite", str(TOY)], tmp_path, GITHUB_OUTPUT=str(outputs))
    assert done.returncode == 0, done.stderr
    name, _equals, value = outputs.read_text().strip().partition("=")
    result = json.loads(base64.b64decode(value))
    assert (name, result["status"]) == ("result", status)
    points = sum(test["score"] for test in result["tests"])
    assert 0 < points <= result["max_score"]
    assert f"Points {points:g}/{result['max_score']:g}\n" in done.stdout


@pytest.mark.slow
def test_github_says_when_it_was_pushed(tmp_path: Path) -> None:
    """The push counts, in seconds since 1970 as GitHub has it, not the time of grading; else the commit's time."""
    hand_in(tmp_path / "submission", HONEST)
    (tmp_path / "rubric.toml").write_text("[late]\nper_day = 0.5\n[labs.lab1]\ndeadline = 2020-01-02T00:00:00Z\n")
    script = str(TEMPLATES / "github-classroom" / "grade.sh")
    line = [script, "submission", "--suite", str(TOY), "--rubric", str(tmp_path / "rubric.toml")]
    outputs = {"GITHUB_OUTPUT": str(tmp_path / "outputs")}
    assert "Points 9/9" in run(line, tmp_path, SUBMITTED="1577880000", **outputs).stdout
    assert "Points 6.5/9" in run(line, tmp_path, SUBMITTED="2020-01-02T01:00:00Z", **outputs).stdout
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "submission")]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        dates = {"GIT_COMMITTER_DATE": "2020-01-01T12:00:00Z"}
        assert run([*git, *words], tmp_path, **dates).returncode == 0
    assert "Points 9/9" in run(line, tmp_path, SUBMITTED="", **outputs).stdout


def test_workflow_names_what_there_is() -> None:
    """The workflow runs the script that was tested, and hands the reporter its output under the runner's name."""
    text = (TEMPLATES / "github-classroom" / "classroom.yml").read_text()
    for path in re.findall(r"suite/([\w./-]+\.(?:sh|lock))", text):
        assert (REPOSITORY / path).is_file(), path
    assert "steps.labs.outputs.result" in text
    assert "lfs: true" in text
    assert "SUBMITTED: ${{ github.event.repository.pushed_at" in text
    assert re.search(r"id: labs\n\s+run: .*grade\.sh", text)
    runner = re.search(r"runners: (\w+)", text)
    assert runner is not None
    assert f"{runner[1].upper()}_RESULTS:" in text


def test_scripts_can_be_run() -> None:
    """The services start them as programs."""
    for path in (*TEMPLATES.rglob("*.sh"), TEMPLATES / "gradescope" / "run_autograder"):
        assert path.stat().st_mode & stat.S_IXUSR, path.name
