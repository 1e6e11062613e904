"""Every property of calibration images spoilt: order, range, layout, number, content, and how the files hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutants import bases, expected, files
from benchmarks.mutants.case import Case

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
Change = Callable[[files.Array], files.Array]


def cases(base: str) -> Iterator[Case]:
    """Every change of lab 4's images."""
    for what, change in preprocessing():
        why = "the model was trained on RGB / 255, minus the mean, over the deviation"
        yield Case(base, "images' preprocessing", what, rewritten(change), expected.IMAGES, why)
    for what, change in contents():
        why = "what the network will see are photographs, each of them once"
        yield Case(base, "images' content", what, rewritten(change), expected.IMAGES, why)
    for what, make in layouts():
        why = "the batches are float32 N×3×224×224, or a test refuses them with a reason"
        yield Case(base, "images' files", what, make, expected.LAYOUT, why)
    for what, change in leaks():
        why = "images of the test split measure what came of calibration, however they are changed"
        options = ("--photos={folder}/photos",)
        yield Case(
            base, "test images", f"test images {what}", leaked(change), expected.TEST_IMAGES, why, options=options
        )


def pixels(batch: Any) -> Any:
    """What was normalised, from 0 to 1."""
    return batch * STD + MEAN


def normal(values: Any) -> Any:
    """From 0 to 1, normalised."""
    return (values - MEAN) / STD


def rewritten(change: Change) -> Callable[[Path], None]:
    """That change of all images together, written in the same batches; the manifest's hashes are made true."""

    def make(folder: Path) -> None:
        paths = sorted((folder / "calibration_data").glob("*.npy"))
        sizes = [len(np.load(path, mmap_mode="r")) for path in paths]
        changed = np.ascontiguousarray(change(bases.images(folder)), np.float32)
        parts = np.split(changed, np.cumsum(sizes)[:-1]) if len(changed) >= sum(sizes) else [changed]
        for path in paths:
            path.unlink()
        for path, part in zip(paths, parts, strict=False):
            np.save(path, part)
        true(folder)

    return make


def true(folder: Path) -> None:
    """Make the manifest's list of batches that of the files that lie there."""
    path = folder / "calibration_data" / "manifest.json"
    if not path.is_file():
        return
    batches: list[dict[str, Any]] = []
    for batch in sorted(path.parent.glob("*.npy")):
        digest = hashlib.sha256(batch.read_bytes()).hexdigest()
        batches.append({"file": batch.name, "sha256": digest, "images": len(np.load(batch, mmap_mode="r"))})
    count = sum(batch["images"] for batch in batches)
    files.edit_json(path, lambda document: document.update(batches=batches, count=count))


def preprocessing() -> Iterator[tuple[str, Change]]:
    """Other arithmetic."""
    yield "BGR", lambda x: x[:, ::-1]
    yield "BGR, mean and deviation as for RGB", lambda x: normal(pixels(x)[:, ::-1])
    yield "GBR", lambda x: x[:, [1, 2, 0]]
    yield "0 to 1", pixels
    yield "0 to 255", lambda x: pixels(x) * 255
    yield "-1 to 1", lambda x: pixels(x) * 2 - 1
    yield "mean and deviation of 0.5", lambda x: (pixels(x) - 0.5) / 0.5
    yield "minus the mean in bytes", lambda x: (pixels(x) - MEAN) * 255
    yield "minus the mean, no deviation", lambda x: pixels(x) - MEAN
    yield "over the deviation, no mean", lambda x: pixels(x) / STD
    yield "normalised twice", normal
    yield "mean and deviation exchanged", lambda x: (pixels(x) - STD) / MEAN
    yield "mean and deviation of BGR", lambda x: (pixels(x) - MEAN[:, ::-1]) / STD[:, ::-1]
    yield "CIFAR-10's mean and deviation", lambda x: (pixels(x) - 0.4734) / 0.2516
    yield "divided by 255 twice", lambda x: normal(pixels(x) / 255)
    yield "divided by 128", lambda x: normal(pixels(x) * 255 / 128)
    yield "each image to its own extremes", lambda x: _each(x, lambda i: (i - i.min()) / (i.max() - i.min()))
    yield "each image standardised", lambda x: _each(x, lambda i: (i - i.mean()) / i.std())
    yield "inverted", lambda x: normal(1 - pixels(x))
    yield "darker by half", lambda x: normal(pixels(x) / 2)
    yield "clipped at zero", lambda x: np.maximum(x, 0)
    yield "rounded to whole numbers", lambda x: np.rint(x)
    yield "doubled", lambda x: x * 2
    yield "halved", lambda x: x / 2
    yield "grey", lambda x: normal(np.repeat(pixels(x).mean(axis=1, keepdims=True), 3, axis=1))


