"""A run that was never run, with everything a report can show and strings that attack it."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from trtverify.fixtures.engines.lint import FLOAT_RESIDUAL, REFORMAT

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7*7 }}\u202egnp.exe\x00\ud800"
BACKENDS = {"onnxruntime": 40.0, "tensorrt": 4.0}
PRECISIONS = {"fp32": 1.0, "fp16": 0.52, "int8": 0.31}


def sample(seed: int = 0, hostile: bool = True, samples: int = 100) -> dict[str, Any]:
    """The JSON of such a run; another seed gives other figures, as another machine would."""
    rng = random.Random(seed)
    name = HOSTILE if hostile else "/layer1/conv"
    run: dict[str, Any] = {
        "schema": 1,
        "created": "2026-11-01T10:20:30+00:00",
        "python": "3.10.12",
        "machine": {
            "gpu": f"Orin Nano {name}" if hostile else f"NVIDIA Jetson Orin Nano {seed}",
            "compute_capability": "8.7",
            "memory_bytes": 8 * 1024**3,
            "driver": "540.4.0",
            "power_mode": "MAXN_SUPER",
            "max_sm_mhz": 1020,
            "cpu": "Cortex-A78AE",
            "cores": 6,
            "architecture": "aarch64",
            "system": "Ubuntu 22.04.5 LTS, Linux 5.15",
            "problem": None,
        },
        "gpu_now": {
            "seconds": 12.5,
            "sm_mhz": 918,
            "memory_mhz": None,
            "temperature_c": 51.5,
            "power_w": None,
            "throttle_reasons": ["power cap"],
            "overcurrent_events": 0,
            "others": None,
            "busy_percent": 3,
        },
        "packages": {"onnx": "1.17.0", "torch": "2.3.0"},
        "seconds": {"all": 120.5, "labs": 40.0, "running": 20.25},
        "engines": [],
        "latencies": [],
        "speedups": [],
        "agreements": [],
        "placements": [
            {
                "lab": "lab3",
                "model": "mobilenet_v2",
                "crossings": 4,
                "method": "table",
                "layers": [[f"{name} {n}", "GPU" if n % 9 in (3, 4) else "DLA"] for n in range(52)],
            }
        ],
        "calibrations": [
            {
                "lab": "lab4",
                "images": 512,
                "distinct": 510,
                "first": -3.0,
                "width": 0.125,
                "counts": [[abs(500 - (n - 24 - c) ** 2) for n in range(48)] for c in range(3)],
            }
        ],
        "curves": [_epoch(n, name if n == 0 else "fp32" if n < 6 else "qat") for n in range(9)],
        "verdicts": [],
    }
    for lab, model in (("lab1", "resnet50"), ("lab2", "yolov8n")):
        for backend, base in BACKENDS.items():
            for precision, share in PRECISIONS.items():
                _engine(run, rng, lab, model, backend, precision, base * share, samples, name)
    run["verdicts"] += _verdicts(name)
    return json.loads(json.dumps(run))  # type: ignore[no-any-return]


def without(run: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The run with some of its lists empty."""
    result = copy.deepcopy(run)
    for key in keys:
        result[key] = []
    return result


def _epoch(number: int, phase: str) -> dict[str, Any]:
    right = 0.9 - 0.5 * 0.6**number
    return {
        "lab": "lab5",
        "epoch": number + 1,
        "phase": phase[:20],
        "loss": 2 * 0.7**number,
        "train_accuracy": right + 0.02,
        "test_accuracy": right,
    }


def _engine(
    run: dict[str, Any],
    rng: random.Random,
    lab: str,
    model: str,
    backend: str,
    precision: str,
    milliseconds: float,
    samples: int,
    name: str,
) -> None:
    key = {"lab": lab, "model": model, "backend": backend, "precision": precision}
    run["engines"].append(
        {
            **key,
            "version": f"{backend} 10.3",
            "device": "Orin",
            "weights": name[:20],
            "size_bytes": int(1e8 * PRECISIONS[precision]) + rng.randrange(1000),
            "build_seconds": 3.25,
            "sha256": "0" * 64,
            "layers": {"fp32": 3, precision: 50} if precision != "fp32" else {"fp32": 53},
            "every_layer": [[f"{name} {n}", "convolution", precision] for n in range(54)],
            "advice": [{"kind": kind, "layers": [f"{name} 3", f"{name} 7"]} for kind in (REFORMAT, FLOAT_RESIDUAL)]
            if precision == "int8"
            else [],
        }
    )
    seconds = [milliseconds * 1e-3 * rng.lognormvariate(0, 0.03) for _ in range(samples)]
    profile = [[f"{name} {n}", milliseconds * 1e-3 / 54, 1 / 54] for n in range(54)]
    run["latencies"].append({**key, "batch": 1, "seconds": seconds, "profile": profile if precision == "int8" else []})
    sqnr = {"fp32": None, "fp16": 61.5, "int8": 24.25}[precision]
    run["agreements"].append({**key, "largest": 0.01, "sqnr_db": sqnr, "top1": 0.97, "top5": 1.0})
    if precision != "fp32":
        ratio = rng.uniform(0.9, 1.1) / PRECISIONS[precision]
        band = [1.7, 2.3] if backend == "tensorrt" else None
        run["speedups"].append(
            {
                **key,
                "over": "fp32",
                "batch": 1,
                "ratio": ratio,
                "low": ratio * 0.97,
                "high": ratio * 1.04,
                "band": band,
                "source": "measured on a board" if band else "",
                "verdict": "passed" if band else "not gradable",
            }
        )


def _verdicts(name: str) -> list[dict[str, Any]]:
    finding = {"expected": f"53 convolutions in INT8 {name}", "found": f"41; not INT8: {name}", "look": "see Q/DQ"}
    text = f"expected: {finding['expected']}\nfound:    {finding['found']}\nnext:     see Q/DQ"
    missing = "not gradable: backend missing: no TensorRT"
    straddles = "inconclusive: INT8 is 1.69× as fast, against 1.7–2.3×"
    rows = [
        ("lab1", f"test_a[{name}]", "passed", "", None),
        ("lab1", "test_b", "failed", text, finding),
        ("lab2", "test_c", "failed", f"no finding {name}", None),
        ("lab3", "test_d", "not gradable", missing, None),
        ("lab3", "test_e", "not gradable", missing, None),
        ("lab4", "test_f", "inconclusive", straddles, None),
    ]
    return [
        {
            "test": f"tests/test_{lab}.py::{test}",
            "lab": lab,
            "verdict": verdict,
            "message": message,
            "seconds": 0.5,
            "finding": found,
        }
        for lab, test, verdict, message, found in rows
    ]
