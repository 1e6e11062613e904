"""Photographs are known again whatever was done to them, no other is taken for one, and random fields are none."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from trtverify.fixtures.networks.datasets import find_photos
from trtverify.fixtures.networks.likeness import groups, is_among, nature, of_photograph, signature

Picture = Any
DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos() -> list[Picture]:
    bundled = find_photos(None)
    assert bundled is not None
    return [photo for _path, photo in bundled.known()]


def pixels(picture: Picture) -> Any:
    return np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255


def course(picture: Picture) -> Picture:
    """Short side 256, the middle 224."""
    short = min(picture.size)
    resized = picture.resize((256 * picture.width // short, 256 * picture.height // short), Image.Resampling.BILINEAR)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    return resized.crop((left, top, left + 224, top + 224))


def saved(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def middle(picture: Picture, part: float) -> Picture:
    side = int(224 * part)
    return picture.crop((224 - side, 0, 224, side)).resize((224, 224), Image.Resampling.BILINEAR)


MADE: dict[str, Callable[[Picture], Picture]] = {
    "as the course": course,
    "mirrored": lambda p: ImageOps.mirror(course(p)),
    "squashed": lambda p: p.resize((224, 224), Image.Resampling.BICUBIC),
    "short side 224": lambda p: ImageOps.fit(p, (224, 224)),
    "letterboxed": lambda p: ImageOps.pad(p, (224, 224), color=(114, 114, 114)),
    "with a border": lambda p: ImageOps.expand(course(p).resize((200, 200)), 12, 0),
    "cut out, 0.9": lambda p: middle(course(p), 0.9),
    "cut out, 0.85": lambda p: middle(course(p), 0.85),
    "saved at 30": lambda p: saved(course(p), 30),
    "darker": lambda p: ImageEnhance.Brightness(course(p)).enhance(0.7),
    "paler": lambda p: ImageEnhance.Contrast(course(p)).enhance(0.6),
    "grey": lambda p: ImageOps.grayscale(course(p)),
    "blurred": lambda p: course(p).filter(ImageFilter.GaussianBlur(1.5)),
    "mirrored, cut out and saved": lambda p: saved(ImageOps.mirror(middle(course(p), 0.9)), 40),
}


@pytest.mark.parametrize("how", MADE)
def test_a_photograph_is_known_again(how: str, photos: list[Picture]) -> None:
    made = np.stack([signature(pixels(MADE[how](photo))) for photo in photos])
    for index, photo in enumerate(photos):
        found = of_photograph(photo, made)
        assert found[index], how
        assert found.sum() == 1, how


def test_copies_are_one_and_crops_are_not(photos: list[Picture]) -> None:
    one = pixels(course(photos[0]))
    noisy = [signature(one + DRAW.uniform(-0.5, 0.5, one.shape).astype(np.float32) / 255) for _copy in range(8)]
    assert groups(np.stack(noisy)) == [8]
    changed = [signature(1.3 * one + 0.1), signature(one[:, :, ::-1]), signature(pixels(saved(course(photos[0]), 50)))]
    assert all(is_among(other, np.stack(noisy)) for other in changed)
    crops = [photos[0].crop((x, y, x + 200, y + 200)) for x in (0, 100, 200) for y in (0, 100, 200)]
    assert groups(np.stack([signature(pixels(crop)) for crop in crops])) == [1] * 9


def field(amplitude: Callable[[Any], Any]) -> Any:
    rows, columns = np.fft.fftfreq(224)[:, None], np.fft.fftfreq(224)
    radius = np.hypot(rows, columns)
    radius[0, 0] = 1
    found = np.real(np.fft.ifft2(np.fft.fft2(DRAW.normal(size=(224, 224))) * amplitude(radius)))
    return (found - found.min()) / np.ptp(found)


def blobs() -> Any:
    y, x = np.mgrid[0:224, 0:224] / 223
    spots = [(*DRAW.uniform(0, 1, 2), DRAW.uniform(0.03, 0.25), DRAW.normal()) for _spot in range(12)]
    found = sum(a * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 2 / s**2) for u, v, s, a in spots)
    return (found - found.min()) / np.ptp(found)


FIELDS: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
    "white noise": lambda: DRAW.uniform(size=(224, 224)),
    "pink noise": lambda: field(lambda r: 1 / r),
    "clouds": lambda: field(lambda r: r**-2),
    "blurred noise": lambda: field(lambda r: np.exp(-((r * 60) ** 2))),
    "a gradient": lambda: np.add.outer(np.linspace(0, 0.4, 224), np.linspace(0, 0.5, 224)),
    "blobs": blobs,
}


@pytest.mark.parametrize("eight_bits", [True, False])
@pytest.mark.parametrize("name", FIELDS)
def test_a_random_field_is_no_photograph(name: str, eight_bits: bool) -> None:
    found = []
    for _draw in range(8):
        grey = FIELDS[name]()
        grey = (grey * 255).round() / 255 if eight_bits else grey
        found.append(nature(np.repeat(grey[None], 3, axis=0).astype(np.float32)).photograph(0.8))
    assert sum(found) <= 1


def test_photographs_are(photos: list[Picture]) -> None:
    for photo in photos:
        small = course(photo).resize((32, 32)).resize((224, 224), Image.Resampling.BICUBIC)
        made = [course(photo), ImageOps.grayscale(course(photo)), middle(course(photo), 0.5), small]
        assert all(nature(pixels(picture)).photograph(0.8) for picture in made)
