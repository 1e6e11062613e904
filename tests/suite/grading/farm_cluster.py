"""A Dask cluster of processes on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.suite.grading.toy_class import REPOSITORY

_STARTED = re.compile(r"(?:Scheduler|Start worker) at: *((?:tcp|tls)://\S+)")


class Cluster:
    """A scheduler and workers, each a program of its own, that write what they say into a folder.

    Args:
        folder: for logs and the workers' own files.
        environment: variables of all of them.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._programs: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def scheduler(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the scheduler, and learn its address."""
        program, self.address = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", *options
        )
        return program

    def worker(self, *options: str, proved: bool = False, path: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker of one slot, without its nanny; unless `proved` is asked for, it believes its walls."""
        preload = [] if proved else ["--preload", "tests.suite.grading.unproved"]
        program, _address = self._start(
            *("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", *preload, *options),
            *("--local-directory", str(self._folder)),
            path=path,
        )
        return program

    def _start(self, kind: str, *options: str, path: str | None = None) -> tuple[subprocess.Popen[bytes], str]:
        log = self._folder / f"{kind}{len(self._programs)}.log"
        environment = self._environment if path is None else {**self._environment, "PATH": path}
        with log.open("wb") as file:
            line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
            program = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stdout=file, stderr=file)
        self._programs.append(program)
        deadline = time.monotonic() + 60
        while (found := _STARTED.search(log.read_text())) is None:
            assert program.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return program, found[1]

    def kept(self) -> list[Path]:
        """What the workers hold of what they fetched."""
        return list(self._folder.glob("dask-scratch-space/*/grading/*"))

    def close(self) -> None:
        """End all of it."""
        for program in reversed(self._programs):
            with contextlib.suppress(ProcessLookupError):
                program.send_signal(signal.SIGCONT)
                program.kill()
            program.wait()


def certificate(folder: Path) -> Path:
    """A certificate and its key in one file, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    path, public = folder / "farm.pem", folder / "farm.crt"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=farm"]
    subprocess.run([*line, "-keyout", str(path), "-out", str(public)], check=True, capture_output=True)
    path.write_text(path.read_text() + public.read_text())
    return path
