"""What the machine tells of itself: with NVML, without it, and on a Jetson."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.devices import cudart, device
from trtverify.fixtures.devices.device import (
    Disturbances,
    Process,
    Snapshot,
    disturbances,
    read_machine,
    snapshot,
    throttle_reasons,
)


class NVMLError(Exception):
    """pynvml's base of all errors."""


class FakeNvml(types.ModuleType):
    """pynvml for one GPU. What `unsupported` names raises, as on a GPU or in a virtual machine that lacks it."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.unsupported: set[str] = set()
        self.mask = 0
        self.running: list[Any] = []
        self.buses: list[bytes] = []
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByIndex": lambda index: f"gpu{index}",
            "nvmlDeviceGetHandleByPciBusId": self._by_bus,
            "nvmlDeviceGetName": lambda _gpu: b"NVIDIA H200",
            "nvmlDeviceGetCudaComputeCapability": lambda _gpu: (9, 0),
            "nvmlDeviceGetEnforcedPowerLimit": lambda _gpu: 700_000,
            "nvmlDeviceGetMemoryInfo": lambda _gpu: types.SimpleNamespace(total=150 << 30),
            "nvmlSystemGetDriverVersion": lambda: "580.159.04",
            "nvmlDeviceGetMaxClockInfo": lambda _gpu, _kind: 1980,
            "nvmlDeviceGetClockInfo": lambda _gpu, kind: {1: 1975, 2: 3201}[kind],
            "nvmlDeviceGetTemperature": lambda _gpu, _sensor: 41,
            "nvmlDeviceGetPowerUsage": lambda _gpu: 123_456,
            "nvmlDeviceGetUtilizationRates": lambda _gpu: types.SimpleNamespace(gpu=7),
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _gpu: self.mask,
            "nvmlDeviceGetComputeRunningProcesses": lambda _gpu: self.running,
        }
        for name, answer in answers.items():
            setattr(self, name, self._guarded(name, answer))

    def _by_bus(self, bus: bytes) -> str:
        self.buses.append(bus)
        return "gpu"

    def _guarded(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name in self.unsupported:
                raise NVMLError(f"{name}: Not Supported")
            return answer(*arguments)

        return call


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    found = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(cudart, "pci_bus_id", lambda: "0000:1A:00.0")
    return found


def test_a_pc_with_nvml(nvml: FakeNvml, tmp_path: Path) -> None:
    found = read_machine(tmp_path)
    assert (found.gpu, found.compute_capability, found.power_mode) == ("NVIDIA H200", "9.0", "700 W")
    assert (found.driver, found.max_sm_mhz, found.problem) == ("580.159.04", 1980, None)
    assert found.describe() == "NVIDIA H200 (700 W)"
    assert nvml.buses == [b"0000:1A:00.0"], "the GPU that CUDA uses, not the first that NVML counts"
    shot = snapshot(tmp_path)
    assert (shot.sm_mhz, shot.memory_mhz, shot.temperature_c, shot.power_w) == (1975, 3201, 41, 123.456)
    assert (shot.throttle_reasons, shot.others, shot.busy_percent) == ((), (), 7)
    json.dumps([dataclasses.asdict(found), dataclasses.asdict(shot)], allow_nan=False)


def test_what_a_gpu_does_not_tell_is_none(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.unsupported = {
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetUtilizationRates",
    }
    found, shot = read_machine(tmp_path), snapshot(tmp_path)
    assert (found.gpu, found.power_mode, found.memory_bytes) == ("NVIDIA H200", None, None)
    assert found.describe() == "NVIDIA H200"
    assert (shot.sm_mhz, shot.temperature_c, shot.throttle_reasons) == (1975, None, None)
    assert (shot.others, shot.busy_percent) == (None, None)


def test_without_cudas_word_for_it_the_first_gpu_is_taken(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.unsupported = {"nvmlDeviceGetHandleByPciBusId"}
    assert read_machine(tmp_path).gpu == "NVIDIA H200"


def test_no_driver_is_no_error(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.unsupported = {"nvmlInit"}
    found = read_machine(tmp_path)
    assert (found.gpu, found.problem) == (None, "NVML: nvmlInit: Not Supported")
    assert found.describe() == "no GPU"
    assert snapshot(tmp_path).sm_mhz is None


def test_no_nvidia_ml_py_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = read_machine(tmp_path)
    assert found.gpu is None
    assert "nvidia-ml-py is not installed" in (found.problem or "")
    shot = snapshot(tmp_path)
    assert shot == Snapshot(shot.seconds)


def test_throttle_reasons_leave_out_what_does_no_harm() -> None:
    assert throttle_reasons(0x0) == ()
    assert throttle_reasons(0x1 | 0x2 | 0x10 | 0x100) == (), "idle, application clocks, sync boost, display clocks"
    assert throttle_reasons(0x4 | 0x20) == ("power cap", "thermal (software)")
    assert throttle_reasons(0x8 | 0x40 | 0x80) == ("hardware slowdown", "thermal (hardware)", "power brake")


def test_other_programs_on_the_gpu(nvml: FakeNvml, tmp_path: Path) -> None:
    def running(pid: int, memory: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(pid=pid, usedGpuMemory=memory)

    code = "import time; print(1, flush=True); time.sleep(60)"
    sleeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        nvml.running = [running(os.getpid(), 5), running(sleeper.pid, 1 << 30), running(1, None)]
        found = snapshot(tmp_path).others
        assert found is not None
        assert [(process.pid, process.memory_bytes) for process in found] == [(sleeper.pid, 1 << 30), (1, None)]
        assert found[0].name.startswith("python")
    finally:
        sleeper.kill()
        sleeper.communicate()
    nvml.running = [running(2**30, 5)]
    assert snapshot(tmp_path).others is None, "numbers of another namespace tell nothing"


def test_disturbances() -> None:
    calm = Snapshot(0.0, throttle_reasons=(), others=())
    assert disturbances(calm, calm) == Disturbances((), ())
    game = Process(77, "game", None)
    hot = Snapshot(1.0, throttle_reasons=("thermal (software)",), others=(game,))
    assert disturbances(hot, hot) == Disturbances(("thermal (software)",), (game,))
    assert disturbances(calm, hot) == disturbances(hot, calm)
    unknown = Snapshot(0.0)
    assert disturbances(unknown, unknown) == Disturbances((), ())
    assert disturbances(Snapshot(0, overcurrent_events=3), Snapshot(1, overcurrent_events=3)).throttled == ()
    assert disturbances(Snapshot(0, overcurrent_events=3), Snapshot(1, overcurrent_events=5)).throttled == (
        "overcurrent (2)",
    )


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    """The files of a Jetson Orin Nano in its fastest mode."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081\nmore\n",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nGPU MAX_FREQ -1\n",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
        "sys/class/devfreq/17000000.gpu/device/load": "523\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "50000\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "48750\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "2\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "5\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_jetson(orin: Path) -> None:
    found, shot = read_machine(orin), snapshot(orin)
    assert found.gpu == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found.power_mode, found.max_sm_mhz) == ("MAXN_SUPER", 1020)
    assert (found.driver, found.cpu) == (
        "# R36 (release), REVISION: 4.3, GCID: 38968081",
        "ARMv8 Processor rev 1 (v8l)",
    )
    assert found.system.startswith("Ubuntu 22.04.5 LTS, Linux ")
    assert (shot.sm_mhz, shot.temperature_c, shot.overcurrent_events, shot.busy_percent) == (1020, 48.75, 7, 52)
    assert shot.throttle_reasons is None, "a Jetson tells of overcurrent events alone"


def test_a_jetson_in_a_container_that_hides_most(orin: Path) -> None:
    for name in ("etc/nvpmodel.conf", "sys/class/thermal/thermal_zone1/temp"):
        (orin / name).unlink()
    (orin / "sys/class/devfreq/17000000.gpu/cur_freq").write_text("unknown\n")
    assert read_machine(orin).power_mode == "mode 2"
    assert snapshot(orin).temperature_c is None
    assert snapshot(orin).sm_mhz is None
    (orin / "var/lib/nvpmodel/status").unlink()
    assert read_machine(orin).power_mode is None


def test_another_arm_board_is_no_jetson(orin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (orin / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    (orin / "etc/nv_tegra_release").unlink()
    assert read_machine(orin).gpu is None


def test_this_machine_is_read_without_error() -> None:
    found = device.machine()
    assert found.cores >= 1
    assert found.cpu
    assert json.loads(json.dumps(dataclasses.asdict(found)))["architecture"] == found.architecture
    assert device.gpu_name() == found.gpu
