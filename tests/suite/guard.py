"""A verdict that a test of the suite's own did not expect fails it: the skip that it is would pass unseen."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from trtverify.fixtures.words.verdict import Verdict

_VERDICTS = tuple(f"{verdict}: " for verdict in (Verdict.NOT_GRADABLE, Verdict.INCONCLUSIVE))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Around the test's body; what fixtures skip for want of a package stays skipped."""
    try:
        return (yield)
    except pytest.skip.Exception as ended:
        if not str(ended.msg).startswith(_VERDICTS):
            raise
        raise pytest.fail.Exception(f"it ended in a verdict that it did not expect: {ended.msg}") from ended
