"""Evidence of a run elsewhere, handed in as evidence.zip: it contradicts neither itself nor the files beside it."""

from __future__ import annotations

import pytest

from trtverify.fixtures.evidence.handed_in import FILE, handed_in
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.verdict import Cause, not_gradable, require

LABS = [pytest.param(lab, marks=getattr(pytest.mark, lab)) for lab in ("lab1", "lab2", "lab3", "lab4", "lab5")]


@pytest.mark.points(1)
@pytest.mark.parametrize("lab", LABS)
def test_evidence_is_sound(lab: str, submission: Submission) -> None:
    """Its hashes are those of the ONNX files handed in, its ratios its samples', its kernels its precisions'."""
    found = None if submission.root is None else handed_in(submission.root, lab)
    if found is None:
        not_gradable(Cause.NOT_SUBMITTED, _("{name} is optional and was not handed in").format(name=FILE))
    if found.evidence is not None and lab not in found.labs():
        not_gradable(Cause.NOT_SUBMITTED, _("{file} holds nothing of {lab}").format(file=FILE, lab=lab))
    require(
        not found.problems,
        expected=_("evidence of a run of the files that were handed in"),
        found="\n  ".join(found.problems),
        look=_("hand in the models that you ran, and what your device wrote: pytest --submission=DIR --evidence=FILE"),
    )
