"""`python -m benchmarks.calibration SUBMISSION PHOTOS`: ResNet-50 in INT8 by a calibrator, and by Q/DQ in the graph.

The same images calibrate both ways; each engine answers for held-out photographs, and is timed in turn with FP32, TF32
and FP16.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pairs import paired, running_backend, where
from fixtures import backends
from fixtures.accuracy import agreement, reference_outputs
from fixtures.backends import graph
from fixtures.backends.base import Backend, BuildOptions, CalibrationData, Engine, Precision
from fixtures.backends.trt import CACHE_VARIABLE
from fixtures.calibration import own
from fixtures.datasets import find_photos, signature
from fixtures.engine_cache import EngineCache
from fixtures.layers import prove
from fixtures.lint import lint
from fixtures.models import RESNET50
from fixtures.scales import middle_ratio, of_cache, of_layers

HELD_IMAGES = 64
QDQ = "resnet50-qdq.onnx"
BASELINES = (Precision.FP32, Precision.TF32, Precision.FP16)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path, help="what lab 1 wrote, exported with --batch dynamic")
    parser.add_argument("photos", type=Path, help="a folder of photographs: some calibrate, others are answered for")
    parser.add_argument("--backend", choices=backends.NAMES, default="tensorrt")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=64, help="how many calibrate")
    parser.add_argument("--cache", type=Path, default=Path(".cache/verify"))
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    return parser.parse_args()


def ways(onnx: Path, data: CalibrationData, folder: Path) -> Iterator[tuple[str, Path, CalibrationData | None]]:
    """Each way to INT8: its name, the graph to build, and the images if the builder is to calibrate."""
    for name, file, residuals in (("Q/DQ", QDQ, True), ("Q/DQ, float joins", f"float-joins-{QDQ}", False)):
        style = dataclasses.replace(graph.TENSORRT_STYLE, residuals=residuals)
        graph.to_int8_qdq(onnx, data, folder / file, style)
        yield name, folder / file, None
    yield "calibrator", onnx, data


def calibrated(folder: Path, onnx: Path, data: CalibrationData) -> dict[str, float] | None:
    """The scales that TensorRT's calibrator found, by layer; None where it has none, being strongly typed."""
    for cache in folder.glob(f"{onnx.stem}-*-{data.digest[:16]}-*.cache"):
        return of_cache(cache, onnx, data)
    return None


def outputs(backend: Backend, engine: Engine, images: Any, batch: int) -> Any:
    """What the engine answers for full batches of images, N×1000."""
    with backend.runner(engine) as runner:
        feeds = ({"input": images[start : start + batch]} for start in range(0, len(images), batch))
        return np.concatenate([runner.infer(feed)["output"] for feed in feeds])


def main() -> None:
    """Build, compare, measure, print."""
    options = parse()
    backend = running_backend(options.backend)
    photos = find_photos(options.photos)
    if photos is None:
        raise SystemExit(f"{options.photos} has no photographs")
    os.environ.setdefault(CACHE_VARIABLE, str(options.cache.resolve() / "tensorrt"))
    onnx, folder = options.submission / RESNET50.file, options.cache / "calibration"
    data = own(photos, RESNET50, options.images, 1, folder)
    signatures = np.stack([signature(image[0]) for image in data.images()])
    held = photos.batch(RESNET50, max(HELD_IMAGES, options.batch), 2, unlike=signatures)
    held = held[: len(held) // options.batch * options.batch]
    exact = reference_outputs(onnx, [{"input": image[None]} for image in held], "output")
    cache = EngineCache(options.cache / "engines")
    shapes = {"input": (options.batch, *RESNET50.input[1][1:])}
    slow = {p: cache.build(onnx, backend, BuildOptions(p, shapes)) for p in BASELINES if p in backend.precisions}
    rows = []
    for name, path, images in ways(onnx, data, folder):
        engine = cache.build(path, backend, BuildOptions(Precision.INT8, shapes, images))
        answers = agreement(exact, outputs(backend, engine, held, options.batch), within=True)
        row: dict[str, Any] = {
            "way": name,
            "convolutions_and_products": prove(engine.layers, Precision.INT8).counts,
            "size_bytes": engine.size_bytes,
            "build_seconds": round(engine.build_seconds, 1),
            "sqnr_db": round(answers.sqnr_db, 2),
            "top1": answers.top1,
            "same_class": answers.same_class(),
            "advice": {advice.kind: len(advice.layers) for advice in lint(engine.layers)},
        }
        if images is not None and (scales := calibrated(options.cache / "tensorrt", onnx, images)):
            row["scales_against_qdq"] = round(middle_ratio(scales, of_layers(folder / QDQ)), 3)
        for precision, baseline in slow.items():
            measured = paired(backend, baseline, engine, {"input": held[: options.batch]}, precision.value)
            row[precision.value] = measured
        rows.append(row)
        print(json.dumps(row, default=str)[:400], flush=True)
    if options.out is not None:
        report = {**where(backend), "batch": options.batch, "calibration_images": options.images, "rows": rows}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
