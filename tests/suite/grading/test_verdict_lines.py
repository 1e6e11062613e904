"""What a subverted test process could send in place of verdicts is refused, in bounded memory."""

from __future__ import annotations

import json

import pytest

from trtverify.grading.suite import Lines


def test_lines_come_in_blocks_of_any_size() -> None:
    sent = [{"event": "verdict", "message": "[[[ 中文 \n"}, {"event": "finished", "exitstatus": 0}]
    wire = "".join(json.dumps(event) + "\n" for event in sent).encode()
    for size in (1, 7, len(wire)):
        lines = Lines()
        for start in range(0, len(wire), size):
            lines.add(wire[start : start + size])
        assert lines.events == sent


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 200_000, "too deep"),
        (b'{"seconds": NaN}', "NaN"),
        (b'{"event": "start", "event": "verdict"}', "key twice"),
        (b"[]", "an object"),
        (b"null", "an object"),
        (b"\xff", "codec"),
        (b"verdict", "Expecting value"),
    ],
    ids=["deep", "nan", "twice", "list", "null", "bytes", "word"],
)
def test_a_line_that_is_no_strict_object_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Lines().add(line + b"\n")


def test_a_line_without_an_end_is_not_kept() -> None:
    lines = Lines()
    for _ in range(16):
        lines.add(b"x" * 65_536)
    with pytest.raises(ValueError, match="longer than"):
        lines.add(b"x")
    assert lines._rest == b""
