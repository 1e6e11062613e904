"""The `tensorrt` backend over the real Python bindings of the versions that JetPack and PCs have, without TensorRT.

What is shown: every name, overload and argument type that the backend asks for exists in each version. What is not:
that TensorRT then does it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.backends import stand_ins

ROOT = Path(__file__).resolve().parents[3]
# JetPack 6.2's, JetPack 7.2's, and the newest.
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")
CASES = [
    (version, regime)
    for version in VERSIONS
    for regime in ("weak", "strong")
    if (version[:2], regime) != ("11", "weak")
]


@pytest.fixture(scope="module")
def bindings() -> Path:
    """Where they are kept: 1 MB a version."""
    if (reason := stand_ins.missing()) is not None:
        pytest.skip(f"TensorRT's bindings over stand-ins: {reason}")
    return ROOT / ".cache" / "bindings"


@pytest.mark.parametrize(("version", "regime"), CASES)
def test_all_that_is_asked_of_tensorrt_exists(version: str, regime: str, bindings: Path, tmp_path: Path) -> None:
    try:
        made = stand_ins.make(bindings, version)
    except LookupError as error:
        pytest.skip(f"TensorRT's bindings over stand-ins: {error}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.suite.backends.stand_ins.asked", str(tmp_path), regime],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(made), str(ROOT))), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"TensorRT {version}" in done.stdout
