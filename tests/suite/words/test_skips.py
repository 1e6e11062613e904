"""Skips are told a line a cause; pytest's own list of them is there for the asking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.skips import by_cause
from trtverify.fixtures.words.verdict import Cause

ROOT = Path(__file__).resolve().parents[3]
LACKING = "bubblewrap is not installed: apt-get install bubblewrap libseccomp2"


@pytest.fixture(autouse=True)
def _english() -> None:
    messages.use_language("en")


def test_a_line_a_cause_the_commonest_first() -> None:
    reasons = [LACKING] * 185
    reasons += [f"not gradable: {Cause.BACKEND_MISSING}: no tensorrt"] * 60
    reasons += [f"not gradable: {Cause.NO_BAND}: FP16 is {n}× as fast" for n in range(7)]
    reasons += [f"inconclusive: 1.{n}× against 1.7×" for n in range(2)]
    assert by_cause(reasons) == [
        f"  185  {LACKING}",
        "   60  not gradable: backend missing: no tensorrt",
        "    7  not gradable: no expectation for this device: FP16 is 0× as fast (and more like it: -rs)",
        "    2  inconclusive: 1.0× against 1.7× (and more like it: -rs)",
    ]


def test_a_line_is_one_line() -> None:
    (line,) = by_cause(["a reason\nof two lines" + " and so on" * 50])
    assert line.startswith("    1  a reason of two lines and so on")
    assert len(line) < 200


def test_the_terminal_says_it_once(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_it(n):\n    pytest.skip('no bwrap')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "trtverify.fixtures.features", "-q", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "LANGUAGE": "en", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    said = [
        subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
        for more in ([], ["-rs"])
    ]
    assert said[0].count("no bwrap") == 1
    assert "    5  no bwrap" in said[0]
    assert "SKIPPED [5] test_it.py:4: no bwrap" in said[1]
    assert "    5  no bwrap" not in said[1]


def test_the_last_line_says_what_was_not_tested(tmp_path: Path) -> None:
    """Where neither bubblewrap is installed nor may this user install it; where it is, nothing is said."""
    script = ROOT / ".ci" / "system"
    for program in ("bash", "grep", "id", "env"):
        found = next(p for p in (Path("/usr/bin") / program, Path("/bin") / program) if p.exists())
        (tmp_path / program).symlink_to(found)
    for arguments, expected in (([], ""), (["--say"], "not tested, for want of bubblewrap")):
        done = subprocess.run(
            [str(script), *arguments], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(expected)
        assert len(done.stdout.splitlines()) == len(arguments)
