"""What a seeded wrong submission is, how a graph is spoilt, and how the suite must answer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from trtverify.fixtures.networks.models import MOBILENET_V2


@dataclasses.dataclass(frozen=True)
class Wrong:
    """One wrong submission.

    Attributes:
        lab: which lab's tests are run; needs: the labs whose artifacts are handed in.
        spoil: what is done to the directory.
        fails: the tests that look for this fault, and must fail; the others are not run.
        says: what the failure's message must hold.
        options: more arguments that the suite is run with.
    """

    name: str
    lab: str
    needs: tuple[str, ...]
    spoil: Callable[[Path], None]
    fails: frozenset[str]
    says: str
    options: Callable[[Path], Sequence[str]] = lambda _folder: ()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change an ONNX model in place and make its manifest true again, as a wrong lab script would have."""
    model = onnx.load(str(path))
    model = change(model) or model
    onnx.save(model, str(path))
    sign(path)


def sign(path: Path) -> None:
    """Write the model's hash into its manifest and, of lab 3's, into its placement, where there are such."""
    documents = [path.with_suffix(".manifest.json")]
    if path.name == MOBILENET_V2.file:
        documents.append(path.with_name("dla_placement.json"))
    for document in documents:
        if document.is_file():
            described = json.loads(document.read_text(encoding="utf-8"))
            described["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            document.write_text(json.dumps(described), encoding="utf-8")


def set_constants(model: Any, values: dict[str, np.ndarray[Any, Any]]) -> None:
    """Give constants of a graph other values, whether they are initializers or nodes."""
    holders = {tensor.name: tensor for tensor in model.graph.initializer}
    holders |= {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    for name, value in values.items():
        kind = numpy_helper.to_array(holders[name]).dtype
        holders[name].CopyFrom(numpy_helper.from_array(np.asarray(value).astype(kind), holders[name].name))


def must_fail(wrong: Wrong, copy_of: Callable[..., Path], verify: Callable[..., Any]) -> None:
    """Hand it in: the tests that look for its fault fail, and say so."""
    folder = copy_of(*wrong.needs)
    wrong.spoil(folder)
    outcome = verify(folder, wrong.lab, "-k", " or ".join(wrong.fails), *wrong.options(folder))
    assert wrong.fails <= outcome.with_verdict("failed"), outcome.output
    for test in wrong.fails:
        assert wrong.says in outcome.message(test), outcome.message(test)
