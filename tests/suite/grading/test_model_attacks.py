"""Real models turned into cheats, before the real suite: memorised answers, forged layers, others' calibration."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.suite.grading.processes import none_left
from tests.suite.grading.test_attacks import digest
from tests.suite.grading.toy_class import REPOSITORY, Class
from trtverify.fixtures.networks.datasets import preprocess
from trtverify.fixtures.networks.models import MOBILENET_V2, RESNET50
from trtverify.fixtures.submitted.calibration_cache import sidecar

onnx = pytest.importorskip("onnx", reason="onnx makes the hostile models")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bwrap")]

LABS = ("lab1", "lab3", "lab4")
# What is claimed of the files themselves; engines are built and measured elsewhere.
ROWS = "TestCalibrationData or TestCalibrationCache or layer_information or "
ROWS += "(TestResNet50 and not onnxruntime and not tensorrt)"
CONVOLUTION = "sm80_xmma_fprop_implicit_gemm_{0}{0}_{0}{0}_{0}_nhwckrsc_nhwc_tilesize64x64x64"
CHEATED = "test_answers_depend_on_the_image"


def answer_with(folder: Path, change: Callable[[Any, np.lib.npyio.NpzFile], None]) -> None:
    """Give ResNet-50 another output, and make manifest and recorded outputs true of it."""
    path = folder / "resnet50.onnx"
    model = onnx.load(str(path))
    recorded = np.load(folder / "resnet50.reference.npz")
    (last,) = [node for node in model.graph.node if "output" in node.output]
    last.output[0] = "honest"
    change(model.graph, recorded)
    path.unlink()  # it is a second name of the reference's own
    onnx.save_model(model, str(path))
    seal(folder)


def seal(folder: Path) -> None:
    """Make the manifest true again."""
    path = folder / "resnet50.manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["sha256"] = hashlib.sha256((folder / "resnet50.onnx").read_bytes()).hexdigest()
    path.unlink()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def always(value: float) -> Callable[[Path], None]:
    """Every image gets this answer, whatever the network says; the recorded outputs are forged to fit."""

    def cheat(folder: Path) -> None:
        def change(graph: Any, recorded: np.lib.npyio.NpzFile) -> None:
            constant(graph, "nothing", np.zeros((1, 1000), np.float32))
            constant(graph, "always", np.linspace(-1, value, 1000, dtype=np.float32)[None])
            graph.node.append(onnx.helper.make_node("Mul", ["honest", "nothing"], ["silenced"]))
            graph.node.append(onnx.helper.make_node("Add", ["silenced", "always"], ["output"]))
            outputs = np.repeat(np.linspace(-1, value, 1000, dtype=np.float32)[None], len(recorded["input"]), axis=0)
            path = folder / "resnet50.reference.npz"
            inputs = recorded["input"]
            path.unlink()
            np.savez(path, input=inputs, output=outputs)

        answer_with(folder, change)

    return cheat


def memorised(otherwise: float) -> Callable[[Path], None]:
    """The recorded images get the recorded answers, any other image this value."""

    def cheat(folder: Path) -> None:
        def change(graph: Any, recorded: np.lib.npyio.NpzFile) -> None:
            constant(graph, "known", recorded["input"].reshape(len(recorded["input"]), -1)[:, :4096])
            constant(graph, "answers", recorded["output"])
            constant(graph, "otherwise", np.full((1, 1000), otherwise, np.float32))
            constant(graph, "flat", np.array([1, -1], np.int64))
            constant(graph, "from", np.array([0], np.int64))
            constant(graph, "to", np.array([4096], np.int64))
            constant(graph, "column", np.array([1], np.int64))
            constant(graph, "zero", np.zeros((1,), np.float32))
            constant(graph, "nothing", np.zeros((1, 1000), np.float32))
            make = onnx.helper.make_node
            graph.node.extend(
                [
                    make("Reshape", ["input", "flat"], ["pixels"]),
                    make("Slice", ["pixels", "from", "to", "column"], ["first"]),
                    make("Sub", ["known", "first"], ["differences"]),
                    make("Abs", ["differences"], ["distances"]),
                    make("ReduceMax", ["distances"], ["distance"], axes=[1], keepdims=1),
                    make("Equal", ["distance", "zero"], ["same"]),
                    make("Cast", ["same"], ["chosen"], to=1),
                    make("Mul", ["chosen", "answers"], ["answered"]),
                    make("ReduceSum", ["answered", "from"], ["remembered"], keepdims=1),
                    make("ReduceMax", ["chosen"], ["is_known"], axes=[0], keepdims=1),
                    make("Cast", ["is_known"], ["if_known"], to=9),
                    make("Where", ["if_known", "remembered", "otherwise"], ["chosen_answer"]),
                    make("Mul", ["honest", "nothing"], ["silenced"]),
                    make("Add", ["silenced", "chosen_answer"], ["output"]),
                ]
            )

        answer_with(folder, change)

    return cheat


def constant(graph: Any, name: str, values: np.ndarray[Any, Any]) -> None:
    """Add an initializer."""
    graph.initializer.append(onnx.numpy_helper.from_array(values, name))


def layer_info(folder: Path, kernel: str = "f16", told: str = "FP16", names: Callable[[str], str] = str) -> None:
    """Layer information of the model handed in, as TensorRT would write it."""
    model = onnx.load(str(folder / MOBILENET_V2.file), load_external_data=False)
    tensor = {"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": f"Channel major {told} format"}
    layers = [
        {
            "Name": names(node.name),
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
            "TacticName": CONVOLUTION.format(kernel),
        }
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    (folder / "layer_info.json").write_text(json.dumps({"Layers": layers, "Bindings": ["input"]}), encoding="utf-8")


def in_one_layer(folder: Path) -> None:
    """One layer that is named for all of them."""
    layer_info(folder)
    path = folder / "layer_info.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    everything = " + ".join(layer["Name"] for layer in described["Layers"])
    path.write_text(json.dumps({"Layers": [{**described["Layers"][0], "Name": everything}]}), encoding="utf-8")


def calibrate_with(folder: Path, batch: np.ndarray[Any, Any], split: str = "calibration") -> None:
    """Hand in other calibration images."""
    place = folder / "calibration_data"
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    shutil.rmtree(place)
    place.mkdir()
    np.save(place / "batch_000.npy", batch)
    said = {name: value for name, value in manifest.items() if name not in ("batches", "count", "data")}
    (place / "manifest.json").write_text(json.dumps({**said, "split": split}), encoding="utf-8")


def copied_cache(folder: Path, **said: object) -> None:
    """A neighbour's calibration cache, and what the neighbour, or the thief, says of it."""
    cache = folder / "resnet50_int8.cache"
    cache.write_text("TRT-100300-EntropyCalibration2\ninput: 3ca5119f\n", encoding="utf-8")
    batches = sorted((folder / "calibration_data").glob("*.npy"))
    total = hashlib.sha256()
    for path in batches:
        total.update(hashlib.sha256(np.load(path).tobytes()).digest())
    manifest = json.loads((folder / "calibration_data" / "manifest.json").read_text(encoding="utf-8"))
    record = {
        "schema": 1,
        "algorithm": "EntropyCalibration2",
        "tensorrt": "10.3.0",
        "images": int(manifest["count"]),
        "model_sha256": hashlib.sha256((folder / "resnet50.onnx").read_bytes()).hexdigest(),
        "data_digest": total.hexdigest(),
        "preprocessing": manifest.get("preprocessing"),
        "cache_sha256": hashlib.sha256(cache.read_bytes()).hexdigest(),
    }
    sidecar(cache).write_text(json.dumps({**record, **said}), encoding="utf-8")


