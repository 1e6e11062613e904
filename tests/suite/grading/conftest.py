"""What the tests of grading share: a machine that can sandbox, and proof that no process is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite.grading.processes import none_left
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
    """The test leaves no sandboxed process behind."""
    with none_left():
        yield
