"""Weights that were rounded are told from others, by layer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trtverify.fixtures.answers.accuracy import agreement
from trtverify.fixtures.answers.carried import FP16, INT8, Rounding, departures
from trtverify.fixtures.claims.classifier import LEAST_CHANCE, chance

Weights = dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
NAMES = ("conv1", "conv2", "fc")


def network(weights: Weights) -> Any:
    """What `departures` looks at of a rebuilt network."""
    layers = {name: SimpleNamespace(folded=lambda _epsilon, held=held: held) for name, held in weights.items()}
    return SimpleNamespace(
        network=SimpleNamespace(layers={name: SimpleNamespace(epsilon=None) for name in weights}), layers=layers
    )


def drawn(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(0, 0.1, (16, 144)).astype(np.float32), rng.normal(0, 1, 16).astype(np.float32))
        for name in NAMES
    }


def quantized(weights: Weights, *, by_channel: bool = True, cut: float = 1.0, rounding: Any = np.rint) -> Weights:
    made = {}
    for name, (weight, bias) in weights.items():
        peak = np.abs(weight).max(axis=1, keepdims=True) if by_channel else np.abs(weight).max()
        scale = cut * peak / 127
        made[name] = ((np.clip(rounding(weight / scale), -127, 127) * scale).astype(np.float32), bias)
    return made


def told(found: Weights, of: Weights, rounding: Rounding = INT8) -> str:
    return "; ".join(departures(network(found), network(of), rounding))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "make",
    [
        quantized,
        lambda weights: quantized(weights, by_channel=False),
        lambda weights: quantized(weights, cut=2.0),  # powers of two
        lambda weights: quantized(weights, cut=0.9),  # a percentile
    ],
    ids=["by channel", "by tensor", "twice as wide", "cut off"],
)
def test_rounding_is_no_departure(make: Callable[[Weights], Weights], seed: int) -> None:
    weights = drawn(seed)
    assert told(make(weights), weights) == ""


def test_fp16_is_none_either() -> None:
    weights = drawn()
    half = {name: (w.astype(np.float16).astype(np.float32), b) for name, (w, b) in weights.items()}
    assert told(half, weights, FP16) == ""
    assert "conv2" in told({**half, "conv2": (half["conv2"][0] * 1.01, half["conv2"][1])}, weights, FP16)


def changed(weights: Weights, name: str, change: Callable[[Any, Any], tuple[Any, Any]]) -> Weights:
    return {**weights, name: change(*weights[name])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, b: (1.05 * w, b), "the weights of conv2 are 1.05 times as large"),
        (lambda w, b: (0 * w, b), "conv2 has other weights"),
        (lambda w, b: (w[::-1], b), "conv2 has other weights"),
        (lambda w, b: (w, 0 * b), "the bias of conv2 differs by 100%"),
        (lambda w, b: (w[:, :100], b), "conv2 has other weights"),
        (lambda w, b: (np.full_like(w, np.nan), b), "conv2 has other weights"),
    ],
    ids=["a factor", "zeros", "another order", "no bias", "another shape", "NaN"],
)
def test_a_layer_that_departs_is_named(change: Callable[[Any, Any], tuple[Any, Any]], words: str) -> None:
    weights = drawn()
    assert words in told(changed(quantized(weights), "conv2", change), weights)


def test_other_rounding_is_told() -> None:
    weights = drawn()
    coarse = {
        name: ((np.rint(w / (np.abs(w).max(axis=1, keepdims=True) / 7))) * np.abs(w).max(axis=1, keepdims=True) / 7, b)
        for name, (w, b) in weights.items()
    }
    assert "of half the layers differ" in told(coarse, weights)
    assert "times what rounding does" in told(quantized(weights, rounding=np.trunc), weights)
    rng = np.random.default_rng(9)
    moved: Weights = {}
    for name, (w, b) in weights.items():
        noise: np.ndarray[Any, Any] = rng.normal(0, 0.03 * w.std(), w.shape).astype(np.float32)
        moved[name] = (w + noise, b)
    assert "times what rounding does" in told(quantized(moved), weights)


def test_few_images_are_no_verdict_on_classes() -> None:
    """An engine that names nine of ten alike misses two of eight in one run of five; one that names half is found."""
    assert chance(6 / 8, 8, 0.85) > 0.2
    assert chance(36 / 48, 48, 0.85) >= LEAST_CHANCE
    assert chance(24 / 48, 48, 0.85) < LEAST_CHANCE
    assert chance(1.0, 48, 0.85) == pytest.approx(1.0)


def test_one_rare_image_decides_no_largest_difference() -> None:
    reference = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    rare, everywhere, broken = reference.copy(), reference.copy(), reference.copy()
    rare[3] += 50
    everywhere[:, 7] += 50
    broken[0, 0] = np.nan
    assert agreement(reference, rare, within=True).in_most_images() < 0.1
    assert agreement(reference, rare, within=True).largest > 30
    assert agreement(reference, everywhere, within=True).in_most_images() > 30
    assert agreement(reference, broken, within=True).in_most_images() == float("inf")
