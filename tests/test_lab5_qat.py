"""Lab 5: ResNet-18 trained with quantization in mind on CIFAR-10: accurate, and INT8 wherever it computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trtverify.fixtures.answers.seeds import fresh_seed
from trtverify.fixtures.claims.case import Case, read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.onnx import OnnxClaims, answers
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.graphs.contents import read
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import Labelled, Photos, find_labelled
from trtverify.fixtures.networks.models import RESNET18, RESNET18_QAT, Model
from trtverify.fixtures.networks.normalisation import KNOWN, Normalisation, stated
from trtverify.fixtures.quantization.fit import CHUNK, Population, judge, powers_of_two, require_weights_fit
from trtverify.fixtures.quantization.scales import in_floating_point, of_activations
from trtverify.fixtures.quantization.symmetric import require_symmetric_int8
from trtverify.fixtures.report.record import Record
from trtverify.fixtures.submitted.curves import parse
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
# Training shows the observers CIFAR-10's 50,000 images: at the median layer their extremes are 1.1 to 1.4 times those
# of this sample. By how much at a layer with rare peaks, the sample's own tail says.
RANGE_IMAGES = 4 * CHUNK
WIDEST_AT_HALF = 1.6
MORE_IMAGES = 100
# To find the preprocessing that nobody stated: chance is a tenth, and a wrong one costs tens of per cent.
TRIED_IMAGES = 200
# Of scikit-learn's digits, which say nothing of CIFAR-10, so that a machine without images is done sooner.
STAND_IN_IMAGES = 500


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Test images that the network never saw, its manifest, and how it takes them."""

    labelled: Labelled
    manifest: dict[str, Any]
    normalisation: Normalisation

    @property
    def images(self) -> npt.NDArray[np.float32]:
        """Normalised, N×3×32×32."""
        return self.labelled.normalised(self.normalisation.mean, self.normalisation.std)


@pytest.fixture(scope="module")
def held_out(submission: Submission, request: pytest.FixtureRequest) -> HeldOut:
    """Test images that the network never saw, preprocessed as its manifest says, or as suits it best."""
    config = request.config
    labelled = _labelled(
        submission, config.getoption("cifar10"), config.getoption("accuracy_images"), fresh_seed(config)
    )
    if labelled is None:
        not_gradable(Cause.DEPENDENCY_MISSING, _("no test images: give CIFAR-10's folder with --cifar10 DIR"))
    manifest = submission.manifest("lab5", RESNET18_QAT.name) or {}
    return HeldOut(labelled, manifest, _normalisation(submission, labelled))


def _labelled(submission: Submission, cifar10: Path | None, count: int, seed: int) -> Labelled | None:
    """CIFAR-10 where the teacher gave it, whatever the manifest says; else the stand-in, for who trained on that."""
    manifest = submission.manifest("lab5", RESNET18_QAT.name) or {}
    data = manifest.get("data")
    source = str(data.get("source", "")) if isinstance(data, dict) else ""
    stand_in = cifar10 is None and source.startswith("scikit-learn digits")
    return find_labelled(cifar10, stand_in, min(count, STAND_IN_IMAGES) if stand_in else count, seed)


def _normalisation(submission: Submission, held: Labelled) -> Normalisation:
    """What the manifest states; where it states nothing, that of the known ones with which the network is right."""
    try:
        found = stated(submission.manifest("lab5", RESNET18_QAT.name) or {})
    except ValueError as error:
        fail(
            expected=_("the manifest's preprocessing with a mean and a std for each channel"),
            found=str(error),
            look=_("state what training used, three numbers each, or leave preprocessing out"),
        )
    return found or best_known(read_graph(submission, "lab5", RESNET18_QAT.file).path, held)


def best_known(path: Path, held: Labelled) -> Normalisation:
    """Of the usual ways to normalise CIFAR-10, the one with which the network gets most of a few images right."""
    few = dataclasses.replace(held, images=held.images[:TRIED_IMAGES], labels=held.labels[:TRIED_IMAGES])
    return max(KNOWN, key=lambda known: accuracy(path, RESNET18_QAT, few, known))


def accuracy(path: Path, model: Model, held: Labelled, normalisation: Normalisation) -> float:
    """Share of held-out images that the exported model itself, in ONNX Runtime, gives the right class."""
    images = held.normalised(normalisation.mean, normalisation.std)
    fixed = isinstance(read(path).inputs[0].shape[0], int)
    feeds = [{model.input[0]: images[part]} for part in held.batches(1 if fixed else 50)]
    outputs = answers(path, model, feeds)
    return float(np.mean(outputs.argmax(axis=1) == held.labels))


