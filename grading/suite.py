"""The trusted tests, frozen: a copy that no edit during a run changes, known by its digest, and what it expects."""

from __future__ import annotations

import compileall
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtverify.fixtures.words.messages import _

from .sandbox import box
from .sandbox.box import CHANNEL
from .sandbox.launch import Spec
from .sandbox.limits import Limits
from .store import Expected
from .worth.rules import LABS as LABS

REPOSITORY = Path(__file__).resolve().parents[1]
HIDDEN = "hidden"
_TRUSTED = "/trusted"
_PARTS = ("conftest.py", "pytest.ini", "tests")
# The suite's own code, from `root` where that is a whole checkout, else this program's: tests alone stand on it too.
_CODE = ("trtverify", "fixtures", "labs")
_NAME = ("__init__.py", "__main__.py", "py.typed")
_JOB = "grading-job-"
_LINE = 1 << 20  # a message of 20,000 characters, all of them escaped, and room to spare
# What else happens to be installed is not loaded: it takes longer than a small check, and may change one.
_PLUGINS = ("trtverify.grading.plugin", "pytest_benchmark.plugin")
# What is read by people, translators and the suite's own tests alone: no verdict depends on it.
_IGNORED = shutil.ignore_patterns("__pycache__", "suite", ".*", "*.pyc", "*.md", "*.po", "babel.cfg")


