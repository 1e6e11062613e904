"""A submission's logs: right ones pass, wrong ones fail with the hint that helps, none at all is optional."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import test_trtexec_logs as claims
from tests.suite import tiny
from tests.suite.trtexec.made import Made, write
from tests.suite.trtexec.made_files import layers_json, times_json
from trtverify.fixtures.networks.reference import LabOptions, Reference
from trtverify.fixtures.submitted.submission import Submission
from trtverify.fixtures.words.verdict import FindingError

YOLO = "trtexec --onnx=yolov8n.onnx --saveEngine=yolov8n_{}.engine"
RESNET = "trtexec --onnx=resnet50.onnx --saveEngine=resnet50_{}.engine"
RIGHT = {
    "lab1_fp32": Made(RESNET.format("fp32"), ms=3.596, seed=11, engine_mib=101.0),
    "lab2_fp32": Made(YOLO.format("fp32"), ms=8.36, seed=21, engine_mib=16.4),
    "lab2_fp16": Made(YOLO.format("fp16") + " --fp16", ms=4.43, seed=22, engine_mib=9.2),
    "lab3_fp16": Made("trtexec --onnx=mobilenet_v2.onnx --fp16", ms=0.85, seed=31, engine_mib=8.0),
    "lab4_int8": Made(
        RESNET.format("int8") + " --int8 --fp16 --calib=resnet50_int8.cache", ms=1.19, seed=41, engine_mib=27
    ),
    "lab4_fp16": Made(RESNET.format("fp16") + " --fp16", ms=1.814, seed=42, engine_mib=50),
    "lab5_int8": Made(
        "trtexec --onnx=resnet18_qat_cifar10.onnx --int8 --fp16 --shapes=input:1x3x32x32",
        ms=0.2,
        seed=51,
        engine_mib=12,
    ),
}
CHECKS: dict[str, Callable[[str, Submission], None]] = {
    name.removeprefix("test_reported_"): check
    for name, check in vars(claims).items()
    if name.startswith("test_reported_")
}


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """An empty one."""
    folder = tmp_path / "submission"
    folder.mkdir()
    return Submission(folder, Reference(tmp_path / "cache", LabOptions("auto", None, None, None, None, None), None))


def hand_in(submission: Submission, logs: Mapping[str, Made | str | bytes]) -> None:
    assert submission.root is not None
    for name, made in logs.items():
        text = write(made) if isinstance(made, Made) else made
        path = submission.root / (name if "." in name else f"{name}.log")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def verdicts(submission: Submission, lab: str) -> dict[str, str]:
    """Each check's verdict, and its message after it."""
    result = {}
    for name, check in CHECKS.items():
        try:
            check(lab, submission)
            result[name] = "passed"
        except FindingError as error:
            result[name] = f"failed: {error}"
        except pytest.skip.Exception as error:
            result[name] = str(error)
    return result


def failed(found: Mapping[str, str]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.startswith("failed")}


@pytest.mark.parametrize("lab", ["lab1", "lab2", "lab3", "lab4", "lab5"])
def test_right_logs_pass(lab: str, submission: Submission) -> None:
    hand_in(submission, RIGHT)
    found = verdicts(submission, lab)
    assert failed(found) == set(), found
    passed = {name for name, verdict in found.items() if verdict == "passed"}
    assert {"run_ended_well", "run_is_of_this_work", "figures_agree", "precision"} <= passed, found
    assert ("speedup" in passed) == (lab in ("lab2", "lab4")), found


@pytest.mark.parametrize("lab", ["lab1", "lab2", "lab3", "lab4", "lab5"])
def test_where_nothing_was_handed_in_nothing_is_graded(lab: str, submission: Submission) -> None:
    found = verdicts(submission, lab)
    assert all("optional artifact not submitted" in verdict for verdict in found.values()), found


def test_only_one_of_two_is_a_whole_submission(submission: Submission) -> None:
    hand_in(submission, {"lab2_fp16": RIGHT["lab2_fp16"]})
    found = verdicts(submission, "lab2")
    assert failed(found) == set()
    assert "no two logs" in found["speedup"]


