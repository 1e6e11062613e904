"""The suite as others have it: its wheel, and an environment that nothing else is installed in."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it; what the suite depends on is this environment's.

    Attributes:
        wheel: what was built.
        python: the environment's interpreter.
        packages: the folder that the wheel's content lies in.
    """

    wheel: Path
    python: Path
    packages: Path

    def run(self, words: Sequence[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the interpreter; nothing of this checkout can be imported."""
        return ran([str(self.python), *words], cwd, **variables)


def ran(command: Sequence[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in English, with what it says kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PYTEST"))}
    environment = {**kept, "LANGUAGE": "en", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200", **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", timeout=600, check=False
    )


def install(folder: Path) -> Installed:
    """Build the wheel and install it, with no network.

    Raises:
        RuntimeError: it cannot be built or installed; says what the tool said.
    """
    _done([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")])
    (wheel,) = (folder / "dist").glob("*.whl")
    _done([sys.executable, "-m", "venv", "--without-pip", str(folder / "empty")])
    python = folder / "empty" / "bin" / "python"
    _done([sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)])
    (packages,) = (folder / "empty" / "lib").glob("python*/site-packages")
    # Without the code of the checkout, should that be installed there too.
    beside = folder / "beside"
    beside.mkdir()
    for folder_of_packages in (Path(place) for place in sys.path if place.endswith("-packages")):
        for path in folder_of_packages.iterdir():
            if "trtverify" not in path.name and path.suffix != ".pth" and not (beside / path.name).exists():
                (beside / path.name).symlink_to(path)
    (packages / "beside.pth").write_text(f"{beside}\n", encoding="utf-8")
    return Installed(wheel, python, packages)


def _done(command: list[str]) -> None:
    done = ran(command, ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
