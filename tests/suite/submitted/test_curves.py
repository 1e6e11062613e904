"""Curves of no training are told; short trainings and other ways of counting are trainings."""

from __future__ import annotations

from typing import Any

import pytest

from trtverify.fixtures.submitted.curves import against, doubts, parse


def row(phase: str, epoch: int, loss: float, test: float, train: float | None = None) -> dict[str, Any]:
    return {
        "phase": phase,
        "epoch": epoch,
        "loss": loss,
        "train_accuracy": test if train is None else train,
        "test_accuracy": test,
    }


GOOD = [row("fp32", 1, 1.5123, 0.55), row("fp32", 2, 1.0321, 0.70), row("fp32", 3, 0.8154, 0.78)]
TUNED = [row("qat", 3, 0.7412, 0.79), row("qat", 4, 0.7201, 0.80)]


def said(rows: list[dict[str, Any]]) -> str:
    return "; ".join(doubts(parse({"epochs": rows})))


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "one epoch three times": ([GOOD[0]] * 3 + TUNED, "each follows the one before"),
    "a gap": ([GOOD[0], GOOD[2], *TUNED], "each follows the one before"),
    "backwards": ([*GOOD[::-1], *TUNED], "each follows the one before"),
    "no fine-tuning": (GOOD, "no fine-tuning"),
    "fine-tuning from nowhere": ([*GOOD, row("qat", 9, 0.7, 0.8)], "begins with epoch 9"),
    "a phase twice": ([*GOOD, *TUNED, row("fp32", 5, 0.7, 0.8)], "begins twice"),
    "down to chance": ([*GOOD, row("qat", 4, 0.9, 0.1)], "as by chance"),
    "one loss": ([row("fp32", n, 0.8154, 0.5 + n / 20) for n in (1, 2)] + TUNED, "the loss never changes"),
    "a copied epoch": ([*GOOD, row("fp32", 4, 1.0321, 0.70), row("qat", 5, 0.71, 0.8)], "another epoch's figures"),
    "a rising loss": ([row("fp32", n, n / 2 + 0.0123, 0.5 + n / 20) for n in (1, 2, 3)] + TUNED, "the loss rises"),
}


@pytest.mark.parametrize("name", WRONG)
def test_no_training_is_told(name: str) -> None:
    rows, says = WRONG[name]
    assert says in said(rows)


RIGHT = {
    "whole": [*GOOD, *TUNED],
    "one and one": [row("fp32", 1, 1.5, 0.72), row("qat", 1, 0.9, 0.74)],
    "counted anew": [*GOOD, row("qat_naive", 1, 0.74, 0.79)],
    "counted from nought": [row("train", 0, 1.5, 0.6), row("train", 1, 1.1, 0.7), row("finetune", 0, 0.9, 0.72)],
    "counted on": [*GOOD, row("int8", 4, 0.7, 0.8)],
    "in other words": [row("float", 1, 1.5, 0.6), row("phase two", 2, 0.9, 0.7)],
    "rounded and done": [
        *GOOD,
        row("qat", 1, 0.01, 0.95, 1.0),
        row("qat", 2, 0.01, 0.95, 1.0),
        row("qat", 3, 0.008, 0.95, 1.0),
    ],
    "a parent from elsewhere": [row("qat", 1, 0.5, 0.8), row("qat", 2, 0.4, 0.81)],
    "a worse epoch": [*GOOD, row("fp32", 4, 0.83, 0.74), row("qat", 5, 0.7, 0.8)],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_training_is_one(name: str) -> None:
    assert said(RIGHT[name]) == ""


@pytest.mark.parametrize(
    ("measured", "agrees"), [(0.80, True), (0.78, True), (0.82, True), (0.65, False), (0.95, False)]
)
def test_curves_end_at_the_network(measured: float, agrees: bool) -> None:
    found = against(parse({"epochs": [*GOOD, *TUNED]}), measured, 1000, 2000)
    assert (found is None) is agrees, found


def test_the_best_epoch_may_be_kept() -> None:
    rows = parse({"epochs": [*GOOD, row("qat", 4, 0.7, 0.85), row("qat", 5, 0.72, 0.76)]})
    assert against(rows, 0.85, 1000, 10_000) is None
