"""`make bench`: collection against an empty project, and what installing costs it; runs' own share."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
PLUGIN = "trtverify.fixtures.plugin"


def wall(arguments: list[str], folder: Path, **variables: str) -> float:
    """Seconds that `python -m pytest …` takes in a folder; ends the benchmark if it fails."""
    command = [sys.executable, "-m", "pytest", *arguments]
    # With compiled modules kept, as from anybody's second run on.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.update(variables)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return seconds


def empty_project(scratch: Path) -> Path:
    """A folder with one test that does nothing."""
    empty = scratch / "empty"
    empty.mkdir()
    (empty / "test_nothing.py").write_text("def test_nothing() -> None:\n    pass\n", encoding="utf-8")
    return empty


def loading(scratch: Path, empty: Path) -> float:
    """What an empty project's run takes longer where the suite is installed, milliseconds: median of pairs."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(scratch / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (scratch / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "site")
    words = ["-q", "-p", "no:cacheprovider"]

    def pair() -> float:
        with_it = wall(words, empty, PYTHONPATH=str(scratch / "site"))
        return with_it - wall([*words, "-p", f"no:{PLUGIN}"], empty)

    pair()
    return 1e3 * statistics.median(pair() for _round in range(3 * ROUNDS))


def collection(empty: Path) -> float:
    """Median of collecting this project over that of an empty one with the same plugins, taken in turn."""
    ours, theirs = [], []
    for folder in (ROOT, empty):
        wall(["--collect-only", "-q", "-p", "no:cacheprovider"], folder)
    for _round in range(ROUNDS):
        ours.append(wall(["--collect-only", "-q", "-p", "no:cacheprovider"], ROOT))
        theirs.append(wall(["--collect-only", "-q", "-p", "no:cacheprovider"], empty))
    return statistics.median(ours) / statistics.median(theirs)


def runs(scratch: Path) -> tuple[float, float, float]:
    """Warm wall over cold wall; and of each run the share that is not export, build, inference or training."""
    walls, shares = [], []
    for name in ("cold", "warm"):
        summary = scratch / name
        arguments = ["-q", f"--suite-cache={scratch / 'cache'}", f"--summary={summary}", "--weights=untrained"]
        walls.append(wall(arguments, ROOT))
        seconds = json.loads((summary / "run.json").read_text(encoding="utf-8"))["seconds"]
        shares.append(1 - sum(value for key, value in seconds.items() if key != "all") / seconds["all"])
    print(f"cold {walls[0]:.0f} s, warm {walls[1]:.0f} s on this machine")
    return walls[1] / walls[0], shares[0], shares[1]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        empty = empty_project(scratch)
        print(f"collection / an empty project's: {collection(empty):.2f}  (goal: at most 1.4)", flush=True)
        print(f"installed, in an empty project:  {loading(scratch, empty):.0f} ms  (goal: at most 20)", flush=True)
        ratio, cold, warm = runs(scratch)
        print(f"warm verify / cold verify:       {ratio:.2f}")
        print(f"the suite's own share, cold:     {cold:.1%}  (goal: at most 5 %)")
        print(f"the suite's own share, warm:     {warm:.1%}")


if __name__ == "__main__":
    main()
