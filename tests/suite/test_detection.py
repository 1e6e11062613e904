"""Boxes out of YOLO's raw output, and their matching: known answers, and outputs made to be slow."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.detection import MOST, Boxes, decode, matched, threshold_for


def raw(boxes: list[tuple[float, float, float, float]], classes: list[int], scores: list[float]) -> np.ndarray:
    """An output of 84×8400 that holds these boxes (centre, size) and nothing else."""
    output = np.zeros((84, 8400), np.float32)
    for index, (box, label, score) in enumerate(zip(boxes, classes, scores, strict=True)):
        output[:4, index] = box
        output[4 + label, index] = score
    return output


def test_the_weaker_of_two_overlapping_boxes_of_a_class_is_dropped() -> None:
    output = raw([(100, 100, 50, 50), (102, 100, 50, 50), (102, 100, 50, 50)], [3, 3, 5], [0.9, 0.8, 0.7])
    found = decode(output, 0.25)
    assert found.classes.tolist() == [3, 5]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.corners[0].tolist() == [75, 75, 125, 125]


def test_matching_needs_class_and_overlap_and_counts_extra_boxes() -> None:
    one = decode(raw([(100, 100, 50, 50)], [3], [0.9]), 0.25)
    assert matched(one, one, 0.9) == 1
    assert matched(one, decode(raw([(100, 100, 50, 50)], [4], [0.9]), 0.25), 0.9) == 0
    assert matched(one, decode(raw([(110, 100, 50, 50)], [3], [0.9]), 0.25), 0.9) == 0
    two = decode(raw([(100, 100, 50, 50), (300, 300, 50, 50)], [3, 3], [0.9, 0.9]), 0.25)
    assert matched(one, two, 0.9) == 0.5
    none = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert matched(one, none, 0.9) == 0


def test_untrained_scores_lower_the_threshold_and_trained_ones_do_not() -> None:
    output = np.zeros((84, 8400), np.float32)
    output[4] = np.linspace(0, 0.1, 8400)
    assert (output[4:].max(axis=0) > threshold_for(output, 0.25, 60)).sum() == 60
    output[4] = np.linspace(0, 1, 8400)
    assert threshold_for(output, 0.25, 60) == 0.25


def test_an_output_of_nothing_but_boxes_stays_bounded() -> None:
    rng = np.random.default_rng(0)
    output = np.full((84, 8400), 0.9, np.float32)
    output[:4] = rng.uniform(0, 640, (4, 8400))
    assert len(decode(output, 0.25)) <= MOST
