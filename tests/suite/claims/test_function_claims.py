"""Claims of what a file computes and of what its weights are, asked as the labs' test classes ask them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.suite.answers.surgery import after, at_end, constant, insert, nodes, replace
from trtverify.fixtures.answers.accuracy import reference_outputs
from trtverify.fixtures.claims.function import FunctionClaims
from trtverify.fixtures.claims.onnx import OnnxClaims
from trtverify.fixtures.networks import imagenet
from trtverify.fixtures.networks.datasets import Photos, read_image
from trtverify.fixtures.networks.models import MOBILENET_V2

MODEL = MOBILENET_V2
PICTURES = 60


class Claims(FunctionClaims, OnnxClaims):
    """What lab 3 says of its network."""

    model = MODEL
    parity = 1e-3
    liveliness = 0.02


@pytest.fixture
def folder(labs: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of lab 3's network and its recorded outputs."""
    for name in (MODEL.file, f"{MODEL.name}.reference.npz"):
        shutil.copy(labs("lab3") / name, tmp_path / name)
    return tmp_path


def submitted(folder: Path, weights: str = "pretrained") -> Any:
    """A submission with a manifest that calls its weights so."""

    def find(_lab: str, name: str) -> Path:
        return folder / name

    return SimpleNamespace(require=find, optional=find, manifest=lambda _lab, _stem: {"weights": weights})


def changed(path: Path, change: Callable[[Any], None]) -> None:
    """A cut into an ONNX file, in place."""
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))


def biggest(model: Any) -> Any:
    """The last layer's weight, 1000×1280."""
    return next(tensor for tensor in model.graph.initializer if tuple(tensor.dims) == (1000, 1280))


@pytest.fixture
def pictures(tmp_path: Path) -> Photos:
    """Smooth pictures, none like another."""
    from PIL import Image

    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(PICTURES):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(place / f"{seed:03}.png")
    return Photos("pictures", tuple(sorted(place.iterdir())), stand_in=False)


def seem_trained(model: Any) -> None:
    """Inputs of a layer that weigh unequally, as training leaves them."""
    tensor = biggest(model)
    uneven = np.random.default_rng(0).uniform(0.5, 1.5, 1280).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * uneven, tensor.name))


def answer_evenly(path: Path, pictures: Photos) -> np.ndarray[Any, Any]:
    """Shift the scores so that no class is every picture's; what the network answers to each then."""
    images = [read_image(file, MODEL) for file in pictures.files]
    feeds = [{"input": image[None]} for image in images if image is not None]
    scores = reference_outputs(path, feeds, "output")

    def change(model: Any) -> None:
        bias = next(t for t in model.graph.initializer if tuple(t.dims) == (1000,))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) - scores.mean(axis=0), bias.name))

    changed(path, change)
    best: np.ndarray[Any, Any] = (scores - scores.mean(axis=0)).argmax(axis=1)
    return best


