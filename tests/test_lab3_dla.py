"""Lab 3: MobileNetV2 in FP16 with its layer information, and what a DLA would take of it."""

from __future__ import annotations

import json

import pytest

from trtverify.fixtures.backends.tensorrt.inspector import parse
from trtverify.fixtures.claims.case import Case, read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.function import FunctionClaims
from trtverify.fixtures.claims.onnx import OnnxClaims
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.claims.steps import built, not_computed
from trtverify.fixtures.engines import dla
from trtverify.fixtures.engines.layers import Proof, by_node, prove
from trtverify.fixtures.networks.models import MOBILENET_V2
from trtverify.fixtures.report.record import PlacementRow, Record
from trtverify.fixtures.submitted.strict_json import require_json
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import Layer, Precision
from trtverify.fixtures.words.verdict import Cause, fail, not_gradable, require

# Of the convolutions that the layer information tells the precision of, at least so many must be in FP16. A builder
# may keep a first layer of three channels in FP32 where that is faster.
LEAST_IN_FP16 = 0.9


@pytest.fixture(scope="module")
def placement(submission: Submission, record: Record) -> dla.Placement:
    """The submitted placement, noted in the record."""
    path = submission.require("lab3", "dla_placement.json")
    try:
        found = dla.parse(require_json(path))
    except ValueError as error:
        fail(
            expected=_("dla_placement.json as lab 3 lays it out"),
            found=str(error),
            look=_("run lab3_dla_fallback.py, which writes it"),
        )
    layers = tuple((name[:200], device) for name, device in found.devices.items())
    record.placements.append(PlacementRow("lab3", MOBILENET_V2.name, found.crossings, found.method, layers))
    return found


@pytest.fixture
def layer_info(submission: Submission) -> tuple[Layer, ...]:
    """The layers in the submitted layer_info.json."""
    path = submission.optional("lab3", "layer_info.json")
    document = require_json(path)
    try:
        return parse(json.dumps(document)).layers
    except ValueError as error:
        fail(
            expected=_("layer_info.json as trtexec --exportLayerInfo or the engine inspector writes it"),
            found=str(error),
            look=_("build with --profilingVerbosity=detailed --exportLayerInfo=layer_info.json"),
        )


def fp16_share(layers: tuple[Layer, ...]) -> tuple[Proof, float | None]:
    """What the layers compute in, and the share of FP16 among those that tell; None where none does."""
    proof = prove(layers, Precision.FP16)
    known = sum(count for name, count in proof.counts.items() if name != "unknown")
    return proof, proof.counts.get("fp16", 0) / known if known else None


def named_after(nodes: list[str], layers: tuple[Layer, ...]) -> tuple[int, int]:
    """How many of these ONNX nodes the layers name, and in how many layers."""
    text = "\n".join(layer.name for layer in layers)
    named = [name for name in nodes if name in text]
    return len(named), sum(any(name in layer.name for name in named) for layer in layers)


def named_enough(nodes: list[str], layers: tuple[Layer, ...]) -> bool:
    """Whether these can be layers of a model with these nodes: a builder fuses two or three of them, never all."""
    named, holding = named_after(nodes, layers)
    return named >= len(nodes) // 2 and holding >= named // 4


