"""Outputs of an engine against ONNX Runtime's: the image that is furthest off decides, whichever it is."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.suite import tiny
from trtverify.fixtures.answers.accuracy import Agreement, compare
from trtverify.fixtures.backends.onnxruntime.backend import OnnxRuntimeBackend
from trtverify.fixtures.words.terms import BuildOptions, Engine, Precision

IMAGES = 4


@dataclasses.dataclass
class Spoilt(OnnxRuntimeBackend):
    """ONNX Runtime, but that one output of one image is moved."""

    image: int
    by: float

    @contextlib.contextmanager
    def runner(self, engine: Engine) -> Iterator[Any]:
        with super().runner(engine) as runner:
            infer, calls = runner.infer, iter(range(IMAGES))

            def spoilt(feed: dict[str, Any]) -> dict[str, Any]:
                outputs: dict[str, Any] = infer(feed)
                if next(calls) == self.image:
                    outputs["output"].flat[3] += self.by
                return outputs

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(runner, "infer", spoilt)
                yield runner


def agree(tmp_path: Path, image: int, by: float, tolerance: float = 0.5) -> Agreement:
    model = tiny.network(tmp_path / "tiny.onnx")
    backend, options, out = Spoilt(image, by), BuildOptions(Precision.FP32), tmp_path / "engine"
    layers = backend.build(model, options, out)
    engine = Engine(backend.name, out, options, out.stat().st_size, "", 0.0, layers)
    feeds = [{"input": tiny.image(seed)} for seed in range(IMAGES)]
    return compare(model, backend, engine, feeds, "output", tolerance)


@pytest.mark.parametrize("image", range(IMAGES))
@pytest.mark.parametrize("by", [1.0, -1.0, math.nan, math.inf], ids=str)
def test_one_output_of_one_image(tmp_path: Path, image: int, by: float) -> None:
    spread = agree(tmp_path, image, 0.0).spread
    assert not agree(tmp_path, image, by * spread).within


def test_what_is_off_by_less_is_within(tmp_path: Path) -> None:
    exact = agree(tmp_path, 0, 0.0)
    assert exact.within
    assert exact.largest < 1e-4
    assert exact.sqnr_db > 80
    near = agree(tmp_path, 2, 0.4 * exact.spread)
    assert near.within
    assert near.largest == pytest.approx(0.4, rel=0.01)
    assert not agree(tmp_path, 2, 0.4 * exact.spread, tolerance=0.3).within
    assert np.argmax(np.abs(near.reference - near.found).max(axis=1)) == 2
