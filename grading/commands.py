"""The commands of `python -m trtverify grading`, and what each prints."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.columns import in_words, padded, verdict_word
from trtverify.fixtures.words.messages import _

from . import exports, grade, pool, rubric
from .asked.parser import Command, parser
from .sandbox import control_groups, selftest
from .sandbox.launch import SandboxUnavailableError
from .sandbox.untrusted_text import one_line
from .session import Session, Settings, kept_settings, missing
from .store import PENDING, Store, StoreError, held
from .suite import LABS, REPOSITORY, SuiteError
from .taking import codes, layouts, roster
from .work import MACHINE

_DONE, _INCOMPLETE, _MISUSED, _UNSAFE, _INTERRUPTED, _UNHEARD = 0, 1, 2, 3, 130, 141


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0 done, 1 results are missing, 2 misused, 3 no sandbox, 130 interrupted.

    141, as a shell has it, is that whoever read the output went away.
    """
    messages.use_language(messages.asked(sys.argv[1:] if words is None else words))
    options = parser(_COMMANDS, tuple(exports.FORMATS)).parse_args(words)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `show | head`; what is still to be flushed at the end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNHEARD
    except SandboxUnavailableError as problem:
        print(_("error: nothing is graded without the sandbox: {problem}").format(problem=problem), file=sys.stderr)
        return _UNSAFE
    except (StoreError, SuiteError, rubric.RubricError, pool.FarmError) as problem:
        print(_("error: {problem}").format(problem=problem), file=sys.stderr)
        return _MISUSED
    except OSError as problem:
        if problem.errno not in MACHINE:
            raise
        print(_("error: {problem}").format(problem=one_line(str(problem))), file=sys.stderr)
        return _MISUSED
    except KeyboardInterrupt:
        said = _("stopped; every verdict so far is kept: go on with `python -m trtverify grading resume`")
        print(f"\n{said}", file=sys.stderr)
        return _INTERRUPTED
    return status


def _run(options: argparse.Namespace) -> int:
    before = _settings_of(options.out)
    return _grade(Session.begun(options.out, _told(options, before)), options)


def _settings_of(out: Path) -> Settings | None:
    """What results were started with, if there are any."""
    if not held(out):
        return None
    with contextlib.closing(Store(out)) as store:
        return None if store.setting_or_none("settings") is None else kept_settings(store)


def _told(options: argparse.Namespace, before: Settings | None) -> Settings:
    """The settings of a run: what is said now; else what it was started with; else the defaults."""

    def path(name: str) -> str | None:
        given = getattr(options, name)
        return None if given is None else str(given.resolve())

    start = before or Settings("", str(REPOSITORY), LABS, rubric.own(str(REPOSITORY)))
    settings = Settings(
        submissions=str(options.submissions.resolve()),
        suite=path("suite") or start.suite,
        labs=options.labs or start.labs,
        rubric=path("rubric") or start.rubric,
        hidden=path("hidden_tests") or start.hidden,
        photos=path("photos") or start.photos,
        cifar10=path("cifar10") or start.cifar10,
        gpu=start.gpu if options.gpu is None else options.gpu,
        pytest_options=tuple(options.pytest_option or start.pytest_options),
        language=messages.language(),
        total=start.total if options.scale is None else str(options.scale),
        submitted=start.submitted if options.submitted is None else options.submitted.isoformat(),
        submitted_by=start.submitted_by if options.submitted is None else "given",
        due=start.due,
        roster=path("roster") or start.roster,
        challenge=path("challenge") or start.challenge,
    )
    own = rubric.own(settings.suite)
    if options.rubric is None and start.rubric == rubric.own(start.suite):  # it goes where the tests go
        settings = dataclasses.replace(settings, rubric=own)
    settings = dataclasses.replace(settings, shipped=own if settings.rubric and settings.rubric != own else "")
    if options.gradescope is not None:
        settings = _as_gradescope(settings, options)
    if before is not None:
        for field in dataclasses.fields(Settings):
            old, new = getattr(before, field.name), getattr(settings, field.name)
            if old != new:
                said = _("{setting} was {old} when these results were started, and is {new} now")
                print(said.format(setting=field.name, old=_shown(old), new=_shown(new)), file=sys.stderr)
    return settings


def _shown(setting: object) -> object:
    return "-" if setting in (None, "", ()) else setting


