"""A class of submissions to the toy suite, and the grader's commands on it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sqlite3
import subprocess
import sys
import unittest.mock
from collections.abc import Iterator, Mapping
from pathlib import Path

from trtverify.grading import commands
from trtverify.grading.sandbox import selftest

TOY = Path(__file__).with_name("toy")
REPOSITORY = Path(__file__).resolve().parents[3]
HONEST = {"answer": 42, "times2": 84, "times3": 126, "bonus": 1}


_WITHOUT_SELFTEST = """
import signal, sys
from trtverify.grading import commands
from trtverify.grading.sandbox import selftest
if __name__ == "__main__":
    # A shell's background job, which these tests may be, ignores Ctrl-C, and so do the programs it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    selftest.require_walls = lambda: None
    sys.exit(commands.main())
"""


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command printed."""

    stdout: str
    stderr: str
    status: int = 0


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
        given = [str(self.submissions), "--suite", str(TOY)] if words[0] == "run" else []
        return [sys.executable, "-m", "trtverify", "grading", words[0], *given, *words[1:], "--out", str(self.out)]

    def __call__(self, *words: str, status: int | None = 0) -> Said:
        """Run a command in this process, without the self-test; it must end with this exit status, None being any."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            unittest.mock.patch.object(selftest, "require_walls"),
        ):
            found = commands.main(self.command(*words)[4:])
        said = Said(stdout.getvalue(), stderr.getvalue(), found)
        assert found == (found if status is None else status), f"{said.stdout}\n{said.stderr}"
        return said

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command as a program of its own, without the self-test; it ends with the block."""
        line = [sys.executable, "-c", _WITHOUT_SELFTEST, *self.command(*words)[4:]]
        with subprocess.Popen(
            line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                yield program
            finally:
                program.kill()  # a test that gave up must not wait for what it gave up on

    def verdicts(self) -> dict[str, dict[str, str]]:
        """student → short test name → verdict."""
        found: dict[str, dict[str, str]] = {}
        if not (self.out / "results.sqlite").exists():
            return found
        with contextlib.closing(sqlite3.connect(self.out / "results.sqlite")) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchall():
                return {}
            for student, test, verdict in db.execute("SELECT student, test, verdict FROM results"):
                found.setdefault(student, {})[test.rpartition("::")[2]] = verdict
        return found

    def messages(self, student: str) -> dict[str, tuple[str, str]]:
        """Full test name → (verdict, message) of one student."""
        with contextlib.closing(sqlite3.connect(self.out / "results.sqlite")) as db:
            rows = db.execute("SELECT test, verdict, message FROM results WHERE student = ?", (student,)).fetchall()
        return {test: (verdict, message) for test, verdict, message in rows}
