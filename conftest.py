"""The front door of a checkout. Options and features register themselves where they live: `fixtures/*/options.py`."""

from pathlib import Path

import pytest

import trtverify
from trtverify.fixtures.words.messages import _

pytest_plugins = ("trtverify.fixtures.features",)
_FOUND, _HERE = Path(trtverify.__file__).resolve().parent, Path(__file__).resolve().parent
if _HERE not in (_FOUND, _FOUND.parent):
    # A second checkout, started by the `pytest` of an environment that the first is installed in.
    raise pytest.UsageError(
        _("trtverify comes from {found}, these tests are another's: start them in {here} with python -m pytest").format(
            found=_FOUND, here=_HERE
        )
    )
