"""Running a student's lab scripts in the sandbox, to make the artifacts that were not handed in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

from ..sandbox import box
from ..sandbox.launch import WORK, SandboxKilledError, Spec
from ..sandbox.limits import Limits, breach_word, exit_word
from ..sandbox.untrusted_text import one_line, shortened
from .intake import Bounds, RejectedError, Snapshot, Snapshots

# Each lab's script, under the course's name, and the artifact that shows whether it is still to be run.
SCRIPTS = {
    "lab1": ("lab1_export_resnet50.py", "resnet50.onnx"),
    "lab2": ("lab2_export_yolov8.py", "yolov8n.onnx"),
    "lab3": ("lab3_dla_fallback.py", "mobilenet_v2.onnx"),
    "lab4": ("lab4_generate_calib_data.py", "calibration_data"),
    "lab5": ("lab5_qat_resnet18_cifar10.py", "resnet18_qat_cifar10.onnx"),
}


_NAMES = 5


class BrokeLimitError(RuntimeError):
    """A script broke a limit beside others, who may have slowed it: it is to be tried again alone."""


@dataclasses.dataclass(frozen=True)
class ScriptOptions:
    """How scripts are run: their arguments by lab, the data they are shown, and their limits.

    Attributes:
        data: a digest of what is shown, which may change without changing its place.
    """

    arguments: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    shown: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    limits: Limits = dataclasses.field(default_factory=Limits)
    gpu: bool = False
    data: str = ""

    def digest(self, labs: Sequence[str]) -> str:
        """All that what scripts make depends on, beside the submission."""
        shown = sorted((str(folder), inside) for folder, inside in self.shown.items())
        arguments = sorted((lab, words) for lab, words in self.arguments.items())
        told = [sorted(labs), arguments, shown, dataclasses.asdict(self.limits), self.gpu, self.data]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


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


def make(
    submission: Path,
    to_be_run: Mapping[str, str],
    options: ScriptOptions,
    snapshots: Snapshots,
    *,
    alone: bool = True,
) -> Snapshot:
    """Run scripts, each in its own sandbox, and take what they wrote together with what was handed in.

    Nothing that a script says decides anything: the tests judge the files. What went wrong is in the
    snapshot's notes.

    Args:
        submission: a snapshot's folder.
        to_be_run: lab → script.
        options: how they are run.
        snapshots: where what they wrote is taken to.
        alone: nothing else is graded meanwhile, so that a limit that is broken is the script's own doing.

    Raises:
        SandboxKilledError: a script's sandbox was killed from outside.
        BrokeLimitError: a script broke a limit, and is not alone.
        NoRoomError: this disk cannot hold what they wrote.
    """
    notes: list[str] = []
    parts = [("", submission)]
    left = _Left(snapshots.bounds)
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
                stopped = _("{script} was stopped: it exceeded the limit on {what}").format(script=script, what=limit)
                if not alone:
                    raise BrokeLimitError(stopped)
                notes.append(stopped)
            elif outcome.exit_code != 0:
                last = shortened(outcome.stderr.strip(), 1500)
                notes.append(
                    _("{script} ended with exit code {code}: {said}").format(
                        script=script, code=exit_word(outcome.exit_code), said=last
                    )
                )
            try:
                made = Snapshots(snapshots.root, left.bounds()).take(outcome.work)
            except RejectedError as problem:
                notes.append(_("what {script} wrote was not taken: {problem}").format(script=script, problem=problem))
                continue
        if outcome.breach is None and outcome.exit_code == 0 and not (made.path / SCRIPTS[lab][1]).exists():
            notes.append(_unmade(script, SCRIPTS[lab][1], made.path))
        notes += [_("{script} wrote {note}").format(script=script, note=note) for note in made.left_out]
        left.less(made.path)
        parts.append((lab, made.path))
    return snapshots.join(parts, tuple(notes))


def _unmade(script: str, artifact: str, made: Path) -> str:
    """What to say of a script that ended well and did not write what its lab is about."""
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    wrote = ", ".join(shortened(one_line(name), 120) for name in names[:_NAMES]) or _("nothing")
    if len(names) > _NAMES:
        wrote += " …"
    said = _("{script} ran to its end, and wrote no {artifact} into the folder of its --out, but: {wrote}")
    return said.format(script=script, artifact=artifact, wrote=wrote)


class _Left:
    """What the scripts of one submission may still write: together as much as may be handed in."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._files = bounds.files
        self._bytes = bounds.total_bytes

    def less(self, made: Path) -> None:
        """So much was written."""
        found = list(made.rglob("*"))
        self._files -= len(found)
        self._bytes -= sum(path.stat().st_size for path in found if path.is_file())

    def bounds(self) -> Bounds:
        """What the next one may write."""
        return dataclasses.replace(self._bounds, files=max(self._files, 0), total_bytes=max(self._bytes, 0))
