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
from trtverify.fixtures.engines import dla, stated
from trtverify.fixtures.engines.layer_information import Told, names_only, tell
from trtverify.fixtures.engines.layers import by_node, prove
from trtverify.fixtures.graphs.onnx_file import load
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
# Of the convolutions whose channels all meet, as many must be told by their kernel's name: nearly all names tell.
LEAST_BY_KERNEL = 0.5
LEAST_AS_TABLE = 0.9
DETAILED = "trtexec … --profilingVerbosity=detailed --exportLayerInfo=layer_info.json"


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


def told(submission: Submission, layers: tuple[Layer, ...]) -> Told:
    """What the layers tell of the submitted model's convolutions."""
    graph = read_graph(submission, "lab3", MOBILENET_V2.file)
    every = [node.name or node.output[0] for node in load(graph.path).graph.node]
    return tell(layers, [name for name, shape in graph.weights if len(shape) > 2], every)


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
        """Each weighted layer of the model is placed once, and nothing else; what it says of the model is true."""
        graph = read_graph(submission, "lab3", self.model.file)
        laid = dla.over(graph.path, placement)
        missing = [name for name, _shape in graph.weights if name not in laid.devices]
        require(
            not missing,
            expected=_("all {count} weighted layers placed").format(count=len(graph.weights)),
            found=_("{count} missing: {names}").format(count=len(missing), names=", ".join(missing[:3])),
            look=_("analyse the model that you hand in: run lab3_dla_fallback.py again"),
        )
        wrong = [*dla.contradictions(placement, laid), *stated.of_model(placement, graph.path)]
        require(
            not wrong,
            expected=_("a placement of this model's layers, each once"),
            found="; ".join(wrong),
            look=_("analyse the model that you hand in: run lab3_dla_fallback.py again"),
        )

    @pytest.mark.points(2)
    def test_crossings_add_up(self, submission: Submission, placement: dla.Placement) -> None:
        """The crossings, and the loadables where they are told, are what the placement itself gives on this graph."""
        path = read_graph(submission, "lab3", self.model.file).path
        laid = dla.over(path, placement)
        counted = dla.crossings(path, laid.devices)
        require(
            placement.crossings in counted,
            expected=_("{count} tensors that cross between DLA and GPU").format(
                count=" / ".join(map(str, sorted(counted)))
            ),
            found=str(placement.crossings),
            look=_("count each tensor once that a layer on one device writes and a layer on the other reads"),
        )
        wrong = list(stated.of_crossings(placement, path, laid))
        require(
            not wrong,
            expected=_("crossings and loadables that the placement gives"),
            found="; ".join(wrong),
            look=_("labs/dla_support.toml defines what a loadable is; leave out what you did not count"),
        )

    @pytest.mark.points(4)
    def test_placement_follows_the_table(self, submission: Submission, placement: dla.Placement) -> None:
        """Each layer is where the support table of labs/dla_support.toml puts it; nine in ten where a builder did.

        A builder may leave on the GPU what the table lets a DLA take, and know layers of later versions; what the
        hardware cannot do, it does not either. So a tenth of a placement said to be a builder's may be invented.
        What is said of the table and of the method must hold too; the reasons given are not judged.
        """
        graph = read_graph(submission, "lab3", self.model.file)
        try:
            expected = dla.analyse(graph.path)
        except ValueError as error:
            fail(
                expected=_("a graph that the support table can be applied to"),
                found=str(error),
                look=_("polygraphy inspect model {file} --show layers").format(file=self.model.file),
            )
        laid = dla.over(graph.path, placement)
        differ = [name for name, device in expected.devices.items() if laid.devices.get(name) != device]
        allowed = 0.0
        if placement.built:
            weighted = {name for name, _shape in graph.weights}
            impossible = dla.forbidden(laid, expected)
            differ = impossible or [name for name in differ if name in weighted]
            allowed = 0 if impossible else (1 - LEAST_AS_TABLE) * len(weighted)
        require(
            len(differ) <= allowed,
            expected=", ".join(f"{name}: {expected.devices[name]}" for name in differ[:3]),
            found=", ".join(f"{name}: {laid.devices.get(name, '–')}" for name in differ[:3]),
            look=_("labs/dla_support.toml gives the rule for each operator, with its source"),
        )
        wrong = [*stated.of_table(placement), *stated.of_method(placement)]
        require(
            not wrong,
            expected=_("a true account of the table and the method that placed the layers"),
            found="; ".join(wrong),
            look=_("run lab3_dla_fallback.py, which writes it"),
        )

    @pytest.mark.points(3)
    def test_layer_information_is_fp16(self, submission: Submission, layer_info: tuple[Layer, ...]) -> None:
        """The convolutions in the submitted layer_info.json compute in FP16, by their kernels' names and operands."""
        if names_only(layer_info):
            not_gradable(Cause.NOT_SUBMITTED, _("layer_info.json holds names only; {look}").format(look=DETAILED))
        found = told(submission, layer_info)
        proof = prove(layer_info, Precision.FP16)
        if not found.precisions or found.by_kernel < LEAST_BY_KERNEL * found.dense:
            not_gradable(
                Cause.NOT_SUBMITTED,
                _(
                    "layer_info.json tells the kernels of {count} convolutions only, and formats prove nothing; {look}"
                ).format(count=found.by_kernel, look=DETAILED),
            )
        told_as = str(proof)
        if found.belied:
            told_as += "; " + _(
                "{count} whose kernel's name tells a narrower type than their input and weights have: {names}"
            ).format(count=len(found.belied), names=", ".join(found.belied[:3]))
        require(
            found.share(Precision.FP16) >= LEAST_IN_FP16,
            expected=_("at least {least:.0%} of convolutions in FP16").format(least=LEAST_IN_FP16),
            found=told_as,
            look=_("build with --fp16, and export the layers of that engine"),
        )

    @pytest.mark.points(2)
    def test_layer_information_is_this_models(self, submission: Submission, layer_info: tuple[Layer, ...]) -> None:
        """The layers carry the names of the submitted model's convolutions, of all of them, and are listed once."""
        found = told(submission, layer_info)
        missing = found.missing
        require(
            not missing,
            expected=_("layers named after each of the model's convolutions"),
            found=_("{count} in no layer: {names}").format(count=len(missing), names=", ".join(missing[:3])),
            look=_("export the layers of an engine built from the model that you hand in"),
        )
        require(
            not found.repeated,
            expected=_("each layer of an engine once"),
            found=_("{count} listed more than once: {names}").format(
                count=len(found.repeated), names=", ".join(name[:80] for name in found.repeated[:3])
            ),
            look=_("hand in layer_info.json as trtexec wrote it"),
        )
        require(
            not found.crowded,
            expected=_("kernels that compute one convolution each, or a few"),
            found=_("one for all of {names}").format(names=found.crowded[0][:160] if found.crowded else ""),
            look=_("hand in layer_info.json as trtexec wrote it"),
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
        found = told(case.submission, layer_info)
        if found.missing or found.share(Precision.FP16) < LEAST_IN_FP16:
            not_gradable(Cause.EARLIER_FAILURE, _("these are no layers of this model in FP16"))
        nodes = [name for name, shape in weights if len(shape) > 2]
        ours, theirs = by_node(built(case, record).layers, nodes), found.precisions
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
