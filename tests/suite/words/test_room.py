"""A full disk is told as the machine's, and any other error as it is."""

from __future__ import annotations

import pytest

from trtverify.fixtures.words import room

pytest_plugins = ("pytester",)
ERRORS = {
    "OSError(28, 'No space left on device')": (0, 1),
    "OSError(122, 'Quota')": (0, 1),
    "OSError(2, 'gone')": (1, 0),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["test", "fixture"])
def test_whose_fault_it_is(pytester: pytest.Pytester, error: str, where: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def made():
            if {where == "fixture"}:
                raise {error}

        def test_it(made):
            raise {error}
        """
    )
    found = pytester.runpytest_inprocess("-p", "no:benchmark", plugins=[room]).parseoutcomes()
    failed, skipped = ERRORS[error]
    assert found.get("failed", 0) + found.get("errors", 0) == failed
    assert found.get("skipped", 0) == skipped
