"""Lab 4 of the toy suite: a trusted test whose parser a student's file can bring down."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab4


@pytest.mark.points(3)
def test_parser(submission: Path) -> None:
    path = submission / "parsed.txt"
    word = path.read_text() if path.is_file() else ""
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "exit":
        os._exit(0)
    elif word == "memory":
        hoard = bytearray(4 << 30)
        hoard[::4096] = b"x" * (len(hoard) // 4096)
    elif word == "hang":
        time.sleep(600)
    elif word.startswith("sleep "):
        time.sleep(float(word.split()[1]))
    elif word.startswith("# taken over"):
        exec(word)  # as a parser's fault would let the file do
    elif word == "loud":
        print("\x1b]0;title\x07" * 1000)
        pytest.fail("\x1b[2Jexpected: quiet\nfound: \x1b[31mloud", pytrace=False)
    elif word != "fine":
        pytest.fail(f"expected: fine\nfound: {word!r}", pytrace=False)


def test_after_the_parser(submission: Path) -> None:
    assert submission.is_dir()
