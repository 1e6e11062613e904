"""TensorRT 10's real runtime, inspector and profiler, on a version-compatible plan of the builder that is here (8.6).

`VERIFY_TENSORRT_RUNTIME=FOLDER` names a folder with a `tensorrt` whose runtime is the real one of a later version
(NVIDIA's full bindings over its lean runtime, for example). What it inspects and runs was built by the older builder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.suite.gpu.bench import CONVOLUTIONS, ROOT, SHAPE, Bench

pytestmark = pytest.mark.gpu
FOLDER = os.environ.get("VERIFY_TENSORRT_RUNTIME")
LEAST_DECIBELS = 25.0

READ = """
import json, pathlib, sys
import numpy as np
import tensorrt
from trtverify.fixtures.backends.tensorrt import inspector, network
from trtverify.fixtures.backends.tensorrt.runner import open_runner
folder = pathlib.Path(sys.argv[1])
runtime = tensorrt.Runtime(network.logger())
runtime.engine_host_code_allowed = True  # the plan carries its own runtime
with network.last_words() as words:
    engine = runtime.deserialize_cuda_engine((folder / "compatible.plan").read_bytes())
assert engine is not None, words
photo = np.load(folder / "photo.npy")
text = network.inspect(engine, {"input": photo.shape})
(folder / "layers.json").write_text(text)
with open_runner(engine) as runner:
    output = runner.infer({"input": photo})["output"]
    runner.prepare({"input": photo})
    times = [runner.enqueue() for _ in range(50)]
    print(json.dumps({
        "version": tensorrt.__version__, "graph": runner.graph_problem, "median_ms": 1e3 * float(np.median(times)),
        "breakdown": len(runner.breakdown(5).compute), "profiled": len(runner.profile(5)),
    }))
np.save(folder / "output.npy", output)
"""


@pytest.fixture(scope="module")
def plan(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an FP16 plan that carries its own runtime, so that later versions take it."""
    if FOLDER is None:
        pytest.skip("VERIFY_TENSORRT_RUNTIME names no later runtime")
    import tensorrt

    from trtverify.fixtures.backends.tensorrt import network

    parsed = network.parse(bench.onnx, strongly_typed=False)
    config = parsed.builder.create_builder_config()
    for flag in ("FP16", "VERSION_COMPATIBLE"):
        config.set_flag(getattr(tensorrt.BuilderFlag, flag))
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    kinds = tensorrt.TacticSource
    config.set_tactic_sources(1 << int(kinds.EDGE_MASK_CONVOLUTIONS) | 1 << int(kinds.JIT_CONVOLUTIONS))
    profile = parsed.builder.create_optimization_profile()
    profile.set_shape("input", SHAPE, SHAPE, SHAPE)
    config.add_optimization_profile(profile)
    with network.last_words() as words:
        serialized = parsed.builder.build_serialized_network(parsed.network, config)
    assert serialized is not None, words
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "compatible.plan").write_bytes(bytes(serialized))
    return folder


def test_a_later_runtime_runs_inspects_and_profiles(
    plan: Path, photo: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]
) -> None:
    np.save(plan / "photo.npy", photo)
    paths = os.pathsep.join([str(FOLDER), str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", READ, str(plan)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{told}")
    assert told["graph"] is None
    assert told["breakdown"] == 5
    assert told["profiled"] > CONVOLUTIONS
    from trtverify.fixtures.backends.tensorrt import inspector

    found = inspector.parse((plan / "layers.json").read_text())
    print([(layer.kind, layer.precision, layer.name) for layer in found.layers])
    assert sum(layer.kind == "convolution" for layer in found.layers) == CONVOLUTIONS
    noise = np.load(plan / "output.npy") - expected
    assert 10 * np.log10(np.var(expected) / np.mean(noise**2)) > LEAST_DECIBELS
