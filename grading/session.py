"""A grading session in a results folder: its settings, begun anew or taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import sys
from decimal import Decimal
from pathlib import Path

from tqdm import tqdm

from trtverify.fixtures.words.messages import _

from . import pool, pupils, suite
from .farm import cluster
from .rubric import Rubric, load
from .run import Grader
from .store import Store, StoreError
from .suite import Suite
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
    total: str | None = None
    """What all labs are worth together, instead of the rubric's total."""
    submitted: str | None = None
    """When everything was handed in, ISO 8601, instead of what the files say; `submitted_by` says who knows."""
    submitted_by: str = "given"
    due: str | None = None
    """When labs are due that the rubric has no deadline for, ISO 8601."""
    roster: str | None = None
    challenge: str | None = None
    """The file of the secret that students' codes are drawn from."""


class Session:
    """Results, the settings they come from, and the frozen tests."""

    def __init__(self, out: Path, store: Store, settings: Settings, frozen: Path) -> None:
        self.out = out
        self.store = store
        self.settings = settings
        self.rubric = _rubric(settings)
        self.said: tuple[str, ...] = ()
        """What the teacher should know of the class before it is graded."""
        self.suite = _suite(settings, frozen, self.rubric)

    @classmethod
    def begun(cls, out: Path, settings: Settings) -> Session:
        """Freeze the tests, list the students, and write every expected row.

        Raises:
            StoreError: there is no submission, or the results cannot be written.
            SuiteError: the tests cannot be collected.
            RubricError: the rubric is wrong.
        """
        handed_in = pupils.listed(
            Path(settings.submissions), settings.roster, settings.submitted, settings.submitted_by
        )
        students = handed_in.students
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
            every = suite.collected(session.suite, suite.LABS)
            session.rubric.check([test for test, _title in every])
            tests = [test for test, _title in every if test.lab in settings.labs or test.hidden]
            if not tests:
                raise suite.SuiteError(_("the suite has no test of {labs}").format(labs=", ".join(settings.labs)))
            kept = {
                "settings": json.dumps(dataclasses.asdict(settings)),
                "frozen": frozen.name,
                "titles": json.dumps({test.test: {"title": title} for test, title in every if not test.hidden}),
                "people": json.dumps(handed_in.people),
            }
            store.expect(students, tests, kept)
            session.said = (*handed_in.said, *handed_in.unknown(session.rubric.submitted))
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
        codes = pupils.codes_of(self.store, self.settings.challenge)
        workshop = Workshop(snapshots, self.suite, self.settings.labs, _scripts(self.settings, self.rubric), codes)
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


def _rubric(settings: Settings) -> Rubric:
    """The rubric's file, and what the command line says beside it."""
    rubric = load(Path(settings.rubric)) if settings.rubric else Rubric()
    if settings.total is not None:
        rubric = dataclasses.replace(rubric, total=Decimal(settings.total))
    if settings.due is not None:
        due = datetime.datetime.fromisoformat(settings.due)
        rubric = dataclasses.replace(rubric, deadlines={**dict.fromkeys(suite.LABS, due), **rubric.deadlines})
    return rubric


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
