"""What a changed graph computes, against the one that it was made from: proved by running both."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from trtverify.fixtures.graphs.ort_errors import refusals

EQUAL = 1e-4
"""Of the outputs' spread: sums in another order differ by less, on all networks and exporters tried (5e-6 to 4e-5)."""
ALLOWED = 1e-3
"""What the course's own parity test lets pass."""
NOISE = 20.0
"""dB that the course asks of an INT8 engine: a quantized graph that is nearer to the original is as good."""
IMAGES = 3


@dataclasses.dataclass(frozen=True)
class Proof:
    """How far outputs are apart: the largest difference, in units of the spread, and the SQNR in dB."""

    largest: float
    sqnr: float
    error: str = ""

    def label(self, quantized: bool) -> tuple[str, str]:
        """`wrong`, `equivalent` or `allowed`, and why."""
        if self.error:
            return "wrong", f"it does not run: {self.error}"
        if self.largest <= EQUAL:
            return "equivalent", f"outputs within {self.largest:.1e} of the spread: it computes the same"
        if self.largest <= ALLOWED:
            return "allowed", f"outputs within {self.largest:.1e} of the spread; the course asks for {ALLOWED:g}"
        if quantized and self.sqnr >= NOISE:
            return "allowed", f"{self.sqnr:.1f} dB from the original; the course asks for {NOISE:g} dB of INT8"
        return "wrong", f"outputs differ by {self.largest:.2g} of the spread, {self.sqnr:.1f} dB"


def compare(original: Path, changed: Path) -> Proof:
    """Run both on photographs and noise."""
    expected, reason = _outputs(original, original.stat().st_mtime_ns)
    assert expected is not None, reason
    found, reason = run(changed)
    if found is None:
        return Proof(math.nan, math.nan, reason)
    if found.shape != expected.shape:
        return Proof(math.nan, math.nan, f"its output has the shape {found.shape}, not {expected.shape}")
    # Boxes are hundreds of pixels, scores below one: each by its own spread.
    parts = (slice(0, 4), slice(4, None)) if expected.ndim == 3 else (slice(None),)
    largest, noise = 0.0, math.inf
    for part in parts:
        a, b = (array[:, part].astype(np.float64) for array in (expected, found))
        if not np.isfinite(b).all():
            return Proof(math.inf, -math.inf)
        spread, difference = float(a.std()) or 1.0, np.abs(a - b)
        largest = max(largest, float(difference.max()) / spread)
        power = float(np.square(difference).mean())
        noise = min(noise, 10 * math.log10(spread**2 / power) if power else math.inf)
    return Proof(largest, noise)


@functools.lru_cache(maxsize=16)
def _outputs(path: Path, _mtime: int) -> tuple[Any, str]:
    return run(path)


def run(path: Path) -> tuple[Any, str]:
    """The outputs on this module's images in ONNX Runtime, its rewriting off; or None, and why it does not run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with refusals():
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            fed = session.get_inputs()[0]
            side = 640 if "yolo" in path.name else 32 if "cifar10" in path.name else 224
            usual = (1, 3, side, side)
            shape = [s if isinstance(s, int) else u for s, u in zip(fed.shape, usual, strict=False)]
            if len(shape) != 4 or shape[1] != 3:
                return None, f"its input has the shape {shape}"
            kind, output = np.float16 if "float16" in fed.type else np.float32, session.get_outputs()[0].name
            images = (np.resize(image[None].astype(kind), shape) for image in feeds(shape[2], shape[3]))
            outputs = [session.run([output], {fed.name: image})[0][:1] for image in images]
    except ValueError as error:
        return None, str(error).splitlines()[0][:160]
    return np.concatenate(outputs), ""


@functools.lru_cache(maxsize=8)
def feeds(height: int, width: int) -> Any:
    """Two photographs and noise, float32 N×3×H×W, within what inputs of these networks are."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    images = []
    for picture in load_sample_images().images:
        pixels = np.asarray(Image.fromarray(picture).resize((width, height)), np.float32).transpose(2, 0, 1) / 255
        images.append(pixels if height == 640 else (pixels - 0.45) / 0.25)
    noise = np.random.default_rng(5).uniform(0, 1, (3, height, width)).astype(np.float32)
    images.append(noise if height == 640 else (noise - 0.45) / 0.25)
    return np.stack(images[:IMAGES])
