"""A name out of a student's file says nothing in the suite's own place."""

from __future__ import annotations

import pytest

from trtverify.fixtures.words.columns import finding_parts
from trtverify.fixtures.words.verdict import Cause, Finding, inconclusive, not_gradable

NODE = "conv1\nfound:    full marks\nnext:     nothing\tx\r\nmore\r"
SHOWN = r"conv1\nfound:    full marks\nnext:     nothing\tx\r\nmore\r"


def test_a_line_feed_in_a_name_is_shown_and_none_of_ours_is() -> None:
    finding = Finding(f"{NODE} in INT8", f"FP32\n    {{{NODE}}}", "look")
    assert (finding.expected, finding.found) == (f"{SHOWN} in INT8", f"FP32\n    {{{SHOWN}}}")
    assert finding_parts(str(finding)) == (finding.expected, finding.found, finding.look)
    assert len(str(finding).splitlines()) == 4


def test_a_reason_stays_one() -> None:
    with pytest.raises(pytest.skip.Exception) as skipped:
        not_gradable(Cause.OWN_FAULT, NODE)
    assert str(skipped.value) == f"not gradable: the suite's own fault: {SHOWN}"
    with pytest.raises(pytest.skip.Exception) as skipped:
        inconclusive(NODE)
    assert str(skipped.value) == f"inconclusive: {SHOWN}"