def _as_gradescope(settings: Settings, options: argparse.Namespace) -> Settings:
    """When the one submission came, when it was due and what it is worth, as Gradescope says beside it."""
    try:
        said = layouts.assignment(options.gradescope)
    except layouts.LayoutError as problem:
        raise StoreError(str(problem)) from problem
    if said.odd:
        print(_("note: {note}").format(note=said.odd), file=sys.stderr)
    return dataclasses.replace(
        settings,
        submitted=settings.submitted if options.submitted is not None else said.submitted.isoformat(),
        submitted_by="given" if options.submitted is not None else "gradescope",
        due=None if said.due is None else said.due.isoformat(),
        total=settings.total if options.scale is not None or said.total is None else str(said.total),
    )


def _codes(options: argparse.Namespace) -> int:
    """Print students' codes, one a line: for a roster by its lines, else for the names that were given."""
    try:
        key = codes.secret(options.challenge)
        people = [] if options.roster is None else roster.load(options.roster)
    except (codes.SecretError, roster.RosterError) as problem:
        raise StoreError(str(problem)) from problem
    named = [(person.name or codes.identity("", person), codes.identity("", person)) for person in people]
    for name, who in (*named, *((student, codes.identity(student, None)) for student in options.students)):
        print(f"{codes.code(key, who)}  {one_line(name)}")
    return _DONE


def _resume(options: argparse.Namespace) -> int:
    return _grade(Session.resumed(options.out), options)


def _regrade(options: argparse.Namespace) -> int:
    with contextlib.closing(Store(options.out)) as store:
        known = {student.student for student in store.students()}
        settings = kept_settings(store)
        if unknown := set(options.students) - known:
            raise _no_submission(", ".join(sorted(unknown)), options.out)
        store.refuse_if_at_work()
    only = options.students or None
    if only is None and (lost := missing(options.out, settings, known)):
        raise StoreError(
            _("{folder} holds nothing of {students} now; nothing was changed").format(
                folder=settings.submissions, students=", ".join(lost)
            )
        )
    return _grade(Session.begun(options.out, settings, only, afresh=True), options)


def _no_submission(student: str, out: Path) -> StoreError:
    return StoreError(_("no submission of {student} in {folder}").format(student=student, folder=out))


def _grade(session: Session, options: argparse.Namespace) -> int:
    with contextlib.closing(session.store):
        _warn(session)
        selftest.require_walls()
        unread = session.run(options.workers, options.scheduler)
        _pages(grade.grades(session.store, session.rubric), session.out)
        for student, reason in sorted(unread.items()):
            said = _("{student} could not be read, and stays pending: {reason}").format(student=student, reason=reason)
            print(said, file=sys.stderr)
        return _report(session.store)


def _warn(session: Session) -> None:
    """Say what of the class and the surroundings bears on the verdicts."""
    for note in session.said:
        print(_("note: {note}").format(note=note), file=sys.stderr)
    if session.rubric_changed():
        said = _("{file} says something else than when these results were started: points are by what it says now")
        print(said.format(file=session.settings.rubric), file=sys.stderr)
        session.keep_rubric()
    if reason := control_groups.missing():
        said = _("no control groups here ({reason}): sandboxes get less memory and fewer processes")
        print(said.format(reason=reason), file=sys.stderr)


def _pages(results: Sequence[grade.Grade], out: Path) -> None:
    """Write the class report. With it come Jinja2 and NumPy, which other commands do without."""
    from .pages import class_pages

    try:
        print(_("report: {file}").format(file=class_pages.write(results, out / "report")))
    except OSError as problem:
        raise StoreError(
            _("{folder}: the report cannot be written: {problem}. No verdict is lost.").format(
                folder=out / "report", problem=problem
            )
        ) from problem


def _status(options: argparse.Namespace) -> int:
    with contextlib.closing(Store(options.out)) as store:
        return _report(store)


