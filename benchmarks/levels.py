"""`python -m benchmarks.levels SUBMISSION PHOTOS`: ResNet-50 built with the builder searching harder than by default.

Each level is given FP16, and INT8 by Q/DQ in the graph; every engine is timed in turn with FP32 and TF32 as built by
default.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks import resnet
from benchmarks.pairs import paired, where
from trtverify.fixtures.engines.layers import prove
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.words.terms import BuildOptions, Precision


def parse() -> argparse.Namespace:
    """The options."""
    parser = resnet.parser(__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=(4, 5), help="of the builder, 0 to 5")
    return parser.parse_args()


def main() -> None:
    """Build, measure, print; what is measured is written after every engine."""
    options = parse()
    ready = resnet.prepare(options)
    qdq = ready.folder / "resnet50-qdq-levels.onnx"
    convert.to_int8_qdq(ready.onnx, ready.data, qdq, convert.TENSORRT_STYLE)
    feed = {"input": ready.photos.batch(RESNET50, options.batch, 2)}
    slow = ready.baselines(Precision.FP32, Precision.TF32)
    rows = []
    for level in (None, *options.levels):
        for precision, path in ((Precision.FP16, ready.onnx), (Precision.INT8, qdq)):
            asked = BuildOptions(precision, ready.shapes, optimization_level=level)
            engine = ready.cache.build(path, ready.backend, asked)
            row: dict[str, Any] = {
                "precision": precision.value,
                "level": "default" if level is None else level,
                "convolutions_and_products": prove(engine.layers, precision).counts,
                "size_bytes": engine.size_bytes,
                "build_seconds": round(engine.build_seconds, 1),
            }
            for baseline, other in slow.items():
                row[baseline.value] = paired(ready.backend, other, engine, feed, baseline.value)
            rows.append(row)
            print(json.dumps(row)[:300], flush=True)
            if options.out is not None:
                report = {**where(ready.backend), "batch": options.batch, "rows": rows}
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
