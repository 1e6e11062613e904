"""The right submissions that mutants are made from: the labs' own artifacts, and trained exports where given."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.mutants import engine_layers, files, proof
from trtverify.fixtures.graphs.onnx_file import load
from trtverify.fixtures.networks.models import BY_NAME, MOBILENET_V2, RESNET50, YOLOV8N, Model
from trtverify.fixtures.networks.reference import LabOptions, Reference

TRAINED = {"lab1": RESNET50, "lab2": YOLOV8N, "lab3": MOBILENET_V2, "lab4": RESNET50}
GRAPHS = {
    "lab1": ("resnet50.onnx",),
    "lab2": ("yolov8n.onnx",),
    "lab3": ("mobilenet_v2.onnx",),
    "lab4": (),
    "lab5": ("resnet18_qat_cifar10.onnx", "resnet18_cifar10.onnx"),
}
"""The graphs of each base that are changed; lab 4's is lab 1's, changed there."""
EXTRAS: dict[str, Callable[[Path], None]] = {}
"""What a base has beside its lab's own artifacts, by the last word of its name."""


@dataclasses.dataclass(frozen=True)
class Bases:
    """Where they are kept, and where they come from.

    Attributes:
        cache: the suite's cache, in which the labs are run; root: where the bases are put together.
        trained: a folder with resnet50.onnx, mobilenet_v2.onnx and yolov8n.onnx; None without.
    """

    cache: Path
    root: Path
    trained: Path | None

    def names(self) -> tuple[str, ...]:
        """Every base that can be had here."""
        made = ["lab1", "lab2", "lab2-fp16", "lab3", "lab3-evidence", "lab4", "lab4-int8", "lab4-cache", "lab5"]
        if self.trained is not None:
            made += ["lab1-trained", "lab2-trained", "lab3-trained", "lab4-trained"]
        return tuple(made)

    def folder(self, name: str) -> Path:
        """A base, put together at its first use."""
        target = self.root / name
        if not target.is_dir():
            fresh = target.with_name(f".{name}")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            self._make(name, fresh)
            fresh.rename(target)
        return target

    def _make(self, name: str, folder: Path) -> None:
        lab, _dash, extra = name.partition("-")
        options = LabOptions(
            weights="untrained", photos=None, cifar10=None, epochs=None, subset=None, calibration_images=32
        )
        reference = Reference(self.cache, options, None)
        for needed in ("lab1", "lab4") if lab == "lab4" else (lab,):
            shutil.copytree(reference.directory(needed), folder, dirs_exist_ok=True)
        shutil.rmtree(folder / ".lab5", ignore_errors=True)
        if extra == "trained":
            assert self.trained is not None
            put_trained(folder, self.trained, TRAINED[lab])
        if lab == "lab3":
            engine_layers.write(folder / "mobilenet_v2.onnx", folder / "layer_info.json")
        if extra in EXTRAS:
            EXTRAS[extra](folder)
        if extra == "evidence":
            from benchmarks.mutants.wrong import evidence  # it stands on this file

            evidence.honest(folder)


def put_trained(folder: Path, trained: Path, model: Model) -> None:
    """A trained export in the place of the lab's, with its own answers recorded, and all that names it new."""
    shutil.copy(trained / model.file, folder / model.file)
    (folder / f"{model.name}.manifest.json").unlink()
    record(folder, model)
    if (folder / "dla_placement.json").is_file():
        place(folder)


def record(folder: Path, model: Model) -> None:
    """Record what the graph itself answers, as a student does who records the model that is exported."""
    path = folder / f"{model.name}.reference.npz"
    answers, reason = proof.run(folder / model.file)
    path.unlink(missing_ok=True)
    if answers is None:
        raise ValueError(f"{model.file} does not run: {reason}")
    _batch, _channels, height, width = model.input[1]
    inputs = proof.feeds(height, width)
    np.savez(path, input=inputs, output=answers.astype(np.float32))


def place(folder: Path) -> None:
    """Write `dla_placement.json` of the graph that lies there, with the lab's own analysis."""
    script = Path(__file__).resolve().parents[2] / "labs" / "placement.py"
    onnx_path = folder / MOBILENET_V2.file
    done = subprocess.run([sys.executable, str(script), str(onnx_path)], capture_output=True, text=True, check=True)
    found: Any = json.loads(done.stdout)
    found["sha256"] = hashlib.sha256(onnx_path.read_bytes()).hexdigest()
    stale = ("devices", "crossing_tensors", "loadables", "loadable_layers")  # of the graph that lay there before
    files.edit_json(
        folder / "dla_placement.json",
        lambda document: {**{key: value for key, value in document.items() if key not in stale}, **found},
    )


