"""Running a student's lab scripts in the sandbox, to make the artifacts that were not handed in."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox import box
from ..sandbox.launch import WORK, SandboxKilledError, Spec
from ..sandbox.limits import Limits, breach_word
from ..sandbox.untrusted_text import shortened
from .intake import RejectedError, Snapshot, Snapshots, opened_folder

# Each lab's script, under the course's name, and the artifact that shows whether it is still to be run.
SCRIPTS = {
    "lab1": ("lab1_export_resnet50.py", "resnet50.onnx"),
    "lab2": ("lab2_export_yolov8.py", "yolov8n.onnx"),
    "lab3": ("lab3_dla_fallback.py", "mobilenet_v2.onnx"),
    "lab4": ("lab4_generate_calib_data.py", "calibration_data"),
    "lab5": ("lab5_qat_resnet18_cifar10.py", "resnet18_qat_cifar10.onnx"),
}


@dataclasses.dataclass(frozen=True)
class ScriptOptions:
    """How scripts are run: their arguments by lab, the data they are shown, and their limits."""

    arguments: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    shown: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    limits: Limits = dataclasses.field(default_factory=Limits)
    gpu: bool = False


def to_run(submission: Path, labs: tuple[str, ...]) -> dict[str, str]:
    """lab → script, for the labs whose script was handed in and whose artifact was not."""
    found = {}
    for lab in labs:
        script, artifact = SCRIPTS[lab]
        if any((submission / folder / artifact).exists() for folder in ("", lab)):
            continue
        places = (f"{folder}{script}" for folder in ("", "labs/", f"{lab}/"))
        place = next((place for place in places if (submission / place).is_file()), None)
        if place is not None:
            found[lab] = place
    return found


def make(submission: Path, to_be_run: Mapping[str, str], options: ScriptOptions, snapshots: Snapshots) -> Snapshot:
    """Run scripts, each in its own sandbox, and take what they wrote together with what was handed in.

    Nothing that a script says decides anything: the tests judge the files. What went wrong is in the
    snapshot's notes.

    Raises:
        SandboxKilledError: a script's sandbox was killed from outside.
    """
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix=".made-", dir=snapshots.root) as name:
        together = Path(name)
        _link(submission, together)
        for lab, script in to_be_run.items():
            arguments = options.arguments.get(lab, ("--out", WORK))
            spec = Spec(
                # Not -I: a script may import the sibling that was handed in with it. It can only fool itself.
                [sys.executable, f"/submission/{script}", *arguments],
                read_only={submission: "/submission", **options.shown},
                environment={"PYTHONDONTWRITEBYTECODE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"},
                limits=options.limits,
                gpu=options.gpu,
            )
            with box.ran(spec) as outcome:
                if outcome.killed_outside:
                    raise SandboxKilledError(_("{script} was killed from outside").format(script=script))
                if outcome.breach is not None:
                    limit = breach_word(outcome.breach)
                    notes.append(
                        _("{script} was stopped: it exceeded the limit on {what}").format(script=script, what=limit)
                    )
                elif outcome.exit_code != 0:
                    last = shortened(outcome.stderr.strip(), 1500)
                    notes.append(
                        _("{script} ended with exit code {code}: {said}").format(
                            script=script, code=outcome.exit_code, said=last
                        )
                    )
                try:
                    made = snapshots.take(outcome.work)
                except RejectedError as problem:
                    notes.append(
                        _("what {script} wrote was not taken: {problem}").format(script=script, problem=problem)
                    )
                    continue
            notes += [_("{script} wrote {note}").format(script=script, note=note) for note in made.left_out]
            _link(made.path, together / lab)
        with opened_folder(together) as folder:
            return snapshots.take(folder, tuple(notes))


def _link(source: Path, target: Path) -> None:
    """The same files in a second folder, without a copy; they are read-only and the grader's own."""
    shutil.copytree(source, target, copy_function=_hard_link, dirs_exist_ok=True)


def _hard_link(source: str, target: str) -> None:
    if not Path(target).exists():  # what was handed in stands
        os.link(source, target)
