"""Grading speaks the language that was asked for; what it keeps stays as it was said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import Class
from trtverify.fixtures.words.messages import use_language


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    use_language("en")


def test_notes_and_messages_are_in_the_runs_language(a_class: Class, tmp_path: Path) -> None:
    """The workers and the tests in the sandbox speak it too, also after an interruption."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "test_told.py").write_text("import os\ndef test_told():\n    assert not os.environ['LANGUAGE']\n")
    a_class.hand_in("ann")
    (a_class.submissions / "eve.zip").write_bytes(b"no archive")
    a_class("run", "--hidden-tests", str(hidden), "--lang", "zh-TW")
    a_class("regrade", "--lang=en")
    verdict, message = a_class.messages("ann")["hidden/test_told.py::test_told"]
    assert (verdict, "zh_TW" in message) == ("failed", True)
    assert "無法收取繳交作業：無論檔名為何，它不是 zip 或 tar 壓縮檔" in a_class("show", "eve").stdout


def test_commands_speak_the_language(a_class: Class) -> None:
    """Each on its own: results that were made in English are shown in Chinese, and the other way round."""
    a_class.hand_in("ann")
    a_class("run")
    assert "9.00 of 9.00 points" in a_class("show", "ann", "--lang=en").stdout
    shown = a_class("show", "ann", "--lang=zh-TW").stdout
    assert "9.00 分中得 9.00 分" in shown
    assert "通過" in shown
    assert "沒有 zoe 的繳交作業" in a_class("show", "zoe", "--lang=zh-TW", status=2).stderr
    assert "no submission of zoe" in a_class("show", "zoe", "--lang=en", status=2).stderr
