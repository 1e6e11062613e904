"""The suite installed: what its wheel holds, what it needs, and what it does to a project that asks for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.suite.house.installed import Installed, install
from trtverify.fixtures.submitted.submission import suite_cache
from trtverify.fixtures.words.packages import NEEDED
from trtverify.grading import suite

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DATA = {".txt", ".toml", ".html", ".css", ".js", ".mo", ".typed", ".ini"}
PARTS = ("trtverify", "fixtures", "grading", "labs", "tests")
# What a project that asks for nothing sees of any plugin: its name in the header.
_SAYS = """
import sys, pytest
for words in (["--help"], ["--markers"], ["--fixtures"], ["-W", "error", "--strict-markers", "-v"]):
    print(int(pytest.main(words)))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("trtverify", "numpy", "onnx", "filelock")))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an empty environment, built once."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -r requirements-dev.txt")
    return install(tmp_path_factory.mktemp("installed"))


def requirements(name: str) -> set[str]:
    """The lines of a requirements file that name a package, each as the standard writes it."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {str(Requirement(line)) for line in lines if line and not line.startswith(("#", "-r"))}


def project(*extras: str, always: bool = False) -> set[str]:
    """What `pyproject.toml` asks for, with these extras."""
    found = [*(PROJECT["dependencies"] if always else []), *(line for extra in extras for line in EXTRAS[extra])]
    return {str(Requirement(line)) for line in found}


def test_the_requirements_say_what_the_project_says() -> None:
    assert requirements("requirements.txt") == project("labs", "rtx", "grading", always=True)
    assert requirements("requirements-tensorrt.txt") == project("tensorrt")
    assert requirements("requirements-grading.txt") == project("farm")
    assert requirements("requirements-dev.txt") | requirements("requirements-grading.txt") == project("dev")


def test_a_missing_package_is_named_with_the_version_that_the_project_asks_for() -> None:
    every = {Requirement(line).name: Requirement(line).specifier for line in project(*EXTRAS, always=True)}
    for line in NEEDED.values():
        needed = Requirement(line)
        assert needed.specifier == every.get(needed.name, needed.specifier), line
    assert {Requirement(line).name for line in NEEDED.values()} - every.keys() == {"packaging"}, "which pytest brings"


def test_the_wheel_holds_the_suite_and_nothing_else(installed: Installed) -> None:
    """Code, and the data that it reads; neither tests of its own nor what translators and readers of it need."""
    tracked = subprocess.run(["git", "ls-files", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {"trtverify/conftest.py", "trtverify/pytest.ini"}
    for name in tracked.splitlines():
        if Path(name).suffix in {".py", *DATA} and not name.startswith("tests/suite/"):
            wanted.add(name if name.startswith("trtverify/") else f"trtverify/{name}")
    with zipfile.ZipFile(installed.wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_a_lab_is_verified_from_another_folder(
    installed: Installed, labs: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Options are known there, paths may stand alone, and tests have the names that they have in a checkout."""
    (tmp_path / "my work").symlink_to(labs("lab1"))
    words = ["-m", "pytest", "--pyargs", "trtverify.tests", "-m", "lab1", "--submission", "my work"]
    words += ["--backend", "onnxruntime", f"--suite-cache={suite_cache(request.config)}", "--report", "results"]
    done = installed.run([*words, "-k", "is_valid or interface or manifest"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_lab1_resnet50.py ..." in done.stdout
    assert (
        "tests/test_lab1_resnet50.py::TestResNet50::test_onnx_is_valid" in (tmp_path / "results/run.json").read_text()
    )
    assert str(ROOT) not in done.stdout


def test_a_project_that_asks_for_nothing_gets_nothing(installed: Installed, tmp_path: Path) -> None:
    """No option, marker, fixture, warning, line or import; and its own option of the same name stays its own."""
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--submission')\n")
    (tmp_path / "test_it.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.option.submission is None\n"
    )

    def said(**variables: str) -> list[str]:
        done = installed.run(["-c", _SAYS], tmp_path, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.sub(r"in \d+\.\d+s|trtverify-[\d.]+(, )?|_\d{8}_\d{6}", "", done.stdout + done.stderr).splitlines()

    with_it, without = said(), said(PYTEST_ADDOPTS="-p no:trtverify.fixtures.plugin")
    assert with_it[-1] == "['trtverify', 'trtverify.fixtures', 'trtverify.fixtures.plugin']"
    assert with_it[:-1] == without[:-1]
    assert "1 passed" in "".join(with_it)
    theirs = installed.run(["-m", "pytest", "-q", "--submission", "None"], tmp_path)
    assert "--submission" not in theirs.stderr, theirs.stderr


def test_grading_freezes_the_same_tests_installed(installed: Installed, tmp_path: Path) -> None:
    """The digest is over every name and every byte."""
    _folder, digest = suite.freeze(ROOT, None, tmp_path / "here")
    program = "import sys; from pathlib import Path; from trtverify.grading import suite as s; "
    program += "print(s.freeze(s.REPOSITORY, None, Path(sys.argv[1]))[1])"
    done = installed.run(["-c", program, str(tmp_path / "there")], tmp_path)
    assert done.stdout.strip() == digest, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
def test_a_class_is_graded_installed(installed: Installed, labs: Callable[[str], Path], tmp_path: Path) -> None:
    """From a folder that is no checkout; the sandbox sees this environment's packages, and the frozen suite."""
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann").mkdir()
    for path in labs("lab1").iterdir():
        (tmp_path / "class" / "ann" / path.name).write_bytes(path.read_bytes())
    words = ["-m", "trtverify", "grading", "run", "class", "--out", "results", "--labs", "lab1"]
    words += ["--pytest-option=--backend=onnxruntime"]
    here = Installed(installed.wheel, Path(sys.executable), installed.packages)
    done = here.run(words, tmp_path, PYTHONPATH=str(installed.packages))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_doctor_knows_what_is_needed_installed(installed: Installed, tmp_path: Path) -> None:
    """There is no requirements.txt there: the package itself says."""
    done = installed.run(["-m", "trtverify", "doctor"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in requirements("requirements.txt"):
        if (marker := Requirement(line).marker) is None or marker.evaluate():
            assert f" {Requirement(line).name}: " in done.stdout
    assert "--pyargs trtverify.tests" in done.stdout
