"""`python -m benchmarks.calibration SUBMISSION PHOTOS`: ResNet-50 in INT8 by a calibrator, and by Q/DQ in the graph.

The same images calibrate both ways; each engine answers for held-out photographs, and is timed in turn with FP32, TF32
and FP16.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import resnet
from benchmarks.pairs import paired, where
from trtverify.fixtures.answers.accuracy import agreement, reference_outputs
from trtverify.fixtures.backends.base import Backend
from trtverify.fixtures.engines.layers import prove
from trtverify.fixtures.engines.lint import lint
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.networks.datasets import signature
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.quantization.scales import by_layer, middle_ratio, of_cache, of_layers
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Engine, Precision

HELD_IMAGES = 64
QDQ = "resnet50-qdq.onnx"


def ways(onnx: Path, data: CalibrationData, folder: Path) -> Iterator[tuple[str, Path, CalibrationData | None]]:
    """Each way to INT8: its name, the graph to build, and the images if the builder is to calibrate."""
    for name, file, residuals in (("Q/DQ", QDQ, True), ("Q/DQ, float joins", f"float-joins-{QDQ}", False)):
        style = dataclasses.replace(convert.TENSORRT_STYLE, residuals=residuals)
        convert.to_int8_qdq(onnx, data, folder / file, style)
        yield name, folder / file, None
    yield "calibrator", onnx, data


def calibrated(folder: Path, onnx: Path, data: CalibrationData) -> dict[str, float] | None:
    """The scales that TensorRT's calibrator found, by layer; None where it has none, being strongly typed."""
    for cache in folder.glob(f"{onnx.stem}-*-{data.digest[:16]}-*.cache"):
        return by_layer(of_cache(cache, onnx, data), onnx)
    return None


def outputs(backend: Backend, engine: Engine, images: Any, batch: int) -> Any:
    """What the engine answers for full batches of images, N×1000."""
    with backend.runner(engine) as runner:
        feeds = ({"input": images[start : start + batch]} for start in range(0, len(images), batch))
        return np.concatenate([runner.infer(feed)["output"] for feed in feeds])


def main() -> None:
    """Build, compare, measure, print."""
    options = resnet.parser(__doc__).parse_args()
    ready = resnet.prepare(options)
    signatures = np.stack([signature(image[0]) for image in ready.data.images()])
    held = ready.photos.batch(RESNET50, max(HELD_IMAGES, options.batch), 2, unlike=signatures)
    held = held[: len(held) // options.batch * options.batch]
    exact = reference_outputs(ready.onnx, [{"input": image[None]} for image in held], "output")
    slow = ready.baselines(Precision.FP32, Precision.TF32, Precision.FP16)
    rows = []
    for name, path, images in ways(ready.onnx, ready.data, ready.folder):
        engine = ready.cache.build(path, ready.backend, BuildOptions(Precision.INT8, ready.shapes, images))
        answers = agreement(exact, outputs(ready.backend, engine, held, options.batch), within=True)
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
        if images is not None and (scales := calibrated(options.cache / "tensorrt", ready.onnx, images)):
            row["scales_against_qdq"] = round(middle_ratio(scales, of_layers(ready.folder / QDQ)), 3)
        for precision, baseline in slow.items():
            measured = paired(ready.backend, baseline, engine, {"input": held[: options.batch]}, precision.value)
            row[precision.value] = measured
        rows.append(row)
        print(json.dumps(row, default=str)[:400], flush=True)
    if options.out is not None:
        report = {**where(ready.backend), "batch": options.batch, "calibration_images": options.images, "rows": rows}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
