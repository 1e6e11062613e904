"""Proves that each wall of the sandbox holds on this machine, by trying to break it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trtverify.fixtures.words.columns import padded
from trtverify.fixtures.words.messages import _

from . import box, control_groups, probe
from .launch import SandboxUnavailableError, Spec, python_roots, started
from .limits import GIB, MIB, Breach, Limits
from .wall_names import wall_name

_PROBE = "/probe"


@dataclasses.dataclass(frozen=True)
class Wall:
    """One wall and how it was broken; "" if it held."""

    name: str
    broke: str


class WallBrokenError(SandboxUnavailableError):
    """A wall does not hold, so nothing is graded."""


def walls() -> Iterator[Wall]:
    """Try every wall in turn.

    Raises:
        SandboxUnavailableError: there is no sandbox to try.
    """
    yield from _probed()
    for name, attempt in _ATTEMPTS.items():
        yield Wall(name, attempt())
    if not control_groups.missing():
        yield Wall("control groups", _grouped())
        yield Wall("mappings", _MAPPED())
    yield Wall("dies with its parent", _parent_dies())


def require_walls() -> None:
    """Refuse to go on unless every wall holds.

    Raises:
        SandboxUnavailableError: one does not, or there is no sandbox.
    """
    broken = [f"{wall_name(wall.name)} ({wall.broke})" for wall in walls() if wall.broke]
    if broken:
        raise WallBrokenError(_("these walls of the sandbox do not hold here: {walls}").format(walls="; ".join(broken)))


def _probed() -> Iterator[Wall]:
    """What one program can find out from inside, with bait laid outside."""
    token = secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0grading-" + token)
        abstract.listen()
        canary = stack.enter_context(tempfile.NamedTemporaryFile(prefix="grading-canary-"))
        os.set_inheritable(canary.fileno(), True)
        variable = "GRADING_CANARY"
        os.environ[variable] = token
        stack.callback(os.environ.pop, variable)
        bait = {
            "port": listener.getsockname()[1],
            "abstract": "grading-" + token,
            "files": [canary.name, str(Path(__file__).resolve()), str(Path.home() / ".bashrc"), str(Path.cwd())],
            "shown": list(python_roots().values()),
            "variable": token,
            "pid": os.getpid(),
        }
        spec = Spec(
            [sys.executable, "-I", "-S", f"{_PROBE}/probe.py", json.dumps(bait)],
            read_only={Path(__file__).resolve().parent: _PROBE},
            limits=Limits(wall_seconds=30, memory_bytes=512 * MIB),
        )
        with box.ran(spec) as outcome:
            said = [json.loads(line) for line in outcome.stdout.splitlines() if line.startswith("{")]
            try:
                owner = os.stat("owner", dir_fd=outcome.work).st_uid
            except FileNotFoundError:
                owner = None
    found = {line["wall"]: line["broke"] for line in said}
    ended = _("the probe ended before it: {said}").format(said=outcome.stderr.strip()[-300:])
    for check in probe.CHECKS:
        name = check.__name__.replace("_", " ")
        yield Wall(name, found.get(name, ended))
    root = os.geteuid() == 0
    yield Wall("unprivileged user", _("its files belong to root") if owner == 0 or (root and owner is None) else "")


def _program(code: str, expected: Breach | None, codes: tuple[int, ...] = (), **limits: float) -> Callable[[], str]:
    """An attempt that must end by a breach, or by itself with one of these exit codes."""

    def attempt() -> str:
        bounds = Limits(**{"wall_seconds": 10, "memory_bytes": 2 * GIB, "cpu_seconds": 60, **limits})  # type: ignore[arg-type]
        with box.ran(Spec([sys.executable, "-I", "-S", "-c", code], limits=bounds)) as outcome:
            if outcome.breach == expected and (expected is not None or outcome.exit_code in codes):
                return ""
            wanted = expected or ", ".join(map(str, codes))
            return _("expected to end by {expected}, found {found}: {said}").format(
                expected=wanted, found=outcome.breach or outcome.exit_code, said=outcome.stderr.strip()[-200:]
            )

    return attempt


# 3 is what a program says that was stopped by the kernel with the right error; 4 that it was not.
_EATS = "import os\nb = bytearray({bytes})\nfor i in range(0, len(b), 4096): b[i] = 1\n"
_FORKS = """
import os, time
n = 0
try:
    while n < 1000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        n += 1
except BlockingIOError:
    os._exit(3 if n < 40 else 4)
os._exit(4)
"""
_SIXTY = "import os\nfor _ in range(60):\n    if os.fork() == 0: break\n" + _EATS + "import time; time.sleep(60)\n"
_FILLS = """
import errno, os
fd = os.open("{path}", os.O_CREAT | os.O_WRONLY)
try:
    for _ in range(64): os.write(fd, bytes(1 << 20))
except OSError as e:
    os._exit(3 if e.errno == errno.{error} else 4)
