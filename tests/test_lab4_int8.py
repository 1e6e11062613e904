"""Lab 4: calibration data made of real images as the model takes them, and the INT8 engine it gives."""

from __future__ import annotations

import itertools
from itertools import islice
from pathlib import Path

import pytest

from trtverify.fixtures.answers.accuracy import agreement
from trtverify.fixtures.answers.carried import INT8
from trtverify.fixtures.answers.seeds import fresh_seed
from trtverify.fixtures.claims.case import read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.engine import LARGEST_SQNR_LOSS
from trtverify.fixtures.claims.function import computes, has_weights_of, inputs
from trtverify.fixtures.claims.onnx import answers
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.graphs.contents import Graph
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import IMAGENET_MEAN, IMAGENET_STD, Photos
from trtverify.fixtures.networks.likeness import of_photograph
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.quantization.fit import Population, judge, require_weights_fit
from trtverify.fixtures.quantization.quantized import Quantize
from trtverify.fixtures.quantization.ranges import watching
from trtverify.fixtures.quantization.scales import (
    in_floating_point,
    of_activations,
    of_cache,
    of_layers,
    ratios,
    read_by_layers,
)
from trtverify.fixtures.quantization.symmetric import require_symmetric_int8
from trtverify.fixtures.report.record import CalibrationRow, Record
from trtverify.fixtures.submitted.calibration import BIN_WIDTH, FIRST_BIN, CalibrationSet, own, read_set
from trtverify.fixtures.submitted.manifests import of_calibration
from trtverify.fixtures.submitted.submission import Submission, suite_cache
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import CalibrationData, Precision
from trtverify.fixtures.words.verdict import Cause, fail, not_gradable, require

