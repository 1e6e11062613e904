"""Engines and models that TensorRT on a real GPU cannot take: each is refused in plain words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.suite.gpu.bench import SHAPE, Bench, run_apart, write_network
from trtverify.fixtures.backends.tensorrt import backend as trt
from trtverify.fixtures.backends.tensorrt.backend import TensorRTBackend
from trtverify.fixtures.words.terms import BuildOptions, Precision

pytestmark = pytest.mark.gpu

DESERIALIZE = """
    import pathlib, sys
    from trtverify.fixtures.backends.tensorrt import network
    try:
        network.deserialize(pathlib.Path(sys.argv[1]).read_bytes(), "foreign.engine")
    except RuntimeError as error:
        print(error)
"""


def test_a_changed_engine_is_never_deserialized(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = bench.build(Precision.FP32)

    def forbidden(*_arguments: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(trt, "deserialize", forbidden)
    content = engine.path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[: len(content) // 2], b""):
        path = tmp_path / "damaged.engine"
        path.write_bytes(damaged)
        with (
            pytest.raises(ValueError, match="is not the file that was built"),
            bench.backend.runner(dataclasses.replace(engine, path=path)),
        ):
            pass


@pytest.mark.parametrize(
    ("damage", "words"),
    [("garbage", "truncated or damaged"), ("truncated", "is refused")],
)
def test_a_plan_that_this_tensorrt_cannot_take(bench: Bench, tmp_path: Path, damage: str, words: str) -> None:
    content = bytearray(bench.build(Precision.FP32).path.read_bytes())
    if damage == "garbage":
        content = bytearray(b"no engine at all " * 4096)
    else:
        del content[len(content) * 3 // 4 :]
    path = tmp_path / "foreign.engine"
    path.write_bytes(content)
    done = run_apart(DESERIALIZE, str(path))
    print(f"{damage}: status {done.returncode}: {done.stdout.strip()} {done.stderr.strip()[-500:]}")
    assert words in done.stdout


def test_an_unknown_operator_is_named(backend: TensorRTBackend, tmp_path: Path) -> None:
    onnx = write_network(tmp_path / "odd.onnx", extra="Frobnicate")
    options = BuildOptions(Precision.FP32, {"input": SHAPE})
    with pytest.raises(ValueError, match="Frobnicate") as caught:
        backend.build(onnx, options, tmp_path / "out.engine")
    print(caught.value)
    assert "odd_one" in str(caught.value)
    assert "polygraphy inspect model odd.onnx" in str(caught.value)
    assert "neither an importer nor a plugin for Frobnicate" in str(caught.value)
    assert not (tmp_path / "out.engine").exists()
