"""Every command that the documents give is run, on a copy of this checkout, or marked with the reason why it is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.suite.house.blocks import Block, blocks
from trtverify.fixtures.submitted.submission import suite_cache

ROOT = Path(__file__).resolve().parents[3]
_FOLDERS = (ROOT / "docs", ROOT / "docs" / "how-to")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "grading/README.md")),
    *sorted(path for folder in _FOLDERS for path in folder.glob("*.md") if not path.name.endswith(".zh-TW.md")),
]
BLOCKS = [block for page in PAGES for block in blocks(page)]
SAVED = Path(__file__).parents[1] / "formats" / "saved"
_POLYGRAPHY = " -c 'import sys; from polygraphy.tools import main; sys.exit(main())'"
_PROGRAMS = {"python": "", "python3": "", "pytest": " -m pytest", "polygraphy": _POLYGRAPHY}
_LABS = ("lab1", "lab2", "lab3", "lab4", "lab5")


def parameters() -> list[object]:
    """The blocks that are run, with their place as a name."""
    return [
        pytest.param(
            block,
            id=f"{block.page.relative_to(ROOT)}:{block.line}",
            marks=[pytest.mark.slow] if block.marked == "slow" else [],
        )
        for block in BLOCKS
        if block.marked != "unrun"
    ]


def needed(block: Block) -> tuple[str, ...]:
    """The labs whose artifacts must be there: those that are named, and what lab 4 stands on; all where a line names
    none."""
    lines = [line for line in block.text.splitlines() if re.search(r"\b(DIR|SUBMISSIONS)\b", line)]
    named = [set(re.findall(r"\blab[1-5]\b", line)) for line in lines]
    wanted = set().union(*named) if all(named) else set(_LABS)
    return tuple(sorted(wanted | ({"lab1"} if "lab4" in wanted else set())))


@pytest.fixture
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of what git knows, with this one's cache, and an environment's programs in `bin/`."""
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    (copy / ".cache").mkdir()
    (copy / ".cache" / "verify").symlink_to(suite_cache(request.config))
    (copy / "bin").mkdir()
    for name, words in _PROGRAMS.items():
        (copy / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
        (copy / "bin" / name).chmod(0o755)
    return copy


@pytest.mark.parametrize("block", parameters())
def test_commands_run(block: Block, checkout: Path, labs: Callable[[str], Path]) -> None:
    """Each block as a shell would run it, with what stands for something of the reader's filled in."""
    folder = checkout.parent / "handed in"
    folder.mkdir()
    for lab in needed(block):
        for path in labs(lab).iterdir():
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / path.name)
    (checkout.parent / "class").mkdir()
    (checkout.parent / "class" / "ann").symlink_to(folder)
    filled = {
        "A B": " ".join(str(path) for path in [*SAVED.iterdir()][:1] * 2),
        "DIR": f"'{folder}'",
        "MODEL.onnx": str(labs("lab3") / "mobilenet_v2.onnx") if "MODEL" in block.text else "",
        "RESULTS": str(checkout.parent / "results"),
        "SUBMISSIONS": str(checkout.parent / "class"),
        "STUDENT": "ann",
    }
    script = re.sub(r"\b(" + "|".join(filled) + r")\b", lambda found: filled[found[1]], block.text)
    environment = {**os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "LANGUAGE": "en"}
    for name in ("PYTEST_ADDOPTS", "PYTHONPATH", "COLUMNS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def test_what_is_not_run_says_why() -> None:
    """And a page of commands that are all left out would prove nothing."""
    assert all(len(block.why) > 5 for block in BLOCKS if block.marked)
    assert sum(block.marked == "" for block in BLOCKS) >= 5
    assert sum(block.marked == "slow" for block in BLOCKS) >= 5
