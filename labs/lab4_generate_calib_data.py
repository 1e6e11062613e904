"""Lab 4: turn real photographs into the calibration data that ResNet-50's INT8 scales are chosen from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import artifact
import calibration_cache
import images

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FOLDER = "calibration_data"
MODEL = "resnet50"
LOADER = "data_loader.py"
CACHE = f"{MODEL}_int8.cache"
MINIMUM = 32  # below this, single photographs decide the scales
DUPLICATES = 0.05  # the share of repeated images above which the folder is no sample of anything
# An image is 0.6 MB: 8 make a file that a Jetson reads at once, and full files divide what calibrators take in turn.
BATCH = 8
# 12 full files. ResNet-50's activation ranges (99.99 % quantile, mean over images) from 96 ImageNet photographs lie
# within 0.8 % of those from 512 at the median layer and 2.6 % at the worst: NVIDIA's "about 500" is the safe choice,
# and takes five times as long. Plain maxima converge slower: 8 % and 52 %.
COUNT = 96
HELD_OUT = re.compile(r"(.*[_.-])?(tests?|testing|val|valid|validation|eval)\d*", re.IGNORECASE)
OURS = re.compile(rf"batch_\d+\.npy|manifest\.json|{re.escape(LOADER)}|__pycache__")

LOADER_TEXT = '''"""For polygraphy's --data-loader-script: the images, {batch} at a time, as {model}.onnx takes them."""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent


def load_data():
    waiting = []
    for path in sorted(FOLDER.glob("batch_*.npy")):
        for image in np.load(path, allow_pickle=False):
            waiting.append(image)
            if len(waiting) == {batch}:
                yield {{"input": np.stack(waiting)}}
                waiting = []
