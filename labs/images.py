"""Photographs and what makes a model's input of them: the same arithmetic for calibration, checking and use."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact import stop

if TYPE_CHECKING:  # imported inside functions, so that `--help` stays fast
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
STAND_IN = "stand-in: crops of scikit-learn's two sample photographs"
_STAND_IN_GRIDS = (1, 2, 3, 4, 5)  # n×n windows, each 2/(n+1) of a side, half overlapping: 55 crops a photograph


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From an RGB photograph to a model's input; `apply` does it, a manifest records it.

    Attributes:
        size: height and width of the input, pixels.
        fit: "crop" (scale the short side to `resize`, cut the centre) or "letterbox" (scale the whole
            photograph into the square, pad with `fill`).
        resize: short side before the centre crop, pixels; None leaves the photograph's own size.
        channels: order of the input's channels, "RGB" or "BGR".
        divisor: pixels 0…255 are divided by this first.
        mean, std: then normalised, per channel, in the order of `channels`.
        fill: grey level of a letterbox's border, 0…255.
    """

    size: int
    fit: str = "crop"
    resize: int | None = None
    channels: str = "RGB"
    divisor: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fill: int = 114

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "letterbox"):
            raise ValueError(f'preprocessing: fit must be "crop" or "letterbox", found {self.fit!r}')
        if self.channels not in ("RGB", "BGR"):
            raise ValueError(f'preprocessing: channels must be "RGB" or "BGR", found {self.channels!r}')
        if self.size < 1 or (self.resize is not None and self.resize < 1):
            raise ValueError(f"preprocessing: sizes must be positive, found {self.size} and {self.resize}")

    def describe(self) -> dict[str, Any]:
        """What the manifest holds: JSON types only, `from_description` reads it back."""
        return dataclasses.asdict(self) | {"mean": list(self.mean), "std": list(self.std), "layout": "CHW"}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Preprocessing:
        """Read back what `describe` wrote.

        Raises:
            ValueError: a field is missing, unknown or of the wrong kind; names it.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        found = set(description) - {"layout"}
        if found != fields:
            missing, unknown = sorted(fields - found), sorted(found - fields)
            raise ValueError(f"preprocessing: missing fields {missing}, unknown fields {unknown}")
        try:
            resize = description["resize"]
            red, green, blue = (float(value) for value in description["mean"])
            red_std, green_std, blue_std = (float(value) for value in description["std"])
            return cls(
                size=int(description["size"]),
                fit=str(description["fit"]),
                resize=None if resize is None else int(resize),
                channels=str(description["channels"]),
                divisor=float(description["divisor"]),
                mean=(red, green, blue),
                std=(red_std, green_std, blue_std),
                fill=int(description["fill"]),
            )
        except TypeError as error:
            raise ValueError(f"preprocessing: {error}") from error

    def place(self, photo: Image) -> Image:
        """The square of `size` pixels that the model is to see, still 0…255 RGB."""
        return self._letterboxed(photo) if self.fit == "letterbox" else self._cropped(photo)

    def apply(self, photo: Image) -> npt.NDArray[np.float32]:
        """Float32 C×H×W, equal to torchvision's Resize, CenterCrop, ToTensor and Normalize on a PIL image."""
        import numpy as np

        pixels = np.asarray(self.place(photo), dtype=np.float32)
        if self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        normalised = (pixels / np.float32(self.divisor) - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)

    def _cropped(self, photo: Image) -> Image:
        from PIL import Image

        width, height = photo.size
        if self.resize is not None:
            short = min(width, height)
            width, height = self.resize * width // short, self.resize * height // short
            photo = photo.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return photo.crop((left, top, left + self.size, top + self.size))  # beyond the border: black

    def _letterboxed(self, photo: Image) -> Image:
        from PIL import Image

        ratio = self.size / max(photo.size)
        width, height = (max(1, round(side * ratio)) for side in photo.size)
        square = Image.new("RGB", (self.size, self.size), (self.fill,) * 3)
        scaled = photo.resize((width, height), Image.Resampling.BILINEAR)
        square.paste(scaled, ((self.size - width) // 2, (self.size - height) // 2))
        return square


IMAGENET = Preprocessing(size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
YOLO = Preprocessing(size=640, fit="letterbox")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph on disk, or a crop of one; read only when asked.

    Attributes:
        name: path below the folder it was found in, with `/`.
        box: left, top, right, bottom in pixels; None for the whole photograph.
    """

    path: Path
    name: str
    box: tuple[int, int, int, int] | None = None

    def open(self) -> Image:
        """Decode it, as RGB; a file that is no image ends the lab with its name."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self.path) as file:
                photo = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
            raise stop(f"cannot read the image {self.path}: {reason}", "remove or replace that file") from error
        return photo if self.box is None else photo.crop(self.box)

    def sha256(self) -> str:
        """Hex digest of the source file's bytes; crops of one photograph share it."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a manifest holds of it."""
        return {"file": self.name, "sha256": self.sha256(), "box": None if self.box is None else list(self.box)}


def find_photos(data: Path | None) -> list[Photo]:
    """Every image below a folder, by name; with no folder, 110 crops of scikit-learn's two photographs."""
    if data is None:
        return _stand_in()
    if not data.is_dir():
        raise stop(f"--data {data} is not a folder", "give a folder with .jpg or .png images in it")
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise stop(f"no image below {data}", f"put images there ({', '.join(sorted(SUFFIXES))}), or leave out --data")
    return [Photo(path, path.relative_to(data).as_posix()) for path in paths]


def provenance(data: Path | None, photos: Sequence[Photo]) -> dict[str, Any]:
    """What a manifest's `data` holds: the source, how many images were used, and each of them."""
    return {
        "source": STAND_IN if data is None else str(data),
        "images": len(photos),
        "photos": [photo.describe() for photo in photos],
    }


def choose(photos: Sequence[Photo], count: int, seed: int, at_least: int = 1) -> list[Photo]:
    """At most `count` photos, seeded; whole photographs come before crops. Fewer than `at_least` end the lab."""
    if len(photos) < at_least:
        raise stop(f"found {len(photos)} images, at least {at_least} are needed", "add images to the --data folder")
    shuffled = random.Random(seed).sample(photos, len(photos))
    return sorted(shuffled, key=lambda photo: photo.box is not None)[:count]


def stack(photos: Iterable[Photo], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """One batch, float32 N×C×H×W: only its own photos are in memory."""
    import numpy as np

    return np.stack([preprocessing.apply(photo.open()) for photo in photos])


def batches(photos: Sequence[Photo], preprocessing: Preprocessing, size: int) -> list[npt.NDArray[np.float32]]:
    """All photos in batches of `size`, the last one perhaps smaller; for the few that statistics need."""
    return [stack(photos[start : start + size], preprocessing) for start in range(0, len(photos), size)]


def _stand_in() -> list[Photo]:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise stop("no images: no --data, and scikit-learn's sample photographs are not installed",
                   "give --data a folder of images, or: pip install scikit-learn")  # fmt: skip
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    photos = []
    for name in ("china.jpg", "flower.jpg"):
        width, height = 640, 427
        for grid in _STAND_IN_GRIDS:
            for row in range(grid):
                for column in range(grid):
                    left, top = width * column // (grid + 1), height * row // (grid + 1)
                    box = (left, top, left + 2 * width // (grid + 1), top + 2 * height // (grid + 1))
                    photos.append(Photo(folder / name, name, None if grid == 1 else box))
    return photos
