"""`python -m tests.suite.formats.write FOLDER`: what this version saves, for `saved/VERSION/`, at each release.

The run is lab 3's in ONNX Runtime: small, and with engines, samples, a speedup, an agreement and a placement.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.suite.engines.counting import FP32, Counting
from trtverify.fixtures.engines.engine_cache import EngineCache
from trtverify.fixtures.submitted.calibration_cache import Provenance, write_sidecar
from trtverify.grading.store import Expected, Store, Student

ROOT = Path(__file__).resolve().parents[3]
# The rubric is this checkout's where the results are read.
SETTINGS = {"submissions": "class", "suite": "suite", "labs": ["lab1"], "rubric": "RUBRIC", "pytest_options": []}
MADE_FROM = Provenance("a" * 64, "b" * 64, {"layout": "NCHW"}, "EntropyCalibration2", "10.3.0", 32)
SCALES = "TRT-100300-EntropyCalibration2\nimages: 3caa54fc\nlogits: 3e0f5c29\n"


def run(folder: Path) -> None:
    """`run.json` and `evidence.zip`."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "lab3", "--backend=onnxruntime", "--weights=untrained"]
    with tempfile.TemporaryDirectory() as scratch:
        command += [f"--evidence={folder / 'evidence.zip'}", f"--summary={scratch}"]
        subprocess.run(command, cwd=ROOT, check=True)
        shutil.copy(Path(scratch) / "run.json", folder)


def results(folder: Path) -> None:
    """`results.sql`: a class of two, as SQLite writes it out."""
    tests = [
        Expected("tests/test_a.py::test_one", "lab1", 2.0),
        Expected("hidden/test_b.py::test_two", "lab1", 1.0, True),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        with contextlib.closing(Store(Path(scratch), create=True)) as store:
            students = [Student("ann", "class/ann", 1.0), Student("bob", "class/bob", 2.0)]
            store.expect(students, tests, {"settings": json.dumps(SETTINGS), "frozen": "frozen"})
            store.taken("ann", "d" * 32, ["left out: model.engine"], "s" * 32)
            store.record("d" * 32, "s" * 32, tests[0].test, "passed", "", 0.5)
            store.record("d" * 32, "s" * 32, tests[1].test, "not gradable", "not gradable: throttled: hot", 0.25)
            store.rejected("bob", "it is no archive")
        with contextlib.closing(sqlite3.connect(Path(scratch) / "results.sqlite")) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            lines = [f"PRAGMA user_version = {version};", *db.iterdump()]
    (folder / "results.sql").write_text("\n".join(lines) + "\n", encoding="utf-8")


def caches(folder: Path) -> None:
    """An entry of the engine cache, and a calibration cache with its provenance."""
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        model.write_bytes(b"a model")
        engine = EngineCache(Path(scratch) / "engines").build(model, Counting(), FP32)
        shutil.copytree(engine.path.parent, folder / "engine")
    cache = folder / "resnet50_int8.cache"
    cache.write_text(SCALES, encoding="utf-8")
    write_sidecar(cache, MADE_FROM)


if __name__ == "__main__":
    into = Path(sys.argv[1])
    into.mkdir(parents=True)
    for write in (run, results, caches):
        write(into)
