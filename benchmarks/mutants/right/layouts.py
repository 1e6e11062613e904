"""Right work laid out otherwise: folders, files, manifests, and calibration images of other sources and numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutants import bases, files, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.wrong import images

Make = Callable[[Path], None]


def cases(base: str, folder: Path) -> Iterator[Case]:
    """Every layout that the students' README allows."""
    for what, make in folders():
        yield Case(base, "layout", what, make, None, "the students' README allows it")
    for path in sorted(folder.rglob("*.json")):
        if base.startswith("lab4") and path.parent == folder:
            continue
        where = str(path.relative_to(folder))
        for what, make in documents(where):
            yield Case(
                base, "documents", f"{where} {what}", make, None, "it says the same, or is optional", engines=False
            )
    if base.startswith("lab4"):
        for what, make in batches():
            yield Case(base, "images", f"images {what}", make, None, "photographs as the model takes them")


def folders() -> Iterator[tuple[str, Make]]:
    """Where files lie."""

    def inside(folder: Path) -> None:
        lab = {"resnet50": "lab1", "yolov8n": "lab2", "mobilenet": "lab3", "dla": "lab3", "layer": "lab3"}
        for path in list(folder.iterdir()):
            target = next((room for word, room in lab.items() if path.name.startswith(word)), "lab5")
            if "int8" in path.name or path.name == "calibration_data":
                target = "lab4"
            (folder / target).mkdir(exist_ok=True)
            path.rename(folder / target / path.name)

    def bare(folder: Path) -> None:
        for path in list(folder.rglob("*")):
            if path.name.endswith((".manifest.json", ".reference.npz", "lab.log", "training_curves.json")):
                path.unlink()

    def crowded(folder: Path) -> None:
        files.write(folder / "README.md", "# my work\n")
        files.write(folder / "notes.txt", "learnt a lot")
        files.write(folder / ".DS_Store", b"\x00\x01")
        (folder / "__MACOSX").mkdir()
        files.write(folder / "__MACOSX" / "._resnet50.onnx", b"\x00\x05\x16\x07")
        files.write(folder / "export.py", "raise SystemExit(1)\n")

    def no_log(folder: Path) -> None:
        (folder / "lab.log").unlink(missing_ok=True)

    yield "each lab's files in its folder", inside
    yield "no manifests, recordings or curves", bare
    yield "each in its folder, no manifests", surgery.in_turn(bare, inside)
    yield "other files beside", crowded
    yield "without the log", no_log


def documents(where: str) -> Iterator[tuple[str, Make]]:
    """A document that says the same."""

    def rewritten(change: Callable[[Any], str]) -> Make:
        def make(folder: Path) -> None:
            document = json.loads((folder / where).read_text(encoding="utf-8"), strict=False)
            files.write(folder / where, change(document))

        return make

    def turned(document: Any) -> Any:
        return dict(reversed(document.items()))

    yield "in one line", rewritten(json.dumps)
    yield "with its keys the other way round", rewritten(lambda d: json.dumps(turned(d), indent=4))
    yield "sorted, with tabs", rewritten(lambda d: json.dumps(d, indent="\t", sort_keys=True))
    yield "with more keys", rewritten(lambda d: json.dumps({**d, "student": "王小明", "note": {"tries": [1, 2]}}))
    yield "not in ASCII", rewritten(lambda d: json.dumps({**d, "student": "王小明"}, ensure_ascii=False))
    yield "with Windows' line ends", rewritten(lambda d: json.dumps(d, indent=2).replace("\n", "\r\n"))
    if where.endswith("manifest.json") or where in ("training_curves.json", "layer_info.json"):
        yield "left out", lambda folder: (folder / where).unlink()
    if where.endswith("manifest.json"):
        for field in ("versions", "created", "seed", "separation", "recipe", "onnxruntime_difference"):
            yield f"without {field}", lost(where, field)
    if where == "layer_info.json":
        yield "names only", rewritten(lambda d: json.dumps({**d, "Layers": [e["Name"] for e in d["Layers"]]}))
        yield (
            "as TensorRT 11 names ports",
            rewritten(
                lambda d: json.dumps({"Layers": d["Layers"], "I/O Tensors": [{"Name": b} for b in d["Bindings"]]})
            ),
        )
        yield "of an engine with dynamic shapes", rewritten(_dynamic)
        yield "with layers that only convert", rewritten(_reformats)
        yield "with the first layer in FP32", rewritten(_stem)


