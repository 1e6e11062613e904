"""Every line of a TensorRT calibration cache, and every field of its provenance, spoilt."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.mutants import bases, expected, files
from benchmarks.mutants.case import Case

CACHE = "resnet50_int8.cache"
Lines = list[str]


def cases(base: str, folder: Path) -> Iterator[Case]:
    """Every change of a cache, sealed as the course's command seals it, and of the seal."""
    count = len((folder / CACHE).read_text(encoding="utf-8").splitlines())
    for index in range(1, count - 1):
        for factor in (4.0, 50.0, 0.05):
            # One layer of fifty moves no median; each is checked for itself.
            why = "an entropy scale is never above the largest value, nor a twentieth of it"
            what = f"line {index} × {factor:g}"
            yield Case(
                base, "one line of a cache", what, sealed(times(index, factor)), expected.CACHE, why, engines=False
            )
        yield Case(base, "one line of a cache", f"line {index} zero", sealed(line(index, "00000000")), expected.CACHE,
                   "a layer that computes something has a scale")  # fmt: skip
    for what, change in all_lines():
        why = "no calibration of this model writes it"
        yield Case(base, "all lines of a cache", what, sealed(change), expected.CACHE, why, engines=False)
    for what, change in texts():
        why = "TensorRT writes no such file"
        yield Case(base, "a cache's text", what, sealed(change), expected.CACHE, why, engines=False)
    for field, values in provenance():
        for what, value in values:
            why = "the provenance is of another calibration"
            make = of_seal(field, value)
            yield Case(base, "a cache's provenance", f"{field} {what}", make, expected.CACHE, why, engines=False)
    yield Case(base, "a cache's provenance", "none", lambda f: (f / f"{CACHE}.json").unlink(), expected.CACHE,
               "nobody can tell what it was calibrated on")  # fmt: skip


def sealed(change: Callable[[Lines], Lines]) -> Callable[[Path], None]:
    """That change of the lines, and a fresh seal."""

    def make(folder: Path) -> None:
        lines = (folder / CACHE).read_text(encoding="utf-8").splitlines()
        files.write(folder / CACHE, "\n".join([*change(lines), ""]))
        bases.seal(folder)

    return make


def scale(text: str) -> float:
    """The scale of a line."""
    (value,) = struct.unpack(">f", bytes.fromhex(text.rpartition(": ")[2].zfill(8)))
    return float(value)


def with_scale(text: str, value: float) -> str:
    """The line with another scale."""
    return f"{text.rpartition(': ')[0]}: {struct.pack('>f', value).hex()}"


def line(index: int, bits: str) -> Callable[[Lines], Lines]:
    """Other bits in one line."""
    return lambda lines: [f"{text.rpartition(': ')[0]}: {bits}" if i == index else text for i, text in enumerate(lines)]


def times(index: int, factor: float) -> Callable[[Lines], Lines]:
    """One scale times a factor."""
    return lambda lines: [with_scale(t, scale(t) * factor) if i == index else t for i, t in enumerate(lines)]


def each(change: Callable[[int, float], float]) -> Callable[[Lines], Lines]:
    """Every scale changed, by its number."""
    return lambda lines: [
        lines[0],
        *(with_scale(t, change(i, scale(t))) for i, t in enumerate(lines[1:-1])),
        lines[-1],
    ]


def order(change: Callable[[list[float]], list[float]]) -> Callable[[Lines], Lines]:
    """All scales together changed."""

    def changed(lines: Lines) -> Lines:
        values = change([scale(text) for text in lines[1:-1]])
        return [lines[0], *(with_scale(t, v) for t, v in zip(lines[1:-1], values, strict=True)), lines[-1]]

    return changed