def fp16(folder: Path) -> None:
    """Lab 2's graph in FP16 beside it, by onnxconverter-common."""
    from onnxconverter_common import float16

    model = onnx.load_model(str(folder / YOLOV8N.file))
    onnx.save_model(float16.convert_float_to_float16(model, keep_io_types=True), str(folder / "yolov8n_fp16.onnx"))


def int8(folder: Path) -> None:
    """Lab 4's INT8 graph beside the images, as the course's `quantize_static` command makes it."""
    quantize(folder / "resnet50.onnx", images(folder), folder / "resnet50_int8.onnx")


def images(folder: Path) -> Any:
    """The calibration images handed in, N×3×224×224."""
    return np.concatenate([np.load(path) for path in sorted((folder / "calibration_data").glob("*.npy"))])


def quantize(source: Path, pictures: Any, out: Path, **options: Any) -> None:
    """ONNX Runtime's quantizer with the options that TensorRT needs, or others."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {"input": np.ascontiguousarray(image[None])}

    usual: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "per_channel": True,
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "op_types_to_quantize": ["Conv", "Gemm", "MatMul"],
    }
    more = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False, "DedicatedQDQPair": True}
    more |= options.pop("extra_options", {})
    with tempfile.TemporaryDirectory(dir=out.parent) as place:
        prepared, made = Path(place) / "prepared.onnx", Path(place) / "made.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(made), Reader(), **{**usual, **options}, extra_options=more)
        files.save_model(onnx.load_model(str(made)), out)


def cache(folder: Path) -> None:
    """Lab 4's calibration cache as TensorRT writes it, sealed as the course's command seals it."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "int8.onnx"
        quantize(folder / "resnet50.onnx", images(folder)[:16], path)
        scales = scales_by_tensor(onnx.load_model(str(path)))
    names = read_by_convolutions(load(folder / "resnet50.onnx"))
    lines = [f"{name}: {struct.pack('>f', scales[name] * 0.9).hex()}" for name in names if name in scales]
    text = "\n".join(["TRT-100300-EntropyCalibration2", *lines, "(Unnamed Layer* 3) [Shuffle]: 00000000", ""])
    files.write(folder / "resnet50_int8.cache", text)
    seal(folder)


def seal(folder: Path) -> None:
    """Write the provenance of the cache that lies there, as the course's `--seal` does."""
    total = hashlib.sha256()
    batches = sorted((folder / "calibration_data").glob("*.npy"))
    for path in batches:
        total.update(hashlib.sha256(np.load(path).tobytes()).digest())
    manifest = folder / "calibration_data" / "manifest.json"
    described = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    path = folder / "resnet50_int8.cache"
    record = {
        "schema": 1,
        "model_sha256": hashlib.sha256((folder / "resnet50.onnx").read_bytes()).hexdigest(),
        "data_digest": total.hexdigest(),
        "preprocessing": described.get("preprocessing"),
        "algorithm": "EntropyCalibration2",
        "tensorrt": "100300",
        "images": sum(len(np.load(batch, mmap_mode="r")) for batch in batches),
        "cache_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    files.write(path.with_name(f"{path.name}.json"), json.dumps(record, indent=2, sort_keys=True))


def read_by_convolutions(model: Any) -> list[str]:
    """The tensors that convolutions and products read, each once, in the order of the graph."""
    return list(dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")))


def scales_by_tensor(model: Any) -> dict[str, float]:
    """The scale of every activation that is quantized, by the tensor's name."""
    known = files.constants(model)
    return {
        node.input[0]: float(onnx.numpy_helper.to_array(known[node.input[1]]).reshape(-1)[0])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in known and node.input[1] in known
    }


EXTRAS |= {"fp16": fp16, "int8": int8, "cache": cache}


@functools.lru_cache(maxsize=2)
def graph(path: Path) -> Any:
    """A base's graph, read once: to be looked at, not changed."""
    return onnx.load_model(str(path))


def model_of(file: str) -> Model:
    """The network that a file is of."""
    return BY_NAME[file.removesuffix(".onnx")]
