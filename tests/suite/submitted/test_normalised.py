"""What was done to calibration pixels is told for what it is, after resizing in 8 bits or in floating point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtverify.fixtures.networks.datasets import IMAGENET_MEAN, IMAGENET_STD, find_photos
from trtverify.fixtures.networks.models import RESNET50
from trtverify.fixtures.submitted.calibration import CalibrationSet, read_set
from trtverify.fixtures.words.verdict import FindingError

Pixels = Any
MEAN, STD = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
IMAGES = 32


@pytest.fixture(scope="module")
def eight_bits() -> Pixels:
    """Pixels 0…1 of real photographs, N×3×224×224, resized in 8 bits."""
    bundled = find_photos(None)
    assert bundled is not None
    return bundled.batch(RESNET50, IMAGES, 3) * STD + MEAN


@pytest.fixture(scope="module")
def floating() -> Pixels:
    """Others, resized in floating point by a cubic kernel, which overshoots."""
    bundled = find_photos(None)
    assert bundled is not None
    pictures = [photo for _path, photo in bundled.known()]
    draw, made = np.random.default_rng(4), []
    for number in range(IMAGES):
        picture = pictures[number % len(pictures)]
        left, top = (int(draw.integers(0, length - 300)) for length in picture.size)
        cut = picture.crop((left, top, left + 300, top + 300))
        planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in cut.split()]
        made.append([np.asarray(plane.resize((224, 224), Image.Resampling.BICUBIC)) for plane in planes])
    return np.array(made, np.float32) / 255


def normal(pixels: Pixels) -> Pixels:
    return (pixels - MEAN) / STD


# Each with what must be said of it.
WRONG: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "0 to 255": (lambda u: 255 * u, "0 to 255"),
    "0 to 1": (lambda u: u, "0 to 1"),
    "not divided": (lambda u: (255 * u - MEAN) / STD, "not divided by 255 before"),
    "divided twice": (lambda u: normal(u / 255), "divided by 255 twice before"),
    "divided twice, no mean": (lambda u: u / 255, "twice, and mean"),
    "divided afterwards": (lambda u: normal(u) / 255, "once more after"),
    "-1 to 1": (lambda u: 2 * u - 1, "a mean of 0.5 and a deviation of 0.5"),
    "mean only": (lambda u: u - MEAN, "not divided by the deviation"),
    "deviation only": (lambda u: u / STD, "the mean was not subtracted"),
    "normalised twice": (lambda u: normal(normal(u)), "applied twice"),
    "exchanged after": (lambda u: normal(u)[:, ::-1], "BGR"),
    "Caffe": (lambda u: 255 * (u[:, ::-1] - MEAN[:, ::-1]), "BGR"),
    "channels last": (lambda u: normal(u).transpose(0, 2, 3, 1).reshape(u.shape), "channels came last"),
    "each by itself": (
        lambda u: (u - u.mean((1, 2, 3), keepdims=True)) / u.std((1, 2, 3), keepdims=True),
        "by itself",
    ),
}


def written(pixels: Pixels, folder: Path) -> CalibrationSet:
    """Read back as a student's."""

    class Held:
        def require(self, _lab: str, _name: str) -> Path:
            return folder

    np.save(folder / "batch_000.npy", np.ascontiguousarray(pixels))
    held: Any = Held()
    return read_set(held, RESNET50)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arithmetic_is_told(name: str, eight_bits: Pixels, floating: Pixels, tmp_path: Path) -> None:
    change, says = WRONG[name]
    # Half of them in floating point, so that both ways of telling are tried.
    pixels = floating if list(WRONG).index(name) % 2 else eight_bits
    assert says in str(written(change(pixels).astype(np.float32), tmp_path).preprocessing)


@pytest.mark.parametrize("kind", ["eight_bits", "floating"])
def test_right_arithmetic_passes(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pixels = request.getfixturevalue(kind)
    found = written(normal(pixels).astype(np.float32), tmp_path)
    assert (found.preprocessing, found.fields, found.flat) == (None, 0, 0)
    grey = np.repeat(pixels.mean(axis=1, keepdims=True), 3, axis=1)
    assert written(normal(grey).astype(np.float32), tmp_path).preprocessing is None


def test_red_and_blue_exchanged_before_is_told(tmp_path: Path) -> None:
    """By colour alone: warm ground under a blue sky."""
    draw = np.random.default_rng(0)
    photos = draw.uniform(0, 1, (IMAGES, 1, 224, 224)) * np.ones((1, 3, 1, 1))
    photos[:, 0, :100] *= 0.6
    photos[:, 2, 100:] *= 0.5
    photos = (photos * 255).round() / 255
    assert written(normal(photos).astype(np.float32), tmp_path).preprocessing is None
    assert "BGR" in str(written(normal(photos[:, ::-1]).astype(np.float32), tmp_path).preprocessing)


SHAPES: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "channels last": (lambda u: u.transpose(0, 2, 3, 1), "transpose(0, 3, 1, 2)"),
    "one image": (lambda u: u[0], "batch dimension"),
    "another size": (lambda u: u[..., :200], "cut out the middle"),
    "8 bits": (lambda u: (u * 255).astype(np.uint8), "/ 255"),
    "double": (lambda u: u.astype(np.float64), "astype(numpy.float32)"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_another_shape_or_type_is_told(name: str, eight_bits: Pixels, tmp_path: Path) -> None:
    change, says = SHAPES[name]
    with pytest.raises(FindingError) as refused:
        written(change(eight_bits[:2]), tmp_path)
    assert says in refused.value.finding.look


def test_one_photograph_many_times_is_one(eight_bits: Pixels, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (IMAGES, 3, 224, 224)) / 255
    found = written(normal(eight_bits[:1] + noise).astype(np.float32), tmp_path)
    assert (found.distinct, found.independent) == (IMAGES, 1.0)
    assert written(normal(eight_bits).astype(np.float32), tmp_path).independent == IMAGES