def all_lines() -> Iterator[tuple[str, Callable[[Lines], Lines]]]:
    """Changes of all scales."""
    for factor in (2.0, 3.0, 10.0, 50.0, 0.2, 0.05):
        yield f"all × {factor:g}", each(lambda _i, s, f=factor: s * f)  # type: ignore[misc]
    for part in (45, 30, 20, 10):
        for factor in (50.0, 4.0, 0.05):
            what = f"{part} % of them × {factor:g}"
            yield what, each(lambda i, s, p=part, f=factor: s * f if i * 37 % 100 < p else s)  # type: ignore[misc]
    yield "moved along by one layer", order(lambda s: [*s[1:], s[0]])
    yield "moved back by three layers", order(lambda s: [*s[-3:], *s[:-3]])
    yield "turned round", order(lambda s: s[::-1])
    yield "permuted", order(lambda s: [s[i] for i in np.random.default_rng(8).permutation(len(s))])
    yield "sorted", order(sorted)
    yield "the middle one for all", order(lambda s: [float(np.median(s))] * len(s))
    yield "0.05 for all", order(lambda s: [0.05] * len(s))
    yield "1 for all", order(lambda s: [1.0] * len(s))
    for kept in (1, 5, 20, 40):
        yield f"cut off after {kept} tensors", lambda lines, k=kept: lines[: k + 1]  # type: ignore[misc]
    yield "every second tensor left out", lambda lines: [lines[0], *lines[1::2]]
    yield "the last ten left out", lambda lines: lines[:-10]
    yield "tensors of another model", lambda lines: [lines[0], *(f"features.{t}" for t in lines[1:])]
    yield (
        "tensors named by number",
        lambda lines: [
            lines[0],
            *(f"{i}: {t.rpartition(': ')[2]}" for i, t in enumerate(lines[1:])),
        ],
    )
    yield (
        "the bytes of each scale turned round",
        lambda lines: [
            lines[0],
            *(f"{t.rpartition(': ')[0]}: {bytes.fromhex(t.rpartition(': ')[2])[::-1].hex()}" for t in lines[1:]),
        ],
    )
    yield "amax in the place of scales", each(lambda _i, s: s * 127)
    yield "all zero", each(lambda _i, s: 0.0)


def texts() -> Iterator[tuple[str, Callable[[Lines], Lines]]]:
    """Changes of the text itself."""
    yield "no header", lambda lines: lines[1:]
    yield "a header of nothing", lambda lines: ["calibration", *lines[1:]]
    yield "only the header", lambda lines: lines[:1]
    yield "empty", lambda lines: []
    yield "a NaN", line(7, "7fc00000")
    yield "an infinite scale", line(7, "7f800000")
    yield "a negative scale", line(7, "bc010a14")
    yield (
        "scales in decimal",
        lambda lines: [
            lines[0],
            *(f"{t.rpartition(': ')[0]}: {scale(t):.6f}" for t in lines[1:]),
        ],
    )
    yield "half of each number", lambda lines: [lines[0], *(text[:-4] for text in lines[1:])]
    yield "no colons", lambda lines: [lines[0], *(text.replace(": ", " ") for text in lines[1:])]
    yield "JSON", lambda lines: [json.dumps({"scales": lines})]
    yield (
        "each line twice, with two scales",
        lambda lines: [
            lines[0],
            *(t for text in lines[1:-1] for t in (text, with_scale(text, scale(text) * 9))),
        ],
    )


def provenance() -> Iterator[tuple[str, list[tuple[str, object]]]]:
    """Other values of its fields."""
    digest = "ab" * 32
    for field in ("model_sha256", "data_digest", "cache_sha256"):
        yield field, [("another", digest), ("empty", ""), ("no text", 5), ("left out", ...)]
    yield "images", [("ten", 10), ("half a million", 500_000), ("no number", "many"), ("left out", ...)]
    yield "tensorrt", [("another", "8600"), ("empty", ""), ("left out", ...)]
    yield "algorithm", [("another's name", "MagicCalibration"), ("left out", ...)]
    yield "preprocessing", [("another mean", {"mean": [0.5] * 3, "std": [0.5] * 3})]


def of_seal(field: str, value: object) -> Callable[[Path], None]:
    """Another value of one field, or the field left out."""

    def change(document: dict[str, object]) -> None:
        if value is ...:
            document.pop(field)
        else:
            document[field] = value

    return lambda folder: files.edit_json(folder / f"{CACHE}.json", change)
