"""TensorRT's real Python bindings, of any version, over libraries that only answer; see `answers.c`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

_IMPORTED = re.compile(r"^ *U ((?:create|get|init)\w*(?:_INTERNAL|Registry|Version|Plugins))$", re.MULTILINE)
_LIBRARY = re.compile(r"NEEDED.*\[(libnv[^]]*)\]")
_SOURCE = Path(__file__).with_name("answers.c")


def missing() -> str | None:
    """What this machine lacks to make them, in one sentence; None if nothing."""
    programs = [name for name in ("gcc", "nm", "readelf") if shutil.which(name) is None]
    return f"needs {', '.join(programs)}: apt-get install gcc" if programs else None


def make(folder: Path, version: str) -> Path:
    """Make a `tensorrt` of this version below a folder, once; what to put on PYTHONPATH.

    Raises:
        LookupError: there is no such wheel for this Python here.
    """
    target = folder / version
    if (target / "tensorrt" / "__init__.py").is_file():
        return target
    shutil.rmtree(target, ignore_errors=True)
    part = folder / f".{version}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(part)]
    done = subprocess.run(
        [*command, f"tensorrt-cu12-bindings=={version}"], capture_output=True, text=True, timeout=120, check=False
    )
    wheels = list(part.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise LookupError(f"no wheel of tensorrt-cu12-bindings {version} to be had: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(part)
    wheels[0].unlink()
    package = (part / "tensorrt_bindings").rename(part / "tensorrt")
    bindings = str(package / "tensorrt.so")
    imported = _IMPORTED.findall(_said("nm", "-D", "--undefined-only", bindings))
    source = part / "answers.c"
    source.write_text(_SOURCE.read_text() + "".join(f"GIVES({name})\n" for name in imported))
    for library in _LIBRARY.findall(_said("readelf", "-d", bindings)):
        _said("gcc", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(package / library), str(source))
    with (package / "__init__.py").open("a") as file:
        # A plan's size would read as 4 GiB.
        file.write('\nIHostMemory.__bytes__ = lambda _self: b"a plan"\n')
    part.rename(target)
    return target


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
