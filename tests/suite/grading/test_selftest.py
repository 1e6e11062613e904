"""Each wall is taken down in turn, and the self-test must say so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtverify.grading.sandbox import control_groups, launch, seccomp_filter, selftest, stage, watchdog
from trtverify.grading.sandbox.limits import Limits

pytestmark = pytest.mark.usefixtures("nothing_left")
Fault = Callable[[pytest.MonkeyPatch], None]


def without_options(*names: str) -> Fault:
    walls = launch._walls
    return lambda monkeypatch: monkeypatch.setattr(
        launch, "_walls", lambda version: [option for option in walls(version) if option not in names]
    )


def with_options(*options: str) -> Fault:
    view = launch._view
    return lambda monkeypatch: monkeypatch.setattr(launch, "_view", lambda *given: [*options, *view(*given)])


def without_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_filter, "_REFUSED", ())
    monkeypatch.setattr(seccomp_filter, "_PRETENDED", ())
    monkeypatch.setattr(seccomp_filter, "_NAMESPACE_FLAGS", ())
    monkeypatch.setattr(seccomp_filter, "_FAMILIES", set(range(64)))
    monkeypatch.setattr(seccomp_filter, "program", seccomp_filter.program.__wrapped__)


def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    without_filter(monkeypatch)
    with_options("--cap-add", "ALL")(monkeypatch)


def without_limit(name: str) -> Fault:
    prlimit = Limits.prlimit
    return lambda monkeypatch: monkeypatch.setattr(
        Limits, "prlimit", lambda self: [word for word in prlimit(self) if not word.startswith(name)]
    )


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks: neither the watchdog nor the kernel."""
    monkeypatch.setattr(watchdog, "breach", lambda view, limits: None)
    ungrouped(monkeypatch)


def ungrouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "place", lambda: "taken down")


def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    write = control_groups._write
    monkeypatch.setattr(
        control_groups, "_write", lambda path, value: None if path.name.startswith("memory.") else write(path, value)
    )


def outside_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    script = stage.script
    monkeypatch.setattr(stage, "script", lambda groups, *, staged: script((), staged=staged))


def writable_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    view = launch._view

    def without(*given: Any) -> list[str]:
        words = view(*given)
        at = words.index("/proc", words.index("--remount-ro"))
        return words[: at - 1] + words[at + 1 :]

    monkeypatch.setattr(launch, "_view", without)


def orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = """
from trtverify.grading.sandbox import launch
walls = launch._walls
launch._walls = lambda version: [option for option in walls(version) if option != "--die-with-parent"]
"""
    monkeypatch.setattr(selftest, "_PARENT", fault + selftest._PARENT)


def broken() -> set[str]:
    return {wall.name for wall in selftest.walls() if wall.broke}


def test_every_wall_holds_here() -> None:
    tried = list(selftest.walls())
    assert [wall for wall in tried if wall.broke] == []
    assert len({wall.name for wall in tried}) == len(tried) >= 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(without_options("--unshare-net"), {"network", "host loopback", "abstract socket"}, id="network"),
        pytest.param(with_options("--ro-bind", "/var", "/var"), {"host files"}, id="files"),
        pytest.param(
            without_filter,
            {
                "socket families",
                "tracing",
                "priorities",
                "nested namespaces",
                "keyrings",
                "kernel interfaces",
                "hidden memory",
            },
            id="seccomp",
        ),
        pytest.param(capable, {"privileges"}, id="capabilities"),
        pytest.param(without_limit("--nproc"), {"process count"}, id="nproc"),
        pytest.param(without_limit("--as"), {"address space"}, id="address space"),
        pytest.param(without_limit("--cpu"), {"CPU time"}, id="cpu"),
        pytest.param(without_limit("--fsize"), {"file size"}, id="file size"),
        pytest.param(without_limit("--nofile"), {"open files"}, id="open files"),
        pytest.param(blind, {"memory", "memory of many", "inodes"}, id="watchdog"),
        pytest.param(unlimited, {"mappings"}, id="control group"),
        pytest.param(outside_its_group, {"mappings", "control groups"}, id="entering it"),
        pytest.param(writable_proc, {"priorities"}, id="proc"),
        pytest.param(with_options("--setenv", "GRADER_TOKEN", "x"), {"environment"}, id="environment"),
        pytest.param(orphaned, {"dies with its parent"}, id="parent"),
    ],
)
def test_a_wall_that_is_down_is_found(monkeypatch: pytest.MonkeyPatch, fault: Fault, expected: set[str]) -> None:
    fault(monkeypatch)
    assert broken() >= expected


def test_the_probe_sees_that_it_can_mount(tmp_path: Path) -> None:
    # No single fault lets a sandboxed program mount: capabilities, filter and nested namespace each forbid it.
    code = "import os; from trtverify.grading.sandbox import probe; "
    code += f"os.chroot({str(tmp_path)!r}); print(probe.mounts({{}}))"
    (tmp_path / "sandbox" / "work").mkdir(parents=True)
    inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", code]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        inside, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert "mount gave 0" in done.stdout, done.stderr
