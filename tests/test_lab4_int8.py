"""Lab 4: calibration data made of real images as the model takes them, and the INT8 engine it gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from trtverify.fixtures.answers.accuracy import agreement
from trtverify.fixtures.answers.seeds import fresh_seed
from trtverify.fixtures.claims.case import read_graph
from trtverify.fixtures.claims.classifier import ClassifierClaims
from trtverify.fixtures.claims.engine import LARGEST_SQNR_LOSS
from trtverify.fixtures.claims.onnx import answers
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.graphs.contents import Graph
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import IMAGENET_MEAN, IMAGENET_STD, Photos, is_among
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
from trtverify.fixtures.submitted.submission import Submission, suite_cache
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import CalibrationData, Precision
from trtverify.fixtures.words.verdict import Cause, fail, not_gradable, require

CACHE, INT8_GRAPH = "resnet50_int8.cache", "resnet50_int8.onnx"
REGENERATE = "python3 labs/lab4_generate_calib_data.py --out DIR"
# Fewer than this, and single images decide the scales.
LEAST_IMAGES = 32
LEAST_DISTINCT = 0.95
# What ImageNet's mean and deviation make of the darkest and the brightest pixel, by channel.
DARKEST = [(0 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
BRIGHTEST = [(1 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
MARGIN = 0.02
# Bicubic resizing overshoots: by a tenth of the range of pixels, at one in two hundred of a photograph enlarged twice.
# Channels exchanged after normalising lie beyond their range at one in a hundred or more.
FURTHEST, MOST_BEYOND = 0.15, 0.005
# Pixels of 0 to 255, whatever is subtracted or divided after; no mistake in mean and deviation alone comes here.
UNDIVIDED = 20.0
# Neighbouring pixels of photographs differ by 0.1 to 0.3 of an image's deviation; of white noise by 1.13.
ROUGHEST = 0.7
OWN_IMAGES = 32
HELD_IMAGES = 16
# 200 pairs of sets each of 32, 100, 200 and 500 of ImageNet's photographs against 32 others, with a trained ResNet-50,
# a trained MobileNetV2 and an untrained ResNet-50: at most 1.44 at the median layer, 1.86 at the worst.
LARGEST_SCALE_RATIO, LARGEST_AT_ANY_LAYER = 1.5, 2.5
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
            calibration.roughness <= ROUGHEST,
            expected=_("photographs, whose neighbouring pixels are alike (at most {most})").format(most=ROUGHEST),
            found=f"{calibration.roughness:.2f}",
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

    @pytest.mark.points(3)
    def test_preprocessing_is_the_models(self, calibration: CalibrationSet) -> None:
        """Scaled to 0–1, then mean and deviation, channels in RGB order."""
        look = _("preprocess as for inference: resize, crop, RGB, / 255, - mean, / std; see labs/images.py")
        channels = calibration.channels
        low, high = [channel.low for channel in channels], [channel.high for channel in channels]
        found = _("values from {low:.2f} to {high:.2f}").format(low=min(low), high=max(high))
        margins = [FURTHEST / deviation for deviation in IMAGENET_STD]
        inside = all(
            h <= b + m and v >= d - m for v, h, d, b, m in zip(low, high, DARKEST, BRIGHTEST, margins, strict=True)
        )
        require(
            max(high) <= UNDIVIDED,
            expected=_("values from {low:.2f} to {high:.2f}, as mean and deviation leave them").format(
                low=min(DARKEST), high=max(BRIGHTEST)
            ),
            found=_("{range}: not divided by 255?").format(range=found),
            look=look,
        )
        require(
            min(low) < -MARGIN,
            expected=_("negative values where pixels are darker than the mean"),
            found=_("{range}: mean and deviation were not applied").format(range=found),
            look=look,
        )
        require(
            not all(abs(v + 1) < MARGIN and abs(h - 1) < MARGIN for v, h in zip(low, high, strict=True)),
            expected=_("ImageNet's mean and deviation"),
            found=_("{range} in every channel: a mean and a deviation of 0.5").format(range=found),
            look=look,
        )
        exchanged = max(_beyond(calibration, DARKEST, BRIGHTEST)) > MOST_BEYOND
        swapped = max(_beyond(calibration, DARKEST[::-1], BRIGHTEST[::-1])) <= MOST_BEYOND
        require(
            not (exchanged and swapped),
            expected=_("each channel within its own range, RGB: {ranges}").format(
                ranges=", ".join(f"{d:.2f}…{b:.2f}" for d, b in zip(DARKEST, BRIGHTEST, strict=True))
            ),
            found=", ".join(f"{a:.2f}…{b:.2f}" for a, b in zip(low, high, strict=True)),
            look=_("are the channels in BGR order, as OpenCV reads them? {look}").format(look=look),
        )
        require(
            inside and not exchanged,
            expected=_("values from {low:.2f} to {high:.2f}, as mean and deviation leave them").format(
                low=min(DARKEST), high=max(BRIGHTEST)
            ),
            found=_("{range}, and {share:.1%} of a channel beyond its own range").format(
                range=found, share=max(_beyond(calibration, DARKEST, BRIGHTEST))
            ),
            look=_("another mean and deviation than ImageNet's? {look}").format(look=look),
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
        used = [path.name for path, found in photos.known(RESNET50) if is_among(found, calibration.signatures)]
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


def _beyond(calibration: CalibrationSet, darkest: Sequence[float], brightest: Sequence[float]) -> list[float]:
    """The share of each channel's pixels that lie clearly beyond a range of its own."""
    starts = FIRST_BIN + BIN_WIDTH * np.arange(len(calibration.histogram[0]))
    shares = []
    for counts, low, high in zip(calibration.histogram, darkest, brightest, strict=True):
        outside = (starts >= high + MARGIN) | (starts + BIN_WIDTH <= low - MARGIN)
        shares.append(float(np.sum(np.array(counts)[outside])) / max(sum(counts), 1))
    return shares
