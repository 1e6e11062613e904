"""What values a quantized tensor takes on images, and so which scales for it a calibration can give."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.mutants import bases, files
from benchmarks.mutants.case import EITHER, RIGHT, WRONG
from trtverify.fixtures.networks.datasets import find_labelled

LARGEST = 127
WIDER, WIDEST = 1.3, 2.0
"""Times the largest value seen here: more images have larger ones, by a third; a power of two is at most twice."""
CUT = 99.9
"""Per cent of values that the coarsest percentile in use keeps."""


def judge(path: Path, tensor: str, scale: float) -> tuple[str, str]:
    """What work with this scale for this tensor is, by what calibrations give: the other scales are as they were."""
    largest, kept = seen(path, path.stat().st_mtime_ns)[tensor]
    reach = scale * LARGEST
    told = f"it reaches {reach / largest:.2f} of the largest value, and {reach / kept:.2f} of {CUT} % of them"
    if kept <= reach <= WIDER * largest:
        return RIGHT, f"{told}: some calibration gives it"
    return (EITHER if kept <= reach <= WIDEST * largest else WRONG), told


@functools.lru_cache(maxsize=4)
def seen(path: Path, _mtime: int) -> dict[str, tuple[float, float]]:
    """The largest magnitude, and the one that `CUT` per cent do not exceed, of every activation that is quantized."""
    import onnxruntime

    model = onnx.load_model(str(path))
    names = list(bases.scales_by_tensor(model))
    shown = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = [name for name in names if name not in shown]
    largest, kept = dict.fromkeys(names, 0.0), dict[str, list[Any]]()
    for image in pictures(path):
        values = dict(zip(asked, session.run(asked, {"input": image[None]}), strict=True)) | {"input": image}
        for name in names:
            magnitudes = np.abs(values[name])
            largest[name] = max(largest[name], float(magnitudes.max()))
            kept.setdefault(name, []).append(np.percentile(magnitudes, CUT))
    return {name: (max(largest[name], 1e-12), max(float(np.mean(kept[name])), 1e-12)) for name in names}


def pictures(path: Path) -> Any:
    """Images such as the network was calibrated on."""
    if "resnet50" in path.name:
        return bases.images(path.parent)[:12]
    held = find_labelled(None, True, 200, 11)
    assert held is not None
    return held.normalised((0.3,) * 3, (0.37,) * 3)


def weight_scale(model: Any, node: Any) -> Any:
    """The constant that scales the weight of a node; None where it is not quantized."""
    known, writers = files.constants(model), {name: other for other in model.graph.node for name in other.output}
    other = writers.get(node.input[1])
    while other is not None and other.op_type != "DequantizeLinear":
        other = writers.get(other.input[0])
    return None if other is None else known[other.input[1]]
