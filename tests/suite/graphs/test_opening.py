"""Files as others' tools write them: functions, disorder, later versions, and what is no ONNX file at all."""

from __future__ import annotations

import io
import itertools
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper

from tests.suite import tiny
from trtverify.fixtures.graphs import contents, inline
from trtverify.fixtures.graphs.onnx_file import NewerThanInstalledError, load
from trtverify.fixtures.words import notes


def calling(path: Path, depth: int, times: int, *, circle: bool = False) -> Path:
    """The tiny network with a chain of functions behind its stem, each of which calls the next several times."""
    model = onnx.load(str(tiny.network(path)))
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for number in range(depth):
        last = number == depth - 1 and not circle
        names = ["x", *(f"t{index}" for index in range(times - 1)), "y"]
        nodes = [
            helper.make_node("Relu" if last else f"f{(number + 1) % depth}", [a], [b], domain="" if last else "own")
            for a, b in itertools.pairwise(names)
        ]
        model.functions.append(helper.make_function("own", f"f{number}", ["x"], ["y"], nodes, opset))
    relu = model.graph.node[1]
    relu.op_type, relu.domain = "f0", "own"
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, str(path))
    return path


def test_functions_are_written_out_before_a_graph_is_read(tmp_path: Path) -> None:
    path = calling(tmp_path / "calls.onnx", 3, 2)
    model = load(path)
    assert not model.functions
    assert sum(node.op_type == "Relu" for node in model.graph.node) == 8 + 3
    plain = contents.read(tiny.network(tmp_path / "plain.onnx"))
    assert contents.read(path).weights == plain.weights
    assert tiny.relative_error(tiny.run(path, tiny.image()), tiny.run(plain.path, tiny.image())) == 0


@pytest.mark.parametrize(
    ("depth", "times", "circle", "says"),
    [
        (40, 2, False, r"its functions are \d+ nodes, over 50000"),
        (60, 10, False, r"its functions are 10\^\d\d nodes, over 50000"),
        (100, 1, False, "over 64 functions call one another"),
        (5, 1, True, "function f0 calls itself"),
        (5, 2, True, "function f0 calls itself"),
    ],
    ids=["doubling", "tenfold", "deep", "circle", "circles"],
)
def test_functions_that_explode_are_refused_before_they_do(
    depth: int, times: int, circle: bool, says: str, tmp_path: Path
) -> None:
    path = calling(tmp_path / "calls.onnx", depth, times, circle=circle)
    started = time.process_time()
    with pytest.raises(ValueError, match=says):
        contents.read(path)
    assert time.process_time() - started < 5


def test_the_other_name_of_onnx_s_domain_hides_no_function(tmp_path: Path) -> None:
    model = onnx.load(str(calling(tmp_path / "calls.onnx", 40, 2)))
    for function in model.functions:
        function.domain = "ai.onnx"
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        node.domain = "" if node.domain == "own" else node.domain
    onnx.save(model, str(tmp_path / "alias.onnx"))
    with pytest.raises(ValueError, match="nodes, over 50000"):
        load(tmp_path / "alias.onnx")


def test_constants_in_functions_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = calling(tmp_path / "calls.onnx", 5, 2)
    model = onnx.load(str(path))
    large = onnx.numpy_helper.from_array(np.zeros(1000, np.float32))
    model.functions[-1].node.append(helper.make_node("Constant", [], ["c"], value=large))
    onnx.save(model, str(path))
    monkeypatch.setattr(inline, "MOST_BYTES", 16 * 4000)
    with pytest.raises(ValueError, match="bytes, over 64000"):
        load(path)
    monkeypatch.setattr(inline, "MOST_BYTES", 20 * 4500)
    load(path)


def test_nodes_in_disorder_are_sorted_and_it_is_said(tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    expected = contents.read(path)
    model = onnx.load(str(path))
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shuffled = tmp_path / "shuffled.onnx"
    onnx.save(model, str(shuffled))
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(shuffled))
    assert contents.read(shuffled).weights == expected.weights
    assert any(text.startswith("shuffled.onnx: nodes stand before what they read") for text in notes.notes())
    assert not any("tiny.onnx:" in text for text in notes.notes())