def _report(store: Store) -> int:
    rows = store.results()
    counts = collections.Counter(row.verdict for row in rows if not row.parked)
    said = [f"{count} {verdict_word(verdict)}" for verdict, count in sorted(counts.items())]
    aside = [(row.student, row.test) for row in rows if row.parked]
    if aside:
        said.append(_("{count} set aside").format(count=len(aside)))
    print(", ".join(said) or _("no checks"))
    if ungraded := json.loads(store.setting_or_none("ungraded") or "[]"):
        names = ", ".join(ungraded[:20]) + (" …" if len(ungraded) > 20 else "")
        print(_("note: {note}").format(note=_("not graded: {name}").format(name=names)), file=sys.stderr)
    for names, reason in store.parked():
        print(_("set aside, and tried again by `resume`: {names}: {reason}").format(names=names, reason=reason))
    for unit, pid in store.leases():
        print(_("at work: {unit} (process {pid})").format(unit=unit, pid=pid))
    for test in store.deadly():
        said_of = _("{test} exceeded its limits or died on everybody's work: is it the check that is at fault?")
        print(_("note: {note}").format(note=said_of.format(test=test)), file=sys.stderr)
    missing = sorted({*aside, *((student, test) for student, _digest, test in store.pending())})
    if not missing and rows:
        return _DONE
    print(
        _("not finished: {missing} of {all} checks have no verdict yet").format(missing=len(missing), all=len(rows)),
        file=sys.stderr,
    )
    for student, test in missing[:10]:
        print(f"  {student}: {test}", file=sys.stderr)
    if len(missing) > 10:
        print(
            "  " + _("and {count} more; `python -m trtverify grading resume` goes on").format(count=len(missing) - 10),
            file=sys.stderr,
        )
    return _INCOMPLETE


def _results(out: Path) -> list[grade.Grade]:
    session = Session.resumed(out)
    with contextlib.closing(session.store) as store:
        if session.rubric_changed():
            said = _("{file} says something else than when these results were started: points are by what it says now")
            print(said.format(file=session.settings.rubric), file=sys.stderr)
        unfinished = {student for student, _digest, _test in store.pending()}
        found = grade.grades(store, session.rubric)
    # A verdict that is to be found again stands in its row until then, but it is not the last word.
    return [dataclasses.replace(one, complete=one.complete and one.student not in unfinished) for one in found]


def _show(options: argparse.Namespace) -> int:
    found = [result for result in _results(options.out) if result.student == options.student]
    if not found:
        raise _no_submission(options.student, options.out)
    (result,) = found
    total = _("{earned} of {possible} points").format(earned=result.earned, possible=result.possible)
    print(f"{result.student}: {total}")
    if result.submitted:
        print("  " + result.submitted)
    for taken in result.deductions:
        print(f"  {taken.lab or _('other checks')}: {taken.name}: -{taken.points} {taken.message}".rstrip())
    for note in result.notes:
        print("  " + _("note: {note}").format(note=note))
    for row in result.rows:
        print(f"  {padded(verdict_word(row.verdict), 13)} {row.earned:>6}/{row.possible:<6} {row.test}")
        for line in in_words(row.detail).splitlines():
            print(f"      {line}")
    return _DONE if all(row.verdict != PENDING for row in result.rows) else _INCOMPLETE


def _export(options: argparse.Namespace) -> int:
    results = _results(options.out)
    if not options.partial and (missing := [result.student for result in results if not result.complete]):
        names = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        print(
            _("not exported: {count} students have no verdict on every check yet ({names});").format(
                count=len(missing), names=names
            ),
            file=sys.stderr,
        )
        print(_("`python -m trtverify grading resume` goes on; --partial exports what there is"), file=sys.stderr)
        return _INCOMPLETE
    for name in options.format or exports.FORMATS:
        folder = options.out / "exports" / name
        try:
            written = exports.FORMATS[name](results, folder)
            _drop_others(folder, written)
        except OSError as problem:
            raise StoreError(
                _("{folder}: the export cannot be written: {problem}. No verdict is lost.").format(
                    folder=folder, problem=problem
                )
            ) from problem
        print(_("{format}: {folder} (files: {count})").format(format=name, count=len(written), folder=folder))
    if not options.format:
        _pages(results, options.out)
    return _DONE


def _drop_others(folder: Path, written: Sequence[Path]) -> None:
    """Remove what an earlier export wrote of students who have another name by now, or are gone."""
    kept = {path.resolve() for path in written}
    for path in folder.rglob("*"):
        if path.is_file() and path.resolve() not in kept:
            path.unlink(missing_ok=True)


def _selftest(_options: argparse.Namespace) -> int:
    return _UNSAFE if selftest.main() else _DONE


_COMMANDS: Mapping[str, Command] = {
    "run": _run,
    "codes": _codes,
    "resume": _resume,
    "status": _status,
    "show": _show,
    "export": _export,
    "regrade": _regrade,
    "selftest": _selftest,
}
