"""pytest-benchmark's own options on the suite's latencies: saved, grouped and compared across precisions and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CARRIED = {"model", "precision", "backend", "device", "engine", "size_bytes", "verdict", "batch"}


def test_latencies_are_saved_and_compared(
    copy_of: Callable[..., Path], verify: Callable[..., Any], tmp_path: Path
) -> None:
    folder, store = copy_of("lab3"), tmp_path / "store"
    only = ("-k", "latency", "--benchmark-enable", f"--benchmark-storage=file://{store}")
    first = verify(folder, "lab3", *only, "--benchmark-save=before")
    assert first.status == 0, first.output
    (saved,) = store.rglob("*_before.json")
    rows = json.loads(saved.read_text(encoding="utf-8"))["benchmarks"]
    assert {row["extra_info"]["precision"] for row in rows} == {"fp32", "fp16"}
    assert {row["group"] for row in rows} == {"mobilenet_v2 batch 1"}
    for row in rows:
        assert set(row["extra_info"]) >= CARRIED
        # pytest-benchmark's figures are of the very samples that the suite took.
        assert row["stats"]["median"] * 1e3 == pytest.approx(row["extra_info"]["median_ms"])
    second = verify(folder, "lab3", *only, "--benchmark-compare=0001", "--benchmark-group-by=func")
    assert second.status == 0, second.output
    assert "Comparing against benchmarks from:" in second.output
    assert "benchmark 'test_latency': 4 tests" in second.output, "both precisions of both runs, in one table"
    assert "0001_before" in second.output
