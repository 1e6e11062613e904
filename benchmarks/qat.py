"""`python -m benchmarks.qat SUBMISSION CIFAR10`: lab 5's network in FP32, FP16, after calibration alone, and after QAT.

Every engine classifies all test images itself; its latency is measured in turn with the FP16 engine's.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.pairs import paired, running_backend, where
from trtverify.fixtures import backends
from trtverify.fixtures.answers.accuracy import reference_outputs
from trtverify.fixtures.backends.base import Backend
from trtverify.fixtures.backends.tensorrt.backend import CACHE_VARIABLE
from trtverify.fixtures.engines.engine_cache import EngineCache
from trtverify.fixtures.engines.layers import prove
from trtverify.fixtures.networks.datasets import Labelled, find_labelled
from trtverify.fixtures.networks.models import RESNET18, RESNET18_QAT
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Engine, Precision

NAIVE = "resnet18_qat_naive_cifar10.onnx"
CALIBRATION_IMAGES = 512
ALL = 1_000_000


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way to an engine: `calibrated` is a float graph to which the builder's calibrator gives scales."""

    name: str
    file: str
    precision: Precision
    calibrated: bool = False


KINDS = (
    Kind("FP32", RESNET18.file, Precision.FP32),
    Kind("TF32", RESNET18.file, Precision.TF32),
    Kind("FP16", RESNET18.file, Precision.FP16),
    Kind("INT8, calibrated alone", RESNET18.file, Precision.INT8, calibrated=True),
    Kind("INT8, QAT with float residuals", NAIVE, Precision.INT8),
    Kind("INT8, QAT", RESNET18_QAT.file, Precision.INT8),
)
BASELINE = KINDS[2]


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submission", type=Path, help="what lab 5 wrote; with --naive too, that is compared as well")
    parser.add_argument("cifar10", type=Path, help="train/<class>/*, test/<class>/*")
    parser.add_argument("--backend", choices=backends.NAMES, default="tensorrt")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--cache", type=Path, default=Path(".cache/verify"))
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    return parser.parse_args()


def calibration(folder: Path, mean: list[float], std: list[float], cache: Path) -> CalibrationData:
    """Training images as the network takes them, always the same."""
    from PIL import Image

    files = sorted((folder / "train").glob("*/*"))
    chosen = np.random.default_rng(0).choice(len(files), CALIBRATION_IMAGES, replace=False)
    pixels = np.stack([np.asarray(Image.open(files[int(i)]).convert("RGB"), np.float32) for i in sorted(chosen)])
    images = ((pixels / 255 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).transpose(0, 3, 1, 2)
    path = cache / "qat-calibration.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(images, np.float32))
    return CalibrationData("input", (path,), hashlib.sha256(path.read_bytes()).hexdigest())


def feeds(images: npt.NDArray[np.float32], batch: int) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """All images in full batches; the last is filled up with the first images."""
    for start in range(0, len(images), batch):
        yield {"input": np.resize(np.concatenate([images[start : start + batch], images]), (batch, *images.shape[1:]))}


def classes(backend: Backend, engine: Engine, images: npt.NDArray[np.float32], batch: int) -> npt.NDArray[np.int64]:
    """The class that the engine gives every image."""
    with backend.runner(engine) as runner:
        found = [runner.infer(feed)["output"].argmax(axis=1) for feed in feeds(images, batch)]
    return np.concatenate(found)[: len(images)]


def row(
    backend: Backend, kind: Kind, engine: Engine, baseline: Engine, source: Path, held: Labelled, images: Any
) -> dict[str, Any]:
    """What is measured of one engine."""
    batch = engine.options.shapes["input"][0]
    found = classes(backend, engine, images, batch)
    exact = reference_outputs(source, list(feeds(images, batch)), "output").argmax(axis=1)[: len(images)]
    return {
        "engine": kind.name,
        "precision": kind.precision.value,
        "convolutions_and_products": prove(engine.layers, kind.precision).counts,
        "size_bytes": engine.size_bytes,
        "build_seconds": round(engine.build_seconds, 1),
        "accuracy": float((found == held.labels).mean()),
        "accuracy_in_onnx_runtime": float((exact == held.labels).mean()),
        "same_class_as_onnx_runtime": float((found == exact).mean()),
        **paired(backend, baseline, engine, next(feeds(images, batch)), BASELINE.precision.value),
    }


def main() -> None:
    """Build, measure, print a table."""
    options = parse()
    backend = running_backend(options.backend)
    manifest = json.loads((options.submission / f"{RESNET18_QAT.name}.manifest.json").read_text(encoding="utf-8"))
    mean, std = manifest["preprocessing"]["mean"], manifest["preprocessing"]["std"]
    held = find_labelled(options.cifar10, False, ALL, 0)
    if held is None:
        raise SystemExit(f"{options.cifar10} has no test/<class>/*")
    images = held.normalised(mean, std)
    os.environ.setdefault(CACHE_VARIABLE, str(options.cache.resolve() / "tensorrt"))
    cache, data = EngineCache(options.cache / "engines"), calibration(options.cifar10, mean, std, options.cache)
    rows, engines = [], {}
    for kind in KINDS:
        source = options.submission / kind.file
        if not source.exists():
            continue
        shapes = {"input": (options.batch, *images.shape[1:])}
        build = BuildOptions(kind.precision, shapes, data if kind.calibrated else None)
        engines[kind] = cache.build(source, backend, build)
    for kind, engine in engines.items():
        rows.append(row(backend, kind, engine, engines[BASELINE], options.submission / kind.file, held, images))
        shown = {name: value for name, value in rows[-1].items() if "samples" not in name}
        print(json.dumps(shown, ensure_ascii=False), flush=True)
    if options.out is not None:
        report = {
            **where(backend),
            "batch": options.batch,
            "test_images": len(held.labels),
            "model_sha256": manifest["sha256"],
            "rows": rows,
        }
        options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