@pytest.mark.lab5
class TestParent(OnnxClaims):
    """The FP32 network that QAT started from."""

    model = RESNET18
    parity = 1e-3
    liveliness = 0.05


@pytest.mark.lab5
class TestQat(OnnxClaims, ClassifierClaims, SpeedupClaims):
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

    @pytest.mark.points(2)
    def test_batch_is_dynamic(self, submission: Submission) -> None:
        """`--shapes=input:1x3x32x32` can only work on a dynamic batch."""
        graph = read_graph(submission, "lab5", self.model.file)
        batch = graph.inputs[0].shape[0]
        require(
            not isinstance(batch, int),
            expected=_("a dynamic batch dimension"),
            found=str(batch),
            look=_("pass dynamic_axes={'input': {0: 'batch'}, 'output': {0: 'batch'}} to torch.onnx.export"),
        )

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

    @pytest.mark.points(2)
    def test_activation_scales_fit(self, submission: Submission, held_out: HeldOut) -> None:
        """The activations' scales hold what held-out images bring, and not much more."""
        graph = read_graph(submission, "lab5", self.model.file)
        scales = of_activations(graph.path)
        require(
            bool(scales),
            expected=_("a scale for each activation"),
            found=_("none"),
            look=_("was the model exported with fake quantization on? Float layers stay float in an INT8 engine"),
        )
        images = (image[None] for image in held_out.images[:RANGE_IMAGES])
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
    def test_curves_are_a_training(self, submission: Submission, record: Record) -> None:
        """The curves hold, for each epoch, its phase, its loss and the shares of images that were right."""
        path = submission.optional("lab5", "training_curves.json")
        try:
            record.curves.extend(parse(require_json(path)))
        except ValueError as error:
            fail(
                expected=_("{file} as lab 5 lays it out").format(file=path.name),
                found=str(error),
                look=_("run lab5_qat_resnet18_cifar10.py, which writes it"),
            )

    @pytest.mark.points(4)
    def test_accuracy(self, submission: Submission, held_out: HeldOut) -> None:
        """The exported INT8 model itself classifies held-out images, and loses little against its parent."""
        held = held_out.labelled
        if held_out.manifest.get("weights") == "untrained":
            not_gradable(Cause.UNTRAINED, _("the manifest claims no accuracy"))
        path = read_graph(submission, "lab5", self.model.file).path
        found = accuracy(path, self.model, held, held_out.normalisation)
        require(
            found >= LEAST_ACCURACY,
            expected=_("at least {least:.0%} of {count} held-out images right").format(
                least=LEAST_ACCURACY, count=len(held.labels)
            ),
            found=_("{found:.1%} of {source}, normalised with {normalisation}").format(
                found=found, source=held.source, normalisation=held_out.normalisation
            ),
            look=self._why(path, held_out),
        )
        parent = accuracy(read_graph(submission, "lab5", RESNET18.file).path, RESNET18, held, held_out.normalisation)
        require(
            found >= parent - LARGEST_LOSS,
            expected=_("within {loss:.0%} of the FP32 parent's {parent:.1%}").format(loss=LARGEST_LOSS, parent=parent),
            found=f"{found:.1%}",
            look=_("look at the scales first, then fine-tune longer, at a tenth of the learning rate"),
        )

    def _why(self, path: Path, held_out: HeldOut) -> str:
        """What to look at where too few images are right: the preprocessing, where another one is right."""
        held = held_out.labelled
        other = best_known(path, held)
        if other != held_out.normalisation and accuracy(path, self.model, held, other) >= LEAST_ACCURACY:
            return _("with {normalisation} it is right: state that as the manifest's preprocessing").format(
                normalisation=other
            )
        return _("compare with the parent's accuracy: low too means training or preprocessing, else the scales")

    def images(self, case: Case, photos: Photos, seed: int) -> npt.NDArray[np.float32]:
        """The suite's held-out images, normalised as the network takes them."""
        held = _labelled(case.submission, photos.cifar10, max(16, case.batch), seed)
        if held is None:
            return super().images(case, photos, seed)
        known = stated(case.submission.manifest("lab5", RESNET18_QAT.name) or {}) or KNOWN[0]
        return held.normalised(known.mean, known.std)
