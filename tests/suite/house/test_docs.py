"""What the documents point at is there, and the pictures are small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("docs", "grading", "templates")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
PICTURES = sorted((ROOT / "docs" / "screenshots").glob("*.png"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every link and picture that is not on the network."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_pictures_are_all_there_and_small() -> None:
    """Desktop and phone, light and dark, in both languages."""
    both = ("desktop", "phone")
    wanted = {
        f"{page}-{screen}-{scheme}-{language}.png"
        for page, screens in (("report", both), ("class", both), ("student", ("phone",)))
        for screen in screens
        for scheme in ("light", "dark")
        for language in ("en", "zh-TW")
    }
    assert {path.name for path in PICTURES} == wanted
    assert [path.name for path in PICTURES if path.stat().st_size > 200_000] == []


def test_readmes_name_the_same_commands() -> None:
    """The Chinese README gives every command that the English one gives."""

    def commands(name: str) -> set[str]:
        blocks = re.findall(r"```\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
        return {line.partition("  ")[0].strip() for block in blocks for line in block.splitlines() if line.strip()}

    assert commands("README.md") - commands("README.zh-TW.md") <= {"pytest --help"}
