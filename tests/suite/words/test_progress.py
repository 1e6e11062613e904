"""Progress on a terminal and none elsewhere: pytest run in a pseudo terminal, and with pipes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STEPS = """
import sys, time
from trtverify.fixtures.words import progress

LAB = '''
import sys, time
from tqdm import tqdm
for _ in tqdm(range(3), desc="a bar of its own", disable=not sys.stderr.isatty(), leave=False):
    time.sleep(0.2)
print("written")
sys.exit("error: it broke")
'''

def test_long():
    with progress.shown("a long step"):
        time.sleep(progress.AFTER + 2 * progress.EVERY)
    print("kept from the terminal")

def test_short():
    with progress.shown("a short step"):
        time.sleep(0.1)

def test_program():
    done = progress.run([sys.executable, "-c", LAB])
    assert (done.returncode, done.stdout.strip()) == (1, "written")
    assert done.stderr.splitlines()[-1] == "error: it broke"
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    path = tmp_path / "test_steps.py"
    path.write_text(STEPS)
    options = [
        "-p",
        "trtverify.fixtures.words.progress",
        "-p",
        "no:cacheprovider",
        "-v",
        f"--rootdir={tmp_path}",
        "-c",
        os.devnull,
    ]
    return [sys.executable, "-m", "pytest", *options, str(path)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"}


def test_a_terminal_sees_what_takes_long(command: list[str]) -> None:
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=its, stdout=its, stderr=its):
        os.close(its)
        said = b""
        with contextlib.suppress(OSError):  # Linux ends a pseudo terminal so
            while block := os.read(ours, 4096):
                said += block
    os.close(ours)
    text = said.decode(errors="replace")
    assert "3 passed" in text, text
    assert "a long step 00:02" in text
    assert "a bar of its own: 100%" in text
    assert "a short step" not in text
    assert "kept from the terminal" not in text


def test_elsewhere_it_is_quiet(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout
    assert done.stderr == ""
    assert "a long step" not in done.stdout
    assert "a bar of its own" not in done.stdout
