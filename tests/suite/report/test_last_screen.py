"""Each cause of failures once, and the last screen, as a terminal shows them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.report.causes import Failure, by_cause, counts, of_lab, short
from trtverify.fixtures.report.record import VerdictRow
from trtverify.fixtures.words.verdict import Finding, Verdict

ROOT = Path(__file__).resolve().parents[3]


def row(test: str, lab: str, verdict: str = "failed", message: str = "it") -> VerdictRow:
    return VerdictRow(f"tests/test_{lab}.py::TestIt::{test}", lab, verdict, message, 0.1, Finding("a", "b", message))


def test_one_cause_is_one_failure() -> None:
    found = by_cause(
        [
            row("test_a", "lab1"),
            row("test_b[x]", "lab4"),
            row("test_b[y]", "lab4"),
            row("test_c", "lab1", message="other"),
        ]
    )
    assert [(failure.message, len(failure.rows), failure.labs) for failure in found] == [
        ("it", 3, ("lab1", "lab4")),
        ("other", 1, ("lab1",)),
    ]
    assert found[0].checks() == "test_a, test_b ×2"
    assert found[0].checks(1) == "test_a and 1 more"
    assert found[1].title() == "lab1: test_c"


def test_what_was_begun_is_mended_first() -> None:
    missing = [row(f"test_{n}", "lab2", message="missing") for n in range(9)]
    found = by_cause([*missing, row("test_a", "lab1", "passed"), row("test_b", "lab1", message="wrong")])
    assert [failure.message for failure in found] == ["wrong", "missing"]


def test_a_labs_verdict() -> None:
    assert of_lab([row("a", "lab1", "passed"), row("b", "lab1", "not gradable")]) is Verdict.PASSED
    assert of_lab([row("a", "lab1", "passed"), row("b", "lab1")]) is Verdict.FAILED
    assert of_lab([row("a", "lab1", "inconclusive"), row("b", "lab1", "not gradable")]) is Verdict.INCONCLUSIVE
    assert of_lab([row("a", "lab1", "not gradable")]) is Verdict.NOT_GRADABLE
    assert counts([row("a", "lab1", "passed"), row("b", "lab1")]) == "1 passed, 1 failed"
    assert short("tests/t.py::TestIt::test_a[b::c]") == "test_a[b::c]"
    assert Failure(None, "x", (row("test_a", "lab1"),)).title() == "lab1: test_a"


def run(*words: str, cwd: Path = ROOT) -> str:
    command = [sys.executable, "-m", "pytest", "--backend=onnxruntime", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False).stdout


def test_an_empty_folder_fits_a_screen_a_lab(tmp_path: Path) -> None:
    text = run("-m", "lab1", f"--submission={tmp_path}")
    assert text.count("no such file") == 1
    assert "verifying: what was handed in as" in text.splitlines()[2]
    last = text[text.index("= verdict =") :].splitlines()
    assert len(last) <= 24
    assert "lab1  ✗ failed" in "\n".join(last)
    assert "do first: run python3 labs/lab1_export_resnet50.py" in "\n".join(last)
    assert "13 failed" in last[-1]  # pytest's own count stays what it is
    assert "Findin" not in text


def test_pytests_own_form_is_to_be_had(tmp_path: Path) -> None:
    assert run("-m", "lab1", "--tb=short", f"--submission={tmp_path}").count("no such file") > 10


def test_every_check_is_named_where_asked(tmp_path: Path) -> None:
    text = run("-m", "lab1", "-v", f"--submission={tmp_path}")
    assert "more" not in next(line for line in text.splitlines() if line.startswith("checks:"))


@pytest.mark.parametrize("folder", ["submission", "other"])
def test_a_submission_that_is_not_looked_at_is_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    words = ["-m", "lab9", f"-c={ROOT}/pytest.ini", f"--rootdir={ROOT}", str(ROOT / "tests")]
    told = run(*words, cwd=tmp_path)
    assert "verifying: the labs' own solutions" in told
    assert ("./submission is not looked at" in told) == (folder == "submission")


def test_all_right(copy_of: Callable[..., Path], verify: Callable[..., Any], tmp_path: Path) -> None:
    found = verify(copy_of("lab3"), "lab3", "-k", "valid", f"--report={tmp_path / 'page'}")
    last = found.output[found.output.index("= verdict =") :]
    assert "lab3  ✓ passed" in last
    assert f"report: {tmp_path / 'page' / 'index.html'}" in last
    assert "do first" not in last
