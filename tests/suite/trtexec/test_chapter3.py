"""The page of the chapter's commands is what the rules say today, and its own lines do what they are there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import chapter3
from trtverify.fixtures.trtexec.command import Command, Version
from trtverify.fixtures.trtexec.remarks import remarks
from trtverify.fixtures.words import messages

DOCS = Path(__file__).resolve().parents[3] / "docs"
LINES = chapter3.lines()


@pytest.mark.parametrize(("language", "name"), chapter3.PAGES.items())
def test_the_page_is_up_to_date(language: str, name: str) -> None:
    """Else: `python docs/chapter3.py`."""
    messages.use_language(language)
    try:
        assert (DOCS / name).read_text(encoding="utf-8") == chapter3.page()
    finally:
        messages.use_language("en")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.command)
def test_the_right_lines_are_right(line: chapter3.Line) -> None:
    """Nothing stops them and nothing misleads, in the versions that they are given for."""
    for name, version in chapter3.COLUMNS:
        new = version >= Version(11, 0)
        for command in line.newest if new else line.right:
            if command.startswith("trtexec"):
                shown = command.partition(" 2>&1")[0]
                wrong = [r for r in remarks(line.setting(version, shown)) if r.fatal or r.misleads or r.kind == "idle"]
                assert wrong == [], f"{name}: {shown}: {wrong[0]}"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.command)
def test_the_chapters_own_lines_are_those_that_need_a_word(line: chapter3.Line) -> None:
    """In each there is something to say in some version, and the right line is about the same files."""
    assert any(remarks(line.setting(version)) for _name, version in chapter3.COLUMNS)
    own, right = Command.read(line.command), [Command.read(command) for command in line.right]
    for option in ("--onnx", "--loadEngine", "--saveEngine"):
        assert own.value(option) is None or own.value(option) in [command.value(option) for command in right]


def test_a_logs_name_is_on_the_page() -> None:
    text = (DOCS / chapter3.PAGES["en"]).read_text(encoding="utf-8")
    for line in LINES:
        assert f"`{line.command}`" in text
    assert text.count("<!-- unrun: needs a GPU -->") == 1 + 2 * len(LINES)
