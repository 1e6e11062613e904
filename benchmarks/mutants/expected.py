"""Who must name which fault: a test, and words of its message. What the tables count as found for its own reason."""

from __future__ import annotations

from benchmarks.mutants.case import Expected

_FUNCTION = r"architecture|function|comput|parity|network|boxes|answers"


def function(words: str) -> Expected:
    """A graph that computes something else than the network: a test of what it computes says so."""
    return Expected(_FUNCTION, words)


GRAPH = function(r"network|function|comput|spread|missing|too many|differ|layer")
HEAD = function(r"box|score|head|decod|network|function|comput|rows")
STAGE = function(r"softmax|sigmoid|normali|mean|BGR|channel|layout|scal|network|function|comput|spread|input|output")
INTERFACE = Expected(r"interface|onnx_is_valid", r"input|output|shape|opset|name|float")
WEIGHTS = Expected(
    r"weights|parity|function|comput|accuracy", r"weight|spread|NaN|infinity|equal|accuracy|framework|right"
)
PRECISION = Expected(r"fp16|precision|int8", r"float16|FP16|Cast|INT8|float32|precision")
QUANTIZED = Expected(
    r"quantized|int8_graph|scales|calibrated|zero|symmetric|fit", r"Q/DQ|scale|zero point|signed|symmetric|INT8|type"
)
SCALES = Expected(r"scales?|calibrated|fit|int8_answers|outputs_match", r"scale|times|dB|amax|range")
IMAGES = Expected(
    r"images?|preprocessing|scales_are_plausible|int8_answers", r"image|photograph|value|channel|range|mean"
)
LAYOUT = Expected(r"images?|preprocessing|scales|enough", r"float32|\.npy|batch|calibration_data|shape|N×|images")
TEST_IMAGES = Expected(r"test_images", r"test")
CACHE = Expected(r"cache", r"cache|scale|provenance|times|line|tensor|layer|header")
PLACEMENT = Expected(r"placement|crossings", r"layer|placed|cross|GPU|DLA|table|model|device|sha256|method|builder")
LAYERS = Expected(r"layer_information", r"layer|FP16|precision|kernel|convolution|named|twice|repeat")
MANIFEST = Expected(
    r"manifest|weights|accuracy|images|provenance|data", r"manifest|sha256|weights|accuracy|lab|model|data"
)
CURVES = Expected(r"curves|accuracy", r"row|epoch|phase|accuracy|loss|curves|training")
ACCURACY = Expected(r"accuracy", r"accuracy|right|image")
EVIDENCE = Expected(r"evidence", r".")
ANY = Expected(r".", r".")
