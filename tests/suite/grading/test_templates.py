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
    assert result["score"] == sum(test["score"] for test in tests.values()) > 0


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
    assert 0 < sum(test["score"] for test in result["tests"]) <= result["max_score"]


def test_workflow_names_what_there_is() -> None:
    """The workflow runs the script that was tested, and hands the reporter its output under the runner's name."""
    text = (TEMPLATES / "github-classroom" / "classroom.yml").read_text()
    for path in re.findall(r"suite/([\w./-]+\.(?:sh|lock))", text):
        assert (REPOSITORY / path).is_file(), path
    assert "steps.labs.outputs.result" in text
    assert re.search(r"id: labs\n\s+run: .*grade\.sh", text)
    runner = re.search(r"runners: (\w+)", text)
    assert runner is not None
    assert f"{runner[1].upper()}_RESULTS:" in text


def test_scripts_can_be_run() -> None:
    """The services start them as programs."""
    for path in (*TEMPLATES.rglob("*.sh"), TEMPLATES / "gradescope" / "run_autograder"):
        assert path.stat().st_mode & stat.S_IXUSR, path.name
