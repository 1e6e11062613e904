"""Which layers INT8 hurts: the search finds those that were hurt, and no more measurements than halving takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.suite import tiny
from tests.suite.spoil import set_constants
from trtverify.fixtures.answers.accuracy import agreement, reference_outputs
from trtverify.fixtures.graphs.contents import read
from trtverify.fixtures.graphs.convert import to_int8_qdq
from trtverify.fixtures.graphs.onnx_file import constants_of
from trtverify.fixtures.quantization.sensitivity import leave_float, main, most_sensitive
from trtverify.fixtures.words.terms import CalibrationData

NOISE = {f"n{i}": 0.001 for i in range(64)} | {"n11": 0.2, "n40": 0.1, "n41": 0.05}


def test_the_worst_layers_are_found_by_halving() -> None:
    taken = []

    def measure(kept: frozenset[str]) -> float:
        taken.append(kept)
        return -10 * math.log10(sum(noise for name, noise in NOISE.items() if name not in kept) + 1e-12)

    base, found = most_sensitive(list(NOISE), measure, 3)
    assert [step.node for step in found] == ["n11", "n40", "n41"]
    assert base == pytest.approx(measure(frozenset()))
    assert found[-1].sqnr_db == pytest.approx(-10 * math.log10(0.061))
    assert len(taken) <= 2 * 3 * math.log2(64) + 5


def test_a_spoilt_layer_is_found_in_a_real_graph(tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "tiny.onnx")
    images = np.random.default_rng(0).standard_normal((8, *tiny.SHAPE[1:])).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    quantized = tmp_path / "int8.onnx"
    to_int8_qdq(model, CalibrationData("input", (tmp_path / "images.npy",), "x"), quantized)
    spoilt = onnx.load(str(quantized))
    layer = read(quantized).quantized[0]
    constants = constants_of(spoilt)
    producers = {output: node for node in spoilt.graph.node for output in node.output}
    node = next(node for node in spoilt.graph.node if node.name == layer.node)
    scale = producers[node.input[0]].input[1]
    set_constants(spoilt, {scale: constants[scale] * 60})
    onnx.save(spoilt, str(quantized))
    feeds = [{"input": image[None]} for image in images]
    output = spoilt.graph.output[0].name
    exact = reference_outputs(model, feeds, output)

    def measure(kept: frozenset[str]) -> float:
        trial = tmp_path / f"trial-{'-'.join(name.strip('/').replace('/', '.') for name in sorted(kept))}.onnx"
        leave_float(quantized, kept, trial)
        return agreement(exact, reference_outputs(trial, feeds, output), within=True).sqnr_db

    base, found = most_sensitive([q.node for q in read(quantized).quantized], measure, 1)
    assert [step.node for step in found] == [layer.node]
    assert found[0].sqnr_db > base + 6


def test_an_unknown_network_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "other.onnx")])
    assert ended.value.code == 2
    assert "other.onnx is none of resnet50" in capsys.readouterr().err
