"""A class of honest students: who they are, what they did, and why it is right, written before anything is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.mutants import bases, files, surgery
from benchmarks.mutants.case import Case
from benchmarks.mutants.right import exporters, layouts, operators, quantizers, rewrites, training
from benchmarks.mutants.wrong import images

Step = Callable[[Path], Any]
KIND = "honest student"


@dataclasses.dataclass(frozen=True)
class Student:
    """One submission: what it starts from, what is done to it in turn, and the judgement."""

    name: str
    base: str
    steps: tuple[Step, ...]
    why: str

    def case(self) -> Case:
        """As it is handed in."""
        return Case(self.base, KIND, f"{KIND}: {self.name}", surgery.in_turn(*self.steps), None, self.why)


def cases(base: str) -> Iterator[Case]:
    """The students who start from this base."""
    for student in everybody():
        if student.base == base:
            yield student.case()


def on(file: str, *changes: Callable[[Any], Any]) -> Step:
    """Changes of a graph, one after the other."""

    def step(folder: Path) -> None:
        model = onnx.load_model(str(folder / file))
        for change in changes:
            model = change(model) or model
        files.save_model(model, folder / file)
        rewrites.derive(folder, file)

    return step


def torch(file: str, **options: Any) -> Step:
    """PyTorch's exporter with those options."""
    return exporters.exported(file, exporters.by_torch(**options))


def yolo(**options: Any) -> Step:
    """ultralytics' exporter with those options."""
    return exporters.exported("yolov8n.onnx", exporters.by_ultralytics(**options))


def without(*endings: str) -> Step:
    """Files of these endings were never made."""

    def step(folder: Path) -> None:
        for path in list(folder.rglob("*")):
            if path.is_file() and path.name.endswith(endings):
                path.unlink()

    return step


def laid_out(what: str) -> Step:
    """A layout by its name."""
    return dict(layouts.folders())[what]


def pictures(count: int, seed: int, size: int, manifest: bool) -> Step:
    """Calibration images of one's own script: so many, in batches of this size."""

    def step(folder: Path) -> None:
        place = folder / "calibration_data"
        for path in place.glob("*.npy"):
            path.unlink()
        found = layouts.photographs(count, seed)
        for number, start in enumerate(range(0, count, size)):
            np.save(place / f"batch_{number:03}.npy", found[start : start + size])
        if manifest:
            images.true(folder)
        else:
            (place / "manifest.json").unlink(missing_ok=True)

    return step


def by_quantizer(images_used: int, **options: Any) -> Step:
    """An INT8 graph by ONNX Runtime's quantizer from the first images handed in."""

    def step(folder: Path) -> None:
        some = bases.images(folder)[:images_used]
        bases.quantize(folder / "resnet50.onnx", some, folder / "resnet50_int8.onnx", **dict(options))

    return step


def qat(**recipe: Any) -> Step:
    """Lab 5 by hand."""
    return lambda folder: training.train(folder, training.Recipe(**recipe))


BARE = without(".manifest.json", ".reference.npz", "lab.log")
IN_FOLDERS, CROWDED = "each lab's files in its folder", "other files beside"
R, M, P, Q = "resnet50.onnx", "mobilenet_v2.onnx", "resnet18_cifar10.onnx", "resnet18_qat_cifar10.onnx"
AXES = {"input": {0: "batch"}, "output": {0: "batch"}}


def everybody() -> Iterator[Student]:
    """The class."""
    yield from classifiers("lab1", R)
    yield from detectors()
    yield from placers()
    yield from calibrators()
    yield from trainers()


def classifiers(lab: str, file: str) -> Iterator[Student]:
    """Labs 1 and 3 have the same steps up to the graph."""
    for base in (lab, f"{lab}-trained"):
        own = "their own weights" if base == lab else "weights trained elsewhere"
        yield Student("the course's script", base, (), f"the lab's own artifacts, {own}")
        yield Student(
            "a notebook, older exporter, opset 13, no manifest",
            base,
            (torch(file, dynamo=False, opset_version=13), BARE),
            "torchvision's network, exported in evaluation mode with the names that the course asks for; 13 is allowed",
        )
        yield Student(
            "the newer exporter as it comes",
            base,
            (torch(file, dynamo=True, opset_version=18, external_data=True), BARE),
            "the same network; PyTorch's exporter of today puts large weights into a file beside the graph",
        )
        yield Student(
            "a blog's script, then onnxsim",
            base,
            (torch(file, dynamo=False, opset_version=16), exporters.exported(file, slimmer(1)), BARE),
            "onnxsim folds constants and changes no function",
        )
        yield Student(
            "renamed nodes, words everywhere, other files beside",
            base,
            (on(file, rewrites.renamed, rewrites.described), BARE, laid_out(CROWDED)),
            "names within the graph are nobody's business; what is not asked for is ignored",
        )
        yield Student(
            "in folders, opset 20",
            base,
            (on(file, rewrites.to_opset(20)), laid_out(IN_FOLDERS)),
            "ONNX's own converter; the README allows a folder for each lab",
        )


def slimmer(number: int) -> Callable[[Path, str], None]:
    """onnxslim or onnxsim."""
    return list(exporters.slimmers())[number][1]


