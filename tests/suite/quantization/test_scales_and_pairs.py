"""Q/DQ in every form that exporters write, and each fault by its own name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort
import pytest
from onnx import TensorProto

from tests.suite import tiny
from tests.suite.quantization import spoilt
from trtverify.fixtures.backends.onnxruntime.backend import optimise
from trtverify.fixtures.graphs import convert
from trtverify.fixtures.graphs.contents import read
from trtverify.fixtures.quantization.fit import Population, judge, require_weights_fit
from trtverify.fixtures.quantization.ranges import Range
from trtverify.fixtures.quantization.scales import in_floating_point, of_activations
from trtverify.fixtures.quantization.symmetric import require_symmetric_int8
from trtverify.fixtures.words.messages import use_language
from trtverify.fixtures.words.terms import BuildOptions, Precision

IMAGES = [tiny.image(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network, quantized by the suite from the images that judge it."""
    folder = tmp_path_factory.mktemp("sound")
    model = tiny.network(folder / "float.onnx")
    convert.to_int8_qdq(model, tiny.calibration(folder, np.concatenate(IMAGES)), folder / "int8.onnx")
    return folder / "int8.onnx"


@pytest.fixture
def changed(sound: Path, tmp_path: Path) -> Callable[[spoilt.Change], Path]:
    """`changed(change)`: a copy of it, with this done to it."""

    def make(change: spoilt.Change) -> Path:
        model = onnx.load(str(sound))
        onnx.save(change(model) or model, str(tmp_path / "changed.onnx"))
        return tmp_path / "changed.onnx"

    return make


def judge_all(path: Path) -> None:
    """As labs 4 and 5 do."""
    graph = read(path)
    require_symmetric_int8(graph)
    require_weights_fit(graph)
    with in_floating_point(path, "input") as (watch, read_by):
        judge(watch, of_activations(path), read_by, IMAGES, Population(known=True))


