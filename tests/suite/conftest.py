"""For the suite's own tests: the reference labs' artifacts, copies of them to spoil, and pytest run on a copy."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.suite.guard import pytest_pyfunc_call
from trtverify.fixtures.networks.reference import SCRIPTS, LabOptions, Reference
from trtverify.fixtures.submitted.submission import suite_cache

__all__ = ["pytest_pyfunc_call"]
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run of the suite said: verdict and message by test, the exit status, and all it printed."""

    status: int
    verdicts: dict[str, str]
    messages: dict[str, str]
    output: str

    def with_verdict(self, verdict: str) -> set[str]:
        """Names of the test functions, without parameters, of which any ended so."""
        return {test.split("::")[-1].split("[")[0] for test, found in self.verdicts.items() if found == verdict}

    def message(self, function: str) -> str:
        """The messages of one test function's failures."""
        return "\n".join(
            self.messages[test]
            for test, found in self.verdicts.items()
            if found == "failed" and test.split("::")[-1].split("[")[0] == function
        )


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """The reference labs' artifacts by lab, made once and kept in the suite's cache; skips where torch is missing."""
    if missing := [name for name in ("torch", "torchvision", "ultralytics") if find_spec(name) is None]:
        pytest.skip(f"the labs' artifacts need {', '.join(missing)}: pip install -r requirements.txt")
    options = LabOptions(
        weights="untrained", photos=None, cifar10=None, epochs=None, subset=None, calibration_images=32
    )
    reference = Reference(suite_cache(request.config), options, None)
    return reference.directory


@pytest.fixture
def copy_of(labs: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`copy_of("lab1", "lab4")` is a flat submission directory of one's own, free to be spoilt."""

    def copy(*names: str) -> Path:
        folder = tmp_path / "submission"
        for name in names:
            assert name in SCRIPTS
            shutil.copytree(labs(name), folder, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture
def verify(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outcome]:
    """`verify(folder, "lab1")` runs the suite as a teacher would, in a process of its own."""

    def run(folder: Path | None, markers: str, *arguments: str, backend: str = "onnxruntime") -> Outcome:
        results = tmp_path / "results"
        shutil.rmtree(results, ignore_errors=True)
        command = [sys.executable, "-m", "pytest", "-q", "-m", markers, "--backend", backend, f"--summary={results}"]
        command += [f"--suite-cache={suite_cache(request.config)}", "--weights", "untrained", "--benchmark-disable"]
        if folder is not None:
            command.append(f"--submission={folder}")
        environment = {**os.environ, "LANGUAGE": "en", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
            check=False,
        )
        output = done.stdout + done.stderr
        path = results / "run.json"
        if not path.is_file():
            return Outcome(done.returncode, {}, {}, output)
        rows = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
        return Outcome(
            done.returncode,
            {row["test"]: row["verdict"] for row in rows},
            {row["test"]: row["message"] for row in rows},
            output,
        )

    return run
