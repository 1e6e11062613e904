"""Samples that no clock read, times that no device takes, kernels that it cannot run; and real ones, none refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.suite.evidence.test_evidence import rejected
from tests.suite.sample_evidence import Members, of, on_jetson, sound
from trtverify.fixtures.evidence.genuine import copied, made_up, tick
from trtverify.fixtures.evidence.physics import floor

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "results"
WEIGHTS = {"resnet50": 25.5e6, "mobilenet_v2": 3.5e6, "yolov8n": 3.2e6, "resnet18_qat_cifar10": 11.2e6}
BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}
DRAW = np.random.default_rng(0)


def alone(change: Callable[[np.ndarray[Any, Any]], Any], index: int = 0) -> Callable[[Members], None]:
    """Change the samples of an engine measured alone."""

    def forge(members: Members) -> None:
        row = of(members, "latencies", index)
        row["seconds"] = [float(value) for value in change(np.array(row["seconds"]))]

    return forge


def copied_with_jitter(members: Members) -> None:
    """The pair's samples, each a little off, as the engine's own."""
    values = np.array(of(members, "speedups")["fast"])
    noise = DRAW.normal(0, 0.1 * values.std(), len(values))
    of(members, "latencies", 1)["seconds"] = [float(value) for value in values + noise]


def scaled_copy(members: Members) -> None:
    """FP32's samples, halved, as FP16's."""
    of(members, "latencies", 1)["seconds"] = [value / 2 for value in of(members, "latencies")["seconds"]]


def kernel(name: str) -> Callable[[Members], None]:
    def forge(members: Members) -> None:
        members[of(members, "engines", 1)["layers"]][3]["detail"] = f"CaskConvolution {name}_f16f16_f16f16_f16_nhwckrsc"

    return forge


def too_fast(members: Members) -> None:
    for row in members["evidence.json"]["latencies"]:
        row["seconds"] = [value / 500 for value in row["seconds"]]


FORGED: dict[str, tuple[Callable[[Members], None], str]] = {
    "one number": (alone(lambda v: np.full(len(v), 4e-3)), "are one number"),
    "one number and a breath": (alone(lambda v: 4e-3 * (1 + 1e-6 * DRAW.normal(size=len(v)))), "are one number"),
    "whole hundredths": (alone(lambda v: v.round(5)), "whole multiples of 10 µs"),
    "a progression": (alone(lambda v: np.linspace(3.98e-3, 4.021e-3, len(v))), "a progression"),
    "in order": (alone(np.sort), "a progression"),
    "ten over and over": (alone(lambda v: np.tile(v[:10], 4)), "repeat after 10"),
    "a copy with jitter": (copied_with_jitter, "its samples are those of"),
    "a copy by a factor": (scaled_copy, "its samples are those of"),
    "a kernel of Hopper on an Orin": (kernel("sm90_xmma_gmma_fprop"), "compute capability 9"),
    "a kernel of Blackwell on an Orin": (kernel("sm100_xmma_fprop"), "compute capability 10"),
    "faster than its products": (too_fast, "at its peak"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_no_device_does_is_refused(name: str, tmp_path: Path) -> None:
    forge, says = FORGED[name]
    members = on_jetson()
    forge(members)
    assert says in rejected(members, tmp_path / "e.zip")


@pytest.mark.parametrize("name", ["sm80_xmma_fprop", "sm86_xmma_fprop", "turing_h1688cudnn", "sm50_xmma_depthwise"])
def test_older_kernels_run_on_newer_devices(name: str, tmp_path: Path) -> None:
    for members in (sound(), on_jetson()):
        kernel(name)(members)
        assert rejected(members, tmp_path / "e.zip") == ""


def test_a_larger_batch_is_not_faster(tmp_path: Path) -> None:
    members = sound()
    engine, row = dict(of(members, "engines")), dict(of(members, "latencies"))
    members["layers/batch.json"] = members[engine["layers"]]
    name = "layers/007.json"
    members[name] = members.pop("layers/batch.json")
    members["evidence.json"]["engines"].append({**engine, "batch": 32, "sha256": "ef" * 32, "layers": name})
    taken = [float(value) for value in 3.9e-3 * (1 + DRAW.normal(0, 0.004, 40))]
    members["evidence.json"]["latencies"].append({**row, "batch": 32, "seconds": taken})
    assert "batch 32: 3.9" in rejected(members, tmp_path / "e.zip")


def real() -> Iterator[tuple[str, dict[str, tuple[float, ...]], list[tuple[str, str, int, float]]]]:
    """Of each file of a real run: its series, and the medians with model, precision and batch."""
    for path in sorted(RESULTS.glob("h100*.json")):
        labs = json.loads(path.read_text(encoding="utf-8")).get("labs")
        if labs is None:
            continue
        series, medians = {}, []
        for lab, held in labs.items():
            for row in held["latencies_ms"]:
                model, _space, batch = row["model"].partition(" batch ")
                series[f"{lab} {row['model']} {row['precision']}"] = tuple(s * 1e-3 for s in row["samples"])
                medians.append((model, row["precision"], int(batch or 1), row["median"] * 1e-3))
            for number, row in enumerate(held["speedups"]):
                for kind in ("slow_ms", "fast_ms"):
                    series[f"{lab} {number} {kind}"] = tuple(s * 1e-3 for s in row[kind])
        yield path.name, series, medians


def test_no_real_figure_is_refused() -> None:
    seen = 0
    for name, series, medians in real():
        least = tick(series)
        assert [text for key, taken in series.items() for text in made_up(key, taken, least)] == [], name
        assert list(copied(series)) == [], name
        for model, precision, batch, median in medians:
            engine: Any = SimpleNamespace(
                device="NVIDIA H100 80GB HBM3",
                model=model,
                precision=precision,
                batch=batch,
                least_bytes=WEIGHTS[model] * BYTES[precision],
            )
            found = floor(engine)
            assert found is not None
            assert 2 * found < median, (model, precision, batch)
            seen += 1
    assert seen > 30


def test_an_unknown_device_has_no_floor() -> None:
    engine: Any = SimpleNamespace(device="NVIDIA RTX 9999", model="resnet50", precision="fp16", batch=1, least_bytes=1)
    assert floor(engine) is None
