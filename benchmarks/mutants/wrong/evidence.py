"""Every figure of evidence forged: samples, ratios, kernels, sizes, hashes, conditions, and what no device can do."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutants import expected, files
from benchmarks.mutants.case import EITHER, RIGHT, Case
from trtverify.fixtures.measuring.latency import Samples, speedup

ARCHIVE, DOCUMENT = "evidence.zip", "evidence.json"
Members = dict[str, Any]
Edit = Callable[[Members], Any]
LEAST_MS = 0.05
"""MobileNetV2 at batch 1 on an Orin Nano: 7 MB of FP16 weights take 0.07 ms at its 102 GB/s."""


def cases(base: str) -> Iterator[Case]:
    """Every forgery of the evidence beside lab 3's model."""
    for kind, what, change, why in forgeries():
        rule = (
            _allowed if why.startswith("as an honest run") else _either if why.startswith("nobody can tell") else None
        )
        yield Case(
            base,
            f"evidence: {kind}",
            f"{kind}: {what}",
            repacked(change),
            expected.EVIDENCE,
            why,
            rule=rule,
            engines=False,
        )


def _either(_base: Path, _folder: Path) -> tuple[str, str]:
    return EITHER, "nobody can tell it from an honest run"


def _allowed(_base: Path, _folder: Path) -> tuple[str, str]:
    return RIGHT, "as an honest run has it too"


def repacked(change: Edit) -> Callable[[Path], None]:
    """That change of the members, with true hashes again, as somebody forges who takes care."""

    def make(folder: Path) -> None:
        members = unpack(folder / ARCHIVE)
        change(members)
        pack(members, folder / ARCHIVE)

    return make


def unpack(path: Path) -> Members:
    """The archive's JSON by member."""
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def pack(members: Members, path: Path) -> None:
    """Write them, each one's hash in the document."""
    plain = {name: json.dumps(content).encode() for name, content in members.items() if name != DOCUMENT}
    if members[DOCUMENT].get("members") != "false":
        members[DOCUMENT]["members"] = {name: hashlib.sha256(data).hexdigest() for name, data in plain.items()}
    else:
        members[DOCUMENT]["members"] = dict.fromkeys(plain, "ab" * 32)
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {DOCUMENT: json.dumps(members[DOCUMENT]).encode(), **plain}.items():
            archive.writestr(name, content)


