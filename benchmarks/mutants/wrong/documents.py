"""Every field of every JSON document that is handed in, made false, of another type, or left out."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.mutants import expected, files
from benchmarks.mutants.case import EITHER, Case, Expected

Edit = Callable[[Any], Any]
DIGEST = "0123456789abcdef" * 4
NOT_CLAIMED = "the field is no claim that anything is graded by: either checked or not used"


def cases(base: str, folder: Path) -> Iterator[Case]:
    """Every change of every document of a base."""
    for path in sorted(folder.rglob("*.json")):
        where = str(path.relative_to(folder))
        if base.startswith("lab4") and path.parent == folder:
            continue  # lab 1's, which lab 4's tests do not read
        document = json.loads(path.read_text(encoding="utf-8"), strict=False)
        if path.name.endswith("manifest.json"):
            who, kind = expected.MANIFEST, "manifest"
            yield from _of_fields(base, where, kind, who, manifest(base, where, document))
        elif path.name == "dla_placement.json":
            who, kind = expected.PLACEMENT, "placement"
            yield from _of_fields(base, where, kind, who, placement(document))
        elif path.name == "layer_info.json":
            who, kind = expected.LAYERS, "layer information"
            yield from _of_fields(base, where, kind, who, layers(document))
        elif path.name == "training_curves.json":
            who, kind = expected.CURVES, "training curves"
            yield from _of_fields(base, where, kind, who, curves(document))
        else:
            continue
        for what, content in broken(path.read_bytes()):
            why = "it is no JSON object, or a reader would have to guess"
            make = replaced(where, content)
            yield Case(
                base,
                f"{kind}, its text",
                f"{where} {what}",
                make,
                Expected(r".", r"JSON|layers|epochs|object|key|UTF"),
                why,
                engines=False,
            )


def _of_fields(
    base: str, where: str, kind: str, who: Expected, changes: Iterator[tuple[str, Edit, str]]
) -> Iterator[Case]:
    for what, change, why in changes:
        rule = _either if why == NOT_CLAIMED else None
        yield Case(base, kind, f"{where} {what}", edited(where, change), who, why, rule=rule, engines=False)


def _either(_base: Path, _folder: Path) -> tuple[str, str]:
    return EITHER, NOT_CLAIMED


def edited(where: str, change: Edit) -> Callable[[Path], None]:
    """That change of a document."""
    return lambda folder: files.edit_json(folder / where, change)


def replaced(where: str, content: bytes) -> Callable[[Path], None]:
    """Other bytes in a document's place."""
    return lambda folder: files.write(folder / where, content)


def put(*keys: str, value: Any) -> Edit:
    """One field's value, below these keys."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def drop(*keys: str) -> Edit:
    """One field left out."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


