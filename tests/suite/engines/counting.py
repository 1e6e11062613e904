"""A backend that builds nothing, and counts how often it was asked to."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trtverify.fixtures.backends.base import Backend, Runner
from trtverify.fixtures.words.terms import BuildOptions, Engine, Layer, LayerTensor, Precision

FP32 = BuildOptions(Precision.FP32)
LAYER = Layer(
    "conv", "convolution", Precision.FP16, (LayerTensor("x", (1, 3), "fp16"),), (LayerTensor("y", (1,), "fp32"),), "d"
)


class Counting(Backend):
    """Writes a file at once, and counts; raises what it is told to."""

    name = "counting"
    precisions = (Precision.FP32,)

    def __init__(self, error: Exception | None = None) -> None:
        self.builds = 0
        self.error = error
        self.release = "1"
        self.gpu = "this GPU"

    def availability(self) -> str | None:
        return None

    def runnable(self) -> str | None:
        return None

    def version(self) -> str:
        return self.release

    def device(self) -> str:
        return self.gpu

    def build(self, onnx: Path, options: BuildOptions, out: Path) -> tuple[Layer, ...]:
        self.builds += 1
        out.write_bytes(b"half" if self.error else b"a whole engine")
        if self.error:
            raise self.error
        return (LAYER,)

    def runner(self, engine: Engine) -> contextlib.AbstractContextManager[Runner]:
        raise NotImplementedError
