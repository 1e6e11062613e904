"""What a graph shows to the outside: each misfit is told with the option to change, in both languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.suite import tiny
from tests.suite.engines.counting import Counting
from tests.test_lab2_yolov8 import TestYoloV8n as Lab2
from tests.test_lab3_dla import TestMobileNetV2 as Lab3
from trtverify.fixtures.claims.case import Case
from trtverify.fixtures.claims.interface import as_named, computing_in_fp32, misfit, why_weights_are_missing
from trtverify.fixtures.graphs.contents import Graph, Port, read
from trtverify.fixtures.graphs.convert import to_fp16
from trtverify.fixtures.networks.datasets import find_photos
from trtverify.fixtures.networks.models import MOBILENET_V2, YOLOV8N, Model
from trtverify.fixtures.report.record import Record
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words import messages
from trtverify.fixtures.words.terms import BuildOptions, Precision

IMAGES, BOXES = Port("images", (1, 3, 640, 640), "float"), Port("output0", (1, 84, 8400), "float")
PIXELS, SCORES = Port("input", ("N", 3, 224, 224), "float"), Port("output", ("N", 1000), "float")


def graph(inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> Graph:
    return Graph(Path("m.onnx"), 17, "", inputs, outputs, {}, (), 0, (), (), (), ())


def port(of: Port, **changes: Any) -> Port:
    return dataclasses.replace(of, **changes)


@pytest.fixture(params=["en", "zh-TW"])
def language(request: pytest.FixtureRequest) -> Iterator[str]:
    messages.use_language(request.param)
    yield request.param
    messages.use_language("en")


YOLO_FAULTS: dict[str, tuple[Graph, str]] = {
    "nms=True": (graph((IMAGES,), (port(BOXES, shape=(1, 300, 6)),)), "nms=False"),
    "half=True": (graph((port(IMAGES, dtype="float16"),), (BOXES,)), "yolov8n_fp16.onnx"),
    "half outputs": (graph((IMAGES,), (port(BOXES, dtype="float16"),)), "half=True"),
    "imgsz=320": (graph((port(IMAGES, shape=(1, 3, 320, 320)),), (BOXES,)), "imgsz=640"),
    "batch 8": (graph((port(IMAGES, shape=(8, 3, 640, 640)),), (BOXES,)), "dynamic=True"),
    "three classes": (graph((IMAGES,), (port(BOXES, shape=(1, 7, 8400)),)), "3"),
    "transposed": (graph((IMAGES,), (port(BOXES, shape=(1, 8400, 84)),)), ""),
    "YOLOv5": (graph((IMAGES,), (port(BOXES, shape=(1, 25200, 85)),)), "yolo export model=yolov8n.pt"),
    "channels last": (graph((port(IMAGES, shape=(1, 640, 640, 3)),), (BOXES,)), "N×C×H×W"),
    "pixels": (graph((port(IMAGES, dtype="uint8"),), (BOXES,)), "float32"),
    "double": (graph((port(IMAGES, dtype="double"),), (BOXES,)), "model.float()"),
    "unnamed among others": (graph((IMAGES,), (port(BOXES, name="y"), port(BOXES, name="z"))), "output_names"),
    "two inputs": (graph((IMAGES, port(IMAGES, name="shape")), (BOXES,)), ""),
    "no output": (graph((IMAGES,), ()), ""),
    "three dimensions": (graph((port(IMAGES, shape=(3, 640, 640)),), (BOXES,)), "3"),
}
CLASSIFIER_FAULTS: dict[str, tuple[Graph, str]] = {
    "ten classes": (graph((PIXELS,), (port(SCORES, shape=("N", 10)),)), "10"),
    "features": (graph((PIXELS,), (port(SCORES, shape=("N", 1280, 7, 7)),)), ""),
    "256 pixels": (graph((port(PIXELS, shape=(1, 3, 256, 256)),), (SCORES,)), "224×224"),
}


@pytest.mark.parametrize("fault", [*YOLO_FAULTS, *CLASSIFIER_FAULTS])
def test_a_misfit_is_told_with_what_to_change(fault: str, language: str) -> None:
    faults, model = (YOLO_FAULTS, YOLOV8N) if fault in YOLO_FAULTS else (CLASSIFIER_FAULTS, MOBILENET_V2)
    found, says = faults[fault]
    problem = misfit(found, model)
    assert problem is not None
    assert says in problem.look
    assert problem.look.replace("×", "x").isascii() is (language == "en")


def test_every_misfit_has_a_hint_of_its_own() -> None:
    hints = [problem.look for found, _says in YOLO_FAULTS.values() if (problem := misfit(found, YOLOV8N)) is not None]
    same = {"half outputs": "half=True"}
    assert len(set(hints)) == len(YOLO_FAULTS) - len(same)


@pytest.mark.parametrize(
    ("found", "model"),
    [
        (graph((IMAGES,), (BOXES,)), YOLOV8N),
        (
            graph((port(IMAGES, shape=("batch", 3, "height", "width")),), (port(BOXES, shape=("batch", 84, "n")),)),
            YOLOV8N,
        ),
        (graph((IMAGES,), (BOXES, Port("protos", (1, 32, 160, 160), "float"))), YOLOV8N),
        (graph((IMAGES,), (Port("protos", (1, 32, 160, 160), "float"), BOXES)), YOLOV8N),
        (graph((PIXELS,), (SCORES,)), MOBILENET_V2),
        (graph((port(PIXELS, shape=(1, 3, 224, 224)),), (port(SCORES, shape=(1, 1000)),)), MOBILENET_V2),
    ],
    ids=["fixed", "dynamic", "more outputs", "more outputs first", "dynamic batch", "one image"],
)
def test_what_fits(found: Graph, model: Model) -> None:
    assert misfit(found, model) is None


def test_fp16_fits_where_it_is_asked_for() -> None:
    half = graph((port(IMAGES, dtype="float16"),), (port(BOXES, dtype="float16"),))
    assert misfit(half, YOLOV8N, fp16=True) is None
    assert misfit(half, YOLOV8N) is not None


def test_a_graph_is_run_under_the_names_that_it_has() -> None:
    named = as_named(YOLOV8N, graph((port(IMAGES, name="x"),), (port(BOXES, name="y"),)))
    assert (named.input[0], named.output[0]) == ("x", "y")
    assert as_named(YOLOV8N, graph((IMAGES,), (BOXES, port(BOXES, name="z")))) == YOLOV8N


# Real graphs, in the claims of the labs.


def submission(folder: Path) -> Submission:
    return Submission(folder, None)  # type: ignore[arg-type]


def all_in_fp16(source: Path, out: Path) -> None:
    """FP16 from the inputs to the outputs, as model.half() exports it."""
    to_fp16(source, out)
    model = onnx.load(str(out))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        if node.op_type == "Cast" and ends.intersection((*node.input, *node.output)):
            node.op_type = "Identity"
            del node.attribute[:]
    onnx.save(model, str(out))


def fp32_behind_casts(source: Path, out: Path) -> None:
    """Every weight stored in FP16, and cast to FP32 right before it is used."""
    model = onnx.load(str(source))
    for tensor in list(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_stored"))
            model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    onnx.save(model, str(out))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (all_in_fp16, None),
        (to_fp16, None),
        (fp32_behind_casts, "64 × float32; not so: "),
        (lambda source, out: out.write_bytes(source.read_bytes()), "64 × float32"),
    ],
    ids=["all in FP16", "FP16 inside", "FP32 behind casts", "renamed"],
)
def test_a_graph_called_fp16_computes_in_it(
    make: Callable[[Path, Path], Any], says: str | None, labs: Callable[[str], Path], tmp_path: Path
) -> None:
    make(labs("lab2") / "yolov8n.onnx", tmp_path / "yolov8n_fp16.onnx")
    if says is None:
        Lab2().test_fp16_graph_is_fp16(submission(tmp_path))
        assert computing_in_fp32(tmp_path / "yolov8n_fp16.onnx") is None
        return
    with pytest.raises(pytest.fail.Exception, match=says):
        Lab2().test_fp16_graph_is_fp16(submission(tmp_path))


def test_fp16_from_input_to_output_is_fed_and_compared(
    copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    folder = copy_of("lab3")
    all_in_fp16(folder / "mobilenet_v2.onnx", folder / "mobilenet_v2_fp16.onnx")
    outcome = verify(folder, "lab3", "-k", "fp16 and (outputs_match or classes_agree)")
    assert outcome.status == 0, outcome.output
    assert {"test_outputs_match", "test_classes_agree"} == outcome.with_verdict("passed")


def test_fp32_behind_casts_is_no_fp16_on_any_backend(labs: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "mobilenet_v2.onnx").write_bytes((labs("lab3") / "mobilenet_v2.onnx").read_bytes())
    fp32_behind_casts(tmp_path / "mobilenet_v2.onnx", tmp_path / "mobilenet_v2_fp16.onnx")
    case = Case(
        lab="lab3",
        model=MOBILENET_V2,
        precision=Precision.FP16,
        backend=Counting(),
        submission=submission(tmp_path),
        engines=None,  # type: ignore[arg-type]
        own_images=lambda _model: pytest.fail("nothing is calibrated"),
        asked=BuildOptions(Precision.FP16),
    )
    with pytest.raises(pytest.fail.Exception, match=r"53 × float32; not so: /features"):
        Lab3().test_precision_is_proven(case, Record())


def test_any_name_is_right(copy_of: Callable[..., Path], verify: Callable[..., Any]) -> None:
    folder = copy_of("lab3")
    model = onnx.load(str(folder / "mobilenet_v2.onnx"))
    for node in model.graph.node:
        node.input[:] = ["x.1" if name == "input" else name for name in node.input]
        node.output[:] = ["495" if name == "output" else name for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "x.1", "495"
    onnx.save(model, str(folder / "mobilenet_v2.onnx"))
    outcome = verify(folder, "lab3", "-k", "interface or fp32 and outputs_match")
    assert outcome.with_verdict("passed") == {"test_interface", "test_outputs_match"}, outcome.output
    Lab3().test_parity_with_the_framework(submission(folder))


def test_boxes_chosen_in_the_graph_end_in_no_traceback(copy_of: Callable[..., Path]) -> None:
    folder = copy_of("lab2")
    model = onnx.load(str(folder / "yolov8n.onnx"))
    model.graph.output[0].name = "raw"
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "output0" else name for name in node.output]
    starts, ends = (numpy_helper.from_array(np.array(v, np.int64), n) for v, n in (([0, 0], "from"), ([6, 300], "to")))
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    model.graph.initializer.extend([starts, ends, axes])
    model.graph.node.append(helper.make_node("Slice", ["raw", "from", "to", "axes"], ["few"]))
    model.graph.node.append(helper.make_node("Transpose", ["few"], ["output0"], perm=[0, 2, 1]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 300, 6]))
    onnx.save(model, str(folder / "yolov8n.onnx"))
    with pytest.raises(pytest.fail.Exception, match="nms=False"):
        Lab2().test_interface(submission(folder))
    photos = find_photos(None)
    assert photos is not None
    with pytest.raises(
        pytest.skip.Exception, match=r"an earlier step failed: .* answers 300×6 an image, where 84×8400 is"
    ):
        Lab2().test_boxes_come_before_scores(submission(folder), photos)


HIDDEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "integer convolutions": (
        lambda m: setattr(m.graph.node[0], "op_type", "QLinearConv"),
        "quant_format=QuantFormat.QDQ",
    ),
    "a runtime's operators": (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "1 × com.microsoft.Conv"),
    "a computed weight": (lambda m: _computed(m), "Mul → /stem/Conv"),
    "nothing hidden": (lambda m: None, "is this the right network"),
}


def _computed(model: Any) -> None:
    model.graph.node.insert(0, helper.make_node("Mul", ["stem.weight", "stem.weight"], ["square"]))
    model.graph.node[1].input[1] = "square"


@pytest.mark.parametrize("kind", HIDDEN)
def test_why_weights_are_missing(kind: str, tmp_path: Path) -> None:
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    change, says = HIDDEN[kind]
    change(model)
    assert says in why_weights_are_missing(model, "tiny.onnx")


def test_a_number_that_is_no_weight_may_be_one_throughout(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, tiny.CHANNELS, 4, 4), np.float32), "mask"))
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    assert not read(tmp_path / "tiny.onnx").constant
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "last.weight")
    tensor.CopyFrom(numpy_helper.from_array(np.ones((tiny.CHANNELS, tiny.CHANNELS, 3, 3), np.float32), "last.weight"))
    onnx.save(model, str(tmp_path / "constant.onnx"))
    assert read(tmp_path / "constant.onnx").constant == ("last.weight",)


RECORDINGS: dict[str, tuple[Callable[[Any, Any], dict[str, Any]], str | None]] = {
    "float64": (lambda i, o: {"input": i.astype(np.float64), "output": o.astype(np.float64)}, None),
    "float16 outputs": (lambda i, o: {"input": i, "output": o.astype(np.float16)}, None),
    "no output": (lambda i, o: {"input": i}, "it has no array output"),
    "integers": (lambda i, o: {"input": i.astype(np.int32), "output": o}, "int32 2×3×224×224"),
    "channels last": (lambda i, o: {"input": i.transpose(0, 2, 3, 1), "output": o}, "float32 2×224×224×3"),
    "one image": (lambda i, o: {"input": i[0], "output": o}, "float32 3×224×224"),
    "no images": (lambda i, o: {"input": i[:0], "output": o[:0]}, "float32 0×3×224×224"),
    "other outputs": (lambda i, o: {"input": i, "output": o[:, :10]}, "float32 2×10"),
    "fewer outputs": (lambda i, o: {"input": i, "output": o[:1]}, "2 inputs, 1 outputs"),
    "nan": (lambda i, o: {"input": i, "output": np.full_like(o, np.nan)}, "NaN or infinity"),
    "too large": (lambda i, o: {"input": i, "output": np.full(o.shape, 1e300)}, "beyond FP32"),
    "text": (lambda i, o: {"input": i, "output": np.array(["cat", "dog"])}, "<U3 2"),
}


@pytest.mark.parametrize("kind", RECORDINGS)
def test_a_recording_is_taken_or_refused_in_one_sentence(
    kind: str, labs: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = labs("lab3")
    (tmp_path / "mobilenet_v2.onnx").write_bytes((folder / "mobilenet_v2.onnx").read_bytes())
    recorded = np.load(folder / "mobilenet_v2.reference.npz")
    change, says = RECORDINGS[kind]
    np.savez(tmp_path / "mobilenet_v2.reference.npz", **change(recorded["input"][:2], recorded["output"][:2]))
    if says is None:
        Lab3().test_parity_with_the_framework(submission(tmp_path))
        return
    with pytest.raises(pytest.fail.Exception) as raised:
        Lab3().test_parity_with_the_framework(submission(tmp_path))
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert says in lines[1]


def test_a_recording_that_is_something_else(labs: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "mobilenet_v2.onnx").write_bytes((labs("lab3") / "mobilenet_v2.onnx").read_bytes())
    path = tmp_path / "mobilenet_v2.reference.npz"
    for content, says in (
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x93NUMPY\x01\0v\0", r"a single array \(.npy\)"),
        (b"hello", "does not begin as one"),
    ):
        path.write_bytes(content)
        with pytest.raises(pytest.fail.Exception, match=says):
            Lab3().test_parity_with_the_framework(submission(tmp_path))
