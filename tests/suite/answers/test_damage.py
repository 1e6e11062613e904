"""Weights copied over another layer's, and weights rounded to a few levels, beside weights that only look so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trtverify.fixtures.computed.damage import copied, levels
from trtverify.fixtures.computed.weights import Found

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(32, 16, 3, 3)).astype(np.float32)
FACTORS = RNG.uniform(0.2, 5, (32, 1, 1, 1)).astype(np.float32)


def layer(name: str, weight: Array) -> Found:
    """A convolution of this weight, without anything behind it."""
    return Found(SimpleNamespace(name=name), weight, np.zeros(len(weight)), (), "", "", frozenset())


def steps(weight: Array, count: int, *, each: bool = False) -> Array:
    """Rounded to so many levels on either side of zero, of each channel's largest or of the largest of all."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)) if each else None, keepdims=True)
    return np.asarray(np.rint(weight / largest * count) / count * largest, np.float32)


COPIES: dict[str, Array] = {
    "itself": WEIGHT,
    "a BatchNorm folded in": WEIGHT * FACTORS,
    "a negative factor": -WEIGHT,
    "INT8": steps(WEIGHT, 127, each=True),
    "some channels switched off": WEIGHT * (np.arange(32) % 4 > 0).reshape(-1, 1, 1, 1),
}
NO_COPIES: dict[str, Array] = {
    "drawn anew": RNG.normal(size=WEIGHT.shape).astype(np.float32),
    "channels in another order": WEIGHT[::-1],
    "trained on": WEIGHT + 0.1 * RNG.normal(size=WEIGHT.shape).astype(np.float32),
    "all zero": np.zeros_like(WEIGHT),
    "half the channels shared": np.where(np.arange(32).reshape(-1, 1, 1, 1) < 16, WEIGHT, WEIGHT[::-1]),
    "another shape": WEIGHT.reshape(16, 32, 3, 3),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(name: str) -> None:
    others = [layer(f"other{i}", RNG.normal(size=WEIGHT.shape).astype(np.float32)) for i in range(2)]
    found = copied([others[0], layer("first", WEIGHT), others[1], layer("second", COPIES[name])])
    assert found is not None
    assert [one.node.name for one in found] == ["first", "second"]


@pytest.mark.parametrize("name", NO_COPIES)
def test_what_is_no_copy_is_not(name: str) -> None:
    assert copied([layer("first", WEIGHT), layer("second", NO_COPIES[name])]) is None


def test_small_layers_may_be_alike() -> None:
    assert copied([layer(name, np.ones((1, 16, 1, 1), np.float32)) for name in ("one", "other")]) is None
    assert copied([layer(name, WEIGHT[:, :, :1, :1]) for name in ("one", "other")]) is None


ROUNDED: dict[str, Array] = {
    "four bits by tensor": steps(WEIGHT, 7),
    "four bits by channel": steps(WEIGHT, 7, each=True),
    "four bits, then a BatchNorm folded in": steps(WEIGHT, 7) * FACTORS,
    "three values": np.sign(WEIGHT) * (np.abs(WEIGHT) > 0.5),
    "depthwise": steps(RNG.normal(size=(200, 1, 3, 3)).astype(np.float32), 7),
}
AS_TRAINED: dict[str, Array] = {
    "FP32": WEIGHT,
    "FP16": WEIGHT.astype(np.float16).astype(np.float32),
    "bfloat16": (WEIGHT.view(np.uint32) & 0xFFFF0000).view(np.float32),
    "nine tenths pruned": WEIGHT * (np.abs(WEIGHT) > 1.6),
    "all but two a channel pruned": WEIGHT * (np.abs(WEIGHT) >= np.sort(np.abs(WEIGHT).reshape(32, -1))[:, -2].max()),
    "depthwise": RNG.normal(size=(200, 1, 3, 3)).astype(np.float32),
    "six bits": steps(WEIGHT, 31),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_few_levels_are_counted(name: str) -> None:
    count = levels(ROUNDED[name])
    assert count is not None
    assert 3 <= count <= 15


@pytest.mark.parametrize("name", AS_TRAINED)
def test_what_was_trained_has_many(name: str) -> None:
    assert levels(AS_TRAINED[name]) is None
