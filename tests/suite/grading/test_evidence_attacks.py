"""Evidence of a Jetson before a grader without a GPU: sound evidence is judged, forged evidence earns nothing."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.suite import tiny
from tests.suite.grading.processes import none_left
from tests.suite.grading.test_attacks import digest
from tests.suite.grading.toy_class import REPOSITORY, Class
from tests.suite.sample_evidence import XMMA, Members, fitted, layer, of, on_jetson, pack
from trtverify.fixtures.evidence.read import MAX_MEMBER
from trtverify.fixtures.evidence.schema import DOCUMENT
from trtverify.fixtures.measuring.latency import Samples, speedup

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bwrap")]

ROWS = "evidence or (tensorrt and not rtx)"
CHECK = "test_evidence_is_sound[lab3]"
FASTER = "test_speedup[mobilenet_v2-tensorrt-fp16-over-tf32]"
PROVEN = "test_precision_is_proven[mobilenet_v2-tensorrt-fp16]"
INT8 = "test_precision_is_proven[mobilenet_v2-tensorrt-int8]"
Forge = Callable[[Members], Any]


def sold_as_int8(members: Members, **changes: object) -> None:
    """The FP16 engine under another name, its layers too, as far as `changes` go."""
    name = of(members, "engines", 1)["layers"]
    for table in ("engines", "latencies", "agreements"):
        of(members, table, 1)["precision"] = "int8"
    of(members, "speedups").update(precision="int8", verdict="not gradable")
    of(members, "engines", 1)["size_bytes"] = 3_700_000
    for entry in members[name]:
        entry.update(changes)


def faster(members: Members) -> None:
    """A comparison that agrees with itself, but not with the engine measured alone."""
    row = of(members, "speedups")
    row["fast"] = [value / 1.6 for value in row["fast"]]
    ratio = speedup(Samples(tuple(row["slow"])), Samples(tuple(row["fast"])))
    row.update(ratio=ratio.value, low=ratio.low, high=ratio.high, verdict="inconclusive")


def more_samples_than_time(members: Members) -> None:
    """A slower baseline than there was time for."""
    row = of(members, "latencies")
    row["conditions"][1]["seconds"] = row["conditions"][0]["seconds"] + 1e-3


FORGED: dict[str, Forge] = {
    "a ratio of its own": lambda m: of(m, "speedups").update(ratio=1.9),
    "faster together than alone": faster,
    "samples that there was no time for": more_samples_than_time,
    "a GPU that tells nothing": lambda m: of(m, "speedups").update(conditions=[]),
    "a verdict of its own": lambda m: of(m, "speedups").update(verdict="failed"),
    "FP16 sold as INT8": lambda m: sold_as_int8(m, precision="int8"),
    "FP16 sold as INT8 without its kernels": lambda m: sold_as_int8(m, precision="int8", detail="CaskConvolution"),
    "FP32 sold as FP16": lambda m: m[of(m, "engines", 1)["layers"]][3].update(detail=XMMA.format("f32f32_f32f32_f32")),
    "one engine sold as two": lambda m: of(m, "engines", 1).update(sha256=of(m, "engines")["sha256"]),
    "an engine of another model": lambda m: of(m, "engines", 1).update(onnx_sha256="cd" * 32),
    "an engine of a smaller model": lambda m: of(m, "engines", 1).update(onnx="small.onnx"),
    "an engine of no model": lambda m: of(m, "engines", 1).update(model="mobilenet_v9"),
    "another device": lambda m: of(m, "engines").update(device="NVIDIA H200"),
    "a million samples": lambda m: of(m, "latencies").update(seconds=[4e-3] * 1_000_000),
    "infinity": lambda m: of(m, "agreements").update(sqnr_db=float("inf")),
    "a size of four hundred digits": lambda m: of(m, "engines").update(size_bytes=10**400),
    "an engine inside": lambda m: m.update({"layers/000.engine": b"ftrt" * 100}),
    "a pickle inside": lambda m: m.update({"layers/009.json": pickle.dumps(Exception)}),
    "a path outside": lambda m: m.update({"../results.sqlite": b"{}"}),
    "a bomb": lambda m: m.update({"layers/999.json": b" " * (MAX_MEMBER + 1)}),
    "a maze": lambda m: m.update({"manifests/deep.json": b"[" * 100_000}),
    "words for the terminal": lambda m: of(m, "engines", 1).update(onnx="\x1b[2J\x1b]0;owned\x07.onnx"),
}
BYTES: dict[str, bytes] = {
    "no archive": b"PK\x03\x04 nothing",
    "nothing": b"",
    "a pickle": pickle.dumps({"speedup": 9}),
    "JSON": json.dumps({"speedup": 9}).encode(),
}
HONEST = ("honest0", "honest1", "honest2")


def student(name: str) -> str:
    """Submissions are named for the attacks."""
    return name.replace(" ", "-")


def hand_in(a_class: Class, name: str, members: Members | bytes, **files: bytes) -> Path:
    """A model, evidence, and other files."""
    folder = a_class.submissions / student(name)
    folder.mkdir()
    model = tiny.network(folder / "mobilenet_v2.onnx")
    for path, content in files.items():
        (folder / path.replace("__", "/")).parent.mkdir(exist_ok=True)
        (folder / path.replace("__", "/")).write_bytes(content)
    if isinstance(members, bytes):
        (folder / "evidence.zip").write_bytes(members)
    elif members:
        pack(members, folder / "evidence.zip")
    assert model.is_file()
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, bwrap: None) -> Class:
    """Everybody at once, in random order, by the real suite."""
    folder = tmp_path_factory.mktemp("evidence")
    a_class = Class(folder / "submissions", folder / "results")
    a_class.submissions.mkdir()
    model = tiny.network(folder / "mobilenet_v2.onnx")
    small = tiny.network(folder / "small.onnx", size=16).read_bytes()
    todo: list[tuple[str, Members | bytes, dict[str, bytes]]] = [
        *((name, fitted(on_jetson(), model), {"note.txt": name.encode()}) for name in HONEST),
        ("slow", fitted(on_jetson(1.0, "failed"), model), {}),
        ("nobody", {}, {}),
    ]
    for name, forge in FORGED.items():
        members = fitted(on_jetson(), model)
        forge(members)
        todo.append((name, members, {"small.onnx": small}))
    todo += [(name, content, {}) for name, content in BYTES.items()]
    # A neighbour's, true of another model; and of one that lies where the tests do not look.
    other = tiny.network(folder / "other.onnx", opset=16)
    todo += [("a neighbour's", fitted(on_jetson(), other), {})]
    todo += [("a model in two places", fitted(on_jetson(), other), {"lab3__mobilenet_v2.onnx": other.read_bytes()})]
    private = {"best.pt": pickle.dumps(1), "mobilenet_v2_fp16.engine": b"ftrt" + bytes(100), "x.pkl": b"cos\nsystem\n."}
    todo += [("engines and pickles", fitted(on_jetson(), model), private)]
    random.shuffle(todo)
    for name, evidence, files in todo:
        hand_in(a_class, name, evidence, **files)
    (a_class.submissions / "a-link").mkdir()
    tiny.network(a_class.submissions / "a-link" / "mobilenet_v2.onnx")
    (a_class.submissions / "a-link" / "evidence.zip").symlink_to(a_class.submissions / "honest0" / "evidence.zip")
    before = digest(a_class.submissions)
    with none_left(folder):
        a_class("run", "--suite", str(REPOSITORY), "--labs", "lab3", "--workers", "2", f"--pytest-option=-k={ROWS}")
    assert digest(a_class.submissions) == before
    return a_class


@pytest.fixture(scope="module")
def rows(graded: Class) -> dict[str, dict[str, str]]:
    """student → test → verdict."""
    return graded.verdicts()


def test_everybody_has_the_same_rows(rows: dict[str, dict[str, str]]) -> None:
    assert len(rows) == len(HONEST) + len(FORGED) + len(BYTES) + 6
    assert len({tuple(sorted(found)) for found in rows.values()}) == 1
    assert {CHECK, FASTER, PROVEN} <= set(rows["honest0"])
    assert "pending" not in {verdict for found in rows.values() for verdict in found.values()}


@pytest.mark.parametrize("name", [*HONEST, "engines-and-pickles"])
def test_speed_is_judged_without_a_gpu(rows: dict[str, dict[str, str]], name: str) -> None:
    assert {test: rows[name][test] for test in (CHECK, FASTER, PROVEN)} == dict.fromkeys(
        (CHECK, FASTER, PROVEN), "passed"
    )


def test_what_is_slow_fails(rows: dict[str, dict[str, str]]) -> None:
    assert (rows["slow"][CHECK], rows["slow"][FASTER]) == ("passed", "failed")


@pytest.mark.parametrize("name", ["nobody", "a-link"])
def test_without_evidence_nothing_is_judged(rows: dict[str, dict[str, str]], name: str) -> None:
    assert set(rows[name].values()) == {"not gradable"}


@pytest.mark.parametrize("name", [*FORGED, *BYTES, "a model in two places", "a neighbour's"])
def test_forged_evidence_fails_and_earns_nothing(graded: Class, rows: dict[str, dict[str, str]], name: str) -> None:
    found = rows[student(name)]
    assert found[CHECK] == "failed"
    assert "passed" not in found.values()
    assert set(found.values()) == {"failed", "not gradable"}
    messages = "\n".join(message for _verdict, message in graded.messages(student(name)).values())
    assert "Traceback" not in messages
    assert "fixtures/" not in messages
    assert "\x1b" not in messages


def test_engines_and_pickles_are_ignored_and_that_is_said(graded: Class) -> None:
    shown = graded("show", "engines-and-pickles").stdout
    for name in ("best.pt", "mobilenet_v2_fp16.engine", "x.pkl"):
        assert f"{name}: ignored" in shown
    kept = [path.name for path in (graded.out / "snapshots").rglob("*") if path.suffix in (".pt", ".pkl", ".engine")]
    assert kept == []


def test_the_forgeries_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    """All but those that no JSON or archive can hold are archives of evidence, each of a sound one's members."""
    for name, forge in FORGED.items():
        members = on_jetson()
        forge(members)
        with zipfile.ZipFile(pack(members, tmp_path / f"{student(name)}.zip")) as archive:
            assert DOCUMENT in archive.namelist()
    assert layer(0, "tf32") != layer(0, "fp32")
