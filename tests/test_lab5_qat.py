"""Lab 5: ResNet-18 trained with quantization in mind on CIFAR-10: accurate, and INT8 wherever it computes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from trtverify.fixtures.answers.function import candidates
from trtverify.fixtures.claims.case import Case, read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.function import FunctionClaims
from trtverify.fixtures.claims.held_out import (
    HeldOut,
    comparable,
    held_out,
    said_normalisation,
    says_digits,
    why_so_few,
)
from trtverify.fixtures.claims.onnx import OnnxClaims
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.computed.plain import plain
from trtverify.fixtures.computed.unchanged import share_unchanged
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import Photos, find_labelled
from trtverify.fixtures.networks.described import forms
from trtverify.fixtures.networks.models import RESNET18, RESNET18_QAT, Model
from trtverify.fixtures.quantization.fit import CHUNK, Population, judge, powers_of_two, require_weights_fit
from trtverify.fixtures.quantization.scales import in_floating_point, of_activations
from trtverify.fixtures.quantization.symmetric import require_symmetric_int8
from trtverify.fixtures.report.record import Record
from trtverify.fixtures.submitted.curves import OtherLayoutError, against, doubts, parse
from trtverify.fixtures.submitted.manifests import accuracy, counted, most_apart
from trtverify.fixtures.submitted.strict_json import require_json
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import Precision
from trtverify.fixtures.words.verdict import Cause, fail, not_gradable, require

if TYPE_CHECKING:
    import numpy.typing as npt

# The course: 70–80 % after five epochs. Less is not learning, or not the test images' preprocessing.
LEAST_ACCURACY = 0.70
# What INT8 may cost against the float parent. On 1,000 images one standard error of the difference is about half a
# point, as the two agree on nearly every image.
LARGEST_LOSS = 0.02
# In the layer where fewest are, 69 to 87 % of the INT8 weights were the parent's, rounded, after each of six
# trainings, some very short; without any all are, but for what folding a BatchNorm rounds.
UNCHANGED = 0.999
# Training shows the observers CIFAR-10's 50,000 images: at the median layer their extremes are 1.1 to 1.4 times those
# of this sample. By how much at a layer with rare peaks, the sample's own tail says.
RANGE_IMAGES = 4 * CHUNK
WIDEST_AT_HALF = 1.6
MORE_IMAGES = 100
# What an accuracy of somebody's own rests on at least, where nothing says on how many images.
LEAST_TEST_IMAGES = 188


@pytest.fixture(scope="module")
def held(submission: Submission, request: pytest.FixtureRequest) -> HeldOut:
    """Test images that the network never saw, as it takes them."""
    return held_out(submission, request.config)


@pytest.mark.lab5
class TestParent(OnnxClaims, FunctionClaims):
    """The FP32 network that QAT started from."""

    model = RESNET18
    parity = 1e-3
    liveliness = 0.05


@pytest.mark.lab5
class TestQat(OnnxClaims, FunctionClaims, ClassifierClaims, SpeedupClaims):
    """The network with Q/DQ in its graph, and the INT8 engine that a builder makes of it."""

    lab = "lab5"
    model = RESNET18_QAT
    precisions = (Precision.INT8,)
    baselines = (Precision.FP32, Precision.TF32, Precision.FP16)
    larger_batch = 256
    # Fake quantization in the framework and Q/DQ in ONNX Runtime round the same, but a sum in another order can
    # tip a value to the next step.
    parity = 0.3
    liveliness = 0.05
    sqnr = {Precision.INT8: 20.0}
    classes = {Precision.INT8: (0.85, 0.99)}

    @pytest.mark.points(3)
    def test_every_convolution_is_quantized(self, submission: Submission) -> None:
        """Input and weight of every convolution pass through Q/DQ, symmetric, as TensorRT needs them."""
        graph = read_graph(submission, "lab5", self.model.file)
        require_symmetric_int8(graph)

    @pytest.mark.points(2)
    def test_scales_were_calibrated(self, submission: Submission) -> None:
        """Weight scales fit their weights, channel by channel."""
        graph = read_graph(submission, "lab5", self.model.file)
        require(
            any(layer.weight is not None and layer.weight.scales for layer in graph.quantized),
            expected=_("weights with scales"),
            found=_("none"),
            look=_("was the model exported with fake quantization on? Float layers stay float in an INT8 engine"),
        )
        require_weights_fit(graph)

    @pytest.mark.points(1)
    def test_weights_differ_from_the_parents(self, submission: Submission) -> None:
        """Fine-tuning lies between the two files: the INT8 weights are not all the parent's, rounded."""
        child = read_graph(submission, "lab5", self.model.file).path
        parent = submission.optional("lab5", RESNET18.file)
        manifest = submission.manifest("lab5", self.model.name)
        networks = []
        for path in (parent, child):
            try:
                found = next(candidates(plain(path, self.model.output[0]), forms(self.model)), None)
            except ValueError as error:
                not_gradable(Cause.EARLIER_FAILURE, f"{path.name}: {error}")
            if found is None:
                not_gradable(
                    Cause.EARLIER_FAILURE, _("{file} has other layers than its network").format(file=path.name)
                )
            networks.append(found)
        if share_unchanged(networks[0].network, networks[0].layers, networks[1].layers) < UNCHANGED:
            return
        if manifest is None or manifest.get("weights") != "trained":
            not_gradable(
                Cause.UNTRAINED, _("the INT8 weights are the parent's, rounded, and no manifest calls them trained")
            )
        fail(
            expected=_("weights that fine-tuning changed, as the manifest says: trained"),
            found=_("in every layer of {file} those of {parent}, rounded").format(file=child.name, parent=parent.name),
            look=_(
                "keep the network in FP32 before fine-tuning starts, train with fake quantization on, export it then"
            ),
        )

    @pytest.mark.points(2)
    def test_activation_scales_fit(self, submission: Submission, held: HeldOut) -> None:
        """The activations' scales hold what held-out images bring, and not much more."""
        graph = read_graph(submission, "lab5", self.model.file)
        scales = of_activations(graph.path)
        require(
            bool(scales),
            expected=_("a scale for each activation"),
            found=_("none"),
            look=_("was the model exported with fake quantization on? Float layers stay float in an INT8 engine"),
        )
        images = (image[None] for image in held.normalised()[:RANGE_IMAGES])
        try:
            with in_floating_point(graph.path, graph.inputs[0].name) as (watch, read_by):
                judge(watch, scales, read_by, images, Population(known=False, times=MORE_IMAGES))
                ranges = watch.ranges()
        except ValueError as error:
            fail(
                expected=_("{file} to run in ONNX Runtime").format(file=self.model.file),
                found=str(error),
                look=_("polygraphy run {file} --onnxrt").format(file=self.model.file),
            )
        wide = [127 * scale / ranges[name].peak for name, scale in scales.items() if ranges[name].peak > 0]
        most = WIDEST_AT_HALF * (2 if powers_of_two(scales.values()) else 1)
        middle = float(np.median(wide)) if wide else float("nan")
        require(
            middle <= most,
            expected=_(
                "activation scales of at most {most:g} times the largest value / 127, at half the tensors"
            ).format(most=most),
            found=_("{ratio:.2f} times").format(ratio=middle),
            look=_("take the ranges from images that are preprocessed as for inference, then freeze the scales"),
        )

    @pytest.mark.points(1)
    def test_curves_are_a_training(
        self, submission: Submission, record: Record, request: pytest.FixtureRequest
    ) -> None:
        """The curves are those of a training that ended in fine-tuning, and in the network that was handed in."""
        path = submission.optional("lab5", "training_curves.json")
        document = require_json(path, dict | list)
        try:
            rows = parse(document)
        except OtherLayoutError as error:
            not_gradable(
                Cause.NOT_SUBMITTED,
                _("{file} is laid out otherwise than lab 5 does: {where}; see the students' README").format(
                    file=path.name, where=error
                ),
            )
        except ValueError as error:
            fail(
                expected=_("{file} as lab 5 lays it out").format(file=path.name),
                found=str(error),
                look=_("run lab5_qat_resnet18_cifar10.py, which writes it"),
            )
        record.curves.extend(rows)
        look = _("write a row after each epoch, in both phases, from what was measured in it")
        wrong = list(islice(doubts(rows), 3))
        require(not wrong, expected=_("the epochs of one training"), found="; ".join(wrong), look=look)
        if not comparable(submission, request.config):
            return
        held: HeldOut = request.getfixturevalue("held")
        images = counted(document.get("data") if isinstance(document, dict) else None, "test_images", LEAST_TEST_IMAGES)
        other = against(rows, held.accuracy(submission, self.model), len(held.images.labels), images)
        require(
            other is None, expected=_("curves that end at the accuracy of the network"), found=str(other), look=look
        )

    @pytest.mark.points(4)
    def test_accuracy(self, submission: Submission, held: HeldOut) -> None:
        """The exported INT8 model itself classifies held-out images, and loses little against its parent."""
        found = held.accuracy(submission, self.model)
        if found < LEAST_ACCURACY and held.manifest.get("weights") == "untrained" and held.digits:
            not_gradable(Cause.UNTRAINED, _("the manifest claims no accuracy"))
        require(
            found >= LEAST_ACCURACY,
            expected=_("at least {least:.0%} of {count} held-out images right").format(
                least=LEAST_ACCURACY, count=len(held.images.labels)
            ),
            found=_("{found:.1%} of {source}, normalised with {normalisation}").format(
                found=found, source=held.images.source, normalisation=held.normalisation
            ),
            look=why_so_few(submission, held, LEAST_ACCURACY),
        )
        parent = held.accuracy(submission, RESNET18)
        require(
            found >= parent - LARGEST_LOSS,
            expected=_("within {loss:.0%} of the FP32 parent's {parent:.1%}").format(loss=LARGEST_LOSS, parent=parent),
            found=f"{found:.1%}",
            look=_("look at the scales first, then fine-tune longer, at a tenth of the learning rate"),
        )

    @pytest.mark.points(1)
    @pytest.mark.parametrize("model", [RESNET18, RESNET18_QAT], ids=lambda model: model.name)
    def test_accuracy_is_as_claimed(self, submission: Submission, model: Model, request: pytest.FixtureRequest) -> None:
        """A manifest that gives an accuracy gives the one that is measured, as far as samples of images tell."""
        manifest = submission.manifest("lab5", model.name) or {}
        claimed = accuracy(manifest.get("accuracy"))
        if claimed is None:
            not_gradable(Cause.NOT_SUBMITTED, _("the manifest claims no accuracy"))
        if not comparable(submission, request.config):
            not_gradable(Cause.DEPENDENCY_MISSING, _("no test images of what the network was trained on"))
        held: HeldOut = request.getfixturevalue("held")
        images = len(held.images.labels)
        found = held.accuracy(submission, model)
        apart = most_apart(claimed, found, images, counted(manifest.get("data"), "test_images", LEAST_TEST_IMAGES))
        require(
            abs(claimed - found) <= apart,
            expected=_("within {apart:.1%} of the {found:.1%} that {images} held-out images give").format(
                apart=apart, found=found, images=images
            ),
            found=_("the manifest says {claimed:.1%}").format(claimed=claimed),
            look=_("measure the exported file itself, on images that it was not trained on"),
        )

    def images(self, case: Case, photos: Photos, seed: int, count: int = 16) -> npt.NDArray[np.float32]:
        """The suite's held-out images, normalised as the manifest says."""
        manifest = case.submission.manifest("lab5", RESNET18_QAT.name) or {}
        digits = photos.cifar10 is None and says_digits(manifest)
        held = find_labelled(photos.cifar10, digits, max(count, case.batch), seed)
        normalisation = said_normalisation(manifest)
        if held is None or normalisation is None:
            return super().images(case, photos, seed, count)
        return held.normalised(normalisation.mean, normalisation.std)
