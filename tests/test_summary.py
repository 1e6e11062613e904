"""The chapter's summary table: what engine sizes must look like from FP32 to FP16 to INT8."""

from __future__ import annotations

import pytest

from trtverify.fixtures.claims.case import Case
from trtverify.fixtures.claims.steps import built
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.graphs.rules import weights_bytes
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.report.record import Record
from trtverify.fixtures.words.messages import _
from trtverify.fixtures.words.terms import Precision
from trtverify.fixtures.words.verdict import require

# The course's table: about 100, 50 and 25 MB. FP16 stores every weight in half the bytes. INT8 would reach a quarter
# were an engine weights alone; below 2.5 times, more than half of the weights cannot be INT8. The measure is the FP32
# weights, not the FP32 engine: that may hold some laid out anew (129 MB in all with TensorRT 8.6 on an H100).
SMALLER_THAN_FP32 = {Precision.FP16: (1.8, 2.2), Precision.INT8: (2.5, 4.2)}


@pytest.mark.lab4
class TestSizes:
    """ResNet-50's engine files: nearly all of them are weights, so their ratio is the precisions'."""

    lab = "lab4"
    model = RESNET50
    precisions = (Precision.FP16, Precision.INT8)

    @pytest.mark.points(1)
    def test_size_follows_the_precision(self, case: Case, record: Record) -> None:
        """Half of the FP32 weights in FP16, a third to a quarter in INT8."""
        weights, small = weights_bytes(load(case.reference()), Precision.FP32), built(case, record)
        ratio = weights / small.size_bytes
        low, high = SMALLER_THAN_FP32[case.precision]
        require(
            low <= ratio <= high,
            expected=_("an engine {low:g} to {high:g} times smaller than the FP32 weights, {size:.1f} MB").format(
                low=low, high=high, size=weights / 1e6
            ),
            found=_("{ratio:.2f} times, {size:.1f} MB").format(ratio=ratio, size=small.size_bytes / 1e6),
            look=_("which precision are the weights stored in? See the layer information"),
        )