def manifest(base: str, where: str, document: Any) -> Iterator[tuple[str, Edit, str]]:
    """A manifest's fields."""
    lab5, calibration = base.startswith("lab5"), where.startswith("calibration_data")
    false = "it says of the file what is not so"
    if not calibration:
        yield "sha256 of another file", put("sha256", value=DIGEST), false
        yield "sha256 left out", drop("sha256"), "it names no file"
        yield "sha256 a number", put("sha256", value=7), "it names no file"
        yield "weights of nobody", put("weights", value="good"), "no such weights"
        yield "weights left out", drop("weights"), "it does not say whose weights"
        yield "weights pretrained", put("weights", value="pretrained"), "these weights were never pretrained"
    others = {"lab1": "lab3", "lab2": "lab1", "lab3": "lab1", "lab4": "lab2", "lab5": "lab1"}
    yield "of another lab", put("lab", value=others[base[:4]]), false
    yield "of another model", put("model", value="vgg16"), false
    if "artifact" in document:
        yield "of another artifact", put("artifact", value="other.onnx"), false
    if "opset" in document:
        yield "opset of another file", put("opset", value=11), false
        yield "batch of another file", put("batch", value=64), false
    if "reference" in document:
        yield "recording of another hash", put("reference", "sha256", value=DIGEST), false
        yield "recording of another number of images", put("reference", "images", value=4000), false
    for field in ("data", "preprocessing"):
        yield f"{field} a list", put(field, value=[1]), "it is laid out as no manifest is"
        yield f"{field} a word", put(field, value="imagenet"), "it is laid out as no manifest is"
    if "accuracy" in document:
        for value in (0.999, 1.7, -0.2, "high"):
            yield f"accuracy {value}", put("accuracy", value=value), "the exported model has not this accuracy"
    if lab5:
        why = "the network was trained with another"
        yield "mean of ImageNet", put("preprocessing", "mean", value=[0.485, 0.456, 0.406]), NOT_CLAIMED
        yield "mean of 3", put("preprocessing", "mean", value=[3.0, 3.0, 3.0]), why
        yield "deviation of 0.01", put("preprocessing", "std", value=[0.01, 0.01, 0.01]), why
        yield "deviation of 0", put("preprocessing", "std", value=[0.0, 0.0, 0.0]), why
        yield "deviation negative", put("preprocessing", "std", value=[-0.3, -0.3, -0.3]), why
        yield "mean a word", put("preprocessing", "mean", value="imagenet"), why
        yield "two channels' mean", put("preprocessing", "mean", value=[0.3, 0.3]), why
        yield "untrained", put("weights", value="untrained"), "then no accuracy is claimed, and none is earned"
    if calibration:
        yield "split test", put("split", value="test"), "test images measure what came of it"
        yield "split validation", put("split", value="validation"), "test images measure what came of it"
        yield "count of 500", put("count", value=500), "there are not so many"
        yield "model's hash of another model", put("model_sha256", value=DIGEST), "made for another model"
        yield "every batch's hash false", _false_batches, "they are not the files that lie there"
        yield (
            "first batch's hash false",
            put("batches", value=[{"file": "batch_000.npy", "sha256": DIGEST, "images": 8}]),
            false,
        )
        yield "500 batches that are not there", _many_batches, "they are not the files that lie there"
        yield "preprocessing of another network", put("preprocessing", "mean", value=[0.5, 0.5, 0.5]), false
        yield "channels BGR", put("preprocessing", "channels", value="BGR"), false
        yield "divisor 1", put("preprocessing", "divisor", value=1.0), false
    for field in ("schema", "seed", "created", "versions", "separation", "onnxruntime_difference", "epochs", "recipe"):
        if field in document:
            yield f"{field} another", put(field, value=3 if field in ("schema", "seed") else "x"), NOT_CLAIMED
    yield "photographs' hashes false", _false_photos, NOT_CLAIMED
    yield "data of another source", put("data", "source", value="ImageNet"), NOT_CLAIMED


def _false_batches(document: Any) -> None:
    for batch in document["batches"]:
        batch["sha256"] = DIGEST


def _many_batches(document: Any) -> None:
    document["batches"] = [{"file": f"batch_{i:03}.npy", "sha256": DIGEST, "images": 8} for i in range(500)]
    document["count"] = 4000


def _false_photos(document: Any) -> None:
    for photo in document.get("data", {}).get("photos", []):
        photo["sha256"] = DIGEST


def placement(document: Any) -> Iterator[tuple[str, Edit, str]]:
    """A placement's fields, and every layer of it."""
    for index, layer in enumerate(document["layers"]):
        other = "GPU" if layer["device"] == "DLA" else "DLA"
        name = layer["name"]
        yield f"{name} on the {other}", _layer(index, device=other), "the table puts it elsewhere"
        if layer["operator"] in ("Conv", "Gemm"):
            yield f"{name} left out", _without(index), "every layer with weights is placed"
            yield f"{name} under another name", _layer(index, name=f"{name}_x"), "the model has no such layer"
            yield f"{name} twice", _twice(index), "a layer is on one device"
    yield "a layer on the CPU", _layer(3, device="CPU"), "there are two devices"
    yield "a layer without a device", lambda d: d["layers"][3].pop("device") and None, "every layer has a device"
    yield "twenty layers that the model has not", _made_up, "the model has no such layers"
    yield "all on the DLA", _all("DLA"), "the table refuses some"
    yield "all on the GPU", _all("GPU"), "the table takes most"
    yield "all on the GPU, counted so", _all("GPU", 0), "the table takes most"
    for value in (0, 1, document["crossings"] + 1, 40, 999):
        if value != document["crossings"]:
            yield f"crossings {value}", put("crossings", value=value), "its own layers cross otherwise"
    for bad in (-1, 2.5, "two", None, True):
        yield f"crossings {bad}", put("crossings", value=bad), "no count of tensors"
    for word in ("builder", "manual", "guess", "trtexec", "Table", "none", ""):
        yield f"method {word!r}", _method(word), "another word for the method opts out of being checked"
    yield "of another model's hash", put("sha256", value=DIGEST), "it is of another file"
    yield "of another model", put("model", value="resnet50.onnx"), "it is of another file"
    yield "devices counted falsely", put("devices", value={"DLA": 999, "GPU": 1}), NOT_CLAIMED
    for value in (77, document["loadables"] + 1, -1, "many"):
        yield f"loadables {value}", put("loadables", value=value), "its own layers make another number of loadables"
    whole = [[layer["name"] for layer in document["layers"]]]
    yield "loadables of other layers", put("loadable_layers", value=whole), "its own layers make other loadables"
    yield "crossing tensors that do not cross", put("crossing_tensors", value=["input"]), NOT_CLAIMED
    others = [f"/other_{number}" for number in range(document["crossings"])]
    if others:
        yield "as many other crossing tensors", put("crossing_tensors", value=others), "other tensors cross"
    yield "of another table", put("table", "sha256", value=DIGEST), "the course has one table"
    yield "for another device", put("table", "device", value="DLA of Jetson Xavier, FP16"), "the table is for another"
    yield "with another limit", put("loadable_limit", value=999), "the table gives another"
    yield "said to be a builder's", _by_a_builder, "the rule of each layer is the table's"
    yield "no layers", put("layers", value=[]), "every layer with weights is placed"
    yield "layers a number", put("layers", value=100), "it is laid out as no placement is"
    yield "layers by name", _by_name, "it is laid out as no placement is"
    yield "reasons left out", lambda d: [layer.pop("reason", None) for layer in d["layers"]] and None, NOT_CLAIMED


