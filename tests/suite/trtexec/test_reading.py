"""Logs of every version, through every terminal: each is read as what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import pytest

from tests.suite.trtexec.forms import FORMS
from tests.suite.trtexec.made import Made, write
from trtverify.fixtures.trtexec import figures, log, subject, text
from trtverify.fixtures.trtexec.command import Command, Version
from trtverify.fixtures.words.terms import Precision

RESNET = "trtexec --onnx=resnet50.onnx --saveEngine=resnet50_{}.engine"
TIMED = "--useCudaGraph --noDataTransfers --iterations=100"
VERSIONS = ("8.2.1", "8.5.3", "8.6.1", "10.3.0", "10.7.0", "10.13.3", "10.16.1", "11.1.0")


@dataclasses.dataclass(frozen=True)
class Right:
    """A log and its right reading."""

    made: Made
    precision: Precision | None
    model: str = "resnet50"
    graph: bool = False
    transfers: bool = True
    device: str = "Jetson Orin Nano"
    power: str = "MAXN_SUPER"


def _right(command: str, precision: Precision | None, **more: object) -> Right:
    names = {field.name for field in dataclasses.fields(Made)} - {"device"}
    made = {name: value for name, value in more.items() if name in names}
    held = str(more.get("held", "nano"))
    rest = {name: value for name, value in more.items() if name not in names and name != "held"}
    return Right(Made(command, device=held, **made), precision, **rest)  # type: ignore[arg-type]


READINGS = {
    **{f"default {v}": _right(RESNET.format("fp32"), Precision.TF32, version=v) for v in VERSIONS[:-1]},
    **{
        f"fp16 {v}": _right(RESNET.format("fp16") + " --fp16", Precision.FP16, version=v, ms=1.8) for v in VERSIONS[:-1]
    },
    **{
        f"graph {v}": _right(
            f"{RESNET.format('int8')} --int8 --fp16 {TIMED}",
            Precision.INT8,
            version=v,
            ms=1.2,
            graph=True,
            transfers=False,
        )
        for v in VERSIONS[:-1]
    },
    "11, typed": _right(RESNET.format("fp16"), None, version="11.1.0", graph=True, transfers=False),
    "11, as before": _right(
        RESNET.format("x") + " --noCudaGraph --includeDataTransfers --noSpinWait", None, version="11.0.0"
    ),
    "no TF32": _right(RESNET.format("fp32") + " --noTF32", Precision.FP32),
    "Turing": _right(RESNET.format("fp32"), Precision.FP32, held="t4", device="Tesla T4", power=""),
    "best": _right(RESNET.format("best") + " --best", Precision.INT8),
    "typed 10": _right(RESNET.format("x") + " --stronglyTyped", None),
    "15 W": _right(RESNET.format("fp16") + " --fp16", Precision.FP16, held="nano 15W", power="15W"),
    "NX": _right(RESNET.format("fp16") + " --fp16", Precision.FP16, held="nx", device="Jetson Orin NX", power=""),
    "AGX": _right(RESNET.format("fp16") + " --fp16", Precision.FP16, held="agx", device="Jetson AGX Orin", power=""),
    "H100": _right(
        RESNET.format("fp16") + " --fp16", Precision.FP16, held="h100", device="NVIDIA H100 80GB HBM3", power="", ms=0.4
    ),
    "loaded 8.6": _right("trtexec --loadEngine=resnet50_fp16.engine --fp16", None, version="8.6.1"),
    "loaded 10.3": _right("trtexec --loadEngine=resnet50_fp16.engine", None),
    "YOLO": _right("./trtexec --onnx=/home/me/yolov8n.onnx --fp16", Precision.FP16, model="yolov8n", ms=4.4),
    "MobileNet": _right("trtexec --onnx=mobilenet_v2.onnx --fp16", Precision.FP16, model="mobilenet_v2", ms=0.85),
    "ResNet-18": _right(
        "trtexec --onnx=resnet18_qat_cifar10.onnx --int8 --shapes=input:1x3x32x32",
        Precision.INT8,
        model="resnet18_qat_cifar10",
        ms=0.3,
    ),
    "unstable": _right(RESNET.format("fp32"), Precision.TF32, noise=0.04),
    "enqueue bound": _right(RESNET.format("fp32"), Precision.TF32, enqueue=3.5),
    "slow": _right(RESNET.format("fp32"), Precision.TF32, ms=110.0, version="10.7.0"),
    "many lines": _right(RESNET.format("fp16") + " --fp16", Precision.FP16, ms=0.3, enqueue=0.1),
    "profiled apart": _right(RESNET.format("x") + " --dumpProfile --separateProfileRun --avgRuns=50", Precision.TF32),
    "profiled 8.5": _right(RESNET.format("x") + " --dumpProfile --separateProfileRun", Precision.TF32, version="8.5.3"),
    "long": _right(RESNET.format("x") + " --duration=6 --warmUp=500", Precision.TF32),
}


@pytest.mark.parametrize("name", READINGS)
def test_each_is_read_as_what_it_is(name: str) -> None:
    right = READINGS[name]
    found = log.read(write(right.made).encode(), name)
    run = found.run
    assert (len(found.runs), run.status, figures.missing(run)) == (1, "PASSED", [])
    assert subject.version(run) == right.made.release
    assert subject.asked(run, found).precision is right.precision
    model, device, how = subject.model(run), subject.device(run), subject.timed(run)
    assert model is not None
    assert model.name == right.model
    assert device is not None
    assert (device.name, device.power) == (right.device, right.power)
    assert (how.graph, how.transfers) == (right.graph, right.transfers)
    assert subject.batch(run) == 1
    assert run.rows["compute"].median == pytest.approx(right.made.ms, rel=0.01)
    assert (run.size or 0) / 1024**2 == pytest.approx(right.made.engine_mib, abs=1)
    assert list(figures.contradictions(run)) == []
    if "profiled" in name:
        assert [layer.name for layer in run.profile] == list(right.made.layers)
        assert run.profile_total is not None


@pytest.mark.parametrize("version", ["8.5.3", "10.3.0", "11.1.0"])
@pytest.mark.parametrize("form", FORMS)
def test_a_terminal_changes_nothing(form: str, version: str) -> None:
    """Every figure, the device and the command are the same as of the log itself."""
    made = Made(f"{RESNET.format('fp16')} --dumpProfile --separateProfileRun", version, ms=9.0, noise=0.03)
    plain = log.read(write(made).encode(), "x").run
    run = log.read(FORMS[form](write(made)), "x").run
    assert run.rows == plain.rows
    assert run.single == plain.single
    assert run.averages == plain.averages
    assert run.profile == plain.profile
    assert (run.status, run.framed, run.device, run.inputs) == ("PASSED", True, plain.device, plain.inputs)
    assert run.command.same(plain.command)
    assert list(figures.contradictions(run)) == []


def test_what_is_cut_off_is_told() -> None:
    whole = write(Made(RESNET.format("fp32"))).splitlines()
    cut = next(n for n, line in enumerate(whole) if "GPU Compute Time:" in line)
    run = log.read("\n".join([*whole[:cut], whole[cut][:70]]).encode(), "x").run
    assert (run.status, run.framed, run.timed) == ("", True, False)
    assert "GPU Compute Time" in figures.missing(run)
    assert list(figures.contradictions(run)) == [], "a line that was cut off contradicts nothing"
    top = next(n for n, line in enumerate(whole) if "Starting inference" in line)
    run = log.read("\n".join(whole[top:]).encode(), "x").run
    assert (run.status, run.framed, figures.missing(run)) == ("PASSED", False, [])
    assert run.command.file("--onnx") == "resnet50.onnx", "the last line repeats the command"
    assert list(figures.contradictions(run)) == []


def test_without_stderr_nothing_but_warnings_is_lost() -> None:
    made = Made(RESNET.format("fp32"), noise=0.05, enqueue=3.4)
    both, stdout = (log.read(write(made, stderr=flag).encode(), "x").run for flag in (True, False))
    assert {"unstable", "enqueue bound"} <= both.notes
    assert not {"unstable", "enqueue bound"} & stdout.notes
    assert both.rows == stdout.rows


def test_an_option_error_is_no_run_although_its_help_has_the_titles() -> None:
    made = Made(RESNET.format("x") + " --fp16", "11.1.0", errors=("Unknown option: --fp16 ",))
    run = log.read(write(made).encode(), "x").run
    assert (run.status, run.options, run.errors) == ("FAILED", {}, ["Unknown option: --fp16"])


def test_two_runs_in_one_file_are_two() -> None:
    first = write(Made(RESNET.format("fp16") + " --fp16 --skipInference"))
    second = write(Made("trtexec --loadEngine=resnet50_fp16.engine --iterations=100", second=40_000))
    found = log.read((first + "\n$ trtexec …\n" + second).encode(), "x")
    assert [run.timed for run in found.runs] == [False, True]
    assert subject.asked(found.run, found).precision is Precision.FP16, "the first built what the second loads"
    other = second.replace("resnet50_fp16.engine", "resnet50_other.engine")
    found = log.read((first + other).encode(), "x")
    assert subject.asked(found.run, found).precision is None


def test_profiling_alone_prints_no_summary() -> None:
    for version, summed in (("8.6.1", False), ("10.3.0", False), ("11.1.0", True)):
        run = log.read(write(Made(RESNET.format("x") + " --dumpProfile", version)).encode(), "x").run
        assert run.timed is summed
        assert run.profile


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"hello\n" * 5, "nothing in it is trtexec's"),
        (b"\x7fELF" + bytes(500), "no text"),
        (b"PK\x03\x04" + bytes(500), "no text"),
        (b"x" * (text.MAX_BYTES + 1), "over the"),
        (b"\n[I] a" * (text.MAX_LINES + 1), "lines, over"),
        (b"&&&& PASSED TensorRT.trtexec [TensorRT v8503] # trtexec\n" * 60, "over 50 runs"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        log.read(content, "x")


@pytest.mark.parametrize(
    "hostile",
    [
        b"a\x08" * 2_000_000,
        b"\x1b[" * 2_000_000,
        b"\x1b]" * 2_000_000,
        b"[I] GPU Compute Time: min = " + b"1 ms, min = " * 300_000,
        b"[I] === Profile (9 iterations ) ===\n" + b"[I] " + b"1 " * 1_000_000,
        b"[I] Average on 10 runs - GPU latency: 1 ms - Host latency: 1 ms (" + b"enqueue " * 400_000,
        b"&&&& RUNNING TensorRT.trtexec [TensorRT v8503] # trtexec " + b"--x='" * 500_000,
        b"[I] Created input binding for " + b" with dimensions" * 200_000,
        b"[11/02/2026-10:00:00] " * 200_000,
        b"\r" * 4_000_000,
    ],
)
def test_what_means_harm_costs_little(hostile: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(ValueError):
        log.read(hostile + b"\n&&&& PASSED TensorRT.trtexec [TensorRT v8503] # trtexec", "x")
    assert time.process_time() - began < 10


def test_versions_are_read_as_written() -> None:
    for digits, version in (
        ("8503", "8.5.3"),
        ("8601", "8.6.1"),
        ("100300", "10.3.0"),
        ("101601", "10.16.1"),
        ("110100", "11.1.0"),
    ):
        assert str(Version.of_number(digits)) == version
    assert Version.of_text("10.3.0.26") == Version(10, 3)
    assert Version.of_text("ten") is None


def test_a_command_is_split_as_trtexec_splits_it() -> None:
    asked = Command.read(
        "C:\\tools\\trtexec.exe --onnx=C:\\Users\\me\\a=b.onnx --fp16 --iterations 100 --shapes='input:1x3'"
    )
    assert asked.value("--onnx") == "C:\\Users\\me\\a=b.onnx"
    assert asked.file("--onnx") == "a=b.onnx"
    assert "100" in list(asked.names()), "a value that stands apart is an option of its own"
    assert asked.number("--iterations", 10) == 10
    assert Command.read("trtexec --duration=nan").number("--duration", 3) == 3