def lost(where: str, field: str) -> Make:
    """A document without a field."""

    def change(document: Any) -> None:
        document.pop(field, None)

    return lambda folder: files.edit_json(folder / where, change)


def _dynamic(document: Any) -> str:
    for entry in document["Layers"]:
        for tensor in (*entry["Inputs"], *entry["Outputs"]):
            tensor["Dimensions"] = [-1, *tensor["Dimensions"][1:]]
            tensor["Format/Datatype"] = "N/A due to dynamic shapes"
    return json.dumps(document)


def _reformats(document: Any) -> str:
    first = document["Layers"][0]
    made = {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat", "ParameterType": "Reformat"}
    document["Layers"].insert(0, {**made, "Inputs": first["Inputs"], "Outputs": first["Inputs"], "TacticName": ""})
    return json.dumps(document)


def _stem(document: Any) -> str:
    from benchmarks.mutants.engine_layers import KERNEL, PRODUCTS

    document["Layers"][0]["TacticName"] = KERNEL.format(PRODUCTS["FP32"])
    document["Layers"][0]["Weights"]["Type"] = "Float"
    return json.dumps(document)


def batches() -> Iterator[tuple[str, Make]]:
    """Other numbers, files and sources of images."""

    def again(name: Callable[[int], str], size: int, keep: bool = False) -> Make:
        def make(folder: Path) -> None:
            pictures, place = bases.images(folder), folder / "calibration_data"
            for path in place.glob("*.npy"):
                path.unlink()
            for number, start in enumerate(range(0, len(pictures), size)):
                np.save(place / name(number), pictures[start : start + size])
            if keep:
                images.true(folder)
            else:
                (place / "manifest.json").unlink(missing_ok=True)

        return make

    def others(count: int, seed: int) -> Make:
        def make(folder: Path) -> None:
            pictures = photographs(count, seed)
            images.rewritten(lambda _x: pictures)(folder)

        return make

    def plain(folder: Path) -> None:
        (folder / "calibration_data" / "manifest.json").unlink()

    def fortran(folder: Path) -> None:
        for path in (folder / "calibration_data").glob("*.npy"):
            files.edit_array(path, np.asfortranarray)
        images.true(folder)

    def overshoot(x: Any) -> Any:
        moved = x.copy()
        moved[:, :, ::40, ::40] *= 1.03
        return moved

    yield "one file", again(lambda _n: "images.npy", 64)
    yield "a file for each", again(lambda n: f"{n:05}.npy", 1)
    yield "five in each", again(lambda n: f"calib_{n}.npy", 5)
    yield "sixteen in each, with a manifest", again(lambda n: f"batch_{n:03}.npy", 16, keep=True)
    yield "no manifest", plain
    yield "in Fortran's order", fortran
    yield "pixels a little outside, as bicubic leaves them", images.rewritten(overshoot)
    yield "mirrored", images.rewritten(lambda x: x[..., ::-1])
    yield "a third of them mirrored", images.rewritten(lambda x: np.concatenate([x[:22], x[22:, ..., ::-1]]))
    yield "a little brighter", images.rewritten(lambda x: images.normal((images.pixels(x) * 1.1).clip(0, 1)))
    yield "in another order", images.rewritten(lambda x: x[np.random.default_rng(1).permutation(len(x))])
    for count in (32, 48, 64, 100):
        for seed in (1, 2, 3):
            yield f"{count} other crops, draw {seed}", others(count, seed)


def photographs(count: int, seed: int) -> Any:
    """Crops of the photographs that the suite bundles, as the model takes them; others for another seed."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, found = np.random.default_rng(seed), []
    pictures = [Image.fromarray(p) for p in load_sample_images().images]
    for number in range(count):
        picture = pictures[number % 2]
        side = int(rng.uniform(0.35, 0.95) * min(picture.size))
        left, top = (int(rng.integers(0, limit - side)) for limit in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BILINEAR)
        found.append(np.asarray(square, np.float32).transpose(2, 0, 1) / 255)
    return images.normal(np.stack(found))