def detectors() -> Iterator[Student]:
    """Lab 2."""
    half = {case.name: case.make for case in exporters.fp16("lab2")}
    for base in ("lab2", "lab2-trained"):
        ways: tuple[tuple[str, tuple[Step, ...], str], ...] = (
            ("the course's script", (), "the lab's own artifacts"),
            ("yolo export as it comes", (yolo(), BARE), "ultralytics' own command, with what it slims by itself"),
            (
                "yolo export dynamic=True",
                (yolo(dynamic=True, simplify=False, opset=17), BARE),
                "a dynamic batch is allowed",
            ),
            ("yolo export opset=13", (yolo(simplify=False, opset=13), BARE), "13 is the least that is allowed"),
            ("onnxslim afterwards", (exporters.exported("yolov8n.onnx", slimmer(0)), BARE), "it changes no function"),
            ("FP16 by onnxconverter-common", (half["onnxconverter-common, FP32 ports"],), "the course's own hint"),
            (
                "FP16 ports and all",
                (half["onnxconverter-common, FP16 ports"], BARE),
                "what the converter makes unasked",
            ),
            ("yolo export half=True", (half["ultralytics, half"], BARE), "ultralytics' own FP16"),
        )
        for name, steps, why in ways:
            yield Student(name, base, steps, why)


def placers() -> Iterator[Student]:
    """Lab 3."""
    yield from classifiers("lab3", M)
    info = dict(layouts.documents("layer_info.json"))
    for name, what, why in (
        ("layer names only", "names only", "the course's command writes no more without --profilingVerbosity"),
        ("an engine with dynamic shapes", "of an engine with dynamic shapes", "trtexec writes N/A for its formats"),
        ("a first layer in FP32", "with the first layer in FP32", "a builder may keep a layer of three channels so"),
        ("layers that only convert", "with layers that only convert", "a builder adds them"),
    ):
        yield Student(name, "lab3", (info[what],), why)


def calibrators() -> Iterator[Student]:
    """Lab 4."""
    for base in ("lab4", "lab4-trained"):
        for count, seed, size in ((32, 5, 8), (64, 6, 16), (100, 7, 10)):
            yield Student(
                f"{count} photographs of their own in files of {size}",
                base,
                (pictures(count, seed, size, manifest=False), BARE),
                "real photographs, preprocessed as for inference; a manifest is optional",
            )
        yield Student("the course's script", base, (), "the lab's own artifacts")
    yield Student("OpenCV's bicubic", "lab4", (images.rewritten(lambda x: x * 1.004),), "bicubic overshoots by so much")
    yield Student("one file", "lab4", (dict(layouts.batches())["one file"],), "any number of .npy files is allowed")
    yield Student("mirrored by augmentation", "lab4", (images.rewritten(lambda x: x[..., ::-1]),), "still photographs")
    from onnxruntime.quantization import CalibrationMethod

    for name, options in (
        ("quantize_static, MinMax", {}),
        ("quantize_static, Percentile", {"calibrate_method": CalibrationMethod.Percentile}),
        ("quantize_static, Entropy", {"calibrate_method": CalibrationMethod.Entropy}),
        ("quantize_static, per tensor", {"per_channel": False}),
    ):
        why = "Q/DQ as TensorRT needs them, from the images handed in"
        yield Student(name, "lab4", (by_quantizer(16, **options), BARE), why)
    for header, factor in (
        ("TRT-8600-EntropyCalibration2", 0.8),
        ("TRT-100300-EntropyCalibration2", 0.9),
        ("TRT-100300-MinMaxCalibration", 1.0),
    ):
        why = "the calibrator's own file, sealed by the course's command right afterwards"
        yield Student(header, "lab4-cache", (quantizers.cache(header, factor, 0.03),), why)


def trainers() -> Iterator[Student]:
    """Lab 5."""
    ways: tuple[tuple[str, tuple[Step, ...], str], ...] = (
        ("the course's script", (), "the lab's own artifacts"),
        ("fake quantization by hand", (qat(), BARE), "scales from the largest values, frozen before the export"),
        ("by hand, with a manifest", (qat(steps=40),), "the manifest says what was trained with"),
        ("by hand, percentile", (qat(ranges="percentile"), BARE), "NVIDIA's tool cuts one value in 10,000 too"),
        ("by hand, least squares", (qat(ranges="squares"), BARE), "the scale of least error"),
        ("by hand, moving average", (qat(ranges="average"), BARE), "PyTorch's own observer averages extremes"),
        ("by hand, per tensor", (qat(per_channel=False), BARE), "one scale a layer is symmetric INT8 too"),
        ("by hand, powers of two", (qat(powers=True), BARE), "shifts for products: at most twice as wide"),
        ("by hand, residuals", (qat(residuals=True), BARE), "the sum in INT8 too, which is faster"),
        ("by hand, BatchNorm left", (qat(unfolded=True), BARE), "the builder folds it"),
        ("by hand, Adam", (qat(adam=True, rate=1e-4), BARE), "another optimizer"),
        ("by hand, mean 0, deviation 1", (qat(mean=0.0, deviation=1.0, steps=60),), "ToTensor alone, and said so"),
        ("by hand, mean and deviation 0.5", (qat(mean=0.5, deviation=0.5, steps=60),), "the manifest says so"),
        ("by hand, newer exporter", (qat(newer=True, opset=18), BARE), "PyTorch's exporter of today"),
        ("by hand, opset 13", (qat(opset=13), BARE), "per-channel Q/DQ exist since 13"),
        (
            "by hand, scales as value_float",
            (qat(), on(Q, quantizers.constants_as(quantizers.as_value_float)), BARE),
            "onnxscript writes constants so",
        ),
        (
            "by hand, weights stored as INT8",
            (qat(), on(Q, quantizers.stored_int8), BARE),
            "a DequantizeLinear is enough",
        ),
        (
            "by hand, biases added behind",
            (qat(), on(P, operators.everywhere("Conv", operators.bias_apart)), BARE),
            "the parent's bias as an Add is the same",
        ),
        ("in folders", (laid_out(IN_FOLDERS),), "the README allows a folder for each lab"),
        ("without curves and manifests", (laid_out("no manifests, recordings or curves"),), "all of them are optional"),
    )
    for name, steps, why in ways:
        yield Student(name, "lab5", steps, why)