CACHE, INT8_GRAPH = "resnet50_int8.cache", "resnet50_int8.onnx"
REGENERATE = "python3 labs/lab4_generate_calib_data.py --out DIR"
# Fewer than this, and single images decide the scales.
LEAST_IMAGES = 32
LEAST_DISTINCT = 0.95
# As much as 32 images tell of which 5 % repeat another. A burst of three counts as one; honest near-duplicates may be
# two thirds of 96 images.
LEAST_INDEPENDENT = 29.0
# What ImageNet's mean and deviation make of the darkest and the brightest pixel, by channel.
DARKEST = [(0 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
BRIGHTEST = [(1 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
# One photograph in two hundred looks like a random field: over a quarter of 32 by chance once in 10^12 sets. A few
# that are none move no scale far, so less than a quarter passes.
MOST_FIELDS = 0.25
OWN_IMAGES = 32
HELD_IMAGES = 16
# Each scale lies between what the usual image brings and twice that (`graphs/calibrate.py`): two sets whose usual
# images are alike give scales within a factor of 2, whatever their size. 200 pairs of sets each of 32, 100, 200 and 500
# of ImageNet's photographs against 32 others, with a trained ResNet-50 and MobileNetV2 and an untrained ResNet-50:
# at most 1.44 at the median layer, 1.86 at the worst; crops of two photographs, 1.52. What changes the usual image by
# less than that is for the claims about the pixels.
LARGEST_SCALE_RATIO, LARGEST_AT_ANY_LAYER = 2.0, 2.5
# How many times as many photographs as are run here an INT8 graph may have been calibrated with: NVIDIA says 500.
MORE_IMAGES = 8


@pytest.fixture(scope="module")
def calibration(submission: Submission, record: Record) -> CalibrationSet:
    """The submitted calibration data, read once and noted in the record."""
    found = read_set(submission, RESNET50)
    record.calibrations.append(
        CalibrationRow("lab4", found.images, found.distinct, FIRST_BIN, BIN_WIDTH, found.histogram)
    )
    return found


@pytest.fixture(scope="module")
def ours(photos: Photos, request: pytest.FixtureRequest) -> CalibrationData:
    """The suite's own calibration data, always the same."""
    return own(photos, RESNET50, OWN_IMAGES, 1, suite_cache(request.config) / "own" / RESNET50.name)


@pytest.mark.lab4
class TestCalibrationData:
    """What is in `calibration_data/`, before anything is built with it."""

    @pytest.mark.points(2)
    def test_images_are_sound(self, calibration: CalibrationSet) -> None:
        """Finite, not flat, and photographs, not noise."""
        look = _("run {command} on a folder of photographs").format(command=REGENERATE)
        require(calibration.finite, expected=_("finite pixels"), found=_("NaN or infinity"), look=look)
        require(
            calibration.flat == 0,
            expected=_("no image of one colour"),
            found=_("{count} of {images}").format(count=calibration.flat, images=calibration.images),
            look=look,
        )
        require(
            calibration.fields <= MOST_FIELDS * calibration.images,
            expected=_("photographs: detail, edges, and neighbouring pixels that are alike"),
            found=_("{count} of {images} images are noise, gradients or smooth random fields").format(
                count=calibration.fields, images=calibration.images
            ),
            look=_("random noise calibrates an engine that looks fast and answers wrong; {look}").format(look=look),
        )

    @pytest.mark.points(1)
    def test_enough_images(self, calibration: CalibrationSet) -> None:
        """Enough images, and not one image many times."""
        require(
            calibration.images >= LEAST_IMAGES,
            expected=_("at least {least} images").format(least=LEAST_IMAGES),
            found=str(calibration.images),
            look=_("pass --count, and a folder with more photographs with --data"),
        )
        require(
            calibration.distinct >= LEAST_DISTINCT * calibration.images,
            expected=_("at least {least:.0%} of them distinct").format(least=LEAST_DISTINCT),
            found=_("{distinct} of {images}").format(distinct=calibration.distinct, images=calibration.images),
            look=_("a repeated image teaches the calibrator nothing new; add photographs"),
        )
        require(
            calibration.independent >= LEAST_INDEPENDENT,
            expected=_("as much as {least:g} different photographs tell").format(least=LEAST_INDEPENDENT),
            found=_("as much as {found:.1f}: images that are one photograph but for noise or brightness").format(
                found=calibration.independent
            ),
            look=_("a repeated image teaches the calibrator nothing new; add photographs"),
        )

    @pytest.mark.points(3)
    def test_preprocessing_is_the_models(self, calibration: CalibrationSet) -> None:
        """Scaled to 0–1, then mean and deviation, channels in RGB order."""
        look = _("preprocess as for inference: resize, crop, RGB, / 255, - mean, / std; see labs/images.py")
        require(
            calibration.preprocessing is None,
            expected=_("pixels / 255, less the mean, over the deviation, RGB: {ranges}").format(
                ranges=", ".join(f"{d:.2f}…{b:.2f}" for d, b in zip(DARKEST, BRIGHTEST, strict=True))
            ),
            found=_("{what}; values {ranges}").format(
                what=calibration.preprocessing,
                ranges=", ".join(f"{channel.low:.4g}…{channel.high:.4g}" for channel in calibration.channels),
            ),
            look=look,
        )

    @pytest.mark.points(1)
    def test_calibration_manifest_is_true(self, calibration: CalibrationSet) -> None:
        """What the manifest says of the batches holds: lab and network, how many, their hashes, the arithmetic."""
        if calibration.manifest is None:
            not_gradable(Cause.NOT_SUBMITTED, _("no manifest was handed in"))
        wrong = list(islice(of_calibration(calibration.manifest, calibration, RESNET50), 3))
        require(
            not wrong,
            expected=_("a manifest of these batches, true in what can be checked"),
            found="; ".join(wrong),
            look=_("run {command}").format(command=REGENERATE),
        )

    @pytest.mark.points(2)
    def test_images_are_no_test_images(self, calibration: CalibrationSet, photos: Photos) -> None:
        """None of them is kept for measuring: an engine calibrated on those looks better than it is."""
        split = str((calibration.manifest or {}).get("split", "calibration"))[:20]
        look = _("calibrate with training images: those of the test split measure what came of it")
        require(
            split not in ("test", "val", "validation"),
            expected=_("images of another split than the test images"),
            found=split,
            look=look,
        )
        if not photos.test_split:
            not_gradable(Cause.DEPENDENCY_MISSING, _("no test images are known: give a folder with test/ as --photos"))
        used = [path.name for path, photo in photos.known() if of_photograph(photo, calibration.signatures).any()]
        require(
            not used,
            expected=_("no image of the test split"),
            found=_("{count} of them: {names}").format(count=len(used), names=", ".join(used[:3])),
            look=look,
        )


@pytest.mark.lab4
class TestCalibrationCache:
    """What a calibration cache holds, where one was handed in. Engines are calibrated anew, whatever it says."""

    @pytest.mark.points(2)
    def test_cache_scales_are_the_models(self, submission: Submission, calibration: CalibrationSet) -> None:
        """Its provenance names this model and these images, and its scales fit what these bring to each tensor."""
        cache = submission.optional("lab4", CACHE)
        path = read_graph(submission, "lab1", RESNET50.file).path
        try:
            found = of_cache(cache, path, calibration.data)
        except (ValueError, OSError) as error:
            fail(
                expected=_("a calibration cache of this model from these images"),
                found=str(error),
                look=_("rm the cache, calibrate again, then: {command}").format(command=f"{REGENERATE} --seal"),
            )
        with watching(load(path), found, RESNET50.input[0]) as watch:
            judge(watch, found, read_by_layers(path), calibration.data.images(), Population(known=True))


@pytest.mark.lab4
class TestInt8(ClassifierClaims, SpeedupClaims):
    """ResNet-50 in INT8, calibrated with the submitted images."""

    lab = "lab4"
    model = RESNET50
    precisions = (Precision.INT8,)
    baselines = (Precision.FP32, Precision.TF32, Precision.FP16)
    gpu_precisions = (Precision.FP16,)
    larger_batch = 32
    # FP16: 38 to 46 dB with lab 1's weights, 28 to 34 with others drawn at random. INT8: noise of a tenth of the
    # signal's power, where good calibration leaves a thirtieth or less; more where the suite's own Q/DQ do no better.
    sqnr = {Precision.FP16: 20.0, Precision.INT8: 10.0}
    # Noise picks among classes that tie, which counts as the same; of eight photographs one may still tip.
    classes = {Precision.FP16: (0.99, 0.99), Precision.INT8: (0.85, 0.85)}

    @pytest.mark.points(2)
    def test_int8_graph_is_int8(self, submission: Submission) -> None:
        """A graph handed in as INT8 carries Q/DQ at every convolution; without, it would be calibrated anew."""
        graph = _int8_graph(submission)
        require_symmetric_int8(graph)
        require_weights_fit(graph)

    @pytest.mark.points(2)
    def test_int8_graph_scales_fit(
        self, submission: Submission, calibration: CalibrationSet, ours: CalibrationData
    ) -> None:
        """Its activations' scales hold what photographs bring to each tensor, and not much more."""
        graph = _int8_graph(submission)
        scales = of_activations(graph.path)
        if not scales:
            not_gradable(Cause.EARLIER_FAILURE, _("it has no scales of activations"))
        # The suite's own first: they decide what is cut off, whatever was handed in as calibration data.
        images = itertools.chain(ours.images(), calibration.data.images())
        try:
            with in_floating_point(graph.path, graph.inputs[0].name) as (watch, read):
                judge(watch, scales, read, images, Population(known=False, times=MORE_IMAGES))
        except ValueError as error:
            fail(
                expected=_("{file} to run in ONNX Runtime").format(file=INT8_GRAPH),
                found=str(error),
                look=_("polygraphy run {file} --onnxrt").format(file=INT8_GRAPH),
            )

    @pytest.mark.points(2)
    def test_int8_graph_is_the_network(self, submission: Submission, request: pytest.FixtureRequest) -> None:
        """A graph handed in as INT8 computes ResNet-50 with the model's own weights, but for rounding."""
        path = read_graph(submission, self.lab, submission.optional(self.lab, INT8_GRAPH).name).path
        computes(path, self.model, *inputs(self.model, request))
        has_weights_of(path, read_graph(submission, "lab1", self.model.file).path, self.model, INT8)

    @pytest.mark.points(3)
    def test_scales_are_plausible(
        self, submission: Submission, calibration: CalibrationSet, ours: CalibrationData, quantized: Quantize
    ) -> None:
        """The scales that these images give are those that the suite's own images give."""
        path = read_graph(submission, "lab1", RESNET50.file).path
        different = ratios(of_layers(_scaled(quantized, path, calibration)), of_layers(quantized(path, ours)))
        middle = float(np.median(list(different.values()))) if different else float("nan")
        worst = max(different, key=lambda name: different[name], default="")
        look = _("the images do not look to the model as photographs do: compare their preprocessing")
        require(
            middle <= LARGEST_SCALE_RATIO,
            expected=_("scales within {most:g} times of those from other photographs, at half the layers").format(
                most=LARGEST_SCALE_RATIO
            ),
            found=_("{ratio:.2f} times").format(ratio=middle),
            look=look,
        )
        require(
            different[worst] <= LARGEST_AT_ANY_LAYER,
            expected=_("scales within {most:g} times of those from other photographs, at every layer").format(
                most=LARGEST_AT_ANY_LAYER
            ),
            found=_("{ratio:.2f} times at {layer}").format(ratio=different[worst], layer=worst),
            look=look,
        )

    @pytest.mark.points(3)
    def test_int8_answers_as_well_as_it_could(
        self,
        submission: Submission,
        calibration: CalibrationSet,
        ours: CalibrationData,
        quantized: Quantize,
        photos: Photos,
        request: pytest.FixtureRequest,
    ) -> None:
        """On held-out photographs, INT8 with these scales is as close to FP32 as with the suite's own."""
        path = read_graph(submission, "lab1", RESNET50.file).path
        try:
            held = photos.batch(RESNET50, HELD_IMAGES, fresh_seed(request.config), unlike=calibration.signatures)
        except ValueError as error:
            not_gradable(Cause.DEPENDENCY_MISSING, str(error))
        feeds = [{"input": image[None]} for image in held]
        exact = answers(path, RESNET50, feeds)
        require(
            bool(np.isfinite(exact).all()),
            expected=_("finite answers of {file}").format(file=RESNET50.file),
            found=_("NaN or infinity"),
            look=_("its weights or activations overflow: no calibration mends that; look at lab 1"),
        )
        found, best = (
            agreement(exact, answers(graph, RESNET50, feeds), within=True).sqnr_db
            for graph in (_scaled(quantized, path, calibration), quantized(path, ours))
        )
        require(
            found >= best - LARGEST_SQNR_LOSS,
            expected=_("at least {least:.1f} dB between answers and quantization noise").format(
                least=best - LARGEST_SQNR_LOSS
            ),
            found=_("{found:.1f} dB, where the suite's own images give {ours:.1f} dB").format(found=found, ours=best),
            look=_("calibrate with images like those the model will see, preprocessed in the same way"),
        )


def _int8_graph(submission: Submission) -> Graph:
    """The graph that was handed in as INT8; ungraded where none was."""
    return read_graph(submission, "lab4", submission.optional("lab4", INT8_GRAPH).name)


def _scaled(quantized: Quantize, path: Path, calibration: CalibrationSet) -> Path:
    """The model quantized with the submitted images; fails the test where they cannot choose a scale."""
    try:
        return quantized(path, calibration.data)
    except ValueError as error:
        fail(
            expected=_("images that can calibrate {file}").format(file=RESNET50.file),
            found=str(error),
            look=_("run {command} on a folder of photographs").format(command=REGENERATE),
        )