def named(pictures: Photos, classes: Any) -> Photos:
    """The same pictures, each with its class in its name."""
    ids = list(imagenet.numbers())
    files = []
    for path, number in zip(pictures.files, classes, strict=True):
        files.append(path.with_name(f"{ids[number]}_{path.name}"))
        path.rename(files[-1])
    return Photos("pictures", tuple(files), stand_in=False)


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`ask(submission, photos)`: whether weights called pretrained are."""
    return lambda submission, photos: Claims().test_pretrained_weights_are_trained(submission, photos, request)


def test_weights_as_they_were_drawn_are_not_pretrained(
    folder: Path, pictures: Photos, ask: Callable[..., None]
) -> None:
    with pytest.raises(pytest.fail.Exception, match="as an initializer draws them"):
        ask(submitted(folder), pictures)
    with pytest.raises(pytest.skip.Exception, match="no manifest calls these weights trained"):
        ask(submitted(folder, "untrained"), pictures)
    with pytest.raises(pytest.skip.Exception, match="a very short one leaves no trace"):
        ask(submitted(folder, "trained"), pictures)
    changed(folder / MODEL.file, seem_trained)
    ask(submitted(folder, "trained"), pictures)


def test_photographs_that_carry_their_class_are_known(folder: Path, pictures: Photos, ask: Callable[..., None]) -> None:
    changed(folder / MODEL.file, seem_trained)
    answered = answer_evenly(folder / MODEL.file, pictures)
    assert len(set(answered)) >= 20
    ask(submitted(folder), pictures)  # nothing says what they show
    right = named(pictures, answered)
    ask(submitted(folder), right)
    wrong = named(right, (answered + 1) % 1000)
    with pytest.raises(pytest.fail.Exception, match=r"at least 30% of 60 photographs of \d+ classes right"):
        ask(submitted(folder), wrong)


def test_what_a_file_computes_is_told(
    folder: Path, labs: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    claims, submission = Claims(), submitted(folder)
    claims.test_architecture(submission, request)
    changed(folder / MODEL.file, lambda model: at_end(model, ("Softmax", (), {"axis": 1})))
    with pytest.raises(pytest.fail.Exception, match=r"(?s)nothing after the last layer.*Softmax.*gives logits"):
        claims.test_architecture(submission, request)
    shutil.copy(labs("lab1") / "resnet50.onnx", folder / MODEL.file)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)missing.*these are the layers of ResNet-50"):
        claims.test_architecture(submission, request)


def integers(model: Any) -> None:
    """A product in integers, as dynamic quantization writes it."""
    (gemm,) = nodes(model, "Gemm")
    name = constant(model, "small", np.ones((1280, 1000)), np.int8)
    replace(model, gemm, "DynamicQuantizeLinear")
    (node,) = nodes(model, "DynamicQuantizeLinear")
    output = node.output[0]
    node.output[:] = ["levels", "scale", "zero"]
    made = [
        onnx.helper.make_node("MatMulInteger", ["levels", name, "zero"], ["product"]),
        onnx.helper.make_node("Cast", ["product"], [output], to=1),
    ]
    model.graph.node.extend(made)


def test_integer_operators_are_named(folder: Path, request: pytest.FixtureRequest) -> None:
    changed(folder / MODEL.file, integers)
    with pytest.raises(pytest.fail.Exception, match=r"MatMulInteger.*QuantFormat\.QDQ"):
        Claims().test_architecture(submitted(folder), request)


@pytest.fixture
def recorded(folder: Path) -> Callable[[np.ndarray[Any, Any]], None]:
    """Record other outputs than the framework's."""
    path = folder / f"{MODEL.name}.reference.npz"
    inputs = np.load(path)["input"]
    return lambda outputs: np.savez(path, input=inputs, output=outputs)


def test_outputs_recorded_in_tf32_are_the_same_and_other_weights_are_not(
    folder: Path, recorded: Callable[[np.ndarray[Any, Any]], None]
) -> None:
    """TF32 as a GPU computes it: the inputs of every layer rounded, and its weights."""
    path, claims = folder / MODEL.file, Claims()
    inputs = np.load(folder / f"{MODEL.name}.reference.npz")["input"]
    feeds = [{"input": image[None]} for image in inputs]
    exact = reference_outputs(path, feeds, "output")
    claims.test_parity_with_the_framework(cast(Any, submitted(folder)))

    def outputs(change: Callable[[Any], None]) -> np.ndarray[Any, Any]:
        other = folder / "other.onnx"
        shutil.copy(path, other)
        changed(other, change)
        found: np.ndarray[Any, Any] = reference_outputs(other, feeds, "output")
        return found

    def rounded(model: Any) -> None:
        for tensor in model.graph.initializer:
            value = numpy_helper.to_array(tensor)
            if value.ndim >= 2:
                bits = (value.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)
                tensor.CopyFrom(numpy_helper.from_array(bits.view(np.float32), tensor.name))

    def louder(model: Any) -> None:
        tensor = model.graph.initializer[40]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))

    in_tf32 = outputs(rounded)
    assert np.abs(in_tf32 - exact).max() > claims.parity * exact.std()
    recorded(in_tf32)
    claims.test_parity_with_the_framework(cast(Any, submitted(folder)))
    for wrong in (outputs(louder), np.roll(exact, 1, axis=1)):
        recorded(wrong)
        with pytest.raises(pytest.fail.Exception, match="spread"):
            claims.test_parity_with_the_framework(cast(Any, submitted(folder)))


@pytest.mark.parametrize("kind", ["norm", "dropout"])
def test_what_is_still_in_training_is_told(folder: Path, request: pytest.FixtureRequest, kind: str) -> None:
    def norm(model: Any) -> None:
        first, channels = nodes(model, "Conv")[0], np.ones(32, np.float32)
        after(model, first, ("BatchNormalization", (channels, channels, channels, channels), {"training_mode": 1}))
        (added,) = nodes(model, "BatchNormalization")
        added.output.extend(["running_mean", "running_variance"])

    def dropout(model: Any) -> None:
        (gemm,) = nodes(model, "Gemm")
        names = [constant(model, "share", 0.2), constant(model, "training", True, np.bool_)]
        insert(model, gemm, onnx.helper.make_node("Dropout", [gemm.input[0], *names], ["kept"]))
        gemm.input[0] = "kept"

    changed(folder / MODEL.file, {"norm": norm, "dropout": dropout}[kind])
    with pytest.raises(pytest.fail.Exception, match=r"training_mode.*\n.*model\.eval\(\)"):
        Claims().test_architecture(submitted(folder), request)