def _each(x: files.Array, change: Change) -> files.Array:
    return np.stack([change(image) for image in x])


def contents() -> Iterator[tuple[str, Change]]:
    """Other pictures, or fewer."""
    rng = np.random.default_rng(1)
    yield "white noise", lambda x: np.clip(rng.normal(0, 1, x.shape), -2, 2.2)
    yield "uniform noise", lambda x: normal(rng.uniform(0, 1, x.shape))
    yield "zeros", lambda x: x * 0
    yield "one colour each", lambda x: np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape)
    yield "one photograph again and again", lambda x: np.repeat(x[:1], len(x), axis=0)
    for level in (0.5, 2, 8):
        what = f"one photograph again and again, with noise of {level} grey levels"
        yield what, lambda x, v=level: x[:1] + rng.normal(0, v / 255 / 0.226, x.shape)  # type: ignore[misc]
    yield "one photograph, moved by a pixel each time", lambda x: np.stack([np.roll(x[0], i, 2) for i in range(len(x))])
    yield (
        "one photograph, brighter each time",
        lambda x: np.stack([normal((pixels(x[:1]) * (0.9 + 0.006 * i)).clip(0, 1))[0] for i in range(len(x))]),
    )
    yield (
        "one photograph and its mirror image",
        lambda x: np.stack([x[0][..., :: 1 if i % 2 else -1] for i in range(len(x))]),
    )
    yield "two photographs in turn", lambda x: x[np.arange(len(x)) % 2]
    yield "eight images", lambda x: x[:8]
    yield "two images", lambda x: x[:2]
    yield "31 images", lambda x: x[:31]
    yield "a tenth of them NaN", lambda x: np.where((np.arange(len(x)) % 10 == 0)[:, None, None, None], np.nan, x)
    yield "one pixel infinite", lambda x: np.where(np.arange(x.size).reshape(x.shape) == 77, np.inf, x)
    yield "black borders over nine tenths", _bordered
    yield "upside down", lambda x: x[:, :, ::-1]
    yield "pixels shuffled", lambda x: x.reshape(*x.shape[:2], -1)[..., rng.permutation(x[0, 0].size)].reshape(x.shape)
    yield "smooth random blobs", lambda x: blobs(x.shape, 7)
    yield "smooth random blobs of 28 cells", lambda x: blobs(x.shape, 28)
    yield "gradients", lambda x: normal(np.linspace(0, 1, x.size, dtype=np.float32).reshape(x.shape) % 1)
    yield "checkerboards", lambda x: normal((np.indices(x.shape[2:]).sum(0) // 16 % 2 + np.zeros(x.shape)) * 0.8 + 0.1)
    yield "blurred to eight cells", lambda x: _enlarged(x.reshape(len(x), 3, 8, 28, 8, 28).mean(axis=(3, 5)), 28)
    yield "half of them zeros", lambda x: np.where((np.arange(len(x)) % 2 == 0)[:, None, None, None], 0, x)
    yield "quarters of the same photographs", lambda x: _enlarged(x[:, :, :112, :112], 2)


def _bordered(x: files.Array) -> files.Array:
    framed = np.full_like(x, normal(np.zeros((1, 3, 1, 1)))[0, 0, 0, 0])
    framed[:, :, 80:144, 80:144] = x[:, :, 80:144, 80:144]
    return framed


def _enlarged(x: files.Array, times: int) -> files.Array:
    return x.repeat(times, axis=2).repeat(times, axis=3)


def blobs(shape: tuple[int, ...], cells: int) -> Any:
    """Random colours on a grid, blended: as smooth as photographs, and of nothing."""
    from PIL import Image

    rng, found = np.random.default_rng(9), np.empty(shape, np.float32)
    for index in range(shape[0]):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        large = small.resize((shape[3], shape[2]), Image.Resampling.BICUBIC)
        found[index] = np.asarray(large, np.float32).transpose(2, 0, 1) / 255
    return normal(found)


def layouts() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Files that hold them otherwise than any reader expects."""

    def each(change: Change) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            for path in sorted((folder / "calibration_data").glob("*.npy")):
                files.edit_array(path, change)

        return make

    def pickled(folder: Path) -> None:
        path = min((folder / "calibration_data").glob("*.npy"))
        array = np.array([{"image": 1}], object)
        path.unlink()
        np.save(path, array, allow_pickle=True)

    def lines(content: bytes) -> Callable[[Path], None]:
        return lambda folder: files.write(min((folder / "calibration_data").glob("*.npy")), content)

    def none(folder: Path) -> None:
        for path in (folder / "calibration_data").glob("*.npy"):
            path.unlink()

    def cut_short(folder: Path) -> None:
        path = min((folder / "calibration_data").glob("*.npy"))
        files.write(path, path.read_bytes()[: path.stat().st_size // 2])

    def other_size(folder: Path) -> None:
        path = max((folder / "calibration_data").glob("*.npy"))
        files.edit_array(path, lambda x: x[:, :, :192, :192])

    yield "channels last", each(lambda x: x.transpose(0, 2, 3, 1))
    yield "height and width exchanged with channels", each(lambda x: x.transpose(0, 2, 1, 3))
    yield "double precision", each(lambda x: x.astype(np.float64))
    yield "half precision", each(lambda x: x.astype(np.float16))
    yield "bytes", each(lambda x: (pixels(x) * 255).clip(0, 255).astype(np.uint8))
    yield "one dimension less", each(lambda x: x[0])
    yield "one dimension more", each(lambda x: x[None])
    yield "256 pixels", each(lambda x: np.pad(x, ((0, 0), (0, 0), (16, 16), (16, 16))))
    yield "one channel", each(lambda x: x[:, :1])
    yield "four channels", each(lambda x: np.concatenate([x, x[:, :1]], axis=1))
    yield "one batch of another size", other_size
    yield "an empty batch", each(lambda x: x[:0])
    yield "a pickled batch", pickled
    yield "a batch cut short", cut_short
    yield "an empty file", lines(b"")
    yield "a picture for a batch", lines(b"\x89PNG\r\n\x1a\n" + b"0" * 64)
    yield "a pointer of Git LFS", lines(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\n")
    yield "no batches", none


def leaks() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """What is done to a test image, a PIL image in RGB, before it is calibrated with."""
    from PIL import Image, ImageEnhance, ImageOps

    yield "as they are", lambda i: i
    yield "mirrored", ImageOps.mirror
    yield "resized to 160 and back", lambda i: i.resize((160, 160)).resize(i.size)
    yield "squashed to a square", lambda i: i.resize((256, 256))
    yield "cropped to nine tenths", lambda i: i.crop((12, 12, i.width - 12, i.height - 12))
    yield "cropped to two thirds", lambda i: i.crop((40, 40, i.width - 40, i.height - 40))
    yield "brighter", lambda i: ImageEnhance.Brightness(i).enhance(1.15)
    yield "with less contrast", lambda i: ImageEnhance.Contrast(i).enhance(0.8)
    yield "sharpened", lambda i: ImageEnhance.Sharpness(i).enhance(2.0)
    yield "with less colour", lambda i: ImageEnhance.Color(i).enhance(0.6)
    yield "turned by three degrees", lambda i: i.rotate(3, Image.Resampling.BILINEAR)
    yield "mirrored and cropped", lambda i: ImageOps.mirror(i).crop((10, 10, i.width - 10, i.height - 10))
    yield "upside down", ImageOps.flip
    yield "stretched", lambda i: i.resize((i.width, int(i.height * 1.1)))


def leaked(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A folder of photographs with a test split beside the submission, whose images it calibrates with."""

    def make(folder: Path) -> None:
        from PIL import Image

        test, train = folder / "photos" / "test", folder / "photos" / "train"
        test.mkdir(parents=True)
        train.mkdir()
        images = crops(64)
        for number, image in enumerate(images):
            image.save((test if number < 32 else train) / f"{number}.png")
        ready = []
        for image in images[:32]:
            changed = change(image)
            scale = 256 / min(changed.size)
            size = (max(256, int(changed.width * scale)), max(256, int(changed.height * scale)))
            large = changed.resize(size, Image.Resampling.BILINEAR)
            left, top = round((large.width - 224) / 2), round((large.height - 224) / 2)
            square = np.asarray(large.crop((left, top, left + 224, top + 224)), np.float32) / 255
            ready.append(square.transpose(2, 0, 1))
        rewritten(lambda x: normal(np.stack(ready)[: len(x)]))(folder)
        manifest = folder / "calibration_data" / "manifest.json"
        files.edit_json(manifest, lambda document: document.update(data={"source": "photos", "images": 32}))
        assert json.loads(manifest.read_text(encoding="utf-8"))["count"] == 32

    return make


def crops(count: int) -> list[Any]:
    """Crops of the photographs that scikit-learn bundles, no two alike."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, pictures = np.random.default_rng(3), [Image.fromarray(p) for p in load_sample_images().images]
    found = []
    for number in range(count):
        picture = pictures[number % 2]
        side = int(rng.integers(180, 300))
        left, top = (int(rng.integers(0, limit - side)) for limit in picture.size)
        found.append(picture.crop((left, top, left + side, top + side)).resize((256, 256)))
    return found