def _layer(index: int, **values: Any) -> Edit:
    return lambda document: document["layers"][index].update(values)


def _without(index: int) -> Edit:
    return lambda document: document["layers"].pop(index) and None


def _twice(index: int) -> Edit:
    return lambda document: document["layers"].append(document["layers"][index])


def _made_up(document: Any) -> None:
    for number in range(20):
        document["layers"].append({"name": f"/extra/{number}/Conv", "operator": "Conv", "device": "DLA"})


def _all(device: str, crossings: int | None = None) -> Edit:
    def change(document: Any) -> None:
        for layer in document["layers"]:
            layer["device"] = device
        if crossings is not None:
            document["crossings"] = crossings

    return change


def _method(word: str) -> Edit:
    """Another method, and layers that no table puts there."""

    def change(document: Any) -> None:
        document["method"] = word
        for layer in document["layers"][::2]:
            layer["device"] = "GPU"

    return change


def _by_a_builder(document: Any) -> None:
    document.update(method="builder", dla_cores=2)


def _by_name(document: Any) -> None:
    document["layers"] = {layer["name"]: layer["device"] for layer in document["layers"]}


def layers(document: Any) -> Iterator[tuple[str, Edit, str]]:
    """Layer information of an engine that is not FP16, or not of this model."""
    count = len(document["Layers"])
    fp32 = "the engine computes in another precision"
    for part in (100, 60, 30, 15):
        yield f"{part} % of the kernels FP32", _precision(part, "FP32", True, True), fp32
        yield f"{part} % of the kernels FP32, formats FP16", _precision(part, "FP32", True, False), fp32
        yield f"{part} % of the kernels TF32", _precision(part, "TF32", True, True), fp32
        yield f"{part} % of the kernels INT8", _precision(part, "Int8", True, True), fp32
        whose = "layers with weights are in no layer of the engine"
        yield f"{part} % of the layers left out", functools.partial(_kept, part=part), whose
        yield (
            f"{part} % of the layers another's",
            functools.partial(_renamed, part=part),
            "the model has no such layers",
        )
    for times in (2, 3, 10):
        yield (
            f"every layer {times} times",
            functools.partial(_multiplied, times=times),
            "an engine has each once",
        )
    yield (
        "one layer as often as there are",
        lambda d: d.update(Layers=[d["Layers"][1]] * count),
        "an engine has each once",
    )
    yield "one layer that names all", _one_for_all, "no builder fuses all into one"
    yield "layers in another order's names", _shifted_names, "kernels and shapes are not those of the nodes named"
    yield "no layers", put("Layers", value=[]), "an engine has layers"
    yield "layers a word", put("Layers", value="fp16"), "it is laid out as no inspector writes it"
    yield "no kernels and no formats", _without_types, NOT_CLAIMED


def _kept(document: Any, part: int) -> None:
    entries = document["Layers"]
    document["Layers"] = [entry for index, entry in enumerate(entries) if index * 37 % 100 >= part] or entries[:1]


def _multiplied(document: Any, times: int) -> None:
    document["Layers"] *= times


def _precision(part: int, told: str, kernels: bool, formats: bool) -> Edit:
    from benchmarks.mutants.engine_layers import FORMATS, KERNEL, PRODUCTS

    def change(document: Any) -> None:
        for index, entry in enumerate(document["Layers"]):
            if index * 37 % 100 >= part or "TacticName" not in entry:
                continue
            if kernels:
                entry["TacticName"] = KERNEL.format(PRODUCTS[told])
            if formats:
                for tensor in (*entry["Inputs"], *entry["Outputs"]):
                    tensor["Format/Datatype"] = FORMATS[told]
                entry["Weights"] = {**entry["Weights"], "Type": "Int8" if told == "Int8" else "Float"}

    return change


