"""Evidence of a run: sound evidence gives its verdicts again, forged evidence is refused, each for its own reason."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.suite import tiny
from tests.suite.sample_evidence import XMMA, Members, fitted, layer, of, on_jetson, pack, sound
from trtverify.fixtures.evidence.contradictions import against_submission, contradictions
from trtverify.fixtures.evidence.derived import ANSWERS
from trtverify.fixtures.evidence.read import MAX_MEMBER, read
from trtverify.fixtures.evidence.schema import DOCUMENT, AgreementEvidence, Evidence
from trtverify.fixtures.measuring.latency import Samples, speedup
from trtverify.fixtures.networks.models import YOLOV8N
from trtverify.fixtures.words.terms import Precision

ROOT = Path(__file__).resolve().parents[3]


def rejected(members: Members, path: Path) -> str:
    """Why evidence is refused; empty if it is not."""
    try:
        return "\n".join(contradictions(read(pack(members, path))))
    except ValueError as error:
        return str(error)


def test_sound_evidence_is_taken(tmp_path: Path) -> None:
    assert rejected(sound(), tmp_path / "e.zip") == ""


def faster(members: Members) -> None:
    of(members, "speedups")["ratio"] *= 2


def faster_samples(members: Members) -> None:
    """All of it, so that the comparison agrees with itself."""
    row = of(members, "speedups")
    row["fast"] = [value / 2 for value in row["fast"]]
    ratio = speedup(Samples(tuple(row["slow"])), Samples(tuple(row["fast"])))
    row.update(ratio=ratio.value, low=ratio.low, high=ratio.high)


def sold_as_fp16(members: Members) -> None:
    members[of(members, "engines", 1)["layers"]][3]["detail"] = XMMA.format("f32f32_f32f32_f32")


def sold_as_int8(members: Members) -> None:
    """A kernel without a telling name, but its input is FP32."""
    entry = members[of(members, "engines", 1)["layers"]][3]
    entry.update(detail="CaskConvolution", precision="int8", inputs=[{**entry["inputs"][0], "format": "fp32"}])


def disturbed(members: Members) -> None:
    of(members, "speedups")["conditions"][1]["others"] = [{"pid": 7, "name": "train", "memory_bytes": None}]
    of(members, "speedups")["verdict"] = "passed"


FORGED: dict[str, tuple[Callable[[Members], Any], str]] = {
    "a ratio that its samples do not give": (faster, "its samples give 2.00×"),
    "samples that the engine alone contradicts": (faster_samples, "ms alone and"),
    "a verdict that does not follow": (lambda m: of(m, "speedups").update(verdict="passed"), "give not gradable"),
    "a verdict in spite of another program": (disturbed, "give not gradable"),
    "FP32 kernels sold as FP16": (sold_as_fp16, "said to compute in fp16, and what runs it in fp32"),
    "INT8 with an FP32 input": (sold_as_int8, "said to compute in int8, and what runs it in fp32"),
    "one engine sold as two": (
        lambda m: of(m, "engines", 1).update(sha256=of(m, "engines")["sha256"]),
        "are said to be one file",
    ),
    "another GPU's engine": (lambda m: of(m, "engines").update(device="NVIDIA A100"), "ran on NVIDIA A100"),
    "another power mode": (lambda m: of(m, "engines").update(power="500 W"), r"(500 W)"),
    "no samples": (lambda m: of(m, "latencies").update(seconds=[]), "10 to 2000 samples"),
    "negative samples": (lambda m: of(m, "latencies")["seconds"].__setitem__(0, -1e-3), "each above 0 s"),
    "samples that are no pairs": (lambda m: of(m, "speedups")["fast"].pop(), "no pairs"),
    "figures without an engine": (lambda m: of(m, "latencies").update(model="resnet50"), "figures without an engine"),
    "a size of nothing": (lambda m: of(m, "engines").update(size_bytes=0), "sizes that no engine can have"),
    "agreement over 1": (lambda m: of(m, "agreements").update(top1=1.5, top5=1.6), "that no outputs can have"),
    "top 1 above top 5": (lambda m: of(m, "agreements").update(top5=0.5), "that no outputs can have"),
    "an engine twice": (lambda m: m[DOCUMENT]["engines"].append(of(m, "engines")), "engines has an entry twice"),
    "samples twice": (lambda m: m[DOCUMENT]["latencies"].append(of(m, "latencies")), "latencies has an entry twice"),
    "layers used twice": (
        lambda m: of(m, "engines", 1).update(layers=of(m, "engines")["layers"]),
        "layers has an entry twice",
    ),
    "another schema": (lambda m: m[DOCUMENT].update(schema=2), "expected evidence of schema 1, found 2"),
    "an unknown field": (lambda m: m[DOCUMENT].update(bonus=1), "missing or unknown: bonus"),
    "a missing field": (lambda m: of(m, "engines").pop("least_bytes"), "missing or unknown: least_bytes"),
    "a number as text": (lambda m: of(m, "engines").update(size_bytes="9"), "expected int, found '9'"),
    "an unknown precision": (lambda m: of(m, "engines").update(precision="fp8"), "no precision 'fp8'"),
    "no hash": (lambda m: of(m, "engines").update(sha256="x"), "is no sha256"),
    "NaN": (lambda m: of(m, "latencies")["seconds"].__setitem__(0, float("nan")), "NaN, which JSON does not have"),
    "infinity in disguise": (lambda m: of(m, "agreements").update(sqnr_db=1e16), "no figure that a run can have"),
    "a member changed": (lambda m: m[DOCUMENT].update(members=dict.fromkeys(list(m)[1:], "0" * 64)), "sha256 differs"),
    "a member too many": (
        lambda m: (m[DOCUMENT].update(members={}), m.update({"manifests/more.json": {}})),
        "are not those that evidence.json lists",
    ),
    "a path outside": (lambda m: m.update({"../evil.json": {}}), "no evidence has a member '../evil.json'"),
    "a file of another kind": (lambda m: m.update({"layers/000.engine": b"x"}), "has a member 'layers/000.engine'"),
    "a manifest that is a list": (lambda m: m.update({"manifests/more.json": []}), "is no JSON object"),
    "layers of no engine": (lambda m: m.update({"layers/900.json": []}), "layers/900.json is no engine's"),
    "a bomb": (lambda m: m.update({"layers/999.json": b" " * (MAX_MEMBER + 1)}), "is too large"),
    "too deep": (lambda m: m.update({"manifests/more.json": b"[" * 999}), "nested 999 deep"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_evidence_is_refused_for_its_own_reason(name: str, tmp_path: Path) -> None:
    forge, words = FORGED[name]
    members = sound()
    forge(members)
    assert words in rejected(members, tmp_path / "e.zip")


def test_evidence_outlives_the_expectations_of_its_day(tmp_path: Path) -> None:
    """Judged then by no range, or by another: that contradicts nothing, and today's range gives today's verdict."""
    for then in ({"band": None, "verdict": "not gradable"}, {"band": [1.8, 2.2], "verdict": "failed"}):
        members = on_jetson()
        of(members, "speedups").update(then)
        status, verdicts, output = derive(pack(members, tmp_path / "e.zip"), tmp_path / "out")
        assert status == 0, output
        assert verdicts["test_speedup[mobilenet_v2-tensorrt-fp16-over-tf32]"] == "passed"
        run_json = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
        assert run_json["speedups"][0]["verdict"] == "passed"
        assert run_json["machine"]["gpu"] == "NVIDIA Jetson Orin Nano", "not this machine's"


def test_no_range_is_of_engines_that_were_built_for_a_dla(tmp_path: Path) -> None:
    members = on_jetson()
    of(members, "engines", 1)["built_with"] = "--workspace=512 --dla-core=0"
    of(members, "speedups").update(band=None, verdict="not gradable")
    status, verdicts, output = derive(pack(members, tmp_path / "e.zip"), tmp_path / "out")
    assert status == 0, output
    assert verdicts["test_speedup[mobilenet_v2-tensorrt-fp16-over-tf32]"] == "not gradable"
    kept = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    said = [row["message"] for row in kept["verdicts"] if "test_speedup" in row["test"]]
    assert any("no range is known for NVIDIA Jetson Orin Nano --workspace=512 --dla-core=0" in text for text in said)
    rows = kept["engines"]
    assert [row["built_with"] for row in rows] == ["", "--workspace=512 --dla-core=0"]


def test_a_verdict_must_follow_from_the_range_it_names(tmp_path: Path) -> None:
    members = on_jetson()
    of(members, "speedups").update(band=[1.8, 2.2])
    assert "said to be passed; its samples give failed" in rejected(members, tmp_path / "e.zip")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = pack(sound(), tmp_path / "e.zip")
    content = path.read_bytes()
    for damaged in (b"", b"PK", content[: len(content) // 2], b"x" * 4096):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no sound zip archive"):
            read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(DOCUMENT, "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(DOCUMENT, "{}")
    with pytest.raises(ValueError, match="is there twice"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("layers/000.json", "[]")
    with pytest.raises(ValueError, match=r"has no evidence\.json"):
        read(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = pack(sound(), tmp_path / "e.zip")
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no sound zip|sha256|JSON|expected|UTF-8|member"):
        read(path)


def test_evidence_of_another_model_is_refused(tmp_path: Path) -> None:
    model = tiny.network(tmp_path / "mobilenet_v2.onnx")
    evidence = read(pack(sound(), tmp_path / "e.zip"))
    assert all("its sha256 differs" in problem for problem in against_submission(evidence, tmp_path))
    assert all("which the submission lacks" in problem for problem in against_submission(evidence, tmp_path / "no"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    engines = tuple(dataclasses.replace(e, onnx_sha256=digest) for e in evidence.document.engines)
    lying = Evidence(dataclasses.replace(evidence.document, engines=engines), evidence.layers)
    problems = list(against_submission(lying, tmp_path))
    assert len(problems) == 2
    assert all("take another size" in problem for problem in problems)


def derive(path: Path, folder: Path, *arguments: str) -> tuple[int, dict[str, str], str]:
    """Run the suite on evidence in a process that has no GPU: exit status, verdict by test, all that was printed."""
    return run(folder, "tests/test_lab1_resnet50.py", "tests/test_lab3_dla.py", f"--from-evidence={path}", *arguments)


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, str], str]:
    """Run the suite in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--summary={folder}", *arguments],
        cwd=ROOT,
        env={**os.environ, "LANGUAGE": "en", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    verdicts = {}
    if (folder / "run.json").is_file():
        rows = json.loads((folder / "run.json").read_text(encoding="utf-8"))["verdicts"]
        verdicts = {row["test"].split("::")[-1]: row["verdict"] for row in rows}
    return done.returncode, verdicts, done.stdout + done.stderr


def test_verdicts_are_derived_again_without_a_gpu(tmp_path: Path) -> None:
    status, verdicts, output = derive(pack(sound(), tmp_path / "e.zip"), tmp_path / "out")
    assert status == 0, output
    names = [f"mobilenet_v2-tensorrt-{precision}" for precision in ("fp32", "fp16")]
    tests = ("test_engine_builds", "test_precision_is_proven", "test_outputs_match", "test_latency")
    expected = {f"{test}[{name}]": "passed" for test in tests for name in names}
    compared = [f"test_speedup[mobilenet_v2-tensorrt-fp16-over-{over}]" for over in ("fp32", "tf32")]
    assert verdicts == {**expected, **dict.fromkeys(compared, "not gradable")}
    assert "the evidence has no samples of lab3 mobilenet_v2 tensorrt fp16 batch 1" in output
    assert "no range is known for NVIDIA H200" in output
    assert re.search(r"2\.00× \([\d.–]+\) / FP32", output)


def test_wrong_work_fails_from_evidence_too(tmp_path: Path) -> None:
    members = sound()
    of(members, "engines")["size_bytes"] = 5_000_000
    of(members, "agreements", 1)["sqnr_db"] = 3.0
    fallen = members[of(members, "engines", 1)["layers"]]
    fallen[:] = [{**layer(number, "fp32"), "name": entry["name"]} for number, entry in enumerate(fallen)]
    status, verdicts, output = derive(pack(members, tmp_path / "e.zip"), tmp_path / "out")
    assert status == 1, output
    assert {test for test, verdict in verdicts.items() if verdict == "failed"} == {
        "test_engine_builds[mobilenet_v2-tensorrt-fp32]",
        "test_precision_is_proven[mobilenet_v2-tensorrt-fp16]",
        "test_outputs_match[mobilenet_v2-tensorrt-fp16]",
    }


@pytest.mark.parametrize(
    ("asked", "sqnr_db", "says"),
    [
        (3.0, 4.8, "4.8 dB, where 10 are usual"),
        (3.0, 2.9, "at least 10 dB"),
        (-50.0, float("nan"), "at least 10 dB"),
        (None, 4.8, "4.8 dB, where 10 are usual"),
        (10.0, 4.8, "at least 10 dB"),
    ],
    ids=["allowed less where it ran", "less than that", "nan", "nothing said", "allowed no less"],
)
def test_what_a_network_allows_int8_is_nobodys_word(asked: float | None, sqnr_db: float, says: str) -> None:
    row = AgreementEvidence("lab2", "yolov8n", "tensorrt", "int8", 1, 0.5, sqnr_db, 1.0, 1.0, asked)
    evidence: Any = SimpleNamespace(document=SimpleNamespace(agreements=(row,)))
    ends = pytest.skip.Exception if "usual" in says else pytest.fail.Exception
    claims = SimpleNamespace(sqnr={Precision.INT8: 10.0}, model=YOLOV8N)
    with pytest.raises(ends, match=says):
        ANSWERS["test_outputs_match"](evidence, row.key, claims, None)


def test_refused_evidence_ends_the_run_in_one_message(tmp_path: Path) -> None:
    members = sound()
    faster(members)
    status, verdicts, output = derive(pack(members, tmp_path / "e.zip"), tmp_path / "out")
    assert (status, verdicts) == (4, {})
    assert "e.zip contradicts itself" in output
    assert "Traceback" not in output


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="with TensorRT, engines are built here")
@pytest.mark.parametrize("sound_one", [True, False])
def test_evidence_that_is_handed_in_answers_for_a_missing_backend(tmp_path: Path, sound_one: bool) -> None:
    submission = tmp_path / "submission"
    submission.mkdir()
    model = tiny.network(submission / "mobilenet_v2.onnx")
    members = fitted(on_jetson(), model)
    if not sound_one:
        of(members, "engines")["onnx_sha256"] = "0" * 64
    pack(members, submission / "evidence.zip")
    tests = ("tests/test_lab3_dla.py", "tests/test_evidence_zip.py", "-k=evidence or (tensorrt and fp16 and not rtx)")
    status, verdicts, output = run(tmp_path / "out", *tests, f"--submission={submission}")
    case = "mobilenet_v2-tensorrt-fp16"
    names = [f"{test}[{case}]" for test in ("test_engine_builds", "test_precision_is_proven", "test_latency")]
    names += [f"test_speedup[{case}-over-tf32]"]
    assert status == (0 if sound_one else 1), output
    assert verdicts["test_evidence_is_sound[lab3]"] == ("passed" if sound_one else "failed")
    assert {verdicts[name] for name in names} == {"passed" if sound_one else "not gradable"}
    assert ("built from another mobilenet_v2.onnx" in output) is not sound_one


def test_the_reference_hands_in_no_evidence(tmp_path: Path) -> None:
    """Nor is it asked for any: nothing is collected there."""
    status, verdicts, output = run(tmp_path / "out", "tests", "-k=evidence")
    assert (status, verdicts) == (5, {}), output
