"""Run in a process of its own, with a stand-in as `tensorrt`: asks of the bindings all that the backend ever asks.

argv: a folder to write in, and the regime, `weak` or `strong`.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import onnx
import tensorrt
from onnx import TensorProto, helper, numpy_helper

from tests.suite.backends.fake_cuda import FakeLibrary
from trtverify.fixtures.backends.tensorrt import backend, network, runner
from trtverify.fixtures.devices import cudart
from trtverify.fixtures.words.terms import BuildOptions, CalibrationData, Precision

INPUT = "A"  # what the stand-in calls every tensor
CACHE = b"TRT-100300-EntropyCalibration2\nA: 3c010a14\n"


def model(path: pathlib.Path) -> pathlib.Path:
    """One convolution, with the one shape that the stand-in knows."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", [INPUT, "w"], ["y"], "conv", pads=[1] * 4)
    source = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, 32, 32])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 32, 32])
    graph = helper.make_graph([node], "one", [source], [target], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def give_meaning() -> None:
    """To the two answers that are looked into: the inspector's JSON, and a calibration while one is asked for."""
    inspected = tensorrt.EngineInspector.get_engine_information

    def information(self: Any, form: Any) -> str:
        assert inspected(self, form)
        return '{"Layers": [], "Bindings": []}'

    tensorrt.EngineInspector.get_engine_information = information
    if not hasattr(tensorrt, "IInt8EntropyCalibrator2"):
        return
    given = tensorrt.IBuilderConfig.int8_calibrator

    def calibrate(config: Any, calibrator: Any) -> None:
        given.fset(config, calibrator)
        while calibrator.get_batch([INPUT]):
            pass
        calibrator.write_calibration_cache(memoryview(CACHE))

    tensorrt.IBuilderConfig.int8_calibrator = property(given.fget, calibrate)


def main(folder: pathlib.Path, *, strong: bool) -> None:
    """Build in every precision with every option, load, inspect, run, time and profile."""
    made = cudart.Cudart(FakeLibrary(), "fake")
    cudart.cudart = lambda: made  # type: ignore[assignment]
    backend._problem = lambda: None  # type: ignore[assignment]
    runner._WAKING = 0.0
    give_meaning()
    onnx_path = model(folder / "one.onnx")
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    images = CalibrationData(INPUT, (folder / "images.npy",), "digest")
    stack = backend.TensorRTBackend(strongly_typed=strong)
    every: dict[str, Any] = {
        "workspace_bytes": 1 << 28,
        "optimization_level": 4,
        "hardware_compatible": True,
        "tactic_sources": ("EDGE_MASK_CONVOLUTIONS",),
        "dla_core": 0,
    }
    for precision in Precision:
        calibration = images if precision is Precision.INT8 else None
        for more in ({}, every):
            built = stack.build(onnx_path, BuildOptions(precision, {}, calibration, **more), folder / "one.engine")
            assert built == ()
    _runtime, engine = network.deserialize(b"a plan", "one.engine")
    with runner.open_runner(engine) as opened:
        # Its only tensor is called A and counts as FP16, type number 1.
        feed = {INPUT: np.zeros((1, 3, 32, 32), np.float16)}
        opened.infer(feed)
        opened.prepare(feed)
        opened.enqueue()
        opened.breakdown(1)
        opened.profile(1)
        assert opened.graph_problem is None
    print(f"{stack.version()}: all is there")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), strong=sys.argv[2] == "strong")