RIGHT: dict[str, spoilt.Change] = {
    "as it is": lambda model: None,
    "value_float": spoilt.written_as("value_float"),
    "Cast": spoilt.written_as("Cast"),
    "Identity": spoilt.written_as("Identity"),
    "Reshape": spoilt.written_as("Reshape"),
    "output_dtype": spoilt.typed_by_attribute(TensorProto.INT8),
    "shared zero points": spoilt.shared_zero_points,
    "powers of two": spoilt.powers_of_two,
    "narrower activations": spoilt.times(0.8),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_qdq_passes_however_it_is_written(
    name: str, changed: Callable[[spoilt.Change], Path], tmp_path: Path
) -> None:
    path = changed(RIGHT[name])
    judge_all(path)
    source, out = tmp_path / "source.onnx", tmp_path / "optimised.onnx"
    convert.write_source(path, BuildOptions(Precision.INT8, {"input": tiny.SHAPE}), source, convert.CPU_STYLE)
    optimise(source, out)


WRONG: dict[str, tuple[spoilt.Change, str, str]] = {
    "doubled": (spoilt.times(2), "too wide", "beyond the largest value"),
    "every second times 50": (spoilt.times(50, which=slice(None, None, 2)), "too wide", "beyond the largest value"),
    "one times 1.7": (spoilt.times(1.7, which=slice(1, 2)), "1 of", "beyond the largest value"),
    "tenth": (spoilt.times(0.1), "cuts off", "99.9"),
    "rotated": (spoilt.rotated, "too wide", "the tensors that they were taken from|beyond the largest value"),
    "all equal": (spoilt.all_equal, "the same for all|too wide", "see images|beyond the largest value"),
    "zero": (spoilt.one_scale(0.0), "0 – 2 pairs|0 – 1 pairs", "see no image"),
    "NaN": (spoilt.one_scale(float("nan")), "nan – ", "see no image"),
    "weights doubled": (spoilt.times(2, weights=True), "2.00 to 2.00 times", "largest weight"),
    "weights halved": (spoilt.times(0.5, weights=True), "at 0.50 times", "a factor was put on"),
    "channels exchanged": (spoilt.exchanged, "in another order|times, at", "one order"),
    "unsigned": (spoilt.zero_points(np.uint8(0)), "uint8", "upper half"),
    "zero points": (spoilt.zero_points(np.int8(-5)), "-5", "symmetric quantization"),
    "no zero points": (spoilt.without_zero_points, "pairs", "uint8 to ONNX and INT8 to TensorRT"),
    "int4": (spoilt.typed_by_attribute(TensorProto.INT4), "int4", "not to int4"),
    "float8": (spoilt.typed_by_attribute(TensorProto.FLOAT8E4M3FN), "float8e4m3fn", "not to float8e4m3fn"),
    "halves disagree": (spoilt.disagree, "≠", "the same scale"),
    "Clip": (spoilt.clipped, "Clip – ", "Clip there hides"),
    "no axes": (spoilt.axes_left_out, "pairs: |another axis", "axis"),
    "computed": (spoilt.computed, "pairs", "computed while the graph runs"),
    "weights float": (spoilt.weights_float, f"{tiny.CONVOLUTIONS} weights and 0 inputs", "without both"),
    "biases": (spoilt.quantized_biases, f"biases of {tiny.CONVOLUTIONS} layers", "QuantizeBias=False"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_is_called_what_it_is(name: str, changed: Callable[[spoilt.Change], Path]) -> None:
    change, found, look = WRONG[name]
    path = changed(change)
    with pytest.raises(pytest.fail.Exception) as failure:
        judge_all(path)
    finding: Any = failure.value.finding  # type: ignore[attr-defined]
    assert any(part in finding.found for part in found.split("|")), finding.found
    assert any(part in finding.look for part in look.split("|")), finding.look
    use_language("zh-TW")
    try:
        with pytest.raises(pytest.fail.Exception) as failure:
            judge_all(path)
    finally:
        use_language("en")
    there: Any = failure.value.finding  # type: ignore[attr-defined]
    assert there.look != finding.look


OPERATORS: dict[str, tuple[Callable[[str, str, Any], None], str, str]] = {
    "QOperator": (
        lambda source, out, reader: ort.quantize_static(source, out, reader, quant_format=ort.QuantFormat.QOperator),
        "QLinearConv",
        "QuantFormat.QDQ",
    ),
    "dynamic": (lambda source, out, _reader: ort.quantize_dynamic(source, out), "ConvInteger", "quantize_static"),
    "default Q/DQ": (lambda source, out, reader: ort.quantize_static(source, out, reader), "pairs", "symmetric"),
    "unsigned Q/DQ": (
        lambda source, out, reader: ort.quantize_static(source, out, reader, activation_type=ort.QuantType.QUInt8),
        "uint8",
        "QInt8",
    ),
    "float": (lambda source, out, _reader: onnx.save(onnx.load(source), out), "4 weights and 4 inputs", "no Q/DQ"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_other_operators_are_named_with_the_option_to_change(name: str, sound: Path, tmp_path: Path) -> None:
    quantize, found, look = OPERATORS[name]
    quantize(str(sound.with_name("float.onnx")), str(tmp_path / "out.onnx"), Reader())
    with pytest.raises(pytest.fail.Exception) as failure:
        require_symmetric_int8(read(tmp_path / "out.onnx"))
    finding: Any = failure.value.finding  # type: ignore[attr-defined]
    assert found in finding.found
    assert look in finding.look


class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
    """Feeds the images to ONNX Runtime's quantizer."""

    def __init__(self) -> None:
        self._images = iter(IMAGES)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {"input": image}


def test_a_tail_says_what_more_images_bring() -> None:
    """Of peaks that double with every tenfold of images, and of some that are all alike."""
    ranks = np.arange(1, 101, dtype=np.float32)
    heavy = Range(ranks ** np.float32(-np.log10(2)), np.ones((100, 1), np.float32))
    assert heavy.tail == pytest.approx(np.log10(2), abs=0.08)
    assert Range(np.ones(100, np.float32), np.ones((100, 1), np.float32)).tail == 0


def test_what_a_threshold_cuts_off_is_the_usual_image_s() -> None:
    drawn = np.array([[1, 1, 1, 3], [1, 1, 1, 3], [1, 1, 1, 90]], np.float32)
    assert Range(drawn.max(axis=1), drawn).cut(2) == pytest.approx(1 / 12)
    assert Range(drawn.max(axis=1), drawn).usual == 3
