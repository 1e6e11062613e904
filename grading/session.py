"""A grading session in a results folder: its settings, begun anew or taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from trtverify.fixtures.words.messages import _

from . import pool, suite
from .farm import cluster
from .rubric import Rubric, load
from .run import Grader
from .sandbox.untrusted_text import escaped
from .store import Store, StoreError, Student
from .suite import Suite
from .taking.archives import SUFFIXES, student_of
from .taking.scripts import ScriptOptions
from .work import Workshop


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `run` was told; kept with the results, so that `resume` needs only their folder."""

    submissions: str
    suite: str
    labs: tuple[str, ...]
    rubric: str
    hidden: str | None = None
    photos: str | None = None
    cifar10: str | None = None
    gpu: bool = False
    pytest_options: tuple[str, ...] = ()
    language: str = "en"
    """Of the verdicts' messages and the notes, which are kept as they were said."""


class Session:
    """Results, the settings they come from, and the frozen tests."""

    def __init__(self, out: Path, store: Store, settings: Settings, frozen: Path) -> None:
        self.out = out
        self.store = store
        self.settings = settings
        self.rubric: Rubric = load(Path(settings.rubric))
        self.suite = _suite(settings, frozen, self.rubric)

    @classmethod
    def begun(cls, out: Path, settings: Settings) -> Session:
        """Freeze the tests, list the students, and write every expected row.

        Raises:
            StoreError: there is no submission, or the results cannot be written.
            SuiteError: the tests cannot be collected.
            RubricError: the rubric is wrong.
        """
        students = list(_students(Path(settings.submissions)))
        if not students:
            raise StoreError(
                _("{folder} holds no submission: one folder or archive for each student").format(
                    folder=settings.submissions
                )
            )
        store = Store(out, create=True)
        with contextlib.ExitStack() as stack:
            stack.callback(store.close)
            store.refuse_if_at_work()
            hidden = None if settings.hidden is None else Path(settings.hidden)
            try:
                frozen = suite.freeze(Path(settings.suite), hidden, out / "suite")[0]
            except OSError as problem:
                raise StoreError(f"{out}: {problem}") from problem
            session = cls(out, store, settings, frozen)
            tests = suite.collect(session.suite, settings.labs)
            kept = {"settings": json.dumps(dataclasses.asdict(settings)), "frozen": frozen.name}
            store.expect(students, tests, kept)
            stack.pop_all()
        return session

    @classmethod
    def resumed(cls, out: Path) -> Session:
        """Take up what a results folder holds, with the tests as they were frozen."""
        store = Store(out)
        told = json.loads(store.setting("settings"))
        settings = Settings(
            **{**told, "labs": tuple(told["labs"]), "pytest_options": tuple(told["pytest_options"])},
        )
        frozen = out / "suite" / store.setting("frozen")
        if not frozen.is_dir():
            raise StoreError(_("{folder}, the tests of this run, is gone: use `regrade`").format(folder=frozen))
        return cls(out, store, settings, frozen)

    def run(self, workers: int, scheduler: str | None = None) -> None:
        """Grade until nothing is pending, with a progress bar on a terminal.

        Args:
            workers: processes on this machine.
            scheduler: the Dask scheduler whose workers grade instead, if given.
        """
        rows = len(self.store.results())
        pending = len(self.store.pending())
        snapshots = (self.out / "snapshots").resolve()
        workshop = Workshop(snapshots, self.suite, self.settings.labs, _scripts(self.settings, self.rubric))
        tqdm.monitor_interval = 0  # its thread would outlive the bar
        with (
            tqdm(total=rows, initial=rows - pending, unit="check", disable=not sys.stderr.isatty()) as bar,
            pool.opened(workshop, workers) if scheduler is None else cluster.opened(workshop, scheduler) as hands,
        ):

            def progress(left: int) -> None:
                bar.n = rows - left
                bar.refresh()

            Grader(self.store, self.suite.digest, snapshots, self._resources(), progress).run(hands)

    def _resources(self) -> dict[str, str]:
        """test → what it needs. A GPU that all may use is one thing, which one submission at a time has."""
        otherwise = "GPU" if self.settings.gpu else None
        needed = {test.test: self.rubric.resource(test.test, test.lab, otherwise) for test in self.store.tests()}
        return {test: resource for test, resource in needed.items() if resource is not None}


def _suite(settings: Settings, frozen: Path, rubric: Rubric) -> Suite:
    shown = _data(settings)
    options = tuple(f"--{inside.strip('/')}={inside}" for inside in shown.values())
    options += settings.pytest_options
    # Verdicts are kept with what they depend on: the tests, their options, the data they are shown, the language.
    kept = [frozen.name, options, sorted(map(str, shown)), settings.language]
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return Suite(frozen.resolve(), digest, shown, options, rubric.test_limits, settings.gpu, settings.language)


def _scripts(settings: Settings, rubric: Rubric) -> ScriptOptions:
    return ScriptOptions(rubric.script_arguments, _data(settings), rubric.script_limits)


def _data(settings: Settings) -> dict[Path, str]:
    given = (("/photos", settings.photos), ("/cifar10", settings.cifar10))
    return {Path(folder): inside for inside, folder in given if folder is not None}


def _students(submissions: Path) -> Iterator[Student]:
    """One student for each folder or archive; anything else in the folder is the teacher's own."""
    seen: dict[str, str] = {}
    for path in sorted(submissions.iterdir()):
        if path.name.startswith(".") or not (
            path.is_symlink() or path.is_dir() or path.name.lower().endswith(SUFFIXES)
        ):
            continue
        name = escaped(student_of(path))
        if name in seen:
            raise StoreError(
                _("{one} and {other} are both of {student}: leave one of them in {folder}").format(
                    one=seen[name], other=path.name, student=name, folder=submissions
                )
            )
        seen[name] = path.name
        yield Student(name, str(path), path.lstat().st_mtime)