def changed(name: str, **more: object) -> Made:
    return dataclasses.replace(RIGHT[name], **more)  # type: ignore[arg-type]


EDITED = write(RIGHT["lab2_fp16"]).replace("median = 4.4", "median = 3.1")
ENGINE = "trtexec --loadEngine=yolov8n_fp16.engine --iterations=100"
SOLD = write(changed("lab2_fp32", seed=22)).replace(
    "--saveEngine=yolov8n_fp32.engine", "--saveEngine=yolov8n_fp32.engine --fp16"
)
WRONG: dict[str, tuple[str, dict[str, Made | str | bytes], str, str]] = {
    "FP32 sold as FP16": ("lab2", {"lab2_fp16": changed("lab2_fp32", seed=22)}, "precision", "--fp16, with --onnx"),
    "FP32 sold as INT8": ("lab4", {"lab4_int8": changed("lab1_fp32", seed=5)}, "precision", "--int8 --fp16 --calib"),
    "FP16 sold as INT8": ("lab4", {"lab4_int8": changed("lab4_fp16", seed=5)}, "precision", "is of FP16"),
    "FP16 sold as FP32": ("lab2", {"lab2_fp32": changed("lab2_fp16", seed=5)}, "precision", "--noTF32"),
    "--fp16 typed into an FP32 log": ("lab2", {"lab2_fp16": SOLD}, "figures_agree", "Precision: FP32"),
    "an FP32 engine under another name": (
        "lab4",
        {"lab4_fp16": changed("lab4_fp16", engine_mib=101, ms=3.6)},
        "precision",
        "FP32 weights of",
    ),
    "INT8 by name, FP32's size": (
        "lab4",
        {"lab4_int8": changed("lab4_int8", engine_mib=101)},
        "precision",
        "FP32 weights",
    ),
    "an engine smaller than its weights": (
        "lab1",
        {"lab1_fp32": changed("lab1_fp32", engine_mib=27)},
        "precision",
        "28.3 MB",
    ),
    "an engine as large as in FP32": (
        "lab2",
        {"lab2_fp16": changed("lab2_fp16", engine_mib=16.4)},
        "precision",
        "smaller than that in FP32",
    ),
    "one run twice, a digit of a copy's time changed": (
        "lab2",
        {
            "lab2_fp16": write(changed("lab2_fp16", ms=8.36, seed=21)).replace(
                "D2H Latency: min = 0.01", "D2H Latency: min = 0.00"
            )
        },
        "figures_agree",
        "one run, twice",
    ),
    "no time at all": (
        "lab3",
        {"lab3_fp16": re.sub(r"(GPU Compute Time: min = )[\d.]+", r"\g<1>0", write(RIGHT["lab3_fp16"]))},
        "figures_agree",
        "no time",
    ),
    "FP16 no faster than FP32": ("lab2", {"lab2_fp16": changed("lab2_fp16", ms=8.3)}, "speedup", "fell back"),
    "one run twice": (
        "lab2",
        {"lab2_fp16": changed("lab2_fp16", ms=8.36, seed=21, command=YOLO.format("fp16") + " --fp16")},
        "figures_agree",
        "one run, twice",
    ),
    "an edited figure": ("lab2", {"lab2_fp16": EDITED}, "figures_agree", "as trtexec printed it"),
    "another network": (
        "lab2",
        {"lab2_fp16": changed("lab4_fp16", seed=5)},
        "run_is_of_this_work",
        "it is of resnet50",
    ),
    "another network, renamed": (
        "lab1",
        {"lab1_fp32": write(RIGHT["lab1_fp32"]).replace("1x3x224x224", "1x3x299x299")},
        "run_is_of_this_work",
        "299",
    ),
    "a friend's board": (
        "lab2",
        {"lab2_fp16": changed("lab2_fp16", device="agx", ms=2.5)},
        "run_is_of_this_work",
        "AGX Orin",
    ),
    "a PC's": ("lab4", {"lab4_fp16": changed("lab4_fp16", device="h100", ms=0.5)}, "run_is_of_this_work", "H100"),
    "another TensorRT": (
        "lab2",
        {"lab2_fp16": changed("lab2_fp16", version="10.7.0")},
        "run_is_of_this_work",
        "10.7.0",
    ),
    "another board of the same kind": (
        "lab2",
        {"lab2_fp16": write(RIGHT["lab2_fp16"]).replace("00000000000f", "00000000000e")},
        "run_is_of_this_work",
        "UUID",
    ),
    "faster than the device": ("lab1", {"lab1_fp32": changed("lab1_fp32", ms=0.3)}, "figures_agree", "at its peak"),
    "it failed: --fp16 in 11": (
        "lab2",
        {"lab2_fp16": changed("lab2_fp16", version="11.1.0", errors=("Unknown option: --fp16 ",))},
        "run_ended_well",
        "onnxconverter-common",
    ),
    "it failed: a folder to calibrate with": (
        "lab4",
        {
            "lab4_int8": changed(
                "lab4_int8",
                command=RESNET.format("int8") + " --int8 --calib=calibration_data",
                errors=("Building engine failed",),
            )
        },
        "run_ended_well",
        "polygraphy calibrates",
    ),
    "it failed: shapes of a static network": (
        "lab1",
        {
            "lab1_fp32": changed(
                "lab1_fp32",
                command=RESNET.format("x") + " --shapes=input:1x3x224x224",
                errors=("Static model does not take explicit shapes since …",),
            )
        },
        "run_ended_well",
        "leave --shapes out",
    ),
    "it failed: --minShapes alone": (
        "lab1",
        {
            "lab1_fp32": changed(
                "lab1_fp32",
                command=RESNET.format("x") + " --minShapes=input:1x3x224x224",
                errors=("Must specify only --optShapes or all of --minShapes, --optShapes, --maxShapes",),
            )
        },
        "run_ended_well",
        "--memPoolSize=workspace",
    ),
    "no log at all": (
        "lab1",
        {"lab1_fp32": "I ran it, and it took 3 ms\n"},
        "run_ended_well",
        "2>&1 | tee lab1_fp32.log",
    ),
    "an empty one": ("lab1", {"lab1_fp32": b""}, "run_ended_well", "empty"),
    "a picture of it": ("lab1", {"lab1_fp32": b"\x89PNG" + bytes(300)}, "run_ended_well", "plain text"),
    "times of another run": (
        "lab2",
        {"lab2_fp16_times.json": times_json(changed("lab2_fp16", seed=99))},
        "figures_agree",
        "by the times",
    ),
    "times that are none": ("lab2", {"lab2_fp16_times.json": "{}"}, "figures_agree", "--exportTimes"),
    "layers that compute in FP32": (
        "lab2",
        {
            "lab2_fp16_layers.json": layers_json(
                RIGHT["lab2_fp16"].layers, "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw"
            )
        },
        "precision",
        "earns no speedup",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_logs_fail_with_a_hint(name: str, submission: Submission) -> None:
    lab, logs, check, says = WRONG[name]
    hand_in(submission, {**RIGHT, **logs})
    found = verdicts(submission, lab)
    assert found[check].startswith("failed"), found
    assert says in found[check], found[check]
    assert "next" in found[check]


def test_a_loaded_engine_tells_no_precision_until_its_build_is_there(submission: Submission) -> None:
    hand_in(submission, {"lab2_fp16": Made(ENGINE, ms=4.43, seed=22, engine_mib=9.2)})
    found = verdicts(submission, "lab2")
    assert failed(found) == set()
    assert "lab2_fp16_build.log" in found["precision"]
    hand_in(
        submission, {"lab2_fp16_build": changed("lab2_fp16", command=RIGHT["lab2_fp16"].command + " --skipInference")}
    )
    assert verdicts(submission, "lab2")["precision"] == "passed"
    hand_in(submission, {"lab2_fp16_build": Made(YOLO.format("fp16") + " --skipInference")})
    assert "is of TF32" in verdicts(submission, "lab2")["precision"]


def test_layers_tell_what_a_loaded_engine_computes_in(submission: Submission) -> None:
    tactic = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x64"
    hand_in(submission, {"lab2_fp16": Made(ENGINE, ms=4.43, seed=22, engine_mib=9.2)})
    hand_in(submission, {"lab2_fp16_layers.json": layers_json(["a", "b", "c"], tactic)})
    assert verdicts(submission, "lab2")["precision"] == "passed"
    hand_in(submission, {"lab2_fp16_layers.json": layers_json(["a", "b", "c"], tactic, detailed=False)})
    assert "detailed" in verdicts(submission, "lab2")["precision"]


def test_what_the_command_exported_is_read_under_its_own_name(submission: Submission) -> None:
    made = changed(
        "lab2_fp16", command=RIGHT["lab2_fp16"].command + " --exportTimes=out/mine.json --exportLayerInfo=../x.json"
    )
    hand_in(submission, {**RIGHT, "lab2_fp16": made, "mine.json": times_json(made)})
    assert verdicts(submission, "lab2")["figures_agree"] == "passed"
    hand_in(submission, {"mine.json": times_json(changed("lab2_fp16", seed=77))})
    assert "by the times" in verdicts(submission, "lab2")["figures_agree"]


def test_a_log_that_was_cut_off_is_not_graded(submission: Submission) -> None:
    whole = write(RIGHT["lab2_fp16"])
    hand_in(submission, {"lab2_fp16": whole[: whole.index("GPU Compute Time:")]})
    found = verdicts(submission, "lab2")
    assert failed(found) == set()
    assert "cut off" in found["run_ended_well"]


def test_an_old_log_is_not_graded(submission: Submission) -> None:
    hand_in(submission, {"lab1_fp32": write(RIGHT["lab1_fp32"]).replace("v100300", "v7103").replace("10.3.0", "7.1.3")})
    found = verdicts(submission, "lab1")
    assert failed(found) == set()
    assert "before 8.0" in found["figures_agree"]


def test_profiling_alone_is_not_graded_and_says_why(submission: Submission) -> None:
    hand_in(
        submission,
        {"lab1_fp32": changed("lab1_fp32", command=RESNET.format("fp32") + " --dumpProfile --dumpLayerInfo")},
    )
    found = verdicts(submission, "lab1")
    assert failed(found) == set()
    assert "--separateProfileRun" in found["run_ended_well"]


def test_a_network_of_ones_own_is_compared_with_the_log(submission: Submission) -> None:
    assert submission.root is not None
    tiny.network(submission.root / "resnet50.onnx", size=224)
    nodes = ("/stem/Conv + /stem/Relu", "/first/Conv + /first/Relu", "/second/Conv + /Add", "/last/Conv", "/fc/Gemm")
    # The small network answers ten classes, and says so by its output's shape.
    command = RESNET.format("fp32") + " --dumpProfile --separateProfileRun"
    made = changed("lab1_fp32", command=command, layers=nodes)
    hand_in(submission, {"lab1_fp32": write(made).replace("1x1000", "1x10")})
    assert verdicts(submission, "lab1")["run_is_of_this_work"] == "passed"
    hand_in(submission, {"lab1_fp32": made})
    assert "outputs output 1×1000" in verdicts(submission, "lab1")["run_is_of_this_work"]
    friend = dataclasses.replace(made, layers=tuple(f"resnetv17_conv{n}_fwd" for n in range(5)))
    hand_in(submission, {"lab1_fp32": write(friend).replace("1x1000", "1x10")})
    assert "none of its layers" in verdicts(submission, "lab1")["run_is_of_this_work"]
    hand_in(submission, {"lab1_fp32": write(made).replace("1x1000", "1x10").replace("for input with", "for data with")})
    assert "inputs data" in verdicts(submission, "lab1")["run_is_of_this_work"]


def test_logs_from_two_home_folders_are_asked_about(submission: Submission) -> None:
    ann, bob = (
        RIGHT[name].command.replace("--onnx=", f"--onnx=/home/{who}/")
        for name, who in (("lab2_fp32", "ann"), ("lab2_fp16", "bob"))
    )
    hand_in(
        submission, {"lab2_fp32": changed("lab2_fp32", command=ann), "lab2_fp16": changed("lab2_fp16", command=bob)}
    )
    assert "ann, bob" in verdicts(submission, "lab2")["run_is_of_this_work"]


def test_launches_that_are_timed_are_no_missing_speedup(submission: Submission) -> None:
    """Enqueuing takes longer than computing: the ratio is the CPU's."""
    slow = changed("lab2_fp16", ms=8.0, enqueue=7.9)
    hand_in(submission, {**RIGHT, "lab2_fp16": slow})
    assert "--useCudaGraph" in verdicts(submission, "lab2")["speedup"]


def test_other_clocks_are_not_compared(submission: Submission) -> None:
    hand_in(submission, {**RIGHT, "lab2_fp16": changed("lab2_fp16", device="nano 15W", ms=6.1)})
    found = verdicts(submission, "lab2")
    assert failed(found) == set(), found
    assert "clocks" in found["speedup"]


def test_the_courses_speedup_is_against_tf32(submission: Submission) -> None:
    """FP32 without TF32 is slower, and no range is known against it; beside it the log in TF32 is taken."""
    exact = changed("lab2_fp32", command=RIGHT["lab2_fp32"].command + " --noTF32", ms=12.0)
    hand_in(submission, {**RIGHT, "lab2_fp32": exact})
    assert "no expectation" in verdicts(submission, "lab2")["speedup"]
    tf32 = changed("lab2_fp32", command=YOLO.format("tf32"), seed=23)
    hand_in(submission, {"lab2_tf32": tf32})
    found = verdicts(submission, "lab2")
    assert found["speedup"] == "passed", found
    hand_in(submission, {"lab2_tf32": dataclasses.replace(exact, seed=24)})
    assert "is of FP32" in verdicts(submission, "lab2")["precision"]


def test_where_codes_are_given_a_log_carries_its_own(submission: Submission) -> None:
    assert submission.root is not None
    code = "0a1b-2c3d-4e5f-6071-8293"
    hand_in(submission, {**RIGHT, "challenge.txt": code})
    found = verdicts(submission, "lab2")
    assert all("carries not your code" in verdict for verdict in found.values()), found
    own = {
        name: dataclasses.replace(
            made, command=made.command.replace(".engine", f"_{code.replace('-', '').upper()}.engine")
        )
        for name, made in RIGHT.items()
    }
    hand_in(submission, own)
    assert set(verdicts(submission, "lab2").values()) == {"passed"}
    hand_in(submission, {"challenge.txt": "ffff-2c3d-4e5f-6071-8293"})
    assert "passed" not in verdicts(submission, "lab2").values(), "a friend's"


@pytest.mark.parametrize("name", ["Lab1_FP32.log", "lab1-fp32.log", "lab1_fp32 (1).log"])
def test_a_near_name_is_told(name: str, submission: Submission) -> None:
    hand_in(submission, {name: RIGHT["lab1_fp32"]})
    assert f"is {name} meant? Call it lab1_fp32.log" in verdicts(submission, "lab1")["run_ended_well"]


def test_a_link_is_not_followed(submission: Submission) -> None:
    assert submission.root is not None
    (submission.root / "lab1_fp32.log").symlink_to("/etc/passwd")
    assert "link" in verdicts(submission, "lab1")["run_ended_well"]


def test_the_suite_runs_them(tmp_path: Path, verify: Callable[..., object]) -> None:
    """In a process of its own, as a teacher would; every failure names what to look at next."""
    folder = tmp_path / "handed in"
    folder.mkdir()
    for name, made in {**RIGHT, "lab2_fp16": changed("lab2_fp32", seed=22)}.items():
        (folder / f"{name}.log").write_text(write(made))
    outcome: Any = verify(folder, "lab2", "-k", "reported")
    assert outcome.with_verdict("failed") == {"test_reported_precision"}, outcome.output
