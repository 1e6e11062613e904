"""The cross-check with trtexec, over a script that takes its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import stat
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.measuring import trtexec
from trtverify.fixtures.words.terms import BuildOptions, Engine, Precision

FAKE = """\
    #!{python}
    import json, pathlib, sys
    known = {known!r}
    if "--help" in sys.argv:
        print("=== Inference Options ===")
        print("\\n".join(f"  {{name}}=N   what it does (default = 1)" for name in known))
        sys.exit(0)
    flags = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    print("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] #", *sys.argv)
    unknown = set(flags) - set(known)
    if unknown or {fails!r}:
        print("[11/23/2026-03:38:02] [E] Unknown option:", *unknown)
        print("&&&& FAILED TensorRT.trtexec")
        sys.exit(1)
    pathlib.Path({record!r}).write_text(json.dumps(sys.argv[1:]))
    warm = float(flags.get("--warmUp", 200))
    runs, now = [], 3.0
    while len(runs) < int(flags["--iterations"]) + 100:
        runs.append(dict(startEnqMs=now - 1, endEnqMs=now - 0.98, startComputeMs=now, endComputeMs=now + 2,
                         h2dMs=0, computeMs=2.0 if now >= warm else 9.0, d2hMs=0, latencyMs=2.0))
        now += 10
    pathlib.Path(flags["--exportTimes"]).write_text(json.dumps(runs))
    profile = [dict(count=50), dict(name="conv1 + relu", timeMs=60, averageMs=1.3, medianMs=1.2, percentage=60),
               dict(name="fc", timeMs=40, averageMs=0.8, medianMs=0.8, percentage=40)]
    pathlib.Path(flags["--exportProfile"]).write_text(json.dumps(profile))
    pathlib.Path(flags["--exportLayerInfo"]).write_text({layers!r})
    """
EIGHT = [
    "--loadEngine",
    "--exportTimes",
    "--exportProfile",
    "--exportLayerInfo",
    "--shapes",
    "--iterations",
    "--duration",
    "--warmUp",
    "--avgRuns",
    "--sleepTime",
    "--idleTime",
    "--infStreams",
    "--useCudaGraph",
    "--useSpinWait",
    "--noDataTransfers",
    "--separateProfileRun",
    "--profilingVerbosity",
]
DETAILED = '{"Layers": [{"Name": "conv1 + relu", "LayerType": "CaskConvolution", "Inputs": [], "Outputs": []}], %s}'


@dataclasses.dataclass
class Setting:
    """A fake trtexec first on PATH, and an engine for it."""

    program: Path
    engine: Engine
    record: Path

    def install(self, **more: Any) -> None:
        values = {
            "python": sys.executable,
            "known": EIGHT,
            "version": 8600,
            "fails": False,
            "record": str(self.record),
            "layers": DETAILED % '"Bindings": ["input", "output"]',
            **more,
        }
        self.program.write_text(textwrap.dedent(FAKE).format(**values))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    path = tmp_path / "model.engine"
    path.write_bytes(b"engine")
    options = BuildOptions(Precision.FP16, {"input": (32, 3, 224, 224), "mask": (32, 1)})
    engine = Engine("tensorrt", path, options, 6, hashlib.sha256(b"engine").hexdigest(), 1.0, ())
    found = Setting(folder / "trtexec", engine, tmp_path / "arguments.json")
    found.install()
    return found


def test_every_timing_flag_is_said(setting: Setting) -> None:
    program = trtexec.find()
    assert program == setting.program
    check = trtexec.run(program, setting.engine, 60)
    said = json.loads(setting.record.read_text())
    assert "--shapes=input:32x3x224x224,mask:32x1" in said
    for flag in (
        "--iterations=60",
        "--duration=0",
        "--warmUp=500",
        "--avgRuns=1",
        "--sleepTime=0",
        "--idleTime=0",
        "--infStreams=1",
        "--useCudaGraph",
        "--useSpinWait",
        "--noDataTransfers",
        "--separateProfileRun",
    ):
        assert flag in said
    assert (check.version, check.omitted) == ("8600", ())
    assert all("model.engine" in part or str(setting.engine.path.parent) not in part for part in check.command)


def test_what_it_exported_is_read(setting: Setting) -> None:
    check = trtexec.run(setting.program, setting.engine, 60)
    assert check.median == pytest.approx(2e-3), "runs of the warm-up took 9 ms and are left out"
    assert len(check.compute) == len(check.enqueue) == 110
    assert check.enqueue[0] == pytest.approx(20e-6)
    assert [layer.name for layer in check.profile] == ["conv1 + relu", "fc"]
    assert [layer.seconds for layer in check.profile] == pytest.approx([1.2e-3, 0.8e-3])
    assert [layer.share for layer in check.profile] == pytest.approx([0.6, 0.4])
    assert check.layers.layers[0].kind == "convolution"
    assert check.layers.bindings == ("input", "output")


def test_flags_that_a_version_lacks_are_left_out_and_told(setting: Setting) -> None:
    eleven = [name for name in EIGHT if name not in ("--idleTime", "--useSpinWait")]
    io = '"I/O Tensors": [{"Name": "input", "IOMode": "Input"}]'
    setting.install(known=eleven, version=110000, layers=DETAILED % io)
    check = trtexec.run(setting.program, setting.engine, 60)
    assert check.omitted == ("--idleTime=0", "--useSpinWait")
    assert check.version == "110000"
    assert check.layers.bindings == ("input",)


def test_a_failure_is_told_with_its_words(setting: Setting) -> None:
    setting.install(fails=True)
    with pytest.raises(RuntimeError, match=r"trtexec failed \(1\): .*\[E\] Unknown option"):
        trtexec.run(setting.program, setting.engine, 60)


def test_a_program_that_is_not_trtexec(setting: Setting) -> None:
    setting.install(known=["--onnx"])
    with pytest.raises(RuntimeError, match="names no --loadEngine"):
        trtexec.run(setting.program, setting.engine, 60)


def test_a_changed_engine_is_not_handed_over(setting: Setting) -> None:
    setting.engine.path.write_bytes(b"other!")
    with pytest.raises(ValueError, match="is not the file that was built"):
        trtexec.run(setting.program, setting.engine, 60)
    assert not setting.record.exists()


def test_names_only_layer_information_is_told(setting: Setting) -> None:
    setting.install(layers='{"Layers": ["conv1"], "Bindings": []}')
    assert not trtexec.run(setting.program, setting.engine, 60).layers.detailed


def test_none_is_found_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trtexec, "JETPACK", tmp_path / "trtexec")
    assert trtexec.find() is None
    (tmp_path / "trtexec").write_text("")
    assert trtexec.find() == tmp_path / "trtexec"


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[]", '[{"startComputeMs": 600}]', '[{"startComputeMs": 600, "computeMs": "fast"}]',
     '[{"startComputeMs": 10, "computeMs": 2}]', '[{"startComputeMs": 600, "computeMs": true}]'],
)  # fmt: skip
def test_damaged_times_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(ValueError, match=r"times\.json"):
        trtexec.read_times(tmp_path / "times.json", "computeMs")


def test_missing_and_damaged_profiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trtexec wrote no profile\.json"):
        trtexec.read_profile(tmp_path / "profile.json")
    (tmp_path / "profile.json").write_text('[{"count": 3}, {"name": "conv"}]')
    with pytest.raises(ValueError, match="expected a number for averageMs"):
        trtexec.read_profile(tmp_path / "profile.json")
