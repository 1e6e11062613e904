"""Fuzzes the readers of students' bytes: `python -m tests.suite.fuzz [--seconds N] [READER …]`.

Each reader runs in a child with bounded memory and time. Whatever makes it do anything but take an input or refuse it
in good order is kept, as small as it could be made, and belongs into `found/` once it is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import hypothesis.configuration
from hypothesis import HealthCheck, Phase

from tests.suite.fuzz.readers import readers

REPOSITORY = Path(__file__).resolve().parents[3]
MEMORY = 4 << 30
INPUT_SECONDS = 20
_BATCH = 500


def child(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Feed a reader until the time is over; ends by an exception, or by a signal, on the first fault."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    hypothesis.configuration.set_hypothesis_home_dir(folder / "hypothesis")
    reader = readers(folder)[name]
    place, current, counts = folder / "place", folder / "current", {"tried": 0, "taken": 0}
    place.mkdir()

    def once(data: bytes) -> None:
        current.write_bytes(data)
        signal.alarm(INPUT_SECONDS)  # its default action ends the process, whatever it is doing
        counts["taken"] += reader.takes(data, place)
        signal.alarm(0)
        current.unlink()
        counts["tried"] += 1

    settings = hypothesis.settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        verbosity=hypothesis.Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    warnings.simplefilter("error")  # as pytest has it: a warning ends a test as any exception does
    inputs, deadline = reader.inputs(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        seed += 1
        hypothesis.seed(seed)(settings(hypothesis.given(inputs)(once)))()
    print(json.dumps(counts))


def fuzz(name: str, seconds: float, keep: Path) -> bool:
    """Fuzz one reader; False if something was found, whose input is then in `keep`."""
    seed = random.randrange(1 << 32)
    line = [sys.executable, "-m", "tests.suite.fuzz", "--child", str(seed), f"--seconds={seconds}", name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        done = subprocess.run([*line, f"--keep={folder}"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            counts = json.loads(done.stdout.splitlines()[-1])
            refused = counts["tried"] - counts["taken"]
            print(f"{name}: {counts['tried']:,} inputs in {seconds:.0f} s, {refused:,} refused; no fault (seed {seed})")
            return True
        current = Path(folder) / "current"
        if not current.exists():
            raise RuntimeError(f"the fuzzer itself failed on {name}: {done.stderr}")
        data = current.read_bytes()
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}"
    path.write_bytes(data)
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
    print(f"{name}: FAULT ({ended}, seed {seed}); the input is {path}\n{_told(done.stderr)}")
    return False


def _told(stderr: str) -> str:
    """The end of what Python said, without the lines that are the input itself."""
    return "\n".join(line for line in stderr.splitlines()[-25:] if len(line) < 300)


def main() -> int:
    """Fuzz the readers one after the other; 1 if anything was found."""
    with tempfile.TemporaryDirectory() as folder:
        names = list(readers(Path(folder)))
    parser = argparse.ArgumentParser(prog="python -m tests.suite.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"some of: {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=float, default=600, metavar="N", help="for each reader (default: 600)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), metavar="DIR", help="where faults are kept")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.readers) - set(names):
        parser.error(f"there is no reader {', '.join(sorted(unknown))}")
    if options.child is not None:
        child(options.readers[0], options.keep, options.seconds, options.child)
        return 0
    results = [fuzz(name, options.seconds, options.keep) for name in options.readers or names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
