"""The command blocks of the documents, and how each is marked in the page's source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^(?:<!-- (slow|unrun): ([^\n]+) -->\n)?^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```(\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of commands.

    Attributes:
        line: where it begins.
        marked: "slow", "unrun", or "" for one that `make test` runs.
        why: the reason that is given for the mark.
    """

    page: Path
    line: int
    text: str
    marked: str
    why: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that name no language: those are commands."""
    text = page.read_text(encoding="utf-8")
    # Others are kept as so many empty lines, that lines can still be counted.
    text = _FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(3))
        yield Block(page, line, found[3], found[1] or "", found[2] or "")
