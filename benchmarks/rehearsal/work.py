"""What is graded in a rehearsal, and what honest students hand in: right, nearly right, and made by a script."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "suite" / "grading" / "toy"
SECRET = "treasure-271828"  # stands in the hidden tests; no student may ever read it
DUE = "2026-12-01T23:59:00+08:00"
_LIMITS = """
[limits.scripts]
wall_seconds = 10
cpu_seconds = 20
memory_bytes = 700_000_000
processes = 100
file_bytes = 150_000_000
disk_bytes = 300_000_000
inodes = 6000
output_bytes = 4_000_000
[limits.tests]
wall_seconds = {wall}
memory_bytes = 3_000_000_000
"""
# A lab's script that makes what it finds packed beside itself: a process, a sandbox and a snapshot as any other's.
_UNPACKS = """
import pathlib, sys, zipfile
here = pathlib.Path(__file__).parent
zipfile.ZipFile(here / "made.bin").extractall(sys.argv[sys.argv.index("--out") + 1])
"""


@dataclasses.dataclass(frozen=True)
class Checks:
    """What is graded.

    Attributes:
        labs, suite, options: what `run` is told.
        lab, script: the lab that hostile scripts are of, and what its script is called.
        artifact, document: the lab's file for native parsers, and one in JSON.
        honest: makes the work of each kind below a folder; name → folder.
        rubric, hidden: texts.
    """

    labs: str
    suite: Path | None
    options: tuple[str, ...]
    lab: str
    script: str
    artifact: str
    document: str
    honest: Callable[[Path], Mapping[str, Path]]
    rubric: str
    hidden: str


def _toy(into: Path) -> Mapping[str, Path]:
    right: dict[str, Any] = {"answer": 42, "times2": 84, "times3": 126, "bonus": 1}
    wrong = {
        "right": right,
        "without the bonus": {key: right[key] for key in ("answer", "times2", "times3")},
        "one product wrong": {**right, "times3": 127},
        "another answer, so capped": {**right, "answer": 41},
    }
    found = {}
    for name, answer in wrong.items():
        found[name] = _folder(into, name)
        (found[name] / "answer.json").write_text(json.dumps(answer))
        (found[name] / "parsed.txt").write_text("fine")
    found["nothing for lab 1"] = _folder(into, "nothing for lab 1")
    (found["nothing for lab 1"] / "parsed.txt").write_text("fine")
    found["made by a script"] = _by_script(into, found["right"], ("answer.json",), "lab1_export_resnet50.py")
    return found


def _lab3(into: Path) -> Mapping[str, Path]:
    import onnx

    from trtverify.fixtures.networks.reference import LabOptions, Reference

    options = LabOptions(
        weights="untrained", photos=None, cifar10=None, epochs=None, subset=None, calibration_images=32
    )
    source = Reference(ROOT / ".cache" / "verify", options, None).directory("lab3")
    found = {}
    for name in ("right", "without a manifest", "other weights, so capped", "a placement that is none", "no network"):
        found[name] = into / name
        shutil.copytree(source, found[name])
    for path in found["without a manifest"].glob("mobilenet_v2.*"):
        if path.suffix != ".onnx":
            path.unlink()
    graph = found["other weights, so capped"] / "mobilenet_v2.onnx"
    model = onnx.load(str(graph))
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4][:3]
    for tensor in weights:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.3, tensor.name))
    onnx.save(model, str(graph))
    (found["a placement that is none"] / "dla_placement.json").write_text('{"layers": []}')
    for path in found["no network"].glob("mobilenet_v2.*"):
        path.unlink()
    made = sorted(path.name for path in source.iterdir() if path.suffix != ".log")
    found["made by a script"] = _by_script(into, source, made, "lab3_dla_fallback.py")
    return found


def _by_script(into: Path, source: Path, made: tuple[str, ...] | list[str], script: str) -> Path:
    folder = _folder(into, "made by a script")
    (folder / script).write_text(_UNPACKS)
    with zipfile.ZipFile(folder / "made.bin", "w") as archive:
        for path in sorted(source.iterdir()):
            if path.name in made:
                archive.write(path, path.name)
            else:
                shutil.copyfile(path, folder / path.name)
    return folder


def _folder(into: Path, name: str) -> Path:
    (into / name).mkdir(parents=True)
    return into / name


CHECKS = {
    # Checks of a hundredth of a second, for many students and for its own tests.
    "toy": Checks(
        labs="lab1,lab4",
        suite=TOY,
        options=(),
        lab="lab1",
        script="lab1_export_resnet50.py",
        artifact="resnet50.onnx",
        document="answer.json",
        honest=_toy,
        rubric=f"""total = 100
[labs.lab1]
weight = 2
deadline = {DUE}
files = ["answer.json", "lab1_*"]
gates = [{{ match = "test_lab1_answer.py::test_answer", at_most = 0.2 }}]
[labs.lab4]
deadline = {DUE}
[late]
per_day = 0.1
at_most = 0.5
grace_minutes = 15
[[tests]]
match = "test_lab4_parser.py::test_after_the_parser"
visibility = "after_published"
{_LIMITS.format(wall=20)}""",
        hidden=f'''
import pytest
pytestmark = pytest.mark.lab1
@pytest.mark.points(3)
def test_secret_products(answer):
    """{SECRET}"""
    if answer.get("times3") != 126:
        pytest.fail("{SECRET}", pytrace=False)
def test_secret_bonus(answer):
    if "bonus" not in answer:
        pytest.fail("{SECRET}", pytrace=False)
''',
    ),
    # The real suite on real work. What a stopwatch decides is left out: it says something else every time.
    "lab3": Checks(
        labs="lab3",
        suite=None,
        options=("--backend=onnxruntime", "-k not latency and not speedup and not lab1 and not lab2 and not lab5"),
        lab="lab3",
        script="lab3_dla_fallback.py",
        artifact="mobilenet_v2.onnx",
        document="dla_placement.json",
        honest=_lab3,
        rubric=f"""total = 100
[labs.lab3]
deadline = {DUE}
files = ["mobilenet_v2*", "dla_placement.json", "layer_info.json", "lab3_*.py"]
gates = [
    {{ match = "test_lab3_*::test_architecture", at_most = 0.2 }},
    {{ match = "test_lab3_*::test_parity_with_the_framework", at_most = 0.5 }},
]
[late]
per_day = 0.1
at_most = 0.5
grace_minutes = 15
[[tests]]
match = "test_lab3_dla.py::TestMobileNetV2::test_crossings_add_up"
visibility = "after_published"
{_LIMITS.format(wall=240)}""",
        hidden=f'''
import pytest
pytestmark = pytest.mark.lab3
@pytest.mark.points(3)
def test_secret_placement(submission):
    """{SECRET}"""
    import json
    path = submission.require("lab3", "dla_placement.json")
    if not json.loads(path.read_text())["layers"]:
        pytest.fail("{SECRET}", pytrace=False)
def test_secret_manifest(submission):
    if submission.find("lab3", "mobilenet_v2.manifest.json") is None:
        pytest.fail("{SECRET}", pytrace=False)
''',
    ),
}