@pytest.mark.lab3
class TestMobileNetV2(OnnxClaims, FunctionClaims, ClassifierClaims, SpeedupClaims):
    """The FP16 engine, its layers, and the placement."""

    lab = "lab3"
    model = MOBILENET_V2
    precisions = (Precision.FP32, Precision.TF32, Precision.FP16)
    gpu_precisions = (Precision.INT8,)
    baselines = (Precision.FP32, Precision.TF32)
    larger_batch = 32
    parity = 1e-3
    liveliness = 0.02
    # TF32 and FP16: 37 to 43 dB with lab 3's weights, 29 to 33 with others drawn at random.
    # INT8 from 32 photographs, untrained weights: 7.1 to 8.4 dB in ONNX Runtime, 9.3 to 10.7 dB in TensorRT 8.6.
    sqnr = {Precision.FP32: 60.0, Precision.TF32: 20.0, Precision.FP16: 20.0, Precision.INT8: 4.0}
    # Noise picks among classes that tie, which counts as the same; of eight photographs one may still tip.
    classes = {Precision.FP32: (0.99, 0.99), Precision.TF32: (0.85, 0.99), Precision.FP16: (0.85, 0.99)}

    @pytest.mark.points(2)
    def test_placement_names_every_layer(self, submission: Submission, placement: dla.Placement) -> None:
        """Each convolution of the model is placed, and nothing that the model does not have."""
        graph = read_graph(submission, "lab3", self.model.file)
        missing = [name for name, _shape in graph.weights if name not in placement.devices]
        require(
            not missing,
            expected=_("all {count} weighted layers placed").format(count=len(graph.weights)),
            found=_("{count} missing: {names}").format(count=len(missing), names=", ".join(missing[:3])),
            look=_("analyse the model that you hand in: run lab3_dla_fallback.py again"),
        )

    @pytest.mark.points(2)
    def test_crossings_add_up(self, submission: Submission, placement: dla.Placement) -> None:
        """The number of crossings is what the placement itself gives on this graph."""
        path = read_graph(submission, "lab3", self.model.file).path
        counted = dla.crossings(path, placement.devices)
        require(
            placement.crossings == counted,
            expected=_("{count} tensors that cross between DLA and GPU").format(count=counted),
            found=str(placement.crossings),
            look=_("count each tensor once that a layer on one device writes and a layer on the other reads"),
        )

    @pytest.mark.points(4)
    def test_placement_follows_the_table(self, submission: Submission, placement: dla.Placement) -> None:
        """Each layer is where the support table of labs/dla_support.toml puts it."""
        if placement.method != "table":
            not_gradable(Cause.CANNOT_RUN, _("a builder with DLA cores placed these, and this machine has none"))
        path = read_graph(submission, "lab3", self.model.file).path
        try:
            expected = dla.analyse(path)
        except ValueError as error:
            fail(
                expected=_("a graph that the support table can be applied to"),
                found=str(error),
                look=_("polygraphy inspect model {file} --show layers").format(file=self.model.file),
            )
        differ = [name for name, device in expected.devices.items() if placement.devices.get(name) != device]
        require(
            not differ,
            expected=", ".join(f"{name}: {expected.devices[name]}" for name in differ[:3]),
            found=", ".join(f"{name}: {placement.devices.get(name, '–')}" for name in differ[:3]),
            look=_("labs/dla_support.toml gives the rule for each operator, with its source"),
        )

    @pytest.mark.points(3)
    def test_layer_information_is_fp16(self, layer_info: tuple[Layer, ...]) -> None:
        """The layers of the submitted layer_info.json compute in FP16, as the engine is said to."""
        proof, share = fp16_share(layer_info)
        require(
            share is not None,
            expected=_("layers with their data types"),
            found=str(proof),
            look=_("build with --profilingVerbosity=detailed"),
        )
        require(
            share is None or share >= LEAST_IN_FP16,
            expected=_("at least {least:.0%} of convolutions in FP16").format(least=LEAST_IN_FP16),
            found=str(proof),
            look=_("build with --fp16, and export the layers of that engine"),
        )

    @pytest.mark.points(2)
    def test_layer_information_is_this_models(self, submission: Submission, layer_info: tuple[Layer, ...]) -> None:
        """The layers carry the names of the submitted model's nodes."""
        nodes = [name for name, _shape in read_graph(submission, "lab3", self.model.file).weights]
        named, layers = named_after(nodes, layer_info)
        require(
            named_enough(nodes, layer_info),
            expected=_("layers named after the model's {count} weighted nodes").format(count=len(nodes)),
            found=_("{count} of them, in {layers} layers").format(count=named, layers=layers),
            look=_("export the layers of an engine built from the model that you hand in"),
        )


@pytest.mark.lab3
class TestLayerInformation:
    """The submitted layer_info.json beside an engine that is built here from the same model."""

    lab = "lab3"
    model = MOBILENET_V2
    precisions = (Precision.FP16,)

    @pytest.mark.points(2)
    def test_layer_information_agrees(self, case: Case, layer_info: tuple[Layer, ...], record: Record) -> None:
        """Convolution by convolution it tells the precision that TensorRT chooses here too."""
        if (native := not_computed(case)) is not None:
            not_gradable(Cause.NOT_COMPUTED, native)
        weights = read_graph(case.submission, self.lab, self.model.file).weights
        _proof, share = fp16_share(layer_info)
        if share is None or share < LEAST_IN_FP16 or not named_enough([name for name, _shape in weights], layer_info):
            not_gradable(Cause.EARLIER_FAILURE, _("these are no layers of this model in FP16"))
        nodes = [name for name, shape in weights if len(shape) > 2]
        ours, theirs = by_node(built(case, record).layers, nodes), by_node(layer_info, nodes)
        both = [name for name in ours if name in theirs]
        differ = [name for name in both if ours[name] is not theirs[name]]
        require(
            len(both) >= LEAST_IN_FP16 * len(ours) and len(differ) <= (1 - LEAST_IN_FP16) * len(both),
            expected=_("the {count} convolutions of an engine built here, at least {least:.0%} alike").format(
                count=len(ours), least=LEAST_IN_FP16
            ),
            found=_("{count} of them named; {differ} in another precision: {names}").format(
                count=len(both), differ=len(differ), names=", ".join(differ[:3]) or "–"
            ),
            look=_("export the layers of an engine built from the model that you hand in"),
        )
