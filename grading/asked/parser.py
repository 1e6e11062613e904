"""The command line of grading: its commands, and the options of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words import messages
from trtverify.fixtures.words.messages import _

from . import values

Command = Callable[[argparse.Namespace], int]


def parser(commands: Mapping[str, Command], formats: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; what it parses has the one that was asked for as `command`.

    Args:
        commands: what each does, by its name.
        formats: that can be exported.
    """
    whole = argparse.ArgumentParser(
        prog="python -m trtverify grading",
        description=_(
            "Grade a folder of submissions, one folder or archive (zip, tar) for each student, named for them. "
            "Nothing a student hands in runs outside a sandbox, and no verdict is lost when a run is interrupted."
        ),
    )
    whole.add_argument("--lang", choices=messages.LANGUAGES, help=_("the language (default: the locale's)"))
    named = whole.add_subparsers(required=True, metavar="COMMAND")

    run = named.add_parser("run", help=_("grade a class"))
    run.add_argument(
        "submissions", type=values.folder, metavar="SUBMISSIONS", help=_("folder of students' folders and archives")
    )
    _out(run)
    run.add_argument(
        "--labs", type=values.labs, metavar="lab1,lab4", help=_("grade these labs only (default: all five)")
    )
    _workers(run)
    run.add_argument(
        "--rubric",
        type=values.file,
        help=_(
            "weights, deadlines, gates, hints (default: as these results were started, or rubric.toml of the tests)"
        ),
    )
    run.add_argument(
        "--hidden-tests",
        type=values.folder,
        metavar="DIR",
        help=_("your own tests; students see neither name nor text"),
    )
    run.add_argument(
        "--photos", type=values.folder, metavar="DIR", help=_("real photographs to compare and calibrate with")
    )
    run.add_argument(
        "--cifar10", type=values.folder, metavar="DIR", help=_("CIFAR-10 as train/<class>/*, test/<class>/*")
    )
    run.add_argument("--gpu", action=argparse.BooleanOptionalAction, help=_("let the sandboxes use this machine's GPU"))
    run.add_argument("--suite", type=values.folder, metavar="DIR", help=_("the tests (default: this repository's)"))
    run.add_argument(
        *("--pytest-option",),
        action="append",
        metavar="=OPT",
        help=_("pass an option to pytest; repeatable"),
    )
    run.add_argument(
        *("--scale",),
        type=values.points,
        metavar="N",
        help=_("what all labs together are worth, whatever their tests' points (default: the rubric's total)"),
    )
    run.add_argument(
        "--roster",
        type=values.file,
        metavar="FILE",
        help=_("class list (CSV) of a platform: whose each submission is"),
    )
    run.add_argument(
        "--submitted",
        type=values.moment,
        metavar="TIME",
        help=_("when everything was handed in, as 2026-12-01T20:00+08:00"),
    )
    run.add_argument(
        *("--gradescope",),
        type=values.file,
        metavar="FILE",
        help=_("Gradescope's submission_metadata.json: time, due date and total points of the one submission"),
    )
    run.add_argument(
        *("--challenge",),
        type=values.file,
        metavar="FILE",
        help=_("the class's secret: evidence must answer to its student's code, see `codes`"),
    )
    run.set_defaults(command=commands["run"])

    listing = named.add_parser("codes", help=_("print each student's code, for pytest --evidence --challenge=CODE"))
    listing.add_argument("students", nargs="*", metavar="STUDENT", help=_("as their folders are called"))
    listing.add_argument("--challenge", type=values.file, required=True, metavar="FILE", help=_("the class's secret"))
    listing.add_argument(
        "--roster", type=values.file, metavar="FILE", help=_("class list (CSV): a code for every line")
    )
    listing.set_defaults(command=commands["codes"])

    resume = named.add_parser("resume", help=_("go on after an interruption"))
    _out(resume)
    _workers(resume)
    resume.set_defaults(command=commands["resume"])

    status = named.add_parser("status", help=_("how far grading is, and what is missing"))
    _out(status)
    status.set_defaults(command=commands["status"])

    show = named.add_parser("show", help=_("one student's results, with every message"))
    show.add_argument("student", metavar="STUDENT")
    _out(show)
    show.set_defaults(command=commands["show"])

    export = named.add_parser(
        "export", help=_("write the results for a learning platform, as a table, and as web pages")
    )
    _out(export)
    export.add_argument(
        "--format",
        action="append",
        choices=tuple(formats),
        help=_("this format only; repeatable (default: all)"),
    )
    export.add_argument("--partial", action="store_true", help=_("export although checks are still without a verdict"))
    export.set_defaults(command=commands["export"])

    regrade = named.add_parser("regrade", help=_("grade again, with the tests and submissions as they are now"))
    regrade.add_argument("students", nargs="*", metavar="STUDENT", help=_("these students only (default: everybody)"))
    _out(regrade)
    _workers(regrade)
    regrade.set_defaults(command=commands["regrade"])

    check = named.add_parser("selftest", help=_("try to break each wall of the sandbox, and say which hold"))
    check.set_defaults(command=commands["selftest"])
    for command in (run, listing, resume, status, show, export, regrade, check):
        command.add_argument("--lang", choices=messages.LANGUAGES, help=_("the language (default: the locale's)"))
    return whole


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="RESULTS", help=_("folder that results are kept in"))


def _workers(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=values.count, default=1, metavar="N", help=_("submissions graded at a time (default: 1)")
    )
    where.add_argument(
        *("--scheduler",),
        type=values.address,
        metavar="tcp://HOST:PORT",
        help=_("grade on the workers of this Dask scheduler (tcp:// or tls://) instead of on this machine"),
    )