def _renamed(document: Any, part: int) -> None:
    for index, entry in enumerate(document["Layers"]):
        if index * 37 % 100 < part:
            entry["Name"] = f"/layer{index}/conv/Conv"
            entry["Metadata"] = f"[ONNX Layer: {entry['Name']}]"


def _one_for_all(document: Any) -> None:
    names = " + ".join(entry["Name"] for entry in document["Layers"])
    document["Layers"] = [{**document["Layers"][0], "Name": names}]


def _shifted_names(document: Any) -> None:
    entries = document["Layers"]
    names = [(entry["Name"], entry["Metadata"]) for entry in entries]
    for entry, (name, metadata) in zip(entries, [*names[7:], *names[:7]], strict=True):
        entry.update(Name=name, Metadata=metadata)


def _without_types(document: Any) -> None:
    for entry in document["Layers"]:
        for key in ("TacticName", "Weights", "Inputs", "Outputs"):
            entry.pop(key, None)


def curves(document: Any) -> Iterator[tuple[str, Edit, str]]:
    """Curves of no training."""
    rows = document["epochs"]
    none = "no training goes so"
    yield "one epoch three times", put("epochs", value=[rows[0]] * 3), none
    yield "the last epoch again", put("epochs", value=[*rows, rows[-1]]), none
    yield "no fine-tuning", put("epochs", value=[row for row in rows if row["phase"] == "fp32"]), "QAT fine-tunes"
    yield "fine-tuning before training", put("epochs", value=rows[::-1]), none
    yield "epochs that go back", _epochs(lambda i, row: row.update(epoch=len(rows) - i)), none
    yield "every epoch the first", _epochs(lambda i, row: row.update(epoch=1)), none
    yield "no epochs", put("epochs", value=[]), "it is laid out as no curves are"
    yield "epochs a number", put("epochs", value=20), "it is laid out as no curves are"
    for field in ("epoch", "phase", "loss", "train_accuracy", "test_accuracy"):
        yield f"{field} left out", _epochs(functools.partial(_lose, field=field)), "it is laid out as no curves are"
        yield (
            f"{field} a list",
            _epochs(functools.partial(_say, field=field, value=[])),
            "it is laid out as no curves are",
        )
    for field, value in (
        ("loss", -1.0),
        ("loss", 1e9),
        ("train_accuracy", 90.9),
        ("test_accuracy", 1.01),
        ("epoch", 0),
    ):
        yield f"{field} {value}", _epochs(functools.partial(_say, field=field, value=value)), "no such figure"
    yield "accuracy of 99.9 % at its end", _end(test_accuracy=0.999), "the exported model has not this accuracy"
    yield "accuracy of 20 % at its end", _end(test_accuracy=0.2), "the exported model has another accuracy"
    yield "a loss that only rises", _epochs(lambda i, row: row.update(loss=1.0 + i)), none
    yield "the same loss throughout", _epochs(lambda i, row: row.update(loss=1.0)), none
    yield "other seconds", _epochs(lambda i, row: row.update(seconds=-1)), NOT_CLAIMED
    yield "another seed", put("seed", value=7), NOT_CLAIMED


def _epochs(change: Callable[[int, Any], Any]) -> Edit:
    def edit(document: Any) -> None:
        for index, row in enumerate(document["epochs"]):
            change(index, row)

    return edit


def _lose(_index: int, row: Any, field: str) -> None:
    del row[field]


def _say(_index: int, row: Any, field: str, value: Any) -> None:
    row[field] = value


def _end(**values: Any) -> Edit:
    return lambda document: document["epochs"][-1].update(values)


def broken(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What is no JSON object, or no honest one."""
    yield "cut short", content[: len(content) // 2]
    yield "a list", b"[" + content + b"]"
    yield "two documents", content + content
    yield "in UTF-32", content.decode("utf-8").encode("utf-32")
    yield "with NaN", content.replace(b"{", b'{"figure": NaN,', 1)
    yield "with a key twice", content.replace(b"{", b'{"schema": 1, "schema": 1,', 1)
    yield "nested without end", b'{"a":' * 200 + b"1" + b"}" * 200
    yield "in single quotes", content.replace(b'"', b"'")
    yield "a word", b"true"
    yield "with a comma too many", content.rstrip()[:-1] + b",}"
