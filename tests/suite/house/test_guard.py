"""Of the guard over the suite's own tests: verdicts that nobody expected fail, other skips stay what they are."""

from __future__ import annotations

import pytest

from tests.suite.guard import pytest_pyfunc_call
from trtverify.fixtures.words.verdict import Cause, inconclusive, not_gradable


@pytest.mark.parametrize("end", [lambda: not_gradable(Cause.BUSY, "others"), lambda: inconclusive("1.5 against 2")])
def test_an_unexpected_verdict_fails(end: object) -> None:
    assert callable(end)
    around = pytest_pyfunc_call()
    next(around)
    with pytest.raises(pytest.skip.Exception) as ended:
        end()
    with pytest.raises(pytest.fail.Exception, match=r"did not expect: (not gradable|inconclusive): "):
        around.throw(ended.value)


def test_what_is_missing_is_skipped_still() -> None:
    around = pytest_pyfunc_call()
    next(around)
    with pytest.raises(pytest.skip.Exception, match="could not import"):
        around.throw(pytest.skip.Exception("could not import 'onnxscript'"))
