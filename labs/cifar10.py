"""Lab 5's images, from a folder of pictures, torchvision's CIFAR-10 or a named stand-in; and their augmentation."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import artifact
import numpy as np
import torch
from images import Preprocessing
from numpy.typing import NDArray
from torch import Tensor

SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = ("train", "test")
BATCHES = "cifar-10-batches-py"  # the folder that torchvision.datasets.CIFAR10 unpacks
STAND_IN = "scikit-learn digits (a stand-in, not CIFAR-10)"
# Every sixth digit is trained on, and every eighth of the others tested on: 300 and 188, few enough for a processor.
STAND_IN_TRAIN, STAND_IN_TEST = 6, 8
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


@dataclasses.dataclass(frozen=True)
class Split:
    """Images (uint8, N×32×32×3, RGB) and their class numbers (int64, N)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        """The first `count` images of a fixed shuffle, classes in equal parts."""
        order = np.random.default_rng(0).permutation(len(self))
        rank = np.empty(len(self), np.int64)  # how many of its class come before it
        for label in np.unique(self.labels):
            mine = order[self.labels[order] == label]
            rank[mine] = np.arange(len(mine))
        chosen = np.lexsort((self.labels, rank))[:count]
        return Split(self.images[chosen], self.labels[chosen])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Both splits and how an image becomes the network's input."""

    source: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    preprocessing: Preprocessing
    mirror: bool  # may a picture be flipped left to right and keep its class?

    def digest(self) -> str:
        """SHA-256 of every pixel and label: what exactly was trained on."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(np.ascontiguousarray(split.images).tobytes())
            digest.update(np.ascontiguousarray(split.labels).tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a manifest holds of it."""
        return {
            "source": self.source,
            "images": len(self.train),
            "test_images": len(self.test),
            "classes": list(self.classes),
            "sha256": self.digest(),
        }

    def normalise(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 N×32×32×3 to float32 N×3×32×32."""
        mean, std = torch.tensor(self.preprocessing.mean), torch.tensor(self.preprocessing.std)
        return ((torch.from_numpy(images).float() / self.preprocessing.divisor - mean) / std).permute(0, 3, 1, 2)


def load(folder: Path | None, cache: Path, subset: int | None) -> Dataset:
    """Find the images; see the module's first line for the order.

    Args:
        folder: `train/<class>/*` and `test/<class>/*`, or what torchvision downloaded; None: look for the latter in
            torch's cache, else use the stand-in.
        cache: where decoded pictures are kept when `folder` cannot be written to.
        subset: at most so many training images, and a fifth as many (at least 200) test images.
    """
    if folder is not None and not folder.is_dir():
        raise artifact.stop(f"--data {folder} is not a folder", "name a folder with train/<class>/* and test/<class>/*")
    if folder is not None and not (folder / BATCHES).is_dir():
        dataset = _from_pictures(folder, cache)
    else:
        dataset = _from_torchvision(folder) or _stand_in()
    if subset is not None:
        train, test = dataset.train.first(subset), dataset.test.first(max(subset // 5, 200))
        dataset = dataclasses.replace(dataset, train=train, test=test)
    return dataset


def _cifar10(source: str, train: Split, test: Split, classes: tuple[str, ...]) -> Dataset:
    # CIFAR-10's own mean and deviation, over its training images.
    preprocessing = Preprocessing(SIZE, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    return Dataset(source, classes, train, test, preprocessing, mirror=True)


def _from_torchvision(folder: Path | None) -> Dataset | None:
    root = folder or Path(torch.hub.get_dir()).parent / "datasets"
    if not (root / BATCHES).is_dir():
        return None
    artifact.need("torchvision")
    import torchvision

    try:  # nothing is downloaded, and the files' checksums are verified before they are read
        found = [torchvision.datasets.CIFAR10(root, train=split == "train", download=False) for split in SPLITS]
    except RuntimeError as error:
        raise artifact.stop(f"{root / BATCHES}: {error}", f"remove {root / BATCHES}, download it again") from error
    train, test = (Split(data.data, np.asarray(data.targets, np.int64)) for data in found)
    return _cifar10("CIFAR-10 (torchvision)", train, test, CLASSES)


def _stand_in() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        problem = "no images: no --data, no CIFAR-10 in torch's cache, and no scikit-learn for its digits"
        raise artifact.stop(problem, "give --data DIR, or install scikit-learn") from error
    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)  # N×8×8, 0…16
    images = np.repeat(small.repeat(4, 1).repeat(4, 2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int64)
    others = np.flatnonzero(np.arange(len(labels)) % STAND_IN_TRAIN)[::STAND_IN_TEST]
    train = Split(images[::STAND_IN_TRAIN], labels[::STAND_IN_TRAIN])
    test = Split(images[others], labels[others])
    preprocessing = Preprocessing(SIZE, mean=(0.3, 0.3, 0.3), std=(0.37, 0.37, 0.37))
    return Dataset(STAND_IN, tuple(map(str, range(10))), train, test, preprocessing, mirror=False)


def _from_pictures(root: Path, cache: Path) -> Dataset:
    listing = {split: _list_pictures(root, split) for split in SPLITS}
    classes = tuple(listing["train"])
    if classes != tuple(listing["test"]):
        differ = sorted(set(classes) ^ set(listing["test"]))
        raise artifact.stop(f"{root}: train and test differ in the classes {differ}", "complete the folder")
    if len(classes) != len(CLASSES):
        missing = sorted(set(CLASSES) - set(classes))
        found = f"{root}: found {len(classes)} classes, expected {len(CLASSES)}"
        raise artifact.stop(found + (f" (missing: {', '.join(missing)})" if missing else ""), "complete the folder")
    fingerprint = hashlib.sha256()
    for split in SPLITS:
        for paths in listing[split].values():
            for path in paths:
                status = path.stat()
                fingerprint.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    places = (root / ".decoded.npz", cache / "decoded.npz")
    for place in places:
        splits = _read_cache(place, fingerprint.hexdigest())
        if splits:
            return _cifar10(f"images in {root.name}/", *splits, classes)
    train, test = (_decode(listing[split], split) for split in SPLITS)
    for place in places:
        if _write_cache(place, fingerprint.hexdigest(), train, test):
            break
    return _cifar10(f"images in {root.name}/", train, test, classes)


def _list_pictures(root: Path, split: str) -> dict[str, list[Path]]:
    folder = root / split
    if not folder.is_dir():
        raise artifact.stop(f"{root} has no folder '{split}'", f"make {folder}/<class>/*.jpg")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise artifact.stop(f"{folder} has no class folders", f"make {folder}/<class>/*.jpg")
    found = {}
    for path in classes:
        found[path.name] = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found[path.name]:
            raise artifact.stop(f"{path} holds no pictures", "put .jpg or .png files there, or unpack the data again")
    counts = {name: len(files) for name, files in found.items()}
    fewest = min(counts, key=counts.__getitem__)
    if counts[fewest] < max(counts.values()) / 2:
        print(f"note: {folder}: only {counts[fewest]} of '{fewest}', {max(counts.values())} of others: half unpacked?")
    return found


def _decode_one(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise artifact.stop(f"{path} cannot be decoded: {error}", "unpack the data again, or delete it") from error
    if pixels.shape != (SIZE, SIZE, 3):
        height, width = pixels.shape[:2]
        raise artifact.stop(f"{path} is {width}×{height}, expected {SIZE}×{SIZE}", "use CIFAR-10's own size")
    return pixels


def _decode(classes: dict[str, list[Path]], split: str) -> Split:
    paths = [path for found in classes.values() for path in found]
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in classes.values()])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(artifact.progress(pool.map(_decode_one, paths), f"decode {split}", len(paths)))
    return Split(np.stack(decoded), labels.astype(np.int64))


def _read_cache(path: Path, fingerprint: str) -> tuple[Split, Split] | None:
    """The decoded pictures, if the file is whole and of these very pictures; a damaged cache is a missing one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["fingerprint"].item() != fingerprint:
                return None
            train, test = (Split(file[f"{split}_images"], file[f"{split}_labels"]) for split in SPLITS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return train, test


def _write_cache(path: Path, fingerprint: str, train: Split, test: Split) -> bool:
    """Whether it could be written; a read-only folder or a full disk costs only the next run's time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".decoded-", suffix=".tmp", delete=False) as file:
            try:
                np.savez(
                    file,
                    fingerprint=np.array(fingerprint),
                    train_images=train.images,
                    train_labels=train.labels,
                    test_images=test.images,
                    test_labels=test.labels,
                )
                file.flush()
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError:
        return False
    return True


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that depend on these numbers alone, so that a resumed training draws the same ones."""
    seed = int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(seed)


def epoch_batches(count: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """Every image's number exactly once, in `steps` batches of nearly equal size."""
    return list(torch.randperm(count, generator=generator(seed, epoch)).tensor_split(steps))


def shift(images: Tensor, reach: int, rng: torch.Generator) -> Tensor:
    """Move each image by up to `reach` pixels each way; the border is filled by reflection. N×3×32×32."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (reach,) * 4, mode="reflect")
    offsets = torch.randint(2 * reach + 1, (2, count, 1), generator=rng).to(images.device)
    rows = (offsets[0] + torch.arange(height, device=images.device)).unsqueeze(2)  # N×H×1
    columns = (offsets[1] + torch.arange(width, device=images.device)).unsqueeze(1)  # N×1×W
    number = torch.arange(count, device=images.device).view(-1, 1, 1)
    return padded[number, :, rows, columns].permute(0, 3, 1, 2)  # indexing gave N×H×W×3


def cut(images: Tensor, reach: int, rng: torch.Generator) -> Tensor:
    """Grey out the square of up to `reach` pixels around a random point of each image (DeVries & Taylor 2017).

    A network that may not rely on one telling part learns the others too; it matters once images are seen often.
    """
    count, _, height, width = images.shape
    centre = torch.rand((2, count, 1), generator=rng).to(images.device)
    rows = (torch.arange(height, device=images.device) - centre[0] * height).abs() <= reach
    columns = (torch.arange(width, device=images.device) - centre[1] * width).abs() <= reach
    return images.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


def mirror(images: Tensor, numbers: Tensor, seed: int, showing: int, count: int) -> Tensor:
    """Flip half of the images left to right, at the next showing the other half: both views seen equally often.

    Random flipping shows a quarter of the images the same way twice running (Jordan 2024, alternating flip).
    """
    first = torch.randint(2, (count,), generator=generator(seed, -1))
    flip = ((first[numbers] + showing) % 2 == 1).to(images.device)
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
