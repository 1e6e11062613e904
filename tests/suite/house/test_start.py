"""How pytest is started: from elsewhere, with paths that stand alone, beside other plugins, with a package missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.house.installed import ran
from trtverify.fixtures.plugin import checkout, meant
from trtverify.fixtures.words.packages import NEEDED, lacking

ROOT = Path(__file__).resolve().parents[3]
# What pytest-xdist adds, as far as the suite looks at it.
_XDIST = (
    "def pytest_addoption(parser):\n    parser.addoption('--numprocesses', type=int)\n    parser.addoption('--dist')\n"
)


def pytest_in(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with the plugin loaded as it is where the suite is installed."""
    command = [sys.executable, "-m", "pytest", "-p", "trtverify.fixtures.plugin", "-p", "no:xdist", "-q", *words]
    return ran(command, folder, **{"PYTHONPATH": str(ROOT), **variables})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's folder; what was handed in lies in another one."""
    for name in ("project", "theirs/handed in"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "project"


def test_when_the_suite_is_meant(project: Path) -> None:
    assert meant(["--submission", "x"], project)
    assert meant(["--from-evidence=x"], project)
    assert meant(["--pyargs", "trtverify.tests"], project)
    assert meant(["-ptrtverify.fixtures.features"], project)
    assert not meant(["-q", "--backend", "numpy"], project)
    assert meant([], ROOT)
    assert meant([], ROOT / "tests")
    (project / "conftest.py").write_text("parser.addoption('--submission')")
    assert not meant(["--submission", "x"], project)


def test_a_checkout_is_known_by_the_nearest_settings(project: Path) -> None:
    assert checkout(ROOT / "labs") == ROOT
    assert checkout(ROOT / "tests" / "suite" / "grading" / "toy") is None
    assert checkout(project) is None


def test_a_path_may_stand_alone(project: Path) -> None:
    """pytest alone would take the folder's own settings for those of the run, and these find no tests."""
    (project.parent / "theirs" / "pytest.ini").write_text("[pytest]\npython_files = nothing.py\n")
    for folder in (ROOT, project):
        words = ["--collect-only", "--submission", str(project.parent / "theirs" / "handed in"), "-m", "lab1"]
        done = pytest_in(folder, *words, *(["--pyargs", "trtverify.tests"] if folder == project else []))
        assert "test_lab1_resnet50.py::TestResNet50::test_interface" in done.stdout, done.stdout + done.stderr
        assert "test_lab2" not in done.stdout
        assert "suite" not in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-p", "no:benchmark"], "latencies are taken through pytest-benchmark"),
        (["-p", "xdist_like", "--numprocesses=2"], "would measure each other"),
        (["-c", str(ROOT / "pytest.ini")], "says how to test, not what: add"),
        (["--submission", "SUBMISSION"], "which was handed in: write --submission=DIR"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(project: Path, words: list[str], expected: str) -> None:
    (project / "xdist_like.py").write_text(_XDIST)
    handed_in = project.parent / "theirs" / "handed in"
    (handed_in / "pytest.ini").write_text("[pytest]\n")
    words = [str(handed_in) if word == "SUBMISSION" else word for word in words]
    done = pytest_in(project, *words, "-p", "trtverify.fixtures.features")
    assert done.returncode == 4, done.stdout + done.stderr
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert expected in line


def test_tests_of_the_suite_itself_may_run_side_by_side(project: Path) -> None:
    (project / "xdist_like.py").write_text(_XDIST)
    path = f"{ROOT}:{project}"
    words = ["-p", "xdist_like", "--numprocesses=2", "--collect-only", "tests/suite/house/test_guard.py"]
    assert pytest_in(ROOT, *words, PYTHONPATH=path).returncode == 0


def test_settings_from_elsewhere(project: Path) -> None:
    """`-c` says which settings; the tests are named beside."""
    done = pytest_in(project, "-c", str(ROOT / "pytest.ini"), str(ROOT / "tests"), "--collect-only", "-m", "lab3")
    assert "tests/test_lab3_dla.py::TestMobileNetV2::test_interface" in done.stdout, done.stdout + done.stderr


def test_another_checkout_than_the_installed_one_is_refused(tmp_path: Path) -> None:
    """Else one's code would judge the other's, and nobody would see it."""
    for name in ("conftest.py", "pytest.ini"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = ran([sys.executable, "-m", "pytest", "-q"], tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 4
    assert f"start them in {tmp_path} with python -m pytest" in done.stdout + done.stderr


# A lab's test each that needs one package; all are blocked.
_CLAIMS = """
import pytest
@pytest.mark.lab1
@pytest.mark.parametrize("name", {names})
def test_claim(name):
    __import__(name)
@pytest.fixture
def prepared():
    import PIL
@pytest.mark.lab2
def test_fixture(prepared):
    pass
def test_no_claim():
    import PIL
@pytest.mark.lab3
def test_typing_error():
    import trtverify.fixtures.no_such_module
"""
_BLOCKED = """
import importlib.metadata as metadata, os
from importlib.machinery import PathFinder
find, from_name = PathFinder.find_spec, metadata.Distribution.from_name
blocked = os.environ.get("BLOCKED", "").split(",")
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in blocked else find(name, path, target)
def distribution(name):
    if name.replace("-", "_") in blocked:
        raise metadata.PackageNotFoundError(name)
    return from_name(name)
class Unbound:  # a class that keeps it as an attribute must not make a method of it
    def __init__(self, call):
        self.call = call
    def __call__(self, *given, **named):
        return self.call(*given, **named)
PathFinder.find_spec, metadata.Distribution.from_name = map(Unbound, (find_spec, distribution))
"""
_LATER = sorted(NEEDED.keys() - {"filelock", "packaging", "pytest_benchmark"})


def test_a_missing_package_is_one_line(project: Path) -> None:
    """A claim that needs it is not gradable; what is no claim, or no package that the suite needs, fails as ever."""
    (project / "sitecustomize.py").write_text(_BLOCKED)
    (project / "test_it.py").write_text(_CLAIMS.format(names=_LATER))
    (project / "pytest.ini").write_text("[pytest]\n")
    variables = {"PYTHONPATH": f"{project}:{ROOT}", "BLOCKED": ",".join(set(_LATER) - {"tomli"})}
    done = pytest_in(project, "-p", "trtverify.fixtures.features", "-rsf", "--summary=out", **variables)
    rows = {row["test"]: row for row in json.loads((project / "out/run.json").read_text(encoding="utf-8"))["verdicts"]}
    for name in set(_LATER) - {"tomli"}:
        row = rows[f"test_it.py::test_claim[{name}]"]
        command = f"{name} is not installed: pip install '{NEEDED[name]}'"
        assert (row["verdict"], row["message"]) == ("not gradable", f"not gradable: dependency missing: {command}")
    assert "pip install 'pillow>=10.0'" in rows["test_it.py::test_fixture"]["message"]
    assert rows["test_it.py::test_typing_error"]["verdict"] == "failed"
    assert "FAILED test_it.py::test_no_claim" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["filelock", "pytest_benchmark"])
def test_what_loading_itself_needs_is_one_line_too(project: Path, name: str) -> None:
    (project / "sitecustomize.py").write_text(_BLOCKED)
    variables = {"PYTHONPATH": f"{project}:{ROOT}", "BLOCKED": name, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for folder, words in ((ROOT, []), (project, ["--pyargs", "trtverify.tests"])):
        done = pytest_in(folder, "--collect-only", *words, **variables)
        (line,) = (done.stdout + done.stderr).strip().splitlines()
        assert line.endswith(f"pip install '{NEEDED[name]}'"), line


def test_a_command_that_lacks_a_package_says_so(project: Path) -> None:
    (project / "sitecustomize.py").write_text(_BLOCKED)
    (project / "resnet50.onnx").write_bytes(b"any")
    command = [sys.executable, "-m", "trtverify", "sensitivity", "resnet50.onnx"]
    done = ran(command, project, PYTHONPATH=f"{project}:{ROOT}", BLOCKED="onnx,onnxruntime")
    assert done.returncode == 2
    assert done.stderr.strip() == "onnx is not installed: pip install 'onnx>=1.15'"


def test_windows_has_no_pseudo_terminals_and_needs_none(project: Path) -> None:
    (project / "sitecustomize.py").write_text(_BLOCKED)
    variables = {"PYTHONPATH": f"{project}:{ROOT}", "BLOCKED": "termios"}
    done = pytest_in(ROOT, "--collect-only", "-m", "lab1", **variables)
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_errors_are_left_alone() -> None:
    assert lacking(ValueError("no module named onnx")) is None
    assert lacking(ModuleNotFoundError("x", name="trtverify.fixtures.x")) is None
