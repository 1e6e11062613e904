"""Says of a TensorRT calibration cache what it was made from: without that, nobody can tell whose scales it holds."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import artifact

SCHEMA = 1
HEADER = re.compile(r"TRT-([\w.]+)-(\w+)")  # polygraphy's default calls itself EntropyCalibration2


def seal(cache: Path, onnx: Path, folder: Path) -> Path:
    """Write `<cache>.json`: the model, the images and the TensorRT version that these scales come from.

    Polygraphy and trtexec take any cache, of whatever model. Seal it right after calibrating, before anything changes.

    Args:
        cache: what polygraphy wrote; onnx: the model it calibrated; folder: the calibration images it was given.
    """
    for path, maker in ((cache, "the polygraphy command that this lab prints"), (onnx, "lab1_export_resnet50.py")):
        if not path.is_file():
            raise artifact.stop(f"there is no {path}", f"make it with {maker}")
    version, algorithm, tensors = read(cache)
    known, needed = names(onnx)
    named = {name for name in tensors if not name.startswith("(Unnamed Layer")}
    # Not all of them: TensorRT may rename or add a tensor, but another model shares few.
    if 2 * len(named & known) < len(named) or 2 * len(needed & tensors) < len(needed):
        raise artifact.stop(
            f"{cache} is another model's: {len(named & known)} of its {len(named)} tensors are in {onnx.name}, and it "
            f"has a scale for {len(needed & tensors)} of the {len(needed)} that convolutions read",
            f"rm {cache}, and calibrate this model",
        )
    batches = sorted(folder.glob("*.npy"))
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        images = int(manifest["count"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise artifact.stop(f"{folder} has no sound manifest: {error}", "run this lab without --seal first") from error
    record = {
        "schema": SCHEMA,
        "model_sha256": artifact.sha256(onnx),
        "data_digest": digest(batches),
        "preprocessing": manifest.get("preprocessing"),
        "algorithm": algorithm,
        "tensorrt": version,
        "images": images,
        "cache_sha256": artifact.sha256(cache),
    }
    path = cache.with_name(f"{cache.name}.json")
    artifact.write_atomically(path, json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n")
    return path


def read(cache: Path) -> tuple[str, str, set[str]]:
    """TensorRT's version and the calibrator as the first line says them, and the tensors that have a scale."""
    lines = cache.read_text(encoding="utf-8", errors="replace").splitlines()
    header = HEADER.fullmatch(lines[0].strip()) if lines else None
    if header is None:
        raise artifact.stop(
            f"{cache} is no calibration cache: it begins with {lines[0][:40] if lines else ''!r}",
            f"rm {cache}, and calibrate with the command that this lab prints",
        )
    return header[1], header[2], {line.rpartition(": ")[0] for line in lines[1:] if line.strip()}


def names(onnx_path: Path) -> tuple[set[str], set[str]]:
    """Every tensor of a graph, and those that its convolutions read."""
    artifact.need("onnx")
    import onnx

    graph = onnx.load(str(onnx_path)).graph
    every = {value.name for value in graph.input}
    for node in graph.node:
        every |= {*node.input, *node.output}
    return every, {node.input[0] for node in graph.node if node.op_type == "Conv"}


def digest(batches: list[Path]) -> str:
    """One hash over the images' values, the same however they are spread over files of this order."""
    artifact.need("numpy")
    import numpy as np

    total: Any = hashlib.sha256()
    for path in batches:
        total.update(hashlib.sha256(np.load(path, allow_pickle=False).tobytes()).digest())
    return str(total.hexdigest())
