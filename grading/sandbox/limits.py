"""How much of the machine one sandbox may use, and what a run that used more is called."""

from __future__ import annotations

import dataclasses
import enum
import signal

from trtverify.fixtures.words.messages import _

MIB = 1 << 20
GIB = 1 << 30


class Breach(str, enum.Enum):
    """The limit for which the watchdog ended a run."""

    WALL = "wall clock"
    MEMORY = "memory"
    DISK = "disk"
    INODES = "inodes"
    OUTPUT = "output"
    ENDING = "time to end"

    def __str__(self) -> str:
        return self.value


def breach_word(breach: Breach) -> str:
    """What a limit is called, in the reader's language."""
    return {
        Breach.WALL: _("wall clock"),
        Breach.MEMORY: _("memory"),
        Breach.DISK: _("disk"),
        Breach.INODES: _("inodes"),
        Breach.OUTPUT: _("output"),
        Breach.ENDING: _("the time to end once it is killed"),
    }[breach]


def exit_word(code: int) -> str:
    """An exit code with the signal that it stands for, if it is one, as a shell (128 + N) or Python (-N) counts it."""
    number = -code if code < 0 else code - 128
    try:
        return f"{code} ({signal.Signals(number).name})"
    except ValueError:
        return str(code)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one run.

    Attributes:
        wall_seconds: after this the watchdog kills the sandbox.
        cpu_seconds: RLIMIT_CPU of each process.
        memory_bytes: resident memory of all processes and of the private tmpfs together.
        address_space_bytes: RLIMIT_AS of each process; torch maps several GiB that it never touches.
        processes: processes and threads of this sandbox alone (the limit is set inside its user namespace).
        file_bytes: largest single file.
        open_files: descriptors of each process.
        disk_bytes: each private tmpfs (`/sandbox/work`, `/tmp`, `/dev/shm`).
        inodes: files and folders in them together.
        output_bytes: what may be written to stdout and stderr together.
        kept_output_bytes: how much of each is kept, half from its start and half from its end.
    """

    wall_seconds: float = 900.0
    cpu_seconds: int = 3600
    memory_bytes: int = 6 * GIB
    address_space_bytes: int = 64 * GIB
    processes: int = 256
    file_bytes: int = 2 * GIB
    open_files: int = 512
    disk_bytes: int = 3 * GIB
    inodes: int = 20_000
    output_bytes: int = 16 * MIB
    kept_output_bytes: int = 64 << 10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(_("limit {name} must be positive, found {value}").format(name=field.name, value=value))

    def prlimit(self) -> list[str]:
        """The util-linux command that sets the kernel's own limits, hard and soft alike."""
        return [
            "/usr/bin/prlimit",
            f"--cpu={self.cpu_seconds}:{self.cpu_seconds}",
            f"--as={self.address_space_bytes}:{self.address_space_bytes}",
            f"--nproc={self.processes}:{self.processes}",
            f"--fsize={self.file_bytes}:{self.file_bytes}",
            f"--nofile={self.open_files}:{self.open_files}",
            "--core=0:0",
            "--memlock=65536:65536",
            "--msgqueue=0:0",
            "--",
        ]
