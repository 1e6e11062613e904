"""What the tests of grading share: a machine that can sandbox, and proof that no process is left behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import Class

collect_ignore = ["toy"]


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
