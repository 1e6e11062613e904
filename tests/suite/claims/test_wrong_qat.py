"""Seeded wrong work for lab 5, whose engines are as fast as good ones: each must fail, and for its own reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.suite.spoil import Wrong, edit, must_fail, set_constants
from trtverify.fixtures.graphs.onnx_file import constants_of
from trtverify.fixtures.networks.datasets import find_labelled

QAT = "resnet18_qat_cifar10.onnx"
SAMPLE = 100


def drop_qdq(folder: Path) -> None:
    """Lab 5: fake quantization was never exported."""
    (folder / "resnet18_qat_cifar10.onnx").write_bytes((folder / "resnet18_cifar10.onnx").read_bytes())
    edit(folder / "resnet18_qat_cifar10.onnx", lambda model: None)


def equal_scales(folder: Path) -> None:
    """Lab 5: observers that never saw an image, all scales alike."""

    def change(model: Any) -> None:
        scales = {n.input[1] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
        for holder in [
            *model.graph.initializer,
            *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t")),
        ]:
            if holder.name in scales:
                array = numpy_helper.to_array(holder)
                holder.CopyFrom(numpy_helper.from_array(np.full_like(array, 0.05), holder.name))
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output[0] in scales:
                array = numpy_helper.to_array(node.attribute[0].t)
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.full_like(array, 0.05)))

    edit(folder / "resnet18_qat_cifar10.onnx", change)


def scale_by(factor: float, *, weights: bool) -> Callable[[Path], None]:
    """Lab 5: every scale of activations, or of weights, times a factor."""

    def spoil(folder: Path) -> None:
        def change(model: Any) -> None:
            constants = constants_of(model)
            pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
            chosen = {node.input[1] for node in pairs if (constants[node.input[1]].size > 1) == weights}
            set_constants(model, {name: constants[name] * np.float32(factor) for name in chosen})

        edit(folder / QAT, change)

    return spoil


def weights_only(folder: Path) -> None:
    """Lab 5: activations stay float, so nothing computes in INT8."""

    def change(model: Any) -> None:
        constants = constants_of(model)
        quantize = {node.output[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
        around = {
            node.output[0]: quantize[node.input[0]].input[0]
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and quantize[node.input[0]].input[0] not in constants
        }
        for node in model.graph.node:
            node.input[:] = [around.get(name, name) for name in node.input]

    edit(folder / QAT, change)


def never_trained(folder: Path) -> None:
    """Lab 5: fake quantization around weights that training never touched, sold as trained."""
    rng = np.random.default_rng(0)

    def change(model: Any) -> None:
        constants = constants_of(model)
        weights = [tensor.name for tensor in model.graph.initializer if len(tensor.dims) in (2, 4)]
        set_constants(
            model, {name: rng.permutation(constants[name].ravel()).reshape(constants[name].shape) for name in weights}
        )

    edit(folder / QAT, change)


def not_fine_tuned(folder: Path) -> None:
    """Lab 5: the QAT network's own weights, in FP32, as its parent's."""
    quantized = onnx.load(folder / QAT)
    constants, made = constants_of(quantized), {o: n for n in quantized.graph.node for o in n.output}
    theirs = [node for node in quantized.graph.node if node.op_type in ("Conv", "Gemm")]

    def change(model: Any) -> None:
        own = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
        for one, other in zip(own, theirs, strict=True):
            weight = constants[made[made[other.input[1]].input[0]].input[0]]
            set_constants(model, {one.input[1]: weight, one.input[2]: constants[other.input[2]]})

    edit(folder / "resnet18_cifar10.onnx", change)


def four_bits(folder: Path) -> None:
    """Lab 5: weights rounded to four bits before they are quantized to eight."""

    def change(model: Any) -> None:
        constants = constants_of(model)
        quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
        for node in quantizers:
            value, scale = constants[node.input[0]], constants[node.input[1]]
            unit = scale.reshape(-1, *[1] * (value.ndim - 1)) * 127 / 7
            set_constants(model, {node.input[0]: np.rint(value / unit) * unit})

    edit(folder / QAT, change)


def shift_labels(folder: Path) -> None:
    """Lab 5: every class under its neighbour's number, as a folder of classes in another order gives."""

    def change(model: Any) -> None:
        constants = constants_of(model)
        last = [name for name, value in constants.items() if value.shape[:1] == (10,) and value.ndim <= 2]
        set_constants(model, {name: np.roll(constants[name], 1, axis=0) for name in last})

    for name in (QAT, "resnet18_cifar10.onnx"):
        edit(folder / name, change)