'''


def main() -> None:
    """Choose photographs, preprocess them as lab 1's model wants, write batches and what they are."""
    parser = artifact.parser(__doc__ or "")
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help="how many images")
    parser.add_argument("--batch-size", type=int, default=BATCH, metavar="N", help="images in one .npy file")
    parser.add_argument("--seal", action="store_true", help="only say what the calibration cache was made from")
    options = parser.parse_args()
    artifact.claim(options.out)
    if options.seal:
        seal(options.out)
        return
    artifact.need("numpy", "PIL", "tqdm")
    if options.count < MINIMUM or options.batch_size < 1:
        raise artifact.stop(
            f"--count {options.count} in files of {options.batch_size}: at least {MINIMUM} images are needed, "
            "in files of at least one",
            f"--count {COUNT} --batch-size {BATCH}",
        )
    model = read_model(options.out)
    photos = images.find_photos(options.data)
    if options.data is not None:
        refuse_held_out(options.data, photos)
    photos = images.choose(photos, len(photos), options.seed, at_least=MINIMUM)

    with replacing(options.out / FOLDER) as folder:
        selection = Selection(photos)
        inputs = artifact.progress(selection.images(options.count), "images", min(options.count, len(photos)))
        batches = write_batches(folder, inputs, options.batch_size)
        graph_batch = model.get("batch", 1)
        loader = LOADER_TEXT.format(batch=graph_batch if isinstance(graph_batch, int) else 1, model=MODEL)
        artifact.write_atomically(folder / LOADER, loader)
        artifact.write_manifest(
            folder,
            lab="lab4",
            model=MODEL,
            weights=model.get("weights", "untrained"),
            seed=options.seed,
            data=images.provenance(options.data, selection.taken),
            preprocessing=images.IMAGENET.describe(),
            split="calibration",
            count=len(selection.taken),
            input="input",
            model_sha256=model.get("sha256"),
            duplicates_dropped=selection.duplicates,
            batches=batches,
        )
    tell(options, selection, graph_batch)


def seal(out: Path) -> None:
    """After calibrating: note beside the cache which model, images and TensorRT its scales come from."""
    onnx = next(
        (p for p in (out / f"{MODEL}.onnx", out / "lab1" / f"{MODEL}.onnx") if p.is_file()), out / f"{MODEL}.onnx"
    )
    artifact.finish("lab4", [calibration_cache.seal(out / CACHE, onnx, out / FOLDER)], [])


def read_model(out: Path) -> dict[str, Any]:
    """Lab 1's manifest, where it lies beside; ends the lab if the model takes other inputs than these."""
    places = [out / f"{MODEL}.manifest.json", out / "lab1" / f"{MODEL}.manifest.json"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        print(f"note: no {MODEL}.manifest.json in {out}, so the preprocessing is lab 1's default, not checked")
        return {}
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        wanted = images.Preprocessing.from_description(model["preprocessing"])
    except (ValueError, KeyError, TypeError) as error:
        raise artifact.stop(f"{path} is no manifest of lab 1: {error}", "run lab1_export_resnet50.py again") from error
    ours, theirs = images.IMAGENET.describe(), wanted.describe()
    different = [f"{name} is {theirs[name]}, here {ours[name]}" for name in ours if ours[name] != theirs[name]]
    if different:
        raise artifact.stop(
            f"the model of {path} was made for other inputs: {'; '.join(different)}",
            "calibrate with the preprocessing of inference, or run lab1_export_resnet50.py again",
        )
    return dict(model)


def refuse_held_out(data: Path, photos: list[images.Photo]) -> None:
    """End the lab if images come from a folder of test or validation images.

    An engine calibrated on the images it is then measured on looks better than it is. Folders above the home
    folder do not count: a user may be called "test".
    """
    whole = data.resolve()
    with contextlib.suppress(ValueError):
        whole = whole.relative_to(Path.home())
    for folder in {Path(photo.name).parent for photo in photos} | {Path()}:
        part = next((part for part in (whole / folder).parts if HELD_OUT.fullmatch(part)), None)
        if part is not None:
            raise artifact.stop(
                f"{data / folder} holds images of the split '{part}', which are kept for measuring",
                f"--data {data / 'train'}" if (data / "train").is_dir() else "point --data at training images",
            )


class Selection:
    """Photographs taken one at a time, each looked at before it counts."""

    def __init__(self, photos: list[images.Photo]) -> None:
        self._photos = photos
        self.taken: list[images.Photo] = []
        self.duplicates = 0

    def images(self, count: int) -> Iterator[npt.NDArray[np.float32]]:
        """Up to `count` distinct inputs, float32 C×H×W; ends the lab at what is unfit to calibrate with."""
        import numpy as np

        seen: set[bytes] = set()
        for photo in self._photos:
            if len(self.taken) == count:
                break
            image = images.IMAGENET.apply(photo.open())
            if not np.isfinite(image).all():
                raise artifact.stop(f"{photo.path} gives NaN or infinity", "remove that file")
            if all(channel.min() == channel.max() for channel in image):
                raise artifact.stop(f"{photo.path} is one colour all over", "remove that file: it teaches no scale")
            digest = hashlib.sha256(image.tobytes()).digest()
            if digest in seen:
                self.duplicates += 1
                continue
            seen.add(digest)
            self.taken.append(photo)
            yield image
        examined = len(self.taken) + self.duplicates
        if self.duplicates > DUPLICATES * examined:
            raise artifact.stop(
                f"{self.duplicates} of {examined} images repeat another one, more than {DUPLICATES:.0%}",
                "give a folder of different photographs",
            )
        if len(self.taken) < MINIMUM:
            raise artifact.stop(f"{len(self.taken)} different images, at least {MINIMUM} are needed", "add photographs")


def write_batches(folder: Path, inputs: Iterable[npt.NDArray[np.float32]], size: int) -> list[dict[str, Any]]:
    """Write `batch_NNN.npy`, float32 N×C×H×W, with one batch in memory; what the manifest says of each."""
    import numpy as np

    written: list[dict[str, Any]] = []
    waiting: list[npt.NDArray[np.float32]] = []

    def write() -> None:
        path = folder / f"batch_{len(written):03d}.npy"
        content = io.BytesIO()
        np.save(content, np.stack(waiting))
        path.write_bytes(content.getvalue())  # not np.save's own writing, whose errors do not say "disk full"
        written.append({"file": path.name, "sha256": artifact.sha256(path), "images": len(waiting)})
        waiting.clear()

    for image in inputs:
        waiting.append(image)
        if len(waiting) == size:
            write()
    if waiting:
        write()
    return written


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` when all went well; else nothing changes."""
    foreign = sorted(p.name for p in target.iterdir() if not OURS.fullmatch(p.name)) if target.is_dir() else []
    if foreign or target.is_file():
        raise artifact.stop(
            f"{target} exists and holds {foreign[0] if foreign else 'a file'}, which this lab did not write",
            "move it away, or give another --out",
        )
    # One fixed name, so that what a killed run left behind is swept away by the next.
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    fresh, old = partial / target.name, partial / "old"
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if target.is_dir():
            target.rename(old)
        fresh.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def tell(options: Any, selection: Selection, graph_batch: int | str) -> None:
    """What was written, why the course's command cannot calibrate with it, and the commands that do."""
    folder, onnx = options.out / FOLDER, options.out / f"{MODEL}.onnx"
    notes = [f"{len(selection.taken)} images from {images.provenance(options.data, [])['source']}"]
    if len(selection.taken) < options.count:
        notes.append(f"--count asked for {options.count}: there are no more")
    if selection.duplicates:
        notes.append(f"{selection.duplicates} repeated images were left out")
    notes.append(
        f"the course's `trtexec --int8 --calib={FOLDER}` cannot work: --calib takes a calibration cache, a file of "
        "scales, and this is a folder of images. Without a cache trtexec calibrates on random numbers and says "
        "nothing: the engine is as fast, and wrong. So polygraphy calibrates first, and trtexec reads its cache"
    )
    notes.append("TensorRT 11 and TensorRT-RTX have no calibration: there the scales stand in the graph, as in lab 5")
    cache = options.out / CACHE
    shape = "input:[1,3,224,224]"
    profile = f" --trt-min-shapes {shape} --trt-opt-shapes {shape} --trt-max-shapes {shape}"
    artifact.finish(
        "lab4",
        [folder],
        [
            f"rm -f {cache}    # polygraphy takes any cache it finds, of whatever model",
            f"polygraphy convert {onnx} --int8 --fp16 --data-loader-script {folder / LOADER} "
            f"--calibration-cache {cache}{profile if graph_batch == artifact.DYNAMIC else ''} "
            f"-o {MODEL}_polygraphy_int8.engine",
            f"python3 {Path(__file__).name} --out {options.out} --seal    # says what the cache was made from",
            f"trtexec --onnx={onnx}{artifact.shapes_option('input', (3, 224, 224), graph_batch)} --int8 --fp16 "
            f"--calib={cache} --saveEngine={MODEL}_int8.engine --useCudaGraph --noDataTransfers --iterations=100",
        ],
        notes,
    )


if __name__ == "__main__":
    artifact.run(main)