def test_a_circle_stays_and_is_refused(tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].input[0] = "features"
    onnx.save(model, str(path))
    with pytest.raises(ValueError, match="ONNX's checker refuses it"):
        contents.read(path)


@pytest.mark.parametrize(("field", "says"), [("ir", "IR version 99 and opset 17"), ("opset", "and opset 99")])
def test_a_later_version_is_nobodys_fault(field: str, says: str, tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    if field == "ir":
        model.ir_version = 99
    else:
        model.opset_import[0].version = 99
    onnx.save(model, str(path))
    with pytest.raises(NewerThanInstalledError, match=says):
        contents.read(path)


def test_the_checker_names_the_node(tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    model.graph.node[2].attribute.append(helper.make_attribute("colour", 7))
    onnx.save(model, str(path))
    with pytest.raises(ValueError, match=r"colour.*/first/Conv"):
        contents.read(path)


def test_one_region_as_the_data_of_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.network(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        external_data_helper.set_external_data(tensor, location="weights.bin", offset=0)
        tensor.ClearField("raw_data")
    onnx.save(model, str(path))
    (tmp_path / "weights.bin").write_bytes(bytes(100_000))
    monkeypatch.setattr("trtverify.fixtures.graphs.onnx_file.MAX_BYTES", 500_000)
    with pytest.raises(ValueError, match="with its external data"):
        load(path)


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, data in files.items():
            made.writestr(name.replace("__", "/"), data)
    return content.getvalue()


def arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, input=np.zeros(3))
    return content.getvalue()


NO_MODEL: dict[str, tuple[Callable[[], bytes], str]] = {
    "LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
    "web page": (lambda: b"\n <!DOCTYPE html><html><title>Sign in</title>" + b"x" * 999, "a web page"),
    "checkpoint": (lambda: archive(**{"archive__data.pkl": b"x", "archive__version": b"3"}), r"checkpoint \(.pt\)"),
    "pickle": (lambda: pickle.dumps({"model": 1}), "a Python pickle"),
    "engine": (lambda: b"ftrt\0\0\0\0" + bytes(900), "a TensorRT engine"),
    "zip": (lambda: archive(model=b"x"), "a zip archive"),
    "damaged zip": (lambda: archive(model=b"x" * 900)[:40], "a damaged zip archive"),
    "arrays": (arrays, r"NumPy archive \(.npz\)"),
    "gzip": (lambda: b"\x1f\x8b\x08\0" + bytes(90), "an archive"),
    "beside a file": (lambda: b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(90), "macOS"),
    "Keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    "TFLite": (lambda: b"\x20\0\0\0TFL3" + bytes(90), "TensorFlow Lite"),
    "empty": (lambda: b"", "the file is empty"),
    "picture": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(90), "no ONNX file"),
    "truncated": (lambda: b"", "a truncated one"),
}


@pytest.mark.parametrize("kind", NO_MODEL)
def test_what_is_no_model_is_called_what_it_is(kind: str, tmp_path: Path) -> None:
    path = tiny.network(tmp_path / "model.onnx")
    content, says = NO_MODEL[kind]
    path.write_bytes(path.read_bytes()[:5000] if kind == "truncated" else content())
    with pytest.raises(ValueError, match=says) as raised:
        contents.read(path)
    assert "\n" not in str(raised.value)


def test_every_form_of_constant(tmp_path: Path) -> None:
    from trtverify.fixtures.graphs.onnx_file import constants_of

    forms: dict[str, Any] = {
        "value_float": 0.5, "value_floats": [0.5, 1.5], "value_int": 3, "value_ints": [1, 2],
        "value": onnx.numpy_helper.from_array(np.float32(0.25)),
    }  # fmt: skip
    nodes = [helper.make_node("Constant", [], [name], **{name: value}) for name, value in forms.items()]
    model = onnx.load(str(tiny.network(tmp_path / "tiny.onnx")))
    model.graph.node.extend(nodes)
    found = constants_of(model)
    assert {name: found[name].tolist() for name in forms} == {**forms, "value": 0.25}
    assert found["value_floats"].dtype == np.float32
