"""The template submission: what `start.py` makes of each lab passes that lab's trusted tests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.submitted.submission import suite_cache

ROOT = Path(__file__).resolve().parents[3]
START = ROOT / "templates" / "submission" / "start.py"
LABS = ("lab1", "lab2", "lab3", "lab4", "lab5")


def start(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script as a student would."""
    return subprocess.run([sys.executable, START, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def starters(request: pytest.FixtureRequest) -> Path:
    """All five labs' smallest, made once for each version of the scripts and kept in the suite's cache."""
    digest = hashlib.sha256()
    for path in (START, *sorted((ROOT / "labs").iterdir())):
        if path.is_file():
            digest.update(path.read_bytes())
    folder = suite_cache(request.config) / "starters" / digest.hexdigest()[:16]
    if not (folder / "whole").is_file():
        done = start("--out", folder)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "whole").touch()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_starter_is_correct(starters: Path, verify: Callable[..., Any], lab: str) -> None:
    """Nothing fails, something passes, and what cannot be graded is no fault of what was handed in."""
    outcome = verify(starters, lab)
    assert outcome.status == 0, outcome.output
    assert outcome.with_verdict("failed") == set()
    assert len(outcome.with_verdict("passed")) >= 10


def test_unknown_labs_and_missing_labs_are_said(tmp_path: Path) -> None:
    """In one line that says what would do."""
    done = start("lab6", "--out", tmp_path)
    assert (done.returncode, "found lab6" in done.stderr) == (2, True)
    alone = tmp_path / "alone" / "start.py"
    alone.parent.mkdir()
    alone.write_bytes(START.read_bytes())
    told = subprocess.run([sys.executable, alone], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert told.returncode == 1
    assert "copy the course's folder labs/ there" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_lab_that_fails_ends_it(tmp_path: Path) -> None:
    """Its message is passed on, and nothing is called whole."""
    (tmp_path / "in-the-way").write_text("a file")
    done = start("lab4", "--out", tmp_path / "in-the-way")
    assert done.returncode == 1
    assert "lab4_generate_calib_data.py ended with 1" in done.stderr
    assert "verify it with" not in done.stdout
