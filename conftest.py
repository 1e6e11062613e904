"""The front door: plugins and options. Nothing is computed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fixtures import backends
from fixtures.words import messages
from fixtures.words.messages import _

pytest_plugins = (
    "fixtures.words.progress",  # first: the others import it, and pytest rewrites what it loads itself
    "fixtures.doctor",
    "fixtures.submitted.submission",
    "fixtures.networks.datasets",
    "fixtures.engines.builder",
    "fixtures.engines.plugin",
    "fixtures.quantization.quantized",
    "fixtures.claims.case",
    "fixtures.report.plugin",
    "fixtures.answers.seeds",
    "fixtures.evidence.plugin",
    "fixtures.evidence.handed_in",
)


def _folder(value: str) -> Path:
    path = Path(value)
    if not path.is_dir():
        raise pytest.UsageError(_("{path}: no such directory").format(path=value))
    return path.resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options, all under one heading of `pytest --help`."""
    messages.use_language(messages.asked(sys.argv[1:]))
    group = parser.getgroup("verify", _("TensorRT verification suite"))
    group.addoption(
        "--submission",
        type=_folder,
        metavar="DIR",
        help=_("verify the artifacts in DIR; without it the labs make them"),
    )
    group.addoption(
        "--backend",
        action="append",
        choices=("auto", *backends.NAMES),
        help=_("build and run with this stack, and fail if it is missing; repeatable (default: auto, all there are)"),
    )
    group.addoption(
        "--batches",
        choices=("one", "both"),
        default="one",
        help=_("on a GPU: one image at a time, or also many; models must be exported with --batch dynamic (both)"),
    )
    group.addoption(
        "--photos",
        type=_folder,
        metavar="DIR",
        help=_("real photographs to calibrate and compare with; train/ and test/ in it are kept apart"),
    )
    group.addoption("--cifar10", type=_folder, metavar="DIR", help=_("CIFAR-10 as train/<class>/*, test/<class>/*"))
    group.addoption(
        "--weights",
        choices=("auto", "pretrained", "untrained"),
        default="auto",
        help=_("for the labs: pretrained where they can be had, else seeded and marked untrained (auto)"),
    )
    group.addoption("--calibration-images", type=int, metavar="N", help=_("for lab 4: calibrate with N images"))
    group.addoption("--epochs", type=int, metavar="N", help=_("for lab 5: epochs of training"))
    group.addoption("--subset", type=int, metavar="N", help=_("for lab 5: train on N images only"))
    group.addoption(
        "--accuracy-images", type=int, default=1000, metavar="N", help=_("test images that accuracy is measured on")
    )
    group.addoption(
        "--input-seed", type=int, metavar="N", help=_("seed of the images that are compared (default: a fresh one)")
    )
    group.addoption(
        "--suite-cache",
        default=Path(__file__).parent / ".cache" / "verify",
        metavar="DIR",
        help=_("where engines and the labs' artifacts are kept (default: .cache/verify)"),
    )
    group.addoption("--summary", type=Path, metavar="DIR", help=_("write the summary as Markdown and JSON to DIR"))
    group.addoption("--report", type=Path, metavar="DIR", help=_("write the same, and an HTML page of it, to DIR"))
    group.addoption("--evidence", type=Path, metavar="FILE", help=_("keep what this run rests on, as a zip archive"))
    group.addoption(
        "--from-evidence", type=Path, metavar="FILE", help=_("derive the verdicts again from such an archive; no GPU")
    )
    group.addoption("--lang", choices=messages.LANGUAGES, help=_("the language (default: the locale's)"))
    group.addoption("--doctor", action="store_true", help=_("say what this machine can verify and what is missing"))


def pytest_configure(config: pytest.Config) -> None:
    """Speak the language that was asked for."""
    messages.use_language(config.getoption("lang"))
