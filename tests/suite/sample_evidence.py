"""Evidence of a run that was never run: sound, and ready to be forged."""

from __future__ import annotations

import copy
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.suite.sample_run import sample
from trtverify.fixtures.evidence.schema import DOCUMENT
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.graphs.rules import weights_bytes
from trtverify.fixtures.measuring.latency import Samples, speedup
from trtverify.fixtures.words.terms import Precision

Members = dict[str, Any]
XMMA = "CaskConvolution sm80_xmma_fprop_implicit_gemm_{}_nhwckrsc_nhwc_tilesize128x64x64_tensor16x8x16"
KERNELS = {
    "fp32": ("f32f32_f32f32_f32", "fp32"),
    "tf32": ("f32f32_tf32f32_f32", "fp32"),
    "fp16": ("f16f16_f16f16_f16", "fp16"),
}
MILLISECONDS = {"fp32": 4.0, "fp16": 2.0}


def samples(precision: str, taken: str = "alone") -> list[float]:
    draw = np.random.default_rng([*precision.encode(), *taken.encode()])
    return [float(value) for value in MILLISECONDS[precision] * 1e-3 * (1 + draw.normal(0, 0.004, 40))]


def layer(number: int, precision: str) -> dict[str, Any]:
    kernel, format_ = KERNELS[precision]
    tensor = {"name": "x", "shape": [1, 64, 56, 56], "format": format_}
    return {
        "name": f"conv{number}",
        "kind": "convolution",
        "precision": precision,
        "inputs": [tensor],
        "outputs": [tensor],
        "detail": XMMA.format(kernel),
        "groups": 1,
    }


def sound(layers: int = 20) -> Members:
    """Lab 3 on an H200: FP32 and FP16 engines, their samples, and one comparison."""
    of = {"lab": "lab3", "model": "mobilenet_v2", "backend": "tensorrt", "batch": 1}
    run = sample(hostile=False)
    machine = {**run["machine"], "gpu": "NVIDIA H200", "power_mode": "700 W"}
    calm = {**run["gpu_now"], "throttle_reasons": [], "others": []}
    after = {**calm, "seconds": calm["seconds"] + 1}
    members: Members = {"manifests/mobilenet_v2.json": {"weights": "untrained"}}
    document: dict[str, Any] = {
        "schema": 1,
        **{name: run[name] for name in ("created", "python", "packages")},
        "machine": machine,
        "engines": [],
        "latencies": [],
        "speedups": [],
        "agreements": [],
    }
    for precision, size in (("fp32", 14_200_000), ("fp16", 7_300_000)):
        key = {**of, "precision": precision}
        members[f"layers/00{len(members)}.json"] = [layer(number, precision) for number in range(layers)]
        document["engines"].append(
            {
                **key,
                "version": "TensorRT 10.0.1 (weakly typed)",
                "device": "NVIDIA H200",
                "power": "700 W",
                "weights": "untrained",
                "onnx": "mobilenet_v2.onnx",
                "onnx_sha256": "ab" * 32,
                "least_bytes": 13_800_000 if precision == "fp32" else 6_900_000,
                "size_bytes": size,
                "sha256": hashlib.sha256(precision.encode()).hexdigest(),
                "build_seconds": 12.5,
                "keeps_types": False,
                "not_computed": "",
                "layers": list(members)[-1],
            }
        )
        document["latencies"].append({**key, "seconds": samples(precision), "conditions": [calm, after]})
        decibels = 100.0 if precision == "fp32" else 55.0
        document["agreements"].append({**key, "largest": 1e-5, "sqnr_db": decibels, "top1": 1.0, "top5": 1.0})
    slow, fast = samples("fp32", "together"), samples("fp16", "together")
    ratio = speedup(Samples(tuple(slow)), Samples(tuple(fast)))
    document["speedups"].append(
        {
            **of,
            "precision": "fp16",
            "over": "fp32",
            "slow": slow,
            "fast": fast,
            "conditions": [calm, after],
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "verdict": "not gradable",
        }
    )
    return {DOCUMENT: document, **members}


def on_jetson(ratio: float = 1.63, verdict: str = "passed") -> Members:
    """The same on a Jetson Orin Nano, over TF32, where a range of speedups is known: 1.30 to 1.96 times."""
    members = sound()
    document = members[DOCUMENT]
    document["machine"].update(gpu="NVIDIA Jetson Orin Nano", power_mode="MAXN_SUPER")
    for engine in document["engines"]:
        engine.update(device="NVIDIA Jetson Orin Nano", power="MAXN_SUPER", version="TensorRT 10.3.0 (weakly typed)")
    for table in ("engines", "latencies", "agreements"):
        document[table][0]["precision"] = "tf32"
    members[document["engines"][0]["layers"]] = [layer(number, "tf32") for number in range(20)]
    row = document["speedups"][0]
    row.update(over="tf32", slow=[value * ratio / 2 for value in row["slow"]], verdict=verdict, band=[1.30, 1.96])
    document["latencies"][0]["seconds"] = [value * ratio / 2 for value in samples("fp32")]
    found = speedup(Samples(tuple(row["slow"])), Samples(tuple(row["fast"])))
    row.update(ratio=found.value, low=found.low, high=found.high)
    return members


def fitted(members: Members, onnx: Path) -> Members:
    """The same, said of this model."""
    for engine in members[DOCUMENT]["engines"]:
        engine["onnx_sha256"] = hashlib.sha256(onnx.read_bytes()).hexdigest()
        engine["least_bytes"] = weights_bytes(load(onnx), Precision(engine["precision"]))
    return members


def pack(members: Members, path: Path) -> Path:
    """Write them with true hashes, as somebody would who forges with care."""
    members = copy.deepcopy(members)
    plain = {
        name: content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in members.items()
        if name != DOCUMENT
    }
    members[DOCUMENT].setdefault("members", {name: hashlib.sha256(data).hexdigest() for name, data in plain.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {DOCUMENT: json.dumps(members[DOCUMENT]).encode(), **plain}.items():
            archive.writestr(name, content)
    return path


def of(members: Members, table: str, index: int = 0) -> dict[str, Any]:
    entry: dict[str, Any] = members[DOCUMENT][table][index]
    return entry
