"""What every released version saved is read by this one, or refused by its number."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.suite.engines.counting import FP32, LAYER, Counting
from tests.suite.formats.write import MADE_FROM
from trtverify.fixtures.engines import engine_cache
from trtverify.fixtures.evidence import schema as evidence_schema
from trtverify.fixtures.evidence.contradictions import contradictions
from trtverify.fixtures.evidence.read import read
from trtverify.fixtures.report import html, record, saved
from trtverify.fixtures.submitted import calibration_cache
from trtverify.grading import commands, rubric, store

SAVED = Path(__file__).with_name("saved")
VERSIONS = sorted(path.name for path in SAVED.iterdir())


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    """A released version's files."""
    return SAVED / str(request.param)


def results(script_file: Path, folder: Path) -> Path:
    """A results folder as a version left it."""
    script = script_file.read_text(encoding="utf-8").replace("RUBRIC", str(rubric.DEFAULT))
    (folder / "suite" / "frozen").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "results.sqlite")) as db:
        db.executescript(script)
    return folder


def test_what_is_saved_today_is_kept() -> None:
    """A new number of any format comes with a folder of it: `python -m tests.suite.formats.write saved/VERSION`."""
    newest = SAVED / VERSIONS[-1]
    assert json.loads((newest / "run.json").read_text(encoding="utf-8"))["schema"] == record.SCHEMA
    with zipfile.ZipFile(newest / "evidence.zip") as archive:
        assert json.loads(archive.read(evidence_schema.DOCUMENT))["schema"] == evidence_schema.SCHEMA
    assert (newest / "results.sql").read_text(encoding="utf-8").startswith(f"PRAGMA user_version = {store.SCHEMA};")
    assert json.loads((newest / "engine/engine.json").read_text(encoding="utf-8"))["schema"] == engine_cache.SCHEMA
    sidecar = json.loads((newest / "resnet50_int8.cache.json").read_text(encoding="utf-8"))
    assert sidecar["schema"] == calibration_cache.SCHEMA


def test_a_run_is_read(version: Path, tmp_path: Path) -> None:
    run = saved.load(version)
    assert {row.precision for row in run.engines} == {"fp32", "fp16"}
    assert all(len(row.seconds) >= 10 for row in run.latencies)
    assert [row.model for row in run.placements] == ["mobilenet_v2"]
    assert {row.verdict for row in run.verdicts} == {"passed", "not gradable"}
    assert "mobilenet_v2" in html.write_page([run], tmp_path).read_text(encoding="utf-8")


def test_evidence_is_read(version: Path) -> None:
    found = read(version / "evidence.zip")
    assert {engine.precision for engine in found.document.engines} == {"fp32", "fp16"}
    assert list(contradictions(found)) == []


@pytest.mark.parametrize(
    "script", sorted(SAVED.glob("*/results*.sql")), ids=lambda path: f"{path.parent.name} {path.stem}"
)
def test_results_are_read(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = results(script, tmp_path)
    assert commands.main(["show", "ann", "--out", str(out), "--lang=en"]) == 0
    said = capsys.readouterr().out
    assert "ann: 3.00 of 3.00 points" in said
    assert "note: left out: model.engine" in said
    assert commands.main(["export", "--format", "csv", "--out", str(out)]) == 0


def test_caches_are_read(version: Path) -> None:
    """The engine's name changes with every version of what builds it: only its layout is kept."""
    engine = engine_cache._read(version / "engine", Counting(), FP32)
    assert engine is not None
    assert engine.layers == (LAYER,)
    assert calibration_cache.check(version / "resnet50_int8.cache", MADE_FROM).keys() == {"images", "logits"}
    other = dataclasses.replace(MADE_FROM, tensorrt="10.16.2")
    with pytest.raises(ValueError, match="does not fit"):
        calibration_cache.check(version / "resnet50_int8.cache", other)


@pytest.mark.parametrize("number", [0, 99, None])
def test_another_schema_is_named(version: Path, tmp_path: Path, number: int | None) -> None:
    plain = json.loads((version / "run.json").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=f"of schema {record.SCHEMA}, found {number}"):
        saved.parse({**plain, "schema": number})
    with zipfile.ZipFile(version / "evidence.zip") as old, zipfile.ZipFile(tmp_path / "evidence.zip", "w") as new:
        for name in old.namelist():
            content = json.loads(old.read(name))
            new.writestr(
                name, json.dumps({**content, "schema": number} if name == evidence_schema.DOCUMENT else content)
            )
    with pytest.raises(ValueError, match=f"of schema {evidence_schema.SCHEMA}, found {number}"):
        read(tmp_path / "evidence.zip")


def test_results_of_a_later_version_are_refused(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = results(version / "results.sql", tmp_path)
    with contextlib.closing(sqlite3.connect(out / "results.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    assert commands.main(["status", "--out", str(out), "--lang=en"]) == 2
    assert "was made by a later version of grading: schema 99" in capsys.readouterr().err
