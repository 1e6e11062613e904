"""Hostile artifacts before the real suite: every check comes to a verdict, and none of them passes."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile

import numpy as np
import pytest

from tests.suite.grading.processes import none_left
from tests.suite.grading.test_attacks import digest
from tests.suite.grading.toy_class import REPOSITORY, Class

onnx = pytest.importorskip("onnx", reason="onnx makes the hostile models")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bwrap")]


def model(*nodes: object, initializers: tuple[object, ...] = (), inputs: bool = True) -> bytes:
    """A model with lab 1's interface around some nodes."""
    graph = onnx.helper.make_graph(
        list(nodes),
        "hostile",
        [onnx.helper.make_tensor_value_info("input", 1, [1, 3, 224, 224])] if inputs else [],
        [onnx.helper.make_tensor_value_info("output", 1, [1, 1000])],
        list(initializers),
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def shape_bomb() -> bytes:
    size = onnx.numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "size")
    return model(
        onnx.helper.make_node("ConstantOfShape", ["size"], ["vast"]),
        onnx.helper.make_node("ReduceSum", ["vast"], ["sum"], keepdims=0),
        onnx.helper.make_node("Expand", ["sum", "shape"], ["output"]),
        initializers=(size, onnx.numpy_helper.from_array(np.array([1, 1000], np.int64), "shape")),
    )


def external(location: str) -> bytes:
    tensor = onnx.TensorProto(name="weights", data_type=1, dims=[1, 1000], data_location=1)
    tensor.external_data.add(key="location", value=location)
    return model(onnx.helper.make_node("Identity", ["weights"], ["output"]), initializers=(tensor,))


def constant(value: float) -> bytes:
    tensor = onnx.numpy_helper.from_array(np.full((1, 1000), value, np.float32), "weights")
    return model(onnx.helper.make_node("Identity", ["weights"], ["output"]), initializers=(tensor,))


def shaped(*shape: int) -> bytes:
    """Outputs of a shape of their own, whatever is declared."""
    tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), "weights")
    return model(onnx.helper.make_node("Identity", ["weights"], ["output"]), initializers=(tensor,))


def external_in_a_branch(location: str) -> bytes:
    """As `external`, where only the body of an If knows of it."""
    tensor = onnx.TensorProto(name="inner", data_type=1, dims=[1, 1000], data_location=1)
    tensor.external_data.add(key="location", value=location)
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["inner"], ["out"])],
        "body",
        [],
        [onnx.helper.make_tensor_value_info("out", 1, [1, 1000])],
        [tensor],
    )
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    return model(
        onnx.helper.make_node("If", ["yes"], ["output"], then_branch=body, else_branch=body), initializers=(yes,)
    )


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def vast_array() -> bytes:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def zipped(member: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return stream.getvalue()


MANIFEST = {"schema": 1, "lab": "lab1", "model": "resnet50", "artifact": "resnet50.onnx", "weights": "pretrained"}
ATTACKS: dict[str, dict[str, bytes]] = {
    "nothing": {"readme.txt": b""},
    "empty": {"resnet50.onnx": b""},
    "noise": {"resnet50.onnx": random.Random(0).randbytes(100_000)},
    "truncated": {"resnet50.onnx": constant(1.0)[:-900]},
    "pickle": {"resnet50.onnx": pickle.dumps({"output": 1})},
    "engine": {"resnet50.onnx": b"ftrt" + bytes(1000), "resnet50_fp16.engine": b"ftrt" + bytes(1000)},
    "shape-bomb": {"resnet50.onnx": shape_bomb()},
    "external-absolute": {"resnet50.onnx": external("/etc/ld.so.cache")},
    "external-above": {"resnet50.onnx": external("../../../../etc/ld.so.cache")},
    "external-missing": {"resnet50.onnx": external("weights.bin")},
    "external-in-a-branch": {"resnet50.onnx": external_in_a_branch("../../../../etc/ld.so.cache")},
    "external-a-device": {"resnet50.onnx": external("/dev/zero")},
    "external-itself": {"resnet50.onnx": external("resnet50.onnx")},
    "empty-outputs": {"resnet50.onnx": shaped(1, 0)},
    "no-dimension": {"resnet50.onnx": shaped()},
    "broadcastable": {"resnet50.onnx": shaped(1, 1)},
    "of-more-images": {"resnet50.onnx": shaped(64, 1000)},
    "nan": {"resnet50.onnx": constant(float("nan"))},
    "infinite": {"resnet50.onnx": constant(float("inf"))},
    "constant": {"resnet50.onnx": constant(0.5)},
    "forged-manifest": {
        "resnet50.onnx": constant(0.5),
        "resnet50.manifest.json": json.dumps({**MANIFEST, "sha256": "0" * 64}).encode(),
        "resnet50.reference.npz": zipped("input.npy", object_array()),
    },
    "deep-manifest": {"resnet50.onnx": constant(0.5), "resnet50.manifest.json": b"[" * 200_000},
    "vast-reference": {"resnet50.onnx": constant(0.5), "resnet50.reference.npz": zipped("input.npy", vast_array())},
    "object-calibration": {"calibration_data/batch_000.npy": object_array(), "calibration_data/manifest.json": b"{}"},
    "vast-calibration": {"calibration_data/batch_000.npy": vast_array(), "calibration_data/manifest.json": b"{}"},
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[str, str]]]:
    """student → test → (verdict, message), all graded at once by the real suite."""
    folder = tmp_path_factory.mktemp("artifacts")
    a_class = Class(folder / "submissions", folder / "results")
    a_class.submissions.mkdir()
    names = list(ATTACKS)
    random.shuffle(names)
    for name in names:
        a_class.hand_in(name, dict(ATTACKS[name]))
    before = digest(a_class.submissions)
    with none_left(folder):
        a_class("run", "--suite", str(REPOSITORY), "--labs", "lab1,lab4", "--workers", "2")
    assert digest(a_class.submissions) == before
    return {name: a_class.messages(name) for name in ATTACKS}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_artifact_earns_nothing_of_what_it_pretends(
    graded: dict[str, dict[str, tuple[str, str]]], name: str
) -> None:
    rows = graded[name]
    assert rows
    assert {verdict for verdict, _ in rows.values()} <= {"passed", "failed", "not gradable", "inconclusive", "crash"}
    claims = ("test_architecture", "test_precision_is_proven", "test_outputs_match", "test_parity", "test_accuracy")
    passed = [test for test, (verdict, _) in rows.items() if verdict == "passed" and any(c in test for c in claims)]
    assert passed == []
    assert [test for test, (verdict, _) in rows.items() if verdict == "crash"] == []


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_artifact_gets_a_message_and_no_trace(
    graded: dict[str, dict[str, tuple[str, str]]], name: str
) -> None:
    traces = [test for test, (_, message) in graded[name].items() if "Traceback" in message or "fixtures/" in message]
    assert traces == []
