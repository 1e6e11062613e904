"""Verdicts from plain figures: how far one output may lie from the noise of all."""

from __future__ import annotations

import pytest

from trtverify.fixtures.claims import judge
from trtverify.fixtures.words.terms import Layer, LayerTensor, Precision


def agree(sqnr_db: float, largest: float, *, within: bool = True) -> None:
    limit = judge.largest_allowed(20.0)
    judge.agreement(Precision.TF32, "m.onnx", sqnr_db=sqnr_db, least=20.0, largest=largest, limit=limit, within=within)


def test_the_largest_of_many_is_no_fault() -> None:
    """MobileNetV2 in TF32 on an H100: of 32,000 outputs one lay at 0.059 of the spread, and all at 40.6 dB."""
    agree(40.6, 0.059)
    agree(20.1, judge.PEAK * 10 ** (-20.1 / 20))


@pytest.mark.parametrize(
    ("sqnr_db", "largest", "says"),
    [(40.6, 1.0, "no output off by more than 0.8"), (19.0, 0.1, "at least 20 dB"), (float("nan"), 0.1, "at least")],
    ids=["one output alone", "all of them", "nan"],
)
def test_noise_and_one_wrong_output_are(sqnr_db: float, largest: float, says: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=says):
        agree(sqnr_db, largest)


def test_polygraphy_can_refuse_and_let_nothing_through() -> None:
    agree(40.6, 0.7)
    for largest, within in ((0.7, False), (1.0, True)):
        with pytest.raises(pytest.fail.Exception, match="no output off by more"):
            agree(40.6, largest, within=within)


@pytest.mark.parametrize("largest", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told_in_no_decibels(largest: float) -> None:
    with pytest.raises(pytest.fail.Exception) as raised:
        agree(float("-inf"), largest)
    assert "finite outputs of the TF32 engine" in str(raised.value)
    assert "dB" not in str(raised.value)


def test_one_answer_for_every_image_is_told_in_no_decibels() -> None:
    with pytest.raises(pytest.fail.Exception) as raised:
        agree(float("-inf"), 0.0)
    assert "answers the same for every image" in str(raised.value)
    assert "dB" not in str(raised.value)


@pytest.mark.parametrize(("form", "says"), [("fp8", "on fp8"), ("", "detailed profiling verbosity")])
def test_layers_of_no_known_precision(form: str, says: str) -> None:
    layers = [Layer("conv", "convolution", None, (LayerTensor("x", (1, 3, 8, 8), form),))]
    with pytest.raises(pytest.fail.Exception) as raised:
        judge.precision(layers, Precision.INT8, keeps_types=True)
    assert says in str(raised.value)
    assert ("detailed profiling verbosity" in str(raised.value)) is (form == "")
