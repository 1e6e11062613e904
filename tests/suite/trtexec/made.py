"""Logs as trtexec of each version writes them, of runs that never were: queries are drawn, sums are true."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtverify.fixtures.trtexec.command import Command, Version

DEVICES: dict[str, dict[str, Any]] = {
    "nano": {"name": "Orin", "cc": "8.7", "sms": 8, "mib": 7620, "clock": "1.02", "bus": 128},
    "nano 15W": {"name": "Orin", "cc": "8.7", "sms": 8, "mib": 7620, "clock": "0.624", "bus": 128},
    "nx": {"name": "Orin", "cc": "8.7", "sms": 8, "mib": 15656, "clock": "0.918", "bus": 128},
    "agx": {"name": "Orin", "cc": "8.7", "sms": 16, "mib": 62840, "clock": "1.3", "bus": 256},
    "h100": {"name": "NVIDIA H100 80GB HBM3", "cc": "9.0", "sms": 132, "mib": 81079, "clock": "1.98", "bus": 5120},
    "t4": {"name": "Tesla T4", "cc": "7.5", "sms": 40, "mib": 14930, "clock": "1.59", "bus": 256},
}
SHAPES = {
    "resnet50": (("input", "1x3x224x224"), ("output", "1x1000")),
    "yolov8n": (("images", "1x3x640x640"), ("output0", "1x84x8400")),
    "mobilenet_v2": (("input", "1x3x224x224"), ("output", "1x1000")),
    "resnet18": (("input", "1x3x32x32"), ("output", "1x10")),
}
_MARK = "[{time}] [{level}] {text}"


@dataclasses.dataclass(frozen=True)
class Queries:
    """What was timed, 32-bit milliseconds as trtexec keeps them."""

    enq_start: np.ndarray[Any, Any]
    enq_end: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    up: np.ndarray[Any, Any]
    down: np.ndarray[Any, Any]
    up_start: np.ndarray[Any, Any]
    down_end: np.ndarray[Any, Any]
    warm: int

    @property
    def compute(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.end - self.start)

    @property
    def enqueue(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.enq_end - self.enq_start)

    @property
    def latency(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.up + self.compute + self.down)


@dataclasses.dataclass(frozen=True)
class Made:
    """One run to be written.

    Attributes:
        command: what was typed; its options are what the log shows.
        ms: of computing, at the median; noise: standard deviation, relative.
        engine_mib: of the engine that is made or loaded.
        errors: lines that end it; then nothing is timed.
        second: of the day that it begins at.
    """

    command: str
    version: str = "10.3.0"
    device: str = "nano"
    ms: float = 3.6
    enqueue: float = 0.4
    transfer: float = 0.05
    noise: float = 0.002
    engine_mib: float = 100.3
    seed: int = 1
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    second: int = 36_000
    layers: tuple[str, ...] = ("conv1 + relu", "layer1.0.conv1 + relu", "fc")
    profile_scale: float = 1.05
    static: bool = True

    @property
    def release(self) -> Version:
        found = Version.of_text(self.version)
        assert found is not None
        return found

    def asked(self) -> Command:
        return Command.read(self.command)

    def default(self, option: str, number: float) -> float:
        return self.asked().number(option, number)


def g(value: float) -> str:
    """A number as C++ prints it by default."""
    return f"{float(value):.6g}"


def on(flag: bool) -> str:
    return "Enabled" if flag else "Disabled"


def number(version: Version) -> str:
    if version.major < 10:
        return f"{version.major}{version.minor}{version.patch:02d}"
    return f"{version.major}{version.minor:02d}{version.patch:02d}"


def draw(made: Made) -> Queries:
    """Queries one behind the other until both the count and the time asked for are reached."""
    rng = np.random.default_rng(made.seed)
    warm_up, duration = made.default("--warmUp", 200), made.default("--duration", 3) * 1e3
    iterations = int(made.default("--iterations", 10))
    transfers = switches(made)["transfers"]
    gap = 0.01 + max(0.0, made.enqueue - made.ms)
    period = made.ms + gap
    most = int((duration + warm_up) / period) + iterations + 40
    compute = made.ms * (1 + made.noise * rng.standard_normal(most)).clip(0.5, 2)
    gaps = gap * rng.uniform(0.8, 1.2, most)
    start = 2.0 + np.concatenate([[0.0], np.cumsum(compute + gaps)[:-1]])
    up = made.transfer * rng.uniform(0.95, 1.1, most) if transfers else np.zeros(most)
    down = made.transfer * rng.uniform(0.3, 0.4, most) if transfers else np.zeros(most)
    enqueue = made.enqueue * rng.uniform(0.97, 1.15, most)
    end = start + compute
    warm = int(np.argmax(start >= warm_up))
    last = max(warm + iterations, int(np.argmax(end >= warm_up + duration)) + 1)
    f = np.float32

    def cut(values: Any) -> Any:
        return np.asarray(values, f)[:last]

    up_start, down_end = start - up - 0.002, end + down + 0.002
    up_ms = cut(up_start + up) - cut(up_start)
    down_ms = cut(down_end) - cut(down_end - down)
    return Queries(
        cut(start - enqueue - 0.1), cut(start - 0.1), cut(start), cut(end), up_ms, down_ms, cut(up_start),
        cut(down_end), warm,
    )  # fmt: skip


def switches(made: Made) -> dict[str, bool]:
    """Graph, transfers and spinning, by the defaults of the version."""
    asked, new = made.asked(), made.release.major >= 11
    if new:
        return {
            "graph": "--noCudaGraph" not in asked,
            "transfers": "--includeDataTransfers" in asked,
            "spin": "--noSpinWait" not in asked,
        }
    return {
        "graph": "--useCudaGraph" in asked,
        "transfers": "--noDataTransfers" not in asked,
        "spin": "--useSpinWait" in asked,
    }


def spread(values: np.ndarray[Any, Any], percentiles: Sequence[float]) -> str:
    ranked = np.sort(values)
    count = len(ranked)
    mean = np.add.accumulate(ranked, dtype=np.float32)[-1] / np.float32(count)
    middle = ranked[count // 2] if count % 2 else (ranked[count // 2 - 1] + ranked[count // 2]) / np.float32(2)
    text = f"min = {g(ranked[0])} ms, max = {g(ranked[-1])} ms, mean = {g(mean)} ms, median = {g(middle)} ms"
    for percent in percentiles:
        exclude = int((1 - np.float32(percent) / np.float32(100)) * count)
        text += f", percentile({percent:g}%) = {g(ranked[max(count - 1 - exclude, 0)])} ms"
    return text


class Writer:
    """Lines with their marks and a clock."""

    def __init__(self, second: int) -> None:
        self.second = float(second)
        self.lines: list[tuple[str, str]] = []

    def say(self, *texts: str, level: str = "I") -> None:
        whole = int(self.second)
        clock = f"{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        for text in texts:
            self.lines.append((level, _MARK.format(time=f"11/02/2026-{clock}", level=level, text=text)))

    def bare(self, text: str) -> None:
        self.lines.append(("", text))


def write(made: Made, *, stderr: bool = True) -> str:
    """The log, as a terminal shows it; without what goes to stderr, as `> file` keeps it."""
    out = Writer(made.second)
    build = "" if made.release < Version(10, 4) else " [b31]"
    frame = f"&&&& {{}} TensorRT.trtexec [TensorRT v{number(made.release)}]{build} # {made.command}"
    out.bare(frame.format("RUNNING"))
    if made.errors and any("Unknown option" in line for line in made.errors):
        for line in (
            "=== Model Options ===",
            "  --onnx=<file>   ONNX model",
            "=== Build Options ===",
            "  --minShapes=spec",
        ):
            out.bare(line)
    else:
        options(out, made)
        device(out, made)
        building(out, made)
    if made.errors:
        out.say(*made.errors, level="E")
        out.bare(frame.format("FAILED"))
    else:
        queries = draw(made)
        inference(out, made, queries)
        out.say("")
        out.bare(frame.format("PASSED"))
    return "".join(f"{text}\n" for level, text in out.lines if stderr or level not in ("W", "E"))


def options(out: Writer, made: Made) -> None:
    """The blocks, of which versions print different lines."""
    asked, release = made.asked(), made.release
    load = "--loadEngine" in asked
    if Version(10, 7) <= release < Version(11, 0) and not {"--fp16", "--int8", "--best"} & set(asked.names()):
        out.say("TF32 is enabled by default. Add --noTF32 flag to further improve accuracy with some performance cost.")
    onnx = asked.value("--onnx") or ""
    out.say("=== Model Options ===", f"Format: {'ONNX' if onnx else '*'}", f"Model: {onnx}", "Output:")
    if load and release.major >= 10:
        out.say("")
    else:
        build_options(out, made)
    out.say("=== System Options ===", "Device: 0", "DLACore: " + (asked.value("--useDLACore") or ""), "Plugins:", "")
    named = switches(made)
    out.say("=== Inference Options ===", "Batch: Explicit", "Input inference shapes: model")
    streams = "Inference Streams" if release >= Version(8, 6) else "Streams"
    out.say(
        f"Iterations: {int(made.default('--iterations', 10))}",
        f"Duration: {g(made.default('--duration', 3))}s (+ {g(made.default('--warmUp', 200))}ms warm up)",
        "Sleep time: 0ms",
        f"{streams}: 1",
        f"Data transfers: {on(named['transfers'])}",
        f"Spin-wait: {on(named['spin'])}",
        f"CUDA Graph: {on(named['graph'])}",
    )
    average = int(made.default("--avgRuns", 10))
    out.say(
        "=== Reporting Options ===", "Verbose: Disabled", f"Averages: {average} inferences", "Percentiles: 90,95,99", ""
    )


def build_options(out: Writer, made: Made) -> None:
    asked, release = made.asked(), made.release
    out.say("=== Build Options ===")
    if release.major < 10 and release < Version(8, 6):
        out.say("Max batch: explicit batch", "minTiming: 1")
    out.say("Memory Pools: workspace: default, dlaSRAM: default", "avgTiming: 8")
    words = ["FP32"]
    best = "--best" in asked
    words += ["FP16"] if "--fp16" in asked or best else []
    words += ["INT8"] if "--int8" in asked or best else []
    out.say("Precision: " + ("Strongly Typed" if release.major >= 11 else "+".join(words)))
    calibration = asked.value("--calib") or ("Dynamic" if "--int8" in asked else "")
    out.say(
        f"Calibration: {calibration}",
        "Refit: Disabled",
        f"Save engine: {asked.value('--saveEngine') or ''}",
        f"Load engine: {asked.value('--loadEngine') or ''}",
        "Input(s)s format: fp32:CHW" if release.major < 11 else "Input(s)s format: CHW",
    )


def device(out: Writer, made: Made) -> None:
    held, release = DEVICES[made.device], made.release
    out.say("=== Device Information ===")
    if release.major >= 10:
        out.say("Available Devices: ", f'  Device 0: "{held["name"]}" UUID: GPU-0a1b2c3d')
    out.say(f"Selected Device: {held['name']}")
    if release.major >= 10:
        out.say("Selected Device ID: 0", "Selected Device UUID: GPU-0a1b2c3d-0000-0000-0000-00000000000f")
    clock = "Application Compute Clock Rate" if release >= Version(8, 6) else "Compute Clock Rate"
    out.say(
        f"Compute Capability: {held['cc']}",
        f"SMs: {held['sms']}",
        f"Device Global Memory: {held['mib']} MiB",
        "Shared Memory per SM: 164 KiB",
        f"Memory Bus Width: {held['bus']} bits (ECC disabled)",
        f"{clock}: {held['clock']} GHz",
        f"{clock.replace('Compute', 'Memory')}: 1.02 GHz",
        "",
        f"TensorRT version: {made.version}",
        "Loading standard plugins",
    )


def building(out: Writer, made: Made) -> None:
    asked, release = made.asked(), made.release
    size = f"{made.engine_mib:.6g}"
    if "--loadEngine" in asked:
        if release.major < 10:
            out.say("Engine loaded in 0.0913 sec.")
        out.second += 1
        out.say(f"[TRT] Loaded engine size: {int(made.engine_mib)} MiB")
    else:
        out.say("[TRT] [MemUsageChange] Init CUDA: CPU +2, GPU +0, now: CPU 20, GPU 3000 (MiB)")
        out.say("Start parsing network model" + ("." if release >= Version(8, 6) else ""))
        out.say(*(f"[TRT] {line}" for line in made.warnings), level="W")
        if made.errors:
            return
        out.second += 95
        if release.major >= 10:
            out.say("Engine built in 93.4 sec.", f"Created engine with size: {size} MiB")
        else:
            out.say("Engine built in 93.4 sec.")
        out.say(f"[TRT] Loaded engine size: {int(made.engine_mib)} MiB")
    inputs, outputs = next((pair for name, pair in SHAPES.items() if name in made.command), SHAPES["resnet50"])
    for kind, (name, shape) in (("input", inputs), ("output", outputs)):
        if release >= Version(8, 6):
            typed = " and type fp32" if release.major >= 11 else ""
            out.say(f"{kind.title()} binding for {name} with dimensions {shape}{typed} is created.")
        else:
            out.say(
                f"Using random values for {kind} {name}", f"Created {kind} binding for {name} with dimensions {shape}"
            )


def inference(out: Writer, made: Made, queries: Queries) -> None:
    asked, release = made.asked(), made.release
    if "--skipInference" in asked or "--buildOnly" in asked:
        out.say("Skipped inference phase since --skipInference is added.")
        return
    profiled = "--dumpProfile" in asked or "--exportProfile" in asked
    out.say("Starting inference")
    if switches(made)["graph"] and release.major >= 10:
        out.say("Capturing CUDA graph for the current execution context")
        out.say("Successfully captured CUDA graph for the current execution context")
    out.second += float(queries.down_end[-1]) / 1e3
    if not profiled or "--separateProfileRun" in asked or release.major >= 11:
        summary(out, made, queries)
    else:
        out.say("The e2e network timing is not reported since it is inaccurate due to the extra synchronizations.")
    if profiled and "--dumpProfile" in asked:
        out.second += 3
        profile(out, made, queries)


def summary(out: Writer, made: Made, queries: Queries) -> None:
    release, warm = made.release, queries.warm
    compute, latency, enqueue = queries.compute[warm:], queries.latency[warm:], queries.enqueue[warm:]
    count = len(compute)
    wall = np.float32(queries.down_end[-1]) - np.float32(queries.up_start[warm])
    average = int(made.default("--avgRuns", 10))
    out.say(f"Warmup completed {warm} queries over {g(made.default('--warmUp', 200))} ms")
    out.say(f"Timing trace has {count} queries over {g(wall / np.float32(1000))} s", "")
    out.say("=== Trace details ===", f"Trace averages of {average} runs:")
    lines = count // average
    shown = lines if release.major < 10 or lines <= 400 else 400
    for line in range(shown):
        part = slice(line * average, (line + 1) * average)
        ended = "end to end 9.9 ms, " if release < Version(8, 4) else ""
        gpu, host, launch = (g(values[part].mean(dtype=np.float32)) for values in (compute, latency, enqueue))
        out.say(
            f"Average on {average} runs - GPU latency: {gpu} ms - Host latency: {host} ms ({ended}enqueue {launch} ms)"
        )
    if shown < lines:
        out.say(f"... Omitting {count - shown * average} lines")
    out.say("", "=== Performance summary ===", f"Throughput: {g(count / wall * 1e3)} qps")
    percentiles = (99,) if release < Version(8, 4) else (90, 95, 99)
    rows = [("Latency", latency), ("Enqueue Time", enqueue), ("H2D Latency", queries.up[warm:])]
    rows += [("GPU Compute Time", compute), ("D2H Latency", queries.down[warm:])]
    for title, values in rows:
        out.say(f"{title}: {spread(values, percentiles)}")
        if title == "Latency" and release < Version(8, 4):
            out.say(f"End-to-End Host Latency: {spread(latency, percentiles)}")
    mean = np.add.accumulate(np.sort(compute), dtype=np.float32)[-1] / np.float32(count)
    out.say(f"Total Host Walltime: {g(wall / np.float32(1000))} s")
    out.say(f"Total GPU Compute Time: {g(mean * np.float32(count) / np.float32(1000))} s")
    if np.median(enqueue) > 0.8 * np.median(compute):
        out.say("* Throughput may be bound by Enqueue Time rather than GPU Compute.", level="W")
    varied = float(compute.std() / compute.mean() * 100)
    if varied > (2.5 if release >= Version(10, 13, 2) else 1):
        out.say(f"* GPU compute time is unstable, with coefficient of variance = {g(varied)}%.", level="W")
    out.say("Explanations of the performance metrics are printed in the verbose logs.")


def profile_rows(made: Made, queries: Queries) -> tuple[int, list[tuple[str, float, float, float]]]:
    """Name, total, average and median of each layer, milliseconds."""
    count = len(queries.compute) - queries.warm
    share = np.linspace(3, 1, len(made.layers))
    each = made.ms * made.profile_scale * share / share.sum()
    return count, [
        (name, float(ms) * count, float(ms), float(ms) * 0.999) for name, ms in zip(made.layers, each, strict=True)
    ]


def profile(out: Writer, made: Made, queries: Queries) -> None:
    count, rows = profile_rows(made, queries)
    whole = sum(row[1] for row in rows)
    rows = [*rows, ("Total", whole, whole / count, whole / count)]
    out.say("", f"=== Profile ({count} iterations ) ===")
    last, medians = made.release >= Version(8, 6), made.release >= Version(8, 4)
    if last:
        out.say("   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer")
    else:
        median_title = "   Median Time (ms)" if medians else ""
        out.say(f"{'Layer':>30}   Time (ms)   Avg. Time (ms){median_title}   Time %")
    for name, total, average, median in rows:
        percent = 100 * total / whole
        if last:
            out.say(f"{total:11.2f}{average:13.4f}{median:13.4f}{percent:10.1f}   {name}")
        else:
            middle = f"{median:19.4f}" if medians else ""
            out.say(f"{name:>30}{total:12.2f}{average:17.4f}{middle}{percent:9.1f}")
    out.say("")
