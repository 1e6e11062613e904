"""Logs that somebody edited: each is found, for what was done to it; of logs that nobody did, none is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from tests.suite.trtexec.made import Made, g, write
from tests.suite.trtexec.made_files import profile_json, times_json
from trtverify.fixtures.trtexec import exported, judged, log

YOLO = Made(
    "trtexec --onnx=yolov8n.onnx --saveEngine=yolov8n_fp16.engine --fp16 --dumpProfile --separateProfileRun",
    ms=4.43,
    noise=0.004,
    engine_mib=9.2,
)
RESNET = Made("trtexec --onnx=resnet50.onnx --saveEngine=resnet50_fp32.engine", "8.6.1", ms=3.6, noise=0.02)
ELEVEN = Made("trtexec --onnx=resnet50.onnx --saveEngine=resnet50_fp16.engine", "11.1.0", ms=1.8, noise=0.004)
LOADED = Made(
    "trtexec --loadEngine=resnet50_fp16.engine --iterations=100 --useCudaGraph", "10.3.0", ms=1.8, noise=0.004
)
SHORT = dataclasses.replace(LOADED, command=LOADED.command + " --duration=0")
NO_WARM_UP = dataclasses.replace(YOLO, command=YOLO.command + " --warmUp=0 --avgRuns=1")
SPACED = dataclasses.replace(YOLO, command=YOLO.command.replace("--onnx=", "--onnx=/home/me/my labs/two/"))
BASES = {"10.3": YOLO, "8.6": RESNET, "11.1": ELEVEN, "loaded": LOADED}
_ROWS = ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")
_STATS = ("min", "max", "mean", "median", "percentile(90%)", "percentile(95%)", "percentile(99%)")
Edit = Callable[[str], str]


def found(text: str) -> list[str]:
    """What contradicts what in a log."""
    return list(judged.contradictions(judged.reading(log.read(text.encode(), "x.log"))))


def stat(row: str, name: str, factor: float) -> Edit:
    """One figure of the summary, multiplied."""
    pattern = re.compile(rf"(\] {row}: .*?{re.escape(name)} = )([\d.e-]+)")
    return lambda text: pattern.sub(lambda hit: hit[1] + g(float(hit[2]) * factor), text)


def single(row: str, factor: float) -> Edit:
    """Throughput or one of the totals, multiplied."""
    pattern = re.compile(rf"(\] {row}: )([\d.e+-]+)")
    return lambda text: pattern.sub(lambda hit: hit[1] + g(float(hit[2]) * factor), text)


def swap(old: str, new: str, count: int = -1) -> Edit:
    """Words for other words."""
    return lambda text: text.replace(old, new, count)


def every_ms(factor: float) -> Edit:
    """All times of queries, as a careful forger would."""
    pattern = re.compile(r"([\d.e-]+) ms(?=[, )\n]|$)")

    def scale(line: str) -> str:
        timed = re.search(r"(Latency|Time|Average on).*ms", line) and "Warmup" not in line
        return pattern.sub(lambda hit: f"{g(float(hit[1]) * factor)} ms", line) if timed else line

    return lambda text: "\n".join(scale(line) for line in text.split("\n"))


def both(*edits: Edit) -> Edit:
    def edit(text: str) -> str:
        for one in edits:
            text = one(text)
        return text

    return edit


EDITS: dict[str, tuple[str, Edit, str]] = {
    **{
        f"compute {name} ×0.5": ("10.3", stat("GPU Compute Time", name, 0.5), "GPU Compute Time|latencies")
        for name in _STATS[1:]
    },
    **{f"8.6 compute {name} ×0.9": ("8.6", stat("GPU Compute Time", name, 0.9), "") for name in _STATS[2:]},
    **{f"11.1 compute {name} ×2": ("11.1", stat("GPU Compute Time", name, 2), "") for name in _STATS},
    **{f"latency {name} ×0.5": ("10.3", stat("Latency", name, 0.5), "") for name in _STATS},
    **{f"upload {name} ×3": ("10.3", stat("H2D Latency", name, 3), "") for name in ("mean", "median")},
    **{
        f"enqueue {name} ×0.1": ("8.6", stat("Enqueue Time", name, 0.1), "Enqueue")
        for name in ("max", "mean", "median")
    },
    **{f"throughput ×{factor}": ("8.6", single("Throughput", factor), "queries") for factor in (0.5, 0.99, 1.01, 2)},
    **{f"walltime ×{factor}": ("10.3", single("Total Host Walltime", factor), "walltime") for factor in (0.5, 1.01, 2)},
    **{
        f"total ×{factor}": ("11.1", single("Total GPU Compute Time", factor), "computing") for factor in (0.5, 1.01, 2)
    },
    "every time halved": ("10.3", every_ms(0.5), "computing|trace"),
    "every time halved, and twice the throughput": (
        "8.6",
        both(every_ms(0.5), single("Throughput", 2)),
        "queries|computing",
    ),
    "everything halved with the seconds": (
        "loaded",
        both(
            every_ms(0.5),
            single("Throughput", 2),
            single("Total Host Walltime", 0.5),
            single("Total GPU Compute Time", 0.5),
            lambda text: re.sub(r"(queries over )([\d.]+) s", lambda hit: f"{hit[1]}{g(float(hit[2]) / 2)} s", text),
        ),
        "keeps it going",
    ),
    "twice the queries with it": (
        "10.3",
        both(
            every_ms(0.5),
            single("Throughput", 2),
            lambda text: re.sub(r"trace has (\d+)", lambda hit: f"trace has {2 * int(hit[1])}", text),
        ),
        "lines of its trace",
    ),
    "a rounded median": (
        "8.6",
        lambda t: re.sub(r"(GPU Compute Time: .*median = )[\d.]+", r"\g<1>1.8", t),
        "do not rise",
    ),
    "a rounded minimum": (
        "11.1",
        lambda t: re.sub(r"(GPU Compute Time: min = )[\d.]+", r"\g<1>0.9", t),
        "latencies|clock",
    ),
    "a percentile made up": ("10.3", lambda t: re.sub(r"(Enqueue Time: .*99%\) = )[\d.]+", r"\g<1>0.4577", t), "clock"),
    "fewer queries": ("8.6", lambda t: re.sub(r"trace has \d+", "trace has 100", t), "queries"),
    "too few for --iterations": (
        "loaded",
        swap("--iterations=100", "--iterations=9000"),
        "asks for more|Iterations",
    ),
    "a line of the trace made faster": (
        "10.3",
        lambda t: re.sub(r"GPU latency: [\d.]+", "GPU latency: 2.1", t, count=1),
        "lines of its trace lie outside",
    ),
    "half of the trace left out": (
        "10.3",
        lambda t: "\n".join(line for n, line in enumerate(t.split("\n")) if "Average on" not in line or n % 2),
        "lines of its trace",
    ),
    "--fp16 written into the first line": (
        "8.6",
        swap("fp32.engine\n", "fp32.engine --fp16\n", 1),
        "different commands",
    ),
    "--fp16 written into both": ("8.6", swap("fp32.engine\n", "fp32.engine --fp16\n"), "Precision|Save engine"),
    "--int8 written for --fp16": ("10.3", swap("--fp16", "--int8"), "Precision"),
    "another engine in both": (
        "10.3",
        swap("onnx --saveEngine=yolov8n_fp16.engine --fp16 --dump", "onnx --saveEngine=mine.engine --fp16 --dump"),
        "Save engine",
    ),
    "another network in both": (
        "10.3",
        swap("# trtexec --onnx=yolov8n.onnx", "# trtexec --onnx=resnet50.onnx"),
        "Model",
    ),
    "a graph that was none": ("8.6", swap("fp32.engine\n", "fp32.engine --useCudaGraph\n"), "CUDA Graph|Save engine"),
    "the graph's option gone": ("loaded", swap(" --useCudaGraph", ""), "CUDA Graph"),
    "another version in the first line": ("10.3", swap("v100300", "v101600", 1), "TensorRT 10.16"),
    "another version in both": ("10.3", swap("v100300", "v101600"), "own line"),
    "a version that knows no --fp16": (
        "10.3",
        both(swap("v100300", "v110100"), swap("10.3.0", "11.1.0")),
        "does not know --fp16",
    ),
    "--iterations written in": (
        "8.6",
        swap("fp32.engine\n", "fp32.engine --iterations=500\n"),
        "Iterations|Save engine",
    ),
    "a shorter warm-up in the command": (
        "10.3",
        swap(" --dumpProfile", " --warmUp=1 --dumpProfile"),
        "warm-up|Warm|Duration",
    ),
    "a layer's time": (
        "10.3",
        lambda t: re.sub(r"(\] +)([\d.]+)( .*conv1 \+ relu)", r"\g<1>12.00\3", t, count=1),
        "layers that take",
    ),
    "a layer's average": (
        "10.3",
        lambda t: re.sub(r"(\d )( +)2\.\d{4}( .*conv1 \+)", r"\1\g<2>0.9000\3", t, count=1),
        "on average",
    ),
    "the profile's total": (
        "10.3",
        lambda t: re.sub(r"(\] +)([\d.]+)( +4\.\d+ .*Total)", r"\g<1>1000.00\3", t),
        "total of|average",
    ),
    "a layer's share": ("10.3", lambda t: re.sub(r" 50\.0   conv1", " 10.0   conv1", t), "per cent of the time"),
    "a calm run that warns": (
        "10.3",
        swap(
            "[I] Explanations",
            "[W] * GPU compute time is unstable, with coefficient of variance = 12.5%.\n[I] Explanations",
        ),
        "variation of 12.5",
    ),
    "a quick launch that warns": (
        "10.3",
        swap(
            "[I] Explanations",
            "[W] * Throughput may be bound by Enqueue Time rather than GPU Compute\n[I] Explanations",
        ),
        "enqueuing takes as long",
    ),
    "two summaries": (
        "8.6",
        lambda t: t.replace("[I] Explanations", "[I] Throughput: 900 qps\n[I] Explanations"),
        "two of|queries",
    ),
}


def test_there_are_enough_of_them() -> None:
    assert len(EDITS) >= 60


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_log_is_found(name: str) -> None:
    base, edit, says = EDITS[name]
    text = write(BASES[base])
    assert found(text) == []
    changed = edit(text)
    assert changed != text, "the edit changed nothing"
    problems = found(changed)
    assert problems
    assert re.search(says, " ".join(problems)), problems


def test_nearly_every_figure_that_is_changed_is_found() -> None:
    """What is missed are ends and copies' times, which no lab compares, moved within what all the others leave."""
    for base in ("10.3", "8.6"):
        text, tried, missed = write(BASES[base]), 0, []
        for row in _ROWS:
            for name in _STATS:
                for factor in (0.5, 0.9, 1.1, 2):
                    changed = stat(row, name, factor)(text)
                    tried += changed != text
                    if changed != text and not found(changed):
                        missed.append((row, name))
        assert tried > 130
        assert {pair for pair in missed if pair[1] not in ("min", "max") and pair[0] != "D2H Latency"} == set()
        assert not {pair for pair in missed if pair[0] == "Latency"}