class SuiteError(ValueError):
    """The trusted tests themselves cannot be collected or run: the teacher's to mend, no student's fault."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """A frozen suite.

    Attributes:
        folder: holds `suite/`, and perhaps `hidden/`, which only its own runs see.
        digest: sha256 over names and contents; verdicts are kept with it.
        shown: folders that the tests need beside the submission, such as photographs → where they appear.
        options: pytest options, the teacher's own last.
        limits: of one submission's tests.
        gpu: the tests may use the GPU.
        language: of the tests' messages.
    """

    folder: Path
    digest: str
    shown: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    limits: Limits = dataclasses.field(default_factory=Limits)
    gpu: bool = False
    language: str = "en"

    def spec(self, job: Path, *, submission: Path | None, hidden: bool = False) -> Spec:
        """The sandbox in which the tests look at a submission; without one they are only collected.

        Args:
            hidden: run the teacher's hidden tests and no others. Without it, their source is not in the sandbox.
        """
        command = [sys.executable, "-m", "pytest", f"--rootdir={_TRUSTED}/suite", f"--confcutdir={_TRUSTED}/suite"]
        command += ["-c", f"{_TRUSTED}/suite/pytest.ini", "-p", "no:cacheprovider", "-q"]
        command += [word for plugin in _PLUGINS for word in ("-p", plugin)]
        command += [f"--grading-fd={CHANNEL}", "--grading-job=/job/job.json", "--suite-cache=/sandbox/work/cache"]
        # Room in the sandbox is what the submission is allowed, not the machine's disk.
        command += ["-p", "no:trtverify.fixtures.words.room"]
        # "=" matters: pytest reads the conftest.py of any folder that stands as a word of its own.
        command.append("--collect-only" if submission is None else "--submission=/submission")
        secret = self.folder / HIDDEN
        shown = {self.folder / "suite": f"{_TRUSTED}/suite", job: "/job", **self.shown}
        command += self.options
        if submission is None or not hidden:
            command.append("tests")
        if secret.is_dir() and (submission is None or hidden):
            command.append(HIDDEN)
            shown[secret] = f"{_TRUSTED}/suite/{HIDDEN}"
        return Spec(
            # pytest takes node ids and settings from the folder it starts in.
            ["sh", "-c", f'cd {_TRUSTED}/suite && exec "$@"', "sh", *command],
            read_only=shown if submission is None else {**shown, submission: "/submission"},
            environment={
                "PYTHONPATH": f"{_TRUSTED}/suite",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "LANGUAGE": self.language.replace("-", "_"),
            },
            limits=self.limits,
            gpu=self.gpu,
        )


def freeze(root: Path, hidden: Path | None, into: Path) -> tuple[Path, str]:
    """Copy a suite, the grader's own plugin and the teacher's hidden tests into `into`/digest.

    Returns:
        The copy and its digest.

    Raises:
        SuiteError: there are no tests at `root`.
    """
    if not (root / "pytest.ini").is_file() or not (root / "tests").is_dir():
        raise SuiteError(_("{folder} should hold pytest.ini and tests/").format(folder=root))
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".freezing-", dir=into) as folder:
        copy = Path(folder) / "copy"
        for part in _PARTS:
            _copy(root / part, copy / "suite" / part)
        whole = (root / "trtverify").is_dir()
        for part in _CODE:
            _copy((root if whole else REPOSITORY) / part, copy / "suite" / part)
        if not (copy / "suite" / "trtverify").is_dir():
            # Installed, the rooms lie in the package itself; frozen, they lie beside it, as in a checkout.
            for name in _NAME:
                _copy(REPOSITORY / name, copy / "suite" / "trtverify" / name)
        _copy(REPOSITORY / "grading", copy / "suite" / "grading")
        if hidden is not None:
            _copy(hidden, copy / HIDDEN)
            # A package, so that its files may have the names of the suite's own.
            (copy / HIDDEN / "__init__.py").touch()
            (copy / "suite" / HIDDEN).mkdir()  # where it is shown; only files are sent to other machines
            (copy / "suite" / HIDDEN / "__init__.py").touch()
        digest = hashlib.sha256()
        for path in sorted(copy.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(copy)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        compile_all(copy)
        _readable(copy)
        final = into / digest.hexdigest()[:32]
        if not final.is_dir():
            copy.rename(final)
    return final, final.name


def compile_all(frozen: Path) -> None:
    """The sandbox cannot write byte code, and compiling anew for each submission takes as long as a check."""
    compileall.compile_dir(frozen, quiet=2, stripdir=str(frozen), prependdir=_TRUSTED)


def collect(suite: Suite, labs: Sequence[str]) -> list[Expected]:
    """The tests that every submission is expected to have a verdict for.

    Raises:
        SuiteError: a file cannot be imported, or there is no test.
    """
    tests = [test for test, _title in collected(suite, labs)]
    if not tests:
        raise SuiteError(_("the tests cannot be collected:") + "\n" + _("there are none"))
    return tests


def collected(suite: Suite, labs: Sequence[str]) -> list[tuple[Expected, str]]:
    """The tests of some labs with what each says of itself in its first sentence, "" where it says nothing.

    Raises:
        SuiteError: a file cannot be imported, or there is no test.
    """
    tests: list[tuple[Expected, str]] = []
    errors: list[str] = []
    with job(labs, None) as folder:
        lines = Lines()
        with box.ran(suite.spec(folder, submission=None), lines.add) as outcome:
            ended = outcome
    for event in lines.events:
        if event["event"] == "test":
            test = Expected(event["test"], event["lab"], float(event["points"]), bool(event["hidden"]))
            tests.append((test, str(event["title"])))
        elif event["event"] == "error":
            errors.append(event["message"])
    if errors or not tests:
        said = "\n".join(errors) or ended.stderr.strip()[-2000:] or ended.stdout.strip()[-2000:]
        raise SuiteError(_("the tests cannot be collected:") + f"\n{said}")
    return tests


@contextlib.contextmanager
def job(labs: Sequence[str], tests: Sequence[str] | None) -> Iterator[Path]:
    """A folder with what the plugin is to run: the tests of some labs, or exactly these tests."""
    with tempfile.TemporaryDirectory(prefix=f"{_JOB}{os.getpid()}-") as name:
        folder = Path(name, "job")  # what it lies in stays closed to others
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps({"labs": list(labs), "tests": tests}), encoding="utf-8")
        _readable(folder)
        yield folder


def sweep() -> None:
    """Remove the job folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_JOB}*-*"):
        pid = path.name.removeprefix(_JOB).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and path.stat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)


class Lines:
    """JSON lines as they come in, in blocks of any size."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._rest = b""

    def add(self, block: bytes) -> None:
        """Take a block and parse the lines that are whole."""
        self.events.extend(self.parse(block))

    def parse(self, block: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects of the lines that this block completes.

        Raises:
            ValueError: a line is too long or no strict JSON object, as only a subverted process would send.
        """
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > _LINE:
            self._rest = b""
            raise ValueError(_("a line is longer than {limit:,} bytes").format(limit=_LINE))
        for line in lines:
            try:
                event = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_unique)
            except RecursionError:
                raise ValueError(_("it is nested too deep")) from None
            if not isinstance(event, dict):
                raise ValueError(_("expected an object, found {found}").format(found=repr(event)[:100]))
            yield event


def _refuse_constant(name: str) -> Any:
    raise ValueError(_("it holds {name}, which JSON does not have").format(name=name))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(_("it holds a key twice"))
    return result


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=_IGNORED)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _readable(folder: Path) -> None:
    """The sandbox's user must be able to read it, whatever the umask and the modes of the originals."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
