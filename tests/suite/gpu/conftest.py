"""For the tests on a GPU: one bench for all of them, and each failure told at once, lest a time-out swallow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.suite.gpu.bench import SHAPE, Bench, write_images, write_network
from trtverify.fixtures.backends.tensorrt import backend as trt
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.devices import device

HERE = Path(__file__).parent
LINES = 30


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """With -s: print the end of a failure's trace now, not at the end of the session."""
    if report.failed and (Path.cwd() / report.nodeid.split("::")[0]).is_relative_to(HERE):
        print("", *report.longreprtext.splitlines()[-LINES:], sep="\n  | ", flush=True)


@pytest.fixture(scope="session")
def backend() -> TensorRTBackend:
    """The backend under test; without a GPU and TensorRT there is nothing to test."""
    found = TensorRTBackend()
    if (reason := found.availability()) is not None:
        pytest.skip(reason)
    print(f"\n{found.version()} on {device.machine().describe()}")
    return found


@pytest.fixture(autouse=True)
def caches_beside_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trt.CACHE_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def bench(backend: TensorRTBackend, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    onnx = write_network(folder / "residual.onnx")
    return Bench(backend, folder, onnx, write_images(folder / "images", SHAPE, 64), {}, {})


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.float32]:
    coarse = np.random.default_rng(5).normal(size=(SHAPE[0], 3, SHAPE[2] // 8, SHAPE[3] // 8)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(8, axis=2).repeat(8, axis=3))


@pytest.fixture(scope="session")
def expected(bench: Bench, photo: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What ONNX Runtime computes in FP32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bench.onnx), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": photo})
    return np.asarray(output, dtype=np.float32)