def forgeries() -> Iterator[tuple[str, str, Edit, str]]:
    """(kind, what, the change, why)."""
    noise = "a device's times scatter"
    yield "samples", "one number forty times", _samples(lambda s: [s[0]] * len(s)), noise
    yield "samples", "two numbers in turn", _samples(lambda s: [s[i % 2] for i in range(len(s))]), noise
    yield (
        "samples",
        "all rounded to 0.1 ms",
        _samples(lambda s: [max(round(x, 4), 1e-4) for x in s]),
        "nobody can tell a coarse clock",
    )
    yield "samples", "an exact ramp", _samples(lambda s: [s[0] * (1 + i * 1e-5) for i in range(len(s))]), noise
    yield (
        "samples",
        "the same pairs twice",
        _samples(lambda s: [*s[: len(s) // 2]] * 2),
        "no two samples are alike to the last digit",
    )
    yield "samples", "nine samples", _samples(lambda s: s[:9]), "too few"
    yield "samples", "none", _samples(lambda s: []), "too few"
    yield "samples", "a negative one", _samples(lambda s: [-s[0], *s[1:]]), "no time is negative"
    yield "samples", "a NaN", _samples(lambda s: [1e999, *s[1:]]), "no time is infinite"
    for factor in (0.5, 0.25, 0.1, 0.02, 0.001):
        what = f"every time × {factor:g}, of all engines"
        yield "what no device can do", what, _all_times(factor), _floor(factor)
        what = f"the FP16 engine's times × {factor:g}"
        yield "what no device can do", what, _fast_times(factor), _floor(factor)
    for factor in (1.05, 1.2, 2.0, 10.0):
        yield "ratios", f"ratio × {factor:g}", _of_speedup(ratio=factor), "its samples give another ratio"
    yield "ratios", "interval narrower", _of_speedup(low=1.05, high=0.95), "its samples give another interval"
    yield "ratios", "verdict failed for passed", _verdict("failed"), "its samples give another verdict"
    yield "ratios", "verdict inconclusive for passed", _verdict("inconclusive"), "its samples give another verdict"
    yield (
        "ratios",
        "a band that takes all",
        lambda m: m[DOCUMENT]["speedups"][0].update(band=[0.01, 100.0]),
        "nobody can tell whose band of the day it was",
    )
    yield "ratios", "samples that are no pairs", lambda m: m[DOCUMENT]["speedups"][0]["fast"].pop(), "pairs were taken"
    yield "ratios", "slow samples of another engine", _slow_times(3.0), "the same engine's medians differ by three"
    for told in ("FP32", "TF32", "Int8"):
        yield "kernels", f"FP16 layers with {told} kernels", _kernels(told), "the kernels are of another precision"
    yield "kernels", "kernels of Hopper", _generation("sm90"), "the device that is named cannot run them"
    yield "kernels", "kernels of Blackwell", _generation("sm100"), "the device that is named cannot run them"
    yield "kernels", "kernels of Turing", _generation("sm75"), "as an honest run has older kernels too"
    yield "kernels", "no layers", _no_layers, "an engine has layers"
    yield "kernels", "three layers", _three_layers, "the network has 53 layers with weights"
    yield "kernels", "one layer fifty times", _repeated_layers, "an engine has each layer once"
    yield "kernels", "layers of another model", _other_layers, "the model has no such layers"
    yield "kernels", "FP16 layers for FP32's too", _same_layers, "the FP32 engine's layers would be FP16"
    yield "engines", "size below the weights", _engine(1, size_bytes=1_000_000), "an engine holds its weights"
    yield "engines", "size of zero", _engine(1, size_bytes=0), "no engine is empty"
    yield (
        "engines",
        "least size lied about",
        _engine(1, least_bytes=1000, size_bytes=2000),
        "the model's weights take more",
    )
    yield "engines", "built from another model", _engine(1, onnx_sha256="cd" * 32), "it is of another file"
    yield "engines", "from a file that is not there", _engine(1, onnx="mobilenet_v2_int8.onnx"), "it is of another file"
    yield (
        "engines",
        "one file for both",
        lambda m: m[DOCUMENT]["engines"][1].update(sha256=m[DOCUMENT]["engines"][0]["sha256"]),
        "two precisions are two files",
    )
    yield "engines", "on another device", _engine(1, device="NVIDIA H100 80GB HBM3"), "the run was on one device"
    yield "engines", "in another power mode", _engine(1, power="15W"), "the run was in one mode"
    yield "engines", "another version", _engine(1, version="TensorRT 99.0.0 (weakly typed)"), "there is no such version"
    yield "engines", "built in no time", _engine(1, build_seconds=0.0), "nobody can tell what a cache answered"
    yield (
        "engines",
        "not computed, and so unchecked",
        _engine(1, not_computed="no kernels"),
        "the device has FP16 kernels",
    )
    yield "engines", "types kept", _engine(1, keeps_types=True), "nobody can tell from here"
    yield "engines", "precision said to be INT8", _engine(1, precision="int8"), "its layers are FP16"
    yield "answers", "no difference at all in FP16", _agreement(largest=0.0, sqnr_db=None), "FP16 rounds"
    yield (
        "answers",
        "60 dB in FP16, largest of 3",
        _agreement(largest=3.0, sqnr_db=60.0),
        "no noise of 60 dB is so large",
    )
    yield "answers", "3 dB", _agreement(sqnr_db=3.0), "it is nearly noise"
    yield "answers", "top-1 of 1.4", _agreement(top1=1.4), "no share is above 1"
    yield "answers", "top-1 above top-5", _agreement(top1=1.0, top5=0.5), "the best is among the five best"
    yield "answers", "a least of 1 dB", _agreement(sqnr_db=2.0, least_db=1.0), "the course asks for 20 dB"
    yield (
        "answers",
        "left out",
        lambda m: m[DOCUMENT].update(agreements=[]),
        "nobody can tell: what is missing earns nothing",
    )
    yield "conditions", "none", _conditions(lambda c: []), "the GPU's state is always told"
    yield (
        "conditions",
        "in no time",
        _conditions(lambda c: [c[0], {**c[1], "seconds": c[0]["seconds"]}]),
        "samples take time",
    )
    yield "conditions", "backwards", _conditions(lambda c: c[::-1]), "clocks go forward"
    yield (
        "conditions",
        "throttled",
        _conditions(lambda c: [{**s, "throttle_reasons": ["thermal"]} for s in c]),
        "its verdict would be: not gradable",
    )
    yield "conditions", "a clock of 9 GHz", _conditions(lambda c: [{**s, "sm_mhz": 9000} for s in c]), "no GPU has it"
    yield "document", "members' hashes false", lambda m: m[DOCUMENT].update(members="false"), "not what was written"
    yield "document", "schema 9", lambda m: m[DOCUMENT].update(schema=9), "there is no such schema"
    yield "document", "a latency without an engine", _orphan, "figures without an engine"
    yield (
        "document",
        "an engine twice",
        lambda m: m[DOCUMENT]["engines"].append(m[DOCUMENT]["engines"][0]),
        "one engine, one entry",
    )
    yield "document", "no engines", lambda m: m[DOCUMENT].update(engines=[]), "figures without an engine"
    yield "document", "engines a word", lambda m: m[DOCUMENT].update(engines="two"), "it is laid out as no evidence is"
    yield (
        "document",
        "created in 1970",
        lambda m: m[DOCUMENT].update(created="1970-01-01T00:00:00+00:00"),
        "nobody can tell a wrong clock",
    )
    yield (
        "document",
        "another GPU than its engines'",
        lambda m: m[DOCUMENT]["machine"].update(gpu="NVIDIA H200"),
        "one device",
    )


def _floor(factor: float) -> str:
    """Whether such times are below what an Orin Nano can do; engines as they are take 1.39 and 0.85 ms."""
    if 0.85 * factor < LEAST_MS:
        return "below what the device can do at best"
    return "nobody can tell" if factor > 0.3 else "below what memory and multiply-adds allow, by the device's own peaks"


def _rows(members: Members) -> Iterator[tuple[dict[str, Any], str]]:
    document = members[DOCUMENT]
    for row in document["latencies"]:
        yield row, "seconds"
    for row in document["speedups"]:
        yield row, "slow"
        yield row, "fast"


def _samples(change: Callable[[list[float]], list[float]]) -> Edit:
    def edit(members: Members) -> None:
        for row, name in _rows(members):
            row[name] = change(row[name])
        _recount(members)

    return edit


def _all_times(factor: float) -> Edit:
    return _samples(lambda samples: [value * factor for value in samples])


def _fast_times(factor: float) -> Edit:
    def edit(members: Members) -> None:
        document = members[DOCUMENT]
        fast = [document["latencies"][1]["seconds"], document["speedups"][0]["fast"]]
        for samples in fast:
            samples[:] = [value * factor for value in samples]
        _recount(members)

    return edit


def _slow_times(factor: float) -> Edit:
    def edit(members: Members) -> None:
        row = members[DOCUMENT]["speedups"][0]
        row["slow"] = [value * factor for value in row["slow"]]
        _recount(members)

    return edit


def _recount(members: Members) -> None:
    """Make ratio, interval and verdict those of the samples, where they give any."""
    for row in members[DOCUMENT]["speedups"]:
        samples = (*row["slow"], *row["fast"])
        if len(row["slow"]) < 3 or not all(0 < value < 1e6 for value in samples):
            continue
        found = speedup(Samples(tuple(row["slow"])), Samples(tuple(row["fast"])))
        row.update(ratio=found.value, low=found.low, high=found.high, verdict=concluded(row, found))


def concluded(row: dict[str, Any], found: Any) -> str:
    """The verdict by the range of the day."""
    from trtverify.fixtures.measuring.expectations import judge

    return "not gradable" if row.get("band") is None else str(judge(found, *row["band"]).value)


def _of_speedup(**factors: float) -> Edit:
    def edit(members: Members) -> None:
        row = members[DOCUMENT]["speedups"][0]
        for name, factor in factors.items():
            row[name] *= factor

    return edit


def _verdict(word: str) -> Edit:
    return lambda members: members[DOCUMENT]["speedups"][0].update(verdict=word)


def _layers(members: Members, engine: int) -> list[Any]:
    found: list[Any] = members[members[DOCUMENT]["engines"][engine]["layers"]]
    return found


def _kernels(told: str) -> Edit:
    from benchmarks.mutants.engine_layers import KERNEL, PRODUCTS

    def edit(members: Members) -> None:
        for layer in _layers(members, 1):
            if layer["kind"] in ("convolution", "matmul"):
                layer["detail"] = f"CaskConvolution {KERNEL.format(PRODUCTS[told])}"

    return edit


def _generation(word: str) -> Edit:
    def edit(members: Members) -> None:
        for engine in (0, 1):
            for layer in _layers(members, engine):
                layer["detail"] = layer["detail"].replace("sm80", word)

    return edit


def _no_layers(members: Members) -> None:
    _layers(members, 1).clear()


def _three_layers(members: Members) -> None:
    del _layers(members, 1)[3:]


def _repeated_layers(members: Members) -> None:
    layers = _layers(members, 1)
    layers[:] = [layers[0]] * len(layers)


def _other_layers(members: Members) -> None:
    for number, layer in enumerate(_layers(members, 1)):
        layer["name"] = f"/layer{number}/conv/Conv"


def _same_layers(members: Members) -> None:
    _layers(members, 0)[:] = _layers(members, 1)


def _engine(index: int, **values: Any) -> Edit:
    return lambda members: members[DOCUMENT]["engines"][index].update(values)


def _agreement(**values: Any) -> Edit:
    return lambda members: members[DOCUMENT]["agreements"][1].update(values)


def _conditions(change: Callable[[list[Any]], list[Any]]) -> Edit:
    def edit(members: Members) -> None:
        for row in (*members[DOCUMENT]["latencies"], *members[DOCUMENT]["speedups"]):
            row["conditions"] = change(row["conditions"])

    return edit


def _orphan(members: Members) -> None:
    document = members[DOCUMENT]
    document["latencies"].append({**document["latencies"][0], "batch": 32})


def honest(folder: Path) -> None:
    """Evidence of lab 3 on a Jetson Orin Nano, with the times published for it, of the model that lies there."""
    from tests.suite.sample_evidence import fitted, on_jetson

    members = fitted(on_jetson(), folder / "mobilenet_v2.onnx")
    document = members[DOCUMENT]
    rng = np.random.default_rng(12)
    times = {"tf32": 1.386e-3, "fp16": 0.850e-3}
    drawn = {name: [float(x) for x in value * (1 + rng.gamma(2, 0.004, 40))] for name, value in times.items()}
    for engine, row in zip(document["engines"], document["latencies"], strict=True):
        row["seconds"] = [float(x) for x in np.array(drawn[engine["precision"]]) * (1 + rng.normal(0, 0.001, 40))]
        members[engine["layers"]] = layer_rows(folder, {"tf32": "TF32", "fp16": "FP16"}[engine["precision"]])
    document["speedups"][0].update(slow=drawn["tf32"], fast=drawn["fp16"])
    _recount(members)
    files.write(folder / ARCHIVE, b"")
    pack(members, folder / ARCHIVE)


def layer_rows(folder: Path, told: str) -> list[dict[str, Any]]:
    """Layers as evidence holds them, of an engine in this precision."""
    from benchmarks.mutants import engine_layers

    path = folder / "layers_of_evidence.json"
    engine_layers.write(folder / "mobilenet_v2.onnx", path, told)
    document = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    rows = []
    for entry in document["Layers"]:
        tensors = {
            side: [
                {"name": t["Name"], "shape": t["Dimensions"], "format": "fp16" if told == "FP16" else "fp32"}
                for t in entry[side]
            ]
            for side in ("Inputs", "Outputs")
        }
        pool = "Pool" in entry["LayerType"]
        rows.append(
            {
                "name": entry["Name"],
                "kind": "pooling" if pool else "convolution",
                "precision": "fp32" if pool and told == "TF32" else told.lower(),
                "inputs": tensors["Inputs"],
                "outputs": tensors["Outputs"],
                "detail": f"{entry['LayerType']} {entry.get('TacticName', '')}".strip(),
                "groups": entry.get("Groups", 1),
            }
        )
    return rows
