"""Every reader of what students hand in, each with what it is fed: sound files, and what a fuzzer makes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.suite.fuzz import inputs, models
from tests.suite.fuzz.mutations import Bytes, spoilt
from trtverify.fixtures.backends.tensorrt.inspector import parse
from trtverify.fixtures.claims.onnx import OnnxClaims
from trtverify.fixtures.engines import dla, stated
from trtverify.fixtures.engines.layers import prove
from trtverify.fixtures.evidence.contradictions import against_submission, contradictions
from trtverify.fixtures.evidence.read import read as read_evidence
from trtverify.fixtures.graphs import contents, onnx_file, types
from trtverify.fixtures.graphs.rules import weights_bytes
from trtverify.fixtures.networks.models import Model
from trtverify.fixtures.networks.reference import LabOptions, Reference
from trtverify.fixtures.report import saved
from trtverify.fixtures.submitted import calibration_cache, curves, strict_json
from trtverify.fixtures.submitted.arrays import read_npz
from trtverify.fixtures.submitted.calibration import read_set
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.trtexec import compared, exported, judged, table
from trtverify.fixtures.trtexec import log as trtexec_log
from trtverify.fixtures.words.terms import CalibrationData, Precision
from trtverify.grading.taking import unpack

BOUNDS = {"files": 50, "file_bytes": 1 << 20, "total_bytes": 2 << 20, "depth": 4, "name_bytes": 60, "ratio": 100}
TINY = Model("lab1", "tiny", "tiny.onnx", "resnet18_cifar10", ("input", (1, 3, 8, 8)), ("output", (1, 2)))
ORDERLY = (ValueError, pytest.fail.Exception, pytest.skip.Exception)
"""How a reader refuses: what its callers turn into a verdict that a student can read."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        inputs: what it is fed, made when it is needed.
        read: reads such bytes, in a folder of its own; anything but a result or a refusal is a fault.
    """

    name: str
    inputs: Callable[[], Bytes]
    read: Callable[[bytes, Path], object]

    def takes(self, data: bytes, folder: Path) -> bool:
        """Whether it took these bytes; False where it refused in good order."""
        try:
            self.read(data, folder)
        except ORDERLY:
            return False
        return True


def _unpack(data: bytes, folder: Path) -> None:
    source, target = folder / "archive", folder / "target"
    source.write_bytes(data)
    target.mkdir()
    arguments, said = sys.argv, io.StringIO()
    sys.argv = ["unpack", str(source), str(target), json.dumps(BOUNDS)]
    try:
        with contextlib.redirect_stdout(said):
            unpack.main()
    finally:
        sys.argv = arguments
    files = [path.lstat() for path in target.rglob("*") if not path.is_dir()]
    links = [path for path in target.rglob("*") if path.is_symlink()]
    strays = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(target)
    assert strays == ["archive", "target"], strays
    assert not links, links
    assert sum(status.st_size for status in files) <= 2 * (2 << 20)
    answer = json.loads(said.getvalue())
    assert ("left_out" in answer) != ("refused" in answer), answer
    if "refused" in answer:
        raise ValueError(answer["refused"])


def _onnx(data: bytes, folder: Path) -> None:
    path = folder / "inside" / "tiny.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    (path.parent / models.WEIGHTS).write_bytes(models.external_weights())
    (folder / "secret").write_bytes(models.SECRET)
    try:
        onnx_file.external_files(path)
        found = contents.read(path)
        types.computed_in(onnx_file.load(path))
        dla.crossings(path, {name: "DLA" for name, _shape in found.weights[1:]})
        model = onnx_file.load(path)
        for precision in Precision:
            assert weights_bytes(model, precision) >= 0
        held = model.SerializeToString()
    finally:
        assert {file.name for file in folder.rglob("*")} == {"inside", path.name, models.WEIGHTS, "secret"}
    assert models.SECRET not in held, "it read a file outside the submission"


def _read_npz(data: bytes, folder: Path) -> None:
    path = folder / "tiny.reference.npz"
    path.write_bytes(data)
    for array in read_npz(path, ("input", "output")).values():
        assert array.dtype != object


def _submission(folder: Path) -> Submission:
    nothing = LabOptions("auto", None, None, None, None, None)
    return Submission(folder, Reference(folder / "cache", nothing, None))


def _calibration(data: bytes, folder: Path) -> None:
    batch = folder / "calibration_data" / "batch_000.npy"
    batch.parent.mkdir(exist_ok=True)
    batch.write_bytes(data)
    found = read_set(_submission(folder), TINY)
    for image in found.data.images():
        assert image.dtype == np.float32


def _json(data: bytes, folder: Path) -> None:
    path = folder / "any.json"
    path.write_bytes(data)
    written = json.dumps(strict_json.read_json(path))
    json.loads(written, parse_constant=_let_through)


def _let_through(name: str) -> None:
    raise AssertionError(f"a reader let {name} through")


class _Claims(OnnxClaims):
    """The checks of a manifest, for the tiny network."""

    model = TINY


def _manifest(data: bytes, folder: Path) -> None:
    (folder / "tiny.onnx").write_bytes(inputs.MANIFEST_OF)
    (folder / "tiny.manifest.json").write_bytes(data)
    submission = _submission(folder)
    manifest = submission.manifest("lab1", "tiny") or {}
    for section in ("data", "preprocessing"):
        (manifest.get(section) or {}).get("source")
    _Claims().test_manifest_is_true(submission)


def _read_layer_info(data: bytes, folder: Path) -> None:
    path = folder / "layer_info.json"
    path.write_bytes(data)
    document = strict_json.require_json(path)
    for layer in parse(json.dumps(document)).layers:
        for precision in Precision:
            prove((layer,), precision)


def _of_json(parse_object: Callable[[Any], object]) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        path = folder / "any.json"
        path.write_bytes(data)
        parse_object(strict_json.require_json(path))

    return read


def _placement(document: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.onnx"
        path.write_bytes(models.plain())
        placement = dla.parse(document)
        laid = dla.over(path, placement)
        list(dla.contradictions(placement, laid))
        dla.crossings(path, laid.devices)
        list(stated.of_model(placement, path))
        list(stated.of_table(placement))
        list(stated.of_method(placement))
        list(stated.of_crossings(placement, path, laid))


def _read_evidence(data: bytes, folder: Path) -> None:
    path = folder / "evidence.zip"
    path.write_bytes(data)
    model = folder / "mobilenet_v2.onnx"
    if not model.exists():
        model.write_bytes(models.plain())
    found = read_evidence(path)
    problems = list(contradictions(found))
    problems += against_submission(found, folder)
    if problems:
        raise ValueError(problems[0])


def _read_cache(data: bytes, folder: Path) -> None:
    path = folder / "tiny.cache"
    path.write_bytes(data)
    for scale in calibration_cache.read_scales(path).values():
        assert 0 <= scale < float("inf")


def _read_sidecar(data: bytes, folder: Path) -> None:
    from trtverify.fixtures.quantization.scales import of_cache

    cache, model = folder / "tiny.cache", folder / "tiny.onnx"
    cache.write_bytes(inputs.CACHE)
    calibration_cache.sidecar(cache).write_bytes(data)
    if not model.exists():
        model.write_bytes(models.plain())
    of_cache(cache, model, CalibrationData("input", (), "1" * 64))


def _read_log(data: bytes, folder: Path) -> None:
    """All that is asked of a log, and what is said of it to people."""
    found = judged.reading(trtexec_log.read(data, "lab1_fp32.log"))
    judged.unfinished(found)
    for problem in judged.contradictions(found):
        assert problem
    for precision in Precision:
        judged.sold(found, precision)
    assert all(str(remark) for remark in judged.said_of(found))
    if found.median and compared.incomparable(found, found) is None:
        compared.speedup(found, found)
    assert table.table([found])


def _read_exports(data: bytes, folder: Path) -> None:
    run = trtexec_log.read(inputs.trtexec_log().encode(), "x").run
    found, refused = {}, []
    for kind in exported.KINDS:
        try:
            found[kind] = exported.read({kind: data})
        except ValueError as error:
            refused.append(error)
    for one in found.values():
        list(exported.contradictions(one, run))
    if not found:
        raise refused[0]


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name; `folder` is where inputs are made."""
    found = (
        Reader("archive", inputs.archives, _unpack),
        Reader("onnx", inputs.onnx, _onnx),
        Reader("npz", lambda: spoilt(*inputs.npz_seeds()) | inputs.npz(), _read_npz),
        Reader("npy", inputs.arrays, _calibration),
        Reader("json", inputs.documents, _json),
        Reader("manifest", inputs.manifests, _manifest),
        Reader("layer_info", inputs.layer_info, _read_layer_info),
        Reader("curves", inputs.curves, _of_json(lambda found: list(curves.doubts(curves.parse(found))))),
        Reader("placement", inputs.placement, _of_json(_placement)),
        Reader("evidence", lambda: inputs.evidence(folder), _read_evidence),
        Reader("cache", inputs.cache, _read_cache),
        Reader("sidecar", inputs.sidecars, _read_sidecar),
        Reader("run", inputs.runs, _of_json(saved.parse)),
        Reader("log", inputs.trtexec_logs, _read_log),
        Reader("exports", inputs.trtexec_exports, _read_exports),
    )
    return {reader.name: reader for reader in found}
