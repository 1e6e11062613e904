"""A full disk is told as the machine's, and any other error as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trtverify.fixtures.words import room
from trtverify.grading.suite import Suite

ROOT = Path(__file__).resolve().parents[3]

pytest_plugins = ("pytester",)
ERRORS = {
    "OSError(28, 'No space left on device')": (0, 1),
    "OSError(122, 'Quota')": (0, 1),
    "OSError(2, 'gone')": (1, 0),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["test", "fixture"])
def test_whose_fault_it_is(pytester: pytest.Pytester, error: str, where: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def made():
            if {where == "fixture"}:
                raise {error}

        def test_it(made):
            raise {error}
        """
    )
    found = pytester.runpytest_inprocess("-p", "no:benchmark", plugins=[room]).parseoutcomes()
    failed, skipped = ERRORS[error]
    assert found.get("failed", 0) + found.get("errors", 0) == failed
    assert found.get("skipped", 0) == skipped


@pytest.mark.parametrize("blocked", [True, False])
def test_it_can_be_left_out(blocked: bool) -> None:
    """As in the grader's sandbox, where room is what a submission is allowed: who needs too much of it has failed."""
    words = ["-p", f"no:{room.__name__}"] if blocked else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        *words,
        "--trace-config",
        "--collect-only",
        "-q",
        "tests/test_summary.py",
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("room.py" in said) is not blocked
    spec = Suite(Path("/nowhere"), "").spec(Path("/nowhere"), submission=Path("/nowhere"))
    assert f"no:{room.__name__}" in spec.command
