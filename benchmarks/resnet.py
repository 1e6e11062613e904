"""ResNet-50 as lab 1 wrote it, with images to calibrate: shared by the benchmarks that build it in several ways."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.pairs import running_backend
from trtverify.fixtures import backends
from trtverify.fixtures.backends.base import Backend
from trtverify.fixtures.backends.tensorrt.backend import CACHE_VARIABLE
from trtverify.fixtures.engines.engine_cache import EngineCache
from trtverify.fixtures.networks.datasets import Photos, find_photos
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.submitted.calibration import own
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Engine, Precision


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is there before anything is compared.

    Attributes:
        data: images to calibrate with, in `folder`, where graphs may be written too.
        shapes: of the input, at the batch that was asked for.
    """

    backend: Backend
    photos: Photos
    onnx: Path
    folder: Path
    data: CalibrationData
    cache: EngineCache
    shapes: Mapping[str, tuple[int, ...]]

    def baselines(self, *precisions: Precision) -> dict[Precision, Engine]:
        """Engines to compare with, of those precisions that the backend has."""
        return {
            precision: self.cache.build(self.onnx, self.backend, BuildOptions(precision, self.shapes))
            for precision in precisions
            if precision in self.backend.precisions
        }


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that all of them have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("submission", type=Path, help="what lab 1 wrote, exported with --batch dynamic")
    made.add_argument("photos", type=Path, help="a folder of photographs: some calibrate, others are run")
    made.add_argument("--backend", choices=backends.NAMES, default="tensorrt")
    made.add_argument("--batch", type=int, default=32)
    made.add_argument("--images", type=int, default=64, help="how many calibrate")
    made.add_argument("--cache", type=Path, default=Path(".cache/verify"))
    made.add_argument("--out", type=Path, help="write the figures there, as JSON")
    return made


def prepare(options: argparse.Namespace) -> Prepared:
    """Find the backend, the photographs and the model, and draw the images that calibrate.

    Raises:
        SystemExit: one of them is missing.
    """
    backend, photos = running_backend(options.backend), find_photos(options.photos)
    if photos is None:
        raise SystemExit(f"{options.photos} has no photographs")
    os.environ.setdefault(CACHE_VARIABLE, str(options.cache.resolve() / "tensorrt"))
    folder = options.cache / "calibration"
    return Prepared(
        backend=backend,
        photos=photos,
        onnx=options.submission / RESNET50.file,
        folder=folder,
        data=own(photos, RESNET50, options.images, 1, folder),
        cache=EngineCache(options.cache / "engines"),
        shapes={"input": (options.batch, *RESNET50.input[1][1:])},
    )
