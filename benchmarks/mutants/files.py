"""Files of a submission that shares its bytes with its base: read, and replaced, never written into."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from trtverify.fixtures.networks.models import MOBILENET_V2

Array = np.ndarray[Any, Any]


def share(source: Path, target: Path) -> None:
    """A copy of a folder whose files are the same files on disk: quick, whatever their size."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)


def write(path: Path, content: bytes | str) -> None:
    """Replace a file, so that whoever shares it keeps the old one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON document; what `change` returns, unless that is None, is written in its place."""
    document = json.loads(path.read_text(encoding="utf-8"), strict=False)
    changed = change(document)
    write(path, json.dumps(document if changed is None else changed, indent=1))


def save_model(model: Any, path: Path, **options: Any) -> None:
    """Replace an ONNX file, and make its manifest true again, as a script that really wrote it would."""
    path.unlink(missing_ok=True)
    onnx.save_model(model, str(path), **options)
    sign(path)


def edit_model(path: Path, change: Callable[[Any], Any]) -> None:
    """Change an ONNX model; what `change` returns, unless that is None, is written in its place."""
    model = onnx.load_model(str(path))
    changed = change(model)
    save_model(model if changed is None else changed, path)


def sign(path: Path) -> None:
    """Write a model's hash into its manifest and, of lab 3's, into its placement, where there are such."""
    documents = [path.with_suffix(".manifest.json")]
    if path.name == MOBILENET_V2.file:
        documents.append(path.with_name("dla_placement.json"))
    for place in filter(Path.is_file, documents):
        edit_json(place, lambda document: document.update(sha256=hashlib.sha256(path.read_bytes()).hexdigest()))


def edit_array(path: Path, change: Callable[[Array], Array]) -> None:
    """Change a `.npy`."""
    array = change(np.load(path))
    path.unlink()
    np.save(path, array)


def constants(model: Any) -> dict[str, Any]:
    """Every constant's TensorProto by its name, of initializers and Constant nodes."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def set_constant(tensor: Any, value: Array) -> None:
    """Give a constant another value, of its own type."""
    kind = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value.astype(kind)), tensor.name))


def readers(model: Any, name: str) -> list[tuple[Any, int]]:
    """The nodes that read a tensor, and at which place."""
    return [(node, index) for node in model.graph.node for index, read in enumerate(node.input) if read == name]


def skip(model: Any, node: Any, source: str) -> None:
    """Take a node out: whoever read its output reads `source` instead. A graph's output keeps its name."""
    output = node.output[0]
    if any(value.name == output for value in model.graph.output):
        node.CopyFrom(onnx.helper.make_node("Identity", [source], [output], node.name))
        return
    for reader, index in readers(model, output):
        reader.input[index] = source
    model.graph.node.remove(node)
