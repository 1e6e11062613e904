"""pytest-benchmark's own options on the suite's latencies: saved, grouped, and compared across precisions and runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtverify.fixtures.measuring import expectations, kept

CARRIED = {"model", "precision", "backend", "device", "version", "engine", "size_bytes", "verdict", "batch"}
FP32 = kept.Latency("resnet50", 1, "tensorrt", "fp32", "NVIDIA X", "TensorRT 10.3.0", 4.0, (4.0, 4.1, 3.9), "")
FP16 = dataclasses.replace(FP32, precision="fp16", median=2.0, samples=(2.0, 2.0, 2.1), source="0001_fp16.json")


def test_latencies_are_saved_and_compared_across_precisions(
    copy_of: Callable[..., Path], verify: Callable[..., Any], tmp_path: Path
) -> None:
    folder, store = copy_of("lab3"), tmp_path / "store"
    only = ("-k", "latency", "--benchmark-enable", f"--benchmark-storage=file://{store}")
    first = verify(folder, "lab3", *only, "--precision=fp16", "--benchmark-save=before")
    assert first.status == 0, first.output
    (saved,) = store.rglob("*_before.json")
    rows = json.loads(saved.read_text(encoding="utf-8"))["benchmarks"]
    assert {row["extra_info"]["precision"] for row in rows} == {"fp16"}
    assert {row["group"] for row in rows} == {"mobilenet_v2 batch 1"}
    for row in rows:
        assert set(row["extra_info"]) >= CARRIED
        # pytest-benchmark's figures are of the very samples that the suite took.
        assert row["stats"]["median"] * 1e3 == pytest.approx(row["extra_info"]["median_ms"])
        assert np.median(row["extra_info"]["samples_ms"]) == pytest.approx(row["extra_info"]["median_ms"], rel=1e-3)
    second = verify(
        folder, "lab3", *only, "--precision=fp32", "--benchmark-compare=0001", "--benchmark-group-by=param:precision"
    )
    assert second.status == 0, second.output
    assert "Comparing against benchmarks from:" in second.output
    assert "benchmark 'precision=fp32': 1 tests" in second.output
    (line,) = (line for line in second.output.splitlines() if line.startswith("mobilenet_v2 ") and " FP16 " in line)
    assert line.index("FP32") < line.index("FP16"), "the slower precision first, whichever run it was in"
    assert "×" in line
    third = verify(folder, "lab3", *only, "--precision=fp32", "--benchmark-compare=0009")
    assert third.status == 1, third.output
    assert "no kept run of this suite is found" in third.output
    assert "INTERNALERROR" not in third.output


def test_a_precision_that_no_test_is_about_is_refused(verify: Callable[..., Any], copy_of: Callable[..., Path]) -> None:
    refused = verify(copy_of("lab3"), "lab3", "--precision=int8")
    assert refused.status == 4
    assert "--precision int8: no test of these labs is about it; they are about fp16, fp32" in refused.output


def test_the_wider_precision_is_first_whichever_run_it_is_of() -> None:
    for found in (kept.pairs([FP16], [FP32]), kept.pairs([FP32], [FP16])):
        (pair,) = found
        assert (pair.first.precision, pair.second.precision, pair.ratio) == ("fp32", "fp16", 2.0)
        low, high = pair.interval() or (0.0, 0.0)
        assert low <= 2.0 <= high


def test_other_networks_batches_and_backends_are_not_compared() -> None:
    for other in ({"model": "yolov8n"}, {"batch": 8}, {"backend": "onnxruntime"}):
        assert not list(kept.pairs([dataclasses.replace(FP16, **other)], [FP32]))


def test_devices_and_versions_are_told_apart_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    band = expectations.Band("NVIDIA X", "", "TensorRT 10", "resnet50", 1, "fp16", "fp32", 1.8, 2.4, "a source")
    monkeypatch.setattr(expectations, "bands", lambda _path=None: (band,))
    same = kept.text(kept.pairs([FP16], [FP32]))
    assert "1.80–2.40×" in same
    assert "NVIDIA" not in same
    old = dataclasses.replace(FP32, device="NVIDIA Y", version="TensorRT 8.6.0", source="0001_y.json", samples=())
    other = kept.text(kept.pairs([old], [FP32]))
    assert "FP32 · NVIDIA Y · TensorRT 8.6.0 · kept" in other
    assert "FP32 · NVIDIA X · TensorRT 10.3.0 · now" in other
    assert other.split()[-2:] == ["1.00×", "–"], "without samples there is no interval, and across devices no range"


@pytest.mark.parametrize("row", [{}, {"extra_info": {}}, {"extra_info": {"model": "x", "precision": "int3"}}])
def test_rows_that_are_no_latency_of_ours_are_left_out(row: dict[str, Any]) -> None:
    assert kept.latency(row) is None
