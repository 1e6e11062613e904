"""TensorRT on a real GPU: each precision is built, proven, and right. INT8 comes first, as most can go wrong there."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from tests.suite.gpu.bench import CONVOLUTIONS, SHAPE, Bench, make
from trtverify.fixtures.backends.tensorrt import backend as trt
from trtverify.fixtures.backends.tensorrt import inspector, weak
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.devices import device
from trtverify.fixtures.engines.layers import convolutions, prove
from trtverify.fixtures.submitted import calibration_cache
from trtverify.fixtures.words.terms import BuildOptions, Precision

pytestmark = pytest.mark.gpu

KINDS = [
    pytest.param(Precision.INT8, True, id="int8-qdq"),
    pytest.param(Precision.INT8, False, id="int8-calibrated"),
    pytest.param(Precision.FP32, False, id="fp32"),
    pytest.param(Precision.TF32, False, id="tf32"),
    pytest.param(Precision.FP16, False, id="fp16"),
]
# FP32 is bound; where the builder may choose, it may keep the stem, with its three channels, wider.
LEAST_SHARE = {Precision.FP32: 1.0, Precision.TF32: 0.75, Precision.FP16: 0.75, Precision.INT8: 0.75}
# Measured on an H200 with TensorRT 8.6.0: FP32 124 dB, TF32 61 dB, FP16 63 dB.
LEAST_DECIBELS = {Precision.FP32: 90.0, Precision.TF32: 45.0, Precision.FP16: 45.0, Precision.INT8: 15.0}


@pytest.mark.parametrize(("precision", "qdq"), KINDS)
def test_layers_prove_the_precision(bench: Bench, precision: Precision, qdq: bool) -> None:
    engine = bench.build(precision, qdq=qdq)
    proof = prove(engine.layers, precision)
    kind = f"{precision}{' qdq' if qdq else ''}"
    print(f"{kind}: {proof}, {engine.build_seconds:.1f} s, {engine.size_bytes} bytes")
    for layer in engine.layers:
        types = ",".join(tensor.format for tensor in layer.inputs), ",".join(t.format for t in layer.outputs)
        print(f"  {layer.kind:12} {layer.precision or '-':5} {types[0]}->{types[1]} {layer.name[:60]} | {layer.detail}")
    assert convolutions(engine.layers) == CONVOLUTIONS, "every convolution of the network is one layer of the engine"
    assert "unknown" not in proof.counts, "the inspector tells each one's precision"
    assert proof.share >= LEAST_SHARE[precision]
    assert not proof.narrower


@pytest.mark.parametrize(("precision", "qdq"), KINDS)
def test_outputs_agree_with_onnx_runtime(
    bench: Bench, photo: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], precision: Precision, qdq: bool
) -> None:
    with bench.backend.runner(bench.build(precision, qdq=qdq)) as runner:
        found = runner.infer({"input": photo})["output"]
        again = runner.infer({"input": photo})["output"]
    noise = float(np.sum((expected - found) ** 2))
    decibels = 10 * float(np.log10(float(np.sum(expected**2)) / max(noise, 1e-30)))
    print(f"{precision}: {decibels:.1f} dB")
    assert decibels > LEAST_DECIBELS[precision]
    assert np.array_equal(found, again)


def test_the_calibration_cache_is_written_once_and_distrusted_when_changed(bench: Bench) -> None:
    if "weakly" not in bench.backend.version():
        pytest.skip("strongly typed: no calibrator")
    import tensorrt

    bench.build(Precision.INT8)
    made_from = calibration_cache.provenance(bench.onnx, bench.images, str(tensorrt.__version__))
    cache = weak.calibration_cache_path(bench.onnx, made_from, trt.cache_folder(bench.folder / "x"))
    scales = calibration_cache.check(cache, made_from)
    print(f"{len(scales)} scales, {[name for name, scale in scales.items() if scale == 0]} of them 0")
    assert {"input", "stem_relu"} <= set(scales)
    written = cache.read_bytes()
    cache.write_bytes(written[:-5])
    with pytest.raises(ValueError, match="cache_sha256"):
        calibration_cache.check(cache, made_from)
    options = BuildOptions(Precision.INT8, {"input": SHAPE}, bench.images)
    for _time in ("calibrated anew", "read"):
        make(bench.backend, bench.onnx, options, bench.folder / "again.engine")
        assert calibration_cache.check(cache, made_from) == scales


def test_a_wrong_feed_is_refused(bench: Bench, photo: npt.NDArray[np.float32]) -> None:
    with bench.backend.runner(bench.build(Precision.FP32)) as runner:
        with pytest.raises(ValueError, match="takes inputs input"):
            runner.infer({"image": photo})
        with pytest.raises(ValueError, match=r"given was \(8, 3, 112, 112\) of float32"):
            runner.infer({"input": photo[:8]})
        with pytest.raises(ValueError, match="of float64"):
            runner.infer({"input": photo.astype(np.float64)})


def test_inspector_text_is_what_the_parser_was_written_for(bench: Bench) -> None:
    text = bench.backend.layer_information(bench.build(Precision.FP16))
    information = inspector.parse(text)
    assert information.detailed
    assert information.bindings == ("input", "output")
    assert all(tensor.format != "unknown" for layer in information.layers for tensor in layer.inputs)


def test_the_machine_tells_what_it_is(backend: TensorRTBackend) -> None:
    begun = time.perf_counter()
    shot = device.snapshot()
    seconds = time.perf_counter() - begun
    found = device.machine()
    print(f"{found}\n{shot}\nsnapshot took {seconds * 1e3:.1f} ms")
    assert found.problem is None
    assert found.gpu == backend.device()
    assert shot.sm_mhz is not None
    assert shot.temperature_c is not None
    assert shot.throttle_reasons is not None
