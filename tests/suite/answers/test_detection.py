"""Boxes out of YOLO's raw output, and their matching: known answers, and outputs made to be slow."""

from __future__ import annotations

import numpy as np
import pytest

from trtverify.fixtures.answers.detection import MOST, decode, matched, threshold_for


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


BOX, FAR = (100.0, 100.0, 50.0, 50.0), (300.0, 300.0, 50.0, 50.0)
NONE = raw([], [], [])


@pytest.mark.parametrize(
    ("other", "share"),
    [
        (raw([BOX], [3], [0.9]), 1),
        (raw([BOX], [4], [0.9]), 0),
        (raw([(110, 100, 50, 50)], [3], [0.9]), 0),
        (raw([BOX], [3], [0.1]), 0),
        (raw([BOX, FAR], [3, 3], [0.9, 0.9]), 2 / 3),
        (NONE, 0),
    ],
    ids=["same", "another class", "shifted", "too weak", "one too many", "none"],
)
def test_matching_needs_class_overlap_and_score_both_ways(other: np.ndarray, share: float) -> None:
    one = raw([BOX], [3], [0.9])
    assert matched(one, other, 0.25, 0.9) == pytest.approx(share)
    assert matched(other, one, 0.25, 0.9) == pytest.approx(share)
    assert matched(NONE, NONE, 0.25, 0.9) == 1


def test_what_rounding_alone_decides_is_no_mismatch() -> None:
    on_the_threshold = raw([BOX], [3], [0.2501]), raw([BOX], [3], [0.2499])
    assert matched(*on_the_threshold, 0.25, 0.9) == 1
    # Two boxes that overlap by less than 90 %: the stronger hides the weaker.
    pair = [BOX, (108.0, 100.0, 50.0, 50.0)]
    assert matched(raw(pair, [3, 3], [0.8, 0.8001]), raw(pair, [3, 3], [0.8001, 0.8]), 0.25, 0.9) == 1


def test_an_output_that_claims_every_box_matches_none_of_its_own() -> None:
    everything = np.full((84, 8400), 0.9, np.float32)
    everything[:4] = np.random.default_rng(0).uniform(0, 640, (4, 8400))
    assert matched(raw([BOX], [3], [0.9]), everything, 0.25, 0.9) < 0.1


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


def test_fewer_anchors_than_are_compared() -> None:
    assert threshold_for(np.full((84, 6), 0.1, np.float32), 0.25, 60) == pytest.approx(0.1)
