"""Lab 1: torchvision's ResNet-50, exported to ONNX, as an FP32 engine with a benchmark of 100 iterations."""

from __future__ import annotations

import pytest

from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.function import FunctionClaims
from trtverify.fixtures.claims.onnx import OnnxClaims
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.words.terms import Precision


@pytest.mark.lab1
class TestResNet50(OnnxClaims, FunctionClaims, ClassifierClaims):
    """The FP32 engine is the baseline of every later lab."""

    lab = "lab1"
    model = RESNET50
    precisions = (Precision.FP32, Precision.TF32)
    larger_batch = 32
    parity = 1e-3
    liveliness = 0.02
    # FP32 differs by the order of sums alone; TF32 rounds each factor to 10 bits of mantissa,
    # as FP16 does, and that leaves as little as 28 dB where weights are drawn at random.
    sqnr = {Precision.FP32: 60.0, Precision.TF32: 20.0}
    # Noise picks among classes that tie, which counts as the same; of eight photographs one may still tip.
    classes = {Precision.FP32: (0.99, 0.99), Precision.TF32: (0.85, 0.99)}
