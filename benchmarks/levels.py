"""`python -m benchmarks.levels SUBMISSION PHOTOS`: ResNet-50 built with the builder searching harder than by default.

Each level is given FP16, and INT8 by Q/DQ in the graph; every engine is timed in turn with FP32 and TF32 as built by
default.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.pairs import paired, running_backend, where
from fixtures import backends
from fixtures.backends import graph
from fixtures.backends.base import BuildOptions, Precision
from fixtures.backends.trt import CACHE_VARIABLE
from fixtures.calibration import own
from fixtures.datasets import find_photos
from fixtures.engine_cache import EngineCache
from fixtures.layers import prove
from fixtures.models import RESNET50

CALIBRATION_IMAGES = 64
BASELINES = (Precision.FP32, Precision.TF32)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path, help="what lab 1 wrote, exported with --batch dynamic")
    parser.add_argument("photos", type=Path, help="a folder of photographs, to calibrate and to run")
    parser.add_argument("--backend", choices=backends.NAMES, default="tensorrt")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--levels", type=int, nargs="+", default=(4, 5), help="of the builder, 0 to 5")
    parser.add_argument("--cache", type=Path, default=Path(".cache/verify"))
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    return parser.parse_args()


def main() -> None:
    """Build, measure, print; what is measured is written after every engine."""
    options = parse()
    backend = running_backend(options.backend)
    photos = find_photos(options.photos)
    if photos is None:
        raise SystemExit(f"{options.photos} has no photographs")
    os.environ.setdefault(CACHE_VARIABLE, str(options.cache.resolve() / "tensorrt"))
    onnx, folder = options.submission / RESNET50.file, options.cache / "calibration"
    qdq = folder / "resnet50-qdq-levels.onnx"
    data = own(photos, RESNET50, CALIBRATION_IMAGES, 1, folder)
    graph.to_int8_qdq(onnx, data, qdq, graph.TENSORRT_STYLE)
    feed = {"input": photos.batch(RESNET50, options.batch, 2)}
    cache = EngineCache(options.cache / "engines")
    shapes = {"input": (options.batch, *RESNET50.input[1][1:])}
    slow = {p: cache.build(onnx, backend, BuildOptions(p, shapes)) for p in BASELINES if p in backend.precisions}
    rows = []
    for level in (None, *options.levels):
        for precision, path in ((Precision.FP16, onnx), (Precision.INT8, qdq)):
            asked = BuildOptions(precision, shapes, optimization_level=level)
            engine = cache.build(path, backend, asked)
            row: dict[str, Any] = {
                "precision": precision.value,
                "level": "default" if level is None else level,
                "convolutions_and_products": prove(engine.layers, precision).counts,
                "size_bytes": engine.size_bytes,
                "build_seconds": round(engine.build_seconds, 1),
            }
            for baseline, other in slow.items():
                row[baseline.value] = paired(backend, other, engine, feed, baseline.value)
            rows.append(row)
            print(json.dumps(row)[:300], flush=True)
            if options.out is not None:
                report = {**where(backend), "batch": options.batch, "rows": rows}
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
