"""For the tests of engines: a cache of one's own, and a model to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suite import tiny
from trtverify.fixtures.engines.engine_cache import EngineCache


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.network(tmp_path / "tiny.onnx")
