"""What the tests of grading share: a machine that can sandbox, and proof that no process is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

collect_ignore = ["toy"]
TOY = Path(__file__).with_name("toy")
REPOSITORY = Path(__file__).resolve().parents[3]
HONEST = {"answer": 42, "times2": 84, "times3": 126, "bonus": 1}


@dataclasses.dataclass
class Class:
    """A class of submissions to the toy suite, and the grader's command line on it."""

    submissions: Path
    out: Path

    def hand_in(self, student: str, files: Mapping[str, object] | None = None) -> Path:
        """Make a submission; values that are no bytes are written as JSON. None: an honest one."""
        folder = self.submissions / student
        given = {"answer.json": HONEST, "parsed.txt": b"fine"} if files is None else files
        for name, content in given.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return folder

    def command(self, *words: str) -> list[str]:
        """A command of the grader with its results folder; `run` gets the toy suite and the submissions too."""
        line = [sys.executable, "-m", "grading", *words, "--out", str(self.out)]
        return [*line, str(self.submissions), "--suite", str(TOY)] if words[0] == "run" else line

    def __call__(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; it must end with this exit status."""
        done = subprocess.run(self.command(*words), cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done

    def verdicts(self) -> dict[str, dict[str, str]]:
        """student → short test name → verdict."""
        found: dict[str, dict[str, str]] = {}
        with contextlib.closing(sqlite3.connect(self.out / "results.sqlite")) as db:
            for student, test, verdict in db.execute("SELECT student, test, verdict FROM results"):
                found.setdefault(student, {})[test.rpartition("::")[2]] = verdict
        return found


@pytest.fixture
def a_class(tmp_path: Path, nothing_left: None) -> Class:
    """An empty class."""
    (tmp_path / "submissions").mkdir()
    return Class(tmp_path / "submissions", tmp_path / "results")


@pytest.fixture(scope="session")
def bwrap() -> None:
    """The test needs a sandbox."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap libseccomp2")
    pytest.importorskip("pyseccomp", reason="pip install pyseccomp", exc_type=ImportError)


@pytest.fixture
def nothing_left(bwrap: None) -> Iterator[None]:
    """Fail if a process in a PID namespace that is not there now is there afterwards."""
    before = _pid_namespaces()
    yield
    deadline = time.monotonic() + 3
    while left := _pid_namespaces() - before:
        assert time.monotonic() < deadline, f"processes were left in the namespaces {sorted(left)}"
        time.sleep(0.02)


def _pid_namespaces() -> set[str]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                # A zombie has ended; the machine's first process collects it in its own time.
                if (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.add(os.readlink(process / "ns" / "pid"))  # noqa: PTH115 (a magic link, no path)
            except OSError:
                continue
    return found
