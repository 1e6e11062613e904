"""What the documents point at is there, and the pictures are small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.house.blocks import blocks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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

    def commands(path: Path) -> list[tuple[str, list[str]]]:
        return [
            (block.marked, [re.split(r"\s+#", line)[0] for line in block.text.splitlines()]) for block in blocks(path)
        ]

    pages = [path for path in DOCUMENTS if path.name.endswith(".zh-TW.md")]
    assert len(pages) >= 10
    for page in pages:
        assert commands(page) == commands(page.with_name(page.name.replace(".zh-TW.md", ".md"))), page


def test_how_tos_are_there_in_both_languages() -> None:
    """A page a symptom, each named in the contents of its language, and each with the four parts."""
    folder = ROOT / "docs" / "how-to"
    english = {path.name for path in folder.glob("*.md") if not path.name.endswith(".zh-TW.md")} - {"README.md"}
    for language, names in (("", english), (".zh-TW", {name.replace(".md", ".zh-TW.md") for name in english})):
        contents = (folder / f"README{language}.md").read_text(encoding="utf-8")
        assert (
            set(re.findall(r"\]\(([a-z0-9.-]+(?:zh-TW)?\.md)\)", contents))
            - {
                "README.md",
                "README.zh-TW.md",
            }
            == names
        )
        for name in names:
            text = (folder / name).read_text(encoding="utf-8")
            assert text.count("\n## ") >= 4, name
            assert len(text.splitlines()) < 80, name


def test_the_tree_is_the_real_one() -> None:
    """Every folder of code and documents that git knows, but those of the suite's tests."""
    (tree,) = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    said, above = set(), [""]
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth + 1 :] = [above[depth] + line.split()[0]]
        said.add(above[depth + 1].rstrip("/"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {str(parent) for name in tracked.splitlines() for parent in Path(name).parents} - {"."}
    below = ("tests/suite/", "fixtures/words/locale/", ".")
    assert said == {folder for folder in folders if not folder.startswith(below)}


def test_the_rooms_are_the_real_ones() -> None:
    """What each room stands on, as `rooms.toml` has it; loose files stand in no table."""
    rooms = tomllib.loads(Path(__file__).with_name("rooms.toml").read_text(encoding="utf-8"))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"\| `(fixtures|grading)/(\w+)` \| ([^|]+) ", text)
    said = {f"{folder}/{room}": re.findall(r"`(\w+)`", on) for folder, room, on in found}
    assert said == {
        f"{folder}/{room}": on
        for folder in ("fixtures", "grading")
        for room, on in rooms[folder].items()
        if room != "loose" and (ROOT / folder / room).is_dir()
    }
