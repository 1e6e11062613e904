"""Every layer's weights spoilt between the recording of what the framework answered and the hand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper

from benchmarks.mutants import bases, expected, files, surgery
from benchmarks.mutants.case import Case

Change = Callable[[files.Array, np.random.Generator], files.Array]
WEIGHTED = ("Conv", "Gemm", "MatMul")


def noisy(weight: files.Array, rng: np.random.Generator, share: float) -> files.Array:
    """With noise of this share of its deviation."""
    spoilt: files.Array = weight + rng.normal(0, share * float(weight.std()), weight.shape)
    return spoilt


def one_nan(weight: files.Array, rng: np.random.Generator) -> files.Array:
    """With one element that is no number."""
    spoilt: files.Array = weight.astype(np.float32).copy()
    spoilt.flat[int(rng.integers(spoilt.size))] = np.nan
    return spoilt


def one_huge(weight: files.Array, rng: np.random.Generator) -> files.Array:
    """With one element as a flipped bit of its exponent makes it."""
    spoilt: files.Array = weight.astype(np.float32).copy()
    spoilt.flat[int(rng.integers(spoilt.size))] = 1e20
    return spoilt


def one_zero_channel(weight: files.Array, rng: np.random.Generator) -> files.Array:
    """With one filter of zeros."""
    spoilt: files.Array = weight.copy()
    spoilt[int(rng.integers(len(spoilt)))] = 0
    return spoilt


CHANGES: tuple[tuple[str, Change], ...] = (
    ("scaled by 1.5", lambda w, r: w * 1.5),
    ("scaled by 0.8", lambda w, r: w * 0.8),
    ("with the sign turned", lambda w, r: -w),
    ("zeroed", lambda w, r: w * 0),
    ("all one value", lambda w, r: np.full_like(w, w.mean())),
    ("with noise of 30 %", lambda w, r: noisy(w, r, 0.3)),
    ("with noise of 5 %", lambda w, r: noisy(w, r, 0.05)),
    ("with its filters permuted", lambda w, r: w[r.permutation(len(w))]),
    ("with its filters rotated by one", lambda w, r: np.roll(w, 1, axis=0)),
    ("with its inputs turned round", lambda w, r: w[:, ::-1]),
    ("with a NaN", one_nan),
    ("with a flipped bit", one_huge),
    ("with a filter of zeros", one_zero_channel),
    ("with all its filters alike", lambda w, r: np.broadcast_to(w[:1], w.shape).copy()),
    ("upside down", lambda w, r: w[:, :, ::-1, ::-1] if w.ndim == 4 else w[::-1]),
    ("transposed", lambda w, r: w.transpose(0, 1, 3, 2) if w.ndim == 4 else np.roll(w, 1, axis=1)),
    ("in four bits", lambda w, r: np.rint(w / (np.abs(w).max() / 7)) * (np.abs(w).max() / 7)),
    ("pruned to half", lambda w, r: np.where(np.abs(w) > np.median(np.abs(w)), w, 0)),
)


def cases(base: str, folder: Path, file: str) -> Iterator[Case]:
    """Every change of every layer's weight, its bias left out, and another layer's weight of the same shape in it."""
    model = bases.graph(folder / file)
    stem = file.removesuffix(".onnx")
    weighted = [(index, node) for index, node in enumerate(model.graph.node) if node.op_type in WEIGHTED]
    seen: dict[tuple[int, ...], int] = {}
    for index, node in weighted:
        label = node.name or node.output[0]
        for what, change in CHANGES:
            yield case(base, file, f"{stem} {label} {what}", index, with_weight(change))
        if len(node.input) > 2:
            yield case(base, file, f"{stem} {label} without its bias", index, lambda m, n: n.input.pop())
        shape = tuple(surgery.weight_of(model, node).dims)
        if shape in seen:
            yield case(base, file, f"{stem} {label} with another layer's weight", index, copied(seen[shape]))
        seen[shape] = index


def case(base: str, file: str, name: str, index: int, change: Callable[[Any, Any], Any]) -> Case:
    """One layer's weight changed; what the right one answered was recorded, and is handed in with it."""

    def edit(model: Any) -> None:
        change(model, model.graph.node[index])

    def make(folder: Path) -> None:
        files.edit_model(folder / file, edit)

    why = "the weights are not those whose answers are recorded beside them"
    return Case(base, "weights", name, make, expected.WEIGHTS, why, file)


def with_weight(change: Change) -> Callable[[Any, Any], None]:
    """That change of the node's weight, wherever it stands."""

    def edit(model: Any, node: Any) -> None:
        tensor = surgery.weight_of(model, node)
        array = numpy_helper.to_array(tensor)
        files.set_constant(tensor, change(array, np.random.default_rng(array.size)))

    return edit


def copied(source: int) -> Callable[[Any, Any], None]:
    """The weight of the node of this number."""

    def edit(model: Any, node: Any) -> None:
        array = numpy_helper.to_array(surgery.weight_of(model, model.graph.node[source]))
        files.set_constant(surgery.weight_of(model, node), array)

    return edit