os._exit(4)
"""
_MAKES = "import os, time\nfor i in range(100000): os.mknod(f'/sandbox/work/{i}')\ntime.sleep(60)\n"
_OPENS = "import os\ntry:\n    for _ in range(64): os.open('/dev/null', 0)\nexcept OSError: os._exit(3)\n"
_STUBBORN = """
import os, signal, time
for s in range(1, 32):
    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)
if os.fork(): time.sleep(600)
os.setsid()
time.sleep(600)
"""
_MAPS = "try: bytearray(4 << 30)\nexcept MemoryError: import os; os._exit(3)\n"

_ATTEMPTS: dict[str, Callable[[], str]] = {
    "wall clock": _program(_STUBBORN, Breach.WALL, wall_seconds=0.3),
    "CPU time": _program("while True: pass", None, (137,), cpu_seconds=1),
    "process count": _program(_FORKS, None, (3,), processes=40),
    "memory": _program(_EATS.format(bytes=1 << 30), Breach.MEMORY, memory_bytes=64 * MIB),
    "memory of many": _program(_SIXTY.format(bytes=4 << 20), Breach.MEMORY, memory_bytes=128 * MIB, processes=100),
    "address space": _program(_MAPS, None, (3,), address_space_bytes=1 * GIB),
    "disk": _program(_FILLS.format(path="/sandbox/work/x", error="ENOSPC"), None, (3,), disk_bytes=4 * MIB),
    "shared memory": _program(_FILLS.format(path="/dev/shm/x", error="ENOSPC"), None, (3,), disk_bytes=4 * MIB),
    "file size": _program(_FILLS.format(path="/tmp/x", error="EFBIG"), None, (3,), file_bytes=4 * MIB),
    "inodes": _program(_MAKES, Breach.INODES, inodes=500),
    "open files": _program(_OPENS, None, (3,), open_files=64),
    "output": _program("while True: print('x' * 4096)", Breach.OUTPUT, output_bytes=1 * MIB),
}


# 30 processes with 25,000 mappings each hold 150 MB that no page of theirs shows.
_MAPPINGS = """
import ctypes, os, time
map_one = ctypes.CDLL(None).mmap
map_one.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
for _ in range(30):
    if os.fork() == 0: break
for i in range(25000): map_one(None, 4096, 1 + 2 * (i % 2), 0x22, -1, 0)
time.sleep(60)
"""
_MAPPED = _program(_MAPPINGS, Breach.MEMORY, memory_bytes=96 * MIB, processes=100, wall_seconds=60)


def _grouped() -> str:
    """A sandbox is in a group of its own, with its limits."""
    limits = Limits(wall_seconds=10, memory_bytes=123 * MIB, processes=17)
    with control_groups.made(limits) as group:
        if group is None:
            return _("there is no group")
        with started(Spec(["sleep", "5"], limits=limits), group) as (process, info):
            os.read(info, 4096)
            assert process.stdout is not None
            process.stdout.read(len(b"ready\n"))  # killed before it says so, its first process would wait for ever
            for folder in group.entries:
                if not (folder / "cgroup.procs").read_text().split():
                    return _("the sandbox is not in {folder}").format(folder=folder)
            process.kill()
            process.wait()
    return "" if not any(folder.exists() for folder in group.entries) else _("the group outlived its sandbox")


_PARENT = """
import sys
from trtverify.grading.sandbox import box
from trtverify.grading.sandbox.launch import Spec
with box.ran(Spec(["sleep", sys.argv[1]])): pass
"""


def _parent_dies() -> str:
    """A grader that is killed takes its sandbox with it."""
    seconds = str(3600 + secrets.randbelow(10**6))  # its own mark among this machine's processes
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", _PARENT, seconds], cwd=root) as parent:
        try:
            if not _until(lambda: bool(_running(seconds))):
                return _("the sandbox did not start")
        finally:
            parent.send_signal(signal.SIGKILL)
    if _until(lambda: not _running(seconds)):
        return ""
    for orphan in _running(seconds):
        os.kill(orphan, signal.SIGKILL)
    return _("the sandbox outlived its parent")


def _running(seconds: str) -> list[int]:
    wanted = b"sleep\0" + seconds.encode() + b"\0"
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _command(path) == wanted]


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def main() -> int:
    """Print a table of the walls; 0 if all hold."""
    try:
        tried = list(walls())
    except SandboxUnavailableError as problem:
        print(_("error: {problem}").format(problem=problem), file=sys.stderr)
        return 1
    for wall in tried:
        state = _("BROKEN: {how}").format(how=wall.broke) if wall.broke else _("holds")
        print(f"{padded(wall_name(wall.name), 24)} {state}")
    if reason := control_groups.missing():
        print(
            _("no control groups here ({reason}): sandboxes get less memory and fewer processes").format(reason=reason)
        )
    broken = sum(bool(wall.broke) for wall in tried)
    print(_("{count} of {all} walls hold").format(count=len(tried) - broken, all=len(tried)))
    return 1 if broken else 0
