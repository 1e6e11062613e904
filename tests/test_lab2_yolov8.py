"""Lab 2: ultralytics' YOLOv8n at 640×640, FP32 against FP16: the same boxes, about twice as fast."""

from __future__ import annotations

import math

import pytest

from trtverify.fixtures.answers.carried import FP16
from trtverify.fixtures.answers.detection import drawn_alike
from trtverify.fixtures.answers.seeds import fresh_seed
from trtverify.fixtures.claims.case import Case, read_graph
from trtverify.fixtures.claims.function import FunctionClaims, computes, has_weights_of, inputs
from trtverify.fixtures.claims.interface import computing_in_fp32, misfit
from trtverify.fixtures.claims.onnx import OnnxClaims, answers
from trtverify.fixtures.claims.speedup import SpeedupClaims
from trtverify.fixtures.claims.steps import built, compared
from trtverify.fixtures.later import np
from trtverify.fixtures.networks.datasets import Photos
from trtverify.fixtures.networks.models import YOLOV8N
from trtverify.fixtures.report.record import Record
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import Precision
from trtverify.fixtures.words.verdict import Cause, fail, not_gradable, require

PHOTOS = 4
# Of the boxes drawn, at least this share must be in both outputs, at 90 % overlap and of the same class.
LEAST_MATCHED = {Precision.FP32: 0.99, Precision.TF32: 0.95, Precision.FP16: 0.9}


@pytest.mark.lab2
class TestYoloV8n(OnnxClaims, FunctionClaims, SpeedupClaims):
    """FP32 (and what TensorRT calls so, TF32) and FP16 engines of one model."""

    lab = "lab2"
    model = YOLOV8N
    precisions = (Precision.FP32, Precision.TF32, Precision.FP16)
    gpu_precisions = (Precision.INT8,)
    baselines = (Precision.FP32, Precision.TF32)
    larger_batch = 8
    parity = 1e-3
    liveliness = 0.001
    sqnr = {Precision.FP32: 60.0, Precision.TF32: 20.0, Precision.FP16: 20.0, Precision.INT8: 10.0}
    rounds = 50

    @pytest.mark.points(1)
    def test_boxes_come_before_scores(self, submission: Submission, photos: Photos) -> None:
        """The first four rows are box centres and sizes in pixels, the other eighty are scores from 0 to 1."""
        path = read_graph(submission, self.lab, self.model.file).path
        output = answers(path, self.model, [{"images": photos.batch(self.model, 1, 0)}])[0]
        boxes, scores = output[:4], output[4:]
        inside = float(np.mean((boxes > -64) & (boxes < 704)))
        require(
            float(boxes.max()) > 1.5 and inside > 0.99 and float(scores.min()) >= 0 and float(scores.max()) <= 1,
            expected=_("rows 0–3 in pixels of a 640×640 image, rows 4–83 between 0 and 1"),
            found=_("rows 0–3 in [{a:.3g}, {b:.3g}], rows 4–83 in [{c:.3g}, {d:.3g}]").format(
                a=boxes.min(), b=boxes.max(), c=scores.min(), d=scores.max()
            ),
            look=_("export the detection head whole, boxes first, as ultralytics does"),
        )

    @pytest.mark.points(2)
    def test_fp16_graph_is_fp16(self, submission: Submission) -> None:
        """A graph handed in as FP16 computes in FP16, whatever its inputs and outputs are in."""
        path = submission.optional(self.lab, "yolov8n_fp16.onnx")
        graph = read_graph(submission, self.lab, path.name)
        for problem in (computing_in_fp32(path), misfit(graph, self.model, fp16=True)):
            if problem is not None:
                fail(expected=problem.expected, found=problem.found, look=problem.look)

    @pytest.mark.points(2)
    def test_fp16_graph_is_the_network(self, submission: Submission, request: pytest.FixtureRequest) -> None:
        """A graph handed in as FP16 computes the network with the model's own weights, but for rounding."""
        path = read_graph(submission, self.lab, submission.optional(self.lab, "yolov8n_fp16.onnx").name).path
        computes(path, self.model, *inputs(self.model, request))
        has_weights_of(path, read_graph(submission, self.lab, self.model.file).path, self.model, FP16)

    @pytest.mark.points(3)
    def test_boxes_match(self, case: Case, photos: Photos, record: Record, request: pytest.FixtureRequest) -> None:
        """On real photographs the engine draws the boxes that ONNX Runtime FP32 draws."""
        case.need_running()
        if case.precision not in LEAST_MATCHED:
            not_gradable(Cause.NO_BAND, _("no limit is known for {case}").format(case=case))
        batch = photos.batch(self.model, max(PHOTOS, case.batch), fresh_seed(request.config))
        result = compared(case, built(case, record), case.reference(), batch, math.inf)
        share, least = drawn_alike(result.reference, result.found), LEAST_MATCHED[case.precision]
        require(
            share >= least,
            expected=_("at least {least:.0%} of boxes matched").format(least=least),
            found=f"{share:.1%}",
            look=_("draw both sets of boxes on one photograph: are they shifted, rescaled, or of another class?"),
        )
