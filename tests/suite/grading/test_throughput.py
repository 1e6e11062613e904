"""What grading costs beside the checks themselves, as ratios measured in one run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import HONEST, REPOSITORY, TOY, Class

pytestmark = pytest.mark.slow


def bare_check(folder: Path, tmp_path: Path) -> float:
    """Seconds of a fresh pytest process on one submission, with the plugin and without sandbox, store or grader."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"labs": ["lab1", "lab4"], "tests": None}))
    line = [sys.executable, "-m", "pytest", "-c", str(TOY / "pytest.ini"), f"--rootdir={TOY}", "-p", "grading.plugin"]
    line += ["-p", "no:cacheprovider", "-q", "--grading-fd=2", f"--grading-job={job}", f"--submission={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    begun = time.perf_counter()
    subprocess.run([*line, str(TOY / "tests")], env=environment, cwd=TOY, capture_output=True, check=True)
    return time.perf_counter() - begun


def graded(a_class: Class, out: Path, count: int, kinds: int) -> float:
    """Seconds to grade a class of `count`, of whom each is one of `kinds` different submissions."""
    a_class.submissions = out.with_suffix(".submissions")
    a_class.submissions.mkdir()
    for number in range(count):
        a_class.hand_in(f"s{number:04}", {"answer.json": {**HONEST, "n": number % kinds}, "parsed.txt": b"fine"})
    a_class.out = out
    begun = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        a_class("run")
    return time.perf_counter() - begun


def test_overhead_and_duplicates(a_class: Class, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_class.hand_in("one")
    bare = sorted(bare_check(folder, tmp_path) for _ in range(9))[4]
    few, more = graded(a_class, tmp_path / "few", 4, 4), graded(a_class, tmp_path / "more", 24, 24)
    each = (more - few) / 20  # without what is paid once a class
    duplicates = graded(a_class, tmp_path / "duplicates", 200, 10)
    with capsys.disabled():
        print(f"\na bare check {bare * 1e3:.0f} ms, graded {each * 1e3:.0f} ms: overhead {each / bare - 1:+.1%}")
        print(
            f"200 submissions of 10 kinds: {duplicates:.1f} s, {200 * bare / duplicates:.1f}× a fresh pytest for each"
        )
    assert 200 * bare / duplicates >= 5


def test_cost_is_flat_in_the_size_of_the_class(
    a_class: Class, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = graded(a_class, tmp_path / "one", 1, 1)
    small = (graded(a_class, tmp_path / "small", 51, 1) - base) / 50
    large = (graded(a_class, tmp_path / "large", 801, 1) - base) / 800
    with capsys.disabled():
        print(f"\nbeside its check a submission costs {small * 1e3:.1f} ms among 50, {large * 1e3:.1f} ms among 800")
    assert large <= 2 * max(small, 0.005)
