"""Lab 5: ResNet-18 trained with quantization in mind on CIFAR-10: accurate, and INT8 wherever it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trtverify.fixtures.answers.seeds import fresh_seed
from trtverify.fixtures.claims.case import Case, read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.function import FunctionClaims
from trtverify.fixtures.claims.onnx import OnnxClaims, answers
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import Labelled, Photos, find_labelled
from trtverify.fixtures.networks.models import RESNET18, RESNET18_QAT, Model
from trtverify.fixtures.quantization.scales import activation_use
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
# A weight scale of amax / 127 uses all of INT8. Clipping narrows it; twice as wide wastes a bit.
WEIGHT_RANGE = (0.4, 1.2)
# Thousands of images have larger extremes than this sample: 1.1 to 1.4 times. Cutting rare peaks is right too.
ACTIVATION_RANGE = (0.3, 1.6)
RANGE_IMAGES = 64
# Of scikit-learn's digits, which say nothing of CIFAR-10, so that a machine without images is done sooner.
STAND_IN_IMAGES = 500


@pytest.fixture(scope="module")
def held_out(submission: Submission, request: pytest.FixtureRequest) -> tuple[Labelled, dict[str, Any]]:
    """Test images that the network never saw, and its manifest."""
    manifest = submission.manifest("lab5", RESNET18_QAT.name) or {}
    source = str((manifest.get("data") or {}).get("source", ""))
    config = request.config
    count, stand_in = config.getoption("accuracy_images"), source.startswith("scikit-learn digits")
    if stand_in:
        count = min(count, STAND_IN_IMAGES)
    found = find_labelled(config.getoption("cifar10"), stand_in, count, fresh_seed(config))
    if found is None:
        not_gradable(Cause.DEPENDENCY_MISSING, _("no test images: give CIFAR-10's folder with --cifar10 DIR"))
    return found, manifest


def preprocessing(manifest: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation by channel that the manifest says the network takes."""
    described = manifest.get("preprocessing") or {}
    mean: Any = described.get("mean")
    std: Any = described.get("std")
    for values in (mean, std):
        if not (
            isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) and v > 0 for v in values)
        ):
            fail(
                expected=_("the manifest's preprocessing with a mean and a std for each channel"),
                found=str(described)[:80],
                look=_("run lab5_qat_resnet18_cifar10.py, whose manifest says it"),
            )
    return tuple(mean), tuple(std)


def accuracy(submission: Submission, model: Model, held: Labelled, manifest: dict[str, Any]) -> float:
    """Share of held-out images that the exported model itself, in ONNX Runtime, gives the right class."""
    path = read_graph(submission, "lab5", model.file).path
    images = held.normalised(*preprocessing(manifest))
    feeds = [{model.input[0]: images[part]} for part in held.batches(50)]
    outputs = answers(path, model, feeds)
    return float(np.mean(outputs.argmax(axis=1) == held.labels))


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
        layers = [layer for layer in graph.quantized if layer.operator == "Conv"]
        bare = [layer.node for layer in layers if layer.weight_scales is None or layer.input_scale is None]
        require(
            bool(layers) and not bare,
            expected=_("Q/DQ on input and weight of all {count} convolutions").format(count=len(layers)),
            found=_("{count} without: {names}").format(count=len(bare), names=", ".join(bare[:3])),
            look=_("was the model exported with fake quantization on? Float layers stay float in an INT8 engine"),
        )
        skewed = [layer.node for layer in layers if layer.zero_points]
        require(
            not skewed,
            expected=_("zero points of 0"),
            found=_("others at {names}").format(names=", ".join(skewed[:3])),
            look=_("use symmetric quantization: TensorRT takes no zero points"),
        )

    @pytest.mark.points(2)
    def test_scales_were_calibrated(self, submission: Submission) -> None:
        """Activation scales differ from layer to layer, and weight scales fit their weights."""
        graph = read_graph(submission, "lab5", self.model.file)
        activations = {layer.input_scale for layer in graph.quantized if layer.input_scale is not None}
        require(
            len(activations) > len(graph.quantized) // 4 and all(0 < s < np.inf for s in activations),
            expected=_("a scale for each tensor, positive and finite"),
            found=_("{count} different scales for {layers} layers").format(
                count=len(activations), layers=len(graph.quantized)
            ),
            look=_("let the observers see training images before freezing the scales"),
        )
        low, high = WEIGHT_RANGE
        ratios = np.array([layer.weight_use for layer in graph.quantized if layer.weight_use is not None])
        require(
            ratios.size > 0 and bool(np.all((ratios >= low) & (ratios <= high))),
            expected=_("weight scales of {low:g} to {high:g} times the largest weight / 127").format(
                low=low, high=high
            ),
            found=_("{least:.2f} to {most:.2f} times").format(
                least=ratios.min() if ratios.size else np.nan, most=ratios.max() if ratios.size else np.nan
            ),
            look=_("set each channel's weight scale from its largest weight"),
        )

    @pytest.mark.points(2)
    def test_activation_scales_fit(self, submission: Submission, held_out: tuple[Labelled, dict[str, Any]]) -> None:
        """The activations' scales hold what held-out images bring, and not much more."""
        held, manifest = held_out
        path = read_graph(submission, "lab5", self.model.file).path
        images = held.normalised(*preprocessing(manifest))[:RANGE_IMAGES]
        try:
            use = activation_use(path, [{self.model.input[0]: image[None]} for image in images])
        except ValueError as error:
            fail(
                expected=_("{file} to run in ONNX Runtime").format(file=self.model.file),
                found=str(error),
                look=_("polygraphy run {file} --onnxrt").format(file=self.model.file),
            )
        low, high = ACTIVATION_RANGE
        middle = float(np.median(list(use.values()))) if use else float("nan")
        require(
            low <= middle <= high,
            expected=_("activation scales of {low:g} to {high:g} times the largest value / 127, at the median").format(
                low=low, high=high
            ),
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
    def test_accuracy(self, submission: Submission, held_out: tuple[Labelled, dict[str, Any]]) -> None:
        """The exported INT8 model itself classifies held-out images, and loses little against its parent."""
        held, manifest = held_out
        if manifest.get("weights") == "untrained":
            not_gradable(Cause.UNTRAINED, _("the manifest claims no accuracy"))
        found = accuracy(submission, self.model, held, manifest)
        require(
            found >= LEAST_ACCURACY,
            expected=_("at least {least:.0%} of {count} held-out images right").format(
                least=LEAST_ACCURACY, count=len(held.labels)
            ),
            found=f"{found:.1%}",
            look=_("compare with the parent's accuracy: low too means training or preprocessing, else the scales"),
        )
        parent = accuracy(submission, RESNET18, held, manifest)
        require(
            found >= parent - LARGEST_LOSS,
            expected=_("within {loss:.0%} of the FP32 parent's {parent:.1%}").format(loss=LARGEST_LOSS, parent=parent),
            found=f"{found:.1%}",
            look=_("fine-tune longer with fake quantization, at a tenth of the learning rate"),
        )

    def images(self, case: Case, photos: Photos, seed: int) -> npt.NDArray[np.float32]:
        """The suite's held-out images, normalised as the manifest says."""
        manifest = case.submission.manifest("lab5", RESNET18_QAT.name) or {}
        source = str((manifest.get("data") or {}).get("source", ""))
        held = find_labelled(photos.cifar10, source.startswith("scikit-learn digits"), max(16, case.batch), seed)
        if held is None:
            return super().images(case, photos, seed)
        return held.normalised(*preprocessing(manifest))
