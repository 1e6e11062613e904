"""A grading session in a results folder: its settings, begun anew or taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trtverify.fixtures.words.messages import _

from . import pool, pupils, suite
from .farm import cluster
from .keeping import budget
from .rubric import Rubric, load
from .run import Grader
from .store import Store, StoreError
from .suite import Suite
from .taking import intake, listing
from .taking.scripts import ScriptOptions
from .work import Workshop

_LINE_SECONDS = 60.0


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
    shipped: str = ""
    """The rubric of the tests, which holds where `rubric` says nothing; "" where that is it, or there is none."""
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
        self.scripts = _scripts(settings, self.rubric)
        self.suite = _suite(settings, frozen, self.rubric, self.scripts)

    @classmethod
    def begun(
        cls, out: Path, settings: Settings, only: Sequence[str] | None = None, *, afresh: bool = False
    ) -> Session:
        """Be the one grader of these results, freeze the tests, list the students, and write every expected row.

        All that can fail is tried before anything is changed.

        Args:
            out: the results.
            settings: how to grade.
            only: these students alone; nobody else's rows are touched. They must be known.
            afresh: verdicts that were found before do not count.

        Raises:
            StoreError: the submissions cannot be listed, there is none, the results cannot be written, or another
                grader has them.
            SuiteError: the tests cannot be collected.
            RubricError: the rubric is wrong.
        """
        handed_in = _handed_in(settings, out)
        if not handed_in.students:
            raise StoreError(
                _("{folder} holds no submission: one folder or archive for each student").format(
                    folder=settings.submissions
                )
            )
        if lost := set(only or ()) - {student.student for student in handed_in.students}:
            raise StoreError(
                _("{folder} holds nothing of {students} now; nothing was changed").format(
                    folder=settings.submissions, students=", ".join(sorted(lost))
                )
            )
        store = Store(out, create=True)
        with contextlib.ExitStack() as stack:
            stack.callback(store.close)
            store.refuse_if_at_work()
            store.hold()
            hidden = None if settings.hidden is None else Path(settings.hidden)
            try:
                frozen = suite.freeze(Path(settings.suite), hidden, out / "suite")[0]
            except shutil.Error as problem:  # of many files, each with the same reason or nearly
                raise StoreError(f"{out}: {problem.args[0][0][2]}") from problem
            except OSError as problem:
                raise StoreError(f"{out}: {problem}") from problem
            session = cls(out, store, settings, frozen)
            every = suite.collected(session.suite, suite.LABS)
            session.rubric.check([test for test, _title in every])
            tests = [test for test, _title in every if test.lab in settings.labs or test.hidden]
            if not tests:
                raise suite.SuiteError(_("the suite has no test of {labs}").format(labs=", ".join(settings.labs)))
            titles = {test.test: {"title": title} for test, title in every if not test.hidden}
            people = handed_in.people
            if only is not None:  # what is known of the others, and of tests that they alone have, stands
                titles = {**_table(store, "titles"), **titles}
                people = {**_table(store, "people"), **{student: people[student] for student in only}}
            kept = {
                "settings": json.dumps(dataclasses.asdict(settings)),
                "frozen": frozen.name,
                "rubric": _content(settings),
                "ungraded": json.dumps(handed_in.ungraded),
                "titles": json.dumps(titles),
                "people": json.dumps(people),
            }
            store.expect(handed_in.students, tests, kept, only, afresh=afresh)
            said = list(handed_in.unknown(session.rubric.submitted))
            if session.rubric.lenient:
                said.append(_("there is a deadline, and no penalty for missing it: the rubric's [late] sets one"))
            session.said = (*handed_in.said, *said)
            stack.pop_all()
        return session

    @classmethod
    def resumed(cls, out: Path) -> Session:
        """Take up what a results folder holds, with the tests as they were frozen."""
        store = Store(out)
        settings = kept_settings(store)
        frozen = out / "suite" / store.setting("frozen")
        if not frozen.is_dir():
            raise StoreError(_("{folder}, the tests of this run, is gone: use `regrade`").format(folder=frozen))
        return cls(out, store, settings, frozen)

    def rubric_changed(self) -> bool:
        """Whether the rubric's file says something else than when the run was started."""
        before = self.store.setting_or_none("rubric")
        return before is not None and before != _content(self.settings)

    def keep_rubric(self) -> None:
        """What the rubric's file says now is known from here on."""
        self.store.keep("rubric", _content(self.settings))

    def run(self, workers: int, scheduler: str | None = None) -> dict[str, str]:
        """Grade until nothing is pending, with a progress bar on a terminal and a line a minute elsewhere.

        Args:
            workers: processes on this machine.
            scheduler: the Dask scheduler whose workers grade instead, if given.

        Returns:
            student → why the submission could not be read, of those that stay pending.
        """
        self.store.hold()
        rows = len(self.store.results())
        pending = len(self.store.pending())
        snapshots = (self.out / "snapshots").resolve()
        codes = pupils.codes_of(self.store, self.settings.challenge)
        workshop = Workshop(snapshots, self.suite, self.settings.labs, self.scripts, codes)
        terminal = sys.stderr.isatty()
        tqdm.monitor_interval = 0  # its thread would outlive the bar
        with (
            tqdm(total=rows, initial=rows - pending, unit="check", disable=not terminal) as bar,
            _lines(bar, rows - pending, rows, silent=terminal) as progress,
            pool.opened(workshop, workers) if scheduler is None else cluster.opened(workshop, scheduler) as hands,
        ):
            grader = Grader(
                self.store,
                self.suite.digest,
                self.scripts.digest(self.settings.labs),
                budget.of(self.suite.limits),
                snapshots,
                self._resources(),
                progress,
            )
            grader.run(hands)
        return grader.unread

    def _resources(self) -> dict[str, str]:
        """test → what it needs. A GPU that all may use is one thing, which one submission at a time has."""
        otherwise = "GPU" if self.settings.gpu else None
        needed = {test.test: self.rubric.resource(test.test, test.lab, otherwise) for test in self.store.tests()}
        return {test: resource for test, resource in needed.items() if resource is not None}