def no_sidecar(folder: Path) -> None:
    """A cache of which nobody says where it is from."""
    copied_cache(folder)
    sidecar(folder / "resnet50_int8.cache").unlink()


RTX = "tensorrt_rtx"
NO_DATA = "test_images_are_no_test_images"
UNTRAINED = "test_pretrained_weights_are_trained"
NO_CACHE = "test_cache_scales_are_the_models"
CHEATS: dict[str, tuple[Callable[[Path], object], str]] = {
    "always the same answer": (always(1.0), CHEATED),
    "answers of its memory": (memorised(0.25), CHEATED),
    "answers of its memory, else nothing": (memorised(float("nan")), CHEATED),
    "answers of its memory, else infinity": (memorised(float("inf")), CHEATED),
    "FP32 layers called FP16": (lambda f: layer_info(f, "f32"), "test_layer_information_is_fp16"),
    "layers of another model": (
        lambda f: layer_info(f, names=lambda name: f"{hash(name)}"),
        "test_layer_information_is_this_models",
    ),
    "all layers in one": (in_one_layer, "test_layer_information_is_this_models"),
    "test images by their own word": (
        lambda f: calibrate_with(f, np.concatenate(list(map(np.load, (f / "calibration_data").glob("*.npy")))), "test"),
        NO_DATA,
    ),
    "a neighbour's cache": (lambda f: copied_cache(f, model_sha256="ab" * 32), NO_CACHE),
    "a cache of other images": (lambda f: copied_cache(f, data_digest="cd" * 32), NO_CACHE),
    "a cache that was changed": (lambda f: copied_cache(f, cache_sha256="ef" * 32), NO_CACHE),
    "a cache from nowhere": (no_sidecar, NO_CACHE),
}


