"""What the five labs share: options, progress, the manifest beside an artifact, what to run next."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

SCHEMA = 1
DYNAMIC = "dynamic"
_PACKAGES = ("torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "onnxscript", "numpy", "pillow", "tensorrt")
T = TypeVar("T")


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the options that every lab has."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument(
        "--out", type=Path, default=Path("submission"), metavar="DIR", help="where artifacts are written"
    )
    result.add_argument(
        "--weights",
        choices=("auto", "pretrained", "untrained"),
        default="auto",
        help="auto: pretrained where the cache or the network has them, else seeded and marked untrained",
    )
    result.add_argument("--data", type=Path, metavar="DIR", help="a folder of real images")
    result.add_argument("--seed", type=int, default=0, metavar="N", help="seeds weights, crops and shuffles")
    return result


def batch_size(text: str) -> int | str:
    """What `--batch` takes: a positive number, or "dynamic"."""
    if text == DYNAMIC:
        return DYNAMIC
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a positive number or "{DYNAMIC}", found {text!r}')
    return int(text)


def add_batch(to: argparse.ArgumentParser) -> None:
    """Give a lab the option `--batch`."""
    to.add_argument(
        "--batch", type=batch_size, default=1, metavar="N", help=f"images in a batch of the graph, or '{DYNAMIC}'"
    )


def shapes_option(name: str, shape: Sequence[int], batch: int | str) -> str:
    """trtexec's ` --shapes=` for a dynamic batch, of one image; nothing for a fixed one, which must not have it."""
    return f" --shapes={name}:1x{'x'.join(map(str, shape))}" if batch == DYNAMIC else ""


def run(main: Callable[[], None]) -> None:
    """Run a lab; what stops it is told in one message, never as a traceback.

    A file is written whole or not at all, so an interrupted lab leaves the artifacts of the last complete run.
    """
    try:
        main()
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        remedy = "check that --out is a folder you may write to, and that its disk has room"
        raise stop(f"{error.strerror or error}{place}", remedy) from None
    except MemoryError as error:
        raise stop(f"out of memory: {error}", "close other programs, or give a smaller --batch") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted: no artifact was left half-written") from None


def need(*modules: str) -> None:
    """Import packages, or end with the one that is missing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            absent = (error.name or name).split(".")[0]
            package = {"PIL": "pillow"}.get(absent, absent)
            jetson = " (on a Jetson: NVIDIA's own wheel)" if package in ("torch", "torchvision") else ""
            raise stop(f"this lab needs {name}: {error}", f"pip install {package}{jetson}") from error


def claim(folder: Path) -> None:
    """Make the output folder and try to write there: better refused now than after minutes of work."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that shape an artifact, without importing them."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a killed run leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_manifest(
    artifact: Path,
    *,
    lab: str,
    model: str,
    weights: str,
    seed: int,
    data: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write `<stem>.manifest.json` beside a file, or `manifest.json` inside a directory.

    Args:
        artifact: the finished file or directory.
        weights: "pretrained", "untrained" (no accuracy may be claimed) or "trained".
        data: where images came from; at least `source` and `images` (a count).
        preprocessing: what turns an image into the model's input, see `images.Preprocessing.describe`.
        more: lab-specific facts, JSON-serialisable.
    """
    if artifact.is_dir():
        path, digest = artifact / "manifest.json", None
    else:
        path, digest = artifact.with_suffix(".manifest.json"), sha256(artifact)
    manifest = {
        "schema": SCHEMA,
        "lab": lab,
        "model": model,
        "artifact": artifact.name,
        "sha256": digest,
        "weights": weights,
        "seed": seed,
        "data": dict(data),
        "preprocessing": dict(preprocessing) if preprocessing is not None else None,
        "versions": versions(),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **more,
    }
    write_atomically(path, json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar and the time left; silent when standard error is no terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False)
    return bar


def finish(lab: str, artifacts: Sequence[Path], next_commands: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Say what was written, what to run next, and what verifies it in the suite's checkout."""
    for path in artifacts:
        print(f"wrote {path}")
    for note in notes:
        print(f"note: {note}")
    if next_commands:
        print("next:")
        for command in next_commands:
            print(f"  {command}")
    print(f"verify: pytest --submission={artifacts[0].parent} -m {lab}")


def stop(problem: str, remedy: str) -> SystemExit:
    """The one way a lab ends in failure: `raise stop(what is wrong, what to do)`, exit status 1."""
    return SystemExit(f"error: {problem}\n  try: {remedy}")
