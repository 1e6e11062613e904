"""What is said of commands, by version; and the command of this suite that says it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.suite.trtexec.made import Made, write
from tests.suite.trtexec.made_files import profile_json, times_json
from trtverify.fixtures.trtexec import judged, log, table
from trtverify.fixtures.trtexec.command import Command, Version, flags
from trtverify.fixtures.trtexec.remarks import NANO, Setting, remarks
from trtverify.fixtures.words.terms import Precision

V86, V103, V1016, V11 = Version(8, 6, 1), Version(10, 3), Version(10, 16, 1), Version(11, 1)
OLD = (V86, V103, V1016)


def kinds(command: str, version: Version, **more: object) -> set[str]:
    return {remark.kind for remark in remarks(Setting(Command.read(command), version, **more))}  # type: ignore[arg-type]


def stops(command: str, version: Version, **more: object) -> bool:
    return any(remark.fatal for remark in remarks(Setting(Command.read(command), version, **more)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("trtexec --onnx=a.onnx --int8 --calib=calibration_data", "calibration folder"),
        ("trtexec --onnx=a.onnx --int8 --calib=./calibration_data/", "calibration folder"),
        ("trtexec --onnx=a.onnx --int8", "no calibration"),
        ("trtexec --onnx=a.onnx --int8 --calib=a.cache", "INT8 alone"),
        ("trtexec --onnx=a.onnx --calib=a.cache", "calibration unread"),
        ("trtexec --loadEngine=a.engine --fp16", "loaded"),
        ("trtexec --loadEngine=a.engine --saveEngine=b.engine", "load and save"),
        ("trtexec --loadEngine=a.engine --onnx=a.onnx", "network ignored"),
        ("trtexec --loadEngine=a.engine --optShapes=x:1x3", "shapes of a built engine"),
        ("trtexec --onnx=a.onnx", "TF32"),
        ("trtexec --onnx=a.onnx --dumpProfile", "no summary"),
        ("trtexec --onnx=a.onnx --exportProfile=p.json", "no summary"),
        ("trtexec --onnx=a.onnx --dumpLayerInfo", "names only"),
        ("trtexec --loadEngine=a.engine --exportLayerInfo=a.json", "layers of a built engine"),
        ("trtexec --onnx=a.onnx --minShapes=x:1x3", "shapes incomplete"),
        ("trtexec --onnx=a.onnx --minShapes=x:1x3 --optShapes=x:1x3", "shapes incomplete"),
        ("trtexec --loadEngine=a.engine --iterations=100", "iterations"),
        ("trtexec --loadEngine=a.engine", "launches"),
        ("trtexec --loadEngine=a.engine", "transfers"),
        ("trtexec --onnx=a.onnx --sparsity=force", "sparsity"),
        ("trtexec --onnx=a.onnx --useDLACore=0 --allowGPUFallback", "DLA precision"),
        ("trtexec --onnx=a.onnx --iterations 100", "apart"),
    ],
)
def test_what_a_command_gets_wrong_is_said(command: str, kind: str) -> None:
    for version in OLD:
        found = [r for r in remarks(Setting(Command.read(command), version)) if r.kind == kind]
        assert found, f"{version}: {kinds(command, version)}"
        assert str(found[0])


@pytest.mark.parametrize(
    "command",
    [
        "trtexec --onnx=a.onnx --noTF32 --useCudaGraph --noDataTransfers",
        "trtexec --onnx=a.onnx --fp16 --useCudaGraph --noDataTransfers --iterations=100 --duration=0",
        "trtexec --onnx=a.onnx --int8 --fp16 --calib=a.cache --useCudaGraph --noDataTransfers",
        "trtexec --onnx=a.onnx --fp16 --dumpProfile --separateProfileRun --dumpLayerInfo --profilingVerbosity=detailed "
        "--useCudaGraph --noDataTransfers",
        "trtexec --loadEngine=a.engine --shapes=x:8x3x224x224 --useCudaGraph --noDataTransfers",
        "trtexec --onnx=a.onnx --minShapes=x:1x3 --optShapes=x:4x3 --maxShapes=x:8x3 --fp16 --useCudaGraph "
        "--noDataTransfers",
        "trtexec --onnx=a.onnx --fp16 --skipInference",
    ],
)
def test_of_a_right_command_nothing_is_said(command: str) -> None:
    for version in OLD:
        assert kinds(command, version) == set()


def test_what_exists_in_which_version() -> None:
    for option in ("--fp16", "--int8", "--best", "--calib=a.cache"):
        assert "unknown" in kinds(f"trtexec --onnx=a.onnx {option}", V11)
        assert all("unknown" not in kinds(f"trtexec --onnx=a.onnx {option}", version) for version in OLD)
    for option in ("--workspace=2048", "--explicitBatch", "--buildOnly", "--maxBatch=8"):
        assert [stops(f"trtexec --onnx=a.onnx {option}", version) for version in (*OLD, V11)] == [
            False,
            True,
            True,
            True,
        ]
    assert stops("trtexec --onnx=a.onnx --skipInference", Version(8, 5, 3))
    assert [stops("trtexec --onnx=a.onnx --noCudaGraph", version) for version in (*OLD, V11)] == [
        True,
        True,
        True,
        False,
    ]
    assert "idle" in kinds("trtexec --loadEngine=a.engine --useCudaGraph --useSpinWait", V11)
    assert "TF32" in kinds("trtexec --onnx=a.onnx", V11), "strongly typed, and FP32 is still computed in TF32"
    assert "no summary" not in kinds("trtexec --onnx=a.onnx --dumpProfile", V11)
    assert stops("trtexec --onnx=a.onnx --useDLACore=0", V11)


def test_the_setting_decides() -> None:
    shaped = "trtexec --onnx=a.onnx --fp16 --shapes=x:1x3x224x224"
    assert stops(shaped, V103, static=True)
    assert not stops(shaped, V103, static=False)
    assert not stops(shaped, V103)
    assert "no calibration" not in kinds("trtexec --onnx=a.onnx --int8 --fp16", V103, quantized=True)
    assert "TF32" not in kinds("trtexec --onnx=a.onnx", V103, tf32=False)
    assert stops("trtexec --onnx=a.onnx --useDLACore=0 --allowGPUFallback --fp16", V103, board=NANO)


def test_every_flag_of_the_table_is_whole() -> None:
    assert all(name.startswith("--") for name in flags())
    for flag in flags().values():
        assert flag.since is None or flag.until is None or flag.since < flag.until


def test_a_log_says_more_than_its_command() -> None:
    made = Made("trtexec --onnx=resnet50.onnx --int8 --fp16 --calib=gone.cache", noise=0.05, enqueue=3.4)
    text = write(made).replace(
        "[I] Start parsing", "[I] [TRT] Starting Calibration.\n[11/02/2026-10:00:00] [I] Start parsing"
    )
    found = {remark.kind for remark in judged.said_of(judged.reading(log.read(text.encode(), "x")))}
    assert {"calibrated", "unstable", "enqueue bound"} <= found
    quiet = log.read(write(made, stderr=False).encode(), "x")
    assert "stderr" in {remark.kind for remark in judged.said_of(judged.reading(quiet))}
    folder = write(dataclasses.replace(made, command=made.command.replace("gone.cache", "cachefile")))
    passed = judged.said_of(judged.reading(log.read(folder.encode(), "x")))
    assert "calibration folder" not in {remark.kind for remark in passed}, "it passed, so it was a file"


def test_a_network_with_its_own_scales_needs_no_cache() -> None:
    for command in ("trtexec --onnx=resnet50_int8.onnx --int8 --fp16", "trtexec --onnx=model.onnx --int8 --fp16"):
        made = Made(command, warnings=("Calibrator won't be used in explicit quantization mode.",))
        said = {remark.kind for remark in judged.said_of(judged.reading(log.read(write(made).encode(), "x")))}
        assert "no calibration" not in said


YOLO = "trtexec --onnx=yolov8n.onnx --saveEngine=yolov8n_{}.engine"
CLASS = {
    "fp32": Made(YOLO.format("fp32"), ms=8.36, seed=1, engine_mib=16.4),
    "fp16": Made(YOLO.format("fp16") + " --fp16", ms=4.43, seed=2, engine_mib=9.2),
    "int8": Made(YOLO.format("int8") + " --int8 --fp16 --calib=yolov8n.cache", ms=3.49, seed=3, engine_mib=6),
}


def put(folder: Path, **logs: Made) -> list[str]:
    for name, made in logs.items():
        (folder / f"{name}.log").write_text(write(made))
    return [str(folder / f"{name}.log") for name in logs]


def test_the_table_and_what_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([*put(tmp_path, **CLASS), "--lang", "en"]) == table.FINE
    said = capsys.readouterr().out
    rows = said.splitlines()
    assert [row.split()[0] for row in rows[:4]] == ["log", "fp32.log", "fp16.log", "int8.log"]
    assert "Jetson Orin Nano MAXN_SUPER" in rows[1]
    assert "TF32" in rows[1]
    assert "1.89× / TF32" in rows[2]
    assert "as expected, 1.50–2.50×" in said
    assert "--noTF32" in said


def test_a_name_that_says_two_precisions_says_none() -> None:
    assert table.named("yolov8n_FP16.log") is Precision.FP16
    assert table.named("lab2_tf32.log") is Precision.TF32
    assert table.named("fp16_against_fp32.log") is None
    assert table.named("run.log") is None


def test_in_chinese_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([*put(tmp_path, **CLASS), "--lang", "zh-TW"]) == table.FINE
    assert "網路" in capsys.readouterr().out
    table.main([*put(tmp_path, **CLASS), "--lang", "en"])


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"fp16": dataclasses.replace(CLASS["fp32"], seed=9)}, table.WRONG, "fp16.log is of TF32"),
        ({"fp16": dataclasses.replace(CLASS["fp16"], device="agx")}, table.WRONG, "AGX Orin"),
        ({"fp16": dataclasses.replace(CLASS["fp16"], ms=8.2)}, table.FINE, "less than expected"),
        (
            {"fp16": dataclasses.replace(CLASS["fp16"], command=YOLO.format("x") + " --fp16 --useCudaGraph")},
            table.FINE,
            "launch by launch",
        ),
        (
            {"fp16": dataclasses.replace(CLASS["fp16"], errors=("out of memory",))},
            table.WRONG,
            "trtexec failed: out of memory",
        ),
        (
            {"fp16": dataclasses.replace(CLASS["fp16"], command=YOLO.format("x") + " --fp16 --dumpProfile")},
            table.WRONG,
            "--separateProfileRun",
        ),
    ],
)
def test_what_is_wrong_has_a_status_of_its_own(
    changes: dict[str, Made], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main([*put(tmp_path, **{**CLASS, **changes}), "--lang", "en"]) == status
    assert says in capsys.readouterr().out


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(b"\x7fELF")
    for arguments, says in (
        ([str(tmp_path / "a.log")], "a.log: "),
        ([str(tmp_path / "none.log")], "none.log"),
        ([str(tmp_path)], tmp_path.name),
        ([str(tmp_path / "a_times.json")], "no log"),
    ):
        assert table.main([*arguments, "--lang", "en"]) == table.UNREADABLE
        told = capsys.readouterr()
        assert told.out == ""
        assert says in told.err
        assert len(told.err.splitlines()) == 1


def test_what_lies_beside_a_log_is_read_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = put(tmp_path, **CLASS)
    (tmp_path / "fp16_times.json").write_text(times_json(CLASS["fp16"]))
    (tmp_path / "fp16_profile.json").write_text(profile_json(CLASS["fp16"]))
    assert table.main([*logs, "--lang", "en"]) == table.FINE
    (tmp_path / "fp16_times.json").write_text(times_json(CLASS["fp32"]))
    assert table.main([*logs, "--lang", "en"]) == table.WRONG
    assert "times" in capsys.readouterr().out


def test_a_file_says_nothing_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = dataclasses.replace(CLASS["fp16"], command=YOLO.format("x") + " --fp16 --x=\x1b[2J\u202e\x9b31m")
    assert table.main([*put(tmp_path, evil=made), "--lang", "en"]) in (table.FINE, table.WRONG)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said