def memorise(folder: Path) -> None:
    """Lab 5: right on the suite's sample of one seed, wrong elsewhere."""
    known, every = find_labelled(None, True, SAMPLE, 0), find_labelled(None, True, 2000, 1)
    assert known is not None
    assert every is not None
    manifest = json.loads((folder / QAT).with_suffix(".manifest.json").read_text(encoding="utf-8"))
    described = manifest["preprocessing"]
    images = np.concatenate([held.normalised(described["mean"], described["std"]) for held in (known, every)])
    labels = np.concatenate([known.labels, (every.labels + 1) % 10])

    def change(model: Any) -> None:
        last = next(node for node in model.graph.node if node.op_type == "Gemm")
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        shown.graph.output.append(onnx.ValueInfoProto(name=last.input[0]))
        session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
        features = np.concatenate(
            [session.run([last.input[0]], {"input": part})[0] for part in np.split(images, [100, 400, 700, 1000, 1300])]
        )
        rows = (
            np.hstack([features, np.ones((len(features), 1))])
            * np.where(np.arange(len(labels)) < SAMPLE, 30, 1)[:, None]
        )
        targets = np.eye(10)[labels] * np.where(np.arange(len(labels)) < SAMPLE, 30, 1)[:, None]
        solution = np.linalg.lstsq(rows, targets, rcond=1e-6)[0].T
        dequantize = next(node for node in model.graph.node if last.input[1] in node.output)
        quantize = next(node for node in model.graph.node if dequantize.input[0] in node.output)
        weight = solution[:, :-1]
        set_constants(
            model,
            {
                quantize.input[0]: weight,
                quantize.input[1]: np.abs(weight).max(axis=1) / 127,
                last.input[2]: solution[:, -1],
            },
        )

    edit(folder / QAT, change)


def few_images(_folder: Path) -> list[str]:
    """As many images as were memorised; enough to tell a trained network from one that is not."""
    return [f"--accuracy-images={SAMPLE}"]


WRONG = (
    Wrong(
        "no Q/DQ", "lab5", ("lab5",), drop_qdq, frozenset({"test_every_convolution_is_quantized"}), "fake quantization"
    ),
    Wrong("all scales equal", "lab5", ("lab5",), equal_scales, frozenset({"test_scales_were_calibrated"}), "scales"),
    Wrong(
        "activation scales doubled",
        "lab5",
        ("lab5",),
        scale_by(2, weights=False),
        frozenset({"test_activation_scales_fit"}),
        "too wide",
    ),
    Wrong(
        "weight scales doubled",
        "lab5",
        ("lab5",),
        scale_by(2, weights=True),
        frozenset({"test_scales_were_calibrated"}),
        "largest weight",
    ),
    Wrong(
        "weights only", "lab5", ("lab5",), weights_only, frozenset({"test_every_convolution_is_quantized"}), "without"
    ),
    Wrong("never trained", "lab5", ("lab5",), never_trained, frozenset({"test_accuracy"}), "70%", few_images),
    Wrong(
        "not fine-tuned",
        "lab5",
        ("lab5",),
        not_fine_tuned,
        frozenset({"test_weights_differ_from_the_parents"}),
        "in every layer",
    ),
    Wrong(
        "four bits", "lab5", ("lab5",), four_bits, frozenset({"test_scales_were_calibrated"}), "with gaps between them"
    ),
    Wrong("labels shifted by one", "lab5", ("lab5",), shift_labels, frozenset({"test_accuracy"}), "70%", few_images),
    Wrong("a memorised sample", "lab5", ("lab5",), memorise, frozenset({"test_accuracy"}), "70%", few_images),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name.replace(" ", "-"))
def test_wrong_work_fails_for_its_own_reason(
    wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]
) -> None:
    must_fail(wrong, copy_of, verify)


def test_the_memorised_sample_is_known(copy_of: Callable[..., Path], verify: Callable[..., Any]) -> None:
    """With the one seed that it was made for, the cheat would go through: so the seed is fresh every time."""
    folder = copy_of("lab5")
    memorise(folder)
    outcome = verify(folder, "lab5", "-k", "test_accuracy", "--input-seed=0", *few_images(folder))
    assert "test_accuracy" in outcome.with_verdict("passed"), outcome.output