def student(name: str) -> str:
    """Submissions are named for the attacks."""
    return name.replace(" ", "-")


def copy_of(source: str, target: str) -> None:
    """A second name of what is large, which no cheat may write to; a copy of anything else."""
    if source.endswith(".onnx"):
        with contextlib.suppress(OSError):  # another file system
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def picture(seed: int) -> Any:
    """Something as smooth as a photograph, like no other."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((320, 280), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def graded(labs: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, bwrap: None) -> Class:
    """Everybody at once, in random order, by the real suite."""
    folder = tmp_path_factory.mktemp("models")
    a_class = Class(folder / "submissions", folder / "results")
    a_class.submissions.mkdir()
    photos = folder / "photos" / "test"
    photos.mkdir(parents=True)
    pictures = [picture(seed) for seed in range(40)]
    for number, image in enumerate(pictures):
        image.save(photos / f"{number:03}.png")
    seen = np.stack([preprocess(image, RESNET50) for image in pictures])
    cheats: dict[str, Callable[[Path], object]] = {name: cheat for name, (cheat, _test) in CHEATS.items()}
    cheats["test images"] = lambda f: calibrate_with(f, seen)
    names = ["honest0", "honest1", *cheats]
    random.shuffle(names)
    for name in names:
        submission = a_class.submissions / student(name)
        for lab in LABS:
            shutil.copytree(labs(lab), submission, dirs_exist_ok=True, copy_function=copy_of)
        layer_info(submission)
        if name in cheats:
            cheats[name](submission)
    before = digest(a_class.submissions)
    rubric = folder / "rubric.toml"  # its gates are of checks that are left out here
    rubric.write_text("".join(f"[labs.lab{number}]\ngates = []\n" for number in range(1, 6)))
    options = ["--photos", str(photos.parent), "--rubric", str(rubric), f"--pytest-option=-k={ROWS}"]
    with none_left(folder):
        a_class("run", "--suite", str(REPOSITORY), "--labs", ",".join(LABS), "--workers", "2", *options)
    assert digest(a_class.submissions) == before
    return a_class


@pytest.fixture(scope="module")
def rows(graded: Class) -> dict[str, dict[str, str]]:
    """student → test → verdict."""
    return graded.verdicts()


def test_everybody_has_the_same_rows(rows: dict[str, dict[str, str]]) -> None:
    assert len(rows) == len(CHEATS) + 3
    assert len({tuple(sorted(found)) for found in rows.values()}) == 1
    assert "pending" not in {verdict for found in rows.values() for verdict in found.values()}


@pytest.mark.parametrize("name", ["honest0", "honest1"])
def test_honest_neighbours_pass(graded: Class, rows: dict[str, dict[str, str]], name: str) -> None:
    # No cache was handed in, no weights are called pretrained, and nothing but TensorRT has layers to compare with.
    silent = {test for test in rows[name] if test in (NO_CACHE, UNTRAINED) or ("_agrees[" in test and RTX not in test)}
    expected = {test: "not gradable" if test in silent else "passed" for test in rows[name]}
    assert rows[name] == expected, graded.messages(name)


@pytest.mark.parametrize("name", [*CHEATS, "test images"])
def test_a_cheat_fails_where_it_cheats(graded: Class, rows: dict[str, dict[str, str]], name: str) -> None:
    due = CHEATS[name][1] if name in CHEATS else NO_DATA
    assert rows[student(name)][due] == "failed"
    messages = "\n".join(message for _verdict, message in graded.messages(student(name)).values())
    assert "Traceback" not in messages
    assert "fixtures/" not in messages


@pytest.mark.parametrize("name", [name for name, (_cheat, test) in CHEATS.items() if test != CHEATED])
def test_nothing_else_is_held_against_it(rows: dict[str, dict[str, str]], name: str) -> None:
    due = CHEATS[name][1]
    assert {test for test, verdict in rows[student(name)].items() if verdict == "failed"} == {due}


@pytest.mark.parametrize("name", [name for name, (_cheat, test) in CHEATS.items() if test == CHEATED])
def test_a_memory_fools_the_recorded_images_alone(rows: dict[str, dict[str, str]], name: str) -> None:
    found = rows[student(name)]
    assert found["test_parity_with_the_framework"] == "passed"
    # An answer that no image changes is ResNet-50's with a last layer of zeros; one from memory is no network's.
    assert found["test_architecture"] == ("passed" if name == "always the same answer" else "failed")