LEFT_OUT: dict[str, Callable[[str], object]] = {
    "the trace": lambda line: "Average on" in line,
    "how many queries": lambda line: "Timing trace has" in line,
    "the warm-up": lambda line: "Warmup completed" in line,
    "how the builder understood it": lambda line: re.search(r"Build Options|Precision:|Save engine:|avgTiming", line),
    "the device": lambda line: "Selected Device:" in line,
    "a row": lambda line: "H2D Latency" in line,
    "the total": lambda line: "Total GPU Compute" in line,
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_who_leaves_lines_out_is_not_graded(what: str) -> None:
    """Else twice the throughput with half of every time would pass, if only the trace were gone."""
    text = both(every_ms(0.5), single("Throughput", 2), single("Total GPU Compute Time", 1))(write(RESNET))
    kept = "\n".join(line for line in text.split("\n") if not LEFT_OUT[what](line))
    assert kept != text
    reading = judged.reading(log.read(kept.encode(), "x.log"))
    why = judged.unfinished(reading)
    assert why is not None


def test_a_second_count_of_queries_is_a_contradiction() -> None:
    text = write(YOLO)
    line = next(line for line in text.split("\n") if "Timing trace" in line)
    again = line + "\n" + re.sub(r"has \d+", "has 9999", line)
    assert any("two of" in what for what in found(text.replace(line, again)))


RIGHT = [
    dataclasses.replace(made, seed=seed, ms=ms, noise=noise, enqueue=enqueue, transfer=transfer)
    for seed, (made, ms, noise, enqueue, transfer) in enumerate(
        (made, ms, noise, enqueue, transfer)
        for made in (*BASES.values(), SHORT, NO_WARM_UP, SPACED)
        for ms in (0.11, 2.2, 60.0, 340.0)
        for noise, enqueue, transfer in ((0.0003, 0.02, 0.01), (0.01, ms * 1.4, 0.2), (0.2, 0.3, ms * 1.2))
    )
]

# So many that adding them up in 32 bits loses more than a mean is off by.
RIGHT.append(dataclasses.replace(NO_WARM_UP, ms=0.0718, enqueue=0.03, noise=0.00016, seed=500))


@pytest.mark.parametrize("made", RIGHT, ids=lambda made: f"{made.version}-{made.ms}-{made.seed}")
def test_no_right_log_is_accused(made: Made) -> None:
    """Fast and slow, calm and wild, bound by the CPU or by the copies."""
    assert found(write(made)) == [] or "at its peak" in found(write(made))[0]


@pytest.mark.parametrize(
    "made", [YOLO, LOADED, dataclasses.replace(RESNET, version="8.2.1")], ids=["10.3", "loaded", "8.2"]
)
def test_exported_files_are_of_the_run_or_not(made: Made) -> None:
    old = made.version == "8.2.1"
    run = log.read(write(made).encode(), "x").run
    own = exported.read({"times": times_json(made, warm_ups=old).encode(), "profile": profile_json(made).encode()})
    assert list(exported.contradictions(own, run)) == []
    other = dataclasses.replace(made, seed=made.seed + 1)
    friend = exported.read({"times": times_json(other, warm_ups=old).encode()})
    assert any("times" in what for what in exported.contradictions(friend, run))


@pytest.mark.parametrize(
    ("pattern", "new"),
    [
        (r'"computeMs" : [\d.]+', '"computeMs" : 2.1'),
        (r'"latencyMs" : [\d.]+', '"latencyMs" : 2.1'),
        (r'"endComputeMs" : [\d.]+', '"endComputeMs" : 9000'),
        (r"\{[^}]*\}, \{", "{"),
        (r"\{[^}]*\}\n, ", ""),
    ],
)
def test_edited_times_are_found(pattern: str, new: str) -> None:
    run = log.read(write(YOLO).encode(), "x").run
    times = times_json(YOLO)
    changed = re.sub(pattern, new, times, count=1)
    if changed != times:
        problems = list(exported.contradictions(exported.read({"times": changed.encode()}), run))
        assert problems


def test_another_profile_is_found() -> None:
    run = log.read(write(YOLO).encode(), "x").run
    faster = dataclasses.replace(YOLO, ms=2.0)
    assert list(exported.contradictions(exported.read({"profile": profile_json(faster).encode()}), run))
    shares = re.sub(r'"percentage" : [\d.]+', '"percentage" : 10', profile_json(YOLO), count=1)
    assert any(
        "per cent of the time" in what
        for what in exported.contradictions(exported.read({"profile": shares.encode()}), run)
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"[1]", b'[{"computeMs": "fast"}]', b"[" * 5000, b'[{"computeMs": NaN}]', b"\xff\xfe"],
)
@pytest.mark.parametrize("kind", exported.KINDS)
def test_what_is_no_exported_file_is_refused(content: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        exported.read({kind: content})


def test_faster_than_the_device_is_impossible() -> None:
    """An Orin Nano's peak leaves ResNet-50 in FP16 0.35 ms; what is of another size is not judged so."""
    quick = Made("trtexec --onnx=resnet50.onnx --fp16 --useCudaGraph", ms=0.2, enqueue=0.02)
    assert any("at its peak" in what for what in found(write(quick)))
    assert not any("at its peak" in what for what in found(write(quick).replace("1x3x224x224", "1x3x64x64")))
    assert found(write(dataclasses.replace(quick, device="h100", ms=0.25))) == []
