"""The command line that starts a sandbox: bubblewrap's walls, and the gate and limits inside them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trtverify.fixtures.words.messages import _

from . import control_groups, seccomp_filter, stage
from .limits import Limits

WORK = "/sandbox/work"  # not what somebody calls the folder of a checkout, which is shown at its own path
PRIVATE = (WORK, "/tmp", "/dev/shm")  # the only places that can be written to, each its own tmpfs
# What a program needs of /etc to be linked and to know the time zone. No passwd, no resolv.conf, no ssl.
_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nv_tegra_release")
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_GPU_NODES = ("nvidia*", "nvhost*", "nvmap", "nvgpu", "nvsciipc")
# The gate: nothing of the student's runs before the parent holds the process and its tmpfs, and if the
# parent is dead the read ends at once.
GATE = 'echo ready; read -r go || exit 125; exec "$@" </dev/null'


class SandboxUnavailableError(RuntimeError):
    """The sandbox cannot be built here. Grading stops: it never runs a submission without it."""


class SandboxKilledError(SandboxUnavailableError):
    """The sandbox was killed from outside, which says nothing about what ran in it: try again."""


class SandboxStuckError(RuntimeError):
    """What ran in the sandbox was killed and would not go: its own doing, and nobody else's."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """One run.

    Attributes:
        command: run inside, with `/sandbox/work` as its current folder, which is empty, writable and bounded.
        read_only: host folder → where it appears inside.
        environment: all the variables that it sees beside PATH, HOME, USER, TMPDIR and LANG.
        limits: see `Limits`.
        pass_fds: descriptors that stay open inside; for trusted programs alone.
        gpu: shows the NVIDIA device nodes.
    """

    command: Sequence[str]
    read_only: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    limits: Limits = dataclasses.field(default_factory=Limits)
    pass_fds: Sequence[int] = ()
    gpu: bool = False


@functools.cache
def bwrap_version() -> tuple[int, ...]:
    """The installed bubblewrap's version.

    Raises:
        SandboxUnavailableError: it is missing, or older than 0.5, which cannot clear the environment.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailableError(_("bubblewrap is missing: `apt-get install bubblewrap`"))
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise SandboxUnavailableError(
            _("`{program} --version` should print a version, found {said!r}").format(program=program, said=said)
        )
    version = tuple(map(int, found.groups()))
    if version < (0, 5, 0):
        raise SandboxUnavailableError(_("bubblewrap 0.5 or later is needed, found {said}").format(said=said.strip()))
    return version


def python_roots() -> dict[Path, str]:
    """This interpreter's own folders, at their own paths, so that the sandbox has the same packages."""
    named = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    # A checkout's .venv may be a link: the program is called by that name, and its packages lie at the other.
    roots = named | {root.resolve() for root in named}
    return {root: str(root) for root in sorted(roots) if not root.resolve().is_relative_to("/usr")}


@contextlib.contextmanager
def started(spec: Spec, group: control_groups.Group | None = None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a sandbox that waits at its gate; on leaving, kill it.

    Args:
        spec: what is to be run.
        group: the control group that it runs in, if there is one.

    Yields:
        The process (a line on stdin opens the gate; stdout begins with `ready`) and the descriptor on which
        bubblewrap says, as JSON, which pid its first process has on this side.

    Raises:
        SandboxUnavailableError: a program or a right that the sandbox stands on is missing.
        ValueError: something to be bound is no folder.
    """
    version = bwrap_version()
    bound = {**python_roots(), **spec.read_only}
    for folder in bound:
        if not folder.is_dir():
            raise ValueError(_("only folders can be shown to a sandbox, found {path}").format(path=folder))
    try:
        rules = seccomp_filter.program(sessions=group is not None)
    except RuntimeError as problem:
        raise SandboxUnavailableError(str(problem)) from problem
    with contextlib.ExitStack() as stack:
        staged: dict[Path, Path] = {}
        # What runs inside volunteers for the kernel's OOM killer, before the grader or anybody else.
        before = ["sh", "-c", stage.script(group.entries if group else (), staged=False), "sh"]
        if os.geteuid() == 0:
            for folder in bound:
                if not stage.readable(folder):
                    raise ValueError(
                        _("{folder} is closed to other users: `chmod -R o+rX` it, or grade as its owner").format(
                            folder=folder
                        )
                    )
            staged = stage.places(bound)
            table = stack.enter_context(_memory_file(stage.table(staged))) if staged else None
            before = stage.command(group.entries if group else (), table)
        seccomp = stack.enter_context(_memory_file(rules))
        info, info_inside = os.pipe()
        stack.callback(os.close, info)
        options = [
            *_walls(version),
            *_view({staged.get(source, source): inside for source, inside in bound.items()}, spec, version),
            *("--seccomp", str(seccomp), "--info-fd", str(info_inside)),
        ]
        # On a descriptor, so that /proc/1/cmdline inside tells no host path.
        words = stack.enter_context(_memory_file(b"".join(os.fsencode(word) + b"\0" for word in options)))
        inside = ["sh", "-c", GATE, "sh", *spec.limits.prlimit(), *spec.command]
        try:
            process = subprocess.Popen(
                [*before, "bwrap", "--args", str(words), *inside],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[*spec.pass_fds, seccomp, info_inside, words],
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                start_new_session=True,
            )
        except FileNotFoundError as problem:
            raise SandboxUnavailableError(
                _("the sandbox needs {program}, which is missing").format(program=problem.filename)
            ) from problem
        finally:
            os.close(info_inside)
        with process:
            try:
                yield process, info
            finally:
                process.kill()


def _walls(version: tuple[int, ...]) -> list[str]:
    options = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    options += ["--die-with-parent", "--new-session", "--clearenv"]
    if version >= (0, 8, 0):  # before it, the seccomp filter alone refuses nested user namespaces
        options.append("--disable-userns")
    return options


def _view(bound: Mapping[Path, str], spec: Spec, version: tuple[int, ...]) -> list[str]:
    options = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    options += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for place in PRIVATE:
        if version >= (0, 8, 0):  # before it, the watchdog alone bounds a tmpfs
            options += ["--size", str(spec.limits.disk_bytes)]
        options += ["--tmpfs", place]
    for source, inside in bound.items():
        options += ["--ro-bind", str(source), inside]
    if spec.gpu:
        for node in sorted(node for pattern in _GPU_NODES for node in Path("/dev").glob(pattern)):
            options += ["--dev-bind", str(node), str(node)]
        options += ["--ro-bind", "/sys", "/sys"]
    variables = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": WORK,
        "USER": "student",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        **spec.environment,
    }
    for variable, value in variables.items():
        options += ["--setenv", variable, value]
    # bubblewrap's own root and /dev are tmpfs too, and nothing bounds their size. In /proc a process could change
    # its autogroup, and so how long it takes to end.
    return [*options, "--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/", "--chdir", WORK]


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("grading", 0)
    try:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