def missing(out: Path, settings: Settings, students: set[str]) -> list[str]:
    """Of these students, those of whom nothing lies among the submissions now.

    Raises:
        StoreError: the submissions cannot be listed.
    """
    return sorted(students - {student.student for student in _handed_in(settings, out).students})


def _handed_in(settings: Settings, out: Path) -> pupils.Class:
    return pupils.listed(Path(settings.submissions), settings.roster, settings.submitted, settings.submitted_by, out)


def _table(store: Store, name: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(store.setting_or_none(name) or "{}")
    return found


def _content(settings: Settings) -> str:
    """A digest of what the rubric's file says; "" without one."""
    return " ".join(intake.hash_of(Path(file)) for file in (settings.rubric, settings.shipped) if file)


def _rubric(settings: Settings) -> Rubric:
    """The rubric's file, and what the command line says beside it."""
    shipped = Path(settings.shipped) if settings.shipped else None
    rubric = load(Path(settings.rubric), shipped) if settings.rubric else Rubric()
    if settings.total is not None:
        rubric = dataclasses.replace(rubric, total=Decimal(settings.total))
    if settings.due is not None:
        due = datetime.datetime.fromisoformat(settings.due)
        rubric = dataclasses.replace(rubric, deadlines={**dict.fromkeys(suite.LABS, due), **rubric.deadlines})
    return rubric


def kept_settings(store: Store) -> Settings:
    """What the results were started with."""
    told = json.loads(store.setting("settings"))
    return Settings(**{**told, "labs": tuple(told["labs"]), "pytest_options": tuple(told["pytest_options"])})


@contextlib.contextmanager
def _lines(bar: Any, done: int, rows: int, *, silent: bool) -> Iterator[Callable[[int], None]]:
    """What hears of progress; where there is no terminal to draw a bar on, a line of it a minute."""
    state = [done]
    ended = threading.Event()

    def progress(left: int) -> None:
        state[0] = rows - left
        bar.n = state[0]
        bar.refresh()

    def speak() -> None:
        while not ended.wait(_LINE_SECONDS):
            print(_("{done} of {all} checks").format(done=state[0], all=rows), file=sys.stderr, flush=True)

    speaker = threading.Thread(target=speak, daemon=True)
    if not silent:
        speaker.start()
    try:
        yield progress
    finally:
        ended.set()
        if not silent:
            speaker.join()


def _suite(settings: Settings, frozen: Path, rubric: Rubric, scripts: ScriptOptions) -> Suite:
    shown = _data(settings)
    options = tuple(f"--{inside.strip('/')}={inside}" for inside in shown.values())
    options += settings.pytest_options
    # Verdicts are kept with what they depend on: the tests, their options and limits, the data they are shown, the
    # device, the language, and how what scripts make was made.
    limits = dataclasses.asdict(rubric.test_limits)
    kept = [frozen.name, options, limits, settings.gpu, scripts.digest(settings.labs), settings.language]
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return Suite(frozen.resolve(), digest, shown, options, rubric.test_limits, settings.gpu, settings.language)


def _scripts(settings: Settings, rubric: Rubric) -> ScriptOptions:
    shown = _data(settings)
    data = listing.fingerprint(shown)
    return ScriptOptions(rubric.script_arguments, shown, rubric.script_limits, settings.gpu, data)


def _data(settings: Settings) -> dict[Path, str]:
    given = (("/photos", settings.photos), ("/cifar10", settings.cifar10))
    return {Path(folder): inside for inside, folder in given if folder is not None}
